"""Land a finished file whole or not at all, whatever the store."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from airflow_provider_xcompliance.storage import azure, gs, local, s3
from airflow_provider_xcompliance.storage.addresses import display, scheme_of
from airflow_provider_xcompliance.storage.errors import (
    AddressError,
    DestinationExistsError,
    StorageError,
    TakenError,
    explained,
)
from airflow_provider_xcompliance.storage.reading import Digest, digest_of
from airflow_provider_xcompliance.storage.redaction import shield

#: Scheme → the module that lands there: ``require_name(uri)`` and ``put(source, uri, client, replace)``.
_STORES: dict[str, ModuleType] = {"": local, "file": local, "s3": s3, "gs": gs, "azure": azure}


def require_landable(destination: str) -> None:
    """
    Refuse an address that :func:`land` does not take, before there is anything to land.

    :raises AddressError: if it is of another kind, or does not name a file
    """
    store = _STORES.get(scheme_of(destination))
    if store is None:
        raise AddressError(
            f"cannot land on {display(destination)}: give a path, file:///path, s3://bucket/key, "
            "gs://bucket/blob or azure://container/blob"
        )
    store.require_name(destination)


def land(
    source: Path, digest: Digest, destination: str, client: Any = None, *, replace: bool = False
) -> bool:
    """
    Put a finished local file at its destination, whole or not at all, and read it back.

    :param source: the file; its content is final and verified
    :param digest: of the file
    :param destination: ``s3://bucket/key``, ``gs://bucket/blob``, ``azure://container/blob``, ``file:///path``
        or a bare path
    :param client: the store's client; None for the library's default credentials
    :param replace: whether a file with other content may be replaced
    :return: False if the same content stood there already
    :raises DestinationExistsError: if other content stands there and may not be replaced
    :raises StorageError: if the store fails, or holds other content afterwards
    """
    require_landable(destination)
    if _standing(destination, client) == digest:
        return False
    failure = _put(source, destination, client, replace)
    standing = _standing(destination, client) if failure else _read_back(destination, client)
    if failure and standing != digest:
        raise failure
    if standing != digest:
        raise StorageError(f"{display(destination)} does not hold what was written to it")
    # Where writing failed, another writer was first with the same content, or the commit's answer was lost.
    return failure is None


def _put(source: Path, destination: str, client: Any, replace: bool) -> StorageError | None:
    shield()
    put = _STORES[scheme_of(destination)].put
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


def _read_back(destination: str, client: Any) -> Digest:
    try:
        return digest_of(destination, client)
    except StorageError:
        # What another writer replaces while it is read cannot be read to its end; its successor can.
        return digest_of(destination, client)


def _standing(destination: str, client: Any) -> Digest | None:
    """Return the digest of what stands at a destination; None if nothing does, or it cannot be told."""
    if _STORES[scheme_of(destination)] is local and not local.is_plain_file(destination):
        return None
    try:
        return digest_of(destination, client)
    except StorageError:
        return None
