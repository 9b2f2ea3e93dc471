from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive import rotation
from airflow_provider_xcompliance.archive.ids import MAX_ID
from airflow_provider_xcompliance.archive.rotation import MAX_IDS, IdRange

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def id_range(first: int, *, ids: int = 0, seen: int = 0, checked: int | None = None) -> IdRange:
    """A range that was seen, and checked, so many nights ago."""
    return IdRange(
        first=first,
        last=0,
        ids=ids,
        seen_at=NOW - timedelta(days=max(seen, checked or 0)),
        checked_at=None if checked is None else NOW - timedelta(days=checked),
        written="digest",
    )


def cut(ranges, ids, max_ids=10) -> list[tuple[int, list[int]]]:
    return [(each.first, sizes) for each, sizes in rotation.recut(ranges, ids, max_ids)]


def test_a_full_file_and_a_thousand_control_ids_fit_into_a_job():
    assert (MAX_IDS + 1000) * 20 <= 128_000_000


class TestRecut:
    @pytest.mark.parametrize(
        ("ids", "cut_into"),
        [
            ([0], []),
            ([7], [(0, [7])]),
            ([10], [(0, [10])]),
            ([25], [(0, [10, 10, 5])]),
        ],
    )
    def test_on_the_first_night_files_are_filled_in_order(self, ids, cut_into):
        assert cut([rotation.nothing_known(NOW)], ids) == cut_into

    def test_new_ids_at_the_end_leave_full_ranges_as_they_are(self):
        assert cut([id_range(0), id_range(100)], [10, 14]) == [(0, [10]), (100, [10, 4])]

    def test_a_range_that_overflows_in_the_middle_is_cut_in_equal_parts(self):
        assert cut([id_range(0), id_range(100)], [11, 8]) == [(0, [6, 5]), (100, [8])]

    def test_small_neighbours_are_put_together_and_count_as_checked_when_the_older_one_was(self):
        ((joined, sizes),) = rotation.recut(
            [id_range(0, checked=3), id_range(100, checked=9)], [2, 3], max_ids=10
        )

        assert (joined.first, sizes, joined.checked_at) == (0, [5], NOW - timedelta(days=9))
        assert joined.written == ""

    def test_a_range_without_ids_is_left_to_its_neighbours(self):
        ranges = [id_range(0), id_range(100), id_range(200)]

        assert cut(ranges, [8, 0, 9]) == [(0, [8]), (200, [9])]
        assert cut(ranges, [0, 8, 9]) == [(0, [8]), (200, [9])]

    @given(st.lists(st.integers(0, 60), min_size=1, max_size=20), st.integers(1, 30))
    def test_every_id_is_in_one_range_and_none_is_too_large(self, ids, max_ids):
        ranges = [id_range(100 * number) for number in range(len(ids))]

        pieces = [size for _, sizes in rotation.recut(ranges, ids, max_ids) for size in sizes]

        assert sum(pieces) == sum(ids)
        assert all(0 < size <= max_ids for size in pieces)


class TestDue:
    def test_what_was_unchecked_for_longest_comes_first(self):
        ranges = [
            id_range(1, checked=1),
            id_range(2, checked=5),
            id_range(3, seen=3),
            id_range(4, seen=9, checked=2),
        ]

        assert [each.first for each in rotation.due(ranges, None)] == [2, 3, 4, 1]
        assert [each.first for each in rotation.due(ranges, 2)] == [2, 3]

    @given(st.integers(1, 12), st.integers(1, 5))
    def test_nothing_is_unchecked_for_longer_than_a_round_takes(self, number, max_jobs):
        ranges = [id_range(first) for first in range(number)]
        nights = -(-number // max_jobs)
        for night in range(1, 3 * nights + 1):
            now = NOW + timedelta(days=night)
            checked = {each.first for each in rotation.due(ranges, max_jobs)}
            ranges = [replace(each, checked_at=now) if each.first in checked else each for each in ranges]
            assert rotation.oldest_check_age(ranges, now) <= timedelta(days=nights)


class TestChecks:
    def test_a_check_counts_for_exactly_the_range_that_was_checked(self):
        ranges = rotation.closed([id_range(0, seen=9), id_range(100, seen=9)])

        checked = list(
            rotation.with_checks(ranges, {(0, 99): NOW, (0, 50): NOW, (100, 200): NOW, (7, 8): NOW})
        )

        assert [each.checked_at for each in checked] == [NOW, None]

    def test_an_older_check_does_not_take_back_a_newer_one(self):
        (each,) = rotation.closed([id_range(0, checked=1)])

        (checked,) = rotation.with_checks([each], {(0, MAX_ID): NOW - timedelta(days=4)})

        assert checked.checked_at == NOW - timedelta(days=1)

    def test_ranges_cover_all_ids(self):
        ranges = rotation.closed([id_range(0), id_range(100), id_range(200)])

        assert [(each.first, each.last) for each in ranges] == [(0, 99), (100, 199), (200, MAX_ID)]
