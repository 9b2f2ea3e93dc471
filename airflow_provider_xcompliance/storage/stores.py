"""Which module knows which kind of store."""

from __future__ import annotations

from types import ModuleType

from airflow_provider_xcompliance.storage import azure, gs, local, s3
from airflow_provider_xcompliance.storage.addresses import display, scheme_of
from airflow_provider_xcompliance.storage.errors import AddressError

#: Scheme → its module; all have the same functions, and leave it to the caller to explain what fails.
_STORES: dict[str, ModuleType] = {"": local, "file": local, "s3": s3, "gs": gs, "azure": azure}


def store_of(uri: str) -> ModuleType | None:
    """Return the module for a URI's scheme; None if there is none."""
    return _STORES.get(scheme_of(uri))


def require_store(uri: str, verb: str) -> ModuleType:
    """
    Return the module for a URI's scheme.

    :param verb: what is to be done there, for the error
    :raises AddressError: if there is none
    """
    store = store_of(uri)
    if store is None:
        raise AddressError(
            f"cannot {verb} {display(uri)}: give a path, file:///path, s3://bucket/key, "
            "gs://bucket/blob or azure://container/blob"
        )
    return store
