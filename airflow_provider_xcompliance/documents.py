"""Small JSON documents beside files: what they are, and what was done."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_xcompliance import storage
from airflow_provider_xcompliance.storage import MissingError, StorageError

# More than any of them has; what is larger is something else.
_MAX_BYTES = 64 << 20


def manifest_uri(destination: str) -> str:
    """Return where the manifest of landed events is."""
    return f"{destination}.manifest.json"


def land_json(spool: Path, content: dict[str, Any], uri: str, client: Any) -> None:
    """
    Land a small JSON document, in the place of an older one.

    :param spool: a local file to write it to first
    """
    spool.touch(mode=0o600)
    spool.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    storage.land(spool, storage.digest_of(str(spool)), uri, client, replace=True)


def read_json(uri: str, client: Any) -> dict[str, Any] | None:
    """
    Read a small JSON document.

    :return: None if there is none, or it is something else
    :raises StorageError: if it cannot be read
    """
    try:
        with storage.open_source(uri, client) as file:
            return msgspec.json.decode(file.read(_MAX_BYTES), type=dict[str, Any])
    except (MissingError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def find_json(uri: str, client: Any) -> dict[str, Any]:
    """Read a small JSON document; nothing if there is none that can be read, for whatever reason."""
    with suppress(StorageError):
        return read_json(uri, client) or {}
    return {}
