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


def test_it_is_made_anew_from_what_it_serializes(job_id):
    path, arguments = trigger(job_id).serialize()

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

    assert event["status"] == "error"
    assert "credentials of the connection are not accepted" in event["message"]


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
