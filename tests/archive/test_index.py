import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from airflow_provider_xcompliance.archive import index
from airflow_provider_xcompliance.archive.index import (
    Entries,
    Facts,
    FileIndex,
    IndexWriter,
    InvalidIndexError,
)

Pairs = list[tuple[int, int]]
MAX_ID = 2**63 - 1


def entries(pairs: Pairs) -> Entries:
    ids, at = zip(*pairs, strict=True) if pairs else ((), ())
    return Entries(np.array(ids, np.int64), np.array(at, np.uint32))


def events(posts: list[int], users: list[int] | None = None) -> SimpleNamespace:
    return SimpleNamespace(posts=ids_of(posts), users=ids_of(users or []))


def ids_of(ids: list[int]) -> NDArray[np.int64]:
    return np.array(sorted(set(ids)), np.int64)


def write(path: Path, parts: list[tuple[int, Pairs, Pairs]], facts: Facts | None = None) -> FileIndex:
    with IndexWriter(path) as writer:
        for base, posts, users in parts:
            writer.add(entries(posts), entries(users), base)
        writer.finish(facts or Facts())
    return FileIndex(path)


def listed(found: FileIndex, job_type: str) -> list[list[int]]:
    return [ids.tolist() for ids in found.ids(job_type)]  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "posts.ndjson.index"


def test_it_tells_the_ids_of_each_kind_sorted_and_unique(path: Path) -> None:
    found = write(path, [(0, [(7, 0), (3, 50), (7, 100)], [(9, 0)]), (150, [(5, 0)], [])])

    assert listed(found, "tweets") == [[3, 5, 7]]
    assert listed(found, "users") == [[9]]


def test_it_tells_each_record_that_meets_an_event_once_and_in_order(path: Path) -> None:
    found = write(path, [(0, [(7, 0), (3, 50), (8, 50), (7, 100)], [(9, 0)]), (150, [(7, 20)], [(3, 20)])])

    assert found.hits(events([3, 7, 8])).tolist() == [0, 50, 100, 170]
    assert found.hits(events([3], [9])).tolist() == [0, 50]
    assert found.hits(events([9], [7])).tolist() == []


def test_it_keeps_what_reading_showed(path: Path) -> None:
    facts = Facts(records=3, bad=1, bad_lines=["posts.ndjson:2: no id"], authorless=2, bytes=2**40)

    assert write(path, [], facts).facts == facts


def test_ids_keep_all_of_their_64_bits(path: Path) -> None:
    found = write(path, [(0, [(0, 0), (MAX_ID, 10), (MAX_ID - 1, 20)], [])])

    assert listed(found, "tweets") == [[0, MAX_ID - 1, MAX_ID]]
    assert found.hits(events([MAX_ID])).tolist() == [10]


def test_positions_beyond_32_bits_are_told(path: Path) -> None:
    far = 5 * 2**40

    assert write(path, [(0, [(1, 0)], []), (far, [(2, 2**32 - 1)], [])]).hits(events([1, 2])).tolist() == [
        0,
        far + 2**32 - 1,
    ]


@pytest.mark.parametrize(("base", "at"), [(5, 0), (200, 2**32)])
def test_a_part_that_is_out_of_order_or_too_large_is_refused(path: Path, base: int, at: int) -> None:
    with IndexWriter(path) as writer:
        writer.add(entries([(1, 0)]), entries([]), 10)
        with pytest.raises(ValueError, match="out of order, or too large"):
            writer.add(Entries(np.array([2]), np.array([at])), entries([]), base)


class TestSegments:
    def test_small_parts_share_one_which_reaches_over_a_bounded_part_of_the_file(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(index, "SEGMENT_BYTES", 100)
        found = write(path, [(base, [(1000 - base, 0)], []) for base in range(0, 400, 30)])

        assert [len(ids) for ids in found.ids("tweets")] == [4, 4, 4, 2]
        assert found.hits(events([1000, 910, 880])).tolist() == [0, 90, 120]

    def test_they_hold_a_bounded_number_of_ids(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(index, "SEGMENT_IDS", 5)
        found = write(path, [(base, [(base, 0)], [(base, 0)]) for base in range(6)])

        assert listed(found, "users") == [[0, 1], [2, 3], [4, 5]]


id_numbers = st.integers(min_value=0, max_value=12) | st.integers(min_value=MAX_ID - 3, max_value=MAX_ID)
pairs = st.lists(st.tuples(id_numbers, st.integers(min_value=0, max_value=9)), max_size=12)


@given(
    parts=st.lists(st.tuples(pairs, pairs), max_size=8),
    posts=st.lists(id_numbers, max_size=20),
    users=st.lists(id_numbers, max_size=20),
    segment=st.integers(min_value=1, max_value=40),
)
def test_hits_and_ids_are_those_of_a_plain_search(
    parts: list[tuple[Pairs, Pairs]],
    posts: list[int],
    users: list[int],
    segment: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "SEGMENT_BYTES", segment)
        found = write(
            tmp_path_factory.mktemp("index") / "index",
            [(10 * number, *part) for number, part in enumerate(parts)],
        )

    held = [
        (10 * part + at, kind, number)
        for part, kinds in enumerate(parts)
        for kind in (0, 1)
        for number, at in kinds[kind]
    ]
    assert found.hits(events(posts, users)).tolist() == sorted(
        {at for at, kind, number in held if number in (posts, users)[kind]}
    )
    for kind, job_type in enumerate(("tweets", "users")):
        assert {number for ids in listed(found, job_type) for number in ids} == {
            number for _, of, number in held if of == kind
        }
        assert all(ids == sorted(set(ids)) for ids in listed(found, job_type))


class TestDamage:
    @pytest.fixture
    def whole(self, path: Path) -> bytes:
        write(path, [(0, [(7, 0), (3, 50)], [(9, 0)])], Facts(records=2, bytes=100))
        return path.read_bytes()

    @staticmethod
    def answers(path: Path) -> object:
        found = FileIndex(path)
        hits = found.hits(events([3], [9])).tolist()
        return found.facts, listed(found, "tweets"), listed(found, "users"), hits

    def test_a_flipped_bit_is_seen_or_is_of_no_account(self, path: Path, whole: bytes) -> None:
        expected, seen = self.answers(path), 0
        for place in range(len(whole)):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            path.write_bytes(damaged)
            try:
                assert self.answers(path) == expected, place
            except InvalidIndexError:
                seen += 1
        assert seen > len(whole) // 2

    def test_a_cut_anywhere_is_seen(self, path: Path, whole: bytes) -> None:
        for end in range(0, len(whole), 3):
            path.write_bytes(whole[:end])
            with pytest.raises(InvalidIndexError):
                FileIndex(path)

    def test_one_that_was_never_finished_is_none(self, path: Path) -> None:
        with IndexWriter(path) as writer:
            writer.add(entries([(1, 0)]), entries([]), 0)

        with pytest.raises(InvalidIndexError, match=re.escape("posts.ndjson.index: not a whole index")):
            FileIndex(path)

    def test_one_of_another_version_is_to_be_built_anew(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(index, "_VERSION", 0)
        write(path, [])
        monkeypatch.undo()

        with pytest.raises(InvalidIndexError, match="version 0"):
            FileIndex(path)

    def test_a_missing_one_is_no_damaged_one(self, path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            FileIndex(path)


def test_the_same_ids_make_the_same_bytes(path: Path) -> None:
    write(path, [(0, [(7, 0), (3, 50)], [(9, 0)])])
    first = path.read_bytes()
    write(path, [(0, [(7, 0), (3, 50)], [(9, 0)])])

    assert path.read_bytes() == first
