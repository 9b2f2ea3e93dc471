"""Many ids: sorted, and each once, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from airflow_provider_xcompliance.archive.extras import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = require("numpy", "archive", "reading archives")

# A run takes 64 MB of memory until it is written.
_IDS_IN_RUN = 8_000_000
# What is done with so many ids stays in a processor's caches.
_IDS_AT_ONCE = 1 << 18
_LINES_AT_ONCE = 1 << 15

_MAX_DIGITS = 19
_NEWLINE = ord("\n")
_WORD = 8
_MARGIN = 3 * _WORD

# 10, 100, …: a number below the first of them has one digit.
_POWERS = 10 ** np.arange(1, _MAX_DIGITS, dtype=np.int64)

# Where the lower half of each digit stands in a word of text, of which so many last bytes are digits.
_DIGITS = np.array(
    [0x0F0F0F0F0F0F0F0F & -(1 << 8 * (_WORD - digits)) for digits in range(_WORD + 1)], np.uint64
)
# Adds to each part of a word ten, a hundred, ten thousand times the one before it.
_JOINTS = [
    tuple(map(np.uint64, joint))
    for joint in (
        (10 << 8 | 1, 8, 0x00FF00FF00FF00FF),
        (100 << 16 | 1, 16, 0x0000FFFF0000FFFF),
        (10_000 << 32 | 1, 32, 0x00000000FFFFFFFF),
    )
]

_GROUP = 4
# The text of 0000 to 9999, each as one word.
_FOUR_DIGITS = np.frombuffer(b"".join(b"%04d" % number for number in range(10_000)), "<u4")

# With more changes from one number of digits to another than this, ids are in no order.
_MAX_STRETCHES = 4 * _MAX_DIGITS


class SortedIds:
    """
    Ids given in any order, and come out in order, each once, as often as they are asked for.

    :param directory: for temporary files of 8 bytes for each id, in which nothing else is
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._run = np.empty(_IDS_IN_RUN, np.int64)
        self._length = 0
        self._is_sorted = True
        self._runs: list[_Run] = []
        self._numbers = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for run in self._runs:
            run.path.unlink(missing_ok=True)

    def add(self, ids: NDArray[np.int64]) -> None:
        """Take some more ids, repeated or not."""
        while len(ids):
            some = ids[: _IDS_IN_RUN - self._length]
            self._run[self._length : self._length + len(some)] = some
            self._length += len(some)
            self._is_sorted = False
            ids = ids[len(some) :]
            if self._length == _IDS_IN_RUN:
                self._end_run()

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Go through all ids, at most about 250,000 at a time, each lot until the next one is asked for."""
        if not self._runs:
            ids = self._sorted_run()
            yield from (ids[start : start + _IDS_AT_ONCE] for start in range(0, len(ids), _IDS_AT_ONCE))
            return
        if self._length:
            self._end_run()
        at_once = _IDS_AT_ONCE // max(len(self._runs), 1) + 1
        readers = [_Reader(run, at_once) for run in self._runs]
        while readers := [reader for reader in readers if reader.fill()]:
            # All ids up to there are at hand: what is still on disk is larger.
            end = min(reader.ids[-1] for reader in readers)
            ids = np.concatenate([reader.take(end) for reader in readers])
            ids.sort()
            yield unique_in_place(ids)

    def merge(self) -> None:
        """Put together what is on disk, so that going through it again and again takes less."""
        if self._runs and self._length:
            self._end_run()
        if len(self._runs) < 2:
            return
        path = self._new_path()
        with path.open("wb") as file:
            length = sum(file.write(ids.data) // ids.itemsize for ids in self)
        for run in self._runs:
            run.path.unlink()
        self._runs = [_Run(path, length)]

    def _end_run(self) -> None:
        ids = self._sorted_run()
        path = self._new_path()
        ids.tofile(path)
        self._runs.append(_Run(path, len(ids)))
        self._length = 0

    def _new_path(self) -> Path:
        # What is merged is read until the end: no name comes twice.
        return self._directory / f"ids.{next(self._numbers)}"

    def _sorted_run(self) -> NDArray[np.int64]:
        ids = self._run[: self._length]
        if not self._is_sorted:
            ids.sort()
            ids = unique_in_place(ids)
            self._length, self._is_sorted = len(ids), True
        return ids


class _Run(NamedTuple):
    """Sorted ids on disk."""

    path: Path
    length: int


class _Reader:
    """Reads a run; some ids of it are always at hand, until its end."""

    def __init__(self, run: _Run, at_once: int) -> None:
        self._run = run
        self._at_once = at_once
        self._place = 0
        self.ids = np.empty(0, np.int64)

    def fill(self) -> bool:
        """Read on; False at the end."""
        count = min(self._at_once - len(self.ids), self._run.length - self._place)
        if count:
            offset = self._place * self.ids.itemsize
            more = np.fromfile(self._run.path, np.int64, count, offset=offset)
            self._place += count
            self.ids = np.concatenate([self.ids, more])
        return len(self.ids) > 0

    def take(self, end: np.int64) -> NDArray[np.int64]:
        """Hand out the ids up to this one."""
        count = np.searchsorted(self.ids, end, "right")
        taken, self.ids = self.ids[:count], self.ids[count:]
        return taken


def unique_in_place(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """
    Leave one of each of sorted ids, in the memory that they are in.

    :return: the part of it that still holds ids
    """
    # np.unique is many times slower, and takes as much memory again.
    end = 0
    for start in range(0, len(ids), _IDS_AT_ONCE):
        part = ids[start : start + _IDS_AT_ONCE]
        is_new = np.empty(len(part), np.bool_)
        is_new[0] = not end or part[0] != ids[end - 1]
        np.not_equal(part[1:], part[:-1], out=is_new[1:])
        if end < start or not is_new.all():
            part = part[is_new]
            ids[end : end + len(part)] = part
        end += len(part)
    return ids[:end]


def numbers_of(lines: bytes) -> NDArray[np.int64]:
    """Return the numbers of clean ids, one on each line: see :class:`.ids.IdReader`."""
    # Words are read from the ends of lines on, so that the first may begin before the first line.
    text = np.frombuffer(b"\n" * _MARGIN + lines, np.uint8)
    size = lines.find(b"\n") + 1
    if size and len(lines) % size == 0 and lines.count(b"\n") * size == len(lines):
        ends = slice(_MARGIN + size - 1, None, size)
        if (text[ends] == _NEWLINE).all():
            return _numbers_of_one_length(text, size - 1, len(lines) // size)
    return _numbers_of_any_length(text)


def _numbers_of_one_length(text: NDArray[np.uint8], digits: int, number: int) -> NDArray[np.int64]:
    numbers = np.zeros(number, np.uint64)
    for place in range(0, digits, _WORD):
        offset = _MARGIN + digits - place - _WORD
        words = np.ndarray(number, "<u8", text, offset, (digits + 1,))
        numbers += _eight_digits(words & _DIGITS[min(digits - place, _WORD)]) * np.uint64(10**place)
    return numbers.view(np.int64)


def _numbers_of_any_length(text: NDArray[np.uint8]) -> NDArray[np.int64]:
    ends = np.flatnonzero(text == _NEWLINE)[_MARGIN:]
    lengths = np.diff(ends, prepend=_MARGIN - 1) - 1
    words = np.ndarray(len(text) - _WORD + 1, "<u8", text, strides=(1,))
    numbers = np.zeros(len(ends), np.uint64)
    for place in range(0, int(lengths.max(initial=0)), _WORD):
        kept = _DIGITS[np.clip(lengths - place, 0, _WORD)]
        numbers += _eight_digits(words[ends - place - _WORD] & kept) * np.uint64(10**place)
    return numbers.view(np.int64)


def _eight_digits(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Turn words of up to eight digits into their numbers, in place: neighbours are joined to 2, 4, 8."""
    for factor, shift, mask in _JOINTS:
        words *= factor
        words >>= shift
        words &= mask
    return words


