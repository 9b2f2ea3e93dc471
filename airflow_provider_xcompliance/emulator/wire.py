"""Bodies on the wire: from the socket to a file, and from a file to the socket."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from airflow_provider_xcompliance.emulator.errors import gcs_error
from airflow_provider_xcompliance.emulator.storage import BLOCK, Digests, parse_range


def base_url(request: Request) -> str:
    """Return scheme, host and port by which the client reached this server."""
    return f"{request.url.scheme}://{request.url.netloc}"


def headers_of(request: Request) -> dict[str, str]:
    """Return the headers by lower-case name; repeated ones are joined, as Google does."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _open_at(path: Path, offset: int) -> BinaryIO:
    path.touch()
    target = path.open("r+b")
    target.seek(offset)
    return target


async def spool(request: Request, path: Path, offset: int = 0) -> bool:
    """Write the body to a file, from a byte on.

    :return: whether it came to its end.
    """
    with _open_at(path, offset) as target:
        try:
            async for block in request.stream():
                target.write(block)
        except ClientDisconnect:
            return False
    return True


@asynccontextmanager
async def spooled(request: Request, directory: Path) -> AsyncIterator[Path | None]:
    """Put the body into a file, which goes unless somebody takes it; None: it did not come to its end."""
    path = directory / f"{secrets.token_hex(8)}.upload"
    try:
        yield path if await spool(request, path) else None
    finally:
        path.unlink(missing_ok=True)


class FileResponse(Response):
    """A stored file, or a span of it.

    :param span: first and last byte.
    :param framing: ``length``, ``chunked``, or ``close`` (the end of the connection is the end of the body).
    """

    def __init__(
        self,
        path: Path,
        headers: Iterable[tuple[str, str]],
        span: tuple[int, int],
        status: int = 200,
        framing: str = "length",
    ) -> None:
        super().__init__(status_code=status, media_type="application/octet-stream")
        self._path = path
        self._start, end = span
        self._length = end + 1 - self._start
        self._framing = framing
        del self.headers["content-length"]
        for name, value in headers:
            self.headers.append(name, value)
        if framing == "length":
            self.headers["content-length"] = str(self._length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, block by block."""
        if self._framing == "close":
            # To a client of HTTP/1.0 there is no other framing; h11 then closes at the end.
            scope["state"]["protocol"].conn.their_http_version = b"1.0"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with self._path.open("rb") as stored:
            stored.seek(self._start)
            left = self._length
            while left and (block := stored.read(min(BLOCK, left))):
                left -= len(block)
                await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def asked_for(
    request: Request, path: Path, digests: Digests, headers: list[tuple[str, str]], framing: str = "length"
) -> FileResponse:
    """Return the file, or the range that the request wants of it.

    :raises RefusalError: Google's 412 or 416.
    """
    if request.headers.get("if-match", digests.composite_etag) not in ("*", digests.composite_etag):
        raise gcs_error("PreconditionFailed")
    span = parse_range(request.headers.get("range"), digests.size)
    if span is None:
        return FileResponse(path, headers, (0, digests.size - 1), framing=framing)
    content_range = ("content-range", f"bytes {span[0]}-{span[1]}/{digests.size}")
    return FileResponse(path, [*headers, content_range], span, 206, framing)


def empty(status: int, headers: Iterable[tuple[str, str]]) -> Response:
    """Return an answer without a body, whose headers may repeat."""
    response = Response(b"", status)
    for name, value in headers:
        response.headers.append(name, value)
    return response
