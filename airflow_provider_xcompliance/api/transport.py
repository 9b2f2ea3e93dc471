"""
The one place that opens a connection to X or to a URL that X returned.

It owns credentials, time-outs, TLS and the list of hosts, follows no redirect, reads no ``.netrc``, keeps no
cookie, tells what has to be masked, and turns every failure of HTTP into one of this package's errors with
nothing secret in it.
"""

from __future__ import annotations

import base64
import io
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import exceptions

from airflow_provider_xcompliance import __version__
from airflow_provider_xcompliance.api.endpoints import digest_token, prepare_token
from airflow_provider_xcompliance.api.errors import (
    CertificateError,
    NetworkError,
    UrlRefusedError,
    XComplianceError,
    one_line,
)
from airflow_provider_xcompliance.api.messages import Auth, FileSlice, Request, Response
from airflow_provider_xcompliance.api.urls import SECRET_PARAMETERS, Origin, UrlPolicy, secrets_of

T = TypeVar("T")

#: What requests would read is 16 KB at a time, at half of curl's speed; benchmarks/ compares this with curl.
BLOCK_BYTES = 262_144

# Room for some 14,000 jobs, which X lists on one page; a body without end would fill the memory.
_MAX_BODY_BYTES = 32_000_000

# A whole answer may take as long as this many reads that are as slow as one may be.
_READS_PER_EXCHANGE = 5

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

    :param timeout_seconds: for connecting, and for every single read; five times as much for a whole exchange
    :param ca_bundle: path of the certificates to trust instead of the usual ones
    :param on_secret: told of each secret that is not in the credentials, once and before the first request
        that carries it, so that logs can mask it: the bearer of an exchange, and what gives access in a URL
    :raises ValueError: if there is no such ``ca_bundle``
    """

    def __init__(
        self,
        policy: UrlPolicy,
        credentials: Credentials,
        *,
        timeout_seconds: float = 60.0,
        ca_bundle: str | None = None,
        on_secret: Callable[[str], None] = lambda _: None,
    ) -> None:
        if ca_bundle and not Path(ca_bundle).exists():
            raise ValueError(f"ca_bundle: there is no {ca_bundle}")
        self._policy = policy
        self._credentials = credentials
        self._bearer_token = credentials.bearer_token
        self._timeout_seconds = timeout_seconds
        self._verify = ca_bundle or True
        self._on_secret = on_secret
        given = (credentials.bearer_token, credentials.api_key, credentials.api_secret)
        self._secrets = set(filter(None, given))
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter())

    def send(
        self, request: Request, progress: Progress | None = None, *, within: float | None = None
    ) -> Response:
        """
        Send a request and read the whole answer.

        :param progress: told how far the file in the body was read
        :param within: seconds for all of it; None: five reads that are as slow as one may be
        :raises NetworkError: if no whole answer arrives
        :raises CertificateError: if the server cannot prove who it is
        :raises UrlRefusedError: if no packet may go to that URL
        """
        with self._exchange(request, progress, within) as answer:
            return self._read_whole(answer, request)

    @contextmanager
    def stream(self, request: Request, *, within: float) -> Iterator[tuple[Response, Iterator[bytes]]]:
        """
        Send a request and hand out the answer's head and its body, block by block, as it arrives.

        :param within: seconds for all of it
        :raises NetworkError: here, or while the blocks are read, if the connection fails
        """
        with self._exchange(request, None, within) as answer:
            if answer.status_code in (200, 206):
                _require_whole_lines(answer.raw)
                yield self._response(answer, request, b""), _blocks(answer.raw, request)
            else:
                yield self._read_whole(answer, request), iter(())

    @contextmanager
    def _exchange(
        self, request: Request, progress: Progress | None, within: float | None
    ) -> Iterator[requests.Response]:
        origin = self._policy.check(request.url)
        headers = {"User-Agent": _USER_AGENT, **request.headers, **self._authorization(request)}
        self._learn(*secrets_of(request.url))
        deadline = _Deadline(within or _READS_PER_EXCHANGE * self._timeout_seconds)
        # Set last: an exchange for a bearer has had a deadline of its own.
        _DEADLINE.set(deadline)
        with _body_of(request, progress, deadline) as body:
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
        values = [pair.partition("=")[2] for pair in urlsplit(request.url).query.split("&")]
        # Short values (a date, a flag) are no secrets, and would tear words apart.
        long_values = [value for value in values if len(value) > 15]
        secrets = {*self._secrets, *long_values, *map(unquote, long_values)}
        return Response(answer.status_code, answer.headers, body, tuple(secrets))

    def _learn(self, *secrets: str) -> None:
        # Each once, and none before it is used: whoever masks logs compiles all that it was told each time,
        # and a triggerer, which only looks at jobs, would be told of every job for months.
        for secret in secrets:
            if secret not in self._secrets:
                self._secrets.add(secret)
                self._on_secret(secret)

    def _authorization(self, request: Request) -> dict[str, str]:
        if request.auth is Auth.NONE:
            return {}
        if not self._policy.may_have_bearer(request.url):
            raise UrlRefusedError(f"{request.what}: the address is not the API's own; nothing was sent")
        if request.auth is Auth.BASIC:
            basic = self._basic_credentials()
            self._learn(basic)
            return {"Authorization": f"Basic {basic}"}
        return {"Authorization": f"Bearer {self._require_bearer()}"}

    def _basic_credentials(self) -> str:
        pair = (self._credentials.api_key or "", self._credentials.api_secret or "")
        return base64.b64encode(":".join(quote(part, safe="") for part in pair).encode()).decode()

    def _require_bearer(self) -> str:
        if not self._bearer_token:
            request = prepare_token(self._policy.base_url)
            token = digest_token(self.send(request), request.what)
            self._learn(token)
            self._bearer_token = token
        return self._bearer_token


class _Deadline:
    """
    The end of an exchange as a whole, which a server that trickles a byte now and then never comes to.

    :param seconds: from now on
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """
        Return how many seconds are left.

        :raises TimeoutError: if none are
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


#: That of the exchange which is going on: urllib3 has no way to hand it to a connection of its pools.
_DEADLINE: ContextVar[_Deadline] = ContextVar("deadline")


class _TimedReads(io.RawIOBase):
    """What a connection is read from: no single read waits beyond the end of the whole exchange."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: _Deadline) -> None:
        self._raw = raw
        self._sock = sock
        self._patience = sock.gettimeout()
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline.left()
        self._sock.settimeout(left if self._patience is None else min(left, self._patience))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        raw: io.RawIOBase = self.fp.detach()
        self.fp = io.BufferedReader(_TimedReads(raw, sock, _DEADLINE.get()))