def lines_of(ids: NDArray[np.int64]) -> bytes:
    """Return the text of ids, one on each line; quick if they are in order."""
    starts = range(0, len(ids), _LINES_AT_ONCE)
    return b"".join([_lines_of(ids[start : start + _LINES_AT_ONCE]) for start in starts])


def _lines_of(ids: NDArray[np.int64]) -> bytes:
    digits = np.searchsorted(_POWERS, ids, "right") + 1
    starts = [0, *(np.flatnonzero(np.diff(digits)) + 1).tolist(), len(ids)]
    if len(starts) > _MAX_STRETCHES:
        return b"".join([b"%d\n" % number for number in ids.tolist()])
    stretches = pairwise(starts)
    return b"".join([_lines_of_one_length(ids[start:end], int(digits[start])) for start, end in stretches])


def _lines_of_one_length(ids: NDArray[np.int64], digits: int) -> bytes:
    if digits < _GROUP:
        return b"".join([b"%d\n" % number for number in ids.tolist()])
    size = digits + 1
    # The first group of a line reaches into the line before it, or into the margin: what it overwrites there
    # is written after it.
    text = np.empty(_GROUP + len(ids) * size, np.uint8)
    groups = []
    for _ in range(0, digits, _GROUP):
        # Quicker than divmod.
        rest = ids // 10**_GROUP
        groups.append(_FOUR_DIGITS[ids - rest * 10**_GROUP])
        ids = rest
    for number, group in reversed([*enumerate(groups, start=1)]):
        offset = _GROUP + digits - number * _GROUP
        np.ndarray(len(group), "<u4", text, offset, (size,))[:] = group
    text[_GROUP + digits :: size] = _NEWLINE
    return text[_GROUP:].tobytes()
