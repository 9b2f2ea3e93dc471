"""Files of text: a part of them at a time, and the ids in it."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from airflow_provider_xcompliance.archive.extras import require
from airflow_provider_xcompliance.archive.ids import MAX_ID, MAX_ID_BYTES
from airflow_provider_xcompliance.archive.index import BadIndexError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = require("numpy", "archive", "reading archives")

#: No record is longer; what is, is something else, and nothing of the file is written.
MAX_RECORD_BYTES = 64 << 20

_BLOCK_BYTES = 1 << 20
_ZERO = ord("0")
_LF = b"\n"


class Buffer:
    """
    The part of a file that is at hand.

    :param name: what errors call the file
    """

    def __init__(self, source: IO[bytes], name: str) -> None:
        self._source = source
        self._name = name
        self.data = b""
        #: Where in the data that begins which is not done yet.
        self.at = 0
        #: Whether the data goes to the end of the file.
        self.is_final = False
        self._start = 0

    @property
    def place(self) -> int:
        """Where in the file that begins which is not done yet."""
        return self._start + self.at

    def more(self) -> int:
        """
        Drop what is done, and read on, more each time if nothing of it gets done.

        :return: how much was read
        :raises ValueError: if what is not done is longer than any record
        """
        rest = len(self.data) - self.at
        if rest > MAX_RECORD_BYTES:
            raise ValueError(
                f"{self._name}: at byte {self.place:,} begins a record of over {MAX_RECORD_BYTES >> 20} MB; "
                "a quote may be open since there, or this is another kind of file"
            )
        block = self._source.read(max(_BLOCK_BYTES, rest))
        self._start += self.at
        self.data = self.data[self.at :] + block
        self.at = 0
        self.is_final = not block
        return len(block)

    def copy_to(self, place: int, sink: IO[bytes]) -> None:
        """
        Write what comes before a place in the file, where a record has to begin.

        :raises BadIndexError: if none begins there
        """
        last = _LF
        while place > self._start + len(self.data) and not self.is_final:
            last = self._write(len(self.data), sink) or last
            self.more()
        last = self._write(place - self._start, sink) or last
        if self.place != place or last != _LF or (self.at == len(self.data) and self.is_final):
            raise BadIndexError(
                f"{self._name}: the index is not of this file: no record begins at byte {place:,}"
            )

    def copy_rest(self, sink: IO[bytes]) -> None:
        """Write all that is left."""
        self._write(len(self.data), sink)
        while self.more():
            self._write(len(self.data), sink)

    def _write(self, end: int, sink: IO[bytes]) -> bytes:
        """Write what is at hand up to there, and return its last byte."""
        start, self.at = self.at, max(min(end, len(self.data)), self.at)
        sink.write(memoryview(self.data)[start : self.at])
        return self.data[max(start, self.at - 1) : self.at]


def ids_at(text: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ids between these places of a text; -1 where something else stands."""
    lengths = ends - starts
    valid = (lengths > 0) & (lengths <= MAX_ID_BYTES)
    numbers = np.zeros(len(starts), np.uint64)
    for place in range(min(MAX_ID_BYTES, int(lengths.max(initial=0)))):
        is_inside = place < lengths
        # What is below zero wraps to something large.
        digits = text[np.where(is_inside, ends - 1 - place, 0)] - np.uint8(_ZERO)
        valid &= ~is_inside | (digits <= 9)
        numbers += np.where(is_inside, digits, 0) * np.uint64(10**place)
    has_leading_zero = valid & (lengths > 1)
    has_leading_zero[has_leading_zero] = text[starts[has_leading_zero]] == _ZERO
    valid &= ~has_leading_zero & (numbers <= MAX_ID)
    return np.where(valid, numbers.astype(np.int64), -1)
