import asyncio
import json
import time

import pytest

from airflow_provider_xcompliance.hooks.compliance import XComplianceHook
from airflow_provider_xcompliance.triggers import jobs
from airflow_provider_xcompliance.triggers.jobs import JobStatusTrigger

pytestmark = pytest.mark.usefixtures("x_connection")


@pytest.fixture
def job_id(x_connection) -> str:
    return XComplianceHook().create_job("tweets").id


@pytest.fixture
def naps(monkeypatch) -> list[float]:
    """How long the trigger slept, without sleeping."""
    slept: list[float] = []

    class FakeAsyncio:
        to_thread = staticmethod(asyncio.to_thread)

        @staticmethod
        async def sleep(seconds: float) -> None:
            slept.append(seconds)

    monkeypatch.setattr(jobs, "asyncio", FakeAsyncio)
    return slept


def trigger(job_id, **options) -> JobStatusTrigger:
    arguments = {"poll_interval": 60, "deadline": time.time() + 3600} | options
    return JobStatusTrigger(job_id=job_id, xcompliance_conn_id="xcompliance_default", **arguments)


def event_of(instance: JobStatusTrigger) -> dict:
    async def only_event() -> dict:
        (event,) = [each async for each in instance.run()]
        return event.payload

    return asyncio.run(only_event())


@pytest.mark.parametrize("options", [{}, {"for_result": False, "part": 3, "cancel_on_kill": True}])
def test_it_is_made_anew_from_what_it_serializes(job_id, options):
    path, arguments = trigger(job_id, **options).serialize()

    assert arguments.items() >= options.items()

    assert path == "airflow_provider_xcompliance.triggers.jobs.JobStatusTrigger"
    assert JobStatusTrigger(**arguments).serialize() == (path, arguments)
    assert json.loads(json.dumps(arguments)) == arguments


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("complete", "is complete"),
        ("failed", "create a new job with the same ids"),
        ("expired", "no ids were uploaded within 15 minutes"),
    ],
)
def test_a_job_that_ended_is_told_with_its_status_and_without_its_urls(emulator, job_id, naps, status, words):
    emulator.set_job(job_id, status)

    event = event_of(trigger(job_id))

    assert (event["status"], event["job"]["id"]) == (status, job_id)
    assert words in event["message"]
    assert not any(secret in json.dumps(event) for secret in ("token=", "Signature", "_url"))


def test_it_sleeps_before_its_first_look(emulator, job_id, naps):
    emulator.set_job(job_id, "complete")

    event_of(trigger(job_id, poll_interval=17))

    assert naps == [17]


def test_the_looks_get_rarer_as_the_job_gets_older(emulator, job_id, naps):
    emulator.set_job(job_id, "in_progress")
    emulator.advance(1800)
    emulator.add_fault("status", endpoint="get", nth=3, status=401, body={"title": "Unauthorized"})

    assert event_of(trigger(job_id))["status"] == "error"
    assert naps[0] == 60
    assert naps[1:] == pytest.approx([120, 120], rel=0.01)


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "status", "status": 503, "body": "<html>"},
        {"action": "status", "status": 200, "body": "not json"},
        {"action": "reset"},
    ],
)
def test_what_passes_is_waited_out(emulator, job_id, naps, fault):
    emulator.set_job(job_id, "complete")
    emulator.add_fault(**fault, endpoint="get", times=2)

    assert event_of(trigger(job_id))["status"] == "complete"
    assert naps == [60, 60, 60]


def test_a_rate_limit_is_slept_out(emulator, job_id, naps):
    emulator.set_job(job_id, "complete")
    emulator.add_fault("rate_limit", endpoint="get", seconds=700)

    assert event_of(trigger(job_id))["status"] == "complete"
    assert naps[0] == 60
    assert 690 < naps[1] <= 701


def test_an_unknown_status_is_waited_for(emulator, job_id, naps):
    emulator.set_job(job_id, "queued_for_review")
    emulator.add_fault("status", endpoint="get", nth=3, status=403, body={"title": "Forbidden"})

    assert event_of(trigger(job_id))["status"] == "error"
    assert len(naps) == 3


