"""Requests and answers as plain data, and what an answer that is no success means."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from pathlib import Path
from typing import NoReturn, TypeVar

import msgspec

from airflow_provider_xcompliance.api.errors import (
    AccessDeniedError,
    AuthenticationError,
    InvalidRequestError,
    JobConflictError,
    JobNotFoundError,
    RateLimitedError,
    ServerError,
    UploadTooLargeError,
    UsageCappedError,
    XComplianceError,
    one_line,
)

T = TypeVar("T")


class Auth(Enum):
    """Which credentials a request carries."""

    NONE = "none"
    BEARER = "bearer"
    BASIC = "basic"


@dataclass(frozen=True)
class FileSlice:
    """The bytes of a local file from an offset on, to its end."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True)
class Request:
    """
    One HTTP request, ready to be sent.

    :param what: what it is for, in words that stand in logs and errors: ``create a tweets job``
    :param repeatable: whether sending it twice does no harm
    """

    what: str
    method: str
    url: str = field(repr=False)
    auth: Auth = Auth.BEARER
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FileSlice | None = None
    repeatable: bool = True


@dataclass(frozen=True)
class Response:
    """
    One HTTP answer.

    :param headers: looked up without regard to case
    :param body: for a streamed answer, empty unless the status says that it is an error
    :param secrets: what the request carried, and what a server may echo
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def server_time(self) -> datetime:
        """The answer's ``Date``; the local clock where that is missing."""
        try:
            date = parsedate_to_datetime(self.headers.get("Date", ""))
        except (ValueError, OverflowError):
            return datetime.now(UTC)
        return date if date.tzinfo else date.replace(tzinfo=UTC)

    def quote(self, text: str) -> str:
        """Make words of this answer fit for an error's text."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return one_line(text)


class _Problem(msgspec.Struct):
    """The error bodies of X: problem+json, and the older list of errors."""

    type: str | None = None
    title: str | None = None
    detail: str | None = None
    errors: list[dict[str, object]] | None = None

    @property
    def code(self) -> str:
        found = re.search(r"(?:^|/)([A-Za-z-]{1,40})/?$", self.type or "")
        return found[1] if found else ""

    @property
    def words(self) -> str:
        older = [str(error.get("message", "")) for error in self.errors or []]
        return " ".join(filter(None, [self.title, self.detail, *older]))


_NOT_AS_SIGNED = (
    InvalidRequestError,
    "the request that arrived is not the one that was signed; see what a proxy changed, or create a new job",
)

#: What each refusal means, and what to do about it; the problem's own name says more than the status.
_REFUSALS: dict[int | str, tuple[type[XComplianceError], str]] = {
    "usage-capped": (
        UsageCappedError,
        "the plan's usage for this period is spent; raise it or wait for the next",
    ),
    "SignatureDoesNotMatch": _NOT_AS_SIGNED,
    "MalformedSecurityHeader": _NOT_AS_SIGNED,
    400: (InvalidRequestError, "the request is not acceptable to X"),
    401: (AuthenticationError, "the credentials of the connection are not accepted; check its token or key"),
    403: (AccessDeniedError, "this App may not do that; check its access to batch compliance"),
    404: (JobNotFoundError, "X knows no such job or address for this App; check the job id and the host"),
    408: (ServerError, "X or a gateway before it timed out; try again later"),
    409: (JobConflictError, "another job of this type is active, or this one is past that step"),
    413: (UploadTooLargeError, "the file is too large for one job; split it"),
    415: (
        InvalidRequestError,
        "X wants another content type; set 'upload_content_type' in the connection's extra",
    ),
}
_REDIRECTED = (InvalidRequestError, "a redirect, which is never followed; check the host of the connection")
_FAILED = (ServerError, "X or a gateway before it failed; try again later")
_UNDOCUMENTED = (InvalidRequestError, "an answer that X does not document")


def refuse(response: Response, what: str) -> NoReturn:
    """
    Raise what an answer that is no success means.

    :param what: what the request was for
    :raises RateLimitedError: 429
    :raises XComplianceError: the subclass that :data:`_REFUSALS` gives for the problem or the status
    """
    status = response.status
    problem = _read_problem(response)
    said = response.quote(f"{what}: status {status} {problem.code}")
    by_class = {3: _REDIRECTED, 5: _FAILED}.get(status // 100, _UNDOCUMENTED)
    if status == 429 and problem.code not in _REFUSALS:
        raise _rate_limited(response, said)
    error, meaning = _REFUSALS.get(problem.code) or _REFUSALS.get(status) or by_class
    words = response.quote(problem.words)
    raise error(f"{said}: {meaning}" + (f" (X says: {words})" if words else ""))


# X has limits of 15 minutes and of a day; whoever believed a reset in 2286 would wait for it.
_LONGEST_LIMIT_SECONDS = 2 * 86_400.0


def _rate_limited(response: Response, said: str) -> RateLimitedError:
    reset = response.headers.get("x-rate-limit-reset", "")
    if not re.fullmatch(r"[0-9]{1,11}", reset):
        return RateLimitedError(f"{said}: rate limited, and X did not say until when")
    reset_at = datetime.fromtimestamp(int(reset), UTC)
    wait = max(timedelta(0), reset_at - response.server_time).total_seconds()
    if wait > _LONGEST_LIMIT_SECONDS:
        return RateLimitedError(
            f"{said}: rate limited, until a time that cannot be true ({reset_at:%Y-%m-%d})"
        )
    return RateLimitedError(
        f"{said}: rate limited; the limit resets in {wait:.0f} s, at {reset_at:%Y-%m-%d %H:%M:%S} UTC",
        wait_seconds=wait,
        reset_at=reset_at,
    )


def decode(response: Response, shape: type[T], what: str) -> T:
    """
    Read the JSON body of a success.

    :raises ServerError: if it is not JSON of that shape: a gateway's page, an empty or a cut body
    """
    try:
        return msgspec.json.decode(response.body, type=shape)
    except _NOT_THAT_JSON as error:
        reason = response.quote(str(error))
    # Raised out here, because the decoder's own error may hold the body, and with it the job's URLs.
    raise ServerError(
        f"{what}: status {response.status}, but the body is not the JSON that X documents ({reason})"
    )


# A body nested without end is a RecursionError.
_NOT_THAT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def says_expired(response: Response, expires_at: datetime | None) -> bool:
    """
    Whether a refusal of a job's URL means that its time is over, and not that a permission is missing.

    :param expires_at: when X said that the URL would lapse
    """
    if xml_code(response) == "ExpiredToken":
        return True
    over = expires_at is not None and response.server_time >= expires_at
    return over and response.status in (400, 401, 403)


def stated_crc32c(response: Response) -> int | None:
    """Return the crc32c of the whole object out of ``x-goog-hash``; None where the server states none."""
    found = re.search(r"\bcrc32c=([A-Za-z0-9+/]{6}==)", response.headers.get("x-goog-hash", ""))
    return int.from_bytes(base64.b64decode(found[1]), "big") if found else None


def xml_code(response: Response) -> str:
    """Return the ``<Code>`` of a Google Cloud Storage error; empty where there is none."""
    found = re.search(rb"<Code>([A-Za-z]{1,64})</Code>", response.body)
    return found[1].decode() if found else ""


def _read_problem(response: Response) -> _Problem:
    try:
        return msgspec.json.decode(response.body, type=_Problem)
    except _NOT_THAT_JSON:
        return _Problem(type=xml_code(response) or None)
