"""
What X said, done to the files of an archive: in place, or in copies of them elsewhere.

A file is written anew as a whole, on the local disk, and then takes the place of the version that was read.
Whoever is killed leaves each file as it was, or as it should be.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_xcompliance import __version__, storage
from airflow_provider_xcompliance.archive.compression import plain_writer
from airflow_provider_xcompliance.archive.event_sets import EventSet
from airflow_provider_xcompliance.archive.formats import module_of
from airflow_provider_xcompliance.archive.ids import MAX_SHOWN
from airflow_provider_xcompliance.archive.index import BadIndexError
from airflow_provider_xcompliance.archive.records import Counts
from airflow_provider_xcompliance.catalogue import Archive, ArchiveFile, key_of, until_unchanged
from airflow_provider_xcompliance.documents import find_json, land_json, manifest_uri
from airflow_provider_xcompliance.spools import require_room, spool_directory, spool_file
from airflow_provider_xcompliance.storage import ChangedError, MissingError, StorageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_PROGRESS_SECONDS = 5.0
# Where so many files fail one after the other, and not because of other writers, it is not about them.
_MAX_FAILURES = 10
_MAX_FAILURES_SHOWN = 3


@dataclass
class Outcome:
    """
    What became of one file.

    :param records: posts and users of their own that were in it
    :param bad: lines or rows that are no record; they stayed
    :param bad_lines: the first of them
    :param is_opened: whether it holds an id with an event
    :param is_changed: whether it was written anew
    :param counts: what was done to its records
    """

    records: int
    bad: int
    bad_lines: list[str]
    is_opened: bool = False
    is_changed: bool = False
    counts: Counts = field(default_factory=Counts)


class _Manifest(msgspec.Struct):
    """What is laid down about a file that is written anew, or copied."""

    file: str
    key: str
    source_version: str
    bytes: int
    crc32c: int
    outcome: Outcome
    provider_version: str = __version__


@dataclass
class Report:
    """
    What was done to an archive, or would be.

    :param records: posts and users of their own that were there
    :param removed: records that went
    :param quarantined: records that wait to be fetched again
    :param scrubbed: records that stayed without their location
    :param stripped: records that stayed without an embedded post or user
    :param kept: records that stayed, the changed ones among them
    :param bad: lines or rows that are no record; they stayed
    :param files: that were looked at
    :param files_opened: that held an id with an event
    :param files_changed: that were written anew
    :param files_gone: that others removed meanwhile
    :param bytes: of the files
    :param old_versions: that the store keeps of the files that were written anew, and which still hold what
        went; None if that cannot be told
    :param purged: old versions that were removed
    :param kinds: ``action/reason`` → how often something was done because of it
    :param bad_lines: the first bad lines
    :param unknown: events that nothing is known to do about, by ``action/reason``
    """

    dry_run: bool = False
    records: int = 0
    removed: int = 0
    quarantined: int = 0
    scrubbed: int = 0
    stripped: int = 0
    kept: int = 0
    bad: int = 0
    files: int = 0
    files_opened: int = 0
    files_changed: int = 0
    files_gone: int = 0
    bytes: int = 0
    old_versions: int | None = 0
    purged: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    bad_lines: list[str] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, file: ArchiveFile, outcome: Outcome) -> None:
        """Add what became of a file."""
        counts = outcome.counts
        self.records += outcome.records
        self.removed += counts.removed
        self.quarantined += counts.quarantined
        self.scrubbed += counts.scrubbed
        self.stripped += counts.stripped
        self.kept += outcome.records - counts.removed - counts.quarantined
        self.bad += outcome.bad
        self.files += 1
        self.files_opened += outcome.is_opened
        self.files_changed += outcome.is_changed
        self.bytes += file.bytes
        self.kinds.update(counts.kinds)
        self.bad_lines += outcome.bad_lines[: MAX_SHOWN - len(self.bad_lines)]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it by name."""
        return vars(self) | {"kinds": dict(sorted(self.kinds.items())), "seconds": round(self.seconds, 1)}


