"""What every request passes: the log, the clock's Date, and the faults."""

from __future__ import annotations

import re
from contextlib import suppress
from email.utils import formatdate
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_xcompliance.emulator.faults import ACTIONS, Exchange
from airflow_provider_xcompliance.emulator.state import State
from airflow_provider_xcompliance.emulator.x import is_authorized

CONTROL = "/_emulator/"

ENDPOINTS = tuple(
    (method, re.compile(pattern), name)
    for method, pattern, name in (
        ("POST", r"/2/compliance/jobs$", "create"),
        ("GET", r"/2/compliance/jobs$", "list"),
        ("GET", r"/2/compliance/jobs/[^/]*$", "get"),
        ("DELETE", r"/2/compliance/jobs/[^/]*$", "cancel"),
        ("PUT", r"/2/compliance/jobs/[^/]*/upload$", "upload"),
        ("GET", r"/2/compliance/jobs/[^/]*/download$", "download"),
        ("POST", r"/oauth2/token$", "oauth"),
        ("PUT", r"/twttr-.*[?&]upload_id=", "resumable_put"),
        ("PUT", r"/twttr-", "upload"),
        ("GET", r"/twttr-", "download"),
        ("POST", r"/twttr-", "resumable_start"),
    )
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


def endpoint_of(method: str, target: str) -> str:
    """Return the name under which faults and the log know an endpoint; ``other`` if it is none.

    :param target: path and query.
    """
    # The query counts only where an upload_id tells a session from an object.
    path = target.partition("?")[0]
    for wanted, pattern, name in ENDPOINTS:
        if method == wanted and pattern.match(target if "upload_id" in pattern.pattern else path):
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
        entry: dict[str, object] = {}

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
        endpoint = endpoint_of(scope["method"], f"{scope['path']}?{scope['query_string'].decode('latin-1')}")
        entry.update(self._entry(Request(scope), endpoint))
        self._state.log.append(entry)
        fault = self._state.faults.pick(endpoint, scope["method"], scope["path"])
        with suppress(ClientDisconnect):
            if fault is None:
                await exchange.run()
            else:
                entry["fault"] = fault.action
                await ACTIONS[fault.action](fault, exchange)

    def _entry(self, request: Request, endpoint: str) -> dict[str, object]:
        query = request.scope["query_string"].decode("latin-1")
        return {
            "method": request.method,
            "path": request.url.path,
            "endpoint": endpoint,
            "query": [name for name, _ in parse_qsl(query, keep_blank_values=True)],
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
