import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import ContentSettings, StandardBlobTier

from airflow_provider_xcompliance.storage import (
    ChangedError,
    Found,
    MissingError,
    StorageError,
    checksum_of,
    fetch,
    find,
    open_source,
    remove,
    replace,
    replacing,
    s3,
    stat,
)
from tests.storage.helpers import LARGE, SMALL, spool
from tests.storage.shelves import Shelf, before, shelf_on

WRONG = {
    "local": "1-1-1",
    "file": "1-1-1",
    "gs": "1",
    "azure": "0x8D000000000000",
    "s3": "0" * 32,
    "moto": "0" * 32,
    "swift": "0" * 32,
}


def test_what_was_read_is_replaced(shelf: Shelf, tmp_path: Path, content: bytes) -> None:
    uri = shelf.write("a/é 20%", b"old")

    found = replace(spool(tmp_path, content), uri, shelf.client, shelf.version("a/é 20%"))

    assert shelf.read("a/é 20%") == content
    assert found == stat(uri, shelf.client)
    assert [found] == list(find(shelf.uri("a/*"), shelf.client))


@pytest.mark.parametrize("large", [False, True], ids=["one request", "three parts"])
def test_another_version_is_not_replaced(shelf: Shelf, tmp_path: Path, large: bool) -> None:
    uri = shelf.write("a", b"old")
    version = shelf.version("a")
    shelf.write("a", b"newer")

    with pytest.raises(ChangedError, match=r"it has been changed in the meantime$"):
        replace(spool(tmp_path, LARGE if large else SMALL), uri, shelf.client, version)

    assert shelf.read("a") == b"newer"
    assert [each.uri for each in find(shelf.base + "/", shelf.client)] == [uri]


def test_what_is_gone_is_not_replaced(shelf: Shelf, source: Path) -> None:
    with pytest.raises(MissingError):
        replace(source, shelf.uri("a"), shelf.client, WRONG[shelf.kind])

    assert list(find(shelf.base + "/", shelf.client)) == []


