"""Upload of a file: ours beside ``curl -T``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.harness import Row, python, race, server, sparse

#: As much as makes the start of Python small beside it.
MEGABYTES = 4_000
GATE = 0.75


def ours(base_url: str, path: Path) -> None:
    from airflow_provider_xcompliance.api.client import XComplianceClient
    from airflow_provider_xcompliance.api.jobs import Job
    from airflow_provider_xcompliance.api.transport import Credentials, Transport
    from airflow_provider_xcompliance.api.urls import UrlPolicy

    policy = UrlPolicy(base_url)
    client = XComplianceClient(Transport(policy, Credentials("bench")), policy)
    url = f"{base_url}/2/compliance/jobs/1/upload?token=bench"
    job = Job(id="1", type="tweets", status="created", upload_url=url)
    client.upload(job, path, crc32c=0, progress=lambda done, total: None)


def rival(base_url: str, path: Path) -> list[str]:
    return ["curl", "-sSf", "-o", "/dev/null", "-T", str(path), f"{base_url}/2/compliance/jobs/1/upload"]


def measure() -> list[Row]:
    if not shutil.which("curl"):
        return [Row("upload: curl -T", "", "curl is missing", (), f"≥ {GATE}", False, 0.0)]
    source = sparse(MEGABYTES)
    with server(python("file_server", source)) as url:
        commands = python("upload", url, source), rival(url, source)
        return [race("upload: curl -T", MEGABYTES, *commands, gate=GATE)]


if __name__ == "__main__":
    ours(sys.argv[1], Path(sys.argv[2]))
