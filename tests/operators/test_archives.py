import hashlib
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_provider_xcompliance.operators.archives import GuardEventsOperator
from airflow_provider_xcompliance.storage import StorageError

OLD_SCRUB, UNKNOWN = ("delete", "scrub_geo"), ("freeze", "cold")


def record(number: int, action: str = "delete", reason: str = "deleted") -> str:
    return json.dumps({"id": str(number), "action": action, "reason": reason}) + "\n"


@pytest.fixture
def land(tmp_path: Path):
    """Return a function that lands a result and gives its receipt."""

    def put(
        name: str = "tweets", numbers=range(5), kind=("delete", "deleted"), **changes: Any
    ) -> dict[str, Any]:
        action, reason = kind
        events = "".join(record(number, action, reason) for number in numbers).encode()
        path = tmp_path / f"{name}.ndjson"
        path.write_bytes(events)
        manifest = {
            "job_id": hashlib.sha256(name.encode()).hexdigest()[:8],
            "job_type": "tweets",
            "bytes": len(events),
            "sha256": hashlib.sha256(events).hexdigest(),
            "unverified_length": False,
            "actions": {action: {reason: len(numbers)}} if numbers else {},
            "errors": {},
            "repeated": 0,
            "submitted": {"ids": 100},
            "control_ids": [],
            "destination": str(path),
        } | changes
        Path(f"{path}.manifest.json").write_text(json.dumps(manifest))
        return manifest | {"manifest": f"{path}.manifest.json", "created": True}

    return put


def guard(events: Any, **limits: Any) -> dict[str, Any]:
    return GuardEventsOperator(task_id="guard", events=events, **limits).execute({})


def objections(events: Any, **limits: Any) -> list[str]:
    with pytest.raises(AirflowFailException) as caught:
        guard(events, **limits)
    first, _, rest = str(caught.value).partition("\n")
    assert first.startswith("No go, nothing may be applied:")
    return rest.splitlines() or [first]


def test_go_returns_the_plan(land):
    plan = guard([land(), [land("users", range(3), job_type="users")]])

    assert (plan["results"], plan["submitted"], plan["removals"]) == (2, 200, 8)
    assert plan["job_types"]["users"]["removal_ratio"] == 0.03
    assert json.loads(json.dumps(plan)) == plan


def test_the_plan_is_logged_whether_go_or_no_go(land, monkeypatch):
    log = Mock()
    monkeypatch.setattr(GuardEventsOperator, "log", log)

    guard(land())
    objections(land(), max_removals=1)

    logged = [call.args[0].split() for call in log.info.call_args_list]
    numbers = ["1", "100", "5", "5.00%", "0", "0", "0", "0", "0"]
    table = [logged[0], ["tweets", *numbers], ["all", *numbers]]
    assert logged == [*table, ["Go"], *table]


def test_no_go_tells_every_objection_on_a_line_of_its_own(land, tmp_path):
    (tmp_path / "bare.ndjson").write_text(record(1))
    first, second, third = objections([land(numbers=range(6)), str(tmp_path / "bare.ndjson")], max_removals=2)

    assert "bare.ndjson: it has no manifest" in first
    assert "tweets: 6 removals of 100 ids" in second
    assert "max_removals=2" in third


@pytest.mark.parametrize("events", [[], [[], []]])
def test_no_results_are_no_go(events):
    assert objections(events) == [
        "there is no result to judge; that nothing was checked does not mean that all is well"
    ]


@pytest.mark.parametrize("events", [None, "", [None], {"job_id": "1"}])
def test_a_task_that_returned_no_receipt_is_no_go(events):
    assert "neither a URI nor the receipt of a download" in objections(events)[0]


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"max_removal_ratio": 5}, "max_removal_ratio"),
        ({"max_removal_ratio": ""}, "max_removal_ratio: Expected `float | null`"),
        ({"max_change_ratio": "much"}, "max_change_ratio: Expected `float | null`"),
        ({"allow_repeated": "perhaps"}, "allow_repeated"),
        ({"control_ids": "123"}, "control_ids"),
        ({"control_ids": [123]}, "control_ids"),
        ({"allow_unknown": "delete/eaten"}, "allow_unknown"),
        ({"policy": {"delete/deleted": "destroy"}}, "policy"),
        ({"policy": {"deleted": "keep"}}, "policy"),
    ],
)
def test_a_limit_that_is_none_is_no_go_and_named(land, limits, name):
    assert name in objections(land(), **limits)[0]


