import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive import sorted_ids
from airflow_provider_xcompliance.archive.sorted_ids import (
    SortedIds,
    lines_of,
    numbers_of,
    unique_in_place,
)

EDGES = [0, 2**63 - 1, *(10**power + off for power in range(1, 19) for off in (-1, 0, 1))]
any_id = st.one_of(
    st.sampled_from(EDGES),
    st.integers(min_value=0, max_value=2**63 - 1),
    st.integers(min_value=0, max_value=30),
    st.integers(min_value=10**18, max_value=10**18 + 30),
)
some_ids = st.lists(any_id, max_size=60)


def text(ids: list[int]) -> bytes:
    return b"".join(b"%d\n" % number for number in ids)


@given(ids=some_ids)
def test_lines_become_their_numbers(ids: list[int]) -> None:
    assert numbers_of(text(ids)).tolist() == ids


@pytest.mark.parametrize("digits", range(1, 20))
def test_lines_of_one_length_become_their_numbers(digits: int) -> None:
    ids = [int("9123456789012345678"[:digits]) - number for number in range(8)]

    assert numbers_of(text(ids)).tolist() == ids


@given(ids=some_ids)
def test_numbers_become_their_lines(ids: list[int]) -> None:
    assert lines_of(np.array(ids, np.int64)) == text(ids)


def test_numbers_in_order_become_their_lines() -> None:
    ids = sorted([*EDGES, *range(2_000)])

    assert lines_of(np.array(ids, np.int64)) == text(ids)


def test_numbers_in_no_order_become_their_lines() -> None:
    ids = EDGES * 20

    assert lines_of(np.array(ids, np.int64)) == text(ids)


@pytest.mark.parametrize("at_once", [1, 2, 5, 1000])
@given(ids=some_ids)
def test_one_of_each_is_left_in_place(at_once: int, ids: list[int]) -> None:
    array = np.array(sorted(ids), np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_ids, "_IDS_AT_ONCE", at_once)
        left = unique_in_place(array)

    assert left.tolist() == sorted(set(ids))
    assert np.shares_memory(left, array) or not ids


@pytest.mark.parametrize(("in_run", "at_once"), [(1, 1), (3, 2), (7, 100), (1000, 4)])
@given(parts=st.lists(some_ids, max_size=5))
def test_ids_come_out_in_order_and_once_and_again(
    in_run: int, at_once: int, parts: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("runs")
    expected = sorted({number for part in parts for number in part})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_ids, "_IDS_IN_RUN", in_run)
        patch.setattr(sorted_ids, "_IDS_AT_ONCE", at_once)
        with SortedIds(directory) as ids:
            for part in parts:
                ids.add(np.array(part, np.int64))
            first, second = ([chunk.tolist() for chunk in ids] for _ in range(2))
            ids.add(np.array([5, 5, 2**62], np.int64))
            third = [chunk.tolist() for chunk in ids]

    assert sum(first, []) == sum(second, []) == expected  # noqa: RUF017 - short lists
    assert all(first)
    assert sum(third, []) == sorted({*expected, 5, 2**62})  # noqa: RUF017
    assert [*directory.iterdir()] == []


@pytest.mark.parametrize(("in_run", "at_once"), [(1, 1), (3, 2), (7, 100), (1000, 4)])
@given(parts=st.lists(some_ids, max_size=5))
def test_they_may_be_merged_again_and_again(
    in_run: int, at_once: int, parts: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("runs")
    expected: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_ids, "_IDS_IN_RUN", in_run)
        patch.setattr(sorted_ids, "_IDS_AT_ONCE", at_once)
        with SortedIds(directory) as ids:
            for part in parts:
                ids.add(np.array(part, np.int64))
                ids.merge()
                expected |= {*part}
                assert [number for chunk in ids for number in chunk.tolist()] == sorted(expected)
                assert len([*directory.iterdir()]) <= 1

    assert [*directory.iterdir()] == []


def test_two_may_go_through_them_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_ids, "_IDS_AT_ONCE", 4)
    with SortedIds(tmp_path) as ids:
        ids.add(np.arange(20)[::-1].copy())

        assert all(np.array_equal(one, other) for one, other in zip(ids, ids, strict=True))


def test_what_is_given_is_left_as_it_is(tmp_path: Path) -> None:
    given_ids = np.array([3, 1, 2, 1], np.int64)
    with SortedIds(tmp_path) as ids:
        ids.add(given_ids)
        list(ids)

    assert given_ids.tolist() == [3, 1, 2, 1]


def test_memory_does_not_grow_with_the_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_ids, "_IDS_IN_RUN", 20_000)
    monkeypatch.setattr(sorted_ids, "_IDS_AT_ONCE", 10_000)
    tracemalloc.start()
    try:
        with SortedIds(tmp_path) as ids:
            for first in range(50):
                ids.add(np.arange(first, 10**9, 100_003, dtype=np.int64))
            found = sum(map(len, ids))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert found == sum(len(range(first, 10**9, 100_003)) for first in range(50))
    # All of them take 4 MB.
    assert peak < 1e6
