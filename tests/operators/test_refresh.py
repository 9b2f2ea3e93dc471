"""The night as its operators do it, one after another, against the stand-in X API."""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xcompliance.operators.archives import (
    ExtractIdsOperator,
    GuardEventsOperator,
    PlanRedactionOperator,
    RecordChecksOperator,
    RedactArchiveOperator,
)
from airflow_provider_xcompliance.operators.jobs import RunJobOperator

BASE = 1_500_000_000_000_000_000


@dataclass
class XComs:
    """What a context has of a task instance."""

    run_id: str
    pushed: dict = field(default_factory=dict)

    def context(self) -> dict[str, Any]:
        def push(key: str, value: Any) -> None:
            json.dumps(value)
            self.pushed[key] = value

        instance = SimpleNamespace(
            dag_id="refresh",
            task_id="task",
            run_id=self.run_id,
            map_index=-1,
            try_number=1,
            xcom_push=push,
        )
        return {"ti": instance}


@dataclass
class Nights:
    """An archive, and what is done to it night after night."""

    root: Path
    place: dict = field(default_factory=dict)
    runs: int = 0

    def write(self, name: str, *posts: tuple[int, int]) -> Path:
        """Write a file of posts: numbers of the post and of its author."""
        path = self.root / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps(
                {"id": str(BASE + post), "author_id": str(author), "text": "x", "geo": {"place_id": "p"}}
            )
            for post, author in posts
        ]
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def run(self, job_types=("tweets", "users"), extract=None, guard=None, redact=None) -> dict[str, Any]:
        """Do what a night does; return what each task returned."""
        self.runs += 1
        xcoms = XComs(f"night-{self.runs}")
        context = xcoms.context()
        place = {"source": f"{self.root}/archive/", **self.place}
        done: dict[str, Any] = {"events": []}
        for job_type in job_types:
            task = f"{job_type}-{self.runs}"
            ids = ExtractIdsOperator(
                task_id=f"extract-{task}", job_type=job_type, **place, **(extract or {})
            ).execute(context)
            done["events"] += RunJobOperator(
                task_id=f"run-{task}",
                job_type=job_type,
                source=ids,
                destination=str(self.root / "events" / task),
                poll_interval=0.05,
                reuse_within=timedelta(0),
            ).execute(context)
            done[f"extract_{job_type}"] = xcoms.pushed["report"]
        events = {"events": done["events"]}
        done["guard"] = GuardEventsOperator(
            task_id="guard",
            **events,
            **{"max_removal_ratio": None, "max_change_ratio": None, **(guard or {})},
        ).execute(context)
        is_dry = (redact or {}).get("dry_run", False)
        done["plan"] = PlanRedactionOperator(task_id="plan", dry_run=is_dry, **place, **events).execute(
            context
        )
        done["apply"] = [
            RedactArchiveOperator(task_id="apply", group=group, **place, **events, **(redact or {})).execute(
                context
            )
            for group in done["plan"]
        ]
        done["record"] = RecordChecksOperator(
            task_id="record", reports=done["apply"], **place, **events
        ).execute(context)
        json.dumps(done)
        return done

    def state(self, name: str) -> Path:
        return self.root / "archive/_xcompliance" / name


@pytest.fixture
def nights(emulator, connect, tmp_path) -> Nights:
    connect("xcompliance_default", conn_type="xcompliance", host=emulator.url, password=emulator.bearer_token)
    emulator.set_events("")
    return Nights(tmp_path)


@pytest.fixture
def say(emulator):
    """Return a function that lets X say something of posts (by number) and users (by id)."""

    def set_events(posts: dict | None = None, users: dict | None = None) -> None:
        if users is None:
            users = {}
        if posts is None:
            posts = {}
        said = {BASE + number: kind for number, kind in posts.items()} | users
        emulator.set_events(
            "".join(
                json.dumps(dict(zip(("id", "action", "reason"), (str(key), *kind.split("/")), strict=True)))
                + "\n"
                for key, kind in said.items()
            )
        )

    return set_events


def numbers_in(path: Path) -> list[int]:
    return [int(json.loads(line)["id"]) - BASE for line in path.read_text().splitlines()]


