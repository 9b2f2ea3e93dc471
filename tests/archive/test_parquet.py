import datetime
import decimal
import io
import json
import threading

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive import parquet, parquet_footer
from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.formats import Columns, Format
from airflow_provider_xcompliance.archive.index import BadIndexError, FileIndex, IndexWriter
from tests.archive.known import FETCH, REMOVE, SCRUB, Known

POSTS = Format("parquet", columns=Columns("id", "author_id", ("geo",)))
IDS = Format("parquet", columns=Columns("id"))
USERS = Format("parquet", shape="users", columns=Columns("id", geo=("geo",)))
LARGEST = 2**63 - 1
# Field of what a footer says of a column.
STATISTICS = 12


GEO = pa.struct([("place_id", pa.string()), ("coordinates", pa.list_(pa.float64()))])


def posts(rows=10, first=1) -> pa.Table:
    numbers = range(first, first + rows)
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "author_id": pa.array([number % 3 for number in numbers], pa.int64()),
            "text": pa.array([f"text of {number}" for number in numbers], pa.string()),
            "geo": pa.array(
                [
                    {"place_id": f"p{number}", "coordinates": [1.5, number]} if number % 2 else None
                    for number in numbers
                ],
                GEO,
            ),
        }
    )


def file_of(table: pa.Table, **options) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def index_of(file: bytes, fmt: Format, path, name="posts.parquet"):
    with IndexWriter(path / "index") as writer:
        facts = parquet.read(io.BytesIO(file), fmt, name, writer)
    return facts, FileIndex(path / "index")


def rewritten(file: bytes, known: Known, tmp_path, fmt=POSTS, quarantine=True):
    _, index = index_of(file, fmt, tmp_path)
    sink, apart = io.BytesIO(), io.BytesIO()
    counts = parquet.rewrite(
        io.BytesIO(file), sink, fmt, "posts.parquet", index.hits(known), known, apart if quarantine else None
    )
    return sink.getvalue(), apart.getvalue(), counts


def rows_of(file: bytes) -> list[dict]:
    return pq.read_table(io.BytesIO(file)).to_pylist()


def ids_of(file: bytes) -> list:
    return pq.read_table(io.BytesIO(file))["id"].to_pylist()


def found(index: FileIndex, job_type) -> list[int]:
    return [number for ids in index.ids(job_type) for number in ids.tolist()]


