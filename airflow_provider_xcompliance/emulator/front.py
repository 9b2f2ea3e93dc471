"""What every request passes: the log, the clock's Date, and the faults."""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from email.utils import formatdate
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_xcompliance.emulator.faults import ACTIONS, Endpoint, Exchange
from airflow_provider_xcompliance.emulator.state import State
from airflow_provider_xcompliance.emulator.x import is_authorized

CONTROL = "/_emulator/"

ENDPOINTS: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", r"/2/compliance/jobs", "create"),
    ("GET", r"/2/compliance/jobs", "list"),
    ("GET", r"/2/compliance/jobs/[^/]*", "get"),
    ("DELETE", r"/2/compliance/jobs/[^/]*", "cancel"),
    ("PUT", r"/2/compliance/jobs/[^/]*/upload", "upload"),
    ("GET", r"/2/compliance/jobs/[^/]*/download", "download"),
    ("POST", r"/oauth2/token", "oauth"),
    ("PUT", r"/twttr-.*", "upload"),
    ("GET", r"/twttr-.*", "download"),
    ("POST", r"/twttr-.*", "resumable_start"),
)

LOGGED_HEADERS = (
    "accept-encoding",
    "content-length",
    "content-range",
    "content-type",
    "expect",
    "if-match",
    "range",
    "transfer-encoding",
    "user-agent",
    "x-goog-resumable",
)


def endpoint_of(method: str, path: str, parameters: Collection[str]) -> Endpoint:
    """Return the name under which faults and the log know an endpoint; ``other`` if it is none.

    :param parameters: names of the query; an ``upload_id`` tells a session from an object.
    """
    if method == "PUT" and path.startswith("/twttr-") and "upload_id" in parameters:
        return "resumable_put"
    for wanted, pattern, name in ENDPOINTS:
        if method == wanted and re.fullmatch(pattern, path):
            return name
    return "other"


class Front:
    """An ASGI application around the application."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry: dict[str, Any] = {}

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
                date = formatdate(self._state.clock.now(), usegmt=True).encode()
                message = {**message, "headers": [*message["headers"], (b"date", date)]}
            await send(message)

        exchange = Exchange(self._app, scope, _to_the_last_byte(scope, receive), dated, self._state.faults)
        if scope["path"].startswith(CONTROL):
            await exchange.run()
            return
        entry.update(self._entry(Request(scope)))
        self._state.log.append(entry)
        fault = self._state.faults.pick(entry["endpoint"], scope["path"])
        with suppress(ClientDisconnect):
            if fault is None:
                await exchange.run()
            else:
                entry["fault"] = fault.action
                await ACTIONS[fault.action](fault, exchange)

    def _entry(self, request: Request) -> dict[str, Any]:
        path, query = request.url.path, [name for name, _ in request.query_params.multi_items()]
        return {
            "method": request.method,
            "path": path,
            "endpoint": endpoint_of(request.method, path, query),
            "query": query,
            "headers": {name: request.headers[name] for name in LOGGED_HEADERS if name in request.headers},
            "has_authorization": "authorization" in request.headers,
            "bearer_is_right": is_authorized(self._state, request),
            "status": None,
            "fault": None,
        }


def _to_the_last_byte(scope: Scope, receive: Receive) -> Receive:
    """Hand on what had come before a client left; uvicorn alone would drop it."""

    async def whole() -> Message:
        message = await receive()
        cycle = scope["state"]["protocol"].cycle
        if message["type"] == "http.disconnect" and cycle.body and not cycle.response_complete:
            body, cycle.body = bytes(cycle.body), bytearray()
            return {"type": "http.request", "body": body, "more_body": True}
        return message

    return whole
