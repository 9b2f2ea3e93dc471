import csv
import gzip
import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive import delimited, text
from airflow_provider_xcompliance.archive.compression import plain_reader
from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.formats import Columns, Format
from airflow_provider_xcompliance.archive.ids import is_id
from airflow_provider_xcompliance.archive.index import BadIndexError, Facts, FileIndex, IndexWriter
from tests.archive.known import FETCH, REMOVE, SCRUB, Known

POSTS = Format("csv", columns=Columns("id", "author", ("geo", "place")))
USERS = Format("csv", shape="users", columns=Columns("id", geo=("place",)))
LARGEST = 2**63 - 1
HEADER = b"geo,id,text,place,author\r\n"


def index_of(content: bytes, fmt: Format, directory):
    with IndexWriter(directory / "index") as writer:
        facts = delimited.read(io.BytesIO(content), fmt, "posts.csv", writer)
    return facts, FileIndex(directory / "index")


def rewritten(content: bytes, known: Known, directory, fmt=POSTS, quarantine=True):
    _, index = index_of(content, fmt, directory)
    sink, apart = io.BytesIO(), io.BytesIO()
    counts = delimited.rewrite(
        io.BytesIO(content), sink, fmt, "posts.csv", index.hits(known), known, apart if quarantine else None
    )
    return sink.getvalue(), apart.getvalue(), counts


def found(index: FileIndex, job_type) -> list[int]:
    return [number for ids in index.ids(job_type) for number in ids.tolist()]


