"""Read a file of any scheme, compressed ones within bounds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c

from airflow_provider_xcompliance.storage import gs, s3
from airflow_provider_xcompliance.storage.addresses import display, scheme_of
from airflow_provider_xcompliance.storage.errors import (
    CHANGED,
    ChangedError,
    MissingError,
    StorageError,
    explained,
)
from airflow_provider_xcompliance.storage.finding import stat
from airflow_provider_xcompliance.storage.found import Checksum
from airflow_provider_xcompliance.storage.redaction import shield
from airflow_provider_xcompliance.storage.stores import require_store, store_of

if TYPE_CHECKING:
    from _typeshed import SupportsRead

_BLOCK_BYTES = 1 << 20

#: Of decompressed content. One job takes 1 GB of ids at most; four leave room for line ends and repeats.
MAX_BYTES = 4_000_000_000

# Files of post ids shrink 2 to 27 fold, whichever of gzip, bzip2, zstd and xz is used; deflate reaches 1,032.
_MAX_RATIO = 200
# Below this, a ratio says nothing yet, and does no harm either.
_RATIO_COUNTS_FROM_BYTES = 8 << 20

#: Scheme → smart_open's parameters for reading with a client, where they are more than the client.
_PARAMETERS = {"gs": gs.read_parameters, "s3": s3.read_parameters}


@dataclass(frozen=True)
class Digest:
    """
    What a file's content is known by.

    :param bytes: its length
    :param sha256: in hexadecimal
    """

    bytes: int
    sha256: str


@contextmanager
def open_source(
    uri: str,
    client: Any = None,
    *,
    decompress: bool = False,
    max_bytes: int = MAX_BYTES,
    version: str | None = None,
) -> Iterator[SupportsRead[bytes]]:
    """
    Open a file of any scheme for reading.

    :param uri: ``s3://bucket/key``, ``gs://bucket/blob``, ``azure://container/blob``, ``file:///path``, a
        bare path, or another URI that smart_open reads
    :param client: the store's client; None for the library's default credentials
    :param decompress: whether ``.gz`` and the like at the end of the name mean that the content is compressed
    :param max_bytes: how many bytes may be read if ``decompress``, after decompression
    :param version: the one to read, as it was found; None for whatever stands there
    :raises ChangedError: if it is of another version, or becomes it while it is read
    :raises MissingError: if there is none
    :raises StorageError: if it cannot be opened or read, or decompresses to more than is credible
    """
    what = f"cannot read {display(uri)}"
    with _open_raw(uri, client, version, what) as raw:
        yield _Reader(_Decompressed(raw, uri, max_bytes, what) if decompress else raw, what)


def digest_of(uri: str, client: Any = None) -> Digest:
    """
    Read a file through and return its digest.

    :raises StorageError: if it cannot be opened or read
    """
    sha256, length = hashlib.sha256(), 0
    for block in _blocks(uri, client, None):
        sha256.update(block)
        length += len(block)
    return Digest(length, sha256.hexdigest())


def checksum_of(uri: str, client: Any = None, version: str | None = None) -> Checksum:
    """
    Read a file through and return its checksum, which takes a twentieth of the time of its digest.

    :raises StorageError: if it cannot be opened or read
    """
    crc32c = length = 0
    for block in _blocks(uri, client, version):
        crc32c = google_crc32c.extend(crc32c, block)
        length += len(block)
    return Checksum(length, crc32c)


def fetch(uri: str, to: Path, client: Any = None, version: str | None = None) -> None:
    """
    Copy a file as it is stored to a local one, for whoever has to move about in it.

    :raises StorageError: if it cannot be opened or read, or is of another version
    :raises OSError: if it cannot be written
    """
    with to.open("wb") as file:
        for block in _blocks(uri, client, version):
            file.write(block)


def _blocks(uri: str, client: Any, version: str | None) -> Iterator[bytes]:
    with open_source(uri, client, version=version) as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _open_raw(uri: str, client: Any, version: str | None, what: str) -> Any:
    shield()
    try:
        return explained(what, lambda: _opener_of(uri)(uri, client, version))
    except (ChangedError, MissingError):
        if not version:
            raise
    # Stores say the one for the other.
    stat(uri, client)
    raise ChangedError(f"{what}: {CHANGED}")


def _opener_of(uri: str) -> Callable[[str, Any, str | None], Any]:
    return getattr(store_of(uri), "reader", _open_by_smart_open)


def _open_by_smart_open(uri: str, client: Any, version: str | None) -> Any:
    # It imports the libraries of all stores, which would hold up each parsing of a DAG.
    import smart_open

    if version:
        require_store(uri, "read a version of")
    parameters = _PARAMETERS.get(scheme_of(uri), _client_alone)(client, version)
    shield()
    return smart_open.open(uri, "rb", compression="disable", transport_params=parameters)


def _client_alone(client: Any, _version: str | None) -> dict[str, Any]:
    return {"client": client} if client else {}


class _Reader:
    """A file whose failures are explained; those of whoever reads it are not touched."""

    def __init__(self, file: SupportsRead[bytes], what: str) -> None:
        self._file = file
        self._what = what

    def read(self, size: int = -1, /) -> bytes:
        try:
            return explained(self._what, lambda: self._file.read(size))
        except MissingError:
            # It was there when it was opened.
            raise ChangedError(f"{self._what}: {CHANGED}") from None

    def readinto(self, buffer: memoryview, /) -> int:
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


class _Counted:
    """A file that counts what is read of it."""

    def __init__(self, file: SupportsRead[bytes]) -> None:
        self._file = file
        self.bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        block = self._file.read(size)
        self.bytes += len(block)
        return block

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Decompressed:
    """A file decompressed as its name says, which is given up where it grows beyond reason."""

    def __init__(self, raw: SupportsRead[bytes], uri: str, max_bytes: int, what: str) -> None:
        from smart_open.compression import INFER_FROM_EXTENSION, compression_wrapper

        self._raw: Any = _Counted(raw)
        self._plain: Any = explained(
            what, lambda: compression_wrapper(self._raw, "rb", INFER_FROM_EXTENSION, filename=display(uri))
        )
        self._max_bytes = max_bytes
        self._what = what
        self._bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            # Block by block, so that what is too much is seen before it fills the memory.
            return b"".join(iter(lambda: self.read(_BLOCK_BYTES), b""))
        block: bytes = self._plain.read(size)
        self._bytes += len(block)
        self._check()
        return block

    def _check(self) -> None:
        if self._bytes > self._max_bytes:
            raise StorageError(
                f"{self._what}: it holds more than {self._max_bytes:,} bytes, and a job takes 1 GB; split it"
            )
        if self._bytes > max(_RATIO_COUNTS_FROM_BYTES, _MAX_RATIO * self._raw.bytes):
            raise StorageError(
                f"{self._what}: it decompresses to more than {_MAX_RATIO} times its size, as no file of ids "
                "does; if it is what it should be, decompress it beforehand"
            )
