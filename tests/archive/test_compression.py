import gzip
import io
import random
import subprocess
import sys

import pytest
import zstandard
from typing_extensions import Buffer

from airflow_provider_xcompliance.archive.compression import DamagedFileError, plain_reader, plain_writer
from airflow_provider_xcompliance.archive.formats import Compression

COMPRESSIONS: tuple[Compression, ...] = ("gz", "zst")

# Some megabytes that cannot be guessed, and some that can.
CONTENT = random.Random(0).randbytes(2_500_000) + b"0123456789\n" * 300_000


def packed(content: bytes, compression: Compression) -> bytes:
    sink = io.BytesIO()
    with plain_writer(sink, compression) as writer:
        for start in range(0, len(content), 700_000):
            writer.write(memoryview(content)[start : start + 700_000])
    return sink.getvalue()


def unpacked(content: bytes, compression: Compression) -> bytes:
    with plain_reader(io.BytesIO(content), compression) as reader:
        return reader.read()


@pytest.mark.parametrize("content", [CONTENT, b"1\n", b""], ids=["much", "little", "nothing"])
@pytest.mark.parametrize("compression", ["", *COMPRESSIONS])
def test_what_is_written_is_read_again(compression: Compression, content: bytes) -> None:
    assert unpacked(packed(content, compression), compression) == content


def test_others_can_read_what_is_written() -> None:
    assert gzip.decompress(packed(CONTENT, "gz")) == CONTENT
    reader = zstandard.ZstdDecompressor().stream_reader(packed(CONTENT, "zst"))
    assert reader.read() == CONTENT


def test_what_others_write_can_be_read() -> None:
    assert unpacked(gzip.compress(CONTENT), "gz") == CONTENT
    assert unpacked(zstandard.compress(CONTENT), "zst") == CONTENT


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_it_is_read_into_buffers_of_any_size(compression: Compression) -> None:
    found, buffer = bytearray(), bytearray(333_333)
    with plain_reader(io.BytesIO(packed(CONTENT, compression)), compression) as reader:
        while size := reader.readinto(buffer):  # type: ignore[attr-defined]
            found += buffer[:size]

    assert found == CONTENT


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_files_that_were_joined_are_read_through(compression: Compression) -> None:
    parts = [b"first\n", b"", b"second\n" * 100_000, *[b"%d\n" % n for n in range(100)]]

    assert unpacked(b"".join(packed(part, compression) for part in parts), compression) == b"".join(parts)


def test_frames_that_are_to_be_skipped_are_skipped() -> None:
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"12345"

    assert unpacked(skippable + packed(b"1\n", "zst") + skippable, "zst") == b"1\n"


class TestDamage:
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    @pytest.mark.parametrize("content", [CONTENT, b"1\n", b""], ids=["much", "little", "nothing"])
    def test_a_cut_anywhere_is_no_clean_end(self, compression: Compression, content: bytes) -> None:
        whole = packed(content, compression)
        cuts = {*range(min(len(whole), 30)), *(len(whole) - end for end in range(1, 20)), len(whole) // 2}
        for cut in sorted(cut for cut in cuts if 0 <= cut < len(whole)):
            with pytest.raises(DamagedFileError, match="is cut"):
                unpacked(whole[:cut], compression)

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_a_cut_in_the_second_part_is_none_either(self, compression: Compression) -> None:
        part = packed(b"1\n", compression)
        for cut in range(1, len(part)):
            with pytest.raises(DamagedFileError):
                unpacked(part + part[:cut], compression)

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    @pytest.mark.parametrize("garbage", [b"garbage that follows", b"{", b"\xff" * 100_000])
    def test_what_goes_on_with_something_else_is_refused(
        self, compression: Compression, garbage: bytes
    ) -> None:
        with pytest.raises(DamagedFileError):
            unpacked(packed(b"1\n", compression) + garbage, compression)

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_a_flipped_bit_is_seen(self, compression: Compression) -> None:
        whole = bytearray(packed(CONTENT, compression))
        whole[len(whole) // 2] ^= 16

        with pytest.raises(DamagedFileError):
            unpacked(bytes(whole), compression)

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_plain_text_is_not_compressed(self, compression: Compression) -> None:
        with pytest.raises(DamagedFileError, match="something else"):
            unpacked(b'{"id":"1"}\n' * 10, compression)


class FailingFile(io.BytesIO):
    """Gives or takes a megabyte, and then fails."""

    def readinto(self, buffer: Buffer, /) -> int:
        self._fail()
        return super().readinto(buffer)

    def read(self, size: int | None = -1, /) -> bytes:
        self._fail()
        return super().read(size)

    def write(self, content: Buffer, /) -> int:
        self._fail()
        return super().write(content)

    def _fail(self) -> None:
        if self.tell() > 1_000_000:
            raise ConnectionResetError("gone")


@pytest.mark.parametrize("compression", COMPRESSIONS)
class TestErrorsOfTheFileItself:
    def test_reading_passes_them_on(self, compression: Compression) -> None:
        source = FailingFile(packed(CONTENT, compression))

        with plain_reader(source, compression) as reader, pytest.raises(ConnectionResetError):
            reader.read()

    def test_writing_passes_them_on(self, compression: Compression) -> None:
        def write_much() -> None:
            with plain_writer(FailingFile(), compression) as writer:
                writer.writelines([CONTENT] * 10)

        with pytest.raises(ConnectionResetError):
            write_much()

    def test_the_file_stays_open(self, compression: Compression) -> None:
        sink = io.BytesIO()
        with plain_writer(sink, compression) as writer:
            writer.write(b"1\n")
        sink.seek(0)
        with plain_reader(sink, compression) as reader:
            reader.read()

        assert not sink.closed


def test_a_missing_library_is_named() -> None:
    code = """if True:
        import io, sys
        sys.modules["isal"] = sys.modules["zstandard"] = None
        from airflow_provider_xcompliance.archive.compression import plain_reader, plain_writer
        from airflow_provider_xcompliance.archive.extras import MissingExtraError
        for use in (plain_reader, plain_writer):
            for compression in ("gz", "zst"):
                try:
                    use(io.BytesIO(), compression).__enter__()
                except MissingExtraError as error:
                    print(error)
        """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.splitlines() == [
        f"{doing} {ending} needs {library}: pip install 'airflow-provider-xcompliance[archive]'"
        for doing in ("reading", "writing")
        for ending, library in ((".gz", "isal"), (".zst", "zstandard"))
    ]
