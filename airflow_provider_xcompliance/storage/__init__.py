"""
Files by URI: find them, read them anywhere, and land or replace them so that nobody ever sees a part of one.

smart_open reads every scheme that it knows. All else is on local files, ``s3://``, ``gs://`` and
``azure://``: one module for each, with the same few functions. Credentials come as a ready client of the
store's library, or else from that library's own defaults.
"""

from airflow_provider_xcompliance.storage.addresses import canonical, display, local_file
from airflow_provider_xcompliance.storage.errors import (
    AddressError,
    ChangedError,
    DestinationExistsError,
    MissingError,
    StorageError,
)
from airflow_provider_xcompliance.storage.finding import find, finds, stat, version_of
from airflow_provider_xcompliance.storage.found import Checksum, Found, crc32c_of
from airflow_provider_xcompliance.storage.landing import land, require_landable
from airflow_provider_xcompliance.storage.reading import Digest, checksum_of, digest_of, fetch, open_source
from airflow_provider_xcompliance.storage.replacing import old_versions, purge_old_versions, remove, replace

__all__ = [
    "AddressError",
    "ChangedError",
    "Checksum",
    "DestinationExistsError",
    "Digest",
    "Found",
    "MissingError",
    "StorageError",
    "canonical",
    "checksum_of",
    "crc32c_of",
    "digest_of",
    "display",
    "fetch",
    "find",
    "finds",
    "land",
    "local_file",
    "old_versions",
    "open_source",
    "purge_old_versions",
    "remove",
    "replace",
    "require_landable",
    "stat",
    "version_of",
]
