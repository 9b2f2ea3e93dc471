import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive import id_lists, text
from airflow_provider_xcompliance.archive.formats import Format
from airflow_provider_xcompliance.archive.ids import is_id
from airflow_provider_xcompliance.archive.index import BadIndexError, FileIndex, IndexWriter
from tests.archive.known import FETCH, REMOVE, SCRUB, Known

TWEETS = Format("ids", shape="tweet_ids")
USERS = Format("ids", shape="user_ids")
CONTENT = b"\xef\xbb\xbf1\r\n 22 \n\nx\n9223372036854775807\n\t3\r\n1"


def index_of(content: bytes, fmt: Format, directory):
    with IndexWriter(directory / "index") as writer:
        facts = id_lists.read(io.BytesIO(content), fmt, "ids.txt", writer)
    return facts, FileIndex(directory / "index")


def rewritten(content: bytes, known: Known, directory, fmt=TWEETS):
    _, index = index_of(content, fmt, directory)
    sink, apart = io.BytesIO(), io.BytesIO()
    counts = id_lists.rewrite(io.BytesIO(content), sink, fmt, "ids.txt", index.hits(known), known, apart)
    assert apart.getvalue() == b""
    return sink.getvalue(), counts


def found(index: FileIndex, job_type) -> list[int]:
    return [number for ids in index.ids(job_type) for number in ids.tolist()]


def test_ids_are_found_whatever_stands_around_them(tmp_path):
    facts, index = index_of(CONTENT, TWEETS, tmp_path)

    assert found(index, "tweets") == [1, 3, 22, 2**63 - 1]
    assert found(index, "users") == []
    assert (facts.records, facts.authorless, facts.bytes) == (5, 5, len(CONTENT))
    assert (facts.bad, facts.bad_lines) == (1, ["ids.txt:4: no id"])


def test_ids_of_users_are_users(tmp_path):
    facts, index = index_of(CONTENT, USERS, tmp_path)

    assert (found(index, "tweets"), found(index, "users")) == ([], [1, 3, 22, 2**63 - 1])
    assert facts.authorless == 0


@pytest.mark.parametrize("fmt", [TWEETS, USERS])
def test_lines_of_removed_ids_go(fmt, tmp_path):
    removed = {1: REMOVE, 22: REMOVE}
    known = Known(posts=removed) if fmt is TWEETS else Known(users=removed)

    kept, counts = rewritten(CONTENT, known, tmp_path, fmt)

    assert kept == b"\nx\n9223372036854775807\n\t3\r\n"
    assert (counts.removed, counts.kinds) == (3, {"delete/deleted": 3})


def test_nothing_else_is_done(tmp_path):
    kept, counts = rewritten(CONTENT, Known({1: FETCH, 22: SCRUB}), tmp_path)

    assert (kept, counts) == (CONTENT, type(counts)())


def test_ten_bad_lines_are_told_and_all_counted(tmp_path):
    facts, _ = index_of(b"1\n" + b"x\n" * 30, TWEETS, tmp_path)

    assert (facts.bad, facts.bad_lines) == (30, [f"ids.txt:{line}: no id" for line in range(2, 12)])


@pytest.mark.parametrize("place", [-1, 1, 7, 11, 12, 42, 1000])
def test_an_index_of_another_file_is_refused(place):
    with pytest.raises(BadIndexError, match=r"^ids\.txt: the index is not of this file"):
        id_lists.rewrite(io.BytesIO(CONTENT), io.BytesIO(), TWEETS, "ids.txt", np.array([place]), Known({}))


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@settings(deadline=None)
@given(
    lines=st.lists(
        st.one_of(
            st.integers(0, 2**64).map(lambda number: b"%d" % number),
            st.sampled_from(
                [b"1", b"2", b"12", b" 3", b"3\t\r", b"", b"\r", b"007", b"0", b"x", b"\xff", b"1\r2"]
            ),
        )
    ),
    last=st.booleans(),
    gone=st.sets(st.sampled_from([1, 2, 3, 12, 0])),
)
def test_what_is_kept_is_byte_for_byte_what_has_no_event(block, lines, last, gone, tmp_path_factory):
    lines = [line + b"\n" for line in lines]
    if lines and last:
        lines[-1] = lines[-1].removesuffix(b"\n")
    ids = [line.strip(b" \t\r\n") for line in lines]
    good = [int(line) for line in ids if is_id(line)]
    expected = [
        line for line, bare in zip(lines, ids, strict=True) if not is_id(bare) or int(bare) not in gone
    ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK_BYTES", block)
        directory = tmp_path_factory.mktemp("index")
        facts, index = index_of(b"".join(lines), TWEETS, directory)
        kept, _ = rewritten(b"".join(lines), Known(dict.fromkeys(gone, REMOVE)), directory)

    assert sorted(set(good)) == sorted(set(found(index, "tweets")))
    assert (facts.records, facts.bad) == (len(good), sum(bool(line) and not is_id(line) for line in ids))
    assert kept == b"".join(expected)
