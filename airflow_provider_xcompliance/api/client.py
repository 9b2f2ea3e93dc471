"""X's batch compliance endpoints as calls that wait out what passes and fail clearly on what does not."""

from __future__ import annotations

import base64
import hashlib
import logging
import random
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

import google_crc32c
import msgspec

from airflow_provider_xcompliance.api import endpoints, uploads
from airflow_provider_xcompliance.api.downloads import Download
from airflow_provider_xcompliance.api.errors import (
    TRANSIENT_ERRORS,
    AccessDeniedError,
    DeadlineError,
    IntegrityError,
    InvalidRequestError,
    JobConflictError,
    JobStateError,
    NetworkError,
    RateLimitedError,
    ServerError,
    XComplianceError,
    one_line,
)
from airflow_provider_xcompliance.api.jobs import Job, JobStatus, explain_end
from airflow_provider_xcompliance.api.messages import FileSlice, Request, Response
from airflow_provider_xcompliance.api.ownership import Decision, Step, decide
from airflow_provider_xcompliance.api.transport import Progress, Transport
from airflow_provider_xcompliance.api.urls import Flow, UrlPolicy

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How often a request that failed for a passing reason is sent in all.
MAX_TRIES = 5
_MAX_BACKOFF_SECONDS = 30.0

#: X's window is 15 minutes; with this no wait for a reset is cut off.
DEFAULT_MAX_RATE_LIMIT_WAIT = 960.0

# A cancellation, a creation and a refusal, each followed by a look at the list, and some to spare.
_MAX_CLAIM_ROUNDS = 5

# What the legacy flow says to a second active job is not documented.
_REFUSALS_OF_CREATION = (JobConflictError, InvalidRequestError, AccessDeniedError)

#: A server that takes or sends a few bytes now and then would keep a transfer going for ever.
DEFAULT_MAX_TRANSFER_SECONDS = 6 * 3600.0

# X's window; only a resumable upload may go on after it.
_UPLOAD_WINDOW_SECONDS = 900.0


class DownloadedResult(msgspec.Struct, frozen=True):
    """
    What is known about the bytes of a result.

    :param unverified_length: True where no length, framing or checksum could show that the end is missing
    """

    bytes: int
    crc32c: int
    unverified_length: bool


