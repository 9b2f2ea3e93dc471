"""
An archive: its files, wherever they are, and what is kept about them under ``_xcompliance/`` beside them.

Knows storage and formats, neither X nor Airflow.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_xcompliance import storage
from airflow_provider_xcompliance.archive import ndjson
from airflow_provider_xcompliance.archive.compression import plain_reader
from airflow_provider_xcompliance.archive.formats import Columns, Format, format_of, module_of
from airflow_provider_xcompliance.archive.guards import JobType
from airflow_provider_xcompliance.archive.index import FileIndex, IndexWriter, InvalidIndexError
from airflow_provider_xcompliance.archive.tombstones import Tombstones, read_tombstones
from airflow_provider_xcompliance.progress import Progress
from airflow_provider_xcompliance.spools import require_room
from airflow_provider_xcompliance.storage import ChangedError, MissingError

if TYPE_CHECKING:
    from airflow_provider_xcompliance.archive.ndjson_helper import Helper
    from airflow_provider_xcompliance.storage import Found

log = logging.getLogger(__name__)

#: The folder of what belongs to an archive, beside its files.
STATE_FOLDER = "_xcompliance"

# What names of files in the quarantine begin with. Folders that are called as ours are left out of patterns.
_QUARANTINED = "_quarantined/"

_T = TypeVar("_T")

_WILDCARDS = re.compile(r"[*?\[]")
_KEY_CHARACTERS = 16

# A file that changes more often than this while it is read is left to the next night.
MAX_READS = 3


class BadArchiveError(ValueError):
    """An archive holds too many records whose ids cannot be told, or none at all."""


@dataclass(frozen=True)
class ArchiveFile:
    """
    A file of an archive, in one version.

    :param name: what it is called within the archive
    :param version: changes whenever its content does
    :param is_quarantined: whether it holds what waits to be fetched again
    """

    uri: str
    name: str
    bytes: int
    version: str
    format: Format
    is_quarantined: bool = False

    @property
    def key(self) -> str:
        """What this version, read in this format, is known by."""
        return key_of(self.version, repr(self.format))

    def require_authors(self) -> None:
        """
        Make sure that events of users can be told to concern it.

        :raises BadArchiveError: if it is a table of posts that does not tell who wrote them
        """
        columns = self.format.columns
        if columns and not columns.author and self.format.shape != "users":
            raise BadArchiveError(
                f"{storage.display(self.uri)}: it does not tell who wrote its posts, so they cannot be "
                "checked for users; name the column with columns=Columns(id=…, author=…), or leave the file "
                "out"
            )


def key_of(*parts: object) -> str:
    """Return a short digest that stands for some values in a name."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:_KEY_CHARACTERS]


