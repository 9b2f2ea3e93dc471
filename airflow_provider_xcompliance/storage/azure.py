"""
Azure Blob Storage: a blob appears when the list of its blocks is committed.

The version of a blob is its ETag. Blocks that nobody commits are never seen, and Azure drops them with the
next commit or after a week: there is nothing to clean up.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_provider_xcompliance.storage.addresses import object_name, object_prefix
from airflow_provider_xcompliance.storage.errors import AddressError, StorageError, TakenError, codes_of
from airflow_provider_xcompliance.storage.found import Found
from airflow_provider_xcompliance.storage.globs import Glob

# Sets the memory that a landing takes, and with 50,000 blocks the largest blob: 800 GB.
_BLOCK_BYTES = 16 << 20

_TAKEN = {"BlobAlreadyExists", "ConditionNotMet", "412"}

# How accounts with folders mark them where they list blobs.
_IS_FOLDER = "hdi_isfolder"

#: What an identity has to be allowed.
LISTING_NEEDS = "the role Storage Blob Data Reader"
PURGING_NEEDS = "the role Storage Blob Data Owner, or deleteBlobVersion"

require_name = object_name


def put(source: Path, uri: str, client: Any, replace: bool) -> None:
    """
    Write a blob.

    :raises TakenError: if something stands there that may not be replaced
    :raises Exception: whatever azure-storage-blob raises
    """
    from azure.core import MatchConditions

    blob = _blob(uri, client)
    try:
        blocks = _stage(source, blob)
        blob.commit_block_list(blocks, **({} if replace else {"match_condition": MatchConditions.IfMissing}))
    except Exception as error:
        if _TAKEN.intersection(codes_of(error)):
            raise TakenError from None
        raise


def swap(source: Path, uri: str, client: Any, version: str) -> tuple[Found, bool]:
    """
    Replace a blob by another that has its settings, metadata, tags, tier and scope of encryption.

    :return: what was written, and that the store has not proven that it holds it
    :raises ChangedError: if it is of another version
    :raises StorageError: if it is made otherwise than of blocks
    :raises Exception: whatever azure-storage-blob raises
    """
    blob = _blob(uri, client)
    standing = blob.get_blob_properties(**_condition(version))
    if standing.blob_type != "BlockBlob":
        raise StorageError(
            f"cannot replace {uri}: it is of type {standing.blob_type.value}; copy it to a block blob, which "
            "can be replaced as a whole"
        )
    settings = standing.content_settings
    # That of the content which stood there.
    settings.content_md5 = None
    attributes = {
        "metadata": standing.metadata,
        "tags": blob.get_blob_tags() if standing.tag_count else None,
        "standard_blob_tier": None if standing.blob_tier_inferred else _tier(standing.blob_tier),
        "encryption_scope": standing.encryption_scope,
    }
    written = blob.commit_block_list(
        _stage(source, blob),
        content_settings=settings,
        **{name: value for name, value in attributes.items() if value},
        **_condition(version),
    )
    return Found(uri, source.stat().st_size, _plain(written["etag"])), False


def stat(uri: str, client: Any) -> Found:
    """
    Return what is known of a blob.

    :raises Exception: whatever azure-storage-blob raises
    """
    found = _blob(uri, client).get_blob_properties()
    return Found(uri, found.size, _plain(found.etag))


def listing(glob: Glob, client: Any) -> Iterator[Found]:
    """Yield the blobs that may be meant, in the order of the store."""
    container, prefix = object_prefix(glob.fixed)
    found = _require(client).get_container_client(container)
    for blob in found.list_blobs(name_starts_with=prefix, include=["metadata"]):
        if not (blob.metadata or {}).get(_IS_FOLDER):
            yield Found(f"azure://{container}/{blob.name}", blob.size, _plain(blob.etag))


def remove(uri: str, client: Any, version: str | None) -> None:
    """
    Remove a blob, and the snapshots of it.

    :raises ChangedError: if it is of another version
    :raises Exception: whatever azure-storage-blob raises
    """
    _blob(uri, client).delete_blob(delete_snapshots="include", **_condition(version))


def old_versions(uri: str, client: Any) -> int:
    """
    Return how many versions and snapshots of a blob there are besides it, soft-deleted ones included.

    :raises Exception: whatever azure-storage-blob raises
    """
    return len(_former(uri, client))


def purge(uri: str, client: Any) -> int:
    """
    Remove all versions and snapshots of a blob but what stands there; return how many there were.

    :raises Exception: whatever azure-storage-blob raises
    """
    found = [each for each in _former(uri, client) if not each.deleted]
    container, name = object_name(uri)
    for each in found:
        which = {"snapshot": each.snapshot} if each.snapshot else {"version_id": each.version_id}
        _require(client).get_blob_client(container, name, **which).delete_blob()
    return len(found)


def reader(uri: str, client: Any, version: str | None) -> _Reader:
    """
    Open a blob for reading, as it is stored and all of the same version; smart_open would mix them.

    :raises Exception: whatever azure-storage-blob raises
    """
    return _Reader(_blob(uri, client).download_blob(decompress=False, **_condition(version)))


def _former(uri: str, client: Any) -> list[Any]:
    container, name = object_name(uri)
    found = _require(client).get_container_client(container)
    blobs = found.list_blobs(name_starts_with=name, include=["snapshots", "versions", "deleted"])
    # Names that only begin with this one come after it.
    same = itertools.takewhile(lambda blob: blob.name == name, blobs)
    return [
        blob
        for blob in same
        if blob.snapshot or blob.deleted or (blob.version_id and not blob.is_current_version)
    ]


def _blob(uri: str, client: Any) -> Any:
    return _require(client).get_blob_client(*object_name(uri))


def _stage(source: Path, blob: Any) -> list[Any]:
    from azure.storage.blob import BlobBlock

    blocks = []
    for block in _blocks(source):
        blocks.append(BlobBlock(block_id=_new_block_id()))
        blob.stage_block(blocks[-1].id, block, length=len(block), validate_content=True)
    return blocks


def _tier(name: str | None) -> Any:
    from azure.storage.blob import StandardBlobTier

    return StandardBlobTier(name) if name else None


def _plain(etag: str) -> str:
    return etag.strip('"')


def _condition(version: str | None) -> dict[str, Any]:
    from azure.core import MatchConditions

    return {"etag": f'"{version}"', "match_condition": MatchConditions.IfNotModified} if version else {}


class _Reader:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        # The library fetches range by range: nothing is open.
        return

    def read(self, size: int = -1, /) -> bytes:
        block: bytes = self._stream.read(size)
        return block


def _new_block_id() -> str:
    # Uncommitted blocks belong to the blob, not to a writer: names of its own keep two from mixing theirs.
    # All names have to be of one length, those that others left included: hence the library's own pattern.
    return f"{uuid.uuid4().int:048d}"


def _blocks(source: Path) -> Iterator[bytes]:
    with source.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _require(client: Any) -> Any:
    if client is None:
        raise AddressError(
            "azure:// is reached through an Airflow connection alone: set destination_conn_id, or "
            "source_conn_id for ids"
        )
    return client
