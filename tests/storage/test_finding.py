import os
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.storage import AddressError, Found, MissingError, StorageError, find, stat
from tests.storage.shelves import KINDS, Shelf, shelf_on

NAMES = [
    "2024/a b.json",
    "2024/a-b.json",
    "2024/a.json",
    "2024/a/b/c.json",
    "2024/é.json",
    "2024/_xcompliance/index/a.json",
    "2024/a.json.manifest.json",
    "2024/a.json.upload.json",
    "2025/a.json.gz",
    "2025x",
]


@pytest.fixture(scope="module", params=KINDS)
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A shelf with files on it, written in another order than that of their names."""
    shelf = shelf_on(request.param, request, tmp_path_factory.mktemp("full"))
    for name in reversed(NAMES):
        shelf.write(name, name.encode())
    return shelf


def names(shelf: Shelf, pattern: str) -> list[str]:
    return [each.uri.removeprefix(shelf.base + "/") for each in find(shelf.uri(pattern), shelf.client)]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("2024/*.json", ["2024/a b.json", "2024/a-b.json", "2024/a.json", "2024/é.json"]),
        ("202?/a.*", ["2024/a.json", "2025/a.json.gz"]),
        ("2024/a/", ["2024/a/b/c.json"]),
        ("2024/a", None),
        ("**/c.json", ["2024/a/b/c.json"]),
        ("2024/_xcompliance/**", ["2024/_xcompliance/index/a.json"]),
        ("2024/*.manifest.json", ["2024/a.json.manifest.json"]),
        ("2024/a.json.manifest.json", ["2024/a.json.manifest.json"]),
        ("2025*", ["2025x"]),
        ("nothing/**", []),
    ],
)
def test_a_pattern_finds_what_it_means_in_order_of_name(
    full: Shelf, pattern: str, found: list[str] | None
) -> None:
    if found is None:
        with pytest.raises(StorageError):
            names(full, pattern)
    else:
        assert names(full, pattern) == found


def test_everything_is_found_in_the_order_of_the_whole_names(full: Shelf) -> None:
    own = ("2024/_xcompliance/index/a.json", "2024/a.json.manifest.json", "2024/a.json.upload.json")

    assert names(full, "**") == sorted(set(NAMES) - {*own})
    assert list(find(full.base + "/", full.client)) == list(find(full.base + "/**", full.client))


def test_what_is_found_has_its_size_and_version(full: Shelf) -> None:
    (found,) = find(full.uri("2024/a.j*"), full.client)

    assert found == stat(full.uri("2024/a.json"), full.client)
    assert found == next(find(full.uri("2024/a.json"), full.client))
    assert found.uri == full.uri("2024/a.json")
    assert found.bytes == len("2024/a.json")
    assert isinstance(found, Found)


def test_one_file_that_is_not_there_is_missed(shelf: Shelf) -> None:
    with pytest.raises(MissingError, match=r"^cannot look at .*/missing: "):
        next(find(shelf.uri("missing"), shelf.client))


def test_millions_are_not_listed_at_once(versioned_s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, bucket = versioned_s3.client(), versioned_s3.bucket()
    for number in range(3):
        client.put_object(Bucket=bucket, Key=f"k{number}", Body=b"")
    requests: list[str] = []
    client.meta.events.register("before-call.s3.ListObjectsV2", lambda params, **_: requests.append(params))
    client.meta.events.register(
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: params | {"MaxKeys": 1}
    )

    found = find(f"s3://{bucket}/k*", client)

    assert (next(found).uri, len(requests)) == (f"s3://{bucket}/k0", 1)
    assert [each.uri[-2:] for each in found] == ["k1", "k2"]
    assert len(requests) == 3


def test_folders_that_a_store_keeps_as_objects_are_no_files(moto_s3: Any) -> None:
    client, bucket = moto_s3.client(), moto_s3.bucket()
    for key in ("a/", "a/b"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")

    assert [each.uri for each in find(f"s3://{bucket}/**", client)] == [f"s3://{bucket}/a/b"]


def test_folders_that_azure_lists_among_blobs_are_no_files(azurite: Any) -> None:
    client, container = azurite.client(), azurite.bucket()
    client.get_blob_client(container, "a").upload_blob(b"", metadata={"hdi_isfolder": "true"})
    client.get_blob_client(container, "a/b").upload_blob(b"")

    assert [each.uri for each in find(f"azure://{container}/**", client)] == [f"azure://{container}/a/b"]


def test_a_name_that_no_uri_can_hold_is_an_error_and_not_left_out(moto_s3: Any) -> None:
    client, bucket = moto_s3.client(), moto_s3.bucket()
    client.put_object(Bucket=bucket, Key="a?b", Body=b"")

    with pytest.raises(AddressError, match="names no object"):
        list(find(f"s3://{bucket}/*", client))


@pytest.mark.parametrize("form", ["{}/", "{}/*.json", "file://{}/**", "{}/caf\udce9.json"])
def test_a_local_file_whose_name_is_no_utf_8_is_named(tmp_path: Path, form: str) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.json")).touch()

    with pytest.raises(
        AddressError, match=r"/caf\\udce9.json' has a name that is no UTF-8; rename it"
    ) as caught:
        list(find(form.format(tmp_path)))

    assert str(caught.value).encode()


@pytest.mark.parametrize(
    "pattern",
    [
        "https://host/*.json",
        "s3://bucket*/key",
        "s3://*/key",
        "s3://AKIAEXAMPLE:secret@bucket/*",
        "s3:/bucket/*",
        "/a/[z-a]",
        "/a/**.json",
        "s3://bucket/**.json",
        "file://host/*",
    ],
)
def test_what_cannot_be_looked_into_is_refused(pattern: str) -> None:
    with pytest.raises(AddressError) as caught:
        list(find(pattern))

    assert "secret" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_said(moto_s3: Any) -> None:
    with pytest.raises(
        StorageError, match=r"^cannot look into s3://no-such-bucket-here/\*: there is no such bucket"
    ):
        list(find("s3://no-such-bucket-here/*", moto_s3.client()))


def test_paths_may_be_relative_and_begin_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.json").touch()

    for pattern in ("*.json", "./*.json", "~/*.json", f"{tmp_path}/*.json"):
        assert [Path(each.uri) for each in find(pattern)] == [tmp_path / "a.json"]


def test_a_folder_whose_name_only_contains_ours_names_nothing_of_ours(tmp_path: Path) -> None:
    (tmp_path / "my_xcompliance" / "_xcompliance").mkdir(parents=True)
    (tmp_path / "my_xcompliance" / "_xcompliance" / "a").touch()

    assert list(find(f"{tmp_path}/my_xcompliance/**")) == []


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.json").touch()
    (tmp_path / "archive" / "2024").symlink_to(tmp_path / "disk")
    (tmp_path / "archive" / "b.json").symlink_to(tmp_path / "disk" / "a.json")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "archive")

    found = list(find(f"{tmp_path}/archive/**"))

    assert [each.uri.removeprefix(f"{tmp_path}/archive/") for each in found] == ["2024/a.json", "b.json"]


def test_what_is_no_file_is_not_found(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "b.json").symlink_to(tmp_path / "nowhere")

    assert list(find(f"{tmp_path}/*")) == []
    with pytest.raises(StorageError):
        stat(str(tmp_path))


def test_a_folder_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(StorageError, match=r": Permission denied$"):
        list(find(f"{tmp_path}/*"))


def test_a_version_of_a_local_file_changes_with_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    before = stat(str(path)).version
    with path.open("ab") as file:
        file.write(b"2")

    assert stat(str(path)).version != before
