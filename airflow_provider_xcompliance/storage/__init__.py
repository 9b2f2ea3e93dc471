"""
Files by URI: read them anywhere, and land them so that nobody ever sees a part of one.

smart_open reads every scheme that it knows. Landing is on local files, ``s3://``, ``gs://`` and ``azure://``:
one module for each, with the same few functions. Credentials come as a ready client of the store's library,
or else from that library's own defaults.
"""

from airflow_provider_xcompliance.storage.addresses import display
from airflow_provider_xcompliance.storage.errors import (
    AddressError,
    DestinationExistsError,
    MissingError,
    StorageError,
)
from airflow_provider_xcompliance.storage.landing import land, require_landable
from airflow_provider_xcompliance.storage.reading import Digest, digest_of, open_source

__all__ = [
    "AddressError",
    "DestinationExistsError",
    "Digest",
    "MissingError",
    "StorageError",
    "digest_of",
    "display",
    "land",
    "open_source",
    "require_landable",
]