class TestRead:
    @pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r\r\n"])
    @pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("last", [True, False], ids=["ends in a newline", "does not"])
    @pytest.mark.parametrize(("kind", "comma"), [("csv", b","), ("tsv", b"\t")])
    def test_ids_and_authors_are_found_in_their_columns(self, line_end, bom, last, kind, comma, tmp_path):
        rows = [b"id,author", b"1,7", b"", b'"2",8', b'9223372036854775807,"7"', b"9007199254740993,"]
        content = bom + line_end.join(rows).replace(b",", comma) + (line_end if last else b"")

        facts, index = index_of(content, Format(kind, columns=Columns("id", "author")), tmp_path)

        assert found(index, "tweets") == [1, 2, 2**53 + 1, LARGEST]
        assert found(index, "users") == [7, 8]
        assert (facts.records, facts.bad, facts.authorless, facts.bytes) == (4, 0, 1, len(content))

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"1.2E+18",
            b"007",
            b" 1",
            b"1 ",
            b"+1",
            b"-1",
            b'"1 "',
            b'""',
            b"9223372036854775808",
            b"1" * 20,
            "\uff11".encode(),
            b"\xff",
            b'"1""2"',
            b"1.0",
            b":",
            b"/",
        ],
    )
    @pytest.mark.parametrize("elsewhere", [b"", b'5" disk'], ids=["usual quotes", "unusual quotes"])
    def test_a_row_without_a_valid_id_is_bad(self, value, elsewhere, tmp_path):
        content = b"id,author,text\n5,1,%b\n%b,1,\n" % (elsewhere, value)

        facts, index = index_of(content, Format("csv", columns=Columns("id")), tmp_path)

        assert (facts.records, facts.bad, facts.bad_lines) == (1, 1, ["posts.csv:3: no id in id"])
        assert found(index, "tweets") == [5]

    @pytest.mark.parametrize(
        ("row", "what"),
        [
            (b"1,2", "2 fields under 3 names"),
            (b"1,2,3,4", "4 fields under 3 names"),
            (b'1,"2"x,3', "text behind a closing quote"),
            (b"1,2\r3,4", "a carriage return inside"),
        ],
    )
    @pytest.mark.parametrize("elsewhere", [b"", b'5" disk'], ids=["usual quotes", "unusual quotes"])
    def test_so_is_one_that_is_malformed_and_its_line_is_told(self, row, what, elsewhere, tmp_path):
        content = b'id,author,text\n8,1,"a\n\nb"\n%b\n9,1,%b\n' % (row, elsewhere)

        facts, index = index_of(content, Format("csv", columns=Columns("id")), tmp_path)

        assert (facts.records, facts.bad, facts.bad_lines) == (2, 1, [f"posts.csv:5: {what}"])
        assert found(index, "tweets") == [8, 9]

    def test_a_quote_that_nothing_closes_makes_the_rest_one_bad_row(self, tmp_path):
        facts, _ = index_of(b'id,text\n1,a\n2,"b\n3,c\n', Format("csv", columns=Columns("id")), tmp_path)

        assert (facts.records, facts.bad_lines) == (1, ["posts.csv:3: a quote that nothing closes"])

    def test_ten_bad_lines_are_told_and_all_counted(self, tmp_path, monkeypatch):
        monkeypatch.setattr(text, "_BLOCK_BYTES", 10)
        content = b"id,text\n" + b"x,\n" * 30 + b"1\n" * 30

        facts, _ = index_of(content, Format("csv", columns=Columns("id")), tmp_path)

        assert facts.bad == 60
        assert facts.bad_lines == [f"posts.csv:{line}: no id in id" for line in range(2, 12)]

    def test_rows_of_users_are_users(self, tmp_path):
        facts, index = index_of(b"place,id\nhere,1\n,2\n", USERS, tmp_path)

        assert (found(index, "users"), found(index, "tweets"), facts.authorless) == ([1, 2], [], 0)

    @pytest.mark.parametrize("block", [1, 2, 3, 4, 9, 1 << 20])
    def test_names_of_any_length_are_found_behind_a_byte_order_mark(self, block, tmp_path, monkeypatch):
        monkeypatch.setattr(text, "_BLOCK_BYTES", block)
        content = b"\xef\xbb\xbfid," + b"x" * 50 + b"\n1,a\n"

        facts, index = index_of(content, Format("csv", columns=Columns("id")), tmp_path)

        assert found(index, "tweets") == [1]
        assert facts.bytes == len(content)

    def test_names_may_be_quoted(self, tmp_path):
        fmt = Format("csv", columns=Columns('the "id", so to say'))

        assert found(index_of(b'text,"the ""id"", so to say"\na,1\n', fmt, tmp_path)[1], "tweets") == [1]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"\nid\n1\n", r"^posts\.csv: no columns are called 'id'"),
            (b"1,2\n", r"^posts\.csv: no columns are called 'id'; its first row has 1, 2$"),
            (b"id,id,text\n", r"^posts\.csv: 2 columns are called 'id'; its first row has id, id, text$"),
            ("id,text\n".encode("utf-16"), r"^posts\.csv: no columns are called 'id'"),
            (b'"id,text\n1,a\n', r"^posts\.csv: no columns are called 'id'"),
        ],
    )
    def test_columns_have_to_be_there_once(self, content, says, tmp_path):
        with pytest.raises(ValueError, match=says):
            index_of(content, Format("csv", columns=Columns("id")), tmp_path)

    @pytest.mark.parametrize("fmt", [POSTS, USERS, Format("tsv", columns=Columns("id", geo=("id",)))])
    @pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
    def test_a_file_of_nothing_holds_nothing(self, content, fmt, tmp_path):
        facts, index = index_of(content, fmt, tmp_path)

        assert facts == Facts(bytes=len(content))
        assert (found(index, "tweets"), found(index, "users")) == ([], [])
        assert rewritten(content, Known(), tmp_path, fmt)[:2] == (content, b"")

    def test_nor_does_one_that_is_compressed(self, tmp_path):
        with (
            plain_reader(io.BytesIO(gzip.compress(b"")), "gz") as plain,
            IndexWriter(tmp_path / "i") as index,
        ):
            assert delimited.read(plain, POSTS, "posts.csv.gz", index) == Facts()

    def test_a_row_that_is_too_long_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(text, "MAX_RECORD_BYTES", 1000)
        monkeypatch.setattr(text, "_BLOCK_BYTES", 100)

        with pytest.raises(ValueError, match=r"^posts\.csv: at byte 3 begins a record of over "):
            index_of(b'id\n"' + b"1\n" * 1000, Format("csv", columns=Columns("id")), tmp_path)

    def test_progress_is_told_in_bytes(self, tmp_path):
        content, told = b"id\n" + b"1234567\n" * 300_000, []
        with IndexWriter(tmp_path / "index") as writer:
            delimited.read(
                io.BytesIO(content), Format("csv", columns=Columns("id")), "a.csv", writer, told.append
            )

        assert len(content) - text._BLOCK_BYTES == sum(told)


