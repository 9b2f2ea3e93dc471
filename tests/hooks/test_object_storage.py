import sys
from types import ModuleType, SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException

from airflow_provider_xcompliance.hooks.object_storage import get_storage_client


@pytest.mark.parametrize("uri", ["/srv/ids.txt", "file:///srv/ids.txt", "https://example.com/ids.txt"])
def test_files_need_no_client(uri):
    assert get_storage_client(uri, "some_conn") is None


def test_without_a_connection_the_library_finds_its_own_credentials():
    assert get_storage_client("s3://bucket/key", None) is None


def test_an_aws_connection_becomes_a_client(moto_s3, connect):
    connect("store", **moto_s3.connection())
    bucket = moto_s3.bucket()

    client = get_storage_client(f"s3://{bucket}/key", "store")

    assert bucket in [each["Name"] for each in client.list_buckets()["Buckets"]]


@pytest.mark.parametrize(
    ("uri", "module", "hook", "parameter"),
    [
        ("gs://b/k", "airflow.providers.google.cloud.hooks.gcs", "GCSHook", "gcp_conn_id"),
        ("azure://c/k", "airflow.providers.microsoft.azure.hooks.wasb", "WasbHook", "wasb_conn_id"),
    ],
)
def test_the_hook_of_the_store_makes_the_client(uri, module, hook, parameter, monkeypatch):
    # A stub: these two providers bring more than a hundred packages.
    stub = ModuleType(module)
    setattr(stub, hook, lambda **given: SimpleNamespace(get_conn=lambda: given))
    monkeypatch.setitem(sys.modules, module, stub)

    assert get_storage_client(uri, "store") == {parameter: "store"}


@pytest.mark.parametrize(
    ("uri", "module", "extra"),
    [
        ("s3://b/k", "airflow.providers.amazon.aws.hooks.s3", "s3"),
        ("gs://b/k", "airflow.providers.google.cloud.hooks.gcs", "gcs"),
        ("azure://c/k", "airflow.providers.microsoft.azure.hooks.wasb", "azure"),
    ],
)
def test_a_missing_provider_is_named_with_the_extra_that_brings_it(uri, module, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(AirflowOptionalProviderFeatureException, match=rf"xcompliance\[{extra}\]"):
        get_storage_client(uri, "store")
