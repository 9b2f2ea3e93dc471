import errno
import gc
import gzip
import hashlib
import logging
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance import storage
from airflow_provider_xcompliance.storage import (
    DestinationExistsError,
    Digest,
    StorageError,
    digest_of,
    display,
    land,
    open_source,
    require_landable,
)

SMALL = b"some events\n" * 1000
PART_BYTES = 5 << 20
#: Three parts, as the constant below cuts it.
LARGE = bytes(range(256)) * 4096 * 12


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return spool(tmp_path, SMALL)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_S3_PART_BYTES", PART_BYTES)


def spool(directory: Path, content: bytes) -> Path:
    path = directory / "spool"
    path.write_bytes(content)
    return path


def put(source: Path, destination: str, client: Any = None, **options: bool) -> bool:
    return land(source, digest_of(str(source)), destination, client, **options)


def listing(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let writing fail past so many bytes of a file, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestAddresses:
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
        ],
    )
    def test_a_destination_that_names_a_file_is_taken(self, uri: str) -> None:
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
            "gs://bucket/key",
            "azure://container/key",
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
    def test_any_other_destination_is_refused(self, uri: str, source: Path) -> None:
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
    def test_no_credential_is_shown(self, uri: str, shown: str) -> None:
        assert display(uri) == shown


class TestReading:
    def test_bytes_stay_bytes_unless_decompression_is_asked_for(self, tmp_path: Path) -> None:
        path = tmp_path / "ids.txt.gz"
        path.write_bytes(gzip.compress(SMALL))

        with open_source(str(path)) as file:
            assert gzip.decompress(file.read()) == SMALL
        with open_source(path.as_uri(), decompress=True) as file:
            assert file.read() == SMALL

    def test_a_digest_is_that_of_the_whole_file(self, source: Path) -> None:
        assert digest_of(str(source)) == Digest(len(SMALL), hashlib.sha256(SMALL).hexdigest())

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("missing", None, "No such file or directory"),
            ("ids.gz", SMALL, "it is not compressed, although its name says so"),
            ("ids.gz", gzip.compress(SMALL)[:-20], "the compressed file is cut short"),
        ],
    )
    def test_a_failure_is_one_sentence(
        self, tmp_path: Path, name: str, content: bytes | None, reason: str
    ) -> None:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)

        with pytest.raises(StorageError) as caught, open_source(str(path), decompress=True) as file:
            file.read()

        assert str(caught.value) == f"cannot read {path}: {reason}"
        assert caught.value.__cause__ is None

    def test_an_address_of_an_unknown_kind_is_refused_without_its_query(self) -> None:
        with pytest.raises(StorageError) as caught, open_source("foo://host/path?token=secret"):
            pass

        assert str(caught.value) == "cannot read foo://host/path: this kind of address is not known"

    def test_errors_of_the_reader_are_left_alone(self, source: Path) -> None:
        with pytest.raises(ZeroDivisionError), open_source(str(source)):
            raise ZeroDivisionError

    def test_what_s3_refuses_is_said_in_words(self, s3: Any) -> None:
        with pytest.raises(StorageError) as caught:
            digest_of(f"s3://{s3.bucket()}/missing", s3.client())
        assert str(caught.value).endswith("/missing: there is no such object")

        with pytest.raises(StorageError, match="cannot read s3://no-such-bucket-here/x: there is no such"):
            digest_of("s3://no-such-bucket-here/x", s3.client())

    def test_a_missing_library_is_said_with_its_remedy(
        self, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "boto3", None)

        with pytest.raises(StorageError, match="library is missing; install this package's extra"):
            put(source, "s3://bucket/key")


