"""
Every way in which X's API can fail.

The text of each error is one sentence for whoever is paged. It never holds a URL's query, a token or a
credential, so it may be logged and stored.
"""

from __future__ import annotations

import re
from datetime import datetime


class XComplianceError(Exception):
    """Base of all errors of this package's API client."""


class NetworkError(XComplianceError):
    """No usable answer arrived: name resolution, connection, TLS, time-out or reset."""

    def __init__(self, message: str, *, delivered: bool = True) -> None:
        super().__init__(message)
        #: Whether the server may have received the request.
        self.delivered = delivered


class CertificateError(XComplianceError):
    """The server's certificate is not trusted, expired or another host's: trying again changes nothing."""


class ServerError(XComplianceError):
    """X (or a gateway before it) failed: 5xx, 408, or an answer that is not what the endpoint promises."""


class InvalidRequestError(XComplianceError):
    """400 and other refusals of the request itself: repeating it changes nothing."""


class AuthenticationError(XComplianceError):
    """401: the credentials of the connection are not accepted."""


class AccessDeniedError(XComplianceError):
    """403: the credentials are good, but this App may not do that."""


class JobNotFoundError(XComplianceError):
    """404: no such job for this App."""


class JobConflictError(XComplianceError):
    """409: another job of the type is active, or the job is not in the state that the request needs."""


class JobStateError(JobConflictError):
    """The job is past the state that the request needs: it has ended, or has its ids already."""


class JobFailedError(XComplianceError):
    """The job ended without results: it failed, was cancelled or expired. Another one is needed."""


class UploadTooLargeError(XComplianceError):
    """The ids do not fit into one job's upload."""


class UrlExpiredError(XComplianceError):
    """The upload URL (15 minutes) or download URL (7 days) of the job has lapsed; X never renews it."""


class UrlRefusedError(XComplianceError):
    """A URL that X returned points where no packet of this client may go."""


class RateLimitedError(XComplianceError):
    """429, and waiting for the reset is longer than the caller allows."""

    def __init__(
        self, message: str, *, wait_seconds: float | None = None, reset_at: datetime | None = None
    ) -> None:
        super().__init__(message)
        #: Seconds until the reset by the server's own clock; None if X did not say.
        self.wait_seconds = wait_seconds
        #: The reset, by the server's clock; None if X did not say.
        self.reset_at = reset_at


class UsageCappedError(XComplianceError):
    """The plan's usage for the period is spent: waiting minutes does not help."""


class IntegrityError(XComplianceError):
    """The bytes that arrived are not the bytes that were promised: cut short, too long or corrupt."""


class DeadlineError(XComplianceError):
    """A transfer or a wait went on, but was not done in the time that is allowed for the whole of it."""


#: What a repetition of the same request may cure.
TRANSIENT_ERRORS = (NetworkError, ServerError, IntegrityError)


def one_line(text: str) -> str:
    """Make what a server said fit for an error's text: one line of at most 200 characters, no URL's query."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(re.sub(r"(://[^\s?]*\?)\S+", r"\1***", printable).split())[:200]