class TestNight:
    def test_the_archive_follows_what_x_says(self, nights, say):
        one = nights.write("one.ndjson", (1, 11), (2, 12), (3, 13))
        two = nights.write("two.ndjson", (4, 14), (5, 15))
        say(
            {1: "delete/deleted", 4: "rehydrate/tweet_edited", 5: "scrub_geo/geo_scrubbed"},
            {12: "delete/suspended"},
        )

        done = nights.run()

        assert (numbers_in(one), numbers_in(two)) == ([3], [5])
        assert "geo" not in json.loads(two.read_text())
        night = done["record"]["done"]
        assert [night[key] for key in ("records", "removed", "quarantined", "scrubbed", "kept")] == [
            5,
            2,
            1,
            1,
            2,
        ]
        assert night["kinds"] == {
            "delete/deleted": 1,
            "delete/suspended": 1,
            "rehydrate/tweet_edited": 1,
            "scrub_geo/geo_scrubbed": 1,
        }

    def test_the_next_night_has_nothing_left_to_do(self, nights, say):
        nights.write("one.ndjson", (1, 11), (2, 12))
        say({1: "delete/deleted"})
        nights.run()

        done = nights.run()

        assert (done["record"]["done"]["removed"], done["record"]["done"]["files_changed"]) == (0, 0)

    def test_it_leaves_evidence(self, nights, say):
        nights.write("one.ndjson", (1, 11), (2, 12))
        say({1: "delete/deleted"})

        done = nights.run()

        evidence = json.loads(nights.state("reports/refresh.task.night-1.json").read_text())
        assert evidence["done"]["removed"] == 1
        assert [result["job_type"] for result in evidence["results"]] == ["tweets", "users"]
        assert done["record"]["evidence"].endswith("reports/refresh.task.night-1.json")

    def test_what_has_to_be_fetched_again_is_listed(self, nights, say):
        nights.write("one.ndjson", (1, 11), (2, 12))
        say({1: "rehydrate/tweet_edited"})

        nights.run()

        (listed,) = nights.state("refetch").iterdir()
        assert listed.read_text() == f"{BASE + 1}\n"

    def test_only_what_is_due_is_asked_about(self, nights, say, emulator):
        nights.write("one.ndjson", (1, 11), (2, 12), (3, 13), (4, 14))
        say({2: "delete/deleted", 4: "delete/deleted"})
        limits = {"max_jobs_per_run": 1, "max_ids_per_job": 2}

        first = nights.run(["tweets"], limits)
        second = nights.run(["tweets"], limits)

        assert [night["record"]["done"]["removed"] for night in (first, second)] == [1, 1]
        assert len(emulator.jobs()) == 2

    def test_a_dry_run_writes_nothing_and_leaves_all_due(self, nights, say):
        path = nights.write("one.ndjson", (1, 11), (2, 12))
        say({1: "delete/deleted"})

        done = nights.run(redact={"dry_run": True})

        assert numbers_in(path) == [1, 2]
        assert done["record"]["done"]["removed"] == 1
        assert sorted(path.name for path in nights.state("").iterdir()) == [
            "ids",
            "index",
            "plans",
            "reports",
        ]

    def test_what_a_dry_run_tells_is_not_done_the_next_night(self, nights, say):
        path = nights.write("one.ndjson", (1, 11), (2, 12))
        say({1: "delete/deleted"})
        nights.run(redact={"dry_run": True})
        # X takes it back.
        say()

        nights.run()

        assert numbers_in(path) == [1, 2]

    def test_what_was_moved_while_it_was_applied_is_asked_about_again(self, nights, say, monkeypatch):
        nights.write("one.ndjson", (1, 11))
        path = nights.write("two.ndjson", (2, 12))
        say({2: "scrub_geo/geo_scrubbed"})
        moved = path.with_name("three.ndjson")
        apply = RedactArchiveOperator.execute

        def move_first(self, context):
            if path.exists():
                path.rename(moved)
            return apply(self, context)

        monkeypatch.setattr(RedactArchiveOperator, "execute", move_first)
        nights.run(["tweets"], {"max_jobs_per_run": 1})

        nights.run(["tweets"], {"max_jobs_per_run": 1})

        assert "geo" not in json.loads(moved.read_text())

    def test_users_alone(self, nights, say):
        path = nights.write("one.ndjson", (1, 11), (2, 12))
        say(users={11: "delete/deactivated"})

        nights.run(["users"])

        assert numbers_in(path) == [2]

    def test_groups_share_the_files(self, nights, say):
        paths = [nights.write(f"{number}.ndjson", (number, 11)) for number in range(1, 6)]
        say(dict.fromkeys(range(1, 6), "delete/deleted"))

        done = nights.run()

        assert len(done["plan"]) == 5
        assert [path.read_text() for path in paths] == [""] * 5


