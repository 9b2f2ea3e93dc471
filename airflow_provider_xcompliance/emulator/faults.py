"""Faults on demand: what goes wrong with the nth request that matches."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from starlette.responses import Response

from airflow_provider_xcompliance.emulator.errors import problem
from airflow_provider_xcompliance.emulator.limits import RATE_WINDOW, rate_headers
from airflow_provider_xcompliance.emulator.settings import Clock, Count

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn.protocols.http.h11_impl import H11Protocol


Endpoint = Literal[
    "create",
    "list",
    "get",
    "cancel",
    "upload",
    "download",
    "oauth",
    "resumable_start",
    "resumable_put",
    "other",
]


class Fault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One fault.

    :param action: a key of :data:`ACTIONS`.
    :param endpoint: name of the endpoint that it is for; None: any.
    :param path: regular expression for the path that it is for (searched).
    :param nth: the first of the matching requests that it strikes, counted from 1.
    :param times: how many of them in a row; 0: all that follow.
    :param after_effect: whether the request does its work first and only the answer is lost.
    :param at: byte of the body at which it happens; None: before anything.
    :param status: status of the answer, for ``status`` and ``redirect``.
    :param body: body of that answer; anything but text is sent as JSON.
    :param content_type: its content type.
    :param headers: its further headers.
    :param location: where a ``redirect`` points.
    :param seconds: length of a ``stall`` (None: until released); distance of the reset of a ``rate_limit``.
    :param offset: by how many bytes ``wrong_length`` overstates the length.
    :param pid: process that ``kill`` ends, and ``cut_upload`` too if one is given.
    """

    action: str
    endpoint: Endpoint | None = None
    path: str = ""
    nth: Annotated[int, msgspec.Meta(ge=1)] = 1
    times: Count = 1
    after_effect: bool = False
    at: Count | None = None
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    body: Any = ""
    content_type: str | None = None
    headers: dict[str, str] = {}
    location: str = "/"
    seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None
    offset: int = 0
    pid: int | None = None
    seen: int = 0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"unknown action {self.action!r}; known are {', '.join(ACTIONS)}")
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(f"path is no regular expression: {error}") from None
        if (self.action == "kill" or self.pid is not None) and (self.pid or 0) <= 1:
            raise ValueError("kill needs the pid of a process")

    def strikes(self, endpoint: str, path: str) -> bool:
        """Count a request if it matches, and say whether it is one to strike."""
        if self.endpoint not in (None, endpoint) or not re.search(self.path, path):
            return False
        self.seen += 1
        return self.seen >= self.nth and (not self.times or self.seen < self.nth + self.times)


class FaultBoard:
    """The faults that are set."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.faults: list[Fault] = []
        self.released = asyncio.Event()

    def add(self, **settings: Any) -> None:
        """Set a fault; see :class:`Fault`.

        :raises msgspec.ValidationError: if it makes no sense.
        """
        self.faults.append(msgspec.convert(settings, Fault))

    def pick(self, endpoint: str, path: str) -> Fault | None:
        """Return the fault that strikes this request, the one set first if there are several."""
        struck = [fault for fault in self.faults if fault.strikes(endpoint, path)]
        return struck[0] if struck else None

    def release(self) -> None:
        """Let all that is stalled go on."""
        self.released.set()
        self.released = asyncio.Event()

    def clear(self) -> None:
        """Take all faults back."""
        self.release()
        self.faults.clear()


@dataclass
class Exchange:
    """One request with its connection, as a fault sees it."""

    app: ASGIApp
    scope: Scope
    receive: Receive
    send: Send
    board: FaultBoard

    @property
    def protocol(self) -> H11Protocol:
        """The connection."""
        return self.scope["state"]["protocol"]  # type: ignore[no-any-return]

    async def run(self, send: Send | None = None, receive: Receive | None = None) -> None:
        """Let the request do its work, with the answer or the body going through a filter."""
        await self.app(self.scope, receive or self.receive, send or self.send)

    async def effect(self, fault: Fault) -> None:
        """Let the request do its work unseen, if the fault is to come after it."""
        if fault.after_effect:
            await self.run(send=_nowhere)

    def close(self) -> None:
        """Close the connection, once all that was sent is out."""
        # Else uvicorn would report that the response was not completed.
        self.protocol.cycle.disconnected = True
        self.protocol.transport.close()

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        self.protocol.cycle.disconnected = True
        sock = self.protocol.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.protocol.transport.abort()


async def _nowhere(message: Message) -> None:
    pass


async def _status(fault: Fault, exchange: Exchange) -> None:
    await exchange.effect(fault)
    body = fault.body if isinstance(fault.body, str) else json.dumps(fault.body)
    content_type = fault.content_type or ("text/plain" if isinstance(fault.body, str) else "application/json")
    response = Response(body, fault.status or 500, fault.headers, content_type)
    await response(exchange.scope, exchange.receive, exchange.send)


async def _redirect(fault: Fault, exchange: Exchange) -> None:
    await exchange.effect(fault)
    response = Response("", fault.status or 302, {**fault.headers, "location": fault.location})
    await response(exchange.scope, exchange.receive, exchange.send)


async def _rate_limit(fault: Fault, exchange: Exchange) -> None:
    reset = int(exchange.board.clock.now() + (RATE_WINDOW if fault.seconds is None else fault.seconds))
    response = problem(429, "Too Many Requests", rate_headers(150, 0, reset)).response()
    await response(exchange.scope, exchange.receive, exchange.send)


async def _reset(fault: Fault, exchange: Exchange) -> None:
    await exchange.effect(fault)
    exchange.reset()


async def _cut_upload(fault: Fault, exchange: Exchange) -> None:
    left = fault.at or 0

    async def receive() -> Message:
        nonlocal left
        message = await exchange.receive() if left else {"type": "http.disconnect"}
        if message["type"] == "http.request":
            body = message["body"][:left]
            left -= len(body)
            return {"type": "http.request", "body": body, "more_body": True}
        return message

    await exchange.run(send=_nowhere, receive=receive)
    if fault.pid:
        os.kill(fault.pid, signal.SIGKILL)
    exchange.reset()


async def _kill(fault: Fault, exchange: Exchange) -> None:
    async def kill(rest: bytes) -> None:
        os.kill(fault.pid or 0, signal.SIGKILL)
        exchange.reset()

    if fault.at is None:
        await exchange.effect(fault)
        await kill(b"")
    else:
        await exchange.run(send=_filter(fault, exchange, kill))


def _filter(fault: Fault, exchange: Exchange, then: Callable[[bytes], Awaitable[None]]) -> Send:
    """Return a ``send`` that hands the rest of the body to ``then`` at the fault's byte, and ends there."""
    left = fault.at or 0
    over = False

    async def send(message: Message) -> None:
        nonlocal left, over
        body: bytes = message.get("body", b"")
        if over:
            return
        if message["type"] == "http.response.body" and len(body) > left:
            over = True
            if left:
                await exchange.send({**message, "body": body[:left], "more_body": True})
            await then(body[left:])
            return
        left -= len(body)
        await exchange.send(message)

    return send


