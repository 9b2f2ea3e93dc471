import json
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
    timezone,
)

from airflow_provider_xcompliance.hooks.compliance import XComplianceHook
from airflow_provider_xcompliance.sensors.jobs import JobStatusSensor

# What Airflow 3, and then Airflow 2, ask for when they look for the first of a sensor's reschedules.
RESCHEDULE = {
    "ti": SimpleNamespace(
        get_first_reschedule_date=lambda context: None,
        max_tries=0,
        dag_id="dag",
        task_id="wait",
        run_id="run",
        map_index=-1,
    )
}


def sensor(job_id="1", **options) -> JobStatusSensor:
    return JobStatusSensor(task_id="wait", job_id=job_id, **options)


@pytest.fixture
def job_id(x_connection) -> str:
    return XComplianceHook().create_job("tweets").id


class TestDefaults:
    def test_it_is_rescheduled_every_minute_for_a_day(self):
        task = sensor()

        assert (task.mode, task.poke_interval, task.timeout) == ("reschedule", 60, 24 * 3600)
        assert task.deferrable is False

    @pytest.mark.parametrize("timeout", [7 * 24 * 3600, timedelta(days=8)])
    def test_a_time_out_beyond_the_life_of_the_results_is_refused(self, timeout):
        with pytest.raises(ValueError, match="timeout must be below 7 days"):
            sensor(timeout=timeout)

    @pytest.mark.parametrize(
        ("waited", "interval"), [(0, 60), (900, 60), (1800, 120), (4500, 300), (80_000, 300)]
    )
    def test_the_interval_stretches_after_a_quarter_of_an_hour(self, waited, interval):
        assert sensor()._get_next_poke_interval(0, lambda: waited, 1) == interval

    def test_a_longer_interval_of_the_user_is_kept(self):
        assert sensor(poke_interval=900)._get_next_poke_interval(0, lambda: 80_000, 1) == 900


class TestLook:
    def test_a_complete_job_is_returned_without_its_urls(self, emulator, job_id):
        emulator.set_job(job_id, "complete")

        found = sensor(job_id).poke({})

        assert found.is_done
        assert (found.xcom_value["id"], found.xcom_value["status"]) == (job_id, "complete")
        assert not any(secret in json.dumps(found.xcom_value) for secret in ("token=", "Signature", "_url"))

    @pytest.mark.parametrize("status", ["created", "in_progress"])
    def test_an_active_job_is_waited_for(self, emulator, job_id, status):
        emulator.set_job(job_id, status)

        assert not sensor(job_id).poke({}).is_done

    def test_an_unknown_status_is_waited_for_and_told(self, emulator, job_id, caplog, capsys):
        emulator.set_job(job_id, "queued_for_review")

        assert not sensor(job_id).poke({}).is_done
        # Airflow 3 logs to standard output, Airflow 2 through Python's logging.
        assert "a status that is not known: 'queued_for_review'" in caplog.text + capsys.readouterr().out

    @pytest.mark.parametrize(
        ("status", "error", "words"),
        [
            ("failed", "malformed input", r"failed at X \(malformed input\).*create a new job"),
            ("failed", None, "failed at X, or was cancelled; create a new job"),
            ("expired", None, "expired: no ids were uploaded within 15 minutes"),
        ],
    )
    def test_a_job_without_results_fails_for_good_and_says_what_to_do(
        self, emulator, job_id, status, error, words
    ):
        emulator.set_job(job_id, status, error)

        with pytest.raises(AirflowFailException, match=words):
            sensor(job_id).poke({})

    @pytest.mark.parametrize(
        "fault",
        [
            {"action": "status", "status": 503, "body": "<html>"},
            {"action": "status", "status": 200, "body": ""},
            {"action": "reset"},
        ],
    )
    def test_what_passes_is_waited_out(self, emulator, job_id, fault):
        emulator.add_fault(**fault, endpoint="get")

        assert not sensor(job_id).poke({}).is_done

    def test_a_rate_limit_puts_the_next_look_off_until_its_reset(self, emulator, job_id):
        emulator.add_fault("rate_limit", endpoint="get", seconds=600)
        task = sensor(job_id)

        assert not task.poke({}).is_done
        assert 590 < task._get_next_poke_interval(0, lambda: 0, 1) <= 601

    def test_a_reset_far_away_does_not_prolong_the_wait(self, emulator, job_id):
        emulator.add_fault("rate_limit", endpoint="get", seconds=86_400)
        task = sensor(job_id, timeout=3600)
        task.poke({})

        assert task._get_next_poke_interval(0, lambda: 600, 1) == 3000

    def test_a_job_id_that_was_rendered_as_a_number_will_do(self, emulator, job_id):
        emulator.set_job(job_id, "complete")

        assert sensor(int(job_id)).poke({}).is_done

    def test_a_wrong_token_fails_at_once(self, emulator, job_id, connect):
        connect("xcompliance_default", conn_type="xcompliance", host=emulator.url, password="wrong")

        with pytest.raises(Exception, match="credentials of the connection are not accepted"):
            sensor(job_id).poke({})


