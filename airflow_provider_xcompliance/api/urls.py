"""Where a packet may go, which wire flow a URL belongs to, and who gets the bearer token."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from airflow_provider_xcompliance.api.errors import UrlRefusedError
from airflow_provider_xcompliance.api.jobs import Job

DEFAULT_BASE_URL = "https://api.x.com"

#: Two names of one API.
_API_HOSTS = frozenset({"api.x.com", "api.twitter.com"})
_TRUSTED_HOSTS = _API_HOSTS | {"storage.googleapis.com"}

#: Whose values in a query give access to what the URL points to.
SECRET_PARAMETERS = ("token", "upload_id", "x-goog-signature")


class Flow(Enum):
    """The two wire flows; the value is the most bytes that one upload may hold (X's documentation)."""

    CURRENT = 128_000_000
    LEGACY = 1_000_000_000


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of a URL."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, parts: SplitResult) -> Origin:
        """Take the origin out of a split URL, with the scheme's default port filled in."""
        return cls(parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}[parts.scheme])


class UrlPolicy:
    """
    Decide about a URL before a packet leaves.

    :param base_url: the API as the connection names it: scheme, host, and port if not the default one
    :param allowed_hosts: further hosts (``name`` or ``name:port``) that X's URLs may point to
    :raises UrlRefusedError: if the base URL itself is not acceptable
    """

    def __init__(self, base_url: str = DEFAULT_BASE_URL, allowed_hosts: tuple[str, ...] = ()) -> None:
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        parts = _split(base_url, "the connection's host")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise UrlRefusedError("the connection's host has a path: give https://host[:port] and no more")
        self._base = Origin.of(parts)
        self._check_scheme(self._base, named=True)
        self.base_url = base_url.rstrip("/")

    def check(self, url: str) -> Origin:
        """
        Return the origin of a URL that a packet may go to.

        :raises UrlRefusedError: if it may not; the text names the host and the setting that would allow it
        """
        origin = Origin.of(_split(url, "a URL that X returned"))
        named = origin == self._base or self._is_allowed(origin)
        if not named and not (origin.host in _TRUSTED_HOSTS and origin.port == 443):
            raise UrlRefusedError(
                f"X returned a URL on {origin.host}:{origin.port}, which is not an allowed host; nothing was "
                "sent. If that host is right, add it to 'allowed_hosts' in the connection's extra"
            )
        self._check_scheme(origin, named=named)
        return origin

    def flow(self, url: str, job: Job) -> Flow:
        """
        Which wire flow an upload or download URL of a job belongs to.

        :raises UrlRefusedError: if the URL is of neither flow
        """
        origin = self.check(url)
        parts = urlsplit(url)
        if _is_signed(parts):
            return Flow.LEGACY
        paths = {f"/2/compliance/jobs/{job.id}/{operation}" for operation in ("upload", "download")}
        if self._is_api(origin) and parts.path in paths:
            return Flow.CURRENT
        raise UrlRefusedError(
            f"X returned a URL for job {job.id} on {origin.host} that is neither signed nor an upload or "
            "download address of that job; nothing was sent"
        )

    def may_have_bearer(self, url: str) -> bool:
        """Whether the connection's own API answers at this URL; never where the URL itself is signed."""
        return self._is_api(self.check(url)) and not _is_signed(urlsplit(url))

    def _is_api(self, origin: Origin) -> bool:
        if origin == self._base:
            return True
        return self._base.host in _API_HOSTS and origin.host in _API_HOSTS and origin.port == self._base.port

    def _is_allowed(self, origin: Origin) -> bool:
        return f"{origin.host}:{origin.port}" in self._allowed_hosts or (
            origin.host in self._allowed_hosts and origin.port == 443
        )

    @staticmethod
    def _check_scheme(origin: Origin, *, named: bool) -> None:
        if origin.scheme != "https" and not (named and _is_loopback(origin.host)):
            raise UrlRefusedError(f"plain http to {origin.host} is refused: use https")


def secrets_of(url: str) -> Iterator[str]:
    """Return what in a URL gives access, as it stands there and decoded."""
    for pair in urlsplit(url).query.split("&"):
        name, _, value = pair.partition("=")
        if name.lower() in SECRET_PARAMETERS and value:
            yield value
            yield unquote(value)


def _split(url: str, what: str) -> SplitResult:
    """Split a URL that no two parsers can read differently."""
    parts = _parse(url)
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname:
        raise UrlRefusedError(f"{what} is not of the form https://host[:port]/…; nothing was sent")
    if "@" in parts.netloc:
        raise UrlRefusedError(f"{what} ({parts.hostname}) carries a user name; nothing was sent")
    return parts


def _parse(url: str) -> SplitResult | None:
    # No blank, backslash, control or non-ASCII character: parsers differ on them.
    if not re.fullmatch(r"[!-\[\]^-~]+", url):
        return None
    try:
        parts = urlsplit(url)
        return None if parts.port == 0 else parts
    except ValueError:
        return None


def _is_signed(parts: SplitResult) -> bool:
    return any(key.lower() == "x-goog-signature" for key, _ in parse_qsl(parts.query, keep_blank_values=True))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
