"""Everything that the stand-in holds, and what happens to a job by itself."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from pathlib import Path
from typing import Any

from airflow_provider_xcompliance.emulator import results, signatures, tokens
from airflow_provider_xcompliance.emulator.faults import FaultBoard
from airflow_provider_xcompliance.emulator.jobs import Job, JobStore
from airflow_provider_xcompliance.emulator.limits import RateLimits
from airflow_provider_xcompliance.emulator.settings import DOWNLOAD_WINDOW, UPLOAD_WINDOW, Clock, Settings
from airflow_provider_xcompliance.emulator.storage import Digests, Session, Sessions

SMALL = 1 << 20
"""Bytes; submissions up to this size are processed at once, so that the next read sees the result."""

LOGGED_REQUESTS = 10_000
"""The log holds this many, the latest."""

APP_ID = "1271358720990191616"
BUCKETS = {"tweets": "twttr-tweet-compliance", "users": "twttr-user-compliance"}


def object_path(job: Job, part: str) -> str:
    """Return the path of a job's object in the legacy flow.

    :param part: ``submission`` or ``results``.
    """
    return f"/{BUCKETS[job.type]}/{APP_ID}/{part}/{job.id}_{APP_ID}"


class State:
    """The stand-in, without HTTP.

    :param directory: where bodies and results are kept.
    :param events: records by id; None: decided by a hash.
    """

    def __init__(self, settings: Settings, directory: Path, events: results.Events | None = None) -> None:
        self.settings = settings
        self.directory = directory
        self.events = events
        self.clock = Clock()
        self.jobs = JobStore()
        self.limits = RateLimits(settings)
        self.sessions = Sessions()
        self.faults = FaultBoard(self.clock)
        self.log: deque[dict[str, Any]] = deque(maxlen=LOGGED_REQUESTS)
        self.token_key = secrets.token_bytes(32)
        self.closing = False
        self._computing: dict[str, asyncio.Task[None]] = {}

    def create(self, base_url: str, job_type: str, name: str | None, resumable: bool) -> Job:
        """Add a job, with the URLs that it keeps for life.

        :raises ConflictError: if one of its type is active.
        """
        job = self.jobs.create(job_type, self.settings.flow, self.clock.now(), name, resumable)
        address = self._signed_urls if job.flow == "legacy" else self._token_urls
        job.upload_url, job.download_url = address(base_url, job)
        return job

    def _token_urls(self, base_url: str, job: Job) -> tuple[str, str]:
        def url(operation: str, expires: int) -> str:
            token = tokens.issue(self.token_key, job.id, operation, expires)
            return f"{base_url}/2/compliance/jobs/{job.id}/{operation}?token={token}"

        return url("upload", job.upload_expires), url("download", job.download_expires)

    def _signed_urls(self, base_url: str, job: Job) -> tuple[str, str]:
        headers = {"content-type": "text/plain"}
        if job.resumable:
            headers |= {"content-length": "0", "x-goog-resumable": "start"}
        method = "POST" if job.resumable else "PUT"
        submission, result = object_path(job, "submission"), object_path(job, "results")
        return (
            signatures.sign_url(base_url, method, submission, headers, job.created, UPLOAD_WINDOW),
            signatures.sign_url(base_url, "GET", result, {}, job.created, DOWNLOAD_WINDOW),
        )

    def start_session(self, job: Job) -> Session:
        """Open a resumable upload; it outlives the window in which it was begun."""
        session = self.sessions.start(job.id, self.directory, self.clock.now())
        job.upload_deadline = session.expires
        return session

    def lose_sessions(self, job: Job) -> None:
        """Drop a job's resumable uploads, as if the service had lost them."""
        self.sessions.forget(job.id)
        job.upload_deadline = job.upload_expires

    def uploaded(self, job: Job, part: Path) -> None:
        """Take a whole upload for the submission of a job that waits for one."""
        job.submission = part.replace(self.directory / f"{job.id}.ids")
        job.status, job.due = "in_progress", self.clock.now() + self.settings.processing_seconds

    def settle(self) -> None:
        """Let every job that is due by now come to its end."""
        now = self.clock.now()
        for job in self.jobs.list(None, now, "in_progress"):
            if job.due is not None and now >= job.due and job.id not in self._computing:
                self._finish(job)

    def _finish(self, job: Job) -> None:
        if job.result is not None:
            job.status = "complete"
        elif job.submission is None or job.submission.stat().st_size <= SMALL:
            self._take_result(job, self._compute(job))
        else:
            self._computing[job.id] = asyncio.create_task(self._compute_aside(job))

    async def _compute_aside(self, job: Job) -> None:
        try:
            self._take_result(job, await asyncio.to_thread(self._compute, job))
        except results.StoppedError:
            pass
        finally:
            self._computing.pop(job.id, None)

    def _compute(self, job: Job) -> Path:
        settings = self.settings
        result = self.directory / f"{job.id}.result"
        rules = results.Rules(
            job.flow, job.type, seed=settings.seed, event_rate=settings.event_rate, events=self.events
        )
        results.compute(job.submission, result, rules, lambda: self.closing or job.status != "in_progress")
        return result

    def _take_result(self, job: Job, result: Path) -> None:
        if job.status == "in_progress":
            job.result, job.status = result, "complete"

    async def digests(self, job: Job, result: Path) -> Digests:
        """Return what is stated about a job's result, which is read once."""
        if job.digests is None:
            job.digests = await asyncio.to_thread(Digests.of, result)
        return job.digests

    def clear(self) -> None:
        """Forget all jobs, uploads, faults, requests and time travel."""
        for job in self.jobs.list(None, self.clock.now()):
            job.status = "failed"
            for path in self.directory.glob(f"{job.id}.*"):
                path.unlink(missing_ok=True)
        for part in (self.jobs, self.limits, self.sessions, self.faults, self.log):
            part.clear()
        self.clock.offset = 0.0
