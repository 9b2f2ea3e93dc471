"""
The four steps against the real X, with a dozen ids: ``XCOMPLIANCE_BEARER_TOKEN=… python -m demo.live``.

It costs money: it says how many requests it may make, asks, and never makes more. All that it learns goes
into a new directory ``live-<time>``: the ids, the events with their manifest, a transcript without secrets.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

from airflow_provider_xcompliance import transfer
from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import TRANSIENT_ERRORS, RateLimitedError, XComplianceError
from airflow_provider_xcompliance.api.jobs import Job, JobStatus, explain_end
from airflow_provider_xcompliance.api.messages import Request, Response
from airflow_provider_xcompliance.api.transport import Credentials, Progress, Transport
from airflow_provider_xcompliance.api.urls import DEFAULT_BASE_URL, UrlPolicy
from airflow_provider_xcompliance.storage import StorageError

TOKEN_VARIABLE = "XCOMPLIANCE_BEARER_TOKEN"
SAMPLES = {name: Path(__file__).parent / "sample" / f"{name}.txt" for name in ("tweets", "users")}
IDS = 12

#: What the four steps ask for besides the looks while they wait, and how much of it may be asked for again.
STEPS = {"create the job": 1, "look at it and upload": 2, "look at it and download": 2}
SPARE_REQUESTS = 5

#: None of these can hold a secret.
REQUEST_HEADERS = ("Content-Type", "Content-Range", "Range", "x-goog-resumable")
RESPONSE_HEADERS = (
    "Date",
    "Content-Type",
    "Content-Length",
    "Content-Encoding",
    "Content-Range",
    "Transfer-Encoding",
    "Accept-Ranges",
    "ETag",
    "Retry-After",
    "x-rate-limit-limit",
    "x-rate-limit-remaining",
    "x-rate-limit-reset",
    "x-goog-hash",
    "x-goog-stored-content-length",
    "x-goog-component-count",
)


class BudgetSpentError(XComplianceError):
    """As many requests were made as had been agreed to."""


class Transcript:
    """
    One JSON object per request: what is known to be harmless, and nothing else.

    :param file: open for writing
    :param budget: how many requests there may be
    """

    def __init__(self, file: TextIO, budget: int) -> None:
        self._file = file
        self._left = budget
        self.requests = 0

    def begin(self) -> None:
        """
        Count a request that is about to be made.

        :raises BudgetSpentError: if it is one too many
        """
        if not self._left:
            raise BudgetSpentError(f"{self.requests} requests were made, and no more had been agreed to")
        self._left -= 1
        self.requests += 1

    def end(self, request: Request, response: Response | None) -> None:
        """Write down a request and its answer; None if there was none."""
        parts = urlsplit(request.url)
        entry: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "what": request.what,
            "method": request.method,
            "host": parts.netloc,
            "path": parts.path,
            "sent": {name: request.headers[name] for name in REQUEST_HEADERS if name in request.headers},
            "status": response.status if response else None,
            "received": _chosen(response) if response else {},
        }
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def _chosen(response: Response) -> dict[str, str]:
    return {name: response.headers[name] for name in RESPONSE_HEADERS if name in response.headers}


class RecordingTransport(Transport):
    """Sends as usual, and writes everything down."""

    def __init__(self, transcript: Transcript, policy: UrlPolicy, credentials: Credentials) -> None:
        super().__init__(policy, credentials)
        self._transcript = transcript

    def send(self, request: Request, progress: Progress | None = None, **options: float | None) -> Response:
        """Send a request and read the whole answer."""
        response = None
        self._transcript.begin()
        try:
            response = super().send(request, progress, **options)
            return response
        finally:
            self._transcript.end(request, response)

    @contextmanager
    def stream(self, request: Request, **options: float) -> Iterator[tuple[Response, Iterator[bytes]]]:
        """Send a request and hand out the answer as it arrives."""
        head = None
        self._transcript.begin()
        try:
            with super().stream(request, **options) as (head, blocks):
                yield head, blocks
        finally:
            self._transcript.end(request, head)


def run(client: XComplianceClient, ids: Path, events: Path, options: argparse.Namespace) -> None:
    """Take the four steps, and say what came of each."""
    job = client.create_job(options.type, "live check of airflow-provider-xcompliance")
    print(f"created job {job.id}; upload until {job.upload_expires_at}", flush=True)
    receipt = transfer.upload(client, job.id, str(ids))
    print(f"uploaded {receipt['ids']} ids", flush=True)
    job = wait(client, job.id, options.looks, options.poll_seconds)
    print(explain_end(job), flush=True)
    if job.status == JobStatus.COMPLETE:
        receipt = transfer.download(client, job.id, str(events), submitted=str(ids))
        print(f"events: {receipt['events']} {receipt['actions']} {receipt['errors'] or ''}".rstrip())


def wait(client: XComplianceClient, job_id: str, looks: int, poll_seconds: float) -> Job:
    """
    Look at a job until it ends.

    :raises XComplianceError: if it has not after that many looks
    """
    for _ in range(looks):
        time.sleep(poll_seconds)
        try:
            job = client.get_job(job_id)
        except (RateLimitedError, *TRANSIENT_ERRORS) as error:
            print(f"{error}; waiting on", flush=True)
            continue
        print(f"job {job.id} is {job.status}", flush=True)
        if job.is_terminal:
            return job
    raise XComplianceError(f"job {job_id} has not ended after {looks} looks; it goes on without this program")


def agreed(options: argparse.Namespace, budget: int) -> bool:
    """Say what this will cost, and ask."""
    print(f"Requests to {options.base_url}, each of which X may charge for:")
    for what, number in {**STEPS, "look while waiting, at most": options.looks}.items():
        print(f"  {number:3}  {what}")
    print(f"  {SPARE_REQUESTS:3}  again after a failure that passes, at most\n  {budget:3}  in all, at most")
    if options.yes:
        return True
    try:
        return input("Go on? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def main() -> int:
    """Return the exit code."""
    options = _parser().parse_args()
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        print(f"set {TOKEN_VARIABLE} to the App-only bearer token of your X App", file=sys.stderr)
        return 2
    budget = sum(STEPS.values()) + options.looks + SPARE_REQUESTS
    if not agreed(options, budget):
        print("nothing was sent")
        return 1
    directory = Path(f"live-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    directory.mkdir()
    try:
        go_live(options, token, budget, directory)
    except (XComplianceError, StorageError, ValueError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


def go_live(options: argparse.Namespace, token: str, budget: int, directory: Path) -> None:
    """Take the four steps, with all that belongs to them in one directory."""
    ids = directory / "ids.txt"
    ids.write_text("".join(_spread(options.ids or SAMPLES[options.type], IDS)))
    # A bad id is to be found out about before a job is paid for.
    with transfer.spool_ids(str(ids)):
        pass
    policy = UrlPolicy(options.base_url)
    with (directory / "transcript.jsonl").open("w") as file:
        transcript = Transcript(file, budget)
        transport = RecordingTransport(transcript, policy, Credentials(bearer_token=token))
        try:
            run(XComplianceClient(transport, policy), ids, directory / "events.ndjson", options)
        finally:
            print(f"{transcript.requests} requests were made; see {directory}")


def _spread(path: Path, number: int) -> list[str]:
    """Return so many lines from all over a file."""
    lines = path.read_text().splitlines(keepends=True)
    return lines[:: max(1, len(lines) // number)][:number]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m demo.live", description=__doc__)
    parser.add_argument(
        "--type", choices=tuple(SAMPLES), default="tweets", help="of the job (default: tweets)"
    )
    parser.add_argument("--ids", type=Path, help=f"take {IDS} ids from this file instead of the sample")
    parser.add_argument("--base-url", default=DEFAULT_BASE_URL, help="of the API")
    parser.add_argument(
        "--looks", type=int, default=60, help="at the job while waiting, at most (default: 60)"
    )
    parser.add_argument("--poll-seconds", type=float, default=60, help="before each look (default: 60)")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser


if __name__ == "__main__":
    sys.exit(main())
