"""The control plane over HTTP, and what only it can do."""

import os
from datetime import datetime
from email.utils import parsedate_to_datetime

import pytest
import requests

from airflow_provider_xcompliance.emulator.control import Control
from airflow_provider_xcompliance.emulator.server import EmulatorServer
from airflow_provider_xcompliance.emulator.settings import Settings
from airflow_provider_xcompliance.emulator.state import State


@pytest.fixture
def control(emulator):
    """Call the control plane."""

    def call(name, body=None):
        url = f"{emulator.url}/_emulator/{name}"
        return requests.get(url, timeout=10) if body is None else requests.post(url, json=body, timeout=10)

    return call


def test_the_clock_moves_and_every_answer_shows_it(control, client):
    before = control("clock").json()["clock"]
    assert control("clock", {"advance_seconds": 3600}).json()["clock"] == pytest.approx(before + 3600, abs=5)
    answer = client.call("GET", params={"type": "tweets"})
    shown = parsedate_to_datetime(answer.headers["date"]).timestamp()
    assert shown == pytest.approx(before + 3600, abs=5)
    created = datetime.fromisoformat(client.create()["created_at"]).timestamp()
    assert created == pytest.approx(before + 3600, abs=5)


def test_settings_can_be_changed_and_read_without_secrets(control, client):
    settings = control("config", {"flow": "legacy", "processing_seconds": 5}).json()
    assert (settings["flow"], settings["processing_seconds"]) == ("legacy", 5)
    assert control("config").json() == settings
    assert not {"bearer_token", "api_key", "api_secret"} & set(settings)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("config", {"flow": "other"}),
        ("config", {"colour": "red"}),
        ("faults", {"action": "explode"}),
        ("clock", {"hours": 1}),
        ("jobs", {"job_id": "1", "status": "complete"}),
        ("events", {"events": "no json"}),
        ("events", {"events": "{}"}),
        ("events", {"events": "[]"}),
        ("config", {"event_rate": 2}),
        ("config", {"bearer_token": ""}),
        ("clock", {"advance_seconds": 1e18}),
        ("clock", {"advance_seconds": -1e9}),
        ("results", {"job_id": "1", "result": "x"}),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(control, name, body):
    before = control("config").json()
    assert control(name, body).status_code == 400
    assert control("config").json() == before


@pytest.mark.parametrize("body", [None, {}])
def test_an_unknown_name_is_not_found(control, body):
    assert control("nothing", body).status_code == 404


def test_reading_changes_nothing(control, emulator):
    url = f"{emulator.url}/_emulator/config"
    requests.request("GET", url, json={"flow": "legacy"}, timeout=10).raise_for_status()
    assert requests.get(url, params={"flow": "legacy"}, timeout=10).status_code == 400
    assert control("config").json()["flow"] == "current"


def test_the_log_can_be_narrowed_to_an_endpoint_that_exists(control, client):
    client.create()
    client.call("GET", params={"type": "tweets"})
    (entry,) = control("requests?endpoint=list").json()["requests"]
    assert entry["method"] == "GET"
    assert control("requests?endpoint=lists").status_code == 400


def test_the_log_holds_the_latest_requests_alone(tmp_path):
    state = State(Settings(), tmp_path)
    state.log.extend({"endpoint": "list", "number": number} for number in range(10_001))
    entries = Control(state).requests()
    assert (len(entries), entries[0]["number"], entries[-1]["number"]) == (10_000, 1, 10_000)


def test_a_fault_can_be_set_seen_and_taken_back(control, client):
    control("faults", {"action": "status", "status": 418, "times": 0})
    assert client.call("GET", params={"type": "tweets"}).status_code == 418
    (fault,) = control("faults").json()["faults"]
    assert (fault["action"], fault["seen"]) == ("status", 1)
    control("faults/clear", {})
    assert control("faults").json() == {"faults": []}


