from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive.events import parse_policy
from airflow_provider_xcompliance.archive.guards import Limits, Result, judge, plan_of

DELETED, SUSPENDED = ("delete", "deleted"), ("delete", "suspended")
OLD_SCRUB, SCRUB = ("delete", "scrub_geo"), ("scrub_geo", "geo_scrubbed")
EDITED = ("rehydrate", "tweet_edited")

GOOD = Result(
    name="tweets.ndjson",
    job_id="1",
    job_type="tweets",
    submitted=1_000,
    kinds={DELETED: 40, EDITED: 3},
    errors=2,
    controls=frozenset(),
    repeated=0,
    unverified_length=False,
)
USERS = replace(GOOD, name="users.ndjson", job_id="2", job_type="users", submitted=100, kinds={SUSPENDED: 5})
EMPTY = replace(GOOD, kinds={}, errors=0)


def test_results_within_all_limits_are_a_go() -> None:
    assert judge([GOOD, USERS], Limits()) == []


#: What is wrong, with which limits, and the words of the one objection.
NO_GO = {
    "nothing was checked": ([], Limits(), "there is no result to judge"),
    "too large a share is removed": (
        [replace(GOOD, kinds={DELETED: 30, SUSPENDED: 21})],
        Limits(),
        "tweets: 51 removals of 1,000 ids are 5.1000%, more than max_removal_ratio=0.05",
    ),
    "too many are removed": ([GOOD], Limits(max_removals=39), "40 removals are more than max_removals=39"),
    "too many of all together": ([GOOD, USERS], Limits(max_removals=44), "45 removals are more than"),
    "many users hide behind many posts": (
        [replace(GOOD, submitted=1_000_000), replace(USERS, kinds={SUSPENDED: 6})],
        Limits(),
        "users: 6 removals of 100 ids",
    ),
    "all posts are edited": (
        [replace(GOOD, kinds={EDITED: 1_000})],
        Limits(max_removals=0),
        "tweets: 1,000 records to fetch again and 0 locations to remove, of 1,000 ids, are 100.0000%, more "
        "than max_change_ratio=0.05",
    ),
    "all locations go": ([replace(GOOD, kinds={OLD_SCRUB: 1_000})], Limits(max_removals=0), "are 100.0000%"),
    "edits and locations together": (
        [replace(GOOD, kinds={EDITED: 20, OLD_SCRUB: 20, SCRUB: 11})],
        Limits(),
        "tweets: 20 records to fetch again and 31 locations to remove, of 1,000 ids, are 5.1000%",
    ),
    "many profiles change behind many posts": (
        [replace(GOOD, submitted=1_000_000), replace(USERS, kinds={SCRUB: 6})],
        Limits(),
        "users: 0 records to fetch again and 6 locations to remove, of 100 ids",
    ),
    "users are to be fetched again": (
        [replace(USERS, kinds={EDITED: 1})],
        Limits(),
        "users.ndjson: users are to be fetched again ('rehydrate/tweet_edited'), which X says of posts "
        "alone; say in policy= what is done about it: remove, scrub or keep",
    ),
    "users are to be fetched again for an accepted reason": (
        [replace(USERS, kinds={("rehydrate", "x"): 1})],
        Limits(allow_unknown=frozenset({"rehydrate/x"})),
        "users are to be fetched again ('rehydrate/x')",
    ),
    "too many ids were not checked": (
        [replace(GOOD, errors=51)],
        Limits(),
        "tweets: X could not read 51 of 1,000 ids",
    ),
    "too few events": ([GOOD, USERS], Limits(min_events=49), "48 events are fewer than min_events=49"),
    "no event for a million ids": (
        [replace(EMPTY, submitted=1_000_000), USERS],
        Limits(),
        "tweets.ndjson: no event at all for 1,000,000 ids",
    ),
    "no event for a million ids, though some were asked for and are elsewhere": (
        [replace(EMPTY, submitted=1_000_000), USERS],
        Limits(min_events=1),
        "tweets.ndjson: no event at all",
    ),
    "no event for a million ids in small parts": (
        [replace(EMPTY, submitted=500_000), replace(EMPTY, submitted=500_000, job_id="3")],
        Limits(),
        "tweets: no event at all for 1,000,000 ids",
    ),
    "not compared with the ids": (
        [replace(GOOD, submitted=None, repeated=None)],
        Limits(),
        "tweets.ndjson: it was not compared with the ids that were submitted; download it again",
    ),
    "repetition not looked at": ([replace(GOOD, repeated=None)], Limits(), "does not tell of repeated ids"),
    "ids with several events": ([replace(GOOD, repeated=1)], Limits(), "1 ids have several events"),
    "an open end": ([replace(GOOD, unverified_length=True)], Limits(), "nothing proves that its end"),
    "no control ids": (
        [GOOD],
        Limits(control_ids={"tweets": frozenset({"7", "8"})}),
        "tweets.ndjson: 2 control ids were not submitted with it as such ('7', '8')",
    ),
    "a control id is missing": (
        [replace(GOOD, controls=frozenset({"7"}))],
        Limits(control_ids={"tweets": frozenset({"7", "8"})}),
        "1 control ids were not submitted with it as such ('8')",
    ),
    "an unknown reason": (
        [replace(GOOD, kinds={("delete", "eaten"): 2})],
        Limits(),
        "2 events are of kinds that this version does not know ('delete/eaten')",
    ),
    "an unknown action beside one that is accepted": (
        [replace(GOOD, kinds={("freeze", "cold"): 1, ("delete", "eaten"): 2})],
        Limits(allow_unknown=frozenset({"delete/eaten"})),
        "1 events are of kinds that this version does not know ('freeze/cold')",
    ),
    "unknown kinds that try to break the line": (
        [replace(GOOD, kinds={("freeze", "a\nb" + 100 * "c"): 1})],
        Limits(),
        "('freeze/a\\nb" + 70 * "c" + "')",
    ),
    "many unknown kinds": (
        [replace(GOOD, kinds={("freeze", str(number)): 1 for number in range(5)})],
        Limits(),
        "'freeze/2' and 2 more",
    ),
    "a result given twice": (
        [GOOD, replace(GOOD, name="copy.ndjson")],
        Limits(),
        "job 1: its result was given 2 times ('tweets.ndjson', 'copy.ndjson'); give each once",
    ),
}