class TestRead:
    @pytest.mark.parametrize(
        "values",
        [
            pa.array([1, 2**53 + 1, None, LARGEST, 0], pa.int64()),
            pa.array([1, 2**53 + 1, None, LARGEST, 0], pa.uint64()),
            pa.array(["1", str(2**53 + 1), None, str(LARGEST), "0"]),
            pa.array(["1", str(2**53 + 1), None, str(LARGEST), "0"], pa.large_string()),
            pa.array([b"1", b"%d" % (2**53 + 1), None, b"%d" % LARGEST, b"0"], pa.binary()),
            pa.array(["1", str(2**53 + 1), None, str(LARGEST), "0"]).dictionary_encode(),
            pa.array([1, 2**53 + 1, None, LARGEST, 0]).dictionary_encode(),
            pa.array([*map(decimal.Decimal, (1, 2**53 + 1)), None, LARGEST, 0], pa.decimal128(20, 0)),
        ],
        ids=lambda values: str(values.type),
    )
    def test_ids_of_every_type_are_read_to_the_last_digit(self, values, tmp_path):
        facts, index = index_of(file_of(pa.table({"id": values})), IDS, tmp_path)

        assert found(index, "tweets") == [0, 1, 2**53 + 1, LARGEST]
        assert (facts.records, facts.bad, facts.authorless) == (4, 1, 4)
        assert facts.bad_lines == ["posts.parquet:3: no id in id"]

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "1.2E+18",
            "007",
            " 1",
            "+1",
            "-1",
            "1\n",
            "9223372036854775808",
            "99999999999999999999",
            "\uff11",
            "1.0",
        ],
    )
    def test_what_is_no_id_is_counted_as_a_bad_row(self, value, tmp_path):
        facts, index = index_of(file_of(pa.table({"id": ["5", value]})), IDS, tmp_path)

        assert (facts.records, facts.bad, facts.bad_lines) == (1, 1, ["posts.parquet:2: no id in id"])
        assert found(index, "tweets") == [5]

    @pytest.mark.parametrize(
        "values",
        [pa.array([5, -1], pa.int32()), pa.array([5, 2**63], pa.uint64()), pa.array([b"5", b"\xff"])],
        ids=["negative", "too large", "not UTF-8"],
    )
    def test_so_are_numbers_out_of_range(self, values, tmp_path):
        facts, index = index_of(file_of(pa.table({"id": values})), IDS, tmp_path)

        assert facts.bad == 1
        assert found(index, "tweets") == [5]

    def test_authors_are_users_and_rows_without_one_are_counted(self, tmp_path):
        table = pa.table({"id": [1, 2, 3, None], "author_id": ["7", None, "x", "9"], "geo": [None] * 4})

        facts, index = index_of(file_of(table), POSTS, tmp_path)

        assert (facts.records, facts.bad, facts.authorless) == (3, 1, 2)
        assert found(index, "users") == [7]

    def test_rows_of_users_are_users(self, tmp_path):
        facts, index = index_of(file_of(posts()), USERS, tmp_path)

        assert (facts.records, facts.authorless) == (10, 0)
        assert found(index, "users") == [*range(1, 11)]
        assert found(index, "tweets") == []

    def test_positions_are_numbers_of_rows_over_all_row_groups(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "_ROWS_AT_ONCE", 3)
        _, index = index_of(file_of(posts(10), row_group_size=4), POSTS, tmp_path)

        assert index.hits(Known({9: REMOVE, 2: REMOVE}, {0: REMOVE})).tolist() == [1, 2, 5, 8]

    def test_progress_is_told_in_bytes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "_ROWS_AT_ONCE", 5)
        file, told = file_of(posts(10)), []
        with IndexWriter(tmp_path / "index") as writer:
            facts = parquet.read(io.BytesIO(file), POSTS, "a.parquet", writer, told.append)

        assert facts.bytes == len(file)
        assert sum(told) == pytest.approx(len(file), abs=2)
        assert len(told) == 2

    @pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.float16()])
    def test_ids_in_floating_point_numbers_are_refused(self, kind, tmp_path):
        table = pa.table({"id": pa.array(np.array([1.0, 2.0], kind.to_pandas_dtype()), kind)})

        with pytest.raises(ValueError, match=r"^posts\.parquet: the column id .*rounded.* export it anew"):
            index_of(file_of(table), IDS, tmp_path)

    @pytest.mark.parametrize(
        "values", [[True], [datetime.date(2020, 1, 1)], [["1"]], [decimal.Decimal("1.5")]]
    )
    def test_so_is_anything_else_that_is_no_id(self, values, tmp_path):
        with pytest.raises(ValueError, match=r"^posts\.parquet: the column id holds .*; ids are"):
            index_of(file_of(pa.table({"id": values})), IDS, tmp_path)

    def test_a_column_that_is_not_there_is_named_with_those_that_are(self, tmp_path):
        table = pa.table({"tweet": [1], "text": ["a"]})

        with pytest.raises(
            ValueError, match=r"^posts\.parquet: no columns are called 'id'; there are tweet, text$"
        ):
            index_of(file_of(table), IDS, tmp_path)

    @pytest.mark.parametrize(
        "file", [b"", b"PAR1", b"{}\n" * 10, file_of(posts())[:-1], b"PAR1" + file_of(posts())[-8:]]
    )
    def test_what_is_no_parquet_is_refused(self, file, tmp_path):
        with pytest.raises(ValueError, match=r"^posts\.parquet: no Parquet file, or not all of it"):
            index_of(file, IDS, tmp_path)


