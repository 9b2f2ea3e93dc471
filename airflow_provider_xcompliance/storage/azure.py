"""
Landing on Azure Blob Storage: a blob appears when the list of its blocks is committed.

Blocks that nobody commits are never seen, and Azure drops them with the next commit or after a week: there is
nothing to clean up.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_provider_xcompliance.storage.addresses import object_name
from airflow_provider_xcompliance.storage.errors import AddressError, TakenError, codes_of

# Sets the memory that a landing takes, and with 50,000 blocks the largest blob: 800 GB.
_BLOCK_BYTES = 16 << 20

_TAKEN = {"BlobAlreadyExists", "ConditionNotMet", "412"}

require_name = object_name


def put(source: Path, uri: str, client: Any, replace: bool) -> None:
    """
    Write a blob.

    :raises TakenError: if something stands there that may not be replaced
    :raises Exception: whatever azure-storage-blob raises
    """
    from azure.core import MatchConditions
    from azure.storage.blob import BlobBlock

    container, name = object_name(uri)
    blob = _require(client).get_blob_client(container, name)
    blocks = []
    try:
        for block in _blocks(source):
            blocks.append(BlobBlock(block_id=_new_block_id()))
            blob.stage_block(blocks[-1].id, block, length=len(block), validate_content=True)
        blob.commit_block_list(blocks, **({} if replace else {"match_condition": MatchConditions.IfMissing}))
    except Exception as error:
        if _TAKEN.intersection(codes_of(error)):
            raise TakenError from None
        raise


def read_parameters(client: Any) -> dict[str, Any]:
    """Return how smart_open reads a blob."""
    return {"client": _require(client)}


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