class TestPokeMode:
    def test_it_ends_with_the_job(self, emulator, job_id):
        emulator.set_job(job_id, "complete")

        assert sensor(job_id, mode="poke").execute({})["status"] == "complete"


@pytest.mark.usefixtures("airflow_database")
class TestRescheduleMode:
    def test_it_gives_the_worker_back_between_two_looks(self, job_id):
        before = timezone.utcnow()

        with pytest.raises(AirflowRescheduleException) as rescheduled:
            sensor(job_id).execute(RESCHEDULE)

        assert timedelta(seconds=59) < rescheduled.value.reschedule_date - before < timedelta(seconds=90)

    def test_the_last_look_returns_the_job(self, emulator, job_id):
        emulator.set_job(job_id, "complete")

        assert sensor(job_id).execute(RESCHEDULE)["id"] == job_id


class TestDeferrable:
    def test_a_job_that_is_complete_already_is_not_deferred_for(self, emulator, job_id):
        emulator.set_job(job_id, "complete")

        assert sensor(job_id, deferrable=True).execute({})["status"] == "complete"

    def test_the_trigger_gets_ids_and_a_deadline_and_no_secret(self, job_id):
        task = sensor(job_id, deferrable=True, timeout=3600)

        with pytest.raises(TaskDeferred) as deferred:
            task.execute({})

        _, arguments = deferred.value.trigger.serialize()
        assert arguments.pop("deadline") == pytest.approx(time.time() + 3600, abs=60)
        assert arguments == {
            "job_id": job_id,
            "xcompliance_conn_id": "xcompliance_default",
            "poll_interval": 60,
            "for_result": True,
            "part": 0,
            "cancel_on_kill": False,
        }
        assert deferred.value.method_name == "execute_complete"
        assert deferred.value.timeout > timedelta(seconds=3600)

    def test_the_trigger_gets_the_job_id_as_text(self, job_id):
        with pytest.raises(TaskDeferred) as deferred:
            sensor(int(job_id), deferrable=True).execute({})

        assert deferred.value.trigger.job_id == job_id

    def test_a_job_that_failed_already_is_skipped_where_that_is_asked_for(self, emulator, job_id):
        emulator.set_job(job_id, "failed")

        with pytest.raises(AirflowSkipException):
            sensor(job_id, deferrable=True, soft_fail=True).execute({})

    def test_the_event_of_a_complete_job_is_returned(self):
        event = {"status": "complete", "job": {"id": "1", "status": "complete"}}

        assert sensor(deferrable=True).execute_complete({}, event) == event["job"]

    @pytest.mark.parametrize(
        ("event", "error"),
        [
            ({"status": "failed", "message": "job 1 failed"}, AirflowFailException),
            ({"status": "expired", "message": "job 1 expired"}, AirflowFailException),
            ({"status": "timeout", "message": "job 1 has not ended"}, AirflowSensorTimeout),
            ({"status": "error", "message": "job 1: X failed", "is_final": False}, AirflowException),
            (
                {"status": "error", "message": "job 1: the token is wrong", "is_final": True},
                AirflowFailException,
            ),
            ({"status": "something new"}, AirflowException),
            ({}, AirflowException),
        ],
    )
    def test_every_other_event_fails(self, event, error):
        with pytest.raises(error, match="job 1") as failure:
            sensor(deferrable=True).execute_complete({}, event)
        assert type(failure.value) is error
