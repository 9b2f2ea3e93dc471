"""
Landing on Google Cloud Storage: an object appears when its upload, resumable if large, is finished.

An upload that nobody finishes is never seen, and Google drops it after a week: there is nothing to clean up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_xcompliance.storage.addresses import object_name
from airflow_provider_xcompliance.storage.errors import TakenError, codes_of

# Sets the memory that a landing or a reading takes; a multiple of 256 KiB, as the protocol demands.
_CHUNK_BYTES = 16 << 20

# The library repeats requests for so long, if the network or Google fails; a task's retries come after that.
_RETRY_SECONDS = 120.0

_TAKEN = {"412"}

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


def read_parameters(client: Any) -> dict[str, Any]:
    """Return how smart_open reads an object: as it is stored, and all blocks of the same generation."""
    retry = _retry()
    return {
        "client": client or _default_client(),
        "get_blob_kwargs": {"retry": retry},
        "blob_open_kwargs": {"chunk_size": _CHUNK_BYTES, "raw_download": True, "retry": retry},
    }


def _retry() -> Any:
    from google.cloud.storage.retry import DEFAULT_RETRY  # type: ignore[import-untyped]

    return DEFAULT_RETRY.with_timeout(_RETRY_SECONDS)


def _default_client() -> Any:
    from google.cloud.storage import Client  # type: ignore[import-untyped]

    return Client()