async def _cut(fault: Fault, exchange: Exchange) -> None:
    async def close(rest: bytes) -> None:
        exchange.close()

    await exchange.run(send=_filter(fault, exchange, close))


async def _truncate(fault: Fault, exchange: Exchange) -> None:
    async def end(rest: bytes) -> None:
        await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})

    shorten = _filter(fault, exchange, end)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = _with_length(message, lambda length: min(length, fault.at or 0))
        await shorten(message)

    await exchange.run(send=send)


async def _corrupt(fault: Fault, exchange: Exchange) -> None:
    left = fault.at or 0

    async def send(message: Message) -> None:
        nonlocal left
        if message["type"] == "http.response.body":
            body = bytearray(message.get("body", b""))
            if 0 <= left < len(body):
                body[left] ^= 1
            left -= len(body)
            message = {**message, "body": bytes(body)}
        await exchange.send(message)

    await exchange.run(send=send)


async def _stall(fault: Fault, exchange: Exchange) -> None:
    left: int | None = fault.at or 0

    async def send(message: Message) -> None:
        nonlocal left
        body: bytes = message.get("body", b"")
        if left is not None and (fault.at is None or (body and len(body) > left)):
            if left:
                await exchange.send({**message, "body": body[:left], "more_body": True})
                message = {**message, "body": body[left:]}
            left = None
            await _wait(fault, exchange)
        elif left is not None:
            left -= len(body)
        await exchange.send(message)

    await exchange.run(send=send)


async def _wait(fault: Fault, exchange: Exchange) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + (float("inf") if fault.seconds is None else fault.seconds)
    released = asyncio.ensure_future(exchange.board.released.wait())
    # Looked at now and then, because a client that gives up is not announced to a sender.
    while not exchange.protocol.transport.is_closing() and not released.done() and loop.time() < end:
        await asyncio.wait([released], timeout=min(0.05, end - loop.time()))
    released.cancel()


async def _wrong_length(fault: Fault, exchange: Exchange) -> None:
    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            await exchange.send(_with_length(message, lambda length: max(length + fault.offset, 0)))
            return
        # Past the header the framing is wrong on purpose, so the bytes go round the protocol.
        exchange.protocol.transport.write(message.get("body", b""))
        await exchange.protocol.flow.drain()
        if not message.get("more_body"):
            exchange.close()

    await exchange.run(send=send)


def _with_length(message: Message, change: Callable[[int], int]) -> Message:
    headers = [
        (name, str(change(int(value))).encode() if name.lower() == b"content-length" else value)
        for name, value in message["headers"]
    ]
    return {**message, "headers": headers}


ACTIONS: dict[str, Callable[[Fault, Exchange], Awaitable[None]]] = {
    "status": _status,
    "redirect": _redirect,
    "rate_limit": _rate_limit,
    "reset": _reset,
    "kill": _kill,
    "cut_upload": _cut_upload,
    "cut": _cut,
    "truncate": _truncate,
    "corrupt": _corrupt,
    "stall": _stall,
    "wrong_length": _wrong_length,
}