def test_the_log_names_headers_and_parameters_but_holds_no_secret(control, emulator, client):
    emulator.configure(flow="legacy")
    job = client.create(resumable=True)
    session = client.start(job).headers["Location"]
    client.request("PUT", session, data=b"1\n", headers={"Content-Range": "bytes 0-1/2"})
    client.download(client.job(job))
    emulator.configure(flow="current")
    current = client.create("users")
    client.upload(current, Authorization="Bearer wrong")
    log = control("requests")
    entries = log.json()["requests"]
    assert [(entry["endpoint"], entry["status"]) for entry in entries] == [
        ("create", 200),
        ("resumable_start", 201),
        ("resumable_put", 200),
        ("get", 200),
        ("download", 200),
        ("create", 200),
        ("upload", 401),
    ]
    assert [entry["bearer_is_right"] for entry in entries] == [True, False, False, True, False, True, False]
    assert [entry["has_authorization"] for entry in entries] == [True, False, False, True, False, True, True]
    assert entries[0]["query"] == ["compliance_job.fields"]
    assert entries[2]["headers"]["content-range"] == "bytes 0-1/2"
    assert entries[2]["headers"]["content-length"] == "2"
    secrets = ("upload_id=", "X-Goog-Signature=", "token=", emulator.bearer_token, "wrong")
    assert not [secret for secret in secrets if secret in log.text]


class TestJobs:
    def test_a_job_can_be_given_any_status(self, control, client):
        job = client.create()
        control("jobs", {"job_id": job["id"], "status": "queued_for_review"})
        assert client.job(job)["status"] == "queued_for_review"
        control("jobs", {"job_id": job["id"], "status": "failed", "error": "why"})
        failed = client.job(job)
        assert (failed["status"], failed["error"]) == ("failed", "why")

    def test_a_job_can_be_completed_at_once(self, emulator, control, client):
        emulator.configure(processing_seconds=3600)
        job = client.create()
        client.upload(job)
        control("jobs", {"job_id": job["id"], "status": "complete"})
        assert client.job(job)["status"] == "complete"
        assert client.download(job).content

    def test_a_result_can_be_replaced(self, control, client, flow):
        job = client.completed()
        assert client.download(job).content != b"other\n"
        control("results", {"job_id": job["id"], "result": "other\n"})
        assert client.download(job).content == b"other\n"

    def test_a_replaced_result_has_digests_of_its_own_however_coarse_the_file_system_counts_time(
        self, tmp_path, client
    ):
        with EmulatorServer(flow="legacy", state_dir=tmp_path) as emulator:
            client.emulator = emulator
            job = client.completed()
            before = client.download(job).headers["x-goog-hash"]
            result = tmp_path / f"{job['id']}.result"
            moment = result.stat().st_mtime_ns
            emulator.set_result(job["id"], b"other\n")
            os.utime(result, ns=(moment, moment))
            answer = client.download(job)
        assert answer.content == b"other\n"
        assert answer.headers["x-goog-hash"] != before

    def test_a_result_can_be_laid_down_beforehand(self, emulator, client):
        job = client.create()
        emulator.set_result(job["id"], b"\xff")
        client.upload(job)
        assert client.job(job)["status"] == "complete"
        assert client.download(job).content == b"\xff"

    def test_events_can_be_given(self, control, client):
        control("events", {"events": '{"id":"1","action":"delete"}\n\n{"id":"2"}\n'})
        assert client.download(client.completed(body=b"3\n1\n")).content == b'{"id":"1","action":"delete"}\n'
        control("events", {})
        assert client.download(client.completed()).content.count(b"\n") > 2


def test_a_reset_forgets_everything(emulator, control, client):
    started = emulator.now()
    emulator.configure(flow="legacy", rate_limit=1)
    emulator.add_fault("status", nth=100)
    emulator.advance(1000)
    client.create()
    emulator.set_events("")
    control("reset", {})
    assert emulator.jobs() == emulator.requests() == emulator.faults() == []
    assert emulator.now() == pytest.approx(started, abs=5)
    settings = control("config").json()
    assert (settings["flow"], settings["rate_limit"]) == ("current", 150)
