import logging
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_xcompliance.storage import (
    StorageError,
    old_versions,
    purge_old_versions,
    remove,
    replace,
    stat,
)
from tests.storage.shelves import Shelf, shelf_on


def versioned_gs(request: pytest.FixtureRequest, tmp_path: Any, **settings: Any) -> Shelf:
    shelf = shelf_on("gs", request, tmp_path)
    bucket = shelf.client.bucket(shelf.base.removeprefix("gs://"))
    for name, value in settings.items():
        setattr(bucket, name, value)
    bucket.patch()
    return shelf


def versioned_swift(request: pytest.FixtureRequest, tmp_path: Any) -> Shelf:
    shelf = shelf_on("swift", request, tmp_path)
    shelf.client.put_bucket_versioning(
        Bucket=shelf.base.removeprefix("s3://"), VersioningConfiguration={"Status": "Enabled"}
    )
    return shelf


@pytest.fixture(params=["s3", "swift", "gs"])
def versioned(request: pytest.FixtureRequest, tmp_path: Any) -> Shelf:
    """A shelf on which what is replaced stays as an old version."""
    make: dict[str, Callable[[], Shelf]] = {
        "s3": lambda: shelf_on("s3", request, tmp_path),
        "swift": lambda: versioned_swift(request, tmp_path),
        "gs": lambda: versioned_gs(request, tmp_path, versioning_enabled=True),
    }
    return make[request.param]()


def test_what_is_replaced_still_stands_somewhere_until_it_is_purged(versioned: Shelf) -> None:
    uri, client = versioned.write("a", b"with what was removed"), versioned.client
    # Others whose names begin with this one, and come before and after its versions in a listing.
    for name in ("a", "a/b", "a.b", "ab", "ab"):
        versioned.spool.write_bytes(b"another")
        versioned.write(name, versioned.spool.read_bytes() + name.encode())
    versioned.spool.write_bytes(b"clean")
    replace(versioned.spool, uri, client, versioned.version("a"))

    assert old_versions(uri, client) == 2
    assert purge_old_versions(uri, client) == 2

    assert old_versions(uri, client) == 0
    assert purge_old_versions(uri, client) == 0
    assert versioned.read("a") == b"clean"
    assert [versioned.read(name) for name in ("a/b", "a.b", "ab")] == [
        b"anothera/b",
        b"anothera.b",
        b"anotherab",
    ]


def test_what_was_removed_is_an_old_version(versioned: Shelf) -> None:
    uri, client = versioned.write("a", b"with what was removed"), versioned.client
    remove(uri, client)

    assert old_versions(uri, client) == 1
    assert purge_old_versions(uri, client) == 1
    assert old_versions(uri, client) == 0


def test_what_came_back_after_it_was_removed_is_never_purged(versioned: Shelf) -> None:
    uri, client = versioned.write("a", b"1"), versioned.client
    remove(uri, client)
    versioned.write("a", b"2")

    assert purge_old_versions(uri, client) == 1
    assert versioned.read("a") == b"2"


@pytest.mark.parametrize("kind", ["local", "moto", "swift", "gs", "azure"])
def test_without_versions_there_is_nothing_to_purge(kind: str, request: Any, tmp_path: Any) -> None:
    shelf = shelf_on(kind, request, tmp_path)
    uri = shelf.write("a", b"1")
    shelf.write("a", b"2")

    assert old_versions(uri, shelf.client) == 0
    assert purge_old_versions(uri, shelf.client) == 0
    assert shelf.read("a") == b"2"


def test_on_s3_nothing_is_left_in_any_version(versioned_s3: Any, request: Any, tmp_path: Any) -> None:
    shelf = shelf_on("s3", request, tmp_path)
    for content in (b"1", b"2", b"3"):
        uri = shelf.write("a", content)

    purge_old_versions(uri, shelf.client)

    assert versioned_s3.contents(shelf.base.removeprefix("s3://")) == [b"3"]


def test_more_versions_than_a_page_holds_are_purged(versioned_s3: Any, request: Any, tmp_path: Any) -> None:
    shelf = shelf_on("s3", request, tmp_path)
    for number in range(5):
        uri = shelf.write("a", b"%d" % number)
    shelf.client.meta.events.register(
        "provide-client-params.s3.ListObjectVersions", lambda params, **_: params | {"MaxKeys": 2}
    )

    assert old_versions(uri, shelf.client) == 4
    assert purge_old_versions(uri, shelf.client) == 4
    assert shelf.read("a") == b"4"


def test_what_google_deletes_softly_is_counted_and_stays(request: Any, tmp_path: Any) -> None:
    shelf = versioned_gs(request, tmp_path, versioning_enabled=True)
    bucket = shelf.client.get_bucket(shelf.base.removeprefix("gs://"))
    bucket.soft_delete_policy.retention_duration_seconds = 7 * 86_400
    bucket.patch()
    uri = shelf.write("a", b"1")
    shelf.write("a", b"2")

    assert old_versions(uri, shelf.client) == 1
    assert purge_old_versions(uri, shelf.client) == 1
    assert old_versions(uri, shelf.client) == 1
    assert purge_old_versions(uri, shelf.client) == 0
    assert shelf.read("a") == b"2"


def test_snapshots_on_azure_are_old_versions(azurite: Any, request: Any, tmp_path: Any) -> None:
    shelf = shelf_on("azure", request, tmp_path)
    uri = shelf.write("a", b"1")
    shelf.client.get_blob_client(shelf.base.removeprefix("azure://"), "a").create_snapshot()
    shelf.write("ab", b"2")
    shelf.client.get_blob_client(shelf.base.removeprefix("azure://"), "ab").create_snapshot()
    shelf.write("a", b"2")

    assert old_versions(uri, shelf.client) == 1
    assert purge_old_versions(uri, shelf.client) == 1
    assert old_versions(uri, shelf.client) == 0
    assert shelf.read("a") == b"2"


def test_where_old_versions_may_not_be_seen_nobody_can_tell(
    versioned_s3: Any, request: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = shelf_on("s3", request, tmp_path)
    uri, client = shelf.write("a", b"1"), shelf.client

    def deny(**_: object) -> None:
        raise client.exceptions.ClientError({"Error": {"Code": "AccessDenied"}}, "ListObjectVersions")

    client.meta.events.register("before-call.s3.ListObjectVersions", deny)

    assert old_versions(uri, client) is None
    assert [record.levelno for record in caplog.records if "old versions" in record.message] == [
        logging.WARNING
    ]
    with pytest.raises(StorageError) as caught:
        purge_old_versions(uri, client)
    assert str(caught.value) == (
        f"cannot purge old versions of {uri}, which needs s3:ListBucketVersions and s3:DeleteObjectVersion: "
        "access is denied"
    )
    assert stat(uri, client).bytes == 1