class TestTombstones:
    def test_a_backfill_is_not_brought_back(self, nights, say):
        nights.write("one.ndjson", (1, 11), (2, 12))
        nights.write("two.ndjson", (50, 11))
        say({1: "delete/deleted"})
        limits = {"max_jobs_per_run": 1}
        nights.run(["tweets"], limits)
        path = nights.write("late.ndjson", (1, 11), (3, 13))
        # As if X had forgotten.
        say()

        nights.run(["tweets"], limits)

        assert numbers_in(path) == [3]

    def test_one_that_may_pass_ends_when_a_later_check_is_clean(self, nights, say):
        nights.write("one.ndjson", (1, 11), (2, 12))
        say({1: "delete/suspended"})
        nights.run(["tweets"])
        path = nights.write("late.ndjson", (1, 11))
        say()

        nights.run(["tweets"])

        assert numbers_in(path) == [1]

    def test_what_went_is_asked_about_until_it_may_come_back(self, nights, say, emulator):
        limits = {"max_jobs_per_run": 1, "max_ids_per_job": 1}

        def pass_round() -> None:
            for _ in range(2):
                emulator.advance(60)
                nights.run(["tweets"], limits)

        nights.write("one.ndjson", (1, 11), (5, 15))
        say({5: "delete/suspended"})
        pass_round()
        say()
        pass_round()
        path = nights.write("back.ndjson", (5, 15))

        pass_round()

        assert numbers_in(path) == [5]

    def test_they_can_be_left_out(self, nights, say):
        nights.write("one.ndjson", (1, 11), (2, 12))
        say({1: "delete/deleted"})
        nights.run(["tweets"])
        path = nights.write("late.ndjson", (1, 11))
        say()

        nights.run(["tweets"], redact={"tombstones": False})

        assert numbers_in(path) == [1]

    def test_copies_elsewhere_need_them_each_night(self, nights, say, tmp_path):
        nights.write("one.ndjson", (1, 11), (2, 12), (3, 13))
        say({1: "delete/deleted", 2: "scrub_geo/geo_scrubbed"})
        clean = {"destination": str(tmp_path / "clean")}
        nights.run(["tweets"], redact=clean)
        say()

        nights.run(["tweets"], redact=clean)

        assert numbers_in(tmp_path / "clean/one.ndjson") == [2, 3]
        first, _ = (tmp_path / "clean/one.ndjson").read_text().splitlines()
        assert "geo" not in json.loads(first)


class TestPolicy:
    def test_it_says_what_is_done_instead(self, nights, say):
        path = nights.write("one.ndjson", (1, 11), (2, 12), (3, 13))
        say({1: "rehydrate/tweet_edited", 2: "delete/protected"})

        done = nights.run(
            ["tweets"], redact={"policy": {"rehydrate/tweet_edited": "keep", "delete/protected": "scrub"}}
        )

        assert numbers_in(path) == [1, 2, 3]
        assert done["record"]["done"]["scrubbed"] == 1

    def test_unknown_events_fail_the_task_after_the_known_ones_were_applied(self, nights, say):
        path = nights.write("one.ndjson", (1, 11), (2, 12), (3, 13))
        say({1: "delete/deleted", 2: "stir/shaken"})

        with pytest.raises(AirflowFailException, match=r"stir/shaken.*policy="):
            nights.run(["tweets"], guard={"allow_unknown": ["stir/shaken"]})

        assert numbers_in(path) == [2, 3]

    def test_unknown_events_that_it_names_are_no_failure(self, nights, say):
        path = nights.write("one.ndjson", (1, 11), (2, 12))
        say({1: "stir/shaken"})

        nights.run(
            ["tweets"],
            guard={"allow_unknown": ["stir/shaken"]},
            redact={"policy": {"stir/shaken": "remove"}},
        )

        assert numbers_in(path) == [2]