class TestRemoval:
    def test_rows_of_ids_and_of_authors_go_and_the_others_stay_in_order(self, tmp_path):
        file = file_of(posts(10), row_group_size=4)

        kept, apart, counts = rewritten(file, Known({4: REMOVE}, {0: REMOVE}), tmp_path)

        assert rows_of(kept) == [row for row in rows_of(file) if row["id"] not in (3, 4, 6, 9)]
        assert (counts.removed, counts.kinds) == (4, {"delete/deleted": 4})
        assert apart == b""

    def test_all_rows_may_go(self, tmp_path):
        file = file_of(posts(10), row_group_size=4)

        kept, _, counts = rewritten(file, Known(users={0: REMOVE, 1: REMOVE, 2: REMOVE}), tmp_path)

        assert pq.read_table(io.BytesIO(kept)).equals(pq.read_table(io.BytesIO(file)).slice(0, 0))
        assert pq.read_metadata(io.BytesIO(kept)).num_row_groups == 0
        assert counts.removed == 10

    def test_a_row_group_of_which_nothing_stays_goes(self, tmp_path):
        file = file_of(posts(10), row_group_size=4)

        kept, _, _ = rewritten(file, Known(dict.fromkeys(range(5, 9), REMOVE)), tmp_path)

        assert ids_of(kept) == [1, 2, 3, 4, 9, 10]
        assert pq.read_metadata(io.BytesIO(kept)).num_row_groups == 2

    def test_row_groups_in_which_nothing_goes_are_copied_byte_for_byte(self, tmp_path):
        file = file_of(posts(3000), row_group_size=1000)
        group = pq.read_metadata(io.BytesIO(file)).row_group(2)
        start = group.column(0).dictionary_page_offset
        untouched = file[start : start + sum(group.column(n).total_compressed_size for n in range(5))]

        kept, _, _ = rewritten(file, Known({1500: REMOVE}), tmp_path)

        assert untouched in kept
        assert rows_of(kept) == [row for row in rows_of(file) if row["id"] != 1500]

    def test_a_file_in_which_nothing_goes_stays_as_it_is(self, tmp_path):
        file = file_of(posts(100), row_group_size=30)

        assert rewritten(file, Known(), tmp_path)[0] == file

    def test_what_went_stands_nowhere_in_the_file(self, tmp_path):
        texts = [f"secret-{number:04}" for number in range(100)]
        table = pa.table({"id": [*range(100)], "author_id": [1] * 100, "text": texts, "geo": texts})
        for text in (pa.array(texts), pa.array(texts).dictionary_encode()):
            file = file_of(table.set_column(2, "text", text), compression="none", write_page_index=True)
            gone = Known({7: REMOVE, 99: REMOVE, 0: REMOVE}, {})

            kept, _, _ = rewritten(file, gone, tmp_path)

            assert b"secret-0098" in kept
            assert not any(text in kept for text in (b"secret-0007", b"secret-0099", b"secret-0000"))

    @pytest.mark.parametrize("effect", [REMOVE, FETCH, SCRUB])
    def test_nor_in_categories_which_each_row_group_repeats(self, effect, tmp_path):
        places = pa.array(["Ulm", "a secret place", *["Ulm"] * 98]).dictionary_encode()
        nested = pa.StructArray.from_arrays([places], ["name"])
        table = posts(100).drop_columns("geo").append_column("geo", places)
        table = table.append_column("within", nested if effect is not SCRUB else pa.nulls(100))
        file = file_of(table, row_group_size=10, compression="none")

        kept, _, _ = rewritten(file, Known({2: effect}), tmp_path)

        assert file.count(b"a secret place") > 10
        assert b"a secret place" not in kept
        expected = [
            row | ({"geo": None} if effect is SCRUB and row["id"] == 2 else {}) for row in rows_of(file)
        ]
        assert rows_of(kept) == [row for row in expected if effect is SCRUB or row["id"] != 2]
        assert pq.read_schema(io.BytesIO(kept)) == table.schema

    def test_rows_of_users_go(self, tmp_path):
        kept, _, counts = rewritten(file_of(posts(4)), Known({1: REMOVE}, {2: REMOVE}), tmp_path, USERS)

        assert ids_of(kept) == [1, 3, 4]
        assert counts.removed == 1

    def test_doing_it_again_changes_nothing(self, tmp_path):
        known = Known({4: REMOVE, 5: FETCH, 7: SCRUB}, {1: SCRUB})
        once, _, _ = rewritten(file_of(posts(20), row_group_size=6), known, tmp_path)

        again, apart, counts = rewritten(once, known, tmp_path)

        assert (again, apart) == (once, b"")
        assert counts == type(counts)()


class TestQuarantine:
    def test_rows_to_be_fetched_again_go_to_a_file_of_the_same_schema(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "_ROWS_IN_QUARANTINE", 2)
        table = posts(12).replace_schema_metadata({"pandas": "{}"})
        file = file_of(table, row_group_size=4)

        kept, apart, counts = rewritten(
            file, Known(dict.fromkeys((2, 5, 6, 12), FETCH), {2: REMOVE}), tmp_path
        )

        # 2 and 5 are by the user who goes, and go with them.
        assert ids_of(apart) == [6, 12]
        assert ids_of(kept) == [1, 3, 4, 7, 9, 10]
        assert rows_of(apart) == [row for row in rows_of(file) if row["id"] in (6, 12)]
        schema = pq.read_schema(io.BytesIO(file))
        assert pq.read_schema(io.BytesIO(apart)).equals(schema, check_metadata=True)
        assert (counts.quarantined, counts.removed) == (2, 4)
        assert counts.kinds == {"rehydrate/tweet_edited": 2, "delete/deleted": 4}

    def test_it_lacks_the_location_that_goes(self, tmp_path):
        kept, apart, counts = rewritten(file_of(posts(4)), Known({1: FETCH}, {1: SCRUB}), tmp_path)

        assert rows_of(apart) == [{"id": 1, "author_id": 1, "text": "text of 1", "geo": None}]
        assert ids_of(kept) == [2, 3, 4]
        assert (counts.quarantined, counts.scrubbed) == (1, 0)
        assert counts.kinds == {"rehydrate/tweet_edited": 1, "scrub_geo/geo_scrubbed": 1}

    def test_without_one_they_stay(self, tmp_path):
        file = file_of(posts(4))

        kept, _, counts = rewritten(file, Known({2: FETCH}), tmp_path, quarantine=False)

        assert (kept, counts.quarantined) == (file, 0)


