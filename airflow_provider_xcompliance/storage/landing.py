"""Land a finished file whole or not at all, whatever the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_xcompliance.storage import local
from airflow_provider_xcompliance.storage.addresses import display
from airflow_provider_xcompliance.storage.errors import (
    DestinationExistsError,
    StorageError,
    TakenError,
    explained,
)
from airflow_provider_xcompliance.storage.found import Checksum
from airflow_provider_xcompliance.storage.reading import Digest, checksum_of, digest_of
from airflow_provider_xcompliance.storage.redaction import shield
from airflow_provider_xcompliance.storage.stores import require_store, store_of


def require_landable(destination: str) -> None:
    """
    Refuse an address that :func:`land` does not take, before there is anything to land.

    :raises AddressError: if it is of another kind, or does not name a file
    """
    require_store(destination, "land on").require_name(destination)


def land(
    source: Path, digest: Digest | Checksum, destination: str, client: Any = None, *, replace: bool = False
) -> bool:
    """
    Put a finished local file at its destination, whole or not at all, and read it back.

    :param source: the file; its content is final and verified
    :param digest: of the file; a checksum will do for what is large, and is faster by far
    :param destination: ``s3://bucket/key``, ``gs://bucket/blob``, ``azure://container/blob``, ``file:///path``
        or a bare path
    :param client: the store's client; None for the library's default credentials
    :param replace: whether a file with other content may be replaced
    :return: False if the same content stood there already
    :raises DestinationExistsError: if other content stands there and may not be replaced
    :raises StorageError: if the store fails, or holds other content afterwards
    """
    require_landable(destination)
    if _standing(destination, client, digest) == digest:
        return False
    failure = _put(source, destination, client, replace)
    standing = (_standing if failure else _read_back)(destination, client, digest)
    if failure and standing != digest:
        raise failure
    if standing != digest:
        raise StorageError(f"{display(destination)} does not hold what was written to it")
    # Where writing failed, another writer was first with the same content, or the commit's answer was lost.
    return failure is None


def _put(source: Path, destination: str, client: Any, replace: bool) -> StorageError | None:
    shield()
    put = require_store(destination, "land on").put
    try:
        explained(f"cannot write {display(destination)}", lambda: put(source, destination, client, replace))
    except TakenError:
        return DestinationExistsError(
            f"{display(destination)} exists with other content; give another destination, or "
            "if_exists='replace'"
        )
    except StorageError as error:
        return error
    return None


def _read_back(destination: str, client: Any, like: Digest | Checksum) -> Digest | Checksum:
    try:
        return _digest_of(destination, client, like)
    except StorageError:
        # What another writer replaces while it is read cannot be read to its end; its successor can.
        return _digest_of(destination, client, like)


def _standing(destination: str, client: Any, like: Digest | Checksum) -> Digest | Checksum | None:
    """Return the digest of what stands at a destination; None if nothing does, or it cannot be told."""
    if store_of(destination) is local and not local.is_plain_file(destination):
        return None
    try:
        return _digest_of(destination, client, like)
    except StorageError:
        return None


def _digest_of(destination: str, client: Any, like: Digest | Checksum) -> Digest | Checksum:
    return (checksum_of if isinstance(like, Checksum) else digest_of)(destination, client)
