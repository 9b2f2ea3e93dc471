"""
Files by URI: read them anywhere, and land them so that nobody ever sees a part of one.

smart_open reads every scheme that it knows. Landing is on local files and ``s3://``. Credentials come as a
ready client of the store's library, or else from that library's own defaults.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import smart_open

if TYPE_CHECKING:
    from _typeshed import SupportsRead

_BLOCK_BYTES = 1 << 20

# Sets the memory that a landing takes, and with 10,000 parts the largest object: 160 GB.
_S3_PART_BYTES = 16 << 20

# What S3 answers to a conditional write when the object is there, or is being written by another.
_S3_EXISTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


class StorageError(Exception):
    """A file could not be read or landed."""


class DestinationExistsError(StorageError):
    """Another file stands at the destination, and replacing it was not asked for."""


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
def open_source(uri: str, client: Any = None, *, decompress: bool = False) -> Iterator[SupportsRead[bytes]]:
    """
    Open a file of any scheme for reading.

    :param uri: ``s3://bucket/key``, ``file:///path``, a bare path, or another URI that smart_open reads
    :param client: the store's client; None for the library's default credentials
    :param decompress: whether ``.gz`` and the like at the end of the name mean that the content is compressed
    :raises StorageError: if it cannot be opened or read
    """
    what = f"cannot read {display(uri)}"
    with _explained(what):
        file = smart_open.open(
            uri,
            "rb",
            compression="infer_from_extension" if decompress else "disable",
            transport_params={"client": client} if client else {},
        )
    with file:
        yield _Reader(file, what)


def digest_of(uri: str, client: Any = None) -> Digest:
    """Read a file through and return its digest."""
    sha256, length = hashlib.sha256(), 0
    with open_source(uri, client) as file:
        while block := file.read(_BLOCK_BYTES):
            sha256.update(block)
            length += len(block)
    return Digest(length, sha256.hexdigest())


def land(
    source: Path, digest: Digest, destination: str, client: Any = None, *, replace: bool = False
) -> bool:
    """
    Put a finished local file at its destination, whole or not at all, and read it back.

    :param source: the file; its content is final and verified
    :param digest: of the file
    :param destination: ``s3://bucket/key``, ``file:///path`` or a bare path
    :param client: the store's client; None for the library's default credentials
    :param replace: whether a file with other content may be replaced
    :return: False if the same content stood there already
    :raises DestinationExistsError: if other content stands there and may not be replaced
    :raises StorageError: if the store fails, or holds other content afterwards
    """
    put = _put_s3 if urlsplit(destination).scheme == "s3" else _put_file
    try:
        with _explained(f"cannot write {display(destination)}"):
            put(source, destination, client, replace=replace)
    except DestinationExistsError:
        if digest_of(destination, client) != digest:
            raise
        return False
    if digest_of(destination, client) != digest:
        raise StorageError(f"{display(destination)} does not hold what was written to it")
    return True


def display(uri: str) -> str:
    """Return a URI without user name, password and query, which may be credentials."""
    parts = urlsplit(uri)
    if not parts.scheme:
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


class _Reader:
    """A file whose failures are explained; those of whoever reads it are not touched."""

    def __init__(self, file: SupportsRead[bytes], what: str) -> None:
        self._file = file
        self._what = what

    def read(self, size: int = -1, /) -> bytes:
        with _explained(self._what):
            return self._file.read(size)


def _put_file(source: Path, destination: str, _client: Any, *, replace: bool) -> None:
    target = _local_path(destination)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Created 0600, exclusively, and without following a link.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as part, source.open("rb") as file:
            shutil.copyfileobj(file, part, _BLOCK_BYTES)
            part.flush()
            os.fsync(part.fileno())
        _publish(Path(name), target, replace=replace)
    finally:
        Path(name).unlink(missing_ok=True)
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _publish(part: Path, target: Path, *, replace: bool) -> None:
    if replace:
        part.replace(target)
        return
    try:
        target.hardlink_to(part)
    except FileExistsError:
        raise _exists(str(target)) from None


def _put_s3(source: Path, destination: str, client: Any, *, replace: bool) -> None:
    condition = {} if replace else {"IfNoneMatch": "*"}
    commits = ("S3.Client.complete_multipart_upload", "S3.Client.put_object")
    params = {
        "client_kwargs": dict.fromkeys(commits, condition),
        "min_part_size": _S3_PART_BYTES,
    }
    writer = smart_open.open(
        destination,
        "wb",
        compression="disable",
        transport_params=params | ({"client": client} if client else {}),
    )
    try:
        with source.open("rb") as file:
            shutil.copyfileobj(file, writer, _BLOCK_BYTES)
        writer.close()
    except BaseException as error:
        _abandon(writer)
        if _s3_code(error) in _S3_EXISTS:
            raise _exists(destination) from None
        raise


def _abandon(writer: Any) -> None:
    """Abort a multipart upload so that not even the writer's finalizer can complete it."""
    upload_id, writer._upload_id = writer._upload_id, None
    with contextlib.suppress(Exception):
        writer._client.abort_multipart_upload(Bucket=writer._bucket, Key=writer._key, UploadId=upload_id)


def _s3_code(error: BaseException) -> str:
    """Return the code of an S3 error, which smart_open may have wrapped."""
    link: BaseException | None = error
    while link is not None:
        if response := getattr(link, "response", None):
            return str(response.get("Error", {}).get("Code", ""))
        link = link.__cause__
    return ""


def _exists(destination: str) -> DestinationExistsError:
    return DestinationExistsError(
        f"{display(destination)} exists with other content; give another destination, or if_exists='replace'"
    )


def _local_path(uri: str) -> Path:
    scheme, separator, path = uri.partition("://")
    if separator and scheme != "file":
        raise StorageError(f"landing on {scheme}:// is not supported; use a local file or s3://")
    return Path(path if separator else uri)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn whatever a store's library raises into one sentence."""
    try:
        yield
    except StorageError:
        raise
    except ImportError:
        raise StorageError(
            f"{what}: the library for that store is missing; install this package's extra"
        ) from None
    except Exception as error:  # noqa: BLE001 - each store's library has errors of its own, and URIs may hold credentials
        reason = _s3_code(error) or getattr(error, "strerror", None) or type(error).__name__
        raise StorageError(f"{what}: {reason}") from None