@dataclass(frozen=True)
class Redaction:
    """
    Apply events to files.

    :param events: of the night, and tombstones
    :param key: what they are known by
    :param destination: folder of the copies; None: in place
    :param destination_client: of the store of the copies
    :param requires_authors: whether no file may be without authors, because users were asked about
    :param dry_run: whether nothing is written
    :param purge: whether old versions are removed that the store keeps of what is written anew
    """

    archive: Archive
    events: EventSet
    key: str
    destination: str | None = None
    destination_client: Any = None
    requires_authors: bool = False
    dry_run: bool = False
    purge: bool = False

    def apply(self, uris: Iterable[str]) -> Report:
        """
        Apply the events to these files.

        :raises StorageError: after all others were done, if a file cannot be read or written; before, if ten
            fail one after the other
        :raises ChangedError: after all others were done, if a file changed each time while it was read
        :raises ValueError: if a copy would be a file of the archive
        """
        started = logged = time.monotonic()
        report = Report(dry_run=self.dry_run, unknown=dict(self.events.unknown))
        left: list[StorageError] = []
        failures = 0
        with spool_directory() as directory:
            for uri in uris:
                try:
                    self._apply_to(uri, report, directory)
                    failures = 0
                except StorageError as error:
                    log.warning("%s; it is left for another try", error)
                    left.append(error)
                    failures += not isinstance(error, ChangedError)
                    if failures == _MAX_FAILURES:
                        break
                if time.monotonic() - logged >= _PROGRESS_SECONDS:
                    logged = time.monotonic()
                    log.info(
                        "%s files looked at, %s changed", f"{report.files:,}", f"{report.files_changed:,}"
                    )
        if left:
            raise _joined(left)
        report.seconds = time.monotonic() - started
        return report

    def _apply_to(self, uri: str, report: Report, directory: Path) -> None:
        try:
            file, outcome = until_unchanged(lambda: self._apply_once(self.archive.file(uri), directory))
        except MissingError:
            if storage.version_of(uri, self.archive.client_of(uri)):
                # It is something else that is missing.
                raise
            log.warning("%s: others removed it meanwhile", storage.display(uri))
            report.files_gone += 1
            return
        report.add(file, outcome)
        if outcome.is_changed:
            log.info("%s: %s", storage.display(uri), _told(outcome.counts))
        if self.dry_run:
            return
        if self._is_copied(file):
            self._see_to_old_versions(self._copy_uri(file), self.destination_client, report)
            if outcome.counts.quarantined:
                # The same posts as in earlier nights, in the same place, if not without some of them.
                self._see_to_old_versions(self._apart_uri(file), self.archive.state_client, report)
        elif outcome.is_changed or file.name in self._manifests:
            left = self._see_to_old_versions(uri, self.archive.client_of(uri), report)
            self._forget_earlier_nights(file, has_old_versions=left != 0)

    def _apply_once(self, file: ArchiveFile, directory: Path) -> tuple[ArchiveFile, Outcome]:
        if self._is_copied(file) and self.archive.holds(self._copy_uri(file)):
            raise ValueError(
                f"{storage.display(self._copy_uri(file))} would be a file of the archive itself; let "
                "destination be a folder that the sources do not reach"
            )
        if outcome := self._earlier(file):
            return file, outcome
        hits, index, file = self.archive.ask(file, directory, lambda index: index.hits(self.events))
        outcome = Outcome(index.facts.records, index.facts.bad, index.facts.bad_lines)
        is_copied = self._is_copied(file) and not self.dry_run
        if self.requires_authors:
            file.require_authors()
        if len(hits) or is_copied:
            with tempfile.TemporaryDirectory(dir=directory) as name:
                spool = spool_file(Path(name), "redacted")
                if len(hits):
                    self._redact(file, hits, outcome, spool)
                else:
                    require_room(directory, file.bytes)
                    storage.fetch(file.uri, spool, self.archive.client_of(file.uri), file.version)
                if is_copied:
                    self._land_copy(file, spool, outcome)
        return file, outcome

    def _redact(self, file: ArchiveFile, hits: NDArray[np.int64], outcome: Outcome, spool: Path) -> None:
        quarantine = spool_file(spool.parent, "quarantine")
        outcome.is_opened = True
        try:
            outcome.counts = self._rewrite(file, hits, spool, quarantine)
        except BadIndexError as error:
            # Whoever wrote it anew left it its time and its size.
            self.archive.forget(file)
            raise ChangedError(str(error)) from error
        outcome.is_changed = _is_change(outcome.counts)
        if self.dry_run or not outcome.is_changed:
            return
        if outcome.counts.quarantined:
            # It stays there even if the file itself changes before it is replaced: what is removed from a
            # store that keeps old versions would be seen to by nobody any more.
            checksum = storage.checksum_of(str(quarantine))
            storage.land(quarantine, checksum, self._apart_uri(file), self.archive.state_client, replace=True)
        if not self._is_copied(file):
            self._replace(file, spool, outcome)

    def _rewrite(self, file: ArchiveFile, hits: NDArray[np.int64], spool: Path, quarantine: Path) -> Counts:
        fmt = file.format
        require_room(spool.parent, file.bytes)
        with (
            self.archive.open_plain(file, spool.parent) as source,
            spool.open("wb") as to,
            quarantine.open("wb") as aside,
            plain_writer(to, fmt.compression) as sink,
            plain_writer(aside, fmt.compression) as quarantined,
        ):
            return module_of(fmt).rewrite(
                source,
                sink,
                fmt,
                storage.display(file.uri),
                hits,
                self.events,
                None if file.is_quarantined else quarantined,
            )

    def _replace(self, file: ArchiveFile, spool: Path, outcome: Outcome) -> None:
        """Put a file in the place of the version that was read."""
        # Laid down before, so that a try after one that was killed in between knows what was done.
        uri = self._manifest_uri(file)
        self._land_manifest(file, spool, outcome, uri, self.archive.state_client)
        try:
            storage.replace(spool, file.uri, self.archive.client_of(file.uri), file.version)
        except ChangedError:
            storage.remove(uri, self.archive.state_client)
            raise

    def _land_copy(self, file: ArchiveFile, spool: Path, outcome: Outcome) -> None:
        uri = self._copy_uri(file)
        storage.land(spool, storage.checksum_of(str(spool)), uri, self.destination_client, replace=True)
        self._land_manifest(file, spool, outcome, manifest_uri(uri), self.destination_client)

    def _land_manifest(self, file: ArchiveFile, spool: Path, outcome: Outcome, uri: str, client: Any) -> None:
        checksum = storage.checksum_of(str(spool))
        manifest = _Manifest(
            file=storage.display(file.uri),
            key=self._key_for(file),
            source_version=file.version,
            bytes=checksum.bytes,
            crc32c=checksum.crc32c,
            outcome=outcome,
        )
        land_json(spool.with_suffix(".manifest"), msgspec.to_builtins(manifest), uri, client)

    def _earlier(self, file: ArchiveFile) -> Outcome | None:
        """Return what a try before this one did to a file, if it came to its end."""
        if self.dry_run:
            return None
        if self._is_copied(file):
            uri, client = self._copy_uri(file), self.destination_client
            manifest = _read_manifest(manifest_uri(uri), client)
            if manifest and manifest.source_version != file.version:
                return None
        else:
            if self._manifest_uri(file) not in self._manifests.get(file.name, ()):
                return None
            uri, client = file.uri, self.archive.client_of(file.uri)
            manifest = _read_manifest(self._manifest_uri(file), self.archive.state_client)
        if not manifest or manifest.key != self._key_for(file):
            return None
        return manifest.outcome if _stands(uri, client, manifest) else None

    def _is_copied(self, file: ArchiveFile) -> bool:
        # The quarantine is this package's own, and is redacted where it is.
        return bool(self.destination) and not file.is_quarantined

    def _key_for(self, file: ArchiveFile) -> str:
        # Another try may be told that there are more locations in it.
        return key_of(self.key, repr(file.format))

    @cached_property
    def _manifests(self) -> Mapping[str, list[str]]:
        """URIs of manifests by name of the file: of this night, and of those that left old versions."""
        folder = self.archive.state_uri("applied", "")
        manifests: dict[str, list[str]] = defaultdict(list)
        for found in storage.find(f"{folder}**", self.archive.state_client):
            _, _, name = found.uri.removeprefix(folder).partition("/")
            manifests[name.removesuffix(".json")].append(found.uri)
        return manifests

    def _manifest_uri(self, file: ArchiveFile) -> str:
        return self.archive.state_uri("applied", self.key, f"{file.name}.json")

    def _apart_uri(self, file: ArchiveFile) -> str:
        """Where posts of this version wait to be fetched again, whatever night it is."""
        return self.archive.quarantine_uri(file, key_of(file.version))

    def _copy_uri(self, file: ArchiveFile) -> str:
        return f"{str(self.destination).rstrip('/')}/{file.name}"

    def _forget_earlier_nights(self, file: ArchiveFile, *, has_old_versions: bool) -> None:
        """Let a manifest of an earlier night stand only for as long as old versions are to be seen to."""
        for uri in self._manifests.get(file.name, ()):
            if not (has_old_versions or uri == self._manifest_uri(file)):
                storage.remove(uri, self.archive.state_client)

    def _see_to_old_versions(self, uri: str, client: Any, report: Report) -> int | None:
        if self.purge:
            report.purged += storage.purge_old_versions(uri, client)
        left = storage.old_versions(uri, client)
        report.old_versions = (
            None if left is None or report.old_versions is None else report.old_versions + left
        )
        return left


