"""
Which failure is retried, by whom, and which one ends a task at once: one table.

A task that repeats what cannot succeed hides the cause for as many hours as its retries take.
"""

from __future__ import annotations

from typing import NamedTuple

from airflow_provider_xcompliance.api import errors
from airflow_provider_xcompliance.archive.events import (
    ForeignEventsError,
    InvalidEventsError,
    MissingControlsError,
)
from airflow_provider_xcompliance.archive.extras import MissingExtraError
from airflow_provider_xcompliance.archive.ids import InvalidIdsError
from airflow_provider_xcompliance.storage import (
    AddressError,
    ChangedError,
    DestinationExistsError,
    StorageError,
)


class Retry(NamedTuple):
    """
    What is done about some kinds of failure.

    :param kinds: the errors
    :param by_client: what the client does before it gives up, within one try of a task
    :param by_task: whether another try of the task may succeed
    :param why: the reason, in the words of the documentation
    """

    kinds: tuple[type[Exception], ...]
    by_client: str
    by_task: bool
    why: str


_NOTHING = "nothing"
_REPEATS = "repeats it, 5 tries in all, 1 to 30 s apart"

#: The first line that fits counts, so a subclass stands above its base.
RETRIES: tuple[Retry, ...] = (
    Retry(
        (errors.NetworkError, errors.ServerError),
        f"{_REPEATS}; before a job is created again, it looks whether it was",
        True,
        "the network, X or a gateway failed",
    ),
    Retry(
        (errors.RateLimitedError,),
        "waits for the reset by X's clock, `max_rate_limit_wait` (16 minutes) at most",
        True,
        "the limit resets; `XComplianceRetryPolicy` retries right after that",
    ),
    Retry((errors.IntegrityError,), _REPEATS, True, "bytes were lost or changed on the way"),
    Retry(
        (errors.DeadlineError,), _NOTHING, True, "it took too long; the next try goes on with the same job"
    ),
    Retry((errors.JobFailedError,), _NOTHING, True, "the next try creates another job"),
    Retry((errors.JobStateError,), _NOTHING, False, "the job is past that step, and never returns to it"),
    Retry((errors.JobConflictError,), _NOTHING, True, "the other job ends some time"),
    Retry(
        (InvalidEventsError, ForeignEventsError, MissingControlsError),
        _NOTHING,
        True,
        "the result is downloaded again, which costs no other job",
    ),
    Retry((errors.UrlExpiredError,), _NOTHING, False, "X never renews a URL; the job has to be created anew"),
    Retry((errors.UploadTooLargeError,), _NOTHING, False, "the file has to be split"),
    Retry((InvalidIdsError,), _NOTHING, False, "the file of ids has to be corrected"),
    Retry(
        (errors.AuthenticationError, errors.AccessDeniedError, errors.UsageCappedError),
        _NOTHING,
        False,
        "the connection, the App or its plan has to be changed",
    ),
    Retry((errors.UrlRefusedError,), _NOTHING, False, "the connection's `allowed_hosts` has to be looked at"),
    Retry((errors.CertificateError,), _NOTHING, False, "the connection's `ca_bundle` has to be looked at"),
    Retry(
        (errors.JobNotFoundError, errors.InvalidRequestError), _NOTHING, False, "X would say the same again"
    ),
    Retry((DestinationExistsError,), _NOTHING, False, "another file stands there, which may be somebody's"),
    Retry((AddressError,), _NOTHING, False, "the address has to be corrected, or a connection be set"),
    Retry((ChangedError,), "reads the file again, 3 times in all", True, "another writer is at work on it"),
    Retry((StorageError,), "what the store's library does", True, "the store or the disk failed"),
    Retry((MissingExtraError,), _NOTHING, False, "the extra that brings the library has to be installed"),
    Retry((ValueError,), _NOTHING, False, "an argument or the connection is wrong"),
)


def retry_of(error: BaseException) -> Retry | None:
    """Return the line of the table for an error; None for what is not in it."""
    return next((retry for retry in RETRIES if isinstance(error, retry.kinds)), None)


def is_final(error: BaseException) -> bool:
    """Whether another try of the task cannot succeed."""
    retry = retry_of(error)
    return retry is not None and not retry.by_task