class TestScrub:
    def test_locations_become_null_and_the_rest_is_copied(self, tmp_path):
        file = file_of(posts(6), row_group_size=2)

        kept, _, counts = rewritten(file, Known({3: SCRUB, 4: SCRUB}, {2: SCRUB}), tmp_path)

        assert rows_of(kept) == [
            row | ({"geo": None} if row["id"] in (3, 4, 2, 5) else {}) for row in rows_of(file)
        ]
        # 2 and 4 have none.
        assert (counts.scrubbed, counts.kinds) == (2, {"scrub_geo/geo_scrubbed": 2})
        old, new = (pq.read_metadata(io.BytesIO(each)).row_group(1).column(2) for each in (file, kept))
        assert bytes_of(old, file) == bytes_of(new, kept)

    @pytest.mark.parametrize(
        "values",
        [
            ["a", "b", "c"],
            [1.5, 2.5, 3.5],
            [[1.5], [], None],
            [{"a": {"b": [1]}}, {"a": None}, None],
            [[("a", 1)], [], None],
        ],
        ids=["text", "number", "list", "struct", "map"],
    )
    def test_locations_of_every_type(self, values, tmp_path):
        kind = pa.map_(pa.string(), pa.int64()) if values[0] == [("a", 1)] else None
        table = pa.table({"id": [1, 2, 3], "author_id": [5, 5, 5], "geo": pa.array(values, kind)})

        kept, _, _ = rewritten(file_of(table), Known({1: SCRUB}), tmp_path)

        assert [row["geo"] for row in rows_of(kept)] == [None, *values[1:]]

    def test_several_columns_count_once(self, tmp_path):
        fmt = Format("parquet", columns=Columns("id", geo=("place", "lat")))
        table = pa.table({"id": [1, 2], "place": ["a", "b"], "lat": [1.0, 2.0]})

        kept, _, counts = rewritten(file_of(table), Known({1: SCRUB}), tmp_path, fmt)

        assert rows_of(kept)[0] == {"id": 1, "place": None, "lat": None}
        assert counts.scrubbed == 1

    def test_without_columns_of_locations_nothing_is_done(self, tmp_path):
        file = file_of(posts(4))

        kept, _, counts = rewritten(file, Known({1: SCRUB}), tmp_path, IDS)

        assert (kept, counts.scrubbed) == (file, 0)

    def test_a_column_that_takes_no_null_is_refused(self, tmp_path):
        schema = pa.schema([("id", pa.int64()), pa.field("geo", pa.string(), nullable=False)])
        file = file_of(pa.table({"id": [1], "geo": ["here"]}, schema))

        with pytest.raises(ValueError, match=r"^posts\.parquet: the column geo takes no null"):
            rewritten(file, Known(users={1: SCRUB}), tmp_path, USERS)


def bytes_of(column, file: bytes) -> bytes:
    start = column.dictionary_page_offset or column.data_page_offset
    return file[start : start + column.total_compressed_size]


