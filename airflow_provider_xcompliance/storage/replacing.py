"""Replace files where they stand, and what is left of what stood there before."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

from airflow_provider_xcompliance.storage import local
from airflow_provider_xcompliance.storage.addresses import display
from airflow_provider_xcompliance.storage.errors import ChangedError, MissingError, StorageError, explained
from airflow_provider_xcompliance.storage.finding import stat
from airflow_provider_xcompliance.storage.found import Found
from airflow_provider_xcompliance.storage.reading import checksum_of
from airflow_provider_xcompliance.storage.redaction import shield
from airflow_provider_xcompliance.storage.stores import require_store

_log = logging.getLogger(__name__)


def replace(source: Path, uri: str, client: Any, version: str) -> Found:
    """
    Replace a file, if it still is the version that was read, whole or not at all.

    What it has besides its content stays: permissions, owner and extended attributes; or metadata, tags,
    storage class and encryption, but for access lists of single objects, and locks. What others append to a
    local file meanwhile is not lost.

    :param source: a local file; its content is final
    :param version: as :func:`find` or :func:`stat` reported it
    :return: the file as it was written
    :raises ChangedError: if it is another version by now, or is open for writing
    :raises MissingError: if it is gone
    :raises StorageError: if the store fails, or holds other content afterwards
    """
    store = require_store(uri, "replace")
    store.require_name(uri)
    what = f"cannot replace {display(uri)}"
    shield()
    try:
        found: Found
        found, proven = explained(what, lambda: store.swap(source, uri, client, version))
    except StorageError as error:
        failure = error
    else:
        if proven or checksum_of(uri, client, found.version) == checksum_of(str(source)):
            return found
        raise StorageError(f"{display(uri)} does not hold what was written to it")
    # A commit whose answer is lost is tried again by the libraries, and then finds itself.
    standing = None if store is local else _written(source, uri, client, version, failure)
    if standing:
        return standing
    raise failure


def remove(uri: str, client: Any = None, version: str | None = None) -> None:
    """
    Remove a file; one that is gone already is fine.

    :param version: the one to remove, as it was found; None for whatever stands there
    :raises ChangedError: if it is of another version
    :raises StorageError: if the store fails
    """
    store = require_store(uri, "remove")
    store.require_name(uri)
    shield()
    with contextlib.suppress(MissingError):
        try:
            explained(f"cannot remove {display(uri)}", lambda: store.remove(uri, client, version))
        except ChangedError:
            # Azure says so of what is not there, too.
            stat(uri, client)
            raise


def old_versions(uri: str, client: Any = None) -> int | None:
    """
    Return how many former contents of a file the store still holds, as versions, snapshots or soft-deleted.

    Copies that cannot be seen there (backups, replicas in other buckets) are not among them.

    :return: None if the store does not let that be seen; why, is logged
    """
    store = require_store(uri, "look at")
    store.require_name(uri)
    shield()
    what = f"cannot tell old versions of {display(uri)}, which needs {store.LISTING_NEEDS}"
    try:
        count: int = explained(what, lambda: store.old_versions(uri, client))
    except StorageError as error:
        _log.warning("%s", error)
        return None
    return count


def purge_old_versions(uri: str, client: Any = None) -> int:
    """
    Remove all former contents of a file, and never the current one.

    What is soft-deleted cannot be removed before its time: :func:`old_versions` still counts it afterwards.

    :return: how many were removed
    :raises StorageError: if the store does not let that be done
    """
    store = require_store(uri, "purge")
    store.require_name(uri)
    shield()
    what = f"cannot purge old versions of {display(uri)}, which needs {store.PURGING_NEEDS}"
    count: int = explained(what, lambda: store.purge(uri, client))
    return count


def _written(source: Path, uri: str, client: Any, version: str, failure: StorageError) -> Found | None:
    """
    Return what stands there if it is what was to be written.

    :raises MissingError: if that is why it failed
    """
    try:
        standing = stat(uri, client)
        if standing.version == version or standing.bytes != source.stat().st_size:
            return None
        same = checksum_of(uri, client, standing.version) == checksum_of(str(source))
    except MissingError:
        if isinstance(failure, ChangedError):
            raise
        return None
    except StorageError:
        return None
    return standing if same else None