@pytest.mark.parametrize(("results", "limits", "words"), NO_GO.values(), ids=NO_GO)
def test_it_is_a_no_go_for_one_reason(results: list[Result], limits: Limits, words: str) -> None:
    (objection,) = judge(results, limits)

    assert words in objection
    assert "\n" not in objection


#: What would be a no go, with limits by which it is none.
GO = {
    "a first run": ([replace(GOOD, kinds={DELETED: 1_000})], Limits(max_removal_ratio=None)),
    "exactly the share": ([replace(GOOD, kinds={DELETED: 50})], Limits()),
    "exactly the number": ([GOOD], Limits(max_removals=40)),
    "exactly the errors": ([replace(GOOD, errors=50)], Limits()),
    "any errors": ([replace(GOOD, errors=1_000)], Limits(max_error_ratio=None)),
    "exactly the fewest events": ([GOOD], Limits(min_events=43)),
    "no event for fewer ids": ([replace(EMPTY, submitted=999_999)], Limits()),
    "no event, as was said": ([replace(EMPTY, submitted=1_000_000)], Limits(min_events=0)),
    "scrubs are no removals": (
        [replace(GOOD, kinds={OLD_SCRUB: 400, SCRUB: 400})],
        Limits(max_removal_ratio=0, max_removals=0, max_change_ratio=0.8),
    ),
    "edits are no removals": (
        [replace(GOOD, kinds={EDITED: 400})],
        Limits(max_removal_ratio=0, max_removals=0, max_change_ratio=None),
    ),
    "removals are no changes": ([GOOD], Limits(max_change_ratio=0.003)),
    "exactly the share of changes": ([replace(GOOD, kinds={EDITED: 25, SCRUB: 25})], Limits()),
    "an accepted repetition": ([replace(GOOD, repeated=1)], Limits(allow_repeated=True)),
    "repetition not looked at, and accepted": ([replace(GOOD, repeated=None)], Limits(allow_repeated=True)),
    "an accepted open end": (
        [replace(GOOD, unverified_length=True)],
        Limits(allow_unverified_length=True),
    ),
    "an open end with controls": (
        [replace(GOOD, unverified_length=True, controls=frozenset({"7"}))],
        Limits(),
    ),
    "controls of the other type": ([GOOD], Limits(control_ids={"users": frozenset({"7"})})),
    "controls that came back": (
        [replace(GOOD, controls=frozenset({"7", "9"}))],
        Limits(control_ids={"tweets": frozenset({"7"})}),
    ),
    "an accepted kind": (
        [replace(GOOD, kinds={("delete", "None"): 1})],
        Limits(allow_unknown=frozenset({"delete/None"})),
    ),
}