class XComplianceClient:
    """
    The batch compliance endpoints.

    :param upload_content_type: of the PUT in the current flow
    :param max_rate_limit_wait: the most seconds to sleep for one reset of a rate limit; longer ones raise
    :param max_tries: how often a request that fails for a passing reason is sent in all
    :param max_transfer_seconds: the most that one download, or one upload that can be resumed, may take,
        pauses and repetitions included; other uploads have X's 15 minutes
    :param sleep: waits that many seconds
    :param clock: tells seconds that only grow
    """

    def __init__(
        self,
        transport: Transport,
        policy: UrlPolicy,
        *,
        upload_content_type: str = "text/plain",
        max_rate_limit_wait: float = DEFAULT_MAX_RATE_LIMIT_WAIT,
        max_tries: int = MAX_TRIES,
        max_transfer_seconds: float = DEFAULT_MAX_TRANSFER_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._policy = policy
        self._upload_content_type = upload_content_type
        self._max_rate_limit_wait = max_rate_limit_wait
        self._max_tries = max_tries
        self._max_transfer_seconds = max_transfer_seconds
        self._sleep = sleep
        self._clock = clock

    def create_job(self, job_type: str, name: str | None = None, resumable: bool | None = None) -> Job:
        """
        Create a job. It is paid for, and its upload window of 15 minutes begins now.

        :raises JobConflictError: if a job of the type is active
        :raises NetworkError: if ``delivered`` is set, the job may exist: list before creating another
        :raises ServerError: the job may exist
        """
        request = endpoints.prepare_create(self._policy.base_url, job_type, name, resumable)
        return self._call(request, endpoints.digest_job)

    def claim_job(
        self,
        job_type: str,
        name: str,
        *,
        reuse_within: timedelta | None,
        resumable: bool | None = None,
    ) -> tuple[Step, Job]:
        """
        Come by the one job of a name: go on with it, or create it where there is none.

        Before each creation X is asked what there is, so an answer that was lost costs no second job.

        :param reuse_within: see :func:`.ownership.decide`
        :return: the job, and whether to adopt it or to wait for its end, because it is in the way
        :raises JobConflictError: if X refuses because of a job that it does not list
        """
        steps = partial(decide, name=name, reuse_within=reuse_within)
        listing = endpoints.prepare_list(self._policy.base_url, job_type, None)
        creation = endpoints.prepare_create(self._policy.base_url, job_type, name, resumable)
        # Each try begins with the list, so that a creation whose answer was lost is found.
        return self._repeating(lambda: self._claim(steps, listing, creation))

    def get_job(self, job_id: str) -> Job:
        """
        Look at one job.

        :raises JobNotFoundError: if this App has no such job
        :raises ServerError: if X answers with another one
        """
        return self._call(endpoints.prepare_get(self._policy.base_url, job_id), partial(_digest_this, job_id))

    def list_jobs(self, job_type: str, status: str | None = None) -> list[Job]:
        """Look at the jobs of a type; X does not say how far back it lists."""
        request = endpoints.prepare_list(self._policy.base_url, job_type, status)
        return self._call(request, endpoints.digest_list)

    def cancel_job(self, job_id: str) -> Job:
        """
        Cancel a job of the current flow; it becomes ``failed``, and may have been so before.

        :raises InvalidRequestError: if X cannot, as for every job of the legacy flow
        :raises JobConflictError: if the job is complete, or expired
        """
        request = endpoints.prepare_cancel(self._policy.base_url, job_id)
        try:
            return self._call(request, endpoints.digest_cancel)
        except JobConflictError:
            # So it is if an earlier try did cancel it, and only its answer was lost.
            job = self.get_job(job_id)
            if job.status != JobStatus.FAILED:
                raise
            return job

    def upload(self, job: Job, path: Path, crc32c: int, progress: Progress | None = None) -> None:
        """
        Send a file of ids to a job that waits for them.

        :param path: a local file of at most :meth:`upload_limit` bytes
        :param crc32c: of the whole file
        :param progress: told how many bytes of the file have been read for sending
        :raises JobConflictError: if the job does not wait for ids
        :raises UrlExpiredError: if its 15 minutes are over
        """
        flow = self._upload_flow(job)
        _require_open(job)
        size = path.stat().st_size
        if flow is Flow.LEGACY and job.resumable:
            session = uploads.ResumableUpload(job, path, size, crc32c)
            left = self._countdown(self._max_transfer_seconds, self._too_slow(f"upload to job {job.id}"))
            self._deliver(
                job,
                lambda: self._send_rest(session, left, progress),
                # A session that is open can be asked itself.
                job_must_tell=lambda: not session.is_open,
                mark=lambda: session.stored,
            )
        else:
            content_md5 = _md5_of(path) if flow is Flow.LEGACY else ""
            request = uploads.prepare_put(
                job, flow, FileSlice(path, 0, size), self._upload_content_type, content_md5
            )
            left = self._countdown(_UPLOAD_WINDOW_SECONDS, uploads.window_is_over(job))

            def put() -> None:
                answer = self._transport.send(request, progress, within=left())
                uploads.digest_put(answer, job, flow, crc32c)

            self._deliver(job, put)

    def upload_limit(self, job: Job) -> int:
        """Return the most bytes that a job's upload may hold: see :class:`.urls.Flow`."""
        return self._upload_flow(job).value

    def download(self, job: Job, path: Path, progress: Progress | None = None) -> DownloadedResult:
        """
        Fetch the results of a complete job into a local file, and check that all of them arrived.

        :param path: an existing file; its content is replaced
        :param progress: told how many bytes of the result have arrived, and how many there will be, if known
        :raises JobConflictError: if the job is not complete
        :raises UrlExpiredError: if the 7 days are over
        :raises IntegrityError: if what arrives stays incomplete or corrupt
        :raises DeadlineError: if it takes too long
        """
        if job.status != JobStatus.COMPLETE:
            if job.is_terminal:
                raise JobStateError(explain_end(job))
            raise JobConflictError(
                f"job {job.id} is {job.status}: there are no results yet; wait until it is complete"
            )
        url = _require_url(job, job.download_url, "download")
        download = Download(job, self._policy.flow(url, job))
        left = self._countdown(self._max_transfer_seconds, self._too_slow(download.what))
        with path.open("r+b") as file:
            spool = _Spool(file)
            is_proven = self._repeating(
                lambda: self._fetch(download, spool, left, progress), mark=lambda: spool.received
            )
        return DownloadedResult(spool.received, spool.crc32c, unverified_length=not is_proven)

    def _claim(self, steps: Callable[..., Decision], listing: Request, creation: Request) -> tuple[Step, Job]:
        refusal: XComplianceError | None = None
        for _ in range(_MAX_CLAIM_ROUNDS):
            jobs = self._once(listing, endpoints.digest_list)
            step, job = steps(jobs, refused=refusal is not None)
            if job is None:
                if refusal:
                    raise refusal
                try:
                    created = self._once(creation, endpoints.digest_job)
                except _REFUSALS_OF_CREATION as error:
                    refusal = error
                else:
                    log.info("created job %s (%s) under the name %r", created.id, created.type, created.name)
                    return Step.ADOPT, created
            elif step is Step.CANCEL:
                if not self._make_way(job):
                    return Step.WAIT, job
                # What X refused to create another job beside may have been this one.
                refusal = None
            else:
                log.info("found job %s (%r), which is %s: %s", job.id, job.name, job.status, step.value)
                return step, job
        raise JobConflictError(f"{creation.what}: X's list of jobs keeps changing; try again later")

    def _make_way(self, job: Job) -> bool:
        """Cancel an own job whose window is nearly over; False if it must run out, as in the legacy flow."""
        log.warning("job %s: too little is left of the 15 minutes for its upload; it is cancelled", job.id)
        try:
            self.cancel_job(job.id)
        except JobConflictError:
            log.info("job %s has ended by itself", job.id)
        except InvalidRequestError as error:
            log.warning("%s", error)
            return False
        return True

    def _upload_flow(self, job: Job) -> Flow:
        return self._policy.flow(_require_url(job, job.upload_url, "upload"), job)

    def _call(self, request: Request, digest: Callable[[Response, str], T]) -> T:
        return self._repeating(lambda: self._once(request, digest), repeatable=request.repeatable)

    def _once(self, request: Request, digest: Callable[[Response, str], T]) -> T:
        return digest(self._transport.send(request), request.what)

    def _countdown(self, seconds: float, over: XComplianceError) -> Callable[[], float]:
        """Return what tells how many seconds are left from now on, and raises the error once none are."""
        end = self._clock() + seconds

        def left() -> float:
            if (seconds_left := end - self._clock()) <= 0:
                raise over
            return seconds_left

        return left

    def _too_slow(self, what: str) -> DeadlineError:
        return DeadlineError(f"{what}: not done within {self._max_transfer_seconds / 3600:.1f} hours")

    def _repeating(
        self, action: Callable[[], T], *, repeatable: bool = True, mark: Callable[[], int] = lambda: 0
    ) -> T:
        """Do it again after what passes; a try that came further than all before it begins the count anew."""
        tries, furthest = 0, mark()
        while True:
            try:
                return action()
            except XComplianceError as error:
                tries = 1 if mark() > furthest else tries + 1
                furthest = max(furthest, mark())
                wait = retry_wait(error, tries, self._max_rate_limit_wait, repeatable=repeatable)
                if wait is None or tries >= self._max_tries:
                    raise
                log.warning("%s; trying again in %.0f s", error, wait)
            self._sleep(wait)

    def _deliver(
        self,
        job: Job,
        send: Callable[[], None],
        *,
        job_must_tell: Callable[[], bool] = lambda: True,
        mark: Callable[[], int] = lambda: 0,
    ) -> None:
        """Send ids until they have arrived; if the answer that says so may be lost, look at the job."""
        in_doubt = False

        def attempt() -> None:
            nonlocal in_doubt
            try:
                send()
            except IntegrityError:
                raise
            except XComplianceError as error:
                in_doubt |= isinstance(error, ServerError) or (
                    isinstance(error, NetworkError) and error.delivered
                )
                if not (in_doubt and job_must_tell() and self._has_ids(job)):
                    raise

        self._repeating(attempt, mark=mark)

    def _send_rest(
        self, session: uploads.ResumableUpload, left: Callable[[], float], progress: Progress | None
    ) -> None:
        while not session.finished:
            try:
                session.digest(self._transport.send(session.next_request(), progress, within=left()))
            except XComplianceError:
                session.doubt()
                raise

    def _has_ids(self, job: Job) -> bool:
        """Whether a job has its ids, although no answer said so."""
        now = self.get_job(job.id)
        if now.status in (JobStatus.IN_PROGRESS, JobStatus.COMPLETE):
            return True
        _require_open(now)
        return False

    def _fetch(
        self, download: Download, spool: _Spool, left: Callable[[], float], progress: Progress | None
    ) -> bool:
        with self._transport.stream(download.next_request(), within=left()) as (head, blocks):
            download.begin(head)
            spool.keep(download.offset)
            try:
                for block in blocks:
                    spool.write(block)
                    if progress:
                        progress(spool.received, download.total)
                    left()
            except NetworkError:
                download.interrupted(spool.received)
                raise
        try:
            return download.finish(spool.received, spool.crc32c)
        except IntegrityError:
            download.restart()
            raise


class _Spool:
    """The local file that a download fills, with the length and the checksum of what it holds."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.received = 0
        self.crc32c = 0

    def keep(self, offset: int) -> None:
        """Go on after what is there, or throw it away: a download continues where it broke, or from 0."""
        if offset == 0:
            self.received = self.crc32c = 0
        self._file.seek(self.received)
        self._file.truncate()

    def write(self, block: bytes) -> None:
        self._file.write(block)
        self.crc32c = google_crc32c.extend(self.crc32c, block)
        self.received += len(block)


def reset_wait(seconds: float) -> float:
    """
    How long to wait for a reset, so that not everybody who waits for it comes back at once.

    :param seconds: until the reset; as the server's Date is cut to whole ones, it is a little less
    """
    return seconds * random.uniform(1.0, 1.05)  # noqa: S311 - jitter, no secret


def retry_wait(
    error: XComplianceError, tries: int, max_rate_limit_wait: float, *, repeatable: bool = True
) -> float | None:
    """
    How long to wait before a request is sent again, in seconds; None if it is not to be.

    :param tries: how often it failed
    :param max_rate_limit_wait: the longest wait for the reset of a rate limit
    :param repeatable: whether the request does no harm if it arrives twice
    """
    backoff = random.uniform(0.5, 1.0) * min(2.0**tries, _MAX_BACKOFF_SECONDS)  # noqa: S311 - jitter, no secret
    if isinstance(error, RateLimitedError):
        # Refused before anything was done, so even a POST may be repeated.
        wait = error.wait_seconds or backoff
        return min(reset_wait(wait), max_rate_limit_wait) if wait <= max_rate_limit_wait else None
    never_arrived = isinstance(error, NetworkError) and not error.delivered
    return backoff if isinstance(error, TRANSIENT_ERRORS) and (repeatable or never_arrived) else None


def _digest_this(job_id: str, response: Response, what: str) -> Job:
    job = endpoints.digest_job(response, what)
    if job.id != job_id:
        # A cache's mistake; believed, the results of one job would pass for those of another.
        raise ServerError(f"{what}: X answered with another job ({one_line(job.id)}); try again later")
    return job


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return base64.b64encode(digest.digest()).decode()


def _require_url(job: Job, url: str | None, operation: str) -> str:
    if not url:
        raise ServerError(f"X gave no {operation} URL for job {job.id}")
    return url


def _require_open(job: Job) -> None:
    if job.status == JobStatus.EXPIRED or job.has_lapsed(job.upload_expires_at):
        raise uploads.window_is_over(job)
    if job.status == JobStatus.FAILED:
        raise JobStateError(explain_end(job))
    if job.status != JobStatus.CREATED:
        raise JobStateError(f"job {job.id} is {job.status}: it has its ids already and takes no others")