class TestRewrite:
    CONTENT = (
        HEADER + b'here,1,"a, ""b""\nc",there,7\n'
        b',2,,"",8\r\n'
        b'"a,b",3,5" disk,,7\n'
        b"\n"
        b"bad,x,,,7\n"
        b',4,\xff,"x\r\ny",9'
    )

    def test_rows_go_and_the_others_stay_byte_for_byte(self, tmp_path):
        kept, apart, counts = rewritten(self.CONTENT, Known({4: REMOVE, 2: REMOVE}), tmp_path)

        assert kept == HEADER + b'here,1,"a, ""b""\nc",there,7\n"a,b",3,5" disk,,7\n\nbad,x,,,7\n'
        assert apart == b""
        assert (counts.removed, counts.kinds) == (2, {"delete/deleted": 2})

    def test_rows_by_a_user_go_but_for_bad_ones(self, tmp_path):
        kept, _, counts = rewritten(self.CONTENT, Known(users={7: REMOVE}), tmp_path)

        assert kept == HEADER + b',2,,"",8\r\n\nbad,x,,,7\n,4,\xff,"x\r\ny",9'
        assert counts.removed == 2

    @pytest.mark.parametrize("block", [1, 2, 3, 4, 9, 1 << 20])
    def test_rows_to_be_fetched_again_go_to_a_file_with_the_same_names(self, block, tmp_path, monkeypatch):
        monkeypatch.setattr(text, "_BLOCK_BYTES", block)
        bom = b"\xef\xbb\xbf"
        kept, apart, counts = rewritten(bom + self.CONTENT, Known({2: FETCH, 3: FETCH, 4: FETCH}), tmp_path)

        assert kept == bom + HEADER + b'here,1,"a, ""b""\nc",there,7\n\nbad,x,,,7\n'
        assert apart == bom + HEADER + b',2,,"",8\r\n"a,b",3,5" disk,,7\n,4,\xff,"x\r\ny",9'
        assert (counts.quarantined, counts.removed, counts.kinds) == (3, 0, {"rehydrate/tweet_edited": 3})

    def test_there_they_lack_the_location_that_goes(self, tmp_path):
        _, apart, counts = rewritten(self.CONTENT, Known({3: FETCH}, {7: SCRUB}), tmp_path)

        assert apart == HEADER + b',3,5" disk,,7\n'
        assert (counts.quarantined, counts.scrubbed) == (1, 1)
        assert counts.kinds == {"rehydrate/tweet_edited": 1, "scrub_geo/geo_scrubbed": 2}

    def test_without_quarantine_they_stay(self, tmp_path):
        kept, _, counts = rewritten(self.CONTENT, Known({2: FETCH}), tmp_path, quarantine=False)

        assert (kept, counts.quarantined) == (self.CONTENT, 0)

    def test_locations_are_emptied_and_nothing_else_of_the_row_changes(self, tmp_path):
        known = Known({1: SCRUB, 2: SCRUB, 4: SCRUB})
        kept, _, counts = rewritten(self.CONTENT, known, tmp_path)

        assert kept == (
            HEADER + b',1,"a, ""b""\nc",,7\n,2,,"",8\r\n"a,b",3,5" disk,,7\n\nbad,x,,,7\n,4,\xff,,9'
        )
        assert (counts.scrubbed, counts.kinds) == (2, {"scrub_geo/geo_scrubbed": 2})

    def test_rows_of_users(self, tmp_path):
        content = b"place,id\nhere,1\nthere,2\n"

        kept, _, _ = rewritten(content, Known({1: REMOVE}, {1: SCRUB, 2: REMOVE}), tmp_path, USERS)

        assert kept == b"place,id\n,1\n"

    def test_tabs(self, tmp_path):
        fmt = Format("tsv", columns=Columns("id", geo=("place",)))

        kept, _, _ = rewritten(b'id\tplace\n1\t"a\tb"\n2\tc,d\n', Known({1: SCRUB}), tmp_path, fmt)

        assert kept == b"id\tplace\n1\t\n2\tc,d\n"

    def test_all_rows_may_go(self, tmp_path):
        kept, _, _ = rewritten(
            b"id\n1\n2", Known({1: REMOVE, 2: REMOVE}), tmp_path, Format("csv", columns=Columns("id"))
        )

        assert kept == b"id\n"

    def test_doing_it_again_changes_nothing(self, tmp_path):
        known = Known({1: SCRUB, 2: REMOVE, 3: FETCH}, {9: SCRUB})
        once, _, _ = rewritten(self.CONTENT, known, tmp_path)

        again, apart, counts = rewritten(once, known, tmp_path)

        assert (again, apart, counts) == (once, b"", type(counts)())

    @pytest.mark.parametrize("place", [-1, 0, 3, 26, 27, 58, 72, len(CONTENT) - 3, len(CONTENT), 10_000])
    @pytest.mark.parametrize("block", [5, 1 << 20])
    def test_an_index_of_another_file_is_refused(self, place, block, monkeypatch):
        monkeypatch.setattr(text, "_BLOCK_BYTES", block)
        starts = [26, 54, 66, 87]
        if place in starts:
            place += 1

        with pytest.raises(BadIndexError, match=r"^posts\.csv: the index is not of this file"):
            delimited.rewrite(
                io.BytesIO(self.CONTENT), io.BytesIO(), POSTS, "posts.csv", np.array([place]), Known()
            )


def obvious_rows(content: bytes, comma: str) -> list[tuple[int, bytes, list[bytes] | None]]:
    """Offset, bytes and values of each row, as the csv module has them; None for a malformed one."""
    lines = content.decode("latin-1").split("\n")
    lines = [line + "\n" for line in lines[:-1]] + [line for line in lines[-1:] if line]
    rows, at = [], 0
    taken: list[str] = []

    def feed():
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(feed(), delimiter=comma, strict=True)
    while True:
        try:
            values = [value.encode("latin-1") for value in next(reader)]
        except StopIteration:
            return rows
        except csv.Error:
            values = None
        raw = "".join(taken).encode("latin-1")
        taken.clear()
        rows.append((at, raw, values))
        at += len(raw)


