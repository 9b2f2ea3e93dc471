import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_xcompliance.api.errors import XComplianceError
from demo.live import Transcript

ROOT = Path(__file__).parents[2]


@pytest.fixture
def live(emulator, tmp_path):
    """Return a function that runs ``python -m demo.live`` against the stand-in, in an empty directory."""

    def run(*options, token=emulator.bearer_token, answer=""):
        env = {name: value for name, value in os.environ.items() if name != "XCOMPLIANCE_BEARER_TOKEN"}
        env |= {"PYTHONPATH": str(ROOT)} | ({"XCOMPLIANCE_BEARER_TOKEN": token} if token else {})
        command = [
            sys.executable,
            "-m",
            "demo.live",
            "--base-url",
            emulator.url,
            "--poll-seconds=0",
            *options,
        ]
        return subprocess.run(command, cwd=tmp_path, env=env, input=answer, capture_output=True, text=True)

    return run


def test_the_four_steps_are_taken_and_their_transcript_holds_nothing_secret(live, emulator, flow, tmp_path):
    emulator.configure(event_rate=1)
    done = live("--yes")
    assert done.returncode == 0, done.stderr
    (directory,) = tmp_path.glob("live-*")
    manifest = json.loads((directory / "events.ndjson.manifest.json").read_text())
    assert manifest["events"] == manifest["submitted"]["ids"] == 12
    entries = [json.loads(line) for line in (directory / "transcript.jsonl").read_text().splitlines()]
    assert [entry["method"] for entry in entries] == ["POST", "GET", "PUT", "GET", "GET", "GET"]
    assert {entry["status"] for entry in entries} == {200}
    assert len(emulator.requests()) == len(entries)
    left = done.stdout + done.stderr + "".join(path.read_text() for path in directory.iterdir())
    for secret in (emulator.bearer_token, "token=", "X-Goog-Signature", "Bearer"):
        assert secret not in left


@pytest.mark.parametrize(
    ("answer", "returncode", "sends"), [("y\n", 0, True), ("n\n", 1, False), ("", 1, False)]
)
def test_nothing_is_sent_unless_the_user_agrees_to_the_cost(live, emulator, answer, returncode, sends):
    done = live(answer=answer)
    assert "in all, at most" in done.stdout
    assert done.returncode == returncode
    assert bool(emulator.requests()) is sends


def test_without_a_token_it_says_which_variable_to_set(live, emulator):
    done = live("--yes", token=None)
    assert done.returncode == 2
    assert "XCOMPLIANCE_BEARER_TOKEN" in done.stderr
    assert not emulator.requests()


def test_a_bad_id_is_found_before_a_job_is_paid_for(live, emulator, tmp_path):
    (tmp_path / "ids.csv").write_text("1.41786E+18\n")
    done = live("--yes", "--ids=ids.csv")
    assert done.returncode == 1
    assert "not a decimal id" in done.stderr
    assert "Traceback" not in done.stderr
    assert not emulator.requests()


def test_a_job_that_does_not_end_is_looked_at_as_often_as_agreed_and_no_more(live, emulator):
    emulator.configure(processing_seconds=3600)
    done = live("--yes", "--looks=3")
    assert done.returncode == 1
    assert "has not ended after 3 looks" in done.stderr
    assert len(emulator.requests()) == 6


def test_no_request_is_made_beyond_the_number_that_was_agreed_to():
    transcript = Transcript(io.StringIO(), budget=1)
    transcript.begin()
    with pytest.raises(XComplianceError, match="1 requests were made"):
        transcript.begin()
    assert transcript.requests == 1
