import io
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive import event_sets, sorted_ids
from airflow_provider_xcompliance.archive import events as events_module
from airflow_provider_xcompliance.archive.event_sets import EventSet
from airflow_provider_xcompliance.archive.events import Effect, InvalidEventsError, effect_of
from airflow_provider_xcompliance.archive.guards import JobType
from airflow_provider_xcompliance.archive.records import NO_DECISION, Decision
from airflow_provider_xcompliance.archive.tombstones import Occasion, lines_of_tombstones, renewed

LARGEST = 2**63 - 1


def result(*events: tuple[int, str, str | None]) -> io.BytesIO:
    return io.BytesIO(
        b"".join(
            msgspec.json.encode({"id": str(number), "action": action, "reason": reason}) + b"\n"
            for number, action, reason in events
        )
    )


def ids(*numbers: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.array(numbers, np.int64)


def test_posts_and_users_are_kept_apart() -> None:
    events = EventSet.build(
        [
            ("tweets", result((LARGEST, "delete", "deleted"), (0, "scrub_geo", "geo_scrubbed")), "posts"),
            ("users", result((7, "delete", "suspended")), "users"),
        ]
    )

    assert events.posts.tolist() == [0, LARGEST]
    assert events.users.tolist() == [7]
    assert events.of_post(LARGEST) == Decision(Effect.REMOVE, "delete/deleted")
    assert events.of_post(0) == Decision(Effect.SCRUB_LOCATION, "scrub_geo/geo_scrubbed")
    assert events.of_user(7) == Decision(Effect.REMOVE, "delete/suspended")
    assert events.of_post(7) is events.of_user(0) is events.of_user(LARGEST) is NO_DECISION


def test_without_results_nothing_is_done() -> None:
    events = EventSet.build([])

    assert len(events.posts) == len(events.users) == 0
    assert events.of_post(1) is NO_DECISION


def test_of_equally_strong_events_the_first_by_name_decides() -> None:
    kinds = ["suspended", "deactivated", "deleted"]
    events = EventSet.build([("tweets", result((1, "delete", reason)), "result") for reason in kinds])

    assert events.of_post(1).kind == "delete/deactivated"


FETCH, SCRUB = ("rehydrate", "tweet_edited"), ("scrub_geo", "geo_scrubbed")
FETCH_OF_TWO = Decision(Effect.FETCH_AGAIN, "rehydrate/tweet_edited", "scrub_geo/geo_scrubbed")


@pytest.mark.parametrize("kinds", [[FETCH, SCRUB], [SCRUB, FETCH], [SCRUB, FETCH, SCRUB, FETCH]])
@pytest.mark.parametrize("at_once", [1, 1000])
def test_a_post_to_be_fetched_again_still_has_to_lose_its_location(
    kinds: list[tuple[str, str]], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_sets, "_IDS_AT_ONCE", at_once)
    source = result((1, *FETCH), *((2, *kind) for kind in kinds), (3, *SCRUB))

    events = EventSet.build([("tweets", source, "result")])

    assert events.of_post(2) == FETCH_OF_TWO
    assert events.of_post(1).otherwise == events.of_post(3).otherwise == ""


def test_a_location_has_to_go_because_of_an_earlier_night_too() -> None:
    tombstones = {("tweets", Decision(Effect.SCRUB_LOCATION, "scrub_geo/geo_scrubbed")): ids(2)}

    events = EventSet.build([("tweets", result((2, *FETCH)), "result")], tombstones=tombstones)

    assert events.of_post(2) == FETCH_OF_TWO


def test_nothing_but_its_removal_is_kept_of_a_post_that_goes() -> None:
    events = EventSet.build(
        [("tweets", result((1, *FETCH), (1, *SCRUB), (1, "delete", "deleted")), "result")]
    )

    assert events.of_post(1) == Decision(Effect.REMOVE, "delete/deleted")


def test_each_event_is_told_with_all_its_ids() -> None:
    source = result((1, *FETCH), (2, *FETCH), (2, *SCRUB), (3, *SCRUB), (4, "delete", "deleted"), (4, *SCRUB))

    told = [*EventSet.build([("tweets", source, "result")]).decided("tweets")]

    assert {decision: numbers.tolist() for decision, numbers in told} == {
        Decision(Effect.FETCH_AGAIN, "rehydrate/tweet_edited"): [1, 2],
        Decision(Effect.SCRUB_LOCATION, "scrub_geo/geo_scrubbed"): [2, 3],
        Decision(Effect.REMOVE, "delete/deleted"): [4],
    }
    assert len(told) == 3


def test_tombstones_keep_both_events_of_a_post() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    events = EventSet.build([("tweets", result((2, *FETCH), (2, *SCRUB)), "result")])
    said = {
        Occasion(*decision.kind.split("/"), at): numbers for decision, numbers in events.decided("tweets")
    }

    lines = b"".join(lines_of_tombstones(renewed({Occasion(*SCRUB, at): ids(2)}, said, [ids(2)])))

    assert EventSet.build([("tweets", io.BytesIO(lines), "tombstones")]).of_post(2) == FETCH_OF_TWO


def test_what_could_not_be_read_is_no_event() -> None:
    source = io.BytesIO(b'{"id":"12","error":"invalid_id"}\n{"id":"x","error":"invalid_id"}\n')

    assert len(EventSet.build([("tweets", source, "result")]).posts) == 0


def test_a_policy_says_what_is_done_instead() -> None:
    source = result((1, "delete", "suspended"), (2, "freeze", "cold"), (3, "delete", "deleted"))
    policy = {"delete/suspended": Effect.NOTHING, "freeze/cold": Effect.FETCH_AGAIN}

    events = EventSet.build([("tweets", source, "result")], policy)

    assert events.posts.tolist() == [2, 3]
    assert events.of_post(1) is NO_DECISION
    assert events.of_post(2) == Decision(Effect.FETCH_AGAIN, "freeze/cold")
    assert events.unknown == {}


def test_what_nothing_is_known_to_do_about_is_counted() -> None:
    source = result(
        (1, "freeze", "cold"),
        (2, "freeze", "cold"),
        (3, "freeze", None),
        (4, "delete", "eaten"),
        (5, "a/b", "c"),
    )

    events = EventSet.build([("tweets", source, "result")])

    assert events.unknown == {"freeze/cold": 2, "freeze/None": 1, "a/b/c": 1}
    assert events.posts.tolist() == [4]


def test_an_action_is_not_known_because_its_first_part_is() -> None:
    assert len(EventSet.build([("tweets", result((1, "delete/x", "y")), "result")]).posts) == 0


def test_a_line_that_is_no_record_is_refused() -> None:
    with pytest.raises(InvalidEventsError, match=r"^part 2:1: "):
        EventSet.build(
            [
                ("tweets", result((1, "delete", "deleted")), "part 1"),
                ("tweets", io.BytesIO(b"<html>\n"), "part 2"),
            ]
        )


def test_tombstones_count_beside_the_events_of_the_night() -> None:
    tombstones: Mapping[tuple[JobType, Decision], np.ndarray[tuple[int], np.dtype[np.int64]]] = {
        ("tweets", Decision(Effect.REMOVE, "delete/deleted")): ids(9, 5, 9),
        ("users", Decision(Effect.REMOVE, "delete/protected")): ids(3),
    }
    source = result((5, "scrub_geo", "geo_scrubbed"), (6, "delete", "deleted"))

    events = EventSet.build([("tweets", source, "result")], tombstones=tombstones)

    assert events.posts.tolist() == [5, 6, 9]
    assert events.users.tolist() == [3]
    assert events.of_post(5) == Decision(Effect.REMOVE, "delete/deleted")
    assert tombstones["tweets", Decision(Effect.REMOVE, "delete/deleted")].tolist() == [9, 5, 9]


kinds = st.sampled_from(
    [
        ("delete", "deleted"),
        ("delete", "suspended"),
        ("delete", "scrub_geo"),
        ("delete", "eaten"),
        ("rehydrate", "tweet_edited"),
        ("rehydrate", "again"),
        ("scrub_geo", "geo_scrubbed"),
        ("scrub_geo", None),
        ("freeze", "cold"),
    ]
)
some_events = st.lists(
    st.tuples(
        st.one_of(
            st.integers(min_value=0, max_value=9), st.integers(min_value=LARGEST - 9, max_value=LARGEST)
        ),
        kinds,
    ),
    max_size=40,
)


@pytest.mark.parametrize("at_once", [1, 3, 1000])
@given(parts=st.lists(some_events, max_size=3))
def test_the_strongest_event_of_an_id_decides(
    at_once: int, parts: list[list[tuple[int, tuple[str, str | None]]]]
) -> None:
    sources = [result(*((number, *kind) for number, kind in part)) for part in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_sets, "_IDS_AT_ONCE", at_once)
        events = EventSet.build([("users", source, "result") for source in sources])

    expected: dict[int, list[Decision]] = {}
    unknown: Counter[str] = Counter()
    for number, (action, reason) in (each for part in parts for each in part):
        kind = f"{action}/{reason}"
        unknown[kind] += action == "freeze"
        if effect := effect_of(action, str(reason)):
            expected.setdefault(number, []).append(Decision(effect, kind))
    assert events.users.tolist() == sorted(expected)
    for number in {*expected, 0, 5, LARGEST}:
        found = expected.get(number, [NO_DECISION])
        strongest = min(found, key=lambda each: (-each.effect, each.kind))
        scrubs = [each.kind for each in found if each.effect == Effect.SCRUB_LOCATION]
        if strongest.effect == Effect.FETCH_AGAIN and scrubs:
            strongest = strongest._replace(otherwise=min(scrubs))
        assert events.of_user(number) == strongest
    assert events.unknown == +unknown


def test_an_event_takes_at_most_twenty_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(event_sets, "_IDS_AT_ONCE", 1 << 10)
    monkeypatch.setattr(sorted_ids, "_IDS_AT_ONCE", 1 << 10)
    number = 200_000
    kinds = [("delete", "deleted"), ("rehydrate", "tweet_edited"), ("scrub_geo", "geo_scrubbed")]
    source = result(*((each * 7_919_111_333 % 2**61, *kinds[each % 3]) for each in range(number)))
    tracemalloc.start()
    try:
        events = EventSet.build([("tweets", source, "result")])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(events.posts) == number
    assert peak < 20 * number + 200_000
