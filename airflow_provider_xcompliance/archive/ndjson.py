"""
Newline-delimited JSON: which ids it holds and where, and what is left of it after the events.

What blocks of lines hold, :mod:`.ndjson_blocks` says; what is left of a line, :mod:`.records`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from airflow_provider_xcompliance.archive.extras import require
from airflow_provider_xcompliance.archive.ids import MAX_SHOWN
from airflow_provider_xcompliance.archive.index import BadIndexError, Facts, IndexWriter
from airflow_provider_xcompliance.archive.lines import BOM, LineTooLongError
from airflow_provider_xcompliance.archive.ndjson_blocks import Block, BlockReader, Found
from airflow_provider_xcompliance.archive.records import BadRecordError, Counts, Decisions, redact
from airflow_provider_xcompliance.archive.text import MAX_RECORD_BYTES

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import SupportsWrite, WriteableBuffer
    from numpy.typing import NDArray

    from airflow_provider_xcompliance.archive.formats import Format
    from airflow_provider_xcompliance.archive.ndjson_helper import Helper, Promise
else:
    np = require("numpy", "archive", "reading archives")

# More is no faster.
_BLOCK_BYTES = 1 << 20

_LF = ord("\n")


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
    helper: Helper | None = None,
) -> Facts:
    """
    Read a file to its end, and write its index.

    :param source: the plain content
    :param name: what bad lines call the file
    :param progress: is called with the number of bytes that were read since it was called last
    :param helper: reads some of it
    :raises LineTooLongError: if a line is longer than any record
    """
    facts, lines = Facts(), 0
    for base, size, found in _found(_blocks(source, name), _shape(fmt), helper):
        index.add(found.posts, found.users, base)
        _add_to(facts, found, name, lines)
        facts.bytes += size
        lines += found.lines
        if progress:
            progress(size)
    index.finish(facts)
    return facts


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


def _found(
    blocks: Iterable[Block], shape: str | None, helper: Helper | None
) -> Iterator[tuple[int, int, Found]]:
    """Return of each block where it begins, its size, and what it holds."""
    reader = BlockReader(shape)
    waiting: deque[tuple[int, int, Found | Promise]] = deque()
    for block in blocks:
        promise = helper.take(block, shape) if helper else None
        waiting.append((block.base, block.size, promise or reader.read(block)))
        while waiting and _is_there(waiting[0][2]):
            base, size, found = waiting.popleft()
            yield base, size, _wait_for(found)
    for base, size, found in waiting:
        yield base, size, _wait_for(found)


def _is_there(found: Found | Promise) -> bool:
    return isinstance(found, Found) or found.is_kept


def _wait_for(found: Found | Promise) -> Found:
    return found if isinstance(found, Found) else found.wait()


def _add_to(facts: Facts, found: Found, name: str, lines: int) -> None:
    facts.records += found.records
    facts.authorless += found.authorless
    facts.bad += found.bad
    bad_lines = [f"{name}:{lines + line + 1}: {what}" for line, what in found.bad_lines]
    facts.bad_lines += bad_lines[: MAX_SHOWN - len(facts.bad_lines)]


def _blocks(source: Source, name: str) -> Iterator[Block]:
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
        elif filled >= MAX_RECORD_BYTES:
            raise LineTooLongError(
                f"{name}: the line that begins at byte {base:,} is longer than {MAX_RECORD_BYTES:,} bytes"
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


def _block(base: int, buffer: bytearray, end: int, size: int) -> Block:
    start = len(BOM) if not base and buffer.startswith(BOM) else 0
    return Block(base, buffer, start, end, size)


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

    def rewritten(self, block: Block, hits: list[int]) -> bytes | memoryview:
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
        except BadRecordError:
            # What holds an id of the index is a record.
            raise _bad_index(self._name, at) from None
        self.counts.add(done.counts)
        if self._quarantine:
            for gone in done.quarantined:
                self._quarantine.write(gone + b"\n")
        return b"" if done.line is None else done.line + line[len(record) :]


def _bad_index(name: str, hit: int) -> BadIndexError:
    return BadIndexError(f"{name}: no record begins at byte {hit:,}; its index is of another file")
