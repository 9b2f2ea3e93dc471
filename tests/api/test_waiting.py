import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_xcompliance.api.errors import AuthenticationError, DeadlineError
from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.api.waiting import look, pause, wait_for_end

LOG = logging.getLogger(__name__)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def aged(seconds: float) -> Job:
    created = NOW - timedelta(seconds=seconds)
    return Job(id="1", type="tweets", status="in_progress", created_at=created, observed_at=NOW)


@pytest.fixture
def client(session: Any) -> Any:
    return session.new_client(max_tries=1, max_rate_limit_wait=0)


class TestLook:
    def test_a_job_is_shown_as_it_is(self, session, client):
        job = session.create()

        found, wait = look(client, job.id, LOG)

        assert found is not None
        assert (found.id, found.status, wait) == (job.id, "created", 0)

    @pytest.mark.parametrize(
        "fault",
        [
            {"action": "status", "status": 503, "body": "<html>"},
            {"action": "status", "status": 200, "body": "not json"},
            {"action": "reset"},
        ],
    )
    def test_what_passes_is_said_and_waited_out(self, session, client, caplog, fault):
        job = session.create()
        session.emulator.add_fault(**fault, endpoint="get")

        assert look(client, job.id, LOG) == (None, 0)
        assert "waiting on" in caplog.text

    def test_a_rate_limit_says_how_long_not_to_ask(self, session, client):
        job = session.create()
        session.emulator.add_fault("rate_limit", endpoint="get", seconds=700)

        found, wait = look(client, job.id, LOG)

        assert found is None
        assert 690 < wait <= 701

    def test_what_does_not_pass_is_raised(self, session, client):
        job = session.create()
        session.emulator.add_fault("status", endpoint="get", status=401, body={"title": "Unauthorized"})

        with pytest.raises(AuthenticationError):
            look(client, job.id, LOG)

    def test_a_status_that_is_not_known_is_told(self, session, client, caplog):
        job = session.create()
        session.emulator.set_job(job.id, "reviewing")

        found, _ = look(client, job.id, LOG)

        assert found is not None
        assert not found.is_terminal
        assert "a status that is not known: 'reviewing'" in caplog.text


class TestPause:
    @pytest.mark.parametrize(
        ("job", "at_least", "seconds"),
        [
            (aged(0), 0, 60),
            (aged(900), 0, 60),
            (aged(1800), 0, 120),
            (aged(86_400), 0, 300),
            (aged(0), 700, 700),
            (aged(1800), 100, 120),
            (None, 0, 60),
            (None, 700, 700),
        ],
    )
    def test_it_stretches_with_the_age_of_the_job_and_heeds_the_rate_limit(self, job, at_least, seconds):
        assert pause(job, 60, at_least) == seconds


class Sleeper:
    """Sleeping moves the stand-in's clock on, which is the clock of the wait as well."""

    def __init__(self, emulator: Any) -> None:
        self._emulator = emulator
        self.naps: list[float] = []

    def options(self, seconds: float) -> dict[str, Any]:
        return {"deadline": self._emulator.now() + seconds, "sleep": self.sleep, "clock": self._emulator.now}

    def sleep(self, seconds: float) -> None:
        self.naps.append(round(seconds))
        self._emulator.advance(seconds)


@pytest.fixture
def sleeper(session: Any) -> Sleeper:
    return Sleeper(session.emulator)


class TestWaitForEnd:
    @pytest.mark.parametrize("status", ["complete", "failed", "expired"])
    def test_every_end_ends_it(self, session, client, sleeper, status):
        job = session.create()
        session.emulator.set_job(job.id, status)

        assert wait_for_end(client, job.id, poll_interval=60, **sleeper.options(3600)).status == status
        assert sleeper.naps == [60]

    def test_the_looks_get_rarer_and_cost_less_than_one_a_minute(self, session, client, sleeper):
        session.emulator.configure(processing_seconds=3600)
        job = session.create()
        session.upload(job)

        wait_for_end(client, job.id, poll_interval=60, **sleeper.options(7200))

        assert sum(sleeper.naps) < 3600 + 300
        assert sleeper.naps[:15] == [60] * 15
        assert sorted(sleeper.naps) == sleeper.naps
        assert len(sleeper.naps) < 40

    def test_it_gives_up_at_the_deadline_and_never_sleeps_past_it(self, session, client, sleeper):
        job = session.create()
        session.emulator.set_job(job.id, "in_progress")

        with pytest.raises(DeadlineError, match=f"job {job.id} has not ended in the time"):
            wait_for_end(client, job.id, poll_interval=60, **sleeper.options(150))
        assert sleeper.naps == [60, 60, pytest.approx(30, abs=20)]

    def test_after_the_deadline_x_is_not_asked(self, session, client, sleeper):
        with pytest.raises(DeadlineError):
            wait_for_end(client, "1", poll_interval=60, **sleeper.options(0))
        assert (sleeper.naps, session.emulator.requests("get")) == ([], [])

    def test_with_one_request_a_quarter_of_an_hour_it_still_sees_the_end(self, session, client, sleeper):
        session.emulator.configure(processing_seconds=3000, rate_limit=1)
        job = session.create()
        session.upload(job)

        ended = wait_for_end(client, job.id, poll_interval=60, **sleeper.options(24 * 3600))

        assert ended.status == "complete"
        assert sum(sleeper.naps) < 3000 + 1000
        assert len(sleeper.naps) < 12
