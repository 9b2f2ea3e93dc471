"""
The one place that opens a connection to X or to a URL that X returned.

It owns credentials, time-outs, TLS and the list of hosts, follows no redirect, reads no ``.netrc``, and turns
every failure of HTTP into one of this package's errors with nothing secret in it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any
from urllib.parse import parse_qsl, quote, urlsplit

import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.exceptions import HTTPError

from airflow_provider_xcompliance.api.endpoints import digest_token, prepare_token
from airflow_provider_xcompliance.api.errors import NetworkError, UrlRefusedError
from airflow_provider_xcompliance.api.messages import Auth, FileSlice, Request, Response
from airflow_provider_xcompliance.api.urls import UrlPolicy

#: What requests would read is 16 KB at a time; 256 KB runs at 0.8 of curl's speed (benchmarks/).
BLOCK_BYTES = 262_144

# No error and no job is longer; a body without end would fill the memory.
_MAX_BODY_BYTES = 8_000_000

#: Told how many bytes of a whole are through, and how many there are (None: not known).
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Credentials:
    """
    What the connection knows: a bearer token, or the API key and secret that are exchanged for one.

    :raises ValueError: if it is neither
    """

    bearer_token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    api_secret: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.bearer_token and not (self.api_key and self.api_secret):
            raise ValueError("a bearer token, or an API key and secret, is needed")


class Transport:
    """
    Send requests, and answer with plain data.

    :param timeout_seconds: for connecting, and for every single read
    :param ca_bundle: path of the certificates to trust instead of the usual ones
    :param on_token: told the bearer that an API key and secret were exchanged for, so that logs can mask it
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
        self._policy = policy
        self._credentials = credentials
        self._bearer_token = credentials.bearer_token
        self._timeout_seconds = timeout_seconds
        self._verify = ca_bundle or True
        self._on_token = on_token
        self._session = requests.Session()

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._session.close()

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
                yield Response(answer.status_code, answer.headers), self._blocks(answer.raw, request)
            else:
                yield self._read_whole(answer, request), iter(())

    @contextmanager
    def _exchange(self, request: Request, progress: Progress | None) -> Iterator[requests.Response]:
        auth = self._auth(request)
        with self._failures_of(request), _body_of(request, progress) as body:
            prepared = self._session.prepare_request(
                requests.Request(
                    request.method, request.url, headers=dict(request.headers), data=body, auth=auth
                )
            )
            # A signature covers the URL as it was given, so it goes out as it was given.
            prepared.url = request.url
            settings = self._session.merge_environment_settings(request.url, {}, True, self._verify, None)
            answer = self._session.send(
                prepared, timeout=self._timeout_seconds, allow_redirects=False, **settings
            )
        try:
            yield answer
        finally:
            answer.close()

    def _read_whole(self, answer: requests.Response, request: Request) -> Response:
        with self._failures_of(request):
            body = answer.raw.read(_MAX_BODY_BYTES, decode_content=True)
        if answer.status_code >= 300:
            body = self._without_secrets(body, request)
        return Response(answer.status_code, answer.headers, body)

    def _blocks(self, raw: urllib3.HTTPResponse, request: Request) -> Iterator[bytes]:
        with self._failures_of(request):
            while block := raw.read(BLOCK_BYTES):
                yield block

    def _auth(self, request: Request) -> AuthBase:
        if request.auth is Auth.NONE:
            self._policy.check(request.url)
            return _NoAuth()
        if not self._policy.may_have_bearer(request.url):
            raise UrlRefusedError(f"{request.what}: the address is not the API's own; nothing was sent")
        if request.auth is Auth.BASIC:
            return HTTPBasicAuth(
                quote(self._credentials.api_key or "", safe=""),
                quote(self._credentials.api_secret or "", safe=""),
            )
        return _BearerAuth(self._require_bearer())

    def _require_bearer(self) -> str:
        if not self._bearer_token:
            request = prepare_token(self._policy.base_url)
            self._bearer_token = digest_token(self.send(request), request.what)
            if self._on_token:
                self._on_token(self._bearer_token)
        return self._bearer_token

    @contextmanager
    def _failures_of(self, request: Request) -> Iterator[None]:
        host = urlsplit(request.url).hostname
        try:
            yield
        except requests.exceptions.SSLError:
            raise NetworkError(
                f"{request.what}: the certificate of {host} is not trusted; for a private authority set "
                "'ca_bundle' in the connection's extra",
                delivered=False,
            ) from None
        except (requests.RequestException, HTTPError, OSError) as error:
            cause, delivered = _describe(error)
            raise NetworkError(f"{request.what}: {cause} ({host})", delivered=delivered) from None

    def _without_secrets(self, body: bytes, request: Request) -> bytes:
        """Take what this request carried out of an error's body, in case the server echoes it."""
        credentials = self._credentials
        carried = [self._bearer_token, credentials.api_key, credentials.api_secret]
        carried += [value for _, value in parse_qsl(urlsplit(request.url).query) if len(value) > 15]
        for secret in filter(None, carried):
            body = body.replace(secret.encode(), b"***")
        return body


class _NoAuth(AuthBase):
    """Keep requests from looking into ``.netrc``, as it does where no auth is given."""

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        prepared.headers.pop("Authorization", None)
        return prepared


class _BearerAuth(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        prepared.headers["Authorization"] = f"Bearer {self._token}"
        return prepared


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
    if not isinstance(request.body, FileSlice):
        yield request.body
        return
    with request.body.path.open("rb") as file:
        file.seek(request.body.offset)
        yield _BlockReader(file, request.body, progress)


#: What a failure looks like at the bottom of its chain, in words, and whether the request may have arrived.
_CAUSES: tuple[tuple[tuple[str, ...], str, bool], ...] = (
    (
        ("NameResolutionError", "gaierror"),
        "the host name cannot be resolved; check the connection's host",
        False,
    ),
    (("NewConnectionError", "ConnectionRefusedError"), "no connection could be made", False),
    (("ConnectTimeout", "ConnectTimeoutError"), "connecting timed out", False),
    (("ProxyError",), "the proxy failed", False),
    (("ReadTimeout", "ReadTimeoutError", "TimeoutError"), "the server did not go on in time", True),
    (("IncompleteRead", "InvalidChunkLength"), "the connection ended in the middle of the body", True),
    (("ConnectionResetError", "BrokenPipeError"), "the connection was reset", True),
)


def _describe(error: BaseException) -> tuple[str, bool]:
    names = {type(link).__name__ for link in _chain(error)}
    for causes, words, delivered in _CAUSES:
        if names.intersection(causes):
            return words, delivered
    return f"the connection failed ({type(error).__name__})", True


def _chain(error: BaseException) -> Iterator[BaseException]:
    """All that an error was made of: requests and urllib3 hide the cause in arguments and attributes."""
    pending: list[Any] = [error]
    seen: set[int] = set()
    while pending:
        link = pending.pop()
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            pending += [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]


class _SecretsFilter(logging.Filter):
    """Take signed URLs' secrets out of what urllib3 logs at DEBUG."""

    _SECRET = re.compile(r"(?i)((?:token|upload_id|x-goog-[a-z]+)=)[^&\s\"']+")

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._SECRET.sub(r"\1***", record.getMessage()), None
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_SecretsFilter())
