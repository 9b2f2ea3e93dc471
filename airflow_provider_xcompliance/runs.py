"""
Whole jobs, one after another, still without Airflow: each file of ids through a job of its own to its events.

Nothing is remembered between two calls but what X and the destinations hold, so whoever runs this may be
killed at any instant and begin anew.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from airflow_provider_xcompliance import storage, transfer
from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import (
    JobConflictError,
    JobFailedError,
    JobNotFoundError,
    UploadTooLargeError,
    UrlExpiredError,
    XComplianceError,
)
from airflow_provider_xcompliance.api.jobs import Job, JobStatus, explain_end, require_job_type
from airflow_provider_xcompliance.api.ownership import Step
from airflow_provider_xcompliance.documents import find_json, manifest_uri
from airflow_provider_xcompliance.storage import Digest, StorageError
from airflow_provider_xcompliance.transfer import IdSpool

log = logging.getLogger(__name__)

# The first one, and another if the time for its upload lapsed.
_MAX_JOBS = 2


class Part(NamedTuple):
    """
    One file of ids, and where its events go.

    :param source: URI or path
    :param destination: URI or path
    """

    source: str
    destination: str


class Waiting(NamedTuple):
    """
    A job whose end has to be waited for.

    :param for_result: whether its result comes next; else it only is in the way
    :param is_own: whether it is this task's own; one in the way is so if its upload window is nearly over
    """

    job: Job
    for_result: bool
    is_own: bool = True


def parts_of(source: str | Sequence[str], destination: str) -> list[Part]:
    """
    Pair sources and destinations.

    :param source: one file, or a list
    :param destination: of the one file's events; for a list a folder, in which they are numbered in its order
    :raises ValueError: if there is no source, or if one is no text
    """
    if isinstance(source, str):
        return [Part(source, destination)]
    if not source:
        raise ValueError("source: the list holds no file of ids")
    if wrong := [uri for uri in source if not isinstance(uri, str)]:
        raise ValueError(f"source: not a URI or path: {str(wrong[0])[:40]!r}; give one list of them")
    folder = destination.rstrip("/")
    return [Part(uri, f"{folder}/part-{number:04}.ndjson") for number, uri in enumerate(source, start=1)]


@dataclass
class JobRun:
    """
    Take each part from its ids to its landed events.

    :param name_of: gives the name of the job for the ids with a sha256
    :param reuse_within: how old results may be, by X's clock, to count as this run's
    :param control_ids: ids that are known to be gone, sent with each part: they must come back
    :param allow_rounded: whether to take ids that look as if a program had rounded all of them
    :param replace: whether other events at a destination may be replaced
    :param part: index of the part that is next
    :param receipts: of the parts that have landed
    :param job: the own job of the part that is next, once there is one
    """

    client: XComplianceClient
    job_type: str
    parts: Sequence[Part]
    name_of: Callable[[str], str]
    reuse_within: timedelta
    source_client: Any = None
    destination_client: Any = None
    control_ids: Sequence[str] = ()
    resumable: bool | None = None
    allow_rounded: bool = False
    replace: bool = True
    part: int = 0
    receipts: list[dict[str, Any]] = field(default_factory=list)
    job: Job | None = None

    def validate(self) -> None:
        """
        Look for all that can be seen to be wrong before X hears of it.

        :raises ValueError: if an argument is
        :raises InvalidIdsError: if a file of ids is
        :raises StorageError: if a file cannot be read, or nothing can land on a destination
        """
        require_job_type(self.job_type)
        transfer.require_control_ids(self.control_ids)
        for part in self.parts:
            storage.require_landable(part.destination)
        # The first of them is read anyway before anything else is done.
        for part in self.parts[1:]:
            with self._spool(part):
                pass

    def resume(self, part: int) -> None:
        """Go on at a part, or at the first one before it that has not landed: the list may be another now."""
        for each in self.parts[:part]:
            manifest = self._manifest(each)
            if manifest is None or _submitted(manifest).get("source") != storage.display(each.source):
                break
            self.receipts.append(transfer.receipt_of(manifest, each.destination, created=True))
        self.part = len(self.receipts)

    def advance(self, waited_for: str | None = None) -> Waiting | None:
        """
        Do all that can be done without waiting.

        :param waited_for: id of the own job that was waited for: if complete, it is the answer, however old
        :return: what to wait for; None when all parts have landed
        :raises JobFailedError: if the time for an upload lapsed twice; the next run begins another job
        """
        while self.part < len(self.parts):
            if waiting := self._advance(self.parts[self.part], waited_for):
                return waiting
            self.part, waited_for = self.part + 1, None
        return None

    def _advance(self, part: Part, waited_for: str | None) -> Waiting | None:
        with self._spool(part) as ids:
            if receipt := self._landed(part, ids):
                log.info("%s: landed already, by job %s", receipt["destination"], receipt["job_id"])
                self.receipts.append(receipt)
                return None
            name = self.name_of(ids.digest.sha256)
            for _ in range(_MAX_JOBS):
                step, job = self._claim(name, waited_for)
                if step is Step.WAIT:
                    return Waiting(job, for_result=False, is_own=job.name == name)
                if job.status == JobStatus.COMPLETE:
                    self.receipts.append(self._land(job, part, ids))
                    return None
                if job.status != JobStatus.CREATED or self._send(job, ids):
                    return Waiting(job, for_result=True)
        raise JobFailedError(f"{ids.source}: the 15 minutes for the upload lapsed {_MAX_JOBS} times in a row")

    def _claim(self, name: str, waited_for: str | None) -> tuple[Step, Job]:
        if waited_for:
            # Not looked for in the list: nobody knows how far back that goes.
            job = self.client.get_job(waited_for)
            if job.name == name and job.has_results:
                return Step.ADOPT, job
        step, job = self.client.claim_job(
            self.job_type, name, reuse_within=self.reuse_within, resumable=self.resumable
        )
        if step is Step.ADOPT:
            self.job = job
            # A list need not hold the URLs.
            job = job if job.upload_url and job.download_url else self.client.get_job(job.id)
        return step, job

    def _send(self, job: Job, ids: IdSpool) -> bool:
        """Send the ids; False if the time for it was over."""
        try:
            transfer.send(self.client, job, ids)
        except UrlExpiredError as error:
            log.warning("%s; now another job is created", error)
            return False
        except UploadTooLargeError:
            with contextlib.suppress(XComplianceError):
                self.client.cancel_job(job.id)
            raise
        except JobConflictError:
            now = self.client.get_job(job.id)
            if now.status == JobStatus.CREATED:
                raise
            if now.status in (JobStatus.FAILED, JobStatus.EXPIRED):
                raise JobFailedError(explain_end(now)) from None
            # Its name holds the digest of these ids, so nobody can have given it others.
            log.info("job %s has its ids already", job.id)
        return True

    def _land(self, job: Job, part: Part, ids: IdSpool) -> dict[str, Any]:
        return transfer.land_results(
            self.client,
            job,
            self.job_type,
            part.destination,
            self.destination_client,
            ids=ids,
            control_ids=self.control_ids,
            replace=self.replace,
        )

    def _landed(self, part: Part, ids: IdSpool) -> dict[str, Any] | None:
        """Return the receipt of events that have landed whole, are about these ids, and are fresh enough."""
        manifest = self._manifest(part)
        if not manifest or _submitted(manifest).get("sha256") != ids.digest.sha256:
            return None
        if not self._is_fresh(manifest):
            return None
        with contextlib.suppress(StorageError):
            if storage.digest_of(part.destination, self.destination_client) == Digest(
                manifest.get("bytes", 0), manifest.get("sha256", "")
            ):
                return transfer.receipt_of(manifest, part.destination, created=False)
        return None

    def _manifest(self, part: Part) -> dict[str, Any] | None:
        """Return the manifest of events that landed for a job like those of this run."""
        manifest = find_json(manifest_uri(part.destination), self.destination_client)
        is_alike = manifest.get("job_type") == self.job_type and manifest.get("control_ids") == list(
            self.control_ids
        )
        return manifest if is_alike else None

    def _is_fresh(self, manifest: dict[str, Any]) -> bool:
        # X is asked, because its clock and this machine's need not agree.
        try:
            job = self.client.get_job(str(manifest.get("job_id")))
        except (JobNotFoundError, ValueError):
            return False
        return job.is_fresh(self.reuse_within)

    def _spool(self, part: Part) -> AbstractContextManager[IdSpool]:
        return transfer.spool_ids(
            part.source,
            self.source_client,
            control_ids=self.control_ids,
            allow_rounded=self.allow_rounded,
        )


def _submitted(manifest: dict[str, Any]) -> dict[str, Any]:
    submitted = manifest.get("submitted")
    return submitted if isinstance(submitted, dict) else {}
