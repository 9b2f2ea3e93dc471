"""Compressed files, read and written as streams; one that is cut is never taken for whole."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from airflow_provider_xcompliance.archive.extras import require

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from airflow_provider_xcompliance.archive.formats import Compression

# Posts take 16 to 25 % more than with gzip -6, at 10 times its speed. Level 1 gains no speed, level 3 hardly
# any size at half of the speed.
_GZIP_LEVEL = 2
_GZIP_BLOCK_BYTES = 1 << 20

# What the zstd command takes: posts need 11 to 18 % less than with gzip -6, at 5 times its speed.
_ZSTD_LEVEL = 3

# What says the same again and again becomes thousands of times as much.
_ZSTD_READ_BYTES = 1 << 15

_BUFFER_BYTES = 1 << 17


class DamagedFileError(ValueError):
    """A compressed file is cut, damaged, or holds something else as well."""


def plain_reader(raw: BinaryIO, compression: Compression) -> AbstractContextManager[BinaryIO]:
    """
    Read a file's plain content; parts that were compressed one by one are read through.

    Reading raises :class:`DamagedFileError` where the file is cut or damaged.

    :param raw: the file as it is, open for reading bytes; it stays open
    :param compression: empty for none
    """
    return _READERS[compression](raw)


def plain_writer(sink: BinaryIO, compression: Compression) -> AbstractContextManager[BinaryIO]:
    """
    Write a file that is given its plain content; a thread of its own compresses it meanwhile.

    What is in the file after an error is good for nothing.

    :param sink: the file as it shall be, open for writing bytes; it stays open
    :param compression: empty for none
    """
    return _WRITERS[compression](sink)


@contextmanager
def _as_it_is(file: BinaryIO) -> Iterator[BinaryIO]:
    yield file


@contextmanager
def _gzip_reader(raw: BinaryIO) -> Iterator[BinaryIO]:
    threaded = require("isal.igzip_threaded", "archive", "reading .gz")
    with (
        threaded.open(_NotEmpty(raw), "rb", block_size=_GZIP_BLOCK_BYTES) as plain,
        _Checked(plain) as checked,
    ):
        yield _buffered(checked)


@contextmanager
def _gzip_writer(sink: BinaryIO) -> Iterator[BinaryIO]:
    threaded = require("isal.igzip_threaded", "archive", "writing .gz")
    with threaded.open(sink, "wb", _GZIP_LEVEL, threads=1, block_size=_GZIP_BLOCK_BYTES) as plain:
        yield plain


@contextmanager
def _zstd_reader(raw: BinaryIO) -> Iterator[BinaryIO]:
    zstandard = require("zstandard", "archive", "reading .zst")
    frames = _ZstdReader(raw, zstandard.ZstdDecompressor())
    with frames, _Checked(frames, zstandard.ZstdError) as checked:
        yield _buffered(checked)


@contextmanager
def _zstd_writer(sink: BinaryIO) -> Iterator[BinaryIO]:
    zstandard = require("zstandard", "archive", "writing .zst")
    compressor = zstandard.ZstdCompressor(_ZSTD_LEVEL, write_checksum=True, threads=1)
    with io.BufferedWriter(compressor.stream_writer(sink, closefd=False), _BUFFER_BYTES) as plain:
        yield cast("BinaryIO", plain)


_READERS: Mapping[Compression, Callable[[BinaryIO], AbstractContextManager[BinaryIO]]] = {
    "": _as_it_is,
    "gz": _gzip_reader,
    "zst": _zstd_reader,
}
_WRITERS: Mapping[Compression, Callable[[BinaryIO], AbstractContextManager[BinaryIO]]] = {
    "": _as_it_is,
    "gz": _gzip_writer,
    "zst": _zstd_writer,
}


def _buffered(plain: io.RawIOBase) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(plain, _BUFFER_BYTES))


class _NotEmpty(io.RawIOBase):
    """A compressed file: one without a single byte is cut, which the decompressor takes for an end."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self._raw: Any = raw
        self._is_empty = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        size: int = self._raw.readinto(buffer)
        if not size and self._is_empty:
            raise EOFError
        self._is_empty = False
        return size


class _Checked(io.RawIOBase):
    """Plain content; errors of the decompressor say what is wrong with the file."""

    def __init__(self, plain: Any, *damage: type[Exception]) -> None:
        super().__init__()
        self._plain = plain
        self._damage: tuple[type[Exception], ...] = (gzip.BadGzipFile, zlib.error, *damage)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            return int(self._plain.readinto(buffer))
        except EOFError:
            raise DamagedFileError("the compressed file is cut: it ends before its content does") from None
        except self._damage as error:
            raise DamagedFileError(f"the compressed file is damaged, or something else: {error}") from None


class _ZstdReader(io.RawIOBase):
    """The plain content of all frames; a cut one raises EOFError, as zstandard's own reader does not."""

    def __init__(self, raw: BinaryIO, decompressor: Any) -> None:
        super().__init__()
        self._raw = raw
        self._decompressor = decompressor
        self._frame = decompressor.decompressobj()
        self._packed = b""
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        while not self._plain:
            packed = self._packed or self._raw.read(_ZSTD_READ_BYTES)
            if not packed and self._frame.eof:
                return 0
            if not packed:
                raise EOFError
            if self._frame.eof:
                self._frame = self._decompressor.decompressobj()
            self._plain = memoryview(self._frame.decompress(packed))
            self._packed = self._frame.unused_data
        target = memoryview(buffer).cast("B")
        size = min(len(target), len(self._plain))
        target[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size
