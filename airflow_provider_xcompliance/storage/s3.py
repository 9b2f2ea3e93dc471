"""
S3: an object appears when its upload is completed.

The version of an object is its ETag. Some stores take no ``If-Match`` where they are written to, and say so
(Swift), or ignore it (moto, where an upload of several parts is completed). The object is looked at right
before, too; what another writer puts in its place between the two requests is lost there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from airflow_provider_xcompliance.storage.addresses import object_name, object_prefix
from airflow_provider_xcompliance.storage.errors import CHANGED, ChangedError, TakenError, codes_of, explained
from airflow_provider_xcompliance.storage.found import Found
from airflow_provider_xcompliance.storage.globs import Glob

# Sets the memory that a landing takes; of objects past 160 GB the parts are larger.
_PART_BYTES = 16 << 20
_MAX_PARTS = 10_000

# What smart_open takes from the connection at a time.
_READ_BYTES = 1 << 20

# S3 keeps, and bills, the parts of an upload that nobody completes; those of an older landing are removed.
_ORPHAN_AGE = timedelta(hours=1)

_TAKEN = {"PreconditionFailed", "412"}
_NOT_IMPLEMENTED = {"NotImplemented", "501"}

#: What an object has besides its content and its tags, called the same as it is read and as it is written.
_ATTRIBUTES = (
    "BucketKeyEnabled",
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Expires",
    "Metadata",
    "SSEKMSKeyId",
    "ServerSideEncryption",
    "StorageClass",
    "WebsiteRedirectLocation",
)

#: What a policy has to allow.
LISTING_NEEDS = "s3:ListBucketVersions"
PURGING_NEEDS = "s3:ListBucketVersions and s3:DeleteObjectVersion"

require_name = object_name


def put(source: Path, uri: str, client: Any, replace: bool) -> None:
    """
    Write an object.

    :raises TakenError: if something stands there that may not be replaced
    :raises Exception: whatever boto3 raises
    """
    bucket, key = object_name(uri)
    name, s3 = {"Bucket": bucket, "Key": key}, client or _default_client()
    condition = {} if replace else {"IfNoneMatch": "*"}
    try:
        _write(s3, source, name, {}, condition)
    except Exception as error:
        if _TAKEN.intersection(codes_of(error)):
            raise TakenError from None
        raise


def swap(source: Path, uri: str, client: Any, version: str) -> tuple[Found, bool]:
    """
    Replace an object by another that has its metadata, tags, storage class and encryption.

    :return: what was written, and whether the store has proven that it holds it
    :raises ChangedError: if it is of another version
    :raises Exception: whatever boto3 raises
    """
    bucket, key = object_name(uri)
    name, s3 = {"Bucket": bucket, "Key": key}, client or _default_client()
    standing = _require_version(s3, name, version)
    attributes = {each: standing[each] for each in _ATTRIBUTES if standing.get(each)}
    tags = explained(f"cannot read the tags of {uri}, which stay on it", lambda: _tags(s3, name))
    attributes |= {"Tagging": urlencode(tags)} if tags else {}
    etag = _plain(_write(s3, source, name, attributes, {"IfMatch": f'"{version}"'})["ETag"])
    return Found(uri, source.stat().st_size, etag), etag == _etag_of(source)


def stat(uri: str, client: Any) -> Found:
    """
    Return what is known of an object.

    :raises Exception: whatever boto3 raises
    """
    bucket, key = object_name(uri)
    head = (client or _default_client()).head_object(Bucket=bucket, Key=key)
    return Found(uri, head["ContentLength"], _plain(head["ETag"]))


def listing(glob: Glob, client: Any) -> Iterator[Found]:
    """Yield the objects that may be meant, in the order of the store: by name, but for directory buckets."""
    bucket, prefix = object_prefix(glob.fixed)
    pages = (
        (client or _default_client()).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    )
    for page in pages:
        for each in page.get("Contents", []):
            yield Found(f"s3://{bucket}/{each['Key']}", each["Size"], _plain(each["ETag"]))


def remove(uri: str, client: Any, version: str | None) -> None:
    """
    Remove an object; where the bucket is versioned, it becomes an old version.

    :raises ChangedError: if it is of another version
    :raises Exception: whatever boto3 raises
    """
    bucket, key = object_name(uri)
    name, s3 = {"Bucket": bucket, "Key": key}, client or _default_client()
    condition = {"IfMatch": f'"{version}"'} if version else {}
    _commit(s3, name, condition, lambda **match: s3.delete_object(**name, **match))


def old_versions(uri: str, client: Any) -> int:
    """
    Return how many versions of an object there are besides the current one.

    :raises Exception: whatever boto3 raises
    """
    return len(_old_version_ids(client or _default_client(), *object_name(uri)))


def purge(uri: str, client: Any) -> int:
    """
    Remove all versions of an object but the current one; return how many there were.

    :raises Exception: whatever boto3 raises
    """
    bucket, key = object_name(uri)
    s3 = client or _default_client()
    versions = _old_version_ids(s3, bucket, key)
    for version in versions:
        s3.delete_object(Bucket=bucket, Key=key, VersionId=version)
    return len(versions)


def read_parameters(client: Any, version: str | None) -> dict[str, Any]:
    """Return how smart_open reads an object: all of it of one version, if that is given."""
    parameters: dict[str, Any] = {"client": client} if client else {}
    if version:
        parameters["client_kwargs"] = {"S3.Client.get_object": {"IfMatch": f'"{version}"'}}
    return parameters | {"buffer_size": _READ_BYTES}


def _old_version_ids(s3: Any, bucket: str, key: str) -> list[str]:
    # Names that only begin with the key come after it.
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
    found: list[str] = []
    for page in pages:
        versions = page.get("Versions", [])
        found += [each["VersionId"] for each in versions if each["Key"] == key and not each["IsLatest"]]
        if page.get("NextKeyMarker", key) != key:
            break
    return found


def _tags(s3: Any, name: dict[str, str]) -> list[tuple[str, str]]:
    try:
        return [(tag["Key"], tag["Value"]) for tag in s3.get_object_tagging(**name)["TagSet"]]
    except Exception as error:
        if _NOT_IMPLEMENTED.intersection(codes_of(error)):
            return []
        raise


def _require_version(s3: Any, name: dict[str, str], version: str) -> dict[str, Any]:
    head: dict[str, Any] = s3.head_object(**name)
    if _plain(head["ETag"]) != _plain(version):
        raise ChangedError(f"cannot change s3://{name['Bucket']}/{name['Key']}: {CHANGED}")
    return head


def _commit(
    s3: Any, name: dict[str, str], condition: dict[str, str], action: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """Do what makes the change, under a condition; as good as the store can."""
    if "IfMatch" not in condition:
        return action(**condition)
    # Some stores take the condition and ignore it.
    _require_version(s3, name, condition["IfMatch"])
    try:
        return action(**condition)
    except Exception as error:
        if not _NOT_IMPLEMENTED.intersection(codes_of(error)):
            raise
    return action()


def _write(
    s3: Any, source: Path, name: dict[str, str], attributes: dict[str, Any], condition: dict[str, str]
) -> dict[str, Any]:
    size = source.stat().st_size
    with source.open("rb") as file:
        if size > _PART_BYTES:
            return _put_parts(s3, name, file, _part_bytes(size), attributes, condition)
        body = file.read()
    put_object = functools.partial(s3.put_object, **name, **attributes, Body=body)
    return _commit(s3, name, condition, put_object)


def _put_parts(
    s3: Any,
    name: dict[str, str],
    file: IO[bytes],
    part_bytes: int,
    attributes: dict[str, Any],
    condition: dict[str, str],
) -> dict[str, Any]:
    # Not by smart_open: where the network fails while its writer is closed, the garbage collector closes that
    # writer again, and completes an upload that lacks its end.
    _abort_old_uploads(s3, name)
    upload = name | {"UploadId": s3.create_multipart_upload(**name, **attributes)["UploadId"]}
    try:
        parts: list[dict[str, Any]] = []
        while block := file.read(part_bytes):
            number = len(parts) + 1
            stored = s3.upload_part(**upload, PartNumber=number, Body=block)
            parts.append({"PartNumber": number, "ETag": stored["ETag"]})
        complete = functools.partial(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": parts})
        return _commit(s3, name, condition, complete)
    except BaseException:
        with contextlib.suppress(Exception):
            s3.abort_multipart_upload(**upload)
        raise


def _part_bytes(size: int) -> int:
    return max(_PART_BYTES, -(-size // _MAX_PARTS))


def _etag_of(source: Path) -> str:
    """Return the ETag that S3 gives to what is put in our parts, unless it encrypts with a key of KMS."""
    size = source.stat().st_size
    with source.open("rb") as file:
        if size <= _PART_BYTES:
            return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
        digests = []
        while block := file.read(_part_bytes(size)):
            digests.append(hashlib.md5(block, usedforsecurity=False).digest())
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _plain(etag: str) -> str:
    return etag.strip('"')


def _abort_old_uploads(s3: Any, name: dict[str, str]) -> None:
    """Abort what killed landings of this object left; to be allowed to is not needed for landing."""
    oldest = datetime.now(UTC) - _ORPHAN_AGE
    with contextlib.suppress(Exception):
        found = s3.list_multipart_uploads(Bucket=name["Bucket"], Prefix=name["Key"]).get("Uploads", [])
        for upload in found:
            if upload["Key"] == name["Key"] and upload["Initiated"] < oldest:
                s3.abort_multipart_upload(**name, UploadId=upload["UploadId"])


def _default_client() -> Any:
    import boto3  # type: ignore[import-untyped]

    return boto3.client("s3")