def _joined(failures: Sequence[StorageError]) -> StorageError:
    """Return one error for several; where they are not all alike, one after which another try may do."""
    told = "; ".join(map(str, failures[:_MAX_FAILURES_SHOWN]))
    more = "; …" if len(failures) > _MAX_FAILURES_SHOWN else ""
    kinds = {*map(type, failures)}
    kind: type[StorageError] = kinds.pop() if len(kinds) == 1 else StorageError
    return kind(f"{len(failures):,} files are left for another try: {told}{more}")


def _stands(uri: str, client: Any, manifest: _Manifest) -> bool:
    """Whether what a manifest tells of is there."""
    try:
        if storage.stat(uri, client).bytes != manifest.bytes:
            return False
        return storage.checksum_of(uri, client).crc32c == manifest.crc32c
    except MissingError:
        return False


def _read_manifest(uri: str, client: Any) -> _Manifest | None:
    with suppress(msgspec.ValidationError):
        # The hook is for what is counted.
        return msgspec.convert(find_json(uri, client), _Manifest, dec_hook=lambda kind, value: kind(value))
    return None


def _is_change(counts: Counts) -> bool:
    return bool(counts.removed or counts.quarantined or counts.scrubbed or counts.stripped)


def _told(counts: Counts) -> str:
    done = {
        "removed": counts.removed,
        "quarantined": counts.quarantined,
        "scrubbed": counts.scrubbed,
        "stripped": counts.stripped,
    }
    return ", ".join(f"{number:,} {what}" for what, number in done.items() if number)