class _Adapter(HTTPAdapter):
    """Connections that keep the deadline, and that http.client's ``debuglevel`` cannot make print."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        _watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options)
        if is_new:
            _watch(manager)
        return manager


def _watch(manager: urllib3.PoolManager) -> None:
    manager.pool_classes_by_scheme = {
        scheme: _watched(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
    }


def _watched(pool: type[urllib3.HTTPConnectionPool]) -> type[urllib3.HTTPConnectionPool]:
    # What debuglevel prints are request lines and headers, with every secret, past all filters of logs.
    settings = {"response_class": _TimedResponse, "debuglevel": 0}
    connection = type("Connection", (pool.ConnectionCls,), settings)
    return type("Pool", (pool,), {"ConnectionCls": connection})


class _BlockReader:
    """A file body that requests reads in large blocks, and whose length it can tell beforehand."""

    def __init__(
        self, file: IO[bytes], body: FileSlice, progress: Progress | None, deadline: _Deadline
    ) -> None:
        self._file = file
        self._body = body
        self._progress = progress
        self._deadline = deadline

    def __len__(self) -> int:
        return self._body.length

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def read(self, _size: int = -1) -> bytes:
        self._deadline.left()
        block = self._file.read(BLOCK_BYTES)
        if self._progress:
            self._progress(self._file.tell(), self._body.offset + self._body.length)
        return block


@contextmanager
def _body_of(request: Request, progress: Progress | None, deadline: _Deadline) -> Iterator[Any]:
    # A body of no bytes goes out as none, with a Content-Length of 0; an empty file would be sent chunked.
    if not isinstance(request.body, FileSlice) or request.body.length == 0:
        yield request.body if isinstance(request.body, bytes) else None
        return
    with request.body.path.open("rb") as file:
        file.seek(request.body.offset)
        yield _BlockReader(file, request.body, progress, deadline)


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

    :raises CertificateError: if the server cannot prove who it is
    :raises NetworkError: for whatever else went wrong
    """
    try:
        return action()
    except (requests.RequestException, exceptions.HTTPError, OSError, ValueError) as error:
        failure = _explain(error, request)
    # Raised out here, so that not even its ``__context__`` leads to the URL or the headers.
    raise failure


#: What a failure is at the bottom, in words, and whether the request may have arrived all the same.
_CAUSES: tuple[tuple[tuple[type[BaseException], ...], str, bool], ...] = (
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


def _explain(error: Exception, request: Request) -> XComplianceError:
    links = tuple(_chain(error))
    where = f"{request.what}: {urlsplit(request.url).hostname}"
    for link in links:
        if isinstance(link, ssl.SSLCertVerificationError):
            reason = one_line(link.verify_message)
            return CertificateError(
                f"{where}: its certificate is not trusted ({reason}), so nothing was sent; for a private "
                "authority set 'ca_bundle' in the connection's extra"
            )
    words, delivered = next(
        (
            (words, delivered)
            for causes, words, delivered in _CAUSES
            if any(isinstance(link, causes) for link in links)
        ),
        (f"the connection failed ({type(error).__name__})", True),
    )
    return NetworkError(f"{where}: {words}", delivered=delivered)


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

    _SECRET = re.compile(rf"(?i)((?:{'|'.join(SECRET_PARAMETERS)}|x-goog-[a-z]+)=)[^&\s\"')]+")

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._SECRET.sub(r"\1***", record.getMessage()), None
        return True


for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_SecretsFilter())
