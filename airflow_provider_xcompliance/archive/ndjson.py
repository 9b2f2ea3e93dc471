"""
Newline-delimited JSON: which ids it holds and where, and what is left of it after the events.

What a line holds, :mod:`.records` says; of many common lines at once, :mod:`.typed_records`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from airflow_provider_xcompliance.archive.extras import require
from airflow_provider_xcompliance.archive.ids import MAX_SHOWN
from airflow_provider_xcompliance.archive.index import BadIndexError, Entries, Facts, IndexWriter
from airflow_provider_xcompliance.archive.lines import LineTooLongError
from airflow_provider_xcompliance.archive.records import (
    NOTICES,
    BadRecordError,
    Counts,
    Decisions,
    ids_of,
    redact,
)
from airflow_provider_xcompliance.archive.typed_records import TypedReader, UncommonError

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import SupportsWrite, WriteableBuffer
    from numpy.typing import NDArray

    from airflow_provider_xcompliance.archive.formats import Format
else:
    np = require("numpy", "archive", "reading archives")

#: A file with a longer line is something else.
MAX_LINE_BYTES = 64 << 20

# More is no faster.
_BLOCK_BYTES = 1 << 20
# Where something is uncommon, so few lines are looked at one by one.
_FEW_LINES = 8

_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r"
_LF, _CR, _OPENING, _CLOSING = b"\n\r{}"

# How notices begin; two letters that tell them from what posts begin with, and whether they are those of one.
_NOTICES = tuple(f'{{"{name}"'.encode() for name in NOTICES)
_TELLING = 2, 6
_OF_NOTICES = np.zeros((256, 256), np.bool_)
_OF_NOTICES[tuple([beginning[at] for beginning in _NOTICES] for at in _TELLING)] = True


class Source(Protocol):
    """Plain content, open for reading."""

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        """Read into a buffer; nothing is the end."""


def read(
    source: Source,
    fmt: Format,
    name: str,
    index: IndexWriter,
    progress: Callable[[int], object] | None = None,
) -> Facts:
    """
    Read a file to its end, and write its index.

    :param source: the plain content
    :param name: what bad lines call the file
    :param progress: is called with the number of bytes that were read since it was called last
    :raises LineTooLongError: if a line is longer than any record
    """
    reader = _Reader(_shape(fmt), name)
    for block in _blocks(source, name):
        index.add(*reader.read(block), block.base)
        if progress:
            progress(block.size)
    index.finish(reader.facts)
    return reader.facts


def rewrite(
    source: Source,
    sink: SupportsWrite[bytes | memoryview],
    fmt: Format,
    name: str,
    hits: NDArray[np.int64],
    decisions: Decisions,
    quarantine: SupportsWrite[bytes] | None = None,
) -> Counts:
    """
    Write a file anew, without what has to go from the records at these positions.

    :param source: the plain content
    :param sink: where to write it
    :param name: what bad lines and errors call the file
    :param hits: positions out of the file's index, in order
    :param decisions: the events
    :param quarantine: gets posts that are to be fetched again, one on each line; None: they stay
    :return: what was done
    :raises BadIndexError: if no record starts at one of the positions
    :raises LineTooLongError: if a line is longer than any record
    """
    rewriter = _Rewriter(_shape(fmt), name, decisions, quarantine)
    done = 0
    for block in _blocks(source, name):
        till = done + int(np.searchsorted(hits[done:], block.base + block.size))
        sink.write(rewriter.rewritten(block, hits[done:till].tolist()))
        done = till
    if done < len(hits):
        raise _bad_index(name, hits[done])
    return rewriter.counts


def _shape(fmt: Format) -> str | None:
    # A page is one by its look, and so is what it has.
    return None if fmt.shape == "pages" else fmt.shape


class _Block(NamedTuple):
    """
    Whole lines of a file.

    :param base: where they begin in the file
    :param start: where the first line begins in the buffer
    :param end: where the last one ends in it; each does so with a newline
    :param size: number of bytes of the file; a newline that it lacks at its end is none
    """

    base: int
    buffer: bytearray
    start: int
    end: int
    size: int


def _blocks(source: Source, name: str) -> Iterator[_Block]:
    """Read a file in blocks, each of which is gone with the next."""
    # One buffer for all: new memory costs more than reading does. Its last byte is for a newline that lacks.
    buffer = bytearray(_BLOCK_BYTES + 1)
    base = filled = 0
    while size := _fill(source, buffer, filled):
        end = buffer.rfind(b"\n", filled, filled + size) + 1
        filled += size
        if end:
            yield _block(base, buffer, end, end)
            buffer[: filled - end] = buffer[end:filled]
            base, filled = base + end, filled - end
        elif filled >= MAX_LINE_BYTES:
            raise LineTooLongError(
                f"{name}: the line that begins at byte {base:,} is longer than {MAX_LINE_BYTES:,} bytes"
            )
        elif filled == len(buffer) - 1:
            buffer = buffer + bytes(filled)
    if filled:
        buffer[filled] = _LF
        yield _block(base, buffer, filled + 1, filled)


def _fill(source: Source, buffer: bytearray, filled: int) -> int:
    start = filled
    with memoryview(buffer) as view:
        while filled < len(buffer) - 1 and (size := source.readinto(view[filled:-1])):
            filled += size
    return filled - start


def _block(base: int, buffer: bytearray, end: int, size: int) -> _Block:
    start = len(_BOM) if not base and buffer.startswith(_BOM) else 0
    return _Block(base, buffer, start, end, size)


class _Rewriter:
    """Does what is decided to the records at some places of blocks, and counts it."""

    def __init__(
        self, shape: str | None, name: str, decisions: Decisions, quarantine: SupportsWrite[bytes] | None
    ) -> None:
        self._shape = shape
        self._name = name
        self._decisions = decisions
        self._quarantine = quarantine
        self.counts = Counts()

    def rewritten(self, block: _Block, hits: list[int]) -> bytes | memoryview:
        """Return what is left of a block."""
        whole = memoryview(block.buffer)[: block.size]
        parts: list[bytes | memoryview] = []
        at = 0
        for hit in hits:
            start = hit - block.base
            if start < block.start or (start > block.start and block.buffer[start - 1] != _LF):
                raise _bad_index(self._name, hit)
            end = block.buffer.index(b"\n", start) + 1
            parts += [whole[at:start], self._redacted(bytes(whole[start:end]), hit)]
            at = end
        return b"".join([*parts, whole[at:]]) if parts else whole

    def _redacted(self, line: bytes, at: int) -> bytes:
        record = line.removesuffix(b"\n").removesuffix(b"\r")
        try:
            done = redact(record, self._decisions, self._shape, quarantine=self._quarantine is not None)
        except BadRecordError as error:
            self._note_bad(f"{self._name}, byte {at:,}: {error}")
            return line
        self.counts.add(done.counts)
        if self._quarantine:
            for gone in done.quarantined:
                self._quarantine.write(gone + b"\n")
        return b"" if done.line is None else done.line + line[len(record) :]

    def _note_bad(self, text: str) -> None:
        if len(self.counts.bad_lines) < MAX_SHOWN:
            self.counts.bad_lines.append(text)


def _bad_index(name: str, hit: int) -> BadIndexError:
    return BadIndexError(f"{name}: no record begins at byte {hit:,}; its index is of another file")


@dataclass(frozen=True)
class _Lines:
    """
    Lines of a block, without empty ones.

    :param text: the block
    :param starts: where each begins
    :param stops: where each ends, before CR and LF
    :param numbers: of each, counted from 1 at the beginning of the file
    """

    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int, bytes]]:
        """Return of each its place, its number and itself."""
        for start, stop, number in zip(
            *map(np.ndarray.tolist, (self.starts, self.stops, self.numbers)), strict=True
        ):
            yield start, number, self.text[start:stop].tobytes()

    def some(self, which: slice | NDArray[np.bool_]) -> _Lines:
        return _Lines(self.text, self.starts[which], self.stops[which], self.numbers[which])

    @property
    def may_be_notices(self) -> NDArray[np.bool_]:
        letters = tuple(self.text[np.minimum(self.starts + at, self.stops)] for at in _TELLING)
        return _OF_NOTICES[letters]

    @property
    def content(self) -> memoryview:
        return self.text[self.starts[0] : self.stops[-1]].data

    @property
    def look_like_objects(self) -> bool:
        begun, ended = self.text[self.starts] == _OPENING, self.text[self.stops - 1] == _CLOSING
        return bool(begun.all() and ended.all())


class _Held(NamedTuple):
    """Ids of posts and users, and the places of the lines that hold them."""

    posts: Entries
    users: Entries


class _Reader:
    """Reads block after block, and keeps what they showed."""

    def __init__(self, shape: str | None, name: str) -> None:
        self._shape = shape
        self._name = name
        self._typed = TypedReader(shape)
        self._lines = 0
        self.facts = Facts()

    def read(self, block: _Block) -> _Held:
        """Return what a block holds."""
        self.facts.bytes += block.size
        lines = self._lines_of(block)
        held = [*self._held(lines)] if len(lines) else []
        return _Held(_joined([each.posts for each in held]), _joined([each.users for each in held]))

    def _lines_of(self, block: _Block) -> _Lines:
        text = np.frombuffer(block.buffer, np.uint8, block.end)
        ends = np.array(_newlines(block))
        starts = np.concatenate([[block.start], ends[:-1] + 1])
        stops = ends - (text[ends - 1] == _CR)
        lines = _Lines(text, starts, stops, np.arange(self._lines + 1, self._lines + 1 + len(ends)))
        self._lines += len(ends)
        is_empty = stops == starts
        return self._without_notices(lines.some(~is_empty) if is_empty.any() else lines)

    def _without_notices(self, lines: _Lines) -> _Lines:
        """Make empty lines of notices, so that those between them are read at once."""
        are_notices = lines.may_be_notices
        for place in np.flatnonzero(are_notices).tolist():
            text = lines.text[lines.starts[place] : lines.stops[place]]
            are_notices[place] = self._is_notice(text.tobytes())
            if are_notices[place]:
                text[:] = _LF
        return lines.some(~are_notices) if are_notices.any() else lines

    def _is_notice(self, line: bytes) -> bool:
        try:
            return line.startswith(_NOTICES) and not any(ids_of(line, self._shape))
        except BadRecordError:
            return False

    def _held(self, lines: _Lines) -> Iterator[_Held]:
        if lines.look_like_objects:
            with suppress(UncommonError):
                found = self._typed.held(lines.content, len(lines))
                self.facts.records += found.records
                self.facts.authorless += found.authorless
                yield _Held(
                    Entries(found.posts, lines.starts[found.post_lines]),
                    Entries(found.users, lines.starts[found.user_lines]),
                )
                return
        if len(lines) <= _FEW_LINES:
            yield self._held_one_by_one(lines)
            return
        middle = len(lines) // 2
        yield from self._held(lines.some(slice(middle)))
        yield from self._held(lines.some(slice(middle, None)))

    def _held_one_by_one(self, lines: _Lines) -> _Held:
        posts: list[tuple[int, int]] = []
        users: list[tuple[int, int]] = []
        for start, number, line in lines:
            if not line.strip(_BLANKS):
                continue
            try:
                held = ids_of(line, self._shape)
            except BadRecordError as error:
                self._note_bad(f"{self._name}:{number}: {error}")
                continue
            self.facts.records += held.records
            self.facts.authorless += held.authorless
            posts += ((post, start) for post in held.posts)
            users += ((user, start) for user in held.users)
        return _Held(_entries(posts), _entries(users))

    def _note_bad(self, text: str) -> None:
        self.facts.bad += 1
        if len(self.facts.bad_lines) < MAX_SHOWN:
            self.facts.bad_lines.append(text)


def _newlines(block: _Block) -> list[int]:
    # Lines are so long that numpy takes more time for this.
    found, at, find = [], block.start, block.buffer.find
    while (at := find(_LF, at, block.end) + 1) > 0:
        found.append(at - 1)
    return found


def _entries(pairs: list[tuple[int, int]]) -> Entries:
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return Entries(both[:, 0], both[:, 1])


def _joined(parts: list[Entries]) -> Entries:
    if len(parts) == 1:
        return parts[0]
    nothing = np.empty(0, np.int64)
    return Entries(
        np.concatenate([nothing, *(part.ids for part in parts)]),
        np.concatenate([nothing, *(part.at for part in parts)]),
    )
