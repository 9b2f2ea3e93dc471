"""Files of lines, read in blocks: of bounded size, and never with part of a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import SupportsRead

_BLOCK_BYTES = 1 << 20

#: The byte order mark that a file of text may begin with.
BOM = b"\xef\xbb\xbf"

#: The longest line that a block may have to wait for; a file with a longer one is something else.
MAX_LINE_BYTES = 1 << 20


class LineTooLongError(ValueError):
    """A line is longer than any record can be."""


def line_blocks(source: SupportsRead[bytes], size: int | None = None) -> Iterator[bytes]:
    """
    Read a file in blocks of whole lines; a newline that the last line lacks is added.

    :param size: of a block, roughly, in bytes; None: a megabyte
    :raises LineTooLongError: where more than a megabyte is read without coming to the end of a line
    """
    rest = b""
    while chunk := source.read(size or _BLOCK_BYTES):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join((rest, memoryview(chunk)[:end]))
            rest = chunk[end:]
        else:
            rest += chunk
        if len(rest) > MAX_LINE_BYTES:
            raise LineTooLongError(f"a line has more than {MAX_LINE_BYTES:,} bytes")
    if rest:
        yield rest + b"\n"