@pytest.mark.parametrize("kind", ["local", "s3", "gs", "azure"])
def test_of_two_who_replace_the_same_version_one_does(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    shelf = shelf_on(kind, request, tmp_path)
    uri = shelf.write("a", b"old")
    version, contents = shelf.version("a"), [b"1" * 6_000_000, b"2" * 6_000_000]
    barrier, failures = threading.Barrier(2), []

    def work(content: bytes) -> None:
        path = tmp_path / f"of-{content[:1].decode()}"
        path.write_bytes(content)
        barrier.wait(10)
        try:
            replace(path, uri, shelf.client, version)
        except ChangedError:
            failures.append(content)

    threads = [threading.Thread(target=work, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(failures) == 1
    assert shelf.read("a") not in failures
    assert shelf.read("a") in contents


@pytest.mark.parametrize("kind", ["moto_s3", "swift_s3", "versioned_s3"])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["one request", "three parts"])
def test_what_comes_while_parts_are_sent_is_seen_on_stores_without_if_match_too(
    kind: str, content: bytes, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server = request.getfixturevalue(kind)
    client, other, bucket = server.client(), server.client(), server.bucket()
    client.put_object(Bucket=bucket, Key="a", Body=b"old")
    uri = f"s3://{bucket}/a"

    def rival() -> None:
        other.put_object(Bucket=bucket, Key="a", Body=b"rival")

    # The last request before the look that precedes the commit.
    operation = "UploadPart" if content is LARGE else "GetObjectTagging"
    with before(client, operation, rival), pytest.raises(ChangedError):
        replace(spool(tmp_path, content), uri, client, stat(uri, client).version)

    assert other.get_object(Bucket=bucket, Key="a")["Body"].read() == b"rival"
    assert "Uploads" not in other.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("operation", ["PutObject", "CompleteMultipartUpload"])
def test_what_comes_right_before_the_commit_is_seen_where_if_match_is_honoured(
    operation: str, versioned_s3: Any, tmp_path: Path
) -> None:
    client, other, bucket = versioned_s3.client(), versioned_s3.client(), versioned_s3.bucket()
    client.put_object(Bucket=bucket, Key="a", Body=b"old")
    uri = f"s3://{bucket}/a"

    def rival() -> None:
        other.put_object(Bucket=bucket, Key="a", Body=b"rival")

    content = SMALL if operation == "PutObject" else LARGE
    with before(client, operation, rival), pytest.raises(ChangedError):
        replace(spool(tmp_path, content), uri, client, stat(uri, client).version)

    assert other.get_object(Bucket=bucket, Key="a")["Body"].read() == b"rival"


@pytest.mark.parametrize("operation", ["PutObject", "CompleteMultipartUpload"])
def test_a_commit_whose_answer_is_lost_is_success(operation: str, versioned_s3: Any, tmp_path: Path) -> None:
    client, bucket = versioned_s3.client(), versioned_s3.bucket()
    client.put_object(Bucket=bucket, Key="a", Body=b"old")
    content = SMALL if operation == "PutObject" else LARGE
    uri = f"s3://{bucket}/a"

    def lose(**_: object) -> None:
        raise ConnectionResetError

    client.meta.events.register(f"after-call.s3.{operation}", lose)

    assert replace(spool(tmp_path, content), uri, client, stat(uri, client).version) == stat(uri, client)
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == content


def test_a_store_that_holds_something_else_afterwards_is_found_out(
    shelf: Shelf, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = shelf.write("a", b"old")
    version = shelf.version("a")
    store = replacing.require_store(uri, "replace")
    swap = store.swap

    def swap_and_spoil(source: Path, *arguments: Any) -> tuple[Found, bool]:
        other = source.with_name("other")
        other.write_bytes(b"spoiled")
        return swap(other, *arguments)[0], False

    monkeypatch.setattr(store, "swap", swap_and_spoil)

    with pytest.raises(StorageError, match="does not hold what was written to it"):
        replace(source, uri, shelf.client, version)


def test_an_etag_that_is_no_checksum_makes_it_read_back(
    versioned_s3: Any, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, bucket = versioned_s3.client(), versioned_s3.bucket()
    client.put_object(Bucket=bucket, Key="a", Body=b"old")
    uri = f"s3://{bucket}/a"
    reads: list[object] = []
    client.meta.events.register("before-call.s3.GetObject", lambda **_: reads.append(1))

    replace(source, uri, client, stat(uri, client).version)
    assert reads == []

    # As under a key of KMS.
    monkeypatch.setattr(s3, "_etag_of", lambda _: "unknown")
    replace(source, uri, client, stat(uri, client).version)
    assert reads == [1]


def test_on_s3_all_but_the_content_stays(versioned_s3: Any, tmp_path: Path, content: bytes) -> None:
    client, bucket = versioned_s3.client(), versioned_s3.bucket()
    attributes = {
        "CacheControl": "no-cache",
        "ContentDisposition": "inline",
        "ContentEncoding": "gzip",
        "ContentLanguage": "en",
        "ContentType": "application/x-ndjson",
        "Metadata": {"owner": "someone"},
        "StorageClass": "STANDARD_IA",
        "ServerSideEncryption": "AES256",
    }
    client.put_object(Bucket=bucket, Key="a", Body=b"old", Tagging="a=1&b=%3D%20", **attributes)
    uri = f"s3://{bucket}/a"

    replace(spool(tmp_path, content), uri, client, stat(uri, client).version)

    head = client.head_object(Bucket=bucket, Key="a")
    assert {name: head.get(name) for name in attributes} == attributes
    tags = client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"a": "1", "b": "= "}


def test_tags_that_may_not_be_read_are_not_lost_in_silence(versioned_s3: Any, source: Path) -> None:
    client, bucket = versioned_s3.client(), versioned_s3.bucket()
    client.put_object(Bucket=bucket, Key="a", Body=b"old")
    uri = f"s3://{bucket}/a"

    def deny(**_: object) -> None:
        raise client.exceptions.ClientError({"Error": {"Code": "AccessDenied"}}, "GetObjectTagging")

    client.meta.events.register("before-call.s3.GetObjectTagging", deny)

    with pytest.raises(
        StorageError, match=r"^cannot read the tags of .*, which stay on it: access is denied$"
    ):
        replace(source, uri, client, stat(uri, client).version)


def test_on_gs_all_but_the_content_stays(gcs: Any, tmp_path: Path, content: bytes) -> None:
    client, bucket = gcs.client(), gcs.bucket()
    blob = client.bucket(bucket).blob("a", kms_key_name="projects/p/cryptoKeys/k")
    attributes = {
        "cache_control": "no-cache",
        "content_disposition": "inline",
        "content_encoding": "gzip",
        "content_language": "en",
        "content_type": "application/x-ndjson",
        "metadata": {"owner": "someone"},
        "storage_class": "NEARLINE",
    }
    for name, value in attributes.items():
        setattr(blob, name, value)
    blob.upload_from_string(b"old", content_type=attributes["content_type"])
    uri = f"gs://{bucket}/a"

    replace(spool(tmp_path, content), uri, client, stat(uri, client).version)

    standing = client.bucket(bucket).get_blob("a")
    assert {name: getattr(standing, name) for name in attributes} == attributes
    assert standing.kms_key_name == "projects/p/cryptoKeys/k/cryptoKeyVersions/1"


def test_on_azure_all_but_the_content_stays(azurite: Any, tmp_path: Path, content: bytes) -> None:
    client, container = azurite.client(), azurite.bucket()
    blob = client.get_blob_client(container, "a")
    settings = {
        "content_type": "application/x-ndjson",
        "content_encoding": "gzip",
        "content_language": "en",
        "content_disposition": "inline",
        "cache_control": "no-cache",
    }
    blob.upload_blob(
        b"old",
        content_settings=ContentSettings(**settings),
        metadata={"owner": "someone"},
        tags={"a": "1"},
        standard_blob_tier=StandardBlobTier.COOL,
    )
    uri = f"azure://{container}/a"

    replace(spool(tmp_path, content), uri, client, stat(uri, client).version)

    standing = blob.get_blob_properties()
    assert {name: standing.content_settings[name] for name in settings} == settings
    assert standing.content_settings.content_md5 is None
    assert standing.metadata == {"owner": "someone"}
    assert standing.blob_tier == "Cool"
    assert blob.get_blob_tags() == {"a": "1"}


def test_a_blob_of_another_type_is_not_turned_into_one_of_blocks(azurite: Any, source: Path) -> None:
    client, container = azurite.client(), azurite.bucket()
    client.get_blob_client(container, "a").upload_blob(b"old", blob_type="AppendBlob")
    uri = f"azure://{container}/a"

    with pytest.raises(StorageError, match="it is of type AppendBlob; copy it to a block blob"):
        replace(source, uri, client, stat(uri, client).version)


def test_a_blob_on_which_another_program_holds_a_lease_is_said(azurite: Any, source: Path) -> None:
    client, container = azurite.client(), azurite.bucket()
    blob = client.get_blob_client(container, "a")
    blob.upload_blob(b"old")
    uri = f"azure://{container}/a"
    with ExitStack() as stack:
        stack.callback(blob.acquire_lease(60).release)

        with pytest.raises(StorageError, match="another program holds a lease on it"):
            replace(source, uri, client, stat(uri, client).version)


def test_of_a_local_file_permissions_and_attributes_stay(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o640)
    os.setxattr(path, "user.source", b"stream")

    replace(source, str(path), None, stat(str(path)).version)

    assert path.stat().st_mode & 0o7777 == 0o640
    assert os.getxattr(path, "user.source") == b"stream"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "spool"]


def test_the_owner_of_a_local_file_stays(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    version, status, given = stat(str(path)).version, path.stat(), []
    monkeypatch.setattr(os, "fstat", _owned_by_others(path, os.fstat))
    monkeypatch.setattr(os, "fchown", lambda _, *owner: given.append(owner))

    replace(source, str(path), None, version)

    assert given == [(status.st_uid + 1, status.st_gid)]


def test_other_names_of_a_local_file_are_pointed_out(
    tmp_path: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    (tmp_path / "backup").hardlink_to(path)

    replace(source, str(path), None, stat(str(path)).version)

    assert "has other names (hard links), under which its former content still stands" in caplog.text
    assert (tmp_path / "backup").read_bytes() == b"old"


def test_a_local_file_whose_owner_would_change_is_left_alone(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    version = stat(str(path)).version

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(os, "fstat", _owned_by_others(path, os.fstat))

    with pytest.raises(StorageError, match="its owner would change; run as its owner, or as root"):
        replace(source, str(path), None, version)

    assert path.read_bytes() == b"old"


def _owned_by_others(path: Path, fstat: Callable[[int], os.stat_result]) -> Callable[[int], Any]:
    inode = path.stat().st_ino

    class Foreign:
        def __init__(self, status: os.stat_result) -> None:
            self._status = status

        def __getattr__(self, name: str) -> Any:
            value = getattr(self._status, name)
            return value + 1 if name == "st_uid" and self._status.st_ino == inode else value

    return lambda handle: Foreign(fstat(handle))


def test_a_link_leads_to_the_new_content(tmp_path: Path, source: Path) -> None:
    path, link = tmp_path / "a", tmp_path / "link"
    path.write_bytes(b"old")
    link.symlink_to(path)

    found = replace(source, str(link), None, stat(str(link)).version)

    assert link.is_symlink()
    assert path.read_bytes() == SMALL
    assert found == stat(str(link))


def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StorageError, match=r"^cannot replace .*: No space left on device$"):
        replace(source, str(path), None, stat(str(path)).version)

    assert path.read_bytes() == b"old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "spool"]


def test_a_file_is_removed_if_it_is_the_version_that_was_found(shelf: Shelf) -> None:
    uri = shelf.write("a", b"old")
    version = shelf.version("a")
    shelf.write("a", b"newer")

    with pytest.raises(ChangedError):
        remove(uri, shelf.client, version)
    assert shelf.read("a") == b"newer"

    remove(uri, shelf.client, shelf.version("a"))
    with pytest.raises(MissingError):
        stat(uri, shelf.client)


def test_a_file_that_is_gone_already_is_removed_as_well(shelf: Shelf) -> None:
    remove(shelf.uri("a"), shelf.client)
    remove(shelf.uri("a"), shelf.client, WRONG[shelf.kind])


def test_the_version_that_was_found_is_read(shelf: Shelf, tmp_path: Path) -> None:
    uri = shelf.write("a", LARGE)
    version = shelf.version("a")

    with open_source(uri, shelf.client, version=version) as file:
        assert file.read(7) + file.read() == LARGE
    assert checksum_of(uri, shelf.client, version) == checksum_of(str(spool(tmp_path, LARGE)))
    fetch(uri, tmp_path / "copy", shelf.client, version)
    assert (tmp_path / "copy").read_bytes() == LARGE


def test_another_version_is_not_read(shelf: Shelf) -> None:
    uri = shelf.write("a", b"old")
    version = shelf.version("a")
    shelf.write("a", b"newer")

    with (
        pytest.raises(ChangedError, match=r"^cannot read .*/a: it has been changed in the meantime$"),
        open_source(uri, shelf.client, version=version) as file,
    ):
        file.read()


def test_what_is_gone_is_missed_whatever_its_version(shelf: Shelf) -> None:
    with (
        pytest.raises(MissingError),
        open_source(shelf.uri("a"), shelf.client, version=WRONG[shelf.kind]) as file,
    ):
        file.read()


@pytest.mark.parametrize("kind", ["gs", "azure"])
def test_what_is_replaced_while_it_is_read_block_by_block_is_not_mixed(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    shelf = shelf_on(kind, request, tmp_path)
    uri, client = shelf.write("a", LARGE), shelf.client
    if kind == "azure":
        client = request.getfixturevalue("azurite").client(
            max_single_get_size=1 << 20, max_chunk_get_size=1 << 20
        )

    with open_source(uri, client, version=shelf.version("a")) as file:
        assert file.read(1 << 20) == LARGE[: 1 << 20]
        shelf.write("a", bytes(len(LARGE)))
        with pytest.raises(ChangedError):
            file.read()


@pytest.mark.parametrize("version_given", [True, False])
def test_a_local_file_that_is_replaced_while_it_is_read_is_read_as_it_was(
    version_given: bool, tmp_path: Path, source: Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    version = stat(str(path)).version

    with open_source(str(path), version=version if version_given else None) as file:
        assert file.read(1) == b"o"
        replace(source, str(path), None, version)
        assert file.read() == b"ld"


def test_a_local_file_to_which_is_appended_while_it_is_read_is_of_no_version(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    with open_source(str(path), version=stat(str(path)).version) as file:
        assert file.read(1) == b"o"
        with path.open("ab") as other:
            other.write(b"more")
        with pytest.raises(ChangedError):
            file.read()


def test_a_version_is_of_known_stores_alone() -> None:
    with (
        pytest.raises(StorageError, match="cannot read a version of https://host/a"),
        open_source("https://host/a", version="1"),
    ):
        pass