@pytest.mark.parametrize(("results", "limits"), GO.values(), ids=GO)
def test_it_is_a_go_within_the_limits(results: list[Result], limits: Limits) -> None:
    assert judge(results, limits) == []


def test_all_objections_are_told_at_once() -> None:
    bad = replace(GOOD, repeated=1, unverified_length=True, kinds={DELETED: 900, ("freeze", "cold"): 1})

    assert len(judge([bad, bad], Limits(max_removals=1))) == 9


def test_an_unknown_reason_counts_as_what_its_action_stands_for() -> None:
    kinds = {("delete", "eaten"): 60, ("rehydrate", "x"): 1, ("scrub_geo", "x"): 2, ("freeze", "x"): 4}
    result = replace(GOOD, kinds=kinds)
    accepted = Limits(allow_unknown=frozenset("/".join(kind) for kind in kinds))

    total = plan_of([result]).total

    assert (total.removals, total.fetches, total.scrubs, total.unknown) == (60, 1, 2, 67)
    assert judge([result], accepted) != []


class TestPolicy:
    @pytest.mark.parametrize(
        "kind", [DELETED, OLD_SCRUB, SCRUB, EDITED, ("delete", "eaten"), ("freeze", "cold")]
    )
    @pytest.mark.parametrize(
        ("choice", "removals", "fetches", "scrubs"),
        [("remove", 7, 0, 0), ("quarantine", 0, 7, 0), ("scrub", 0, 0, 7), ("keep", 0, 0, 0)],
    )
    def test_events_count_as_what_is_done_about_them(
        self, kind: tuple[str, str], choice: str, removals: int, fetches: int, scrubs: int
    ) -> None:
        policy = parse_policy({"/".join(kind): choice})

        plan = plan_of([replace(GOOD, kinds={kind: 7})], policy)

        for totals in (plan.total, plan.by_type["tweets"]):
            assert (totals.removals, totals.fetches, totals.scrubs) == (removals, fetches, scrubs)
            assert (totals.events, totals.unknown) == (7, 0)

    def test_kinds_that_it_does_not_name_count_as_ever(self) -> None:
        kinds = {DELETED: 5, OLD_SCRUB: 4, EDITED: 3, ("freeze", "cold"): 2}
        policy = parse_policy({"scrub_geo/geo_scrubbed": "remove", "freeze/hot": "keep"})

        results = [replace(GOOD, kinds=kinds)]

        assert plan_of(results, policy) == plan_of(results)
        assert judge(results, Limits(), policy) == judge(results, Limits()) != []

    @pytest.mark.parametrize(
        ("limits", "words"),
        [
            (Limits(), "tweets: 80 removals of 100 ids are 80.0000%, more than max_removal_ratio=0.05"),
            (Limits(max_removal_ratio=None, max_removals=79), "80 removals are more than max_removals=79"),
        ],
    )
    def test_what_it_removes_is_judged_as_removed(self, limits: Limits, words: str) -> None:
        results = [replace(GOOD, submitted=100, kinds={OLD_SCRUB: 80})]

        (objection,) = judge(results, limits, parse_policy({"delete/scrub_geo": "remove"}))

        assert not any("removals" in each for each in judge(results, limits))
        assert words in objection

    def test_what_it_keeps_is_not_judged_as_removed(self) -> None:
        results = [replace(GOOD, kinds={DELETED: 900})]

        assert judge(results, Limits(max_removals=0), parse_policy({"delete/deleted": "keep"})) == []

    @pytest.mark.parametrize("choice", ["remove", "scrub", "keep"])
    def test_what_it_says_of_users_that_are_to_be_fetched_again_is_done(self, choice: str) -> None:
        results = [replace(USERS, kinds={EDITED: 1})]

        assert judge(results, Limits()) != []
        assert judge(results, Limits(), parse_policy({"rehydrate/tweet_edited": choice})) == []

    def test_a_kind_that_it_names_needs_not_be_allowed(self) -> None:
        results = [replace(GOOD, kinds={("freeze", "cold"): 2, ("delete", "eaten"): 1, ("melt", "hot"): 1})]
        policy = parse_policy({"freeze/cold": "scrub", "delete/eaten": "keep"})

        (objection,) = judge(results, Limits(), policy)

        assert "1 events are of kinds that this version does not know ('melt/hot')" in objection
        assert judge(results, Limits(allow_unknown=frozenset({"melt/hot"})), policy) == []


