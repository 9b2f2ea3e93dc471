"""The stand-in, and a client that is as thin as can be."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from airflow_provider_xcompliance.emulator.jobs import FIELDS
from airflow_provider_xcompliance.emulator.server import EmulatorServer

JOBS = "/2/compliance/jobs"
ALL = {"compliance_job.fields": ",".join(FIELDS)}
IDS = b"".join(b"%d\n" % (1265324480517361664 + number * 4194304) for number in range(200))


class Client:
    """Requests as they stand in the wire contract; nothing is retried, checked or hidden."""

    def __init__(self, emulator: EmulatorServer) -> None:
        self.emulator = emulator
        self.session = requests.Session()
        self.session.trust_env = False
        self.bearer = {"Authorization": f"Bearer {emulator.bearer_token}"}

    def call(self, method: str, path: str = "", **options: Any) -> requests.Response:
        """Call a JSON endpoint with the bearer."""
        headers = self.bearer | options.pop("headers", {})
        return self.request(method, self.emulator.url + JOBS + path, headers=headers, **options)

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        """Send a request as it stands."""
        return self.session.request(method, url, allow_redirects=False, timeout=20, **options)

    def create(self, job_type: str = "tweets", **body: Any) -> dict[str, Any]:
        """Create a job and return it with all its fields."""
        answer = self.call("POST", params=ALL, json={"type": job_type, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def job(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return a job as it is now."""
        return self.call("GET", f"/{job['id']}", params=ALL).json()["data"]

    def upload(self, job: dict[str, Any], body: Any = IDS, **headers: str) -> requests.Response:
        """Upload in one PUT, with the bearer only where the flow wants it."""
        own = {} if "X-Goog-Signature" in job["upload_url"] else self.bearer
        all_headers = {"Content-Type": "text/plain"} | own | headers
        return self.request("PUT", job["upload_url"], data=body, headers=all_headers)

    def start(self, job: dict[str, Any], **headers: str) -> requests.Response:
        """Start a resumable upload."""
        own = {"Content-Type": "text/plain", "Content-Length": "0", "x-goog-resumable": "start"}
        return self.request("POST", job["upload_url"], headers=own | headers)

    def download(self, job: dict[str, Any], **headers: str) -> requests.Response:
        """Download a result."""
        own = {} if "X-Goog-Signature" in job["download_url"] else self.bearer
        return self.request("GET", job["download_url"], headers=own | headers)

    def completed(self, job_type: str = "tweets", body: bytes = IDS) -> dict[str, Any]:
        """Return a job that has a result."""
        job = self.create(job_type)
        assert self.upload(job, body).status_code == 200
        job = self.job(job)
        assert job["status"] == "complete"
        return job


@pytest.fixture(scope="session")
def running() -> Iterator[EmulatorServer]:
    """One server for all tests."""
    with EmulatorServer() as emulator:
        yield emulator


@pytest.fixture
def client(emulator: EmulatorServer) -> Iterator[Client]:
    """A client with a connection of its own."""
    client = Client(emulator)
    yield client
    client.session.close()
