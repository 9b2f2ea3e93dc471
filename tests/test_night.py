from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance import evidence, night
from airflow_provider_xcompliance.archive.guards import Result
from airflow_provider_xcompliance.catalogue import Archive
from airflow_provider_xcompliance.night import Night
from airflow_provider_xcompliance.results import Landed
from airflow_provider_xcompliance.storage import MissingError


def landed(uri: str, job_id: str = "1") -> Landed:
    result = Result(
        name=uri,
        job_id=job_id,
        job_type="tweets",
        submitted=1,
        kinds={},
        errors=0,
        controls=frozenset(),
        repeated=0,
        unverified_length=False,
    )
    return Landed(uri, "digest", result, source="", source_sha256="", control_ids=(), created_at=None)


def night_of(folder: Path, job_id: str, post: int) -> Night:
    """Results that tell of one post that is gone."""
    events = folder / f"{job_id}.ndjson"
    events.write_text(f'{{"id":"{post}","action":"delete","reason":"deleted"}}\n')
    return Night([landed(str(events), job_id)], None, {})


@pytest.fixture
def archive(tmp_path) -> Archive:
    root = f"{tmp_path}/archive/"
    return Archive(sources=[root], client=None, root=root, state=f"{root}_xcompliance", state_client=None)


class TestGroups:
    @given(st.dictionaries(st.text("abc", min_size=1), st.integers(0, 10**9), min_size=1), st.integers(1, 9))
    def test_each_file_is_in_one_of_them(self, sizes, max_groups):
        groups = night._balanced([(size, name) for name, size in sizes.items()], max_groups)

        assert sorted(name for group in groups for name in group) == sorted(sizes)
        assert len(groups) == min(max_groups, len(sizes))

    def test_they_are_about_as_large(self):
        sizes = {"a": 9, "b": 5, "c": 4, "d": 3, "e": 3, "f": 3}

        groups = night._balanced([(size, name) for name, size in sizes.items()], 3)

        assert sorted(sum(sizes[name] for name in group) for group in groups) == [8, 9, 10]

    def test_a_task_finds_the_files_of_its_group(self, archive, tmp_path):
        for name in ("a.ndjson", "b.ndjson"):
            (tmp_path / "archive").mkdir(exist_ok=True)
            (tmp_path / "archive" / name).write_text("{}\n")

        plans = night.plan(archive, Night([landed("elsewhere")], None, {}), max_groups=2)

        files = [night.files_of_plan(archive, plan) for plan in plans]
        assert files == [[f"{tmp_path}/archive/a.ndjson"], [f"{tmp_path}/archive/b.ndjson"]]

    def test_a_plan_that_is_gone_is_no_empty_one(self, archive):
        with pytest.raises(MissingError, match="no such plan; run the task that makes it again"):
            night.files_of_plan(archive, archive.state_uri("plans", "gone.json"))

    def test_events_that_would_be_taken_for_posts_are_refused(self, archive, tmp_path):
        events = tmp_path / "archive/events/part.ndjson"
        events.parent.mkdir(parents=True)
        events.write_text("")

        with pytest.raises(ValueError, match=r"part\.ndjson is among the files .* land events elsewhere"):
            night.plan(archive, Night([landed(f"file://{events}")], None, {}))

    def test_two_choices_of_files_have_groups_of_their_own(self, archive, tmp_path):
        (tmp_path / "archive").mkdir()
        for name in ("a.ndjson", "b.ndjson"):
            (tmp_path / "archive" / name).write_text("{}\n")
        choices = [replace(archive, sources=[f"{archive.root}{name}.ndjson"]) for name in "ab"]
        results = Night([landed("elsewhere")], None, {})

        plans = [night.plan(each, results) for each in choices]

        found = [night.files_of_plan(archive, plan) for (plan,) in plans]
        assert found == [[f"{archive.root}a.ndjson"], [f"{archive.root}b.ndjson"]]

    def test_so_are_those_that_are_applied_without_a_plan(self):
        with pytest.raises(ValueError, match=r"part\.ndjson is among the files"):
            Night([landed("/data/part.ndjson")], None, {}).require_elsewhere(["/data/part.ndjson"])


class TestKeys:
    def test_the_same_results_and_policy_are_the_same_night(self):
        one, two = landed("a", "1"), landed("b", "2")

        assert Night([one, two], None, {}).key == Night([two, one], None, {}).key
        assert Night([one, two], None, {}).key != Night([one], None, {}).key


class TestTombstones:
    def test_two_nights_at_once_lose_none(self, archive, tmp_path, monkeypatch):
        first, second = (night_of(tmp_path, job_id, post) for job_id, post in (("1", 10), ("2", 20)))
        read = Archive.tombstones

        def while_another_night_is_first(archive, job_type):
            found = read(archive, job_type)
            monkeypatch.undo()
            night.prepare(archive, first)
            return found

        for _ in range(2):
            monkeypatch.setattr(Archive, "tombstones", while_another_night_is_first)
            night.prepare(archive, second)

            ids = {int(number) for some in archive.tombstones("tweets").values() for number in some}
            assert ids == {10, 20}


class TestEvidence:
    def test_reports_of_parts_are_added_up(self):
        one = {"records": 3, "kinds": {"a/b": 1}, "bad_lines": ["x"], "old_versions": 2, "dry_run": False}
        other = {
            "records": 4,
            "kinds": {"a/b": 2, "c/d": 1},
            "bad_lines": ["y"],
            "old_versions": 0,
            "dry_run": True,
        }

        assert evidence.total_of([one, other]) == {
            "records": 7,
            "kinds": {"a/b": 3, "c/d": 1},
            "bad_lines": ["x", "y"],
            "old_versions": 2,
            "dry_run": True,
        }

    def test_what_one_part_cannot_tell_nobody_can(self):
        assert evidence.total_of([{"old_versions": 2}, {"old_versions": None}]) == {"old_versions": None}
