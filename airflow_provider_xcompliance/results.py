"""Landed results: a file of events, and the manifest beside it, which says that they are whole."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_xcompliance import storage
from airflow_provider_xcompliance.archive.events import Event, EventCounts, InvalidEventsError, read_events
from airflow_provider_xcompliance.archive.guards import Count, JobType, Result
from airflow_provider_xcompliance.documents import manifest_uri
from airflow_provider_xcompliance.storage import Digest, MissingError

if TYPE_CHECKING:
    from _typeshed import SupportsRead

# More than any manifest has; what is larger is something else.
_MAX_MANIFEST_BYTES = 16 << 20


class InvalidResultError(ValueError):
    """A landed result is not what its manifest, or the receipt of its download, says."""


class _Submitted(msgspec.Struct, frozen=True):
    ids: Count
    source: str = ""
    sha256: str = ""


class _Manifest(msgspec.Struct, frozen=True):
    job_id: str
    job_type: JobType
    bytes: int
    sha256: str
    unverified_length: bool
    actions: dict[str, dict[str, int]]
    errors: dict[str, int]
    submitted: _Submitted | None
    control_ids: list[str] = []
    repeated: Count | None = None
    job_created_at: datetime | None = None


@dataclass(frozen=True)
class Reference:
    """
    Where a result is.

    :param uri: of the events
    :param receipt: what its download returned, as far as it is known
    """

    uri: str
    receipt: Mapping[str, Any]


def find_results(events: Any) -> Iterator[Reference]:
    """
    Find the results in what tasks return.

    :param events: a URI, a receipt of a download, or any nesting of lists of them
    :raises InvalidResultError: if something else is among them
    """
    if isinstance(events, str) and events:
        yield Reference(events, {})
    elif isinstance(events, Mapping) and isinstance(events.get("destination"), str):
        yield Reference(events["destination"], events)
    elif isinstance(events, Iterable) and not isinstance(events, str | bytes | Mapping):
        for each in events:
            yield from find_results(each)
    else:
        raise InvalidResultError(
            f"events: neither a URI nor the receipt of a download: {str(events)[:40]!r}; a task that was "
            "skipped or failed returns none"
        )


@dataclass(frozen=True)
class Landed:
    """
    A result that is whole, and what it answers.

    :param uri: of the events
    :param sha256: of the events
    :param source: URI of the ids that were submitted; empty if they are not known
    :param source_sha256: of what was submitted, control ids included
    :param control_ids: in the order in which they were submitted behind the others
    :param created_at: when its job was created, by X's clock
    """

    uri: str
    sha256: str
    result: Result
    source: str
    source_sha256: str
    control_ids: tuple[str, ...]
    created_at: datetime | None


def read_landed(reference: Reference, client: Any = None) -> Landed:
    """
    Read a result through, and make sure that it is the one that its manifest speaks of.

    Its events are counted anew. What it was compared with when it was landed is taken from the manifest.

    :param client: of the store that it is on; None for the library's default credentials
    :raises InvalidResultError: if there is no manifest, or if it says something else
    :raises StorageError: if the store fails
    """
    name = storage.display(reference.uri)
    document = _read_manifest(reference.uri, name, client)
    _require_receipt(name, document, reference.receipt)
    manifest = _decode(name, document)
    control_ids, submitted = frozenset(manifest.control_ids), manifest.submitted
    with _unless_missing(f"{name}: there is a manifest, but no events; download it again"):
        digest, counts, controls = _read_events(reference.uri, name, client, control_ids)
    if digest != Digest(manifest.bytes, manifest.sha256):
        raise InvalidResultError(
            f"{name}: it is not the file of its manifest, so it was replaced or damaged; download it again"
        )
    _require_counts(name, manifest, counts, controls)
    result = Result(
        name=name,
        job_id=manifest.job_id,
        job_type=manifest.job_type,
        submitted=max(submitted.ids - len(control_ids), 0) if submitted else None,
        kinds=counts.kinds - Counter((event.action or "", str(event.reason)) for event in controls),
        errors=sum(manifest.errors.values()),
        controls=control_ids,
        repeated=manifest.repeated,
        unverified_length=manifest.unverified_length,
    )
    return Landed(
        uri=reference.uri,
        sha256=manifest.sha256,
        result=result,
        source=submitted.source if submitted else "",
        source_sha256=submitted.sha256 if submitted else "",
        control_ids=tuple(manifest.control_ids),
        created_at=manifest.job_created_at,
    )


def _read_manifest(uri: str, name: str, client: Any) -> dict[str, Any]:
    with (
        _unless_missing(f"{name}: it has no manifest, so nothing says that it is whole; download it again"),
        storage.open_source(manifest_uri(uri), client) as file,
    ):
        content = file.read(_MAX_MANIFEST_BYTES)
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidResultError(f"{name}: its manifest cannot be understood; download it again") from None


def _require_receipt(name: str, document: dict[str, Any], receipt: Mapping[str, Any]) -> None:
    common = document.keys() & receipt.keys() - {"destination"}
    if differing := sorted(key for key in common if document[key] != receipt[key]):
        raise InvalidResultError(
            f"{name}: it was replaced after its download, whose receipt differs from the manifest in "
            f"{', '.join(differing)}; download it again"
        )


def _decode(name: str, document: dict[str, Any]) -> _Manifest:
    try:
        return msgspec.convert(document, _Manifest)
    except msgspec.ValidationError as error:
        raise InvalidResultError(
            f"{name}: its manifest is not one of ours ({error}); download it again"
        ) from None


def _read_events(
    uri: str, name: str, client: Any, control_ids: frozenset[str]
) -> tuple[Digest | None, EventCounts, list[Event]]:
    """Return what a file is known by (None: it is damaged), what it holds, and its events of control ids."""
    counts, controls = EventCounts(), []
    with storage.open_source(uri, client) as file:
        hashed = Hashed(file)
        try:
            for records in read_events(hashed, name):
                counts.add(records)
                controls += [record for record in records if record.id in control_ids and record.action]
        except InvalidEventsError:
            return None, counts, controls
    return hashed.digest, counts, controls


def _require_counts(name: str, manifest: _Manifest, counts: EventCounts, controls: list[Event]) -> None:
    counted = counts.to_dict()
    if (counted["actions"], counted["errors"]) != (manifest.actions, manifest.errors):
        raise InvalidResultError(f"{name}: its manifest counts other events than it holds; download it again")
    if missing := set(manifest.control_ids).difference(event.id for event in controls):
        raise InvalidResultError(
            f"{name}: its manifest says that its control ids have events, but {len(missing):,} have none; "
            "download it again"
        )


class Hashed:
    """A file that is hashed while it is read."""

    def __init__(self, file: SupportsRead[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        """Read on, and remember what was read."""
        block = self._file.read(size)
        self._sha256.update(block)
        self._bytes += len(block)
        return block

    @property
    def digest(self) -> Digest:
        """Of what was read so far."""
        return Digest(self._bytes, self._sha256.hexdigest())


@contextmanager
def _unless_missing(message: str) -> Iterator[None]:
    """Say what it means that a file is missing; other failures of a store may pass, and stay as they are."""
    try:
        yield
    except MissingError:
        raise InvalidResultError(message) from None
