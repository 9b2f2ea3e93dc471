"""What holds on gs and azure alike; test_s3.py and test_local.py have more on theirs."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.storage import (
    DestinationExistsError,
    Digest,
    StorageError,
    checksum_of,
    digest_of,
    land,
    landing,
    open_source,
)
from tests.storage.helpers import LARGE, SMALL, put, spool


@pytest.fixture(params=["gs", "azure"])
def store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue({"gs": "gcs", "azure": "azurite"}[request.param])


@pytest.fixture
def uri(request: pytest.FixtureRequest, store: Any) -> str:
    return f"{request.node.callspec.params['store']}://{store.bucket()}/some/é 20%/events"


def content_of(uri: str, client: Any) -> bytes:
    with open_source(uri, client) as file:
        return file.read()


def test_a_file_lands_whole_and_a_second_time_nothing_happens(
    store: Any, uri: str, tmp_path: Path, content: bytes
) -> None:
    client, source = store.client(), spool(tmp_path, content)

    assert put(source, uri, client) is True
    assert content_of(uri, client) == content

    assert put(source, uri, client) is False
    assert put(source, uri, client, replace=True) is False


def test_other_content_is_replaced_only_when_asked(
    store: Any, uri: str, tmp_path: Path, content: bytes
) -> None:
    client = store.client()
    put(spool(tmp_path, b"other"), uri, client)
    source = spool(tmp_path, content)

    with pytest.raises(DestinationExistsError, match="exists with other content"):
        put(source, uri, client)
    assert content_of(uri, client) == b"other"

    assert put(source, uri, client, replace=True) is True
    assert content_of(uri, client) == content


def test_what_appears_in_the_meantime_is_not_overwritten(
    store: Any, uri: str, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store.client()
    put(spool(tmp_path, b"other"), uri, client)
    # As if it had not stood there yet when it was looked for.
    monkeypatch.setattr(landing, "_standing", lambda *_: None)

    with pytest.raises(DestinationExistsError) as caught:
        put(spool(tmp_path, content), uri, client)

    assert content_of(uri, client) == b"other"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_store_that_holds_something_else_afterwards_is_found_out(
    store: Any, uri: str, source: Path
) -> None:
    with pytest.raises(StorageError, match="does not hold what was written to it"):
        land(source, Digest(3, "0" * 64), uri, store.client())


def test_what_is_replaced_while_it_is_read_back_is_read_once_more(
    store: Any, uri: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([StorageError("gone"), digest_of(str(source))])

    def read_back(*_: object) -> Digest:
        answer = next(answers)
        if isinstance(answer, StorageError):
            raise answer
        return answer

    monkeypatch.setattr(landing, "_standing", lambda *_: None)
    monkeypatch.setattr(landing, "digest_of", read_back)

    assert land(source, digest_of(str(source)), uri, store.client()) is True


def test_compressed_ids_are_read_from_it(store: Any, uri: str, tmp_path: Path) -> None:
    client = store.client()
    put(spool(tmp_path, gzip.compress(SMALL)), f"{uri}.gz", client)

    with open_source(f"{uri}.gz", client, decompress=True) as file:
        assert file.read() == SMALL
    assert gzip.decompress(content_of(f"{uri}.gz", client)) == SMALL


def test_what_is_not_there_is_said_in_words(store: Any, uri: str) -> None:
    with pytest.raises(StorageError, match=r"^cannot read .*: there is no such object$"):
        digest_of(uri, store.client())


def test_google_without_credentials_is_said_in_words(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nowhere")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)

    with pytest.raises(StorageError, match="no credentials for the store were found; set its connection"):
        put(source, "gs://bucket/events")


def test_azure_without_a_client_is_said_with_the_remedy(source: Path) -> None:
    with pytest.raises(StorageError, match="set destination_conn_id, or source_conn_id for ids"):
        put(source, "azure://container/events")


def test_azure_refusing_a_key_is_said_without_the_key(azurite: Any, source: Path) -> None:
    client = azurite.client(credential={"account_name": "testaccount", "account_key": "c2VjcmV0"})

    with pytest.raises(StorageError) as caught:
        put(source, f"azure://{azurite.bucket()}/events", client)

    assert str(caught.value).endswith("/events: access is denied")


def test_large_objects_are_written_in_blocks_that_are_gone_afterwards(azurite: Any, tmp_path: Path) -> None:
    client, bucket = azurite.client(), azurite.bucket()
    blob = client.get_blob_client(bucket, "events")
    blob.stage_block("1" * 48, b"left by a landing that was killed")

    put(spool(tmp_path, LARGE), f"azure://{bucket}/events", client)

    committed, uncommitted = blob.get_block_list("all")
    assert [block.size for block in committed] == [5 << 20, 5 << 20, 1 << 20]
    assert uncommitted == []


def test_what_other_programs_left_on_azure_is_said_in_words(azurite: Any, source: Path) -> None:
    client, bucket = azurite.client(), azurite.bucket()
    client.get_blob_client(bucket, "events").stage_block(
        "1", b"left by a program that names blocks otherwise"
    )

    with pytest.raises(StorageError, match="left unfinished are in the way for up to a week"):
        put(source, f"azure://{bucket}/events", client)


def test_a_checksum_is_enough_to_know_a_file_by(store: Any, uri: str, tmp_path: Path, content: bytes) -> None:
    client, source = store.client(), spool(tmp_path, content)
    checksum = checksum_of(str(source))

    assert land(source, checksum, uri, client) is True
    assert land(source, checksum, uri, client) is False
    assert content_of(uri, client) == content
    with pytest.raises(StorageError, match="does not hold what was written to it"):
        land(source, checksum._replace(crc32c=checksum.crc32c ^ 1), uri, client, replace=True)
