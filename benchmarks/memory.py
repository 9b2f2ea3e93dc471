"""The operators on 6 million ids, against the stand-in X API: the peak memory of the worker's process."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import WORK, Row, Run, generated, python, run, server

IDS = 6_000_000
MOST_MB = 200
TOKEN = "bench"

#: Which share of the ids has an event.
EVENT_RATES = (0.05, 1.0)


def imports() -> None:
    import airflow.sdk.execution_time.task_runner  # noqa: F401 - what a worker holds before any task


def upload(job_id: str, source: str) -> None:
    import airflow.sdk.execution_time.task_runner  # noqa: F401

    from airflow_provider_xcompliance.operators.jobs import UploadOperator

    receipt = UploadOperator(task_id="upload", job_id=job_id, source=source).execute({})
    print(json.dumps(receipt))


def download(job_id: str, source: str, destination: str) -> None:
    import airflow.sdk.execution_time.task_runner  # noqa: F401

    from airflow_provider_xcompliance.operators.jobs import DownloadOperator

    receipt = DownloadOperator(
        task_id="download", job_id=job_id, destination=destination, submitted=source
    ).execute({})
    print(json.dumps(receipt))


def measure() -> list[Row]:
    # Ids in order take less: whether one is repeated is seen at once.
    source = generated("shuffled_ids", IDS)
    base = run(python("memory", "imports"), _airflow()).peak_mb
    rows: list[Row] = []
    for rate in EVENT_RATES:
        with _stand_in(rate) as url, TemporaryDirectory(dir=WORK) as landing:
            job_id = _create_job(url)
            sent = run(python("memory", "upload", job_id, source), _airflow(url))
            _wait(url)
            landed = f"{landing}/events.ndjson"
            fetched = run(python("memory", "download", job_id, source, landed), _airflow(url))
        if not rows:
            rows.append(_row(f"UploadOperator, {IDS / 1e6:g} million ids", sent, base))
        events = json.loads(fetched.output.splitlines()[-1])["events"]
        rows.append(
            _row(f"DownloadOperator with submitted, {events / 1e6:.1f} million events", fetched, base)
        )
    return rows


def _row(what: str, measured: Run, base: float) -> Row:
    return Row(
        what=what,
        ours=f"{measured.seconds:.0f} s",
        rival=f"{base:.0f} MB are Airflow's imports",
        ratios=(),
        gate=f"< {MOST_MB} MB",
        met=measured.peak_mb < MOST_MB,
        peak_mb=measured.peak_mb,
    )


@contextmanager
def _stand_in(event_rate: float) -> Iterator[str]:
    command = [sys.executable, "-m", "airflow_provider_xcompliance.emulator", "--port", "0"]
    with server([*command, "--bearer-token", TOKEN, "--event-rate", str(event_rate)]) as url:
        yield url


def _airflow(url: str = "") -> dict[str, str]:
    connection = {"conn_type": "xcompliance", "host": url, "password": TOKEN}
    return {
        "AIRFLOW_HOME": str(WORK / "airflow"),
        "AIRFLOW_CONN_XCOMPLIANCE_DEFAULT": json.dumps(connection),
        "TMPDIR": str(WORK),
    }


def _create_job(url: str) -> str:
    body = json.dumps({"type": "tweets"}).encode()
    return str(_ask(f"{url}/2/compliance/jobs?compliance_job.fields=id", body)["data"]["id"])


def _wait(url: str) -> None:
    # The control plane has no rate limit.
    while (job := _ask(f"{url}/_emulator/jobs")["jobs"][0])["status"] == "in_progress":
        time.sleep(0.5)
    if job["status"] != "complete":
        raise RuntimeError(f"the job is {job['status']}")


def _ask(url: str, body: bytes | None = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        return dict(json.load(answer))


if __name__ == "__main__":
    steps: dict[str, Callable[..., None]] = {"imports": imports, "upload": upload, "download": download}
    steps[sys.argv[1]](*sys.argv[2:])
