"""A proxy on loopback in front of a store, which makes the network fail where a test wants it to.

One request per connection is passed on as it came, so that signatures hold: only ``Expect`` is answered here.
"""

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

HOST = "127.0.0.1"
_TIMEOUT_SECONDS = 30


class _GoneError(Exception):
    """The connection is cut without an answer."""


@dataclass(frozen=True)
class Message:
    """A request or an answer: the lines of its head, and its body."""

    start: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """Return the value of a header, or nothing."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        lines = [self.start, *(f"{key}: {value}" for key, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


@dataclass
class Fault:
    """
    What happens to the nth request that matches, and to that request alone.

    :param match: a pattern for ``METHOD /path?query``
    :param kind: ``cut`` (the store gets only the first half of it), ``refuse`` (it never gets there),
        ``lose`` (it takes effect, and the answer is lost), ``status`` (it is answered with ``answer``),
        ``pass`` (nothing)
    :param answer: status, headers and body, for ``status``
    :param gone: whether the network stays away afterwards, until :meth:`FaultProxy.heal`
    :param before: called first, while the request waits
    """

    match: str
    kind: str
    nth: int = 1
    answer: tuple[int, dict[str, str], bytes] = (500, {}, b"")
    gone: bool = False
    before: Callable[[], Any] = field(default=lambda: None)
    seen: int = 0
    hit: bool = False

    def applies(self, what: str) -> bool:
        """Count a request; return whether it is the one."""
        if not re.search(self.match, what):
            return False
        self.seen += 1
        self.hit = self.hit or self.seen == self.nth
        return self.seen == self.nth


class FaultProxy:
    """
    Serves on ``url`` until it is closed; everything passes unless :meth:`plan` says otherwise.

    :param one_at_a_time: for a store that mixes up requests that come at once
    """

    def __init__(self, upstream: str, *, one_at_a_time: bool = False) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname, parts.port)
        self._listener = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}"
        self.requests: list[str] = []
        self._faults: list[Fault] = []
        self._gone = False
        self._lock = threading.Lock()
        self._turn: Any = threading.Lock() if one_at_a_time else contextlib.nullcontext()
        threading.Thread(target=self._accept, name="fault-proxy", daemon=True).start()

    def plan(self, *faults: Fault) -> None:
        """Set what fails from now on."""
        with self._lock:
            self._faults = list(faults)

    def heal(self) -> None:
        """Let everything pass again."""
        with self._lock:
            self._faults, self._gone = [], False

    def close(self) -> None:
        """Stop serving."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> "FaultProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_TIMEOUT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            try:
                request = _read_request(connection)
                answer = self._answer(request)
                connection.sendall(answer.encode())
            except (_GoneError, OSError, HTTPException):
                return

    def _answer(self, request: Message) -> Message:
        fault = self._choose(request)
        fault.before()
        with self._lock:
            gone = self._gone
            self._gone = gone or fault.gone
        if gone or fault.kind == "refuse":
            raise _GoneError
        if fault.kind == "cut":
            self._send_half(request)
            raise _GoneError
        if fault.kind == "status":
            status, headers, body = fault.answer
            return _answer_of(status, list(headers.items()), body, request)
        with self._turn:
            answer = self._forward(request)
        if fault.kind == "lose":
            raise _GoneError
        return answer

    def _choose(self, request: Message) -> Fault:
        what = " ".join(request.start.split(" ")[:2])
        with self._lock:
            self.requests.append(what)
            hits = [fault for fault in self._faults if fault.applies(what)]
        return hits[0] if hits else Fault("", "pass")

    def _send_half(self, request: Message) -> None:
        with socket.create_connection(self._upstream, _TIMEOUT_SECONDS) as store:
            store.sendall(request.encode()[: -(len(request.body) // 2) or None])

    def _forward(self, request: Message) -> Message:
        method, target, _ = request.start.split(" ")
        store = HTTPConnection(*self._upstream, timeout=_TIMEOUT_SECONDS)
        try:
            store.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for key, value in request.headers:
                store.putheader(key, value)
            store.endheaders(request.body)
            answer = store.getresponse()
            return _answer_of(answer.status, answer.getheaders(), answer.read(), request)
        finally:
            store.close()


def _answer_of(status: int, headers: list[tuple[str, str]], body: bytes, request: Message) -> Message:
    # The body is whole here, however it came; the answer to HEAD keeps the length that it states.
    dropped = {"transfer-encoding", "connection", "keep-alive"}
    if not request.start.startswith("HEAD "):
        dropped.add("content-length")
        headers = [*headers, ("X-Length", str(len(body)))]
    kept = [(key, value) for key, value in headers if key.lower() not in dropped]
    kept = [("Content-Length" if key == "X-Length" else key, value) for key, value in kept]
    return Message(f"HTTP/1.1 {status} Proxied", [*kept, ("Connection", "close")], body)


def _read_request(connection: socket.socket) -> Message:
    head, _, body = _read_until(connection, b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    headers = [(key, value.strip()) for key, _, value in (line.partition(":") for line in lines)]
    request = Message(start, [each for each in headers if each[0].lower() != "expect"], b"")
    if len(request.headers) < len(headers):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    chunks, length = [body], int(request.header("content-length") or 0) - len(body)
    while length > 0:
        chunks.append(_receive(connection))
        length -= len(chunks[-1])
    return Message(start, request.headers, b"".join(chunks))


def _read_until(connection: socket.socket, end: bytes) -> tuple[bytes, bytes, bytes]:
    data = b""
    while end not in data:
        data += _receive(connection)
    return data.partition(end)


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 18)
    if not data:
        raise _GoneError
    return data
