"""Files of lines, read in blocks: of bounded size, and never with part of a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import SupportsRead

_BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 20


class LineTooLongError(ValueError):
    """A line is longer than any record can be: the file is something else."""


def line_blocks(source: SupportsRead[bytes], name: str) -> Iterator[bytes]:
    """
    Read a file in blocks of whole lines; a newline that the last line lacks is added.

    :param name: what errors call the file
    :raises LineTooLongError: at a line of more than a megabyte
    """
    rest, lines = b"", 0
    while chunk := source.read(_BLOCK_BYTES):
        head, newline, tail = chunk.rpartition(b"\n")
        if newline:
            block = rest + head + newline
            lines += block.count(b"\n")
            yield block
            rest = tail
        else:
            rest += chunk
        if len(rest) > MAX_LINE_BYTES:
            raise LineTooLongError(f"{name}:{lines + 1}: a line of more than {MAX_LINE_BYTES:,} bytes")
    if rest:
        yield rest + b"\n"
