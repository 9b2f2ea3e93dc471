"""The stand-in X API as a process of its own."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from demo.processes import background

READY = "listening on "
JOB_TYPES = ("tweets", "users")


class StandInError(Exception):
    """The stand-in does not start."""


@dataclass(frozen=True)
class StandIn:
    """A running stand-in, and the bearer token that it accepts."""

    url: str
    bearer_token: str = field(repr=False)

    def issued_urls(self) -> list[str]:
        """Return every upload and download URL that it has handed out so far."""
        return [url for job_type in JOB_TYPES for url in self._issued_urls(job_type)]

    def set_processing_seconds(self, seconds: float) -> None:
        """Say how long it works on each job that gets its ids from now on."""
        self._call("POST", "/_emulator/config", json={"processing_seconds": seconds})

    def _issued_urls(self, job_type: str) -> list[str]:
        names = ("upload_url", "download_url")
        jobs = self._call(
            "GET",
            "/2/compliance/jobs",
            params={"type": job_type, "compliance_job.fields": ",".join(names)},
            headers={"Authorization": f"Bearer {self.bearer_token}"},
        )
        return [job[name] for job in jobs.get("data", []) for name in names]

    def _call(self, method: str, path: str, **options: Any) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            response = session.request(method, self.url + path, timeout=30, **options)
        response.raise_for_status()
        return response.json()


@contextmanager
def stand_in(directory: Path, flow: str, bearer_token: str, processing_seconds: float) -> Iterator[StandIn]:
    """
    Start the stand-in on a free port, and end it on the way out.

    :param directory: empty; takes its log and what is uploaded
    :param flow: ``current`` or ``legacy``
    :param processing_seconds: how long it works on a job
    :raises StandInError: if it does not start within 30 seconds
    """
    log = directory / "stand-in.log"
    options = {
        "port": "0",
        "flow": flow,
        "bearer-token": bearer_token,
        "processing-seconds": str(processing_seconds),
        "state-dir": str(directory / "state"),
    }
    command = [sys.executable, "-m", "airflow_provider_xcompliance.emulator"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with background(command, os.environ, log):
        yield StandIn(_wait_for_url(log, seconds=30), bearer_token)


def _wait_for_url(log: Path, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines():
            if line.startswith(READY):
                return line.removeprefix(READY)
        time.sleep(0.1)
    raise StandInError(f"the stand-in X API does not start: see {log}\n{log.read_text()}")
