import json
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_provider_xcompliance import evidence
from airflow_provider_xcompliance.archive.guards import Result
from airflow_provider_xcompliance.catalogue import Archive
from airflow_provider_xcompliance.extraction import extract
from airflow_provider_xcompliance.night import Night
from airflow_provider_xcompliance.results import Landed

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DONE = {"dry_run": False, "files": 1, "files_gone": 0}


@pytest.fixture
def archive(tmp_path) -> Archive:
    root = f"{tmp_path}/archive/"
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/a.ndjson").write_text('{"id":"1","author_id":"2"}\n')
    return Archive(sources=[root], client=None, root=root, state=f"{root}_xcompliance", state_client=None)


def night_of(ids: str) -> Night:
    """A night in which a day later nothing was found to have happened to these ids."""
    result = Result(
        name="part",
        job_id="1",
        job_type="tweets",
        submitted=1,
        kinds=Counter(),
        errors=0,
        controls=frozenset(),
        repeated=0,
        unverified_length=False,
    )
    asked = NOW + timedelta(days=1)
    return Night([Landed("/events", "digest", result, ids, "digest", (), asked)], None, {})


def recorded(archive: Archive, reports: list[dict]) -> timedelta:
    """Record a night, and return for how long nobody has asked when its ids are two days old."""
    ids = archive.state_uri("ids")
    (due,) = extract(archive, "tweets", ids, now=NOW).due
    evidence.record(archive, night_of(due), reports, "dag.record.run")
    return extract(archive, "tweets", ids, now=NOW + timedelta(days=2)).oldest_check


def test_a_night_that_was_applied_is_remembered(archive, caplog):
    assert recorded(archive, [DONE, DONE]) == timedelta(days=1)
    assert "checked" not in caplog.text


@pytest.mark.parametrize(
    ("reports", "level", "why"),
    [
        ([], "WARNING", "nothing was applied"),
        ([{}], "WARNING", "nothing was applied"),
        ([DONE, DONE | {"files_gone": 2}], "WARNING", "removed 2 of the files"),
        ([DONE, DONE | {"dry_run": True}], "INFO", "dry run"),
    ],
)
def test_one_that_was_not_applied_to_all_is_not_and_it_is_said_why(archive, caplog, reports, level, why):
    caplog.set_level(logging.INFO, evidence.__name__)

    assert recorded(archive, reports) == timedelta(days=2)
    (said,) = [record for record in caplog.records if record.name == evidence.__name__]
    assert said.levelname == level
    assert said.getMessage().startswith("nothing of this night counts as checked")
    assert why in said.getMessage()


def test_its_evidence_is_landed_in_any_case(archive):
    recorded(archive, [])

    landed = json.loads(Path(archive.state_uri("reports", "dag.record.run.json")).read_text())
    assert landed["done"] == {}
    assert [result["job_id"] for result in landed["results"]] == ["1"]