pieces = st.sampled_from(
    [
        b",",
        b",",
        b"\t",
        b"\n",
        b"\n",
        b"\r\n",
        b'"',
        b'""',
        b"\r",
        b"1",
        b"12",
        b"9223372036854775807",
        b"9223372036854775808",
        b"a",
        b" ",
        b"\xc3\xa9",
        b"\xff",
        b"\x00",
        b'"3"',
        b'"4,\n5"',
        b",6,7",
        b"1.2E+18",
    ]
)
contents = st.lists(pieces, max_size=40).map(b"".join)
regular = st.lists(
    st.tuples(
        st.sampled_from([b"here", b'"a, b"', b"", b'""', b'"x""y"']),
        st.sampled_from([b"1", b"2", b'"3"', b"x", b"", b"9223372036854775807"]),
        st.sampled_from([b"text", b'"a\nb"', b'"a\r\n,b"', b'5" disk', b"\xff"]),
        st.sampled_from([b"there", b"", b'"p"']),
        st.sampled_from([b"1", b"4", b"", b'"5"']),
        st.sampled_from([b"\n", b"\r\n"]),
    ),
    max_size=15,
).map(lambda rows: b"".join(b",".join(row[:-1]) + row[-1] for row in rows))
decisions = st.sampled_from([REMOVE, FETCH, SCRUB])
some_ids = st.sampled_from([0, 1, 2, 3, 4, 5, 12, 112, LARGEST])
events = st.dictionaries(some_ids, decisions, max_size=5)


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@pytest.mark.parametrize("block", [1, 17, 1 << 20])
@settings(deadline=None)
@given(rows=st.one_of(contents, regular), cut=st.integers(0, 3), known=st.builds(Known, events, events))
@example(rows=b'here,1,"', cut=0, known=Known())
@example(rows=b'a,1,b,c,"2"\r\r\n', cut=0, known=Known())
@example(rows=b'a,1,b"",c,"2"\n', cut=1, known=Known())
def test_what_is_read_and_kept_is_what_the_csv_module_reads(kind, block, rows, cut, known, tmp_path_factory):
    comma = "," if kind == "csv" else "\t"
    fmt = Format(kind, columns=POSTS.columns)
    content = (HEADER + rows)[: len(HEADER + rows) - cut if cut < len(rows) else None]
    if kind == "tsv":
        content = content.replace(b",", b"\t")
    header, *others = obvious_rows(content, comma)
    names = [name.decode() for name in header[2]]
    posts, users, bad, authorless = set(), set(), [], 0
    kept, apart = [header[1]], []
    for at, raw, values in others:
        if values == []:
            kept.append(raw)
            continue
        row = dict(zip(names, values or [], strict=False))
        if len(values or []) != len(names) or not is_id(row["id"]):
            bad.append(content.count(b"\n", 0, at) + 1)
            kept.append(raw)
            continue
        author = int(row["author"]) if is_id(row["author"]) else None
        posts.add(int(row["id"]))
        users |= {author} - {None}
        authorless += author is None
        effects = {known.of_post(int(row["id"])).effect} | (
            {known.of_user(author).effect} - {Effect.FETCH_AGAIN}
        )
        if Effect.REMOVE in effects:
            continue
        (apart if Effect.FETCH_AGAIN in effects else kept).append(
            (raw, values) if Effect.SCRUB_LOCATION in effects else raw
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK_BYTES", block)
        directory = tmp_path_factory.mktemp("index")
        facts, index = index_of(content, fmt, directory)
        new, quarantined, _ = rewritten(content, known, directory, fmt)

    assert (set(found(index, "tweets")), set(found(index, "users"))) == (posts, users)
    assert (facts.bad, facts.authorless, facts.bytes) == (len(bad), authorless, len(content))
    assert [int(line.split(":")[1]) for line in facts.bad_lines] == bad[:10]
    same(new, kept, names, comma)
    same(quarantined, [header[1], *apart] if apart else [], names, comma)


def same(content: bytes, expected: list, names: list[str], comma: str) -> None:
    """Compare rows byte for byte; those that lost a location, value for value."""
    at = 0
    for row in expected:
        if isinstance(row, bytes):
            assert content[at : at + len(row)] == row
            at += len(row)
        else:
            raw, values = row
            emptied = [
                b"" if name in ("geo", "place") else value for name, value in zip(names, values, strict=True)
            ]
            _, new, read = obvious_rows(content[at:], comma)[0]
            assert read == emptied
            assert len(new) <= len(raw)
            at += len(new)
    assert at == len(content)
