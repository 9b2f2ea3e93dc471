"""
From an archive to files of ids: those that are due, each for one job.

Only files that changed since the last time are read; of all others the index tells the ids.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from airflow_provider_xcompliance import storage
from airflow_provider_xcompliance.archive import rotation
from airflow_provider_xcompliance.archive.extras import require
from airflow_provider_xcompliance.archive.guards import JOB_TYPES, JobType
from airflow_provider_xcompliance.archive.ids import MAX_SHOWN
from airflow_provider_xcompliance.archive.ndjson_helper import Helper
from airflow_provider_xcompliance.archive.rotation import MAX_IDS, IdRange
from airflow_provider_xcompliance.archive.sorted_ids import SortedIds, lines_of
from airflow_provider_xcompliance.archive.tombstones import REVERSIBLE
from airflow_provider_xcompliance.catalogue import Archive, ArchiveFile, BadArchiveError
from airflow_provider_xcompliance.documents import land_json, read_json
from airflow_provider_xcompliance.spools import spool_directory, spool_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from airflow_provider_xcompliance.archive.index import Facts
else:
    np = require("numpy", "archive", "reading archives")

log = logging.getLogger(__name__)

# A malformed line is kept where all else went, and a producer begins with half of one.
_REMAINS_BYTES = 64 << 10

# The name of a file of ids: job type, key of the archive, and range.
_NAME = re.compile(rf"(?:\A|/)({'|'.join(JOB_TYPES)})-([0-9a-f]+)-(\d{{19}}-\d{{19}})\.txt\Z")

_T = TypeVar("_T", bound=msgspec.Struct)


class _Catalogue(msgspec.Struct):
    """What is remembered of the ranges of ids."""

    ranges: list[IdRange] = []


class _Checks(msgspec.Struct):
    """What was checked: ``first-last`` → when."""

    checked: dict[str, datetime] = {}


@dataclass
class Extract:
    """
    What an extraction found.

    :param due: URIs of the files of ids that are due, those unchecked for longest first
    :param ids: how many different ids the archive holds
    :param due_ids: how many of them are due
    :param ranges: how many files of ids they make
    :param files: of the archive
    :param files_read: those that were read, because they were new or had changed
    :param records: posts and users of their own
    :param bad: lines or rows that are no record, and so are not checked
    :param authorless: posts whose author is not known, and so is not checked; of ``users`` alone
    :param bad_lines: the first of the bad lines
    :param recordless: the first bad line of each file, but for small ones, that has bad lines and no record
    :param oldest_check: for how long nobody has asked about some id, at most
    """

    due: list[str] = field(default_factory=list)
    ids: int = 0
    due_ids: int = 0
    ranges: int = 0
    files: int = 0
    files_read: int = 0
    records: int = 0
    bad: int = 0
    authorless: int = 0
    bad_lines: list[str] = field(default_factory=list)
    recordless: list[str] = field(default_factory=list)
    oldest_check: timedelta = timedelta(0)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers by their names."""
        no_numbers = {"due", "recordless", "oldest_check"}
        numbers = {name: value for name, value in vars(self).items() if name not in no_numbers}
        return numbers | {"oldest_check_age_seconds": round(self.oldest_check.total_seconds())}


def extract(
    archive: Archive,
    job_type: JobType,
    destination: str,
    destination_client: Any = None,
    *,
    max_jobs: int | None = None,
    max_ids: int = MAX_IDS,
    max_bad_ratio: float | None = 0.01,
    now: datetime | None = None,
) -> Extract:
    """
    Land the ids of an archive that are due, in files for one job each.

    :param destination: the folder of these files
    :param max_jobs: how many files at most; None: all ids are due
    :param max_ids: how many ids one file has at most
    :param max_bad_ratio: the most records whose ids cannot be told ÷ all records; None: no limit
    :param now: the time (default: this machine's)
    :raises BadArchiveError: if there are more of them, or a file has no others, unless there is no limit; if
        a table does not tell who wrote its posts although ``users`` are asked for; or if there is no id
    :raises StorageError: if a file cannot be read or landed
    """
    now = now or datetime.now(UTC)
    state = _State(archive, job_type, destination, destination_client)
    with spool_directory() as directory, SortedIds(directory) as ids:
        found = _gather(archive, job_type, ids, directory)
        _require_good(found, max_bad_ratio)
        ids.merge()
        before = list(rotation.with_checks(state.ranges(now), state.checks()))
        after = rotation.closed(list(_cut(ids, before, max_ids)))
        if not after:
            raise BadArchiveError(f"the archive holds no ids of {job_type}: look at its sources and shapes")
        chosen = rotation.due(after, max_jobs)
        written = _write_due(ids, after, chosen, state, directory)
        state.remember(written, directory)
    found.ids = sum(each.ids for each in after)
    found.ranges = len(after)
    found.due = [state.uri_of(each) for each in chosen]
    found.due_ids = sum(each.ids for each in chosen)
    found.oldest_check = rotation.oldest_check_age(after, now)
    return found


