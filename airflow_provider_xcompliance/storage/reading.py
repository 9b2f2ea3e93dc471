"""Read a file of any scheme, compressed ones within bounds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_xcompliance.storage import azure, gs
from airflow_provider_xcompliance.storage.addresses import display, local_path, scheme_of
from airflow_provider_xcompliance.storage.errors import StorageError, explained
from airflow_provider_xcompliance.storage.redaction import shield

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
_PARAMETERS = {"gs": gs.read_parameters, "azure": azure.read_parameters}


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
    uri: str, client: Any = None, *, decompress: bool = False, max_bytes: int = MAX_BYTES
) -> Iterator[SupportsRead[bytes]]:
    """
    Open a file of any scheme for reading.

    :param uri: ``s3://bucket/key``, ``gs://bucket/blob``, ``azure://container/blob``, ``file:///path``, a
        bare path, or another URI that smart_open reads
    :param client: the store's client; None for the library's default credentials
    :param decompress: whether ``.gz`` and the like at the end of the name mean that the content is compressed
    :param max_bytes: how many bytes may be read if ``decompress``, after decompression
    :raises StorageError: if it cannot be opened or read, or decompresses to more than is credible
    """
    what = f"cannot read {display(uri)}"
    with explained(what, lambda: _open_raw(uri, client)) as raw:
        yield _Reader(_Decompressed(raw, uri, max_bytes, what) if decompress else raw, what)


def digest_of(uri: str, client: Any = None) -> Digest:
    """
    Read a file through and return its digest.

    :raises StorageError: if it cannot be opened or read
    """
    sha256, length = hashlib.sha256(), 0
    with open_source(uri, client) as file:
        while block := file.read(_BLOCK_BYTES):
            sha256.update(block)
            length += len(block)
    return Digest(length, sha256.hexdigest())


def _open_raw(uri: str, client: Any) -> Any:
    # It imports the libraries of all stores, which would hold up each parsing of a DAG.
    import smart_open

    scheme = scheme_of(uri)
    parameters = _PARAMETERS.get(scheme, _client_alone)(client)
    shield()
    return smart_open.open(
        uri if scheme else str(local_path(uri)), "rb", compression="disable", transport_params=parameters
    )


def _client_alone(client: Any) -> dict[str, Any]:
    return {"client": client} if client else {}


class _Reader:
    """A file whose failures are explained; those of whoever reads it are not touched."""

    def __init__(self, file: SupportsRead[bytes], what: str) -> None:
        self._file = file
        self._what = what

    def read(self, size: int = -1, /) -> bytes:
        return explained(self._what, lambda: self._file.read(size))


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
