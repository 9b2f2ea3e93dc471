import gc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.storage import DestinationExistsError, StorageError
from airflow_provider_xcompliance.storage import s3 as s3_store
from tests.storage.helpers import LARGE, SMALL, put, spool


def objects(client: Any, bucket: str) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def uploads(client: Any, bucket: str) -> list[str]:
    return [item["Key"] for item in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def content_of(client: Any, bucket: str) -> bytes:
    body: bytes = client.get_object(Bucket=bucket, Key="events")["Body"].read()
    return body


@contextmanager
def network_down_at(client: Any, *operations: str) -> Iterator[None]:
    """Let the network fail at these operations; of the three parts it is the last that fails."""
    parts = count(1)

    def fail(event_name: str, **_: object) -> None:
        if not event_name.endswith("UploadPart") or next(parts) == 3:
            raise ConnectionResetError("the signed URL is https://host/?X-Amz-Signature=secret")

    for operation in operations:
        client.meta.events.register(f"before-send.s3.{operation}", fail)
    yield
    for operation in operations:
        client.meta.events.unregister(f"before-send.s3.{operation}", fail)


def test_a_file_lands_whole_and_a_second_time_nothing_happens(
    s3: Any, tmp_path: Path, content: bytes
) -> None:
    client, bucket, source = s3.client(), s3.bucket(), spool(tmp_path, content)

    assert put(source, f"s3://{bucket}/events", client) is True
    assert content_of(client, bucket) == content
    assert objects(client, bucket) == ["events"]

    writes: list[str] = []
    client.meta.events.register("before-call.s3", lambda model, **_: writes.append(model.name))
    assert put(source, f"s3://{bucket}/events", client) is False
    assert put(source, f"s3://{bucket}/events", client, replace=True) is False
    assert set(writes) <= {"GetObject", "HeadObject"}
    assert uploads(client, bucket) == []


def test_other_content_is_replaced_only_when_asked(s3: Any, tmp_path: Path, content: bytes) -> None:
    client, bucket, source = s3.client(), s3.bucket(), spool(tmp_path, content)
    client.put_object(Bucket=bucket, Key="events", Body=b"other")

    with pytest.raises(DestinationExistsError, match=f"^s3://{bucket}/events exists with other content"):
        put(source, f"s3://{bucket}/events", client)
    assert content_of(client, bucket) == b"other"
    assert uploads(client, bucket) == []

    assert put(source, f"s3://{bucket}/events", client, replace=True) is True
    assert content_of(client, bucket) == content


@pytest.mark.parametrize(
    "operations",
    [
        ("UploadPart",),
        ("CompleteMultipartUpload", "AbortMultipartUpload"),
    ],
    ids="+".join,
)
def test_nothing_appears_when_the_network_fails_not_even_later(
    s3: Any, tmp_path: Path, operations: tuple[str, ...]
) -> None:
    client, bucket, source = (
        s3.client(retries={"total_max_attempts": 1}),
        s3.bucket(),
        spool(tmp_path, LARGE),
    )

    with network_down_at(client, *operations), pytest.raises(StorageError) as caught:
        put(source, f"s3://{bucket}/events", client)
    text = str(caught.value)
    # The network is back: what a finalizer might still send would arrive now.
    del caught
    gc.collect()

    assert objects(client, bucket) == []
    assert bool(uploads(client, bucket)) == ("AbortMultipartUpload" in operations)
    assert "secret" not in text
    assert text.startswith(f"cannot write s3://{bucket}/events: ")

    assert put(source, f"s3://{bucket}/events", client) is True
    assert content_of(client, bucket) == LARGE


def test_a_commit_whose_answer_is_lost_is_success(s3: Any, tmp_path: Path) -> None:
    bucket, source = s3.bucket(), spool(tmp_path, LARGE)
    client = s3.client(retries={"total_max_attempts": 1})

    def lose(**_: object) -> None:
        raise ConnectionResetError

    client.meta.events.register("after-call.s3.CompleteMultipartUpload", lose)

    assert put(source, f"s3://{bucket}/events", client) is False
    assert content_of(s3.client(), bucket) == LARGE


def test_an_object_that_appears_in_the_meantime_is_not_overwritten(
    s3: Any, tmp_path: Path, content: bytes
) -> None:
    bucket, source, client, other = s3.bucket(), spool(tmp_path, content), s3.client(), s3.client()

    def rival(**_: object) -> None:
        other.put_object(Bucket=bucket, Key="events", Body=b"other")

    for commit in ("PutObject", "CompleteMultipartUpload"):
        client.meta.events.register(f"before-send.s3.{commit}", rival)

    with pytest.raises(DestinationExistsError):
        put(source, f"s3://{bucket}/events", client)

    assert content_of(other, bucket) == b"other"
    assert uploads(other, bucket) == []


def test_what_a_killed_landing_left_is_aborted_when_it_is_old(
    swift_s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, bucket, source = swift_s3.client(), swift_s3.bucket(), spool(tmp_path, LARGE)
    for key in ("events", "events2"):
        client.create_multipart_upload(Bucket=bucket, Key=key)

    put(source, f"s3://{bucket}/events", client)
    assert uploads(client, bucket) == ["events", "events2"]

    monkeypatch.setattr(s3_store, "_ORPHAN_AGE", timedelta(hours=-1))
    client.delete_object(Bucket=bucket, Key="events")
    put(source, f"s3://{bucket}/events", client)
    assert uploads(client, bucket) == ["events2"]


def test_without_a_client_the_library_finds_credentials_itself(
    moto_s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_s3.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_s3.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    assert put(spool(tmp_path, SMALL), f"s3://{moto_s3.bucket()}/events") is True
