import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive.parquet_footer import MAGIC, footer_of, parse, serialise


def footer(file: bytes) -> bytes:
    length = int.from_bytes(file[-8:-4], "little")
    return file[-8 - length : -8]


def file_of(table: pa.Table, **options) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "table",
    [
        pa.table({}),
        pa.table({"a": pa.array([], pa.int64())}),
        pa.table({f"column {number}": [number, -number, 2**62] for number in range(20)}),
        pa.table({"text": ["a", None, "ü" * 200], "nested": [{"a": [1.5]}, None, {"a": []}]}),
        pa.table({"flag": [True, False]}).replace_schema_metadata({"pandas": "x" * 1000, "": ""}),
    ],
    ids=["empty", "no rows", "wide", "nested", "metadata"],
)
@pytest.mark.parametrize("options", [{}, {"write_page_index": True, "row_group_size": 1}])
def test_what_is_read_is_written_again_byte_for_byte(table, options):
    content = footer(file_of(table, **options))

    assert serialise(parse(content)) == content


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40))
def test_whole_numbers_of_any_size_are_kept(numbers):
    struct = parse(footer(file_of(pa.table({"a": [1]}))))
    struct.put(3, numbers[0])

    assert parse(serialise(struct))[3] == numbers[0]


def test_maps_flags_in_lists_and_far_fields_are_kept():
    content = bytes.fromhex(
        "11"  # 1: true
        "12"  # 2: false
        "1b 01 85 01 61 02"  # 3: a map of one text to one number
        "19 22 01 02"  # 4: a list of flags
        "1b 00"  # 5: an empty map
        "03 d0 0f 2a"  # 1000: a byte
        "17 00 00 00 00 00 00 f0 3f"  # 1001: a double
        "00"
    )

    assert serialise(parse(content)) == content


def test_a_copy_is_changed_alone():
    struct = parse(footer(file_of(pa.table({"a": [1]}))))
    other = struct.copy()
    other.put(3, 7)
    other.drop(4, 99)

    assert (struct[3], 4 in struct) == (1, True)
    assert (other[3], 4 in other, other.get(4, "none")) == (7, False, "none")


def test_a_footer_ends_a_file():
    file = file_of(pa.table({"a": [1, 2]}))

    assert file.endswith(footer_of(parse(footer(file))))
    assert file.endswith(MAGIC)
