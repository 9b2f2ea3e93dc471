"""
Where API, archive and storage meet, still without Airflow.

Up: a file of ids → a clean local spool → the job. Down: the job → a verified local spool → events at their
destination, and then a manifest beside them, which says that they are whole.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_xcompliance import __version__, storage
from airflow_provider_xcompliance.api.client import DownloadedResult, XComplianceClient
from airflow_provider_xcompliance.api.errors import (
    JobStateError,
    ServerError,
    UploadTooLargeError,
    one_line,
)
from airflow_provider_xcompliance.api.jobs import Job, JobStatus
from airflow_provider_xcompliance.archive.events import (
    InvalidEventsError,
    count_events,
    require_controls,
    require_submitted,
)
from airflow_provider_xcompliance.archive.ids import MAX_ID_BYTES, IdReader, InvalidIdsError, is_id
from airflow_provider_xcompliance.archive.lines import line_blocks
from airflow_provider_xcompliance.archive.repetitions import drop_repeated
from airflow_provider_xcompliance.documents import find_json, land_json, manifest_uri, read_json
from airflow_provider_xcompliance.progress import Progress
from airflow_provider_xcompliance.spools import require_room, spool_directory, spool_file
from airflow_provider_xcompliance.storage import Digest, StorageError

log = logging.getLogger(__name__)

#: Twice what 250 bytes for each of 50 million ids take, the most that one job can be given.
MAX_RESULT_BYTES = 25_000_000_000


@dataclass(frozen=True)
class IdSpool:
    """
    A clean local copy of a file of ids.

    :param source: where the ids came from, fit to be shown
    :param ids: how many there are, the control ids among them
    :param cleaned: how often what was left out
    :param control_ids: ids that are known to be gone, and were added
    """

    path: Path
    source: str
    ids: int
    digest: Digest
    crc32c: int
    cleaned: dict[str, int]
    control_ids: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what receipts and manifests say about the ids."""
        return {
            "source": self.source,
            "ids": self.ids,
            "bytes": self.digest.bytes,
            "sha256": self.digest.sha256,
        }


@contextmanager
def spool_ids(
    source: str, client: Any = None, *, control_ids: Sequence[str] = (), allow_rounded: bool = False
) -> Iterator[IdSpool]:
    """
    Validate and clean a file of ids into a local file that lives as long as the context.

    :param source: URI or path; compressed if its name says so
    :param client: of the store that holds it
    :param control_ids: ids that are known to be gone, added at the end
    :param allow_rounded: whether to take ids that look as if a program had rounded all of them
    :raises InvalidIdsError: if a line is no id, or there is none; the text names file and line
    :raises StorageError: if the file cannot be read, or the local disk is full
    """
    name = storage.display(source)
    with spool_directory() as directory:
        path = spool_file(directory, "ids")
        with storage.open_source(source, client, decompress=True) as file:
            reader = IdReader(file, name, allow_rounded=allow_rounded)
            _write_ids(reader, path, Progress(f"reading ids of {name}"))
        duplicates = drop_repeated(path)
        added = _add_missing(path, require_control_ids(control_ids))
        yield IdSpool(
            path,
            name,
            reader.ids - duplicates + added,
            storage.digest_of(str(path)),
            storage.crc32c_of(path),
            dict(reader.cleaned) | ({"duplicates": duplicates} if duplicates else {}),
            tuple(control_ids),
        )


def upload(
    client: XComplianceClient,
    job_id: str,
    source: str,
    source_client: Any = None,
    *,
    control_ids: Sequence[str] = (),
    allow_rounded: bool = False,
) -> dict[str, Any]:
    """
    Send a file of ids to a job that was created for it.

    What is about to be sent is recorded beside the source, in ``<source>.upload.json``, so that the upload
    can be run again after its worker was killed.

    :param source: URI or path of the file
    :param source_client: of the store that holds it
    :param control_ids: ids that are known to be gone, sent with the others
    :param allow_rounded: whether to take ids that look as if a program had rounded all of them
    :return: the receipt: job, source, number of ids, bytes, digests, what was cleaned away, and whether an
        earlier run had sent them
    :raises InvalidIdsError: before X hears of it, if the file is not good
    :raises UploadTooLargeError: if it does not fit into one job
    :raises JobStateError: if the job has ended, or was given other ids
    """
    with spool_ids(source, source_client, control_ids=control_ids, allow_rounded=allow_rounded) as spool:
        job = client.get_job(job_id)
        record = {"job_id": job.id, "job_type": job.type, **spool.to_dict()}
        record_uri = _record_uri(source)
        already_accepted = job.status in (JobStatus.IN_PROGRESS, JobStatus.COMPLETE)
        if already_accepted:
            _require_recorded(record, record_uri, source_client)
            log.info("job %s was given these ids by an earlier run", job.id)
        else:
            with _recorded(spool, record, record_uri, source_client):
                send(client, job, spool)
        return record | {
            "crc32c": f"{spool.crc32c:08x}",
            "cleaned": spool.cleaned,
            "control_ids": list(spool.control_ids),
            "already_accepted": already_accepted,
        }


