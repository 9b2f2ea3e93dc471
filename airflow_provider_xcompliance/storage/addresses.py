"""URIs: what they name, and how they are shown."""

from __future__ import annotations

import os
import re
from pathlib import Path

from airflow_provider_xcompliance.storage.errors import AddressError

# Credentials before the host, as smart_open reads them: an S3 secret may hold a slash.
_URI = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^/@:]*:[^@]*@|[^/@]*@)?(?P<rest>[^?#]*)", re.DOTALL
)
_LOST_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_PREFIX = re.compile(r"[a-z0-9]+://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]*)/(?P<prefix>.*)", re.DOTALL)
_OBJECT = re.compile(r"[a-z0-9]+://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]*)/(?P<key>[^?#/]|[^?#/][^?#]*[^?#/])")


def display(uri: str) -> str:
    """Return a URI without user name, password and query, which may be credentials."""
    parts = _URI.match(uri)
    return f"{parts['scheme']}://{parts['rest']}" if parts else uri


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI; nothing for a bare path."""
    parts = _URI.match(uri)
    return parts["scheme"] if parts else ""


def local_path(uri: str) -> Path:
    """
    Return the file that a bare path or a ``file://`` URI names.

    :raises AddressError: if it names none
    """
    path = uri.removeprefix("file://")
    is_relative_uri = path != uri and not path.startswith("/")
    if not path or path.endswith("/") or is_relative_uri or _LOST_SLASH.match(path):
        raise AddressError(f"{display(uri)!r} names no file: give a path, or a URI such as s3://bucket/key")
    # Absolute, because smart_open takes what stands before a colon for a scheme.
    return Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 - pathlib fails at ~name of no user


def canonical(address: str) -> str:
    """Write an address or a pattern as files are called that are found: local ones by absolute paths."""
    path = address.removeprefix("file://")
    if scheme_of(path) or (path != address and not path.startswith("/")):
        return address
    return f"{Path(os.path.expanduser(path)).absolute()}{'/' * path.endswith('/')}"  # noqa: PTH111 - as above


def local_file(uri: str) -> Path | None:
    """Return the file that an address names if it is on this machine."""
    return local_path(uri) if scheme_of(uri) in ("", "file") else None


def object_name(uri: str) -> tuple[str, str]:
    """
    Return the bucket (or container) and the key (or blob) that a store's URI names.

    :raises AddressError: if it names none
    """
    name = _OBJECT.fullmatch(uri)
    # Libraries below follow dots and leading slashes, and would write another object, in another bucket even.
    if not name or {".", ".."} & set(name["key"].split("/")):
        scheme = scheme_of(uri)
        raise AddressError(
            f"{display(uri)!r} names no object: give {scheme}://bucket/key, and credentials apart from it"
        )
    return name["bucket"], name["key"]


def object_prefix(uri: str) -> tuple[str, str]:
    """
    Return the bucket (or container) of a store's URI, and what the keys that begin so begin with.

    :raises AddressError: if it names no bucket
    """
    name = _PREFIX.fullmatch(uri)
    if not name:
        raise AddressError(
            f"{display(uri)!r} names no bucket: give {scheme_of(uri)}://bucket/pattern, with wildcards in "
            "the pattern alone, and credentials apart from it"
        )
    return name["bucket"], name["prefix"]
