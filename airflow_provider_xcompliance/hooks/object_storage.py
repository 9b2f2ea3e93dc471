"""Airflow connections of object stores, made into the clients that :mod:`..storage` takes."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException


class _Store(NamedTuple):
    module: str
    hook: str
    conn_id: str
    extra: str


#: Which hook serves which scheme, what it calls its connection id, and the extra that brings it.
_STORES = {
    "s3": _Store("airflow.providers.amazon.aws.hooks.s3", "S3Hook", "aws_conn_id", "s3"),
    "gs": _Store("airflow.providers.google.cloud.hooks.gcs", "GCSHook", "gcp_conn_id", "gcs"),
    "azure": _Store("airflow.providers.microsoft.azure.hooks.wasb", "WasbHook", "wasb_conn_id", "azure"),
}


def get_storage_client(uri: str, conn_id: str | None) -> Any:
    """
    Return the client for the store of a URI.

    :param conn_id: Airflow connection of that store; None for the library's default credentials
    :return: the client; None where none is needed
    :raises AirflowOptionalProviderFeatureException: if the provider for that store is not installed
    """
    store = _STORES.get(urlsplit(uri).scheme)
    if store is None or conn_id is None:
        return None
    try:
        hook = getattr(import_module(store.module), store.hook)
    except ImportError:
        raise AirflowOptionalProviderFeatureException(
            f"connection {conn_id!r} needs Airflow's provider for it: pip install "
            f"'airflow-provider-xcompliance[{store.extra}]'"
        ) from None
    return hook(**{store.conn_id: conn_id}).get_conn()
