"""Jobs and their states. Knows no HTTP and no files' content; time is handed in."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_provider_xcompliance.emulator.settings import DOWNLOAD_WINDOW, UPLOAD_WINDOW
from airflow_provider_xcompliance.emulator.storage import Digests

FIELDS = (
    "created_at",
    "download_expires_at",
    "download_url",
    "id",
    "name",
    "resumable",
    "status",
    "type",
    "upload_expires_at",
    "upload_url",
)
DEFAULT_FIELDS = {"legacy": FIELDS, "current": ("id", "name", "status", "type")}
STATUSES = ("created", "in_progress", "failed", "complete")
ACTIVE = ("created", "in_progress")

SNOWFLAKE_EPOCH_MS = 1_288_834_974_657


def stamp(seconds: int) -> str:
    """Return a moment as the API writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass
class Job:
    """One compliance job.

    :param created: seconds since the epoch.
    :param due: moment at which processing ends; None before the upload.
    :param submission: the uploaded file, once it is whole.
    :param result: the result, once it is computed.
    :param digests: of the result, once they were asked for.
    :param upload_deadline: moment at which it expires without an upload; an open resumable session moves it.
    """

    id: str
    type: str
    flow: str
    created: int
    name: str | None = None
    resumable: bool = False
    status: str = "created"
    error: str | None = None
    upload_url: str = ""
    download_url: str = ""
    due: float | None = None
    submission: Path | None = None
    result: Path | None = None
    digests: Digests | None = None
    upload_deadline: int = field(init=False)

    def __post_init__(self) -> None:
        self.upload_deadline = self.upload_expires

    @property
    def upload_expires(self) -> int:
        """Moment at which the upload URL lapses."""
        return self.created + UPLOAD_WINDOW

    @property
    def download_expires(self) -> int:
        """Moment at which the download URL lapses."""
        return self.created + DOWNLOAD_WINDOW

    def view(self, fields: tuple[str, ...]) -> dict[str, Any]:
        """Return the job as JSON, with the fields asked for that it has."""
        everything = {
            "id": self.id,
            "type": self.type,
            "name": self.name,
            "status": self.status,
            "resumable": self.resumable,
            "created_at": stamp(self.created),
            "upload_url": self.upload_url,
            "upload_expires_at": stamp(self.upload_expires),
            "download_url": self.download_url,
            "download_expires_at": stamp(self.download_expires),
        }
        shown = {key: value for key, value in everything.items() if key in fields and value is not None}
        return shown | ({"error": self.error} if self.error else {})


class ConflictError(Exception):
    """The move is not possible in the state that the job, or its type, is in."""


class JobStore:
    """All jobs, and the moves between their states."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._sequence = itertools.count()

    def create(self, job_type: str, flow: str, now: float, name: str | None, resumable: bool) -> Job:
        """Add a job.

        :raises ConflictError: if one of this type is active.
        """
        if any(job.status in ACTIVE for job in self.list(job_type, now)):
            raise ConflictError(f"There is already an active compliance job of type {job_type}.")
        number = ((int(now * 1000) - SNOWFLAKE_EPOCH_MS) << 22) + next(self._sequence)
        job = Job(str(number), job_type, flow, int(now), name, resumable)
        self._jobs[job.id] = job
        return job

    def get(self, job_id: str, now: float) -> Job | None:
        """Return a job in the state that it has by now."""
        job = self._jobs.get(job_id)
        if job and job.status == "created" and now >= job.upload_deadline:
            job.status = "expired"
        return job

    def list(self, job_type: str | None, now: float, status: str | None = None) -> list[Job]:
        """Return jobs, the newest first."""
        jobs = [self.get(job_id, now) for job_id in reversed(self._jobs)]
        return [
            job
            for job in jobs
            if job and job_type in (None, job.type) and (status is None or status == job.status)
        ]

    def clear(self) -> None:
        """Forget all jobs."""
        self._jobs.clear()
