"""The index of one file: which ids occur in it, and where."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import msgspec

from airflow_provider_xcompliance.archive.extras import require
from airflow_provider_xcompliance.archive.guards import JOB_TYPES, JobType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = require("numpy", "archive", "reading archives")

#: A segment ends before it would reach over more bytes of the file, or hold more ids, than this: then whoever
#: reads the index never holds more than about 30 MB of it.
SEGMENT_BYTES = 64 << 20
SEGMENT_IDS = 1_000_000

# Raised whenever other ids are found in the same content, too.
_VERSION = 2
_CONTENTS = "index.json"
_LAST_POSITION = 2**32 - 1

# All that zipfile, numpy and msgspec make of damaged bytes; nothing is read from them before the check sum.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    msgspec.MsgspecError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


class InvalidIndexError(ValueError):
    """An index is damaged, cut, or of another version: build it anew."""


class BadIndexError(ValueError):
    """An index is not of the file beside it: where it says that a record starts, none does."""


class Entries(NamedTuple):
    """
    Ids, and for each the position of the record that holds it.

    A position is the offset of the record's first byte in the plain content; in Parquet, the row's number.
    """

    ids: NDArray[np.int64]
    at: NDArray[np.integer[Any]]


class Events(Protocol):
    """What an index is asked about: ids that have an event, each kind sorted and unique."""

    @property
    def posts(self) -> NDArray[np.int64]:
        """Ids of posts."""

    @property
    def users(self) -> NDArray[np.int64]:
        """Ids of users."""


@dataclass
class Facts:
    """
    What reading a file showed.

    :param records: posts and users of their own, bad ones left out
    :param bad: lines or rows that are no record
    :param bad_lines: the first of them, each as ``file:line: what is wrong``
    :param authorless: posts of their own whose author is not known
    :param bytes: of plain content
    """

    records: int = 0
    bad: int = 0
    bad_lines: list[str] = field(default_factory=list)
    authorless: int = 0
    bytes: int = 0


class _Contents(msgspec.Struct):
    version: int
    bases: list[int]
    facts: Facts


class IndexWriter:
    """
    Write an index; it counts only once :meth:`finish` has been called.

    :param path: a local file
    """

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._bases: list[int] = []
        self._pending: list[tuple[Entries, Entries]] = []
        self._base = 0
        self._ids = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def add(self, posts: Entries, users: Entries, base: int) -> None:
        """
        Add the ids of the next part of the file, in any order.

        :param base: what their positions count from; positions of later parts are greater
        """
        ids = len(posts.ids) + len(users.ids)
        if not ids:
            return
        shift = base - self._base
        last = shift + max(int(entries.at.max()) for entries in (posts, users) if len(entries.at))
        if self._pending and (last > SEGMENT_BYTES or self._ids + ids > SEGMENT_IDS):
            self._end_segment()
        if not self._pending:
            self._base, shift, last = base, 0, last - shift
        if not 0 <= last <= _LAST_POSITION:
            raise ValueError(f"a part from {base:,} to {base + last:,} is out of order, or too large")
        self._pending.append((_shifted(posts, shift), _shifted(users, shift)))
        self._ids += ids

    def finish(self, facts: Facts) -> None:
        """Write what is left, and what reading the file showed."""
        if self._pending:
            self._end_segment()
        self._write(_CONTENTS, msgspec.json.encode(_Contents(_VERSION, self._bases, facts)))

    def _end_segment(self) -> None:
        for job_type, parts in zip(JOB_TYPES, zip(*self._pending, strict=True), strict=True):
            ids = np.concatenate([part.ids for part in parts])
            at = np.concatenate([part.at for part in parts])
            order = np.argsort(ids)
            for name, values in (("ids", ids[order]), ("at", at[order])):
                content = io.BytesIO()
                np.lib.format.write_array(content, values, allow_pickle=False)
                self._write(_member(len(self._bases), job_type, name), content.getbuffer())
        self._bases.append(self._base)
        self._pending, self._ids = [], 0

    def _write(self, name: str, content: bytes | memoryview) -> None:
        # The same content makes the same index: no date of today in it.
        self._zip.writestr(zipfile.ZipInfo(name), content)


class FileIndex:
    """
    A finished index.

    :raises InvalidIndexError: if it is not whole; so do its methods
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _Segments(self._path) as segments:
            contents = segments.contents()
        self._bases = contents.bases
        #: What reading the file showed.
        self.facts = contents.facts

    def ids(self, job_type: JobType) -> Iterator[NDArray[np.int64]]:
        """Return all ids of posts, or of users; sorted and unique per segment."""
        with _Segments(self._path) as segments:
            for number in range(len(self._bases)):
                yield _unique(segments.read(number, job_type, "ids"))

    def hits(self, events: Events) -> NDArray[np.int64]:
        """Return the positions of all records that hold an id with an event, in order, each once."""
        found = [np.empty(0, np.int64)]
        with _Segments(self._path) as segments:
            for number, base in enumerate(self._bases):
                at = [
                    segments.met(number, job_type, with_event)
                    for job_type, with_event in zip(JOB_TYPES, (events.posts, events.users), strict=True)
                ]
                found.append(_unique(np.sort(np.concatenate(at))) + base)
        return np.concatenate(found)


class _Segments:
    """The members of an index, each checked before it is looked at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")

    def __enter__(self) -> Self:
        try:
            self._zip = zipfile.ZipFile(self._file)
        except _DAMAGE as error:
            self._file.close()
            raise self._invalid(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def contents(self) -> _Contents:
        try:
            contents = msgspec.json.decode(self._zip.read(_CONTENTS), type=_Contents)
        except _DAMAGE as error:
            raise self._invalid(error) from None
        if contents.version != _VERSION:
            raise InvalidIndexError(f"{self._path.name}: version {contents.version} of the index")
        return contents

    def read(self, number: int, job_type: str, name: str) -> NDArray[Any]:
        try:
            # All of it first: its check sum is compared at its end.
            content = self._zip.read(_member(number, job_type, name))
            values: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        except _DAMAGE as error:
            raise self._invalid(error) from None
        return values

    def met(self, number: int, job_type: str, with_event: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions, in no order, whose ids have an event."""
        places = _places(self.read(number, job_type, "ids"), with_event)
        if not len(places):
            return places
        return self.read(number, job_type, "at")[places].astype(np.int64)

    def _invalid(self, error: Exception) -> InvalidIndexError:
        return InvalidIndexError(f"{self._path.name}: not a whole index ({error})")


def _member(number: int, job_type: str, name: str) -> str:
    return f"{number}.{job_type}.{name}.npy"


def _shifted(entries: Entries, shift: int) -> Entries:
    at = entries.at.astype(np.uint32)
    at += np.uint32(shift)
    return Entries(entries.ids, at)


def _unique(values: NDArray[np.int64]) -> NDArray[np.int64]:
    # np.unique is many times slower.
    first = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def _places(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of those ids that are wanted; both are sorted, and ids may repeat."""
    if not len(ids):
        return np.empty(0, np.int64)
    wanted = wanted[np.searchsorted(wanted, ids[0]) : np.searchsorted(wanted, ids[-1], "right")]
    if len(wanted) < len(ids):
        first = np.searchsorted(ids, wanted)
        times = np.searchsorted(ids, wanted, "right") - first
        before = np.cumsum(times) - times
        return np.repeat(first - before, times) + np.arange(times.sum())
    at = np.searchsorted(wanted, ids)
    return np.flatnonzero(wanted[np.minimum(at, len(wanted) - 1)] == ids)
