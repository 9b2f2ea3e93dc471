"""
Where API, archive and storage meet, still without Airflow.

Up: a file of ids → a clean local spool → the job. Down: the job → a verified local spool → events at their
destination, and then a manifest beside them, which says that they are whole.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import msgspec

from airflow_provider_xcompliance import __version__, storage
from airflow_provider_xcompliance.api.client import DownloadedResult, XComplianceClient
from airflow_provider_xcompliance.api.errors import UploadTooLargeError
from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.archive.events import EventCounts, read_events, require_submitted
from airflow_provider_xcompliance.archive.ids import IdReader, InvalidIdsError
from airflow_provider_xcompliance.storage import Digest

log = logging.getLogger(__name__)

_PROGRESS_SECONDS = 5.0


@dataclass(frozen=True)
class IdSpool:
    """
    A clean local copy of a file of ids.

    :param source: where the ids came from, fit to be shown
    :param ids: how many there are
    :param cleaned: how often what was left out
    """

    path: Path
    source: str
    ids: int
    digest: Digest
    crc32c: int
    cleaned: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return what receipts and manifests say about the ids."""
        return {
            "source": self.source,
            "ids": self.ids,
            "bytes": self.digest.bytes,
            "sha256": self.digest.sha256,
        }


@contextmanager
def spool_ids(source: str, client: Any = None) -> Iterator[IdSpool]:
    """
    Validate and clean a file of ids into a local file that lives as long as the context.

    :param source: URI or path; compressed if its name says so
    :param client: of the store that holds it
    :raises InvalidIdsError: if a line is no id, or there is none; the text names file and line
    """
    name = storage.display(source)
    with _spool_directory() as directory, storage.open_source(source, client, decompress=True) as file:
        reader = IdReader(file, name)
        path = directory / "ids"
        sha256, crc32c, progress = hashlib.sha256(), 0, _Progress(f"reading ids of {name}")
        try:
            with path.open("xb") as spool:
                for block in reader:
                    spool.write(block)
                    sha256.update(block)
                    crc32c = google_crc32c.extend(crc32c, block)
                    progress(spool.tell(), None)
        except InvalidIdsError as error:
            for line in error.lines:
                log.error(line)
            raise
        digest = Digest(path.stat().st_size, sha256.hexdigest())
        yield IdSpool(path, name, reader.ids, digest, crc32c, dict(reader.cleaned))


def upload(client: XComplianceClient, job_id: str, source: str, source_client: Any = None) -> dict[str, Any]:
    """
    Send a file of ids to a job that was created for it.

    :param source: URI or path of the file
    :param source_client: of the store that holds it
    :return: the receipt: job, source, number of ids, bytes, digests, what was cleaned away
    :raises InvalidIdsError: before X hears of it, if the file is not good
    :raises UploadTooLargeError: if it does not fit into one job
    """
    with spool_ids(source, source_client) as spool:
        job = client.get_job(job_id)
        _require_fit(spool, client.upload_limit(job))
        log.info("uploading %s ids (%s bytes) to job %s", f"{spool.ids:,}", f"{spool.digest.bytes:,}", job.id)
        client.upload(job, spool.path, spool.crc32c, _Progress(f"uploading to job {job.id}"))
        return {
            "job_id": job.id,
            "job_type": job.type,
            **spool.to_dict(),
            "crc32c": f"{spool.crc32c:08x}",
            "cleaned": spool.cleaned,
        }


