"""The command line, and what the server does to the machine."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import requests

from airflow_provider_xcompliance.emulator import __main__
from airflow_provider_xcompliance.emulator.server import EmulatorServer

MODULE = "airflow_provider_xcompliance.emulator"
HEAVY = 4_000_000
"""Lines; so many bytes that a server that held them in memory would show it."""


@pytest.fixture
def command(tmp_path):
    """Start the command line and return the process and its URL."""
    processes = []

    def start(*options):
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-m", MODULE, "--port", "0", *options]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process, process.stdout.readline().removeprefix("listening on ").strip()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_cleanly(command, tmp_path, number):
    process, url = command()
    assert url.startswith("http://127.0.0.1:")
    assert requests.get(f"{url}/2/compliance/jobs", timeout=10).status_code == 401
    assert list(tmp_path.iterdir())
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout, stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_the_options_reach_the_service(command, tmp_path):
    events, state = tmp_path / "events.ndjson", tmp_path / "state"
    events.write_text('{"id":"7","action":"delete","reason":"deleted"}\n')
    _, url = command(
        *("--flow", "legacy", "--bearer-token", "T"),
        *("--processing-seconds", "1.5", "--seed", "3", "--event-rate", "0.5"),
        *("--events", str(events), "--state-dir", str(state)),
    )
    settings = requests.get(f"{url}/_emulator/config", timeout=10).json()
    assert {name: settings[name] for name in ("flow", "processing_seconds", "seed", "event_rate")} == {
        "flow": "legacy",
        "processing_seconds": 1.5,
        "seed": 3,
        "event_rate": 0.5,
    }
    bearer = {"Authorization": "Bearer T"}
    job = requests.post(f"{url}/2/compliance/jobs", json={"type": "users"}, headers=bearer, timeout=10)
    upload_url = job.json()["data"]["upload_url"]
    requests.put(upload_url, data=b"7\n8\n", headers={"Content-Type": "text/plain"}, timeout=10)
    requests.post(f"{url}/_emulator/clock", json={"advance_seconds": 2}, timeout=10)
    result = requests.get(job.json()["data"]["download_url"], timeout=10)
    assert result.json()["id"] == "7"
    assert len(list(state.iterdir())) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of another process is read from /proc")
def test_bodies_are_never_held_in_memory(command, tmp_path):
    process, url = command("--event-rate", "0.001")
    body = tmp_path / "ids"
    line = b"1265324480517361664\n"
    with body.open("wb") as target:
        for _ in range(100):
            target.write(line * (HEAVY // 100))
    bearer = {"Authorization": "Bearer test-bearer"}
    parameters = {"compliance_job.fields": "id,upload_url"}
    endpoint = f"{url}/2/compliance/jobs"
    answer = requests.post(endpoint, json={"type": "tweets"}, params=parameters, headers=bearer, timeout=10)
    before = peak(process.pid)
    with body.open("rb") as source:
        upload_url = answer.json()["data"]["upload_url"]
        assert requests.put(upload_url, data=source, headers=bearer, timeout=60).status_code == 200
    assert peak(process.pid) - before < 16 * 1024
    assert requests.get(f"{url}/_emulator/jobs", timeout=10).json()["jobs"][0][
        "submitted_bytes"
    ] == HEAVY * len(line)


def peak(pid):
    """Return the largest resident size so far, in KB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "http"], "--port"),
        (["--port", "65536"], "65536 is not between 0 and 65535"),
        (["--flow", "other"], "other"),
        (["--colour", "red"], "colour"),
        (["--bearer-token", ""], "bearer_token"),
        (["--processing-seconds", "-1"], "processing_seconds"),
        (["--processing-seconds", "nan"], "processing_seconds"),
        (["--event-rate", "5"], "event_rate"),
        (["--events", "missing"], "missing"),
        (["--events", "no-json"], "line 2 of the events"),
        (["--events", "no-id"], "line 1 of the events"),
        (["--state-dir", "no-json"], "no-json"),
    ],
)
def test_a_bad_option_is_told_in_one_line(tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    Path("no-json").write_text('{"id":"1"}\n{"id"\n')
    Path("no-id").write_text('{"action":"delete"}\n')
    assert words in refusal(monkeypatch, capsys, "--port", "0", *options)


def test_a_port_in_use_is_told_in_one_line(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = refusal(monkeypatch, capsys, "--port", port)
    assert "in use" in line
    assert port in line


def refusal(monkeypatch, capsys, *options):
    """Return what the command line says when it refuses to start."""
    monkeypatch.setattr(sys, "argv", ["emulator", *options])
    monkeypatch.setattr(__main__, "run", lambda emulator: pytest.fail("it would have served"))
    with pytest.raises(SystemExit) as end:
        __main__.main()
    assert end.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_a_thread_serves_with_the_settings_given_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with EmulatorServer(bearer_token="T", seed=5) as emulator:
        assert (emulator.configure()["seed"], emulator.bearer_token) == (5, "T")
        assert list(tmp_path.iterdir())
        url = emulator.url
    assert not list(tmp_path.iterdir())
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)


def test_a_state_directory_is_made_and_kept(tmp_path):
    state = tmp_path / "a" / "b"
    with EmulatorServer(state_dir=state, events='{"id":"1"}'):
        assert state.is_dir()
    assert state.is_dir()


def test_a_wrong_setting_is_refused_at_the_start():
    with pytest.raises(ValueError, match="colour"):
        EmulatorServer(colour="red")