class TestLandingOnFiles:
    @pytest.mark.parametrize("form", ["{}", "file://{}"])
    def test_a_file_lands_readable_by_its_owner_alone(self, tmp_path: Path, source: Path, form: str) -> None:
        target = tmp_path / "new" / "directory" / "events"

        assert put(source, form.format(target)) is True

        assert target.read_bytes() == SMALL
        assert target.stat().st_mode & 0o777 == 0o600
        assert listing(target.parent) == ["events"]

    @pytest.mark.parametrize("name", ["x" * 255, "job:1", "a b?c#d", "events.gz"])
    def test_any_name_will_do(
        self, tmp_path: Path, source: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)

        assert put(source, name)
        assert (tmp_path / name).read_bytes() == SMALL

    def test_a_tilde_is_the_home_directory(
        self, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))

        put(source, "~/events")

        assert (tmp_path / "events").read_bytes() == SMALL

    @pytest.mark.parametrize("replace", [False, True])
    def test_the_same_content_is_not_written_again(self, tmp_path: Path, source: Path, replace: bool) -> None:
        target = tmp_path / "events"
        put(source, str(target))
        before = target.stat()

        assert put(source, str(target), replace=replace) is False
        assert target.stat() == before

    def test_other_content_is_replaced_only_when_asked(self, tmp_path: Path, source: Path) -> None:
        target = tmp_path / "events"
        target.write_bytes(b"other")

        with pytest.raises(DestinationExistsError, match="exists with other content"):
            put(source, str(target))
        assert target.read_bytes() == b"other"

        assert put(source, str(target), replace=True) is True
        assert target.read_bytes() == SMALL
        assert listing(tmp_path) == ["events", "spool"]

    @pytest.mark.parametrize("content", [SMALL, b"other", None])
    def test_a_link_is_not_followed(self, tmp_path: Path, source: Path, content: bytes | None) -> None:
        elsewhere, target = tmp_path / "elsewhere", tmp_path / "events"
        target.symlink_to(elsewhere)
        if content is not None:
            elsewhere.write_bytes(content)

        with pytest.raises(DestinationExistsError):
            put(source, str(target))
        assert put(source, str(target), replace=True) is True

        assert not target.is_symlink()
        assert target.read_bytes() == SMALL
        assert (elsewhere.read_bytes() if elsewhere.exists() else None) == content

    @pytest.mark.parametrize("replace", [False, True])
    def test_a_directory_is_not_replaced(self, tmp_path: Path, source: Path, replace: bool) -> None:
        (tmp_path / "events").mkdir()

        with pytest.raises(StorageError):
            put(source, str(tmp_path / "events"), replace=replace)

        assert listing(tmp_path) == ["events", "spool"]

    def test_a_pipe_does_not_block(self, tmp_path: Path, source: Path) -> None:
        os.mkfifo(tmp_path / "events")

        with pytest.raises(DestinationExistsError):
            put(source, str(tmp_path / "events"))

    @pytest.mark.parametrize("replace", [False, True])
    def test_a_full_disk_leaves_everything_as_it_was(
        self, tmp_path: Path, source: Path, replace: bool
    ) -> None:
        target = tmp_path / "events"
        if replace:
            target.write_bytes(b"other")
        before = listing(tmp_path)

        with largest_file(len(SMALL) // 2), pytest.raises(StorageError) as caught:
            put(source, str(target), replace=replace)

        assert str(caught.value) == f"cannot write {target}: File too large"
        assert listing(tmp_path) == before
        assert not replace or target.read_bytes() == b"other"

    @pytest.mark.parametrize("call", ["fsync", "link"])
    def test_a_failure_before_the_commit_leaves_nothing(
        self, tmp_path: Path, source: Path, call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, call, fail)

        with pytest.raises(StorageError, match="No space left on device"):
            put(source, str(tmp_path / "events"))

        assert listing(tmp_path) == ["spool"]

    def test_a_file_that_appears_in_the_meantime_is_not_overwritten(
        self, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "events"
        monkeypatch.setattr(os, "fsync", lambda _: target.write_bytes(b"other"))

        with pytest.raises(DestinationExistsError):
            put(source, str(target))

        assert target.read_bytes() == b"other"

    def test_the_same_file_appearing_in_the_meantime_is_success(
        self, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "events"
        monkeypatch.setattr(os, "fsync", lambda _: target.write_bytes(SMALL))

        assert put(source, str(target)) is False

    def test_a_store_that_holds_something_else_afterwards_is_found_out(
        self, tmp_path: Path, source: Path
    ) -> None:
        with pytest.raises(StorageError, match="does not hold what was written to it"):
            land(source, Digest(3, "0" * 64), str(tmp_path / "events"))

    def test_what_a_killed_landing_left_is_removed_when_it_is_old(self, tmp_path: Path, source: Path) -> None:
        old, recent, foreign = (
            tmp_path / name for name in (".xcompliance-a.part", ".xcompliance-b.part", ".other.part")
        )
        for path in (old, recent, foreign):
            path.touch()
        for path in (old, foreign):
            os.utime(path, (0, 0))

        put(source, str(tmp_path / "events"))

        assert [path.exists() for path in (old, recent, foreign)] == [False, True, True]


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


@pytest.fixture(params=[b"", SMALL, LARGE], ids=["empty", "one request", "three parts"])
def content(request: pytest.FixtureRequest) -> bytes:
    return request.param


class TestLandingOnS3:
    def test_a_file_lands_whole_and_a_second_time_nothing_happens(
        self, s3: Any, tmp_path: Path, content: bytes
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

    def test_other_content_is_replaced_only_when_asked(self, s3: Any, tmp_path: Path, content: bytes) -> None:
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
            ("CreateMultipartUpload",),
            ("UploadPart",),
            ("CompleteMultipartUpload",),
            ("UploadPart", "AbortMultipartUpload"),
            ("CompleteMultipartUpload", "AbortMultipartUpload"),
        ],
        ids="+".join,
    )
    def test_nothing_appears_when_the_network_fails_not_even_later(
        self, s3: Any, tmp_path: Path, operations: tuple[str, ...]
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

    def test_a_commit_whose_answer_is_lost_is_success(self, s3: Any, tmp_path: Path) -> None:
        bucket, source = s3.bucket(), spool(tmp_path, LARGE)
        client = s3.client(retries={"total_max_attempts": 1})

        def lose(**_: object) -> None:
            raise ConnectionResetError

        client.meta.events.register("after-call.s3.CompleteMultipartUpload", lose)

        assert put(source, f"s3://{bucket}/events", client) is False
        assert content_of(s3.client(), bucket) == LARGE

    def test_an_object_that_appears_in_the_meantime_is_not_overwritten(
        self, s3: Any, tmp_path: Path, content: bytes
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
        self, swift_s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client, bucket, source = swift_s3.client(), swift_s3.bucket(), spool(tmp_path, LARGE)
        for key in ("events", "events2"):
            client.create_multipart_upload(Bucket=bucket, Key=key)

        put(source, f"s3://{bucket}/events", client)
        assert uploads(client, bucket) == ["events", "events2"]

        monkeypatch.setattr(storage, "_ORPHAN_AGE", timedelta(hours=-1))
        client.delete_object(Bucket=bucket, Key="events")
        put(source, f"s3://{bucket}/events", client)
        assert uploads(client, bucket) == ["events2"]

    def test_without_a_client_the_library_finds_credentials_itself(
        self, moto_s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", moto_s3.endpoint_url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_s3.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_s3.secret_key)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

        assert put(spool(tmp_path, SMALL), f"s3://{moto_s3.bucket()}/events") is True

    def test_nothing_secret_is_logged(
        self, moto_s3: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            put(spool(tmp_path, LARGE), f"s3://{moto_s3.bucket()}/events", moto_s3.client())

        assert "Signature" not in caplog.text
