from pathlib import Path

import pytest

from airflow_provider_xcompliance.storage import StorageError, canonical, display, require_landable
from tests.storage.helpers import put


@pytest.mark.parametrize(
    "uri",
    [
        "/tmp/events",
        "events.ndjson",
        "~/events",
        "job:1/events",
        "/tmp/what?.ndjson",
        "file:///tmp/events",
        "s3://bucket/key",
        "s3://a.bucket-1/some/2026-01-01T00:00:00+00:00/key@x.ndjson",
        "s3://bucket/k",
        "gs://bucket/some/blob",
        "azure://container/some/..blob",
    ],
)
def test_a_destination_that_names_a_file_is_taken(uri: str) -> None:
    require_landable(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/tmp/",
        "s3:/bucket/key",
        "file:/tmp/events",
        "file://events",
        "file://host/events",
        "file:///tmp/",
        "gs://bucket",
        "gs://bucket//key",
        "gs://bucket/..",
        "gcs://bucket/key",
        "azure://container",
        "azure://container/../other/key",
        "azure://container/a/./key",
        "s3://bucket/a/..",
        "https://host/key",
        "S3://bucket/key",
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/directory/",
        "s3://bucket/key?versionId=1",
        "s3://bucket/key#part",
        "s3://AKIAEXAMPLE:sec/ret@bucket/key",
        "s3://name@bucket/key",
    ],
)
def test_any_other_destination_is_refused(uri: str, source: Path) -> None:
    with pytest.raises(StorageError) as caught:
        require_landable(uri)
    with pytest.raises(StorageError):
        put(source, uri)

    assert "ret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("/tmp/a?b#c@d", "/tmp/a?b#c@d"),
        ("a:b", "a:b"),
        ("file:///tmp/a", "file:///tmp/a"),
        ("s3://bucket/a/b:c@d", "s3://bucket/a/b:c@d"),
        ("s3://AKIAEXAMPLE:secret@bucket/key", "s3://bucket/key"),
        ("s3://AKIAEXAMPLE:sec/r+et@bucket/key", "s3://bucket/key"),
        ("s3://AKIAEXAMPLE:sec/ret@host:9000@bucket/key", "s3://host:9000@bucket/key"),
        ("https://user:secret@host:8080/path?token=secret#secret", "https://host:8080/path"),
        ("https://user@host/path", "https://host/path"),
        ("https://[broken/path?token=secret", "https://[broken/path"),
    ],
)
def test_no_credential_is_shown(uri: str, shown: str) -> None:
    assert display(uri) == shown


@pytest.mark.parametrize(
    ("address", "as_found"),
    [
        ("/data/posts/", "/data/posts/"),
        ("file:///data/posts/", "/data/posts/"),
        ("file:///data//posts/**/[ab]*.ndjson", "/data/posts/**/[ab]*.ndjson"),
        ("posts/*.csv", "/here/posts/*.csv"),
        ("~/posts", "/home/me/posts"),
        ("s3://bucket/posts/", "s3://bucket/posts/"),
        ("file://posts", "file://posts"),
    ],
)
def test_local_files_are_called_one_way(address: str, as_found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(Path, "absolute", lambda self: Path("/here") / self)

    assert canonical(address) == as_found