def record_checks(
    archive: Archive, job_type: JobType, checked: Iterable[tuple[str, datetime]], directory: Path
) -> None:
    """
    Remember that files of ids were checked, and what X said was done.

    Each is remembered for the choice of files that its ids are of, whichever the archive is told to have.

    :param checked: URI of each file, and when its job was created
    :param directory: a spool
    """
    by_key: dict[str, list[tuple[str, datetime]]] = defaultdict(list)
    for source, time in checked:
        # A list of somebody's own is none of the ranges.
        if (found := _NAME.search(source)) and found[1] == job_type:
            by_key[found[2]].append((found[3], time))
    for key, ranges in by_key.items():
        uri = _checks_uri(archive, key, job_type)
        checks = _remembered(uri, archive, _Checks)
        for name, time in ranges:
            checks.checked[name] = max(time, checks.checked.get(name, time))
        land_json(directory / f"checks-{job_type}", msgspec.to_builtins(checks), uri, archive.state_client)


@dataclass(frozen=True)
class _State:
    """What is remembered between two nights, and where the files of ids are."""

    archive: Archive
    job_type: JobType
    destination: str
    client: Any

    def uri_of(self, ids: IdRange) -> str:
        # Other archives may have their files in the same folder.
        name = f"{self.job_type}-{self.archive.key}-{_name_of(ids.first, ids.last)}.txt"
        return f"{self.destination.rstrip('/')}/{name}"

    def ranges(self, now: datetime) -> list[IdRange]:
        known = _remembered(self._catalogue, self.archive, _Catalogue)
        return known.ranges or [rotation.nothing_known(now)]

    def checks(self) -> dict[tuple[int, int], datetime]:
        uri = _checks_uri(self.archive, self.archive.key, self.job_type)
        checks = _remembered(uri, self.archive, _Checks)
        return {_bounds_of(name): time for name, time in checks.checked.items()}

    def remember(self, ranges: Sequence[IdRange], directory: Path) -> None:
        catalogue = msgspec.to_builtins(_Catalogue(list(ranges)))
        land_json(directory / "catalogue", catalogue, self._catalogue, self.archive.state_client)

    @property
    def _catalogue(self) -> str:
        return self.archive.state_uri("ids", self.archive.key, f"{self.job_type}.json")


def _remembered(uri: str, archive: Archive, kind: type[_T]) -> _T:
    """Read what is remembered; nothing if there is none."""
    return msgspec.convert(read_json(uri, archive.state_client) or {}, kind)


def _checks_uri(archive: Archive, key: str, job_type: JobType) -> str:
    return archive.state_uri("checks", key, f"{job_type}.json")


def _name_of(first: int, last: int) -> str:
    return f"{first:019}-{last:019}"


def _bounds_of(name: str) -> tuple[int, int]:
    first, last = name.split("-")
    return int(first), int(last)


def _gather(archive: Archive, job_type: JobType, ids: SortedIds, directory: Path) -> Extract:
    """Take the ids of all files, out of their indexes."""
    found, keys = Extract(), {}
    with Helper() as helper:
        for listed in archive.files():
            if job_type == "users":
                listed.require_authors()
            is_known = archive.has_index(listed)
            _, index, file = archive.ask(
                listed, directory, lambda index: [*map(ids.add, index.ids(job_type))], helper
            )
            _add_facts(found, job_type, file, index.facts)
            found.files += 1
            found.files_read += not is_known
            keys[file.name] = file.key
    for occasion, some in archive.tombstones(job_type).items():
        # Of what went for a reason that may pass, somebody has to ask whether it has.
        if occasion.reason in REVERSIBLE:
            ids.add(some)
    archive.remove_old_indexes(keys)
    log.info(
        "%s files, of which %s were read because they are new or have changed; %s records",
        f"{found.files:,}",
        f"{found.files_read:,}",
        f"{found.records:,}",
    )
    return found


def _add_facts(found: Extract, job_type: JobType, file: ArchiveFile, facts: Facts) -> None:
    found.records += facts.records
    found.bad += facts.bad
    found.bad_lines += facts.bad_lines[: MAX_SHOWN - len(found.bad_lines)]
    if facts.bad and not facts.records and facts.bytes > _REMAINS_BYTES:
        found.recordless += facts.bad_lines[:1]
    # Plain lists hold nothing that anybody wrote.
    if job_type == "users" and file.format.kind != "ids":
        found.authorless += facts.authorless


