"""
Google Cloud Storage: an object appears when its upload, resumable if large, is finished.

The version of an object is its generation. An upload that nobody finishes is never seen, and Google drops it
after a week: there is nothing to clean up.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_provider_xcompliance.storage.addresses import object_name, object_prefix
from airflow_provider_xcompliance.storage.errors import CHANGED, ChangedError, TakenError, codes_of
from airflow_provider_xcompliance.storage.found import Found, crc32c_of
from airflow_provider_xcompliance.storage.globs import Glob

# Sets the memory that a landing or a reading takes; a multiple of 256 KiB, as the protocol demands.
_CHUNK_BYTES = 16 << 20

# The library repeats requests for so long, if the network or Google fails; a task's retries come after that.
_RETRY_SECONDS = 120.0

_TAKEN = {"412"}

#: What an object has besides its content, called the same as it is read and as it is written.
_ATTRIBUTES = (
    "cache_control",
    "content_disposition",
    "content_encoding",
    "content_language",
    "content_type",
    "custom_time",
    "metadata",
    "storage_class",
)
_KEY_VERSION = re.compile(r"/cryptoKeyVersions/[^/]*\Z")

# The answer of a bucket without soft deletion; what it kept under an earlier policy cannot be seen any more.
_NO_SOFT_DELETION = {"400"}

#: What a service account has to be allowed.
LISTING_NEEDS = "storage.objects.list"
PURGING_NEEDS = "storage.objects.list and storage.objects.delete"

require_name = object_name


def put(source: Path, uri: str, client: Any, replace: bool) -> None:
    """
    Write an object.

    :raises TakenError: if something stands there that may not be replaced
    :raises Exception: whatever google-cloud-storage raises
    """
    bucket, key = object_name(uri)
    blob = (client or _default_client()).bucket(bucket).blob(key, chunk_size=_CHUNK_BYTES)
    try:
        blob.upload_from_filename(
            source,
            content_type="application/octet-stream",
            if_generation_match=None if replace else 0,
            checksum="crc32c",
            retry=_retry(),
        )
    except Exception as error:
        if _TAKEN.intersection(codes_of(error)):
            raise TakenError from None
        raise


def swap(source: Path, uri: str, client: Any, version: str) -> tuple[Found, bool]:
    """
    Replace an object by another that has its metadata, storage class and key.

    :return: what was written, and whether the store has proven that it holds it
    :raises ChangedError: if it is of another version
    :raises Exception: whatever google-cloud-storage raises
    """
    bucket, key = object_name(uri)
    owner, retry = (client or _default_client()).bucket(bucket), _retry()
    standing = owner.blob(key)
    standing.reload(retry=retry)
    if str(standing.generation) != version:
        raise ChangedError(f"cannot replace {uri}: {CHANGED}")
    # The key's version is the one of that time, and cannot be asked for.
    kms_key = _KEY_VERSION.sub("", standing.kms_key_name) if standing.kms_key_name else None
    blob = owner.blob(key, chunk_size=_CHUNK_BYTES, kms_key_name=kms_key)
    for name in _ATTRIBUTES:
        if value := getattr(standing, name):
            setattr(blob, name, value)
    blob.upload_from_filename(source, if_generation_match=int(version), checksum="crc32c", retry=retry)
    return _found(uri, blob), _crc32c(blob) == crc32c_of(source)


def stat(uri: str, client: Any) -> Found:
    """
    Return what is known of an object.

    :raises Exception: whatever google-cloud-storage raises
    """
    bucket, key = object_name(uri)
    blob = (client or _default_client()).bucket(bucket).blob(key)
    blob.reload(retry=_retry())
    return _found(uri, blob)


def listing(glob: Glob, client: Any) -> Iterator[Found]:
    """Yield the objects that may be meant, in order of name."""
    bucket, prefix = object_prefix(glob.fixed)
    fields = "items(name,size,generation),nextPageToken"
    for blob in (client or _default_client()).list_blobs(
        bucket, prefix=prefix, fields=fields, retry=_retry()
    ):
        yield _found(f"gs://{bucket}/{blob.name}", blob)


def remove(uri: str, client: Any, version: str | None) -> None:
    """
    Remove an object; where the bucket is versioned, it becomes an old version.

    :raises ChangedError: if it is of another version
    :raises Exception: whatever google-cloud-storage raises
    """
    bucket, key = object_name(uri)
    blob = (client or _default_client()).bucket(bucket).blob(key)
    blob.delete(if_generation_match=int(version) if version else None, retry=_retry())


def old_versions(uri: str, client: Any) -> int:
    """
    Return how many generations of an object there are besides the current one, soft-deleted ones included.

    :raises Exception: whatever google-cloud-storage raises
    """
    client = client or _default_client()
    try:
        deleted = len(_generations(uri, client, soft_deleted=True))
    except Exception as error:
        if not _NO_SOFT_DELETION.intersection(codes_of(error)):
            raise
        deleted = 0
    return deleted + len(_noncurrent(uri, client))


def purge(uri: str, client: Any) -> int:
    """
    Remove all generations of an object but the current one; return how many there were.

    :raises Exception: whatever google-cloud-storage raises
    """
    found = _noncurrent(uri, client or _default_client())
    for blob in found:
        # Only this generation, which nothing makes current again.
        blob.delete(retry=_retry())
    return len(found)


def _noncurrent(uri: str, client: Any) -> list[Any]:
    return [blob for blob in _generations(uri, client, versions=True) if blob.time_deleted]


def _generations(uri: str, client: Any, **which: bool) -> list[Any]:
    bucket, key = object_name(uri)
    # Names that begin with the key come after it.
    end = key + "\0"
    found = client.list_blobs(bucket, prefix=key, end_offset=end, retry=_retry(), **which)
    return [blob for blob in found if blob.name == key]


def _found(uri: str, blob: Any) -> Found:
    return Found(uri, blob.size, str(blob.generation))


def _crc32c(blob: Any) -> int | None:
    return int.from_bytes(base64.b64decode(blob.crc32c), "big") if blob.crc32c else None


def read_parameters(client: Any, version: str | None) -> dict[str, Any]:
    """Return how smart_open reads an object: as it is stored, and all blocks of the same generation."""
    retry = _retry()
    return {
        "client": client or _default_client(),
        "get_blob_kwargs": {"retry": retry, "generation": int(version) if version else None},
        "blob_open_kwargs": {"chunk_size": _CHUNK_BYTES, "raw_download": True, "retry": retry},
    }


def _retry() -> Any:
    from google.cloud.storage.retry import DEFAULT_RETRY  # type: ignore[import-untyped]

    return DEFAULT_RETRY.with_timeout(_RETRY_SECONDS)


def _default_client() -> Any:
    from google.cloud.storage import Client  # type: ignore[import-untyped]

    return Client()