def send(client: XComplianceClient, job: Job, spool: IdSpool) -> None:
    """
    Send clean ids to a job.

    :raises UploadTooLargeError: if they do not fit into one job
    :raises UrlExpiredError: if the 15 minutes for it are over
    :raises JobStateError: if the job does not wait for ids
    """
    _require_fit(spool, client.upload_limit(job))
    log.info("uploading %s ids (%s bytes) to job %s", f"{spool.ids:,}", f"{spool.digest.bytes:,}", job.id)
    client.upload(job, spool.path, spool.crc32c, Progress(f"uploading to job {job.id}"))
    log.info("job %s has its ids", job.id)


def download(
    client: XComplianceClient,
    job_id: str,
    destination: str,
    destination_client: Any = None,
    *,
    submitted: str | None = None,
    submitted_client: Any = None,
    control_ids: Sequence[str] = (),
    replace: bool = False,
) -> dict[str, Any]:
    """
    Fetch the results of a complete job, verify them, and land them with their manifest.

    :param destination: URI or path of the events; the manifest is ``<destination>.manifest.json``
    :param destination_client: of the store that it is on
    :param submitted: URI or path of the ids that the job was given: no other id may occur in its results
    :param submitted_client: of the store that holds them
    :param control_ids: ids that were sent besides, which are known to be gone: each must have an event
    :param replace: whether another file at the destination may be replaced
    :return: the receipt: what the manifest says, where it is, and whether the events were new
    :raises IntegrityError: if the results stay incomplete or corrupt
    :raises StorageError: before X hears of it, if nothing can land on the destination; or if the store fails
    :raises InvalidEventsError: if a line of them is no record
    :raises ForeignEventsError: if they are about other ids than the submitted ones
    :raises MissingControlsError: if a control id has no event
    :raises DestinationExistsError: if something else stands at the destination
    """
    storage.require_landable(destination)
    require_control_ids(control_ids)
    job = client.get_job(job_id)
    with ExitStack() as stack:
        spool, job_type = None, job.type
        if submitted:
            record = find_json(_record_uri(submitted), submitted_client)
            if record.get("job_id") == job.id:
                job_type = str(record.get("job_type"))
            # They were accepted when they were sent, so it is too late to doubt them.
            ids = spool_ids(submitted, submitted_client, control_ids=control_ids, allow_rounded=True)
            spool = stack.enter_context(ids)
        return land_results(
            client,
            job,
            job_type,
            destination,
            destination_client,
            ids=spool,
            control_ids=control_ids,
            replace=replace,
        )


def land_results(
    client: XComplianceClient,
    job: Job,
    job_type: str,
    destination: str,
    destination_client: Any = None,
    *,
    ids: IdSpool | None,
    control_ids: Sequence[str],
    replace: bool,
) -> dict[str, Any]:
    """
    Do what :func:`download` does, of a job and with ids that are at hand.

    :param job_type: what the job was created for
    :raises ServerError: if X says that it is of another type
    """
    if job.type != job_type:
        # Believed, ids of posts would be taken for those of users.
        raise ServerError(
            f"job {job.id}: X says that it is about {one_line(job.type)}, but its ids are {job_type}; try "
            "again later"
        )
    with spool_directory() as directory:
        spool = spool_file(directory, "events")
        progress = Progress(f"downloading the results of job {job.id}")
        result = client.download(job, spool, _within_bounds(directory, progress))
        facts = _facts(spool, job, ids, control_ids)
        digest = storage.digest_of(str(spool))
        created = storage.land(spool, digest, destination, destination_client, replace=replace)
        manifest = _manifest(job, result, digest, facts) | {"destination": storage.display(destination)}
        land_json(directory / "manifest", manifest, manifest_uri(destination), destination_client)
    log.info("job %s: %s at %s", job.id, "landed" if created else "already there", manifest["destination"])
    log.info("job %s: %d events %s", job.id, manifest["events"], manifest["actions"])
    return receipt_of(manifest, destination, created=created)


def _record_uri(source: str) -> str:
    return f"{source}.upload.json"


def receipt_of(manifest: dict[str, Any], destination: str, *, created: bool) -> dict[str, Any]:
    """
    Return what is told of landed events.

    :param created: whether they were not there before
    """
    return manifest | {"manifest": storage.display(manifest_uri(destination)), "created": created}


