"""
Where API, archive and storage meet, still without Airflow.

Up: a file of ids → a clean local spool → the job. Down: the job → a verified local spool → events at their
destination, and then a manifest beside them, which says that they are whole.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import msgspec

from airflow_provider_xcompliance import __version__, storage
from airflow_provider_xcompliance.api.client import DownloadedResult, XComplianceClient
from airflow_provider_xcompliance.api.errors import ServerError, UploadTooLargeError, one_line
from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.archive.events import EventCounts, read_events, require_submitted
from airflow_provider_xcompliance.archive.ids import MAX_ID_BYTES, IdReader, InvalidIdsError
from airflow_provider_xcompliance.archive.repetitions import drop_repeated
from airflow_provider_xcompliance.storage import Digest, StorageError

log = logging.getLogger(__name__)

_PROGRESS_SECONDS = 5.0
_BLOCK_BYTES = 1 << 20


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
    :raises StorageError: if the file cannot be read, or the local disk is full
    """
    with _spool_directory() as directory:
        path = _spool_file(directory, "ids")
        with storage.open_source(source, client, decompress=True) as file:
            reader = IdReader(file, storage.display(source))
            _write_ids(reader, path, _Progress(f"reading ids of {storage.display(source)}"))
        duplicates = drop_repeated(path)
        cleaned = dict(reader.cleaned) | ({"duplicates": duplicates} if duplicates else {})
        yield IdSpool(
            path,
            storage.display(source),
            reader.ids - duplicates,
            storage.digest_of(str(path)),
            _crc32c_of(path),
            cleaned,
        )


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
        job = _get_job(client, job_id)
        _require_fit(spool, client.upload_limit(job))
        log.info("uploading %s ids (%s bytes) to job %s", f"{spool.ids:,}", f"{spool.digest.bytes:,}", job.id)
        client.upload(job, spool.path, spool.crc32c, _Progress(f"uploading to job {job.id}"))
        log.info("job %s has its ids", job.id)
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
    :raises StorageError: before X hears of it, if nothing can land on the destination; or if the store fails
    :raises InvalidEventsError: if a line of them is no record
    :raises ForeignEventsError: if they are about other ids than the submitted ones
    :raises DestinationExistsError: if something else stands at the destination
    """
    storage.require_landable(destination)
    job = _get_job(client, job_id)
    with _spool_directory() as directory:
        spool = _spool_file(directory, "events")
        progress = _Progress(f"downloading the results of job {job.id}")
        result = client.download(job, spool, _with_room(directory, progress))
        counts = _count_events(spool, job)
        ids = _check_submitted(spool, job, submitted, submitted_client) if submitted else None
        digest = storage.digest_of(str(spool))
        created = storage.land(spool, digest, destination, destination_client, replace=replace)
        manifest = _manifest(job, result, digest, counts, ids) | {"destination": storage.display(destination)}
        manifest_uri = f"{destination}.manifest.json"
        _land_manifest(directory / "manifest", manifest, manifest_uri, destination_client)
    log.info("job %s: %s at %s", job.id, "landed" if created else "already there", manifest["destination"])
    log.info("job %s: %d events %s", job.id, manifest["events"], manifest["actions"])
    return manifest | {"manifest": storage.display(manifest_uri), "created": created}


def _get_job(client: XComplianceClient, job_id: str) -> Job:
    job = client.get_job(job_id)
    if job.id != job_id:
        # A cache's mistake; believed, the results of one job would pass for those of another.
        raise ServerError(
            f"get job {job_id}: X answered with another job ({one_line(job.id)}); try again later"
        )
    return job


def _require_fit(spool: IdSpool, limit: int) -> None:
    if spool.digest.bytes > limit:
        # Cut at the end of a line, a part may fall short of the limit by all of a line but its last byte.
        parts = -(-spool.digest.bytes // (limit - MAX_ID_BYTES))
        raise UploadTooLargeError(
            f"{spool.source}: {spool.digest.bytes:,} bytes of ids, but one job takes {limit:,}; split it at "
            f"ends of lines into at least {parts} parts (split -C {limit} does), and run a job for each"
        )


def _count_events(spool: Path, job: Job) -> dict[str, Any]:
    counts = EventCounts()
    with spool.open("rb") as file:
        for events in read_events(file, f"results of job {job.id}"):
            counts.add(events)
    if counts.unknown:
        log.warning(
            "job %s: X sent actions or reasons that this version does not know: %r", job.id, counts.unknown
        )
    return counts.to_dict()


def _check_submitted(events: Path, job: Job, submitted: str, client: Any) -> dict[str, Any]:
    with (
        spool_ids(submitted, client) as ids,
        events.open("rb") as file,
        ids.path.open("rb") as id_file,
    ):
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


def _write_ids(reader: IdReader, path: Path, progress: _Progress) -> None:
    try:
        with path.open("wb") as spool:
            for block in reader:
                spool.write(block)
                progress(spool.tell(), None)
    except InvalidIdsError as error:
        for line in error.lines:
            log.error(line)
        raise
    if suspicion := reader.suspicion():
        log.warning(suspicion)


def _crc32c_of(path: Path) -> int:
    crc32c = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            crc32c = google_crc32c.extend(crc32c, block)
    return crc32c


@contextmanager
def _spool_directory() -> Iterator[Path]:
    """Local scratch space that nobody else can read: in ``TMPDIR``, or where the system keeps such files."""
    try:
        with tempfile.TemporaryDirectory(prefix="xcompliance-") as directory:
            yield Path(directory)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(
            f"cannot spool in {tempfile.gettempdir()}: {reason}; free space there, or set TMPDIR"
        ) from None


def _with_room(directory: Path, progress: _Progress) -> Callable[[int, int | None], None]:
    """Give up a transfer whose rest will not fit into a directory, instead of filling the disk first."""

    def check(done: int, total: int | None) -> None:
        free = shutil.disk_usage(directory).free
        if total and total - done > free:
            raise StorageError(
                f"{total:,} bytes do not fit into {tempfile.gettempdir()}, which has {free:,} left; free "
                "space there, or set TMPDIR"
            )
        progress(done, total)

    return check


def _spool_file(directory: Path, name: str) -> Path:
    path = directory / name
    path.touch(mode=0o600, exist_ok=False)
    return path


class _Progress:
    """
    Log how far a transfer is, every few seconds.

    :param clock: tells seconds
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._started = self._logged = clock()

    def __call__(self, done: int, total: int | None) -> None:
        now = self._clock()
        if now - self._logged < _PROGRESS_SECONDS:
            return
        self._logged = now
        share = f" of {total:,} ({100 * done // total} %)" if total else ""
        rate = done / (now - self._started) / 1e6
        log.info("%s: %s%s bytes, %.1f MB/s", self._what, f"{done:,}", share, rate)
