"""Ids that occur more than once, found and left out in memory that does not grow with the file."""

from __future__ import annotations

import operator
from array import array
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile

import msgspec

from airflow_provider_xcompliance.archive.lines import line_blocks

# Shares of a file of 50 million ids, the most that a job takes, are sets of about 15 MB.
_SHARES = 251

# How many ids wait in memory before they go to their shares on disk.
_IDS_IN_MEMORY = 250_000

# A set of so many ids takes about 10 MB.
_IDS_AT_ONCE = 100_000

# Reads the numbers of a block in half the time of int().
_decoder = msgspec.json.Decoder(list[int])


class IdShares:
    """
    Ids spread over a temporary file such that equal ones meet in the same share, whatever their order.

    Iterating yields the shares, of which each fits into memory.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self._pending = [array("Q") for _ in range(_SHARES)]
        self._count = 0
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(_SHARES)]

    def __enter__(self) -> IdShares:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, ids: list[int]) -> None:
        """Take some more ids."""
        append = [share.append for share in self._pending]
        for number in ids:
            append[number % _SHARES](number)
        self._count += len(ids)
        if self._count >= _IDS_IN_MEMORY:
            self._write_out()

    def __iter__(self) -> Iterator[array[int]]:
        """Go through the shares."""
        self._write_out()
        for places in self._places:
            share = array("Q")
            for place, length in places:
                self._file.seek(place)
                share.frombytes(self._file.read(length))
            yield share

    def _write_out(self) -> None:
        place = self._file.seek(0, 2)
        for share, places in zip(self._pending, self._places, strict=True):
            length = self._file.write(share.tobytes())
            places.append((place, length))
            place += length
            del share[:]
        self._count = 0


def numbers(clean: bytes) -> list[int]:
    """Return the ids of a clean block: see :class:`.ids.IdReader`."""
    return _decoder.decode(b"[%b]" % clean[:-1].replace(b"\n", b","))


def drop_repeated(path: Path) -> int:
    """
    Leave out of a file of clean ids each one that stands further up already; the order stays.

    :return: how many were left out
    """
    return 0 if _ascends(path) else sum(_rewrite(path, repeated) for repeated in _repeated(path))


def _ascends(path: Path) -> bool:
    """Whether each id is larger than the one before: sorted files are common, and need no search."""
    last = -1
    with path.open("rb") as file:
        for block in line_blocks(file):
            ids = numbers(block)
            if ids[0] <= last or not all(map(operator.lt, ids, islice(ids, 1, None))):
                return False
            last = ids[-1]
    return True


def _repeated(path: Path) -> Iterator[set[int]]:
    """Find the ids that occur more than once, some at a time."""
    found: set[int] = set()
    with IdShares() as shares:
        with path.open("rb") as file:
            for block in line_blocks(file):
                shares.add(numbers(block))
        for share in shares:
            if len(set(share)) < len(share):
                found.update(number for number, times in Counter(share).items() if times > 1)
            if len(found) >= _IDS_AT_ONCE:
                yield found
                found = set()
    if found:
        yield found


def _rewrite(path: Path, repeated: set[int]) -> int:
    """Keep the first occurrence of these ids, and all others; return how many lines are gone."""
    texts = {b"%d" % number for number in repeated}
    to_come = set(texts)
    part = path.with_name(f"{path.name}.part")
    dropped = 0
    with path.open("rb") as old, part.open("xb") as new:
        for block in line_blocks(old):
            lines = block.split(b"\n")[:-1]
            if not texts.isdisjoint(lines):
                kept = [line for line in lines if line not in texts or _is_first(line, to_come)]
                dropped += len(lines) - len(kept)
                block = b"".join(line + b"\n" for line in kept)
            new.write(block)
    part.replace(path)
    return dropped


def _is_first(line: bytes, to_come: set[bytes]) -> bool:
    if line not in to_come:
        return False
    to_come.remove(line)
    return True