def test_removals_of_no_ids_at_all_are_never_a_go() -> None:
    assert "tweets: 40 removals of 0 ids" in judge([replace(GOOD, submitted=0, errors=0)], Limits())[0]


@given(removed=st.integers(min_value=0, max_value=10**7), submitted=st.integers(min_value=1, max_value=10**7))
def test_a_share_that_is_written_down_is_met_exactly(removed: int, submitted: int) -> None:
    removed = min(removed, submitted)
    limits = Limits(max_removal_ratio=removed / submitted, min_events=0)

    assert judge([replace(EMPTY, submitted=submitted, kinds={DELETED: removed})], limits) == []
    assert judge([replace(EMPTY, submitted=submitted, kinds={DELETED: removed + 1})], limits) != []


@pytest.mark.parametrize("hundredths", range(101))
def test_hundredths_are_met_exactly(hundredths: int) -> None:
    limits = Limits(max_removal_ratio=float(f"{hundredths / 100:.2f}"))

    assert judge([replace(EMPTY, submitted=100, kinds={DELETED: hundredths})], limits) == []
    assert judge([replace(EMPTY, submitted=100, kinds={DELETED: hundredths + 1})], limits) != []


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_removal_ratio": float("nan")},
        {"max_removal_ratio": "nan"},
        {"max_removal_ratio": ""},
        {"max_removal_ratio": "None"},
        {"max_removal_ratio": 5},
        {"max_removal_ratio": -0.1},
        {"max_removals": -1},
        {"max_removals": 1.5},
        {"min_events": "few"},
        {"allow_repeated": "maybe"},
        {"allow_repeated": None},
        {"allow_unknown": "delete/eaten"},
        {"control_ids": {"tweets": "123"}},
        {"control_ids": {"posts": ["123"]}},
        {"max_removal": 1},
    ],
)
def test_a_limit_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Limits, strict=False)


class TestPlan:
    def test_it_adds_up_over_all_results_and_by_type(self) -> None:
        plan = plan_of([GOOD, USERS, replace(GOOD, kinds={OLD_SCRUB: 2, SCRUB: 1}, repeated=1)]).to_dict()

        assert plan == {
            "results": 3,
            "submitted": 2_100,
            "events": 51,
            "removals": 45,
            "scrubs": 3,
            "fetches": 3,
            "errors": 6,
            "unknown": 0,
            "repeated": 1,
            "removal_ratio": 45 / 2_100,
            "change_ratio": 6 / 2_100,
            "job_types": plan["job_types"],
        }
        assert plan["job_types"]["users"]["removal_ratio"] == 0.05
        assert [each["submitted"] for each in plan["job_types"].values()] == [2_000, 100]

    def test_it_is_shown_as_a_table(self) -> None:
        assert list(plan_of([replace(GOOD, submitted=1_000_000), USERS]).lines()) == [
            "job type  results  submitted  removals  share  location scrubs  re-fetch  errors  unknown"
            "  repeated",
            "tweets          1  1,000,000        40  0.00%                0         3       2        0"
            "         0",
            "users           1        100         5  5.00%                0         0       2        0"
            "         0",
            "all             2  1,000,100        45  0.00%                0         3       4        0"
            "         0",
        ]
