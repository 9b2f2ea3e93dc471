"""
Blocks of lines of newline-delimited JSON: which ids they hold, and where.

What a line holds, :mod:`.records` says; of many common lines at once, :mod:`.typed_records`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_xcompliance.archive.extras import require
from airflow_provider_xcompliance.archive.ids import MAX_SHOWN
from airflow_provider_xcompliance.archive.index import Entries
from airflow_provider_xcompliance.archive.records import NOTICES, BadRecordError, ids_of
from airflow_provider_xcompliance.archive.typed_records import TypedReader, UncommonError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = require("numpy", "archive", "reading archives")

# Where something is uncommon, so few lines are looked at one by one.
_FEW_LINES = 8

_BLANKS = b" \t\r"
_LF, _CR, _OPENING, _CLOSING = b"\n\r{}"

# How notices begin; two letters that tell them from what posts begin with, and whether they are those of one.
_NOTICES = tuple(f'{{"{name}"'.encode() for name in NOTICES)
_TELLING = 2, 6
_OF_NOTICES = np.zeros((256, 256), np.bool_)
_OF_NOTICES[tuple([beginning[at] for beginning in _NOTICES] for at in _TELLING)] = True


class Block(NamedTuple):
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


class Found(NamedTuple):
    """
    What a block holds; all positions count from its beginning.

    :param lines: how many it has
    :param records: posts and users of their own
    :param authorless: posts of their own whose author is not known
    :param bad: lines that are no record
    :param bad_lines: the first of them: which line, counted from 0, and what is wrong
    """

    posts: Entries
    users: Entries
    lines: int
    records: int
    authorless: int
    bad: int
    bad_lines: list[tuple[int, str]]


@dataclass(frozen=True)
class _Lines:
    """
    Lines of a block, without empty ones.

    :param text: the block
    :param starts: where each begins
    :param stops: where each ends, before CR and LF
    :param numbers: of each, counted from 0 at the beginning of the block
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


class BlockReader:
    """
    Reads block after block.

    :param shape: ``posts`` or ``users``; by default, found out record by record
    """

    def __init__(self, shape: str | None) -> None:
        self._shape = shape
        self._typed = TypedReader(shape)

    def read(self, block: Block) -> Found:
        """Return what a block holds; it may be altered meanwhile."""
        ends = np.array(_newlines(block))
        lines = self._lines_of(block, ends)
        parts = [*self._found(lines)] if len(lines) else []
        return Found(
            posts=_joined([part.posts for part in parts]),
            users=_joined([part.users for part in parts]),
            lines=len(ends),
            records=sum(part.records for part in parts),
            authorless=sum(part.authorless for part in parts),
            bad=sum(part.bad for part in parts),
            bad_lines=[line for part in parts for line in part.bad_lines][:MAX_SHOWN],
        )

    def _lines_of(self, block: Block, ends: NDArray[np.int64]) -> _Lines:
        text = np.frombuffer(block.buffer, np.uint8, block.end)
        starts = np.concatenate([[block.start], ends[:-1] + 1])
        stops = ends - (text[ends - 1] == _CR)
        lines = _Lines(text, starts, stops, np.arange(len(ends)))
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

    def _found(self, lines: _Lines) -> Iterator[Found]:
        if lines.look_like_objects:
            with suppress(UncommonError):
                held = self._typed.held(lines.content, len(lines))
                posts = Entries(held.posts, lines.starts[held.post_lines])
                users = Entries(held.users, lines.starts[held.user_lines])
                yield Found(posts, users, len(lines), held.records, held.authorless, 0, [])
                return
        if len(lines) <= _FEW_LINES:
            yield self._found_one_by_one(lines)
            return
        middle = len(lines) // 2
        yield from self._found(lines.some(slice(middle)))
        yield from self._found(lines.some(slice(middle, None)))

    def _found_one_by_one(self, lines: _Lines) -> Found:
        posts: list[tuple[int, int]] = []
        users: list[tuple[int, int]] = []
        bad: list[tuple[int, str]] = []
        records = authorless = 0
        for start, number, line in lines:
            if not line.strip(_BLANKS):
                continue
            try:
                held = ids_of(line, self._shape)
            except BadRecordError as error:
                bad.append((number, str(error)))
                continue
            records += held.records
            authorless += held.authorless
            posts += ((post, start) for post in held.posts)
            users += ((user, start) for user in held.users)
        return Found(_entries(posts), _entries(users), len(lines), records, authorless, len(bad), bad)


def _newlines(block: Block) -> list[int]:
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
