"""
Files by URI: read them anywhere, and land them so that nobody ever sees a part of one.

smart_open reads every scheme that it knows. Landing is on local files and ``s3://``. Credentials come as a
ready client of the store's library, or else from that library's own defaults.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import smart_open

if TYPE_CHECKING:
    from _typeshed import SupportsRead

_BLOCK_BYTES = 1 << 20

# Sets the memory that a landing takes, and with 10,000 parts the largest object: 160 GB.
_S3_PART_BYTES = 16 << 20

_PART_PREFIX, _PART_SUFFIX = ".xcompliance-", ".part"

# What an earlier landing of the same file left behind unfinished is removed once it is older than this.
_ORPHAN_AGE = timedelta(hours=1)

# Credentials before the host, as smart_open reads them: an S3 secret may hold a slash.
_URI = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^/@:]*:[^@]*@|[^/@]*@)?(?P<rest>[^?#]*)", re.DOTALL
)
_LOST_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_S3_NAME = re.compile(r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]*)/(?P<key>[^?#]*[^?#/])")

#: Codes and classes of errors that do not explain themselves.
_REASONS = {
    "403": "access is denied",
    "404": "there is no such object",
    "AccessDenied": "access is denied",
    "BadGzipFile": "it is not compressed, although its name says so",
    "ConditionalRequestConflict": "another writer is at work on it",
    "EOFError": "the compressed file is cut short",
    "ImportError": "that store's library is missing; install this package's extra for it",
    "ModuleNotFoundError": "that store's library is missing; install this package's extra for it",
    "NoCredentialsError": "no credentials for the store were found",
    "NoSuchBucket": "there is no such bucket",
    "NoSuchKey": "there is no such object",
    "NotImplementedError": "this kind of address is not known",
}


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
            uri if _scheme(uri) else str(_local_path(uri)),
            "rb",
            compression="infer_from_extension" if decompress else "disable",
            transport_params={"client": client} if client else {},
        )
    with file:
        yield _Reader(file, what)


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


def require_landable(destination: str) -> None:
    """
    Refuse an address that :func:`land` does not take, before there is anything to land.

    :raises StorageError: if it is of another kind, or does not name a file
    """
    if _scheme(destination) not in _PUTS:
        raise StorageError(
            f"cannot land on {display(destination)}: give a path, file:///path or s3://bucket/key"
        )
    if _scheme(destination) == "s3":
        _s3_name(destination)
    else:
        _local_path(destination)


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
    require_landable(destination)
    if _standing(destination, client) == digest:
        return False
    try:
        with _explained(f"cannot write {display(destination)}"):
            _PUTS[_scheme(destination)](source, destination, client, replace)
    except StorageError:
        # Another writer brought the same content first, or the answer to the commit was lost.
        if _standing(destination, client) == digest:
            return False
        raise
    if digest_of(destination, client) != digest:
        raise StorageError(f"{display(destination)} does not hold what was written to it")
    return True


def display(uri: str) -> str:
    """Return a URI without user name, password and query, which may be credentials."""
    parts = _URI.match(uri)
    return f"{parts['scheme']}://{parts['rest']}" if parts else uri


class _Reader:
    """A file whose failures are explained; those of whoever reads it are not touched."""

    def __init__(self, file: SupportsRead[bytes], what: str) -> None:
        self._file = file
        self._what = what

    def read(self, size: int = -1, /) -> bytes:
        with _explained(self._what):
            return self._file.read(size)


def _scheme(uri: str) -> str:
    parts = _URI.match(uri)
    return parts["scheme"] if parts else ""


def _standing(destination: str, client: Any) -> Digest | None:
    """Return the digest of what stands at a destination; None if nothing does, or it cannot be told."""
    if _scheme(destination) != "s3":
        path = _local_path(destination)
        if path.is_symlink() or not path.is_file():
            return None
    try:
        return digest_of(destination, client)
    except StorageError:
        return None


def _local_path(uri: str) -> Path:
    path = uri.removeprefix("file://")
    is_relative_uri = path != uri and not path.startswith("/")
    if not path or path.endswith("/") or is_relative_uri or _LOST_SLASH.match(path):
        raise StorageError(f"{display(uri)!r} names no file: give a path, file:///path or s3://bucket/key")
    # Absolute, because smart_open takes what stands before a colon for a scheme.
    return Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 - pathlib fails at ~name of no user


def _put_file(source: Path, destination: str, _client: Any, replace: bool) -> None:
    target = _local_path(destination)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_old_parts(target.parent)
    # Created 0600, exclusively, and without following a link.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=_PART_PREFIX, suffix=_PART_SUFFIX)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as to, source.open("rb") as file:
            shutil.copyfileobj(file, to, _BLOCK_BYTES)
            to.flush()
            os.fsync(to.fileno())
        if replace:
            part.replace(target)
        else:
            target.hardlink_to(part)
    except FileExistsError:
        raise _exists(destination) from None
    finally:
        part.unlink(missing_ok=True)
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _remove_old_parts(directory: Path) -> None:
    """Remove what killed landings left; one that is at work writes to its part all the time."""
    oldest = (datetime.now(UTC) - _ORPHAN_AGE).timestamp()
    for part in directory.glob(f"{_PART_PREFIX}*{_PART_SUFFIX}"):
        with contextlib.suppress(OSError):
            if part.lstat().st_mtime < oldest:
                part.unlink()


def _s3_name(uri: str) -> dict[str, str]:
    name = _S3_NAME.fullmatch(uri)
    if not name:
        raise StorageError(
            f"{display(uri)!r} names no object: give s3://bucket/key, and credentials apart from it"
        )
    return {"Bucket": name["bucket"], "Key": name["key"]}


def _put_s3(source: Path, destination: str, client: Any, replace: bool) -> None:
    name, s3 = _s3_name(destination), client or _default_s3_client()
    condition = {} if replace else {"IfNoneMatch": "*"}
    try:
        with source.open("rb") as file:
            if source.stat().st_size <= _S3_PART_BYTES:
                s3.put_object(**name, Body=file, **condition)
            else:
                _put_parts(s3, name, file, condition)
    except Exception as error:
        if _s3_code(error) in ("PreconditionFailed", "412"):
            raise _exists(destination) from None
        raise


def _put_parts(s3: Any, name: dict[str, str], file: IO[bytes], condition: dict[str, str]) -> None:
    # Not by smart_open: where the network fails while its writer is closed, the garbage collector closes that
    # writer again, and completes an upload that lacks its end.
    _abort_old_uploads(s3, name)
    upload = name | {"UploadId": s3.create_multipart_upload(**name)["UploadId"]}
    try:
        parts: list[dict[str, Any]] = []
        while block := file.read(_S3_PART_BYTES):
            number = len(parts) + 1
            stored = s3.upload_part(**upload, PartNumber=number, Body=block)
            parts.append({"PartNumber": number, "ETag": stored["ETag"]})
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
    except BaseException:
        with contextlib.suppress(Exception):
            s3.abort_multipart_upload(**upload)
        raise


def _abort_old_uploads(s3: Any, name: dict[str, str]) -> None:
    """Abort what killed landings of this object left; to be allowed to is not needed for landing."""
    oldest = datetime.now(UTC) - _ORPHAN_AGE
    with contextlib.suppress(Exception):
        found = s3.list_multipart_uploads(Bucket=name["Bucket"], Prefix=name["Key"]).get("Uploads", [])
        for upload in found:
            if upload["Key"] == name["Key"] and upload["Initiated"] < oldest:
                s3.abort_multipart_upload(**name, UploadId=upload["UploadId"])


def _default_s3_client() -> Any:
    import boto3  # type: ignore[import-untyped]

    return boto3.client("s3")


def _s3_code(error: BaseException) -> str:
    """Return the code of an S3 error, which smart_open may have wrapped."""
    link: BaseException | None = error
    while link is not None:
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        link = link.__cause__
    return ""


_PUTS: dict[str, Callable[[Path, str, Any, bool], None]] = {"": _put_file, "file": _put_file, "s3": _put_s3}


def _exists(destination: str) -> DestinationExistsError:
    return DestinationExistsError(
        f"{display(destination)} exists with other content; give another destination, or if_exists='replace'"
    )


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn whatever a store's library raises into one sentence."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001 - each store's library has errors of its own, and URIs may hold credentials
        reason = _s3_code(error) or getattr(error, "strerror", None) or type(error).__name__
        raise StorageError(f"{what}: {_REASONS.get(reason, reason)}") from None