@dataclass(frozen=True)
class Archive:
    """
    Files, and what is told about them.

    :param sources: URIs, or globs of them; folders if they end in ``/``; in canonical form, as all addresses
        of an archive are: see :func:`.storage.canonical`
    :param client: of the store that holds them
    :param root: the folder that they have in common, with a slash at its end; empty if they have none
    :param state: the folder of what is kept about them
    :param state_client: of the store that holds it
    :param shapes: pattern of names → the shape of such files: see :data:`.archive.formats.SHAPES`
    :param columns: pattern of names → the columns of such tables
    :raises ValueError: if ``state`` is a pattern, or holds sources
    """

    sources: Sequence[str]
    client: Any
    root: str
    state: str
    state_client: Any
    shapes: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Columns] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = self.state_uri("")
        if _WILDCARDS.search(own) or any(source.startswith(own) for source in self.sources):
            raise ValueError(
                f"state: {storage.display(self.state)!r} has to be a folder of its own, without wildcards in "
                "its name and without sources in it"
            )

    def files(self) -> Iterator[ArchiveFile]:
        """
        Find all files, those of the quarantine too, each once.

        :raises MissingError: if a source that is no glob is missing, or there is no file at all
        :raises ValueError: if what a file holds cannot be told
        """
        seen: set[str] = set()
        own = self.state_uri("")
        for source in self.sources:
            is_empty = True
            for found in storage.find(source, self.client):
                if found.uri.startswith(own):
                    continue
                is_empty = False
                if found.uri not in seen:
                    seen.add(found.uri)
                    yield self._file(found)
            if is_empty:
                log.warning("%s: there is no such file", storage.display(source))
        if not seen:
            raise MissingError(f"{', '.join(map(storage.display, self.sources))}: there is no such file")
        yield from self._quarantined_files()

    def _quarantined_files(self) -> Iterator[ArchiveFile]:
        for found in storage.find(f"{self._quarantine}**", self.state_client):
            try:
                file = self._file(found)
            except ValueError as error:
                # The state may be that of another choice of files too, which is told more.
                log.warning("%s; it is left out", error)
            else:
                yield file

    def file(self, uri: str) -> ArchiveFile:
        """
        Look at a file as it is now.

        :raises MissingError: if it is gone
        """
        return self._file(storage.stat(uri, self.client_of(uri)))

    def holds(self, uri: str) -> bool:
        """Return whether a file of that name is one of these, or would be."""
        is_own = uri.startswith(self.state_uri(""))
        return not is_own and any(storage.finds(source, uri) for source in self.sources)

    def state_uri(self, *names: str) -> str:
        """Return the URI of something that is kept about the archive."""
        return "/".join((self.state.rstrip("/"), *names))

    def place_of_copies(self, destination: str) -> str | None:
        """
        Return the folder of copies; None if it is that of the files themselves.

        :raises ValueError: if it is a pattern
        """
        folder = storage.canonical(destination).rstrip("/")
        if _WILDCARDS.search(folder):
            raise ValueError(
                f"destination: {storage.display(destination)!r} is a pattern; give a folder, or nothing for "
                "in place"
            )
        return None if f"{folder}/" == self.root else folder

    @property
    def key(self) -> str:
        """What this choice of files is known by: another choice of the same folder has checks of its own."""
        return key_of(*sorted(self.sources))

    def tombstones_uri(self, job_type: JobType) -> str:
        """Return where it is kept what X said earlier."""
        return self.state_uri("tombstones", f"{job_type}.ndjson")

    def tombstones(self, job_type: JobType) -> Tombstones:
        """Read what X said earlier."""
        uri = self.tombstones_uri(job_type)
        try:
            with storage.open_source(uri, self.state_client) as source:
                return read_tombstones(source, storage.display(uri))
        except MissingError:
            return {}

    def quarantine_uri(self, file: ArchiveFile, key: str) -> str:
        """Return where records of a file go that wait to be fetched again."""
        return f"{self._quarantine}{key}/{file.name}"

    def client_of(self, uri: str) -> Any:
        """Return the client of the store that holds a file."""
        return self.state_client if uri.startswith(self._quarantine) else self.client

    def open_raw(self, file: ArchiveFile) -> AbstractContextManager[Any]:
        """
        Open this version of a file as it is stored.

        :raises ChangedError: if another version is there
        """
        return storage.open_source(file.uri, self.client_of(file.uri), version=file.version)

    @contextmanager
    def open_plain(self, file: ArchiveFile, directory: Path) -> Iterator[Any]:
        """
        Open this version of a file, decompressed; in a local copy if it has to be sought in.

        :raises ChangedError: if another version is there
        """
        if file.format.kind == "parquet":
            with self._local_copy(file, directory) as copy:
                yield copy
        else:
            with self.open_raw(file) as raw, plain_reader(raw, file.format.compression) as plain:
                yield plain

    def index(
        self, file: ArchiveFile, directory: Path, helper: Helper | None = None
    ) -> tuple[FileIndex, ArchiveFile]:
        """
        Return the index of a file, which is made if this version has none yet.

        :param directory: a spool, in which the index stays until the next one
        :param helper: reads some of what has to be read
        :return: the index, and the version of the file that it is of: the file may have changed meanwhile
        :raises ChangedError: if it changes each time while it is read
        """
        path = directory / "index"
        if index := self._find_index(file, path):
            return index, file
        for _ in range(MAX_READS - 1):
            try:
                return self._make_index(file, path, helper), file
            except ChangedError as error:
                log.info("%s; it is read again", error)
                file = self.file(file.uri)
        return self._make_index(file, path, helper), file

    def ask(
        self,
        file: ArchiveFile,
        directory: Path,
        question: Callable[[FileIndex], _T],
        helper: Helper | None = None,
    ) -> tuple[_T, FileIndex, ArchiveFile]:
        """
        Ask the index of a file something; one that turns out to be damaged is made anew.

        :return: the answer, and what :meth:`index` returns
        """
        index, file = self.index(file, directory, helper)
        try:
            return question(index), index, file
        except InvalidIndexError as error:
            log.warning("%s: %s; it is made anew", storage.display(file.uri), error)
            self.forget(file)
        index, file = self.index(file, directory, helper)
        return question(index), index, file

    def forget(self, file: ArchiveFile) -> None:
        """Remove the index of this version of a file, so that it is read again."""
        storage.remove(self._index_uri(file), self.state_client)

    def has_index(self, file: ArchiveFile) -> bool:
        """Whether this version of a file had an index when the first of them was looked for."""
        return self._index_uri(file) in self._indexes

    def remove_old_indexes(self, files: Mapping[str, str]) -> None:
        """
        Remove the indexes of files and versions that are no more, but those of another choice of files.

        :param files: name → key of all there is
        """
        for uri in self._indexes:
            name, _, key = uri.removeprefix(self.state_uri("index", "")).removesuffix(".zip").rpartition(".")
            is_ours = name in files or name.startswith(_QUARANTINED) or self.holds(f"{self.root}{name}")
            if is_ours and files.get(name) != key:
                storage.remove(uri, self.state_client)

    @property
    def _quarantine(self) -> str:
        return self.state_uri("quarantine", "")

    @cached_property
    def _indexes(self) -> frozenset[str]:
        found = storage.find(self.state_uri("index", "**"), self.state_client)
        return frozenset(each.uri for each in found)

    def _file(self, found: Found) -> ArchiveFile:
        is_quarantined = found.uri.startswith(self._quarantine)
        name = self._name_of(found.uri)
        # In the quarantine a file is called as in the archive, behind the key of when it was put there.
        told = name.split("/", 2)[-1] if is_quarantined else name
        return ArchiveFile(
            uri=found.uri,
            name=name,
            bytes=found.bytes,
            version=found.version,
            format=format_of(told, shape=_match(self.shapes, told), columns=_match(self.columns, told)),
            is_quarantined=is_quarantined,
        )

    def _name_of(self, uri: str) -> str:
        if uri.startswith(self._quarantine):
            return f"{_QUARANTINED}{uri.removeprefix(self._quarantine)}"
        if self.root and uri.startswith(self.root):
            return uri.removeprefix(self.root)
        return storage.display(uri).replace("://", "/").lstrip("/")

    @contextmanager
    def _local_copy(self, file: ArchiveFile, directory: Path) -> Iterator[Any]:
        require_room(directory, file.bytes)
        path = directory / "copy"
        try:
            storage.fetch(file.uri, path, self.client_of(file.uri), file.version)
            with path.open("rb") as copy:
                yield copy
        finally:
            path.unlink(missing_ok=True)

    def _index_uri(self, file: ArchiveFile) -> str:
        return self.state_uri("index", f"{file.name}.{file.key}.zip")

    def _find_index(self, file: ArchiveFile, path: Path) -> FileIndex | None:
        uri = self._index_uri(file)
        local = storage.local_file(uri)
        try:
            if not local:
                storage.fetch(uri, path, self.state_client)
            return FileIndex(local or path)
        except (FileNotFoundError, MissingError, InvalidIndexError):
            return None

    def _make_index(self, file: ArchiveFile, path: Path, helper: Helper | None) -> FileIndex:
        name = storage.display(file.uri)
        progress = Progress(f"reading {name}", None if file.format.compression else file.bytes)
        is_ndjson = file.format.kind == "ndjson"
        read = partial(ndjson.read, helper=helper) if is_ndjson else module_of(file.format).read
        with self.open_plain(file, path.parent) as source, IndexWriter(path) as writer:
            facts = read(source, file.format, name, writer, progress.add)
        for line in facts.bad_lines:
            log.warning("%s", line)
        storage.land(
            path, storage.checksum_of(str(path)), self._index_uri(file), self.state_client, replace=True
        )
        return FileIndex(path)


def until_unchanged(once: Callable[[], _T]) -> _T:
    """
    Do something with a file once more if another writer changed it meanwhile.

    :raises ChangedError: if that happened three times
    """
    for _ in range(MAX_READS - 1):
        try:
            return once()
        except ChangedError as error:
            log.info("%s; it is read again", error)
    return once()


def root_of(sources: Sequence[str]) -> str:
    """Return the folder that files have in common, with a slash at its end; nothing if there is none."""
    folders = [_WILDCARDS.split(source, maxsplit=1)[0].rpartition("/")[0].split("/") for source in sources]
    levels = zip(*folders, strict=False)
    common = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels)]
    # At least a scheme and a bucket, or the root of a file system.
    least = 3 if "://" in "".join(sources[:1]) else 1
    return "/".join([*common, ""]) if len(common) >= least else ""


def _match(rules: Mapping[str, Any], name: str) -> Any:
    return next((value for pattern, value in rules.items() if fnmatchcase(name, pattern)), None)
