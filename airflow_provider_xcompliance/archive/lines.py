"""Files of lines, read in blocks: of bounded size, and never with part of a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import SupportsRead

_BLOCK_BYTES = 1 << 20

#: The longest line that a block may have to wait for; a file with a longer one is something else.
MAX_LINE_BYTES = 1 << 20


class LineTooLongError(ValueError):
    """
    A line is longer than any record can be.

    :param line: its number, counted from 1
    """

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line} has more than {MAX_LINE_BYTES:,} bytes")
        self.line = line


def line_blocks(source: SupportsRead[bytes]) -> Iterator[bytes]:
    """
    Read a file in blocks of whole lines; a newline that the last line lacks is added.

    :raises LineTooLongError: where more than a megabyte is read without coming to the end of a line
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
            raise LineTooLongError(lines + 1)
    if rest:
        yield rest + b"\n"