@pytest.mark.parametrize("kind", [("rehydrate", "tweet_edited"), OLD_SCRUB])
def test_none_as_text_is_no_limit(land, kind):
    landed = [land(numbers=range(60)), land("changed", range(60), kind)]

    assert len(objections(landed)) == 2
    assert guard(landed, max_removal_ratio="None", max_change_ratio="None", max_removals="None")


class TestPolicy:
    def test_what_it_removes_counts_as_removed(self, land):
        policy = {"delete/scrub_geo": "remove"}
        landed = land(numbers=range(80), kind=OLD_SCRUB)

        assert guard(landed, max_change_ratio=None)["scrubs"] == 80
        (objection,) = objections(landed, policy=policy)
        assert "tweets: 80 removals of 100 ids" in objection
        plan = guard(landed, policy=policy, max_removal_ratio=None)
        assert (plan["removals"], plan["scrubs"], plan["removal_ratio"]) == (80, 0, 0.8)

    def test_a_kind_that_it_names_needs_not_be_allowed(self, land):
        landed = land(kind=UNKNOWN)

        assert "'freeze/cold'" in objections(landed)[0]
        assert guard(landed, policy={"freeze/cold": "keep"})["unknown"] == 0


@pytest.mark.parametrize("control_ids", [["0", "1"], {"tweets": ["1"]}, ("1",)])
def test_control_ids_are_asked_of_the_results_of_their_type(land, control_ids):
    assert guard(land(control_ids=["0", "1"]), control_ids=control_ids)["removals"] == 3
    assert "control ids were not submitted with it" in objections(land("b"), control_ids=control_ids)[0]


def test_control_ids_of_users_are_not_asked_of_tweets(land):
    assert guard(land(), control_ids={"users": ["7"]})["results"] == 1


def test_a_store_that_fails_is_no_verdict_and_may_be_tried_again(land, tmp_path):
    events = land()["destination"]
    Path(events).unlink()
    Path(events).mkdir()

    with pytest.raises(StorageError):
        guard(events)


def test_results_are_read_from_s3_with_a_connection(s3, connect, land):
    connect("store", **s3.connection())
    bucket = s3.bucket()
    path = land()["destination"]
    for suffix in ("", ".manifest.json"):
        s3.client().upload_file(path + suffix, bucket, f"events.ndjson{suffix}")

    assert guard(f"s3://{bucket}/events.ndjson", events_conn_id="store")["removals"] == 5


class TestInAirflow:
    def test_every_parameter_is_a_template(self, land):
        values = {
            "events": "{{ path }}",
            "events_conn_id": "store",
            "max_removal_ratio": "{{ 0.01 }}",
            "max_removals": "{{ 3 }}",
            "max_change_ratio": "{{ 0 }}",
            "max_error_ratio": "{{ 0.5 }}",
            "min_events": "{{ 6 }}",
            "control_ids": ["{{ 7 }}"],
            "policy": {"delete/deleted": "{{ 'remove' }}"},
            "allow_unknown": ["a/{{ 'b' }}"],
            "allow_repeated": "{{ True }}",
            "allow_unverified_length": "{{ False }}",
        }
        assert set(values) == set(GuardEventsOperator.template_fields)
        task = GuardEventsOperator(task_id="guard", **values)

        task.render_template_fields({"path": land()["destination"]})
        with pytest.raises(AirflowFailException) as caught:
            task.execute({})

        told = str(caught.value)
        for words in ("max_removal_ratio=0.01", "max_removals=3", "min_events=6", "1 control ids"):
            assert words in told

    def test_it_takes_what_a_mapped_task_returns(self, land):
        from collections.abc import Sequence

        class LazySequence(Sequence):
            def __init__(self, values):
                self.values = values

            def __len__(self):
                return len(self.values)

            def __getitem__(self, index):
                return self.values[index]

        assert guard(LazySequence([land(), land("more")]))["results"] == 2

    def test_it_can_be_mapped_over(self):
        with DAG("mapping", schedule=None):
            assert GuardEventsOperator.partial(task_id="task").expand(events=["/a", "/b"]).task_id == "task"