def download(
    client: XComplianceClient,
    job_id: str,
    destination: str,
    destination_client: Any = None,
    *,
    submitted: str | None = None,
    submitted_client: Any = None,
    replace: bool = False,
) -> dict[str, Any]:
    """
    Fetch the results of a complete job, verify them, and land them with their manifest.

    :param destination: URI or path of the events; the manifest is ``<destination>.manifest.json``
    :param destination_client: of the store that it is on
    :param submitted: URI or path of the ids that the job was given: no other id may occur in its results
    :param submitted_client: of the store that holds them
    :param replace: whether another file at the destination may be replaced
    :return: the receipt: what the manifest says, where it is, and whether the events were new
    :raises IntegrityError: if the results stay incomplete or corrupt
    :raises InvalidEventsError: if a line of them is no record
    :raises ForeignEventsError: if they are about other ids than the submitted ones
    :raises DestinationExistsError: if something else stands at the destination
    """
    job = client.get_job(job_id)
    with _spool_directory() as directory:
        spool = directory / "events"
        spool.touch(mode=0o600)
        result = client.download(job, spool, _Progress(f"downloading the results of job {job.id}"))
        counts = _count_events(spool, job)
        ids = _check_submitted(spool, job, submitted, submitted_client) if submitted else None
        digest = storage.digest_of(str(spool))
        created = storage.land(spool, digest, destination, destination_client, replace=replace)
        manifest = _manifest(job, result, digest, counts, ids) | {"destination": storage.display(destination)}
        manifest_uri = f"{destination}.manifest.json"
        _land_manifest(directory / "manifest", manifest, manifest_uri, destination_client)
    log.info("job %s: %s events landed at %s", job.id, f"{manifest['events']:,}", manifest["destination"])
    return manifest | {"manifest": storage.display(manifest_uri), "created": created}


def _require_fit(spool: IdSpool, limit: int) -> None:
    if spool.digest.bytes > limit:
        parts = -(-spool.digest.bytes // limit)
        raise UploadTooLargeError(
            f"{spool.source}: {spool.digest.bytes:,} bytes of ids, but one job takes {limit:,}; split it "
            f"into at least {parts} parts, and run a job for each"
        )


def _count_events(spool: Path, job: Job) -> dict[str, Any]:
    counts = EventCounts()
    with spool.open("rb") as file:
        for events in read_events(file, f"results of job {job.id}"):
            counts.add(events)
    if counts.unknown:
        log.warning(
            "job %s: X sent actions or reasons that this version does not know: %s",
            job.id,
            ", ".join(counts.unknown),
        )
    return counts.to_dict()


def _check_submitted(events: Path, job: Job, submitted: str, client: Any) -> dict[str, Any]:
    with spool_ids(submitted, client) as ids, events.open("rb") as file, ids.path.open("rb") as id_file:
        require_submitted(file, id_file, f"results of job {job.id}")
        return ids.to_dict()


def _manifest(
    job: Job, result: DownloadedResult, digest: Digest, counts: dict[str, Any], ids: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "job_type": job.type,
        "job_name": job.name,
        "job_created_at": job.created_at.isoformat() if job.created_at else None,
        "bytes": digest.bytes,
        "sha256": digest.sha256,
        "crc32c": f"{result.crc32c:08x}",
        "unverified_length": result.unverified_length,
        **counts,
        "submitted": ids,
        "provider_version": __version__,
    }


def _land_manifest(spool: Path, manifest: dict[str, Any], uri: str, client: Any) -> None:
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    spool.write_bytes(content)
    digest = Digest(len(content), hashlib.sha256(content).hexdigest())
    storage.land(spool, digest, uri, client, replace=True)


@contextmanager
def _spool_directory() -> Iterator[Path]:
    """Local scratch space that nobody else can read: in ``TMPDIR``, or where the system keeps such files."""
    with tempfile.TemporaryDirectory(prefix="xcompliance-") as directory:
        yield Path(directory)


class _Progress:
    """Log how far a transfer is, every few seconds."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = self._logged = time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._logged < _PROGRESS_SECONDS:
            return
        self._logged = now
        share = f" of {total:,} ({100 * done // total} %)" if total else ""
        rate = done / (now - self._started) / 1e6
        log.info("%s: %s%s bytes, %.1f MB/s", self._what, f"{done:,}", share, rate)