class TestLayout:
    """What the file was like, it is like afterwards."""

    @pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
    def test_compression_per_column(self, codec, tmp_path):
        file = file_of(posts(50), compression={"id": "snappy", "text": codec, "geo.place_id": "gzip"})

        kept, _, _ = rewritten(file, Known({5: REMOVE}), tmp_path)

        assert [compressions(kept), ids_of(kept)] == [
            compressions(file), [number for number in range(1, 51) if number != 5]
        ]  # fmt: skip

    def test_schema_with_all_its_metadata(self, tmp_path):
        pandas = json.dumps({"index_columns": [{"kind": "range", "start": 0, "stop": 10, "step": 1}]})
        schema = posts().schema.with_metadata({"pandas": pandas, "source": "twarc"})
        schema = schema.set(
            2, schema.field("text").with_metadata({"comment": "as posted", "PARQUET:field_id": "7"})
        )
        schema = schema.set(1, pa.field("author_id", pa.int64(), nullable=False))
        table = posts().cast(schema)

        file = file_of(table)

        kept, _, _ = rewritten(file, Known({5: REMOVE}), tmp_path)

        assert pq.read_schema(io.BytesIO(kept)).equals(pq.read_schema(io.BytesIO(file)), check_metadata=True)
        old, new = (pq.read_metadata(io.BytesIO(each)) for each in (file, kept))
        assert str(new.schema) == str(old.schema).replace(hex(id(old.schema)), hex(id(new.schema)))
        assert (new.metadata, new.created_by) == (old.metadata, old.created_by)

    def test_row_groups(self, tmp_path):
        kept, _, _ = rewritten(
            file_of(posts(100), row_group_size=30), Known({5: REMOVE, 95: REMOVE}), tmp_path
        )

        metadata = pq.read_metadata(io.BytesIO(kept))
        assert [metadata.row_group(number).num_rows for number in range(4)] == [29, 30, 30, 9]
        assert metadata.num_rows == 98

    def test_dictionaries_and_statistics_where_there_were_some(self, tmp_path):
        table = posts(100).append_column("lang", pa.array(["en", "de"] * 50))
        file = file_of(table, use_dictionary=["lang"], write_statistics=["id", "text"])

        kept, _, _ = rewritten(file, Known({100: REMOVE}), tmp_path)

        old, new = (pq.read_metadata(io.BytesIO(each)).row_group(0) for each in (file, kept))
        for number in range(old.num_columns):
            assert new.column(number).has_dictionary_page == old.column(number).has_dictionary_page
            assert new.column(number).is_stats_set == old.column(number).is_stats_set
        assert new.column(0).statistics.max == 99

    @pytest.mark.parametrize("encoding", ["DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "PLAIN"])
    @pytest.mark.parametrize("pages", ["1.0", "2.0"])
    def test_encodings_and_pages(self, encoding, pages, tmp_path):
        file = file_of(
            posts(100), use_dictionary=False, column_encoding={"id": encoding}, data_page_version=pages
        )

        kept, _, _ = rewritten(file, Known({100: REMOVE}), tmp_path)

        old, new = (pq.read_metadata(io.BytesIO(each)).row_group(0).column(0) for each in (file, kept))
        assert new.encodings == old.encodings
        assert ids_of(kept) == [*range(1, 100)]

    def test_encodings_that_differ_from_column_to_column(self, tmp_path):
        encodings = {"id": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY"}
        lang = pa.array(["en", "de"] * 500)
        file = file_of(
            posts(1000).append_column("lang", lang), use_dictionary=["lang"], column_encoding=encodings
        )

        kept, _, _ = rewritten(file, Known({1000: REMOVE}), tmp_path)

        old, new = (pq.read_metadata(io.BytesIO(each)).row_group(0) for each in (file, kept))
        for number in range(old.num_columns):
            assert new.column(number).encodings == old.column(number).encodings
        assert rows_of(kept) == rows_of(file)[:-1]

    def test_decimals_that_are_stored_as_integers_beside_those_that_are_too_long_for_it(self, tmp_path):
        values = [decimal.Decimal("1.25"), decimal.Decimal("2.50"), None]
        table = pa.table(
            {
                "id": [1, 2, 3],
                "short": pa.array(values, pa.decimal128(5, 2)),
                "long": pa.array(values, pa.decimal128(25, 2)),
                "last": pa.array(values, pa.decimal128(15, 2)),
            }
        )
        file = file_of(table, store_decimal_as_integer=True)

        kept, apart, _ = rewritten(file, Known({1: FETCH}), tmp_path, IDS)

        assert pq.read_table(io.BytesIO(kept)).equals(table.slice(1))
        assert pq.read_table(io.BytesIO(apart)).equals(table.slice(0, 1))
        old, new = (pq.read_metadata(io.BytesIO(each)) for each in (file, kept))
        assert new.schema.equals(old.schema)
        stored = [new.row_group(0).column(number).physical_type for number in range(4)]
        assert stored == ["INT64", "INT32", "FIXED_LEN_BYTE_ARRAY", "INT64"]

    @pytest.mark.parametrize(
        ("values", "options"),
        [
            (pa.array([1, 2, None], pa.timestamp("ms", "UTC")), {}),
            (pa.array([1, 2, None], pa.timestamp("us")), {}),
            (pa.array([1, 2, None], pa.timestamp("ns")), {}),
            (pa.array([1, 2, None], pa.timestamp("ns")), {"use_deprecated_int96_timestamps": True}),
            (pa.array([1, 2, None], pa.duration("s")), {}),
            (pa.array([1, 2, None], pa.time32("ms")), {"write_time_adjusted_to_utc": True}),
            (pa.array([1, 2, None], pa.date32()), {}),
            (pa.array([1, 2, None], pa.uint32()), {}),
            (pa.array([1, 2, None], pa.int8()), {}),
            (pa.array([1.5, 2.5, None], pa.float32()), {}),
            (pa.array(np.array([1, 2, 3], np.float16)), {}),
            (pa.array([True, False, None]), {}),
            (pa.array([decimal.Decimal("1.25")] * 3), {}),
            (pa.array([decimal.Decimal("1.25")] * 3), {"store_decimal_as_integer": True}),
            (pa.array([b"123", b"456", None], pa.binary(3)), {}),
            (pa.array(["b", None, "b"]).dictionary_encode(), {}),
            (pa.array([["a"], [], None], pa.list_(pa.string())), {}),
            (pa.array([["a"], [], None], pa.list_(pa.string())), {"use_compliant_nested_type": False}),
            (pa.array([[1, 2], [3, 4], None], pa.list_(pa.int64(), 2)), {}),
            (pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64())), {}),
            (pa.array([{"a": [{"b": 1}]}, {"a": None}, None]), {}),
            (pa.nulls(3), {}),
        ],
        ids=lambda value: str(getattr(value, "type", value)),
    )
    def test_columns_of_every_type(self, values, options, tmp_path):
        table = pa.table({"id": [1, 2, 3], "author_id": [5, 5, 5], "geo": ["a", "b", "c"], "x": values})
        file = file_of(table, **options)
        expected = pq.read_table(io.BytesIO(file)).filter([False, True, True])

        kept, _, _ = rewritten(file, Known({1: REMOVE}), tmp_path)

        assert pq.read_table(io.BytesIO(kept)).equals(expected, check_metadata=True)

    def test_names_with_dots_and_a_sorted_order(self, tmp_path):
        table = pa.table(
            {"id": [1, 2, 3], "author.id": [5, 6, 7], "author": [{"name": "a"}] * 3, "geo": [1, 2, 3]}
        )
        order = [pq.SortingColumn(0), pq.SortingColumn(2)]
        fmt = Format("parquet", columns=Columns("id", "author.id", ("geo",)))
        file = file_of(table, sorting_columns=order)

        removed, _, _ = rewritten(file, Known(users={6: REMOVE}), tmp_path, fmt)
        scrubbed, _, _ = rewritten(file, Known(users={6: SCRUB}), tmp_path, fmt)

        assert pq.read_table(io.BytesIO(removed)).equals(table.take([0, 2]))
        assert pq.read_metadata(io.BytesIO(removed)).row_group(0).sorting_columns == tuple(order)
        # Nulls may be where the order has none.
        assert pq.read_metadata(io.BytesIO(scrubbed)).row_group(0).sorting_columns == ()

    @pytest.mark.parametrize(
        ("names", "columns"),
        [
            (["id", "text", "text"], [["1", "2", "3"], ["a", "b", "c"], ["x", "y", "z"]]),
            (["id", "a", "a.b"], [["1", "2", "3"], [{"b": "a"}, {"b": "b"}, None], ["x", "y", "z"]]),
            (["id", "a.b", "a"], [["1", "2", "3"], ["x", "y", "z"], [{"b": "a"}, {"b": "b"}, None]]),
        ],
        ids=["one name twice", "a name that is a path into the one before", "or into the one after"],
    )
    def test_columns_whose_names_do_not_tell_them_apart(self, names, columns, tmp_path):
        table = pa.table([*map(pa.array, columns)], names)

        kept, apart, _ = rewritten(file_of(table), Known({1: REMOVE, 3: FETCH}), tmp_path, IDS)

        assert pq.ParquetFile(io.BytesIO(kept)).read().equals(table.slice(1, 1))
        assert pq.ParquetFile(io.BytesIO(apart)).read().equals(table.slice(2, 1))

    @pytest.mark.parametrize(
        ("times", "unit"),
        [
            (np.array([None, "0001-01-01", "1677-01-01", "2262-05-01", "9999-12-31"], "M8[us]"), "us"),
            (np.array([None, *(f"2020-01-01T00:00:00.00000000{n}" for n in range(1, 5))], "M8[ns]"), "ns"),
        ],
        ids=["of every year", "to the last digit"],
    )
    @pytest.mark.parametrize("nested", [False, True])
    def test_old_timestamps(self, times, unit, nested, tmp_path):
        values = pa.array(times)
        values = pa.StructArray.from_arrays([values], ["at"]) if nested else values
        table = pa.table({"id": [1, 2, 3, 4, 5], "at": values})
        file = file_of(table, use_deprecated_int96_timestamps=True)

        kept, _, _ = rewritten(file, Known({4: REMOVE}), tmp_path, IDS)

        column = pq.read_metadata(io.BytesIO(kept)).row_group(0).column(1)
        assert column.physical_type == "INT96"
        assert pq.read_table(io.BytesIO(kept), coerce_int96_timestamp_unit=unit).equals(
            table.take([0, 1, 2, 4])
        )

    def test_old_timestamps_get_no_statistics_of_another_order(self, tmp_path):
        table = pa.table({"id": [1, 2], "at": pa.array([1, 256], pa.timestamp("ns"))})
        written = file_of(table, use_deprecated_int96_timestamps=True)
        footer, start = parquet_footer.parse(footer_in(written)), len(written) - len(footer_in(written)) - 8
        ids, times = footer_columns(footer)
        # As other writers give them; Arrow does not.
        times._fields |= {STATISTICS: ids._fields[STATISTICS]}
        file = written[:start] + parquet_footer.footer_of(footer)

        kept, _, _ = rewritten(file, Known({1: REMOVE}), tmp_path, IDS)

        ids, times = footer_columns(parquet_footer.parse(footer_in(kept)))
        assert (STATISTICS in ids, STATISTICS in times) == (True, False)

    @pytest.mark.parametrize("kind", ["JSON", "UUID", "JSON[]", "STRUCT(a JSON, b UUID)"])
    def test_types_that_arrow_has_extensions_for(self, kind, tmp_path):
        path = tmp_path / "posts.parquet"
        value = {"JSON": "1", "UUID": "uuid()", "JSON[]": "['1']"}.get(kind, "{'a': '1', 'b': uuid()}")
        duckdb.sql(f"COPY (SELECT range AS id, {value}::{kind} AS x FROM range(3)) TO '{path}'")
        wanted = duckdb.sql(f"SELECT * FROM '{path}' WHERE id != 1").fetchall()

        kept, apart, _ = rewritten(path.read_bytes(), Known({1: FETCH}), tmp_path, IDS)

        path.write_bytes(kept)
        assert duckdb.sql(f"SELECT * FROM '{path}'").fetchall() == wanted
        assert str(duckdb.sql(f"SELECT x FROM '{path}'").types[0]) == kind
        assert pq.read_schema(io.BytesIO(apart)) == pq.read_schema(io.BytesIO(kept))

    def test_other_libraries_read_the_result(self, tmp_path):
        kept, _, _ = rewritten(file_of(posts(3000), row_group_size=1000), Known({1500: REMOVE}), tmp_path)
        path = tmp_path / "kept.parquet"
        path.write_bytes(kept)

        assert polars.read_parquet(path).rows(named=True) == rows_of(kept)
        assert [*duckdb.sql(f"SELECT count(*), sum(id) FROM '{path}'").fetchall()] == [
            (2999, sum(ids_of(kept)))
        ]

    def test_files_of_other_libraries_are_rewritten(self, tmp_path):
        path = tmp_path / "posts.parquet"
        given = tmp_path / "given.parquet"
        given.write_bytes(file_of(posts(5000)))
        for write in (
            lambda: polars.read_parquet(given).write_parquet(path, row_group_size=2000),
            lambda: duckdb.sql(f"COPY (SELECT * FROM '{given}') TO '{path}' (ROW_GROUP_SIZE 2048)"),
            lambda: duckdb.sql(f"COPY (SELECT * FROM '{given}') TO '{path}' (PARQUET_VERSION V2)"),
        ):
            write()
            file = path.read_bytes()
            kept, _, _ = rewritten(file, Known({3000: REMOVE, 17: SCRUB}), tmp_path)

            expected = [row | ({"geo": None} if row["id"] == 17 else {}) for row in rows_of(file)]
            assert rows_of(kept) == [row for row in expected if row["id"] != 3000]
            assert pq.read_schema(io.BytesIO(kept)) == pq.read_schema(io.BytesIO(file))


class TestTextsOutOfADictionary:
    ROWS = 1000
    LANGS = ("en", "de", "fr", None)

    def table(self) -> pa.Table:
        langs = [self.LANGS[number % 4] for number in range(self.ROWS)]
        langs[500] = "the only one"
        return posts(self.ROWS).append_column("lang", pa.array(langs))

    @pytest.mark.parametrize("at_once", [100, 1 << 20], ids=["some rows at a time", "all at once"])
    @pytest.mark.parametrize("effect", [REMOVE, FETCH], ids=["removed", "to be fetched again"])
    def test_rows_go_with_values_that_no_other_row_has(self, effect, at_once, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "_BYTES_AT_ONCE", at_once)
        table = self.table()
        file = file_of(table, row_group_size=600, compression="none")

        kept, apart, _ = rewritten(file, Known(dict.fromkeys((1, 501, 1000), effect)), tmp_path)

        gone = (0, 500, 999)
        stays = [number not in gone for number in range(self.ROWS)]
        assert pq.read_table(io.BytesIO(kept)).equals(table.filter(stays))
        assert b"the only one" in file
        assert b"the only one" not in kept
        if effect is FETCH:
            assert pq.read_table(io.BytesIO(apart)).equals(table.take(gone))

    def test_so_do_locations(self, tmp_path):
        fmt = Format("parquet", columns=Columns("id", geo=("lang",)))
        file = file_of(self.table(), compression="none")

        kept, _, counts = rewritten(file, Known({501: SCRUB, 502: SCRUB}), tmp_path, fmt)

        expected = self.table()["lang"].to_pylist()
        expected[500] = expected[501] = None
        assert pq.read_table(io.BytesIO(kept))["lang"].to_pylist() == expected
        assert b"the only one" not in kept
        assert counts.scrubbed == 2

    def test_they_are_not_mistaken_where_one_stands_in_it_twice(self, tmp_path):
        # No library writes such a file, but nothing forbids it.
        file = file_of(self.table(), compression="none", write_statistics=False)
        assert file.count(b"\x02\x00\x00\x00de") == 1
        file = file.replace(b"\x02\x00\x00\x00de", b"\x02\x00\x00\x00en")

        kept, _, _ = rewritten(file, Known({1: REMOVE}), tmp_path)

        assert pq.read_table(io.BytesIO(kept)).equals(pq.read_table(io.BytesIO(file)).slice(1))


def footer_in(file: bytes) -> bytes:
    return file[-8 - int.from_bytes(file[-8:-4], "little") : -8]


def footer_columns(footer: parquet_footer.Struct) -> list[parquet_footer.Struct]:
    """What a footer says of the columns of the first row group: fields 4, 1 and 3 of its structures."""
    return [chunk[3] for chunk in footer[4][0][1]]


def compressions(file: bytes) -> list[str]:
    group = pq.read_metadata(io.BytesIO(file)).row_group(0)
    return [group.column(number).compression for number in range(group.num_columns)]


class Watched(io.FileIO):
    """Sees to it that nobody reads where another thread has sought; others run while it seeks and reads."""

    thread = 0

    def seek(self, *arguments):
        self.thread = threading.get_ident()
        return super().seek(*arguments)

    def read(self, *arguments):
        data = super().read(*arguments)
        assert self.thread == threading.get_ident()
        return data


def test_threads_do_not_read_where_another_one_has_sought(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_THREADS", 8)
    path = tmp_path / "posts.parquet"
    path.write_bytes(file_of(posts(20_000), row_group_size=500))
    rows = np.arange(0, 20_000, 100)
    known = Known(dict.fromkeys((rows + 1).tolist(), REMOVE))
    kept = io.BytesIO()

    with Watched(path) as source:
        parquet.rewrite(source, kept, POSTS, "posts.parquet", rows, known)

    assert ids_of(kept.getvalue()) == [number for number in range(1, 20_001) if number % 100 != 1]


class TestIndexOfAnotherFile:
    @pytest.mark.parametrize(
        "hits", [[10], [-1, 3], [2]], ids=["past the end", "before the start", "a bad row"]
    )
    def test_it_is_refused(self, hits):
        table = posts(10).set_column(0, "id", pa.array([1, 2, None, *range(4, 11)]))

        with pytest.raises(BadIndexError, match=r"^posts\.parquet: "):
            parquet.rewrite(
                io.BytesIO(file_of(table)), io.BytesIO(), POSTS, "posts.parquet", np.array(hits), Known()
            )


decisions = st.sampled_from([REMOVE, FETCH, SCRUB])
some_ids = st.one_of(st.integers(0, 12), st.sampled_from([2**53, 2**53 + 1, LARGEST]))


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.none(), some_ids),
            st.one_of(st.none(), some_ids),
            st.text(max_size=5),
            st.one_of(st.none(), st.just({"place_id": "x", "coordinates": [1.0]})),
        ),
        max_size=30,
    ),
    known=st.builds(Known, st.dictionaries(some_ids, decisions), st.dictionaries(some_ids, decisions)),
    size=st.integers(1, 12),
    at_once=st.integers(1, 1000),
)
def test_what_is_kept_and_what_goes_is_what_the_rules_say(rows, known, size, at_once, tmp_path_factory):
    names = ("id", "author_id", "text", "geo")
    kinds = (pa.int64(), pa.uint64(), pa.string(), GEO)
    columns = [pa.array([row[number] for row in rows], kind) for number, kind in enumerate(kinds)]
    file = file_of(pa.table(columns, names), row_group_size=size)
    kept, apart, expected, fetched = [], [], [], []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_BYTES_AT_ONCE", at_once)
        kept, apart, _ = rewritten(file, known, tmp_path_factory.mktemp("index"))
    for row in rows:
        own, author, text, geo = row
        of = [known.of_post(own), known.of_user(author)] if own is not None else []
        effects = {of[0].effect, *({of[1].effect} - {Effect.FETCH_AGAIN})} if of else set()
        if Effect.REMOVE in effects:
            continue
        place = fetched if Effect.FETCH_AGAIN in effects else expected
        place.append((own, author, text, None if Effect.SCRUB_LOCATION in effects else geo))

    assert [tuple(row.values()) for row in rows_of(kept)] == expected
    assert [tuple(row.values()) for row in rows_of(apart)] == fetched if fetched else apart == b""
