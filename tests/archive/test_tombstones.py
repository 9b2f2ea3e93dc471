import io
from datetime import UTC, datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive.tombstones import (
    Occasion,
    lines_of_tombstones,
    read_tombstones,
    renewed,
)

MONDAY = datetime(2026, 3, 2, 4, 5, 6, tzinfo=UTC)
TUESDAY = datetime(2026, 3, 3, tzinfo=UTC)

IDS = st.frozensets(st.integers(1, 2**63 - 1), max_size=50)


def tombstones(**ids) -> dict:
    """Tombstones of Monday, by the reason."""
    return {Occasion("delete", reason, MONDAY): np.array(sorted(some)) for reason, some in ids.items()}


def told(found) -> dict:
    return {(each.reason, each.at): ids.tolist() for each, ids in found.items()}


def test_they_are_written_as_events_are():
    (lines,) = lines_of_tombstones(tombstones(deleted=[2**63 - 1]))

    assert lines == (
        b'{"id":"9223372036854775807","action":"delete","reason":"deleted",'
        b'"redacted_at":"2026-03-02T04:05:06Z"}\n'
    )


@given(IDS, IDS)
def test_what_was_written_is_read_again(deleted, suspended):
    given = {
        occasion: ids
        for occasion, ids in tombstones(deleted=deleted, suspended=suspended - deleted).items()
        if len(ids)
    }

    lines = b"".join(lines_of_tombstones(given))

    assert told(read_tombstones(io.BytesIO(lines), "tombstones")) == told(given)


class TestRenewal:
    def test_what_is_said_now_takes_the_place_of_what_was_said_earlier(self):
        said = {Occasion("delete", "deleted", TUESDAY): np.array([2])}

        after = renewed(tombstones(suspended=[1, 2]), said, [])

        assert told(after) == {("suspended", MONDAY): [1], ("deleted", TUESDAY): [2]}

    def test_those_that_may_pass_end_when_a_later_check_is_clean(self):
        before = tombstones(suspended=[1, 2], protected=[3], deactivated=[4], deleted=[5], scrub_geo=[6])

        after = renewed(before, {}, [np.array([1, 3]), np.array([4, 5, 6])])

        assert told(after) == {
            ("suspended", MONDAY): [2],
            ("deleted", MONDAY): [5],
            ("scrub_geo", MONDAY): [6],
        }

    def test_the_same_night_twice_is_the_same_as_once(self):
        said = {Occasion("delete", "suspended", TUESDAY): np.array([1, 7])}
        checked = [np.array([1, 2, 7])]

        once = renewed(tombstones(suspended=[1, 2]), said, checked)

        assert told(renewed(once, said, checked)) == told(once) == {("suspended", TUESDAY): [1, 7]}
