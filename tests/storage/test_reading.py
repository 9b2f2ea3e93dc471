import bz2
import gzip
import hashlib
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.storage import Digest, StorageError, digest_of, open_source, stat
from tests.storage.helpers import SMALL, put


def test_bytes_stay_bytes_unless_decompression_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt.gz"
    path.write_bytes(gzip.compress(SMALL))

    with open_source(str(path)) as file:
        assert gzip.decompress(file.read()) == SMALL
    with open_source(path.as_uri(), decompress=True) as file:
        assert file.read() == SMALL


def test_a_version_of_a_compressed_file_is_decompressed(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt.gz"
    path.write_bytes(gzip.compress(SMALL))

    with open_source(str(path), decompress=True, version=stat(str(path)).version) as file:
        assert file.read() == SMALL


def test_a_digest_is_that_of_the_whole_file(source: Path) -> None:
    assert digest_of(str(source)) == Digest(len(SMALL), hashlib.sha256(SMALL).hexdigest())


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing", None, "No such file or directory"),
        ("ids.gz", SMALL, "it is not compressed, although its name says so"),
        ("ids.gz", gzip.compress(SMALL)[:-20], "the compressed file is cut short"),
    ],
)
def test_a_failure_is_one_sentence(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(StorageError) as caught, open_source(str(path), decompress=True) as file:
        file.read()

    assert str(caught.value) == f"cannot read {path}: {reason}"
    assert caught.value.__cause__ is None


def test_an_address_of_an_unknown_kind_is_refused_without_its_query() -> None:
    with pytest.raises(StorageError) as caught, open_source("foo://host/path?token=secret"):
        pass

    assert str(caught.value) == "cannot read foo://host/path: this kind of address is not known"


def test_errors_of_the_reader_are_left_alone(source: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_source(str(source)):
        raise ZeroDivisionError


def test_what_s3_refuses_is_said_in_words(s3: Any) -> None:
    with pytest.raises(StorageError) as caught:
        digest_of(f"s3://{s3.bucket()}/missing", s3.client())
    assert str(caught.value).endswith("/missing: there is no such object")

    with pytest.raises(StorageError, match="cannot read s3://no-such-bucket-here/x: there is no such"):
        digest_of("s3://no-such-bucket-here/x", s3.client())


def test_a_missing_library_is_said_with_its_remedy(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)

    with pytest.raises(StorageError, match="library is missing; install this package's extra"):
        put(source, "s3://bucket/key")


def compressed_zeros(name: str, size: int) -> bytes:
    return {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstd().compress}[name](bytes(size))


def zstd() -> Any:
    return pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


@pytest.mark.parametrize("kind", ["gz", "bz2", "zst"])
def test_a_bomb_is_given_up_early_and_with_flat_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"ids.{kind}"
    path.write_bytes(compressed_zeros(kind, 64 << 20))
    blocks: list[int] = []

    def read_through() -> None:
        with open_source(str(path), decompress=True) as file:
            while block := file.read(1 << 16):
                blocks.append(len(block))

    tracemalloc.start()
    with pytest.raises(StorageError, match="to more than 200 times its size") as caught:
        read_through()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert str(caught.value).startswith(f"cannot read {path}: ")
    assert "decompress it beforehand" in str(caught.value)
    assert sum(blocks) < 16 << 20
    assert peak < 8 << 20


def test_reading_everything_at_once_does_not_pass_the_ceiling(tmp_path: Path) -> None:
    path = tmp_path / "ids.gz"
    path.write_bytes(compressed_zeros("gz", 64 << 20))

    with (
        pytest.raises(StorageError, match="times its size"),
        open_source(str(path), decompress=True) as file,
    ):
        file.read()


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(range(1_300_000_000_000_000_000, 1_300_000_000_000_700_000), id="dense"),
        pytest.param([1_300_000_000_000_000_000] * 400_000, id="one id again and again, but not much of it"),
    ],
)
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_what_compresses_well_and_is_no_bomb_is_read(
    tmp_path: Path, lines: Any, compress: Callable[[bytes], bytes]
) -> None:
    content = b"".join(b"%d\n" % each for each in lines)
    path = tmp_path / f"ids.{'gz' if compress is gzip.compress else 'bz2'}"
    path.write_bytes(compress(content))

    with open_source(str(path), decompress=True) as file:
        assert file.read() == content


@pytest.mark.parametrize("name", ["ids.gz", "ids.txt"])
def test_there_is_a_ceiling_on_bytes_too(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(SMALL) if name.endswith(".gz") else SMALL)

    with open_source(str(path), decompress=True, max_bytes=len(SMALL)) as file:
        assert file.read() == SMALL
    with (
        pytest.raises(StorageError) as caught,
        open_source(str(path), decompress=True, max_bytes=len(SMALL) - 1) as file,
    ):
        file.read()
    assert str(caught.value) == (
        f"cannot read {path}: it holds more than {len(SMALL) - 1:,} bytes, and a job takes 1 GB; split it"
    )


def test_a_compression_without_its_library_is_said_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ids.lz4"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "lz4", None)

    with (
        pytest.raises(StorageError, match="library is missing; install this package's extra"),
        open_source(str(path), decompress=True) as file,
    ):
        file.read()