def _require_good(found: Extract, max_bad_ratio: float | None) -> None:
    bad = found.bad + found.authorless
    if not bad:
        return
    for line in found.bad_lines:
        log.warning("%s", line)
    what = f"{found.bad:,} bad records" + (
        f" and {found.authorless:,} posts without author" if found.authorless else ""
    )
    log.warning("%s of %s are not checked", what, f"{found.records + found.bad:,}")
    _require_records(found, max_bad_ratio)
    if max_bad_ratio is not None and bad > max_bad_ratio * (found.records + found.bad):
        first = f" (the first: {found.bad_lines[0]})" if found.bad_lines else ""
        raise BadArchiveError(
            f"{what} of {found.records + found.bad:,} are more than max_bad_ratio={max_bad_ratio}{first}; "
            "mend them, or raise it"
        )


def _require_records(found: Extract, max_bad_ratio: float | None) -> None:
    """Make sure that no file is something else: however few its lines, they may hold any number of posts."""
    if not found.recordless:
        return
    what = (
        f"files that hold not one record, so that nothing of them is checked: {len(found.recordless):,} "
        f"({'; '.join(found.recordless[:MAX_SHOWN])})"
    )
    if max_bad_ratio is not None:
        raise BadArchiveError(
            f"{what}; leave them out of source, or convert them (of JSON, one record on each line)"
        )
    log.warning("%s", what)


def _cut(ids: SortedIds, ranges: Sequence[IdRange], max_ids: int) -> Iterator[IdRange]:
    """Cut the ids into ranges, most of them as they were; their ends are not known yet."""
    firsts = np.array([each.first for each in ranges], dtype=np.int64)
    numbers = np.zeros(len(ranges), dtype=np.int64)
    for chunk in ids:
        # How many ids come before each range; what comes before the first one belongs to it.
        ends = np.append(np.searchsorted(chunk, firsts[1:]), len(chunk))
        numbers += np.diff(ends, prepend=0)
    plan = list(rotation.recut(ranges, numbers.tolist(), max_ids))
    sizes = [size for _, pieces in plan for size in pieces]
    beginnings = _beginnings(ids, sizes)
    for each, pieces in plan:
        for number, size in enumerate(pieces):
            beginning = next(beginnings)
            yield replace(each, first=beginning if number else each.first, ids=size)


def _beginnings(ids: SortedIds, sizes: Sequence[int]) -> Iterator[int]:
    """Find the first id of each piece."""
    starts, passed = np.cumsum([0, *sizes[:-1]]), 0
    for chunk in ids:
        here = starts[(starts >= passed) & (starts < passed + len(chunk))]
        yield from chunk[here - passed].tolist()
        passed += len(chunk)


def _write_due(
    ids: SortedIds, ranges: Sequence[IdRange], chosen: Sequence[IdRange], state: _State, directory: Path
) -> list[IdRange]:
    """Land the ids of the chosen ranges, unless their files hold them already; return all ranges."""
    due = {each.first for each in chosen}
    path = spool_file(directory, "due")
    after = []
    for each, parts in zip(ranges, _parts(ids, ranges), strict=True):
        after.append(_write(each, parts, state, path) if each.first in due else each)
    return after


def _write(ids: IdRange, parts: Iterable[NDArray[np.int64]], state: _State, path: Path) -> IdRange:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.data)
    content, uri = digest.hexdigest(), state.uri_of(ids)
    if ids.written == _written(content, uri, state.client):
        return ids
    with path.open("wb") as spool:
        spool.writelines(map(lines_of, parts))
    storage.land(path, storage.checksum_of(str(path)), uri, state.client, replace=True)
    return replace(ids, written=_written(content, uri, state.client))


def _written(content: str, uri: str, client: Any) -> str:
    """Return what ids in their file are known by, as it stands there now: others may have written it."""
    return f"{content} {storage.version_of(uri, client) or ''}"


def _parts(ids: SortedIds, ranges: Sequence[IdRange]) -> Iterator[list[NDArray[np.int64]]]:
    """Go through the ids once, and yield those of each range."""
    chunks = iter(ids)
    rest = np.empty(0, np.int64)
    for each in ranges:
        parts, size = [rest[: each.ids]], each.ids
        rest = rest[each.ids :]
        while (size := size - len(parts[-1])) > 0:
            chunk = next(chunks)
            parts.append(chunk[:size])
            rest = chunk[size:]
        yield parts
