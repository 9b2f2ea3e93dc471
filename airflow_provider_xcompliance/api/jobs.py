"""What a compliance job is, and what its status means."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from airflow_provider_xcompliance.api.errors import one_line

# A time that names no zone cannot be compared with any other.
Time = Annotated[datetime, msgspec.Meta(tz=True)]

JOB_TYPES = ("tweets", "users")

#: How long after a job's creation X keeps its results.
DOWNLOAD_WINDOW = timedelta(days=7)

#: Polling starts to stretch after this long, and never gets slower than _MAX_POLL_SECONDS.
_STEADY_POLL_SECONDS = 900.0
_MAX_POLL_SECONDS = 300.0


class JobStatus(StrEnum):
    """The statuses that X documents. A job may carry another one: that is never terminal."""

    CREATED = "created"
    IN_PROGRESS = "in_progress"
    COMPLETE = "complete"
    FAILED = "failed"
    EXPIRED = "expired"


_TERMINAL_STATUSES = frozenset({JobStatus.COMPLETE, JobStatus.FAILED, JobStatus.EXPIRED})


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """
    A batch compliance job as X described it at one moment.

    :param id: decimal digits
    :param type: ``tweets`` or ``users``
    :param status: one of :class:`JobStatus`, or a text that X has not documented
    :param name: the name given at creation, if any
    :param resumable: whether the upload URL begins a resumable session
    :param error: why the job failed, where X says it
    :param created_at: when the job was created
    :param upload_url: secret; where the ids go
    :param upload_expires_at: creation and 15 minutes
    :param download_url: secret; where the results are, once the job is complete
    :param download_expires_at: creation and 7 days
    :param observed_at: the server's own time when it gave this description
    """

    id: str
    type: str
    status: str
    name: str | None = None
    resumable: bool = False
    error: str | None = None
    created_at: Time | None = None
    upload_url: str | None = None
    upload_expires_at: Time | None = None
    download_url: str | None = None
    download_expires_at: Time | None = None
    observed_at: Time | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the job will not change any more."""
        return self.status in _TERMINAL_STATUSES

    @property
    def is_known(self) -> bool:
        """Whether X documents the status."""
        return self.status in tuple(JobStatus)

    @property
    def age_seconds(self) -> float:
        """How old the job was, by the server's clock, when it was described; 0 if X did not say."""
        if self.created_at is None or self.observed_at is None:
            return 0.0
        # X's clocks differ by a little, and the one in an answer's head is cut to whole seconds.
        return max(0.0, (self.observed_at - self.created_at).total_seconds())

    @property
    def has_results(self) -> bool:
        """Whether the job is complete, and its results can still be fetched."""
        return self.status == JobStatus.COMPLETE and not self.has_lapsed(self.download_expires_at)

    def has_lapsed(self, expires_at: datetime | None) -> bool:
        """Whether a time of this job is known to be over by the server's clock."""
        return expires_at is not None and self.observed_at is not None and self.observed_at >= expires_at

    def is_fresh(self, within: timedelta) -> bool:
        """Whether the job was created less than this before it was described, by the server's clock."""
        # An age that X does not tell is none to rely on.
        is_told = self.created_at is not None and self.observed_at is not None
        return is_told and self.age_seconds < within.total_seconds()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the two URLs: safe for XCom, logs and trigger events."""
        public = {key: value for key, value in msgspec.to_builtins(self).items() if not key.endswith("_url")}
        return {key: value for key, value in public.items() if value is not None}

    def __repr__(self) -> str:
        return f"Job({self.to_dict()!r})"


def require_job_id(job_id: str) -> str:
    """
    Return the id unchanged if it may stand in a URL or a path.

    :raises ValueError: if it is not 1 to 19 ASCII digits
    """
    if not isinstance(job_id, str) or not re.fullmatch(r"[0-9]{1,19}", job_id):
        raise ValueError(f"not a job id (1 to 19 digits): {str(job_id)[:40]!r}")
    return job_id


def require_job_type(job_type: str) -> str:
    """
    Return the type unchanged if X knows it.

    :raises ValueError: if it is neither ``tweets`` nor ``users``
    """
    if job_type not in JOB_TYPES:
        raise ValueError(f"job_type must be 'tweets' or 'users', not {str(job_type)[:40]!r}")
    return job_type


def explain_end(job: Job) -> str:
    """Say in one sentence how a job ended, or that it has not, and what to do if there are no results."""
    reason = f" ({one_line(job.error)})" if job.error else ""
    how: dict[str, str] = {
        JobStatus.COMPLETE: "is complete",
        JobStatus.FAILED: f"failed at X{reason}, or was cancelled; create a new job with the same ids",
        JobStatus.EXPIRED: "expired: no ids were uploaded within 15 minutes of its creation; "
        "create a new job and upload right after",
    }
    return f"job {job.id} ({job.type}) {how.get(job.status, f'has not ended: it is {one_line(job.status)}')}"


def poll_seconds(base_seconds: float, waited_seconds: float) -> float:
    """
    How long to wait before the next look at a job.

    :param base_seconds: the interval of the first 15 minutes
    :param waited_seconds: how long the job has been waited for
    :return: the base for 15 minutes, then in proportion to the wait, up to 5 minutes (or the base, if longer)
    """
    stretched = base_seconds * max(1.0, waited_seconds / _STEADY_POLL_SECONDS)
    return min(stretched, max(base_seconds, _MAX_POLL_SECONDS))
