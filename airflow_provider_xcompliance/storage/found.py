"""What a file is known by before it is read."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import google_crc32c

_BLOCK_BYTES = 1 << 20


class Found(NamedTuple):
    """
    A file as it stood when it was looked at.

    :param uri: its address, of the same kind as the pattern that found it
    :param bytes: its size as it is stored
    :param version: text that changes whenever the content does: the ETag, the generation, or inode, time of
        change and size
    """

    uri: str
    bytes: int
    version: str


class Checksum(NamedTuple):
    """
    What a file's content is known by where SHA-256 would take too long.

    :param bytes: its length
    :param crc32c: of all of it
    """

    bytes: int
    crc32c: int


def crc32c_of(path: Path) -> int:
    """
    Read a local file through and return its checksum.

    :raises OSError: if it cannot be read
    """
    crc32c = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            crc32c = google_crc32c.extend(crc32c, block)
    return crc32c
