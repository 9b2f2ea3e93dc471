"""Which ids have events, and how a result is written."""

import json
import re
from collections import Counter

import pytest

from airflow_provider_xcompliance.emulator.results import MIXES, Rules, StoppedError, compute

IDS = [1_265_324_480_517_361_664 + number * 41_943 for number in range(10_000)]
TWEETS_DATE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
USERS_DATE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"


@pytest.fixture
def result(tmp_path):
    """Compute a result and return it raw."""

    def run(ids, flow="current", job_type="tweets", seed=0, event_rate=0.05, events=None):
        submission, target = tmp_path / "ids", tmp_path / "result"
        submission.write_bytes(b"".join(f"{line}\n".encode() for line in ids))
        rules = Rules(flow, job_type, seed=seed, event_rate=event_rate, events=events)
        compute(submission, target, rules, lambda: False)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["ids", "result"]
        return target.read_bytes()

    return run


def records(raw):
    return [json.loads(line) for line in raw.splitlines() if line]


class TestWhichIdsHaveEvents:
    @pytest.mark.parametrize("rate", [0, 0.01, 0.05, 0.5, 1])
    def test_about_the_share_asked_for(self, result, rate):
        assert len(records(result(IDS, event_rate=rate))) == pytest.approx(rate * len(IDS), rel=0.2)

    def test_the_same_id_and_seed_give_the_same_event_whatever_else_is_submitted(self, result):
        def events(ids, seed=1):
            return {record["id"]: record for record in records(result(ids, seed=seed))}

        whole = events(IDS)
        half = events(IDS[::2])
        assert half == {key: event for key, event in whole.items() if int(key) in set(IDS[::2])}
        assert set(events(IDS, seed=2)) != set(whole)

    @pytest.mark.parametrize(("flow", "job_type"), MIXES)
    def test_all_actions_and_reasons_of_the_contract_occur(self, result, flow, job_type):
        found = records(result(IDS, flow, job_type, event_rate=1))
        removals = {("delete", reason) for reason in ("deleted", "deactivated", "protected", "suspended")}
        expected = {
            ("current", "tweets"): removals | {("rehydrate", "tweet_edited"), ("scrub_geo", "geo_scrubbed")},
            ("current", "users"): removals | {("scrub_geo", "geo_scrubbed")},
            ("legacy", "tweets"): removals | {("delete", "scrub_geo"), ("delete", "bounced")},
            ("legacy", "users"): removals | {("delete", "scrub_geo")},
        }[flow, job_type]
        counts = Counter((record["action"], record["reason"]) for record in found)
        assert set(counts) == expected
        assert min(counts.values()) > len(IDS) / 20

    def test_given_events_are_used_as_they_stand(self, result):
        lines = [b'{"id": "5", "action":  "new"}', b'{"id": 5}', b'{"id": "6"}']
        events = {b"5": lines[:2], b"6": lines[2:]}
        raw = result([4, 5], events=events)
        assert sorted(filter(None, raw.splitlines())) == sorted(lines[:2])


class TestForm:
    def test_shards_are_parted_by_blank_lines_and_the_order_is_not_that_of_the_input(self, result):
        raw = result(IDS)
        assert raw.count(b"\n\n") == 3
        assert not raw.startswith(b"\n")
        ids = [int(record["id"]) for record in records(raw)]
        assert ids != sorted(ids)
        assert len(set(ids)) == len(ids)
        assert set(ids) < set(IDS)

    @pytest.mark.parametrize(("job_type", "shape"), [("tweets", TWEETS_DATE), ("users", USERS_DATE)])
    @pytest.mark.parametrize("ids", [IDS, range(10_000), range(10**9, 10**9 + 10_000)])
    def test_dates_have_the_shape_of_the_type(self, result, job_type, shape, ids):
        found = records(result(ids, job_type=job_type))
        assert all(re.fullmatch(shape, record["created_at"]) for record in found)
        redactions = Counter(type(record.get("redacted_at", ...)).__name__ for record in found)
        assert set(redactions) == {"str", "NoneType", "ellipsis"}

    def test_the_date_of_a_snowflake_is_its_own(self, result):
        (record,) = records(result([1212092628029698048], event_rate=1))
        assert record["created_at"] == "2019-12-31T19:26:16.771Z"

    def test_a_line_that_is_no_id_comes_back_as_an_error_in_the_current_flow(self, result):
        lines = ["x", "1 ", "-1", "1" * 20, "\N{ARABIC-INDIC DIGIT ONE}", ""]
        found = records(result(lines, event_rate=0))
        assert sorted(record["id"] for record in found) == sorted(lines[:-1])
        assert {record["error"] for record in found} == {"invalid_id"}
        assert result(lines, flow="legacy", event_rate=0) == b""

    def test_no_event_is_an_empty_result(self, result):
        assert result(IDS, event_rate=0) == b""


def test_a_computation_that_is_stopped_leaves_nothing(tmp_path):
    (tmp_path / "ids").write_bytes(b"1\n")
    rules = Rules("current", "tweets", seed=0, event_rate=1, events=None)
    with pytest.raises(StoppedError):
        compute(tmp_path / "ids", tmp_path / "result", rules, lambda: True)
    assert [path.name for path in tmp_path.iterdir()] == ["ids"]
