"""
The one place that opens a connection to X or to a URL that X returned.

It owns credentials, time-outs, TLS and the list of hosts, follows no redirect, reads no ``.netrc``, keeps no
cookie, and turns every failure of HTTP into one of this package's errors with nothing secret in it.
"""

from __future__ import annotations

import base64
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import IncompleteRead
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import requests
import urllib3
from urllib3 import exceptions

from airflow_provider_xcompliance import __version__
from airflow_provider_xcompliance.api.endpoints import digest_token, prepare_token
from airflow_provider_xcompliance.api.errors import NetworkError, UrlRefusedError
from airflow_provider_xcompliance.api.messages import Auth, FileSlice, Request, Response
from airflow_provider_xcompliance.api.urls import Origin, UrlPolicy

T = TypeVar("T")

#: What requests would read is 16 KB at a time, at half of curl's speed; benchmarks/ compares this with curl.
BLOCK_BYTES = 262_144

# Room for some 14,000 jobs, which X lists on one page; a body without end would fill the memory.
_MAX_BODY_BYTES = 32_000_000

_USER_AGENT = f"airflow-provider-xcompliance/{__version__}"

#: Told how many bytes of a whole are through, and how many there are (None: not known).
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Credentials:
    """
    What the connection knows: a bearer token, or the API key and secret that are exchanged for one.

    :raises ValueError: if it is neither, or the token cannot stand in a header
    """

    bearer_token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    api_secret: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.bearer_token and not (self.api_key and self.api_secret):
            raise ValueError("a bearer token, or an API key and secret, is needed")
        # The libraries below would refuse it too, with the token in the text.
        if self.bearer_token and not re.fullmatch(r"[!-~]+", self.bearer_token):
            raise ValueError("the bearer token holds a blank or a character that no token has; paste it anew")


class Transport:
    """
    Send requests, and answer with plain data.

    :param timeout_seconds: for connecting, and for every single read
    :param ca_bundle: path of the certificates to trust instead of the usual ones
    :param on_token: told the bearer that an API key and secret were exchanged for, so that logs can mask it
    :raises ValueError: if there is no such ``ca_bundle``
    """

    def __init__(
        self,
        policy: UrlPolicy,
        credentials: Credentials,
        *,
        timeout_seconds: float = 60.0,
        ca_bundle: str | None = None,
        on_token: Callable[[str], None] | None = None,
    ) -> None:
        if ca_bundle and not Path(ca_bundle).exists():
            raise ValueError(f"ca_bundle: there is no {ca_bundle}")
        self._policy = policy
        self._credentials = credentials
        self._bearer_token = credentials.bearer_token
        self._timeout_seconds = timeout_seconds
        self._verify = ca_bundle or True
        self._on_token = on_token
        self._session = requests.Session()

    def send(self, request: Request, progress: Progress | None = None) -> Response:
        """
        Send a request and read the whole answer.

        :param progress: told how far the file in the body was read
        :raises NetworkError: if no whole answer arrives
        :raises UrlRefusedError: if no packet may go to that URL
        """
        with self._exchange(request, progress) as answer:
            return self._read_whole(answer, request)

    @contextmanager
    def stream(self, request: Request) -> Iterator[tuple[Response, Iterator[bytes]]]:
        """
        Send a request and hand out the answer's head and its body, block by block, as it arrives.

        :raises NetworkError: here, or while the blocks are read, if the connection fails
        """
        with self._exchange(request, None) as answer:
            if answer.status_code in (200, 206):
                _require_whole_lines(answer.raw)
                yield self._response(answer, request, b""), _blocks(answer.raw, request)
            else:
                yield self._read_whole(answer, request), iter(())

    @contextmanager
    def _exchange(self, request: Request, progress: Progress | None) -> Iterator[requests.Response]:
        origin = self._policy.check(request.url)
        headers = {"User-Agent": _USER_AGENT, **request.headers, **self._authorization(request)}
        with _body_of(request, progress) as body:
            answer = _guard(request, lambda: self._open(request, origin, headers, body))
        try:
            yield answer
        finally:
            answer.close()

    def _open(
        self, request: Request, origin: Origin, headers: dict[str, str], body: Any
    ) -> requests.Response:
        # Not prepared by the session, which would read .netrc and add cookies.
        prepared = requests.Request(request.method, request.url, headers, data=body).prepare()
        # A signature covers the URL as it was given, so it goes out as it was given.
        prepared.url = request.url
        settings: dict[str, Any] = {
            **self._session.merge_environment_settings(request.url, {}, True, self._verify, None)
        }
        if origin.scheme == "http":
            # Only loopback is spoken to without TLS, and a proxy would read the bearer.
            settings["proxies"] = {}
        # Not sent by the session, which looks into where a redirect leads even if it may not follow.
        adapter = self._session.get_adapter(request.url)
        return adapter.send(prepared, timeout=self._timeout_seconds, **settings)

    def _read_whole(self, answer: requests.Response, request: Request) -> Response:
        body = _guard(request, lambda: answer.raw.read(_MAX_BODY_BYTES, decode_content=True))
        return self._response(answer, request, body)

    def _response(self, answer: requests.Response, request: Request, body: bytes) -> Response:
        credentials = self._credentials
        values = [pair.partition("=")[2] for pair in urlsplit(request.url).query.split("&")]
        # Short values (a date, a flag) are no secrets, and would tear words apart.
        long_values = [value for value in values if len(value) > 15]
        secrets = [self._bearer_token, credentials.api_key, credentials.api_secret, *long_values]
        secrets += [unquote(value) for value in long_values]
        secrets += [self._basic_credentials()] if request.auth is Auth.BASIC else []
        return Response(answer.status_code, answer.headers, body, tuple(filter(None, secrets)))

    def _authorization(self, request: Request) -> dict[str, str]:
        if request.auth is Auth.NONE:
            return {}
        if not self._policy.may_have_bearer(request.url):
            raise UrlRefusedError(f"{request.what}: the address is not the API's own; nothing was sent")
        if request.auth is Auth.BASIC:
            return {"Authorization": f"Basic {self._basic_credentials()}"}
        return {"Authorization": f"Bearer {self._require_bearer()}"}

    def _basic_credentials(self) -> str:
        pair = (self._credentials.api_key or "", self._credentials.api_secret or "")
        return base64.b64encode(":".join(quote(part, safe="") for part in pair).encode()).decode()

    def _require_bearer(self) -> str:
        if not self._bearer_token:
            request = prepare_token(self._policy.base_url)
            token = digest_token(self.send(request), request.what)
            if self._on_token:
                self._on_token(token)
            self._bearer_token = token
        return self._bearer_token