def require_control_ids(control_ids: Sequence[str]) -> Sequence[str]:
    """
    Return the control ids unchanged if they can be sent.

    :raises ValueError: if one of them is no id
    """
    if isinstance(control_ids, str):
        # Taken apart, a text of digits would be as many ids.
        raise ValueError(f"control_ids: a list of ids is needed, not a text: {control_ids[:40]!r}")
    for control_id in control_ids:
        if not isinstance(control_id, str) or not is_id(control_id.encode()):
            raise ValueError(f"control_ids: not a decimal id, as text: {str(control_id)[:40]!r}")
    return control_ids


def _require_fit(spool: IdSpool, limit: int) -> None:
    if spool.digest.bytes > limit:
        # Cut at the end of a line, a part may fall short of the limit by all of a line but its last byte.
        parts = -(-spool.digest.bytes // (limit - MAX_ID_BYTES))
        raise UploadTooLargeError(
            f"{spool.source}: {spool.digest.bytes:,} bytes of ids, but one job takes {limit:,}; split it at "
            f"ends of lines into at least {parts} parts (split -C {limit} does), and run a job for each"
        )


def _count_events(spool: Path, job: Job) -> dict[str, Any]:
    with spool.open("rb") as file:
        counts = count_events(file, f"results of job {job.id}")
    if counts.unknown:
        log.warning(
            "job %s: X sent actions or reasons that this version does not know: %r", job.id, counts.unknown
        )
    return counts.to_dict()


def _facts(events: Path, job: Job, ids: IdSpool | None, control_ids: Sequence[str]) -> dict[str, Any]:
    """Check what the events say against what was asked, and return what the manifest says about both."""
    name = f"results of job {job.id}"
    counts, repeated = _count_events(events, job), None
    if control_ids:
        with events.open("rb") as file:
            require_controls(file, control_ids, name)
    if ids:
        with events.open("rb") as file, ids.path.open("rb") as id_file:
            repeated = require_submitted(file, id_file, name)
    return counts | {
        "repeated": repeated,
        "submitted": ids.to_dict() if ids else None,
        "control_ids": list(control_ids),
    }


def _manifest(job: Job, result: DownloadedResult, digest: Digest, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "job_type": job.type,
        "job_name": job.name,
        "job_created_at": job.created_at.isoformat() if job.created_at else None,
        "bytes": digest.bytes,
        "sha256": digest.sha256,
        "crc32c": f"{result.crc32c:08x}",
        "unverified_length": result.unverified_length,
        **facts,
        "provider_version": __version__,
    }


@contextmanager
def _recorded(spool: IdSpool, record: dict[str, Any], uri: str, client: Any) -> Iterator[None]:
    """Record what is sent meanwhile; whether it was, only X can tell."""
    before = find_json(uri, client)
    # A run that was thought dead may be sending other ids, and then nobody knows whose have arrived.
    has_rival = before.get("job_id") == record["job_id"] and before.get("sha256") != record["sha256"]
    _write_record(spool, record | {"sha256": None} if has_rival else record, uri, client)
    yield
    if has_rival:
        _write_record(spool, record, uri, client)


def _write_record(spool: IdSpool, record: dict[str, Any], uri: str, client: Any) -> None:
    try:
        land_json(spool.path.with_name("record"), record, uri, client)
    except StorageError as error:
        log.warning("%s; if this task is killed now, another run of it cannot tell what was sent", error)


def _require_recorded(record: dict[str, Any], uri: str, client: Any) -> None:
    recorded = read_json(uri, client) or {}
    if any(recorded.get(key) != record[key] for key in ("job_id", "sha256")):
        other = "other ids" if recorded.get("job_id") == record["job_id"] else "ids that no record tells of"
        raise JobStateError(
            f"upload to job {record['job_id']}: the job was given {other}, not those of {record['source']}; "
            "create a new job for these"
        )


def _write_ids(reader: IdReader, path: Path, progress: Progress) -> None:
    try:
        with path.open("wb") as spool:
            for block in reader:
                spool.write(block)
                progress(spool.tell(), None)
    except InvalidIdsError as error:
        for line in error.lines:
            log.error(line)
        raise


def _add_missing(path: Path, control_ids: Sequence[str]) -> int:
    """Add the control ids that a file of clean ids does not hold at its end; return how many were added."""
    missing = dict.fromkeys(f"{control_id}\n".encode() for control_id in control_ids)
    with path.open("rb+") as file:
        for block in line_blocks(file) if missing else ():
            for line in [line for line in missing if block.startswith(line) or b"\n" + line in block]:
                del missing[line]
        file.seek(0, os.SEEK_END)
        file.writelines(missing)
    return len(missing)


def _within_bounds(directory: Path, progress: Progress) -> Callable[[int, int | None], None]:
    """Give up a result that is too large, for a result or for the disk."""

    def check(done: int, total: int | None) -> None:
        if max(done, total or 0) > MAX_RESULT_BYTES:
            raise InvalidEventsError(
                f"more than {MAX_RESULT_BYTES:,} bytes are no compliance result; nothing of it is kept"
            )
        require_room(directory, total - done if total else None)
        progress(done, total)

    return check
