"""Download into a file: ours with length and crc32c, beside the loop of twarc2's ``compliance-job``."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.harness import Row, python, race, scratch, server, sparse

MEGABYTES = 2_000


def ours(base_url: str, path: Path) -> None:
    from airflow_provider_xcompliance.api.client import XComplianceClient
    from airflow_provider_xcompliance.api.jobs import Job
    from airflow_provider_xcompliance.api.transport import Credentials, Transport
    from airflow_provider_xcompliance.api.urls import UrlPolicy

    path.touch()
    policy = UrlPolicy(base_url)
    client = XComplianceClient(Transport(policy, Credentials("bench")), policy)
    url = f"{base_url}/2/compliance/jobs/1/download?token=bench"
    job = Job(id="1", type="tweets", status="complete", download_url=url)
    result = client.download(job, path, progress=lambda done, total: None)
    print(result.bytes)


def rival(base_url: str, path: Path) -> None:
    import requests

    response = requests.get(f"{base_url}/2/compliance/jobs/1/download?token=bench", stream=True)
    # twarc2 also moves a progress bar at every chunk, which is spared it here.
    with path.open("wb") as file:
        for chunk in response.iter_content(chunk_size=4096):
            file.write(chunk)
    print(path.stat().st_size)


def measure() -> list[Row]:
    with server(python("file_server", sparse(MEGABYTES))) as url, scratch(MEGABYTES) as spool:
        commands = [python("download", side, url, spool) for side in ("ours", "rival")]
        return [race("download: twarc2's 4,096-byte loop", MEGABYTES, *commands, gate=2.0, output=spool)]


if __name__ == "__main__":
    {"ours": ours, "rival": rival}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
