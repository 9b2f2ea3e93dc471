from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from airflow_provider_xcompliance.api.jobs import (
    Job,
    explain_end,
    poll_seconds,
    require_job_id,
    require_job_type,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def job(**fields: object) -> Job:
    return Job(**{"id": "17", "type": "tweets", "status": "created"} | fields)


@pytest.mark.parametrize("job_id", ["0", "17", "9" * 19])
def test_a_job_id_is_up_to_19_digits(job_id: str) -> None:
    assert require_job_id(job_id) == job_id


@pytest.mark.parametrize(
    "job_id",
    ["", "9" * 20, "1/../2", "17\n", " 17", "-1", "1_0", "\u0661\u0667", "\u00b2", 17, None, "x" * 900],
)
def test_anything_else_is_no_job_id(job_id: object) -> None:
    with pytest.raises(ValueError, match="not a job id") as caught:
        require_job_id(job_id)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("job_type", ["tweet", "Tweets", "", None])
def test_there_are_two_job_types(job_type: object) -> None:
    with pytest.raises(ValueError, match="'tweets' or 'users'"):
        require_job_type(job_type)


@pytest.mark.parametrize(
    ("status", "is_terminal", "is_known"),
    [
        ("created", False, True),
        ("in_progress", False, True),
        ("complete", True, True),
        ("failed", True, True),
        ("expired", True, True),
        ("paused", False, False),
    ],
)
def test_an_unknown_status_is_not_terminal(status: str, is_terminal: bool, is_known: bool) -> None:
    assert job(status=status).is_terminal is is_terminal
    assert job(status=status).is_known is is_known


@pytest.mark.parametrize(
    ("observed_at", "expires_at", "expected"),
    [
        (NOON, NOON - timedelta(seconds=1), True),
        (NOON, NOON, True),
        (NOON, NOON + timedelta(seconds=1), False),
        (None, NOON, False),
        (NOON, None, False),
    ],
)
def test_a_window_has_lapsed_only_by_the_servers_clock(
    observed_at: datetime | None, expires_at: datetime | None, expected: bool
) -> None:
    assert job(observed_at=observed_at).has_lapsed(expires_at) is expected


def test_what_is_shown_of_a_job_is_without_its_urls() -> None:
    shown = job(upload_url="https://secret", download_url="https://secret", created_at=NOON, name="n")
    assert shown.to_dict() == {
        "id": "17",
        "type": "tweets",
        "status": "created",
        "name": "n",
        "resumable": False,
        "created_at": "2026-11-22T12:00:00Z",
    }
    assert "secret" not in repr(shown)


@pytest.mark.parametrize("text", ["2019-08-10T12:22:39.022Z", "2021-06-15T07:32:10+00:00"])
def test_both_shapes_of_dates_are_read(text: str) -> None:
    read = msgspec.json.decode(
        b'{"id":"1","type":"users","status":"x","created_at":"%s"}' % text.encode(), type=Job
    )
    assert read.created_at == datetime.fromisoformat(text)


def test_a_date_without_a_zone_is_refused_because_no_other_compares_with_it() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(
            b'{"id":"1","type":"users","status":"x","created_at":"2021-06-15T07:32:10"}', type=Job
        )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": "complete"}, ["is complete"]),
        ({"status": "failed"}, ["failed at X", "create a new job"]),
        ({"status": "failed", "error": "bad\nfile"}, ["(bad file)"]),
        ({"status": "expired"}, ["15 minutes", "create a new job"]),
    ],
)
def test_the_end_of_a_job_is_told_in_one_line_with_the_remedy(
    fields: dict[str, str], words: list[str]
) -> None:
    told = explain_end(job(**fields))
    assert told.startswith("job 17 (tweets) ")
    assert "\n" not in told
    assert all(word in told for word in words)


@pytest.mark.parametrize(
    ("base", "waited", "expected"),
    [
        (60, 0, 60),
        (60, 900, 60),
        (60, 1800, 120),
        (60, 36_000, 300),
        (15, 4500, 75),
        (600, 36_000, 600),
        (0, 9e9, 0),
    ],
)
def test_polls_stretch_after_a_quarter_of_an_hour(base: float, waited: float, expected: float) -> None:
    assert poll_seconds(base, waited) == expected
