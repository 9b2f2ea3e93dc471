import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive import lines
from airflow_provider_xcompliance.archive.lines import LineTooLongError, line_blocks


class Trickle(io.RawIOBase):
    """A source that gives at most so many bytes at a time, as a socket does."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__()
        self._content = io.BytesIO(content)
        self._size = size

    def read(self, size: int = -1) -> bytes:
        return self._content.read(self._size if size < 0 else min(size, self._size))


@given(
    content=st.text(alphabet="ab\r\n", max_size=200).map(str.encode),
    size=st.integers(min_value=1, max_value=50),
)
def test_blocks_are_whole_lines_and_together_the_file(content: bytes, size: int) -> None:
    blocks = list(line_blocks(Trickle(content, size)))

    assert all(block.endswith(b"\n") for block in blocks)
    assert b"".join(blocks) == content + (b"\n" if content and not content.endswith(b"\n") else b"")


def test_a_line_without_end_is_refused_after_a_bounded_number_of_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 100)
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1_000)
    source = io.BytesIO(b"1\n2\n" + b"3" * 1_000_000)

    read = []
    with pytest.raises(LineTooLongError):
        read.extend(line_blocks(source))

    assert read == [b"1\n2\n"]
    assert source.tell() < 2_000
