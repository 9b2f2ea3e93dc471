"""Find files by pattern, whatever the store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from airflow_provider_xcompliance.storage.addresses import display, local_path, scheme_of
from airflow_provider_xcompliance.storage.errors import AddressError, MissingError, explained
from airflow_provider_xcompliance.storage.found import Found
from airflow_provider_xcompliance.storage.globs import Glob, is_glob
from airflow_provider_xcompliance.storage.redaction import shield
from airflow_provider_xcompliance.storage.stores import require_store


def find(pattern: str, client: Any = None) -> Iterator[Found]:
    """
    Yield the files that a pattern means, one by one, in order of name.

    The order is that of the code points of the whole URI; on Azure and in S3's directory buckets, that of the
    store. What this package itself keeps beside archives (folders ``_xcompliance/``, manifests, records of
    uploads, parts of landings) is left out unless the pattern names it.

    :param pattern: a path or a URI, with ``*``, ``?``, ``[a-z]``, ``[!a-z]`` within a folder and ``**`` for
        any depth; without them, that one file; with a slash at its end, everything in that folder
    :param client: the store's client; None for the library's default credentials
    :raises MissingError: if a pattern that means one file finds none
    :raises AddressError: if it is no pattern, or finds what has a name that no URI can hold
    :raises StorageError: if the store fails
    """
    if not is_glob(pattern):
        yield stat(pattern, client)
        return
    store = require_store(pattern, "look into")
    what = f"cannot look into {display(pattern)}"
    glob = _glob_of(pattern)
    shield()
    found = explained(what, lambda: store.listing(glob, client))
    while each := explained(what, lambda: next(found, None)):
        # Stores keep folders as empty objects.
        if glob.matches(each.uri) and not each.uri.endswith("/"):
            store.require_name(each.uri)
            yield each


def finds(pattern: str, uri: str) -> bool:
    """
    Return whether a pattern means a file of that name, be it there or not.

    :raises AddressError: if it is no pattern
    """
    return _glob_of(pattern).matches(uri) if is_glob(pattern) else pattern == uri


def stat(uri: str, client: Any = None) -> Found:
    """
    Return what is known of a file without reading it.

    :raises MissingError: if there is none
    :raises StorageError: if the store fails
    """
    store = require_store(uri, "look at")
    store.require_name(uri)
    shield()
    found: Found = explained(f"cannot look at {display(uri)}", lambda: store.stat(uri, client))
    return found


def version_of(uri: str, client: Any = None) -> str | None:
    """
    Return the version of a file; None if there is no such file.

    :raises StorageError: if the store fails
    """
    try:
        return stat(uri, client).version
    except MissingError:
        return None


def _glob_of(pattern: str) -> Glob:
    if scheme_of(pattern) == "file":
        local_path(pattern + "x")
    if not scheme_of(pattern):
        # What names a file in the same folder makes a pattern of a path absolute.
        folder, slash, name = pattern.rpartition("/")
        pattern = f"{str(local_path(folder + slash + 'x'))[:-1]}{name}"
    try:
        return Glob(pattern)
    except re.error:
        raise AddressError(f"{display(pattern)!r} is no pattern: its brackets hold no range") from None