class _BlockReader:
    """A file body that requests reads in large blocks, and whose length it can tell beforehand."""

    def __init__(self, file: IO[bytes], body: FileSlice, progress: Progress | None) -> None:
        self._file = file
        self._body = body
        self._progress = progress

    def __len__(self) -> int:
        return self._body.length

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def read(self, _size: int = -1) -> bytes:
        block = self._file.read(BLOCK_BYTES)
        if self._progress:
            self._progress(self._file.tell(), self._body.offset + self._body.length)
        return block


@contextmanager
def _body_of(request: Request, progress: Progress | None) -> Iterator[Any]:
    # A body of no bytes goes out as none, with a Content-Length of 0; an empty file would be sent chunked.
    if not isinstance(request.body, FileSlice) or request.body.length == 0:
        yield request.body if isinstance(request.body, bytes) else None
        return
    with request.body.path.open("rb") as file:
        file.seek(request.body.offset)
        yield _BlockReader(file, request.body, progress)


def _blocks(raw: urllib3.HTTPResponse, request: Request) -> Iterator[bytes]:
    # read1 hands out what is there, so that nothing that arrived before a cut is lost.
    while block := _guard(request, lambda: raw.read1(BLOCK_BYTES, decode_content=False)):
        yield block


class _WholeLines:
    """What http.client reads an answer from; a line that the end of the connection cut is an error."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self._file.readline(limit)
        if line and not line.endswith(b"\n"):
            raise IncompleteRead(line)
        return line


def _require_whole_lines(raw: urllib3.HTTPResponse) -> None:
    # A cut may leave only the leading zeros of a chunk's size, which http.client takes for the last chunk.
    source = getattr(raw, "_fp", None)
    if raw.chunked and source is not None and source.fp is not None:
        source.fp = _WholeLines(source.fp)


def _guard(request: Request, action: Callable[[], T]) -> T:
    """
    Do something with the network, and fail with one of this package's errors alone.

    :raises NetworkError: for whatever went wrong
    """
    try:
        return action()
    except (requests.RequestException, exceptions.HTTPError, OSError, ValueError) as error:
        failure = _explain(error, request)
    # Raised out here, so that not even its ``__context__`` leads to the URL or the headers.
    raise failure


#: What a failure is at the bottom, in words, and whether the request may have arrived all the same.
_CAUSES: tuple[tuple[tuple[type[BaseException], ...], str, bool], ...] = (
    (
        (ssl.SSLCertVerificationError,),
        "its certificate is not trusted; for a private authority set 'ca_bundle' in the connection's extra",
        False,
    ),
    ((socket.gaierror,), "the host name cannot be resolved; check the connection's host", False),
    # A subclass of the next in some versions of urllib3.
    ((exceptions.NewConnectionError,), "no connection could be made", False),
    ((exceptions.ConnectTimeoutError,), "connecting timed out", False),
    ((exceptions.ProxyError,), "the proxy failed", False),
    ((exceptions.ReadTimeoutError, TimeoutError), "the server did not go on in time", True),
    ((ssl.SSLError,), "the TLS connection failed", True),
    ((IncompleteRead,), "the connection ended in the middle of the body", True),
    ((ConnectionError,), "the connection was cut", True),
)


def _explain(error: Exception, request: Request) -> NetworkError:
    links = tuple(_chain(error))
    words, delivered = next(
        (
            (words, delivered)
            for causes, words, delivered in _CAUSES
            if any(isinstance(link, causes) for link in links)
        ),
        (f"the connection failed ({type(error).__name__})", True),
    )
    return NetworkError(f"{request.what}: {urlsplit(request.url).hostname}: {words}", delivered=delivered)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """
    All that an error was made of: requests and urllib3 hide the cause in arguments and attributes.

    Not its ``__context__``: that may be an earlier failure, which the caller is dealing with.
    """
    pending: list[Any] = [error]
    while pending:
        link = pending.pop()
        if isinstance(link, BaseException):
            yield link
            pending += [link.__cause__, getattr(link, "reason", None), *link.args]


class _SecretsFilter(logging.Filter):
    """Take signed URLs' secrets out of what urllib3 logs: each request at DEBUG, bad headers as a warning."""

    _SECRET = re.compile(r"(?i)((?:token|upload_id|x-goog-[a-z]+)=)[^&\s\"')]+")

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._SECRET.sub(r"\1***", record.getMessage()), None
        return True


for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_SecretsFilter())