def test_a_lasting_refusal_is_an_error_with_a_remedy(emulator, job_id, naps):
    emulator.add_fault("status", endpoint="get", times=0, status=401, body={"title": "Unauthorized"})

    event = event_of(trigger(job_id))

    assert (event["status"], event["is_final"]) == ("error", True)
    assert "credentials of the connection are not accepted" in event["message"]


def test_a_connection_that_cannot_be_used_is_an_error_too(emulator, job_id, naps, connect):
    connect("xcompliance_default", conn_type="xcompliance", host=emulator.url)

    event = event_of(trigger(job_id))

    assert (event["status"], event["is_final"]) == ("error", True)
    assert "a bearer token, or an API key and secret, is needed" in event["message"]


@pytest.mark.parametrize("status", ["complete", "failed", "error", "timeout"])
def test_every_event_tells_what_was_waited_for_and_until_when(emulator, job_id, naps, status):
    emulator.set_job(job_id, status if status in ("complete", "failed") else "in_progress")
    if status == "error":
        emulator.add_fault("status", endpoint="get", status=403)
    deadline = time.time() + (3600 if status != "timeout" else -1)

    event = event_of(trigger(job_id, deadline=deadline, for_result=False, part=2))

    assert event["status"] == status
    assert (event["deadline"], event["for_result"], event["part"]) == (deadline, False, 2)


def test_one_request_a_quarter_of_an_hour_is_enough(emulator, job_id, naps, monkeypatch):
    emulator.configure(rate_limit=1, processing_seconds=3000)
    emulator.set_job(job_id, "in_progress")

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        emulator.advance(seconds)
        if sum(naps) > 3000:
            emulator.set_job(job_id, "complete")

    monkeypatch.setattr(jobs.asyncio, "sleep", sleep)

    assert event_of(trigger(job_id, deadline=time.time() + 86_400))["status"] == "complete"
    assert sum(naps) < 3000 + 1000
    assert len(naps) < 12


class TestOnKill:
    def kill(self, job_id: str, **options) -> None:
        asyncio.run(trigger(job_id, **options).on_kill())

    @pytest.mark.parametrize("status", ["created", "in_progress"])
    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_the_job_is_cancelled_where_that_is_wanted(self, emulator, job_id, status):
        emulator.set_job(job_id, status)

        self.kill(job_id, cancel_on_kill=True)

        assert emulator.jobs()[0]["status"] == "failed"

    def test_else_x_is_not_asked(self, emulator, job_id):
        asked = len(emulator.requests())

        self.kill(job_id)

        assert len(emulator.requests()) == asked

    @pytest.mark.parametrize("flow", ["legacy"], indirect=True)
    def test_a_legacy_job_runs_on_and_that_is_said(self, emulator, job_id, caplog, capsys):
        emulator.set_job(job_id, "in_progress")

        self.kill(job_id, cancel_on_kill=True)

        assert emulator.jobs()[0]["status"] == "in_progress"
        assert "only jobs of the current flow can be cancelled" in caplog.text + capsys.readouterr().out

    @pytest.mark.parametrize(
        "fault", [{"action": "reset"}, {"action": "status", "status": 503}, {"action": "rate_limit"}]
    )
    def test_it_asks_once_and_never_raises(self, emulator, job_id, fault):
        emulator.add_fault(**fault, endpoint="cancel", times=0)

        self.kill(job_id, cancel_on_kill=True)

        assert len(emulator.requests("cancel")) == 1

    def test_when_the_triggerer_ends_nothing_is_cancelled(self, emulator, job_id):
        asyncio.run(trigger(job_id, cancel_on_kill=True).cleanup())

        assert emulator.requests("cancel") == []


def test_after_the_deadline_it_gives_up_without_another_look(emulator, job_id, naps):
    looks = len(emulator.requests("get"))

    event = event_of(trigger(job_id, deadline=time.time() - 1))

    assert event["status"] == "timeout"
    assert job_id in event["message"]
    assert (naps, len(emulator.requests("get"))) == ([], looks)


def test_it_never_sleeps_past_the_deadline(emulator, job_id, naps):
    emulator.set_job(job_id, "complete")

    event_of(trigger(job_id, deadline=time.time() + 20))

    assert naps == [pytest.approx(20, abs=5)]
