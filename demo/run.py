"""
Example DAGs on a real Airflow, against the stand-in X API: ``python -m demo.run [--flow current|legacy]``.

First the four steps; and while these wait for X, two nights of an archive, which is then looked through. It
ends everything that it started, in whatever way it ends itself, and leaves the results in ``.demo/``.
"""

import argparse
import json
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import requests

from demo.airflow_standalone import NotInTimeError, standalone
from demo.check import Answers, check
from demo.night import Nights
from demo.processes import ENDING_SIGNALS
from demo.report import Report
from demo.sample.archive import KINDS, write_archive
from demo.secret_scan import SecretScan, secrets_of_urls
from demo.stand_in import StandIn, StandInError, stand_in
from demo.verdict import contradictions, file_rows, night_rows

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = {"tweet_ids": ROOT / "demo/sample/tweets.txt", "user_ids": ROOT / "demo/sample/users.txt"}

FOUR_STEPS = "xcompliance_nightly"
#: How each wait must have been seen to wait.
WAITS = {"tweets.wait": "up_for_reschedule", "users.wait": "deferred"}
#: Longer than it takes from the upload to the first look, shorter than the minute until the second.
PROCESSING_SECONDS = 15

REFRESH_ARCHIVE = "xcompliance_refresh_archive"
ARCHIVE_PARAMS = {
    "columns": {
        "*": {"id": "tweet_id", "author": "user_id", "geo": ["place", "longitude", "latitude"]},
    },
    # The stand-in has an event for each twentieth id.
    "max_removal_ratio": 0.1,
    "poll_interval": 3,
    "max_tasks": 3,
}
ARCHIVE_PROCESSING_SECONDS = 2

#: What stands in the directory of the demo.
RESULTS, ARCHIVE, BEFORE = "results", "archive", "archive-before"
STATE_FOLDER = "_xcompliance"
CLEAN = "no post, user or location is left that had to go, and all else is as it was"


class Interrupted(BaseException):
    """Somebody wants this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def demonstrate(flow: str, directory: Path, report: Report) -> bool:
    """Run everything and say what happened; return whether everything is as it should be."""
    airflow_home, stand_in_home = directory / "airflow", directory / "stand-in"
    airflow_home.mkdir()
    stand_in_home.mkdir()
    write_archive(directory / BEFORE)
    shutil.copytree(directory / BEFORE, directory / ARCHIVE)
    problems = []
    token = f"demo-{secrets.token_hex(32)}"
    report.step(f"starting the stand-in X API ({flow} flow) and Airflow in {directory}")
    with (
        stand_in(stand_in_home, flow, token, PROCESSING_SECONDS) as x_api,
        standalone(airflow_home, ROOT / "example_dags", connection_to(x_api)) as airflow,
    ):
        report.step(f"Airflow is healthy: {airflow.api.base_url}")
        nights = Nights(airflow, report)
        try:
            run_all(nights, x_api, directory)
        except NotInTimeError as error:
            problems.append(str(error))
        issued = secrets_of_urls(x_api.issued_urls())
    problems += [problem for night in nights for problem in night.problems()]
    show_four_steps(nights, directory / RESULTS, report)
    problems += show_archive(flow, directory, report)
    for night in nights:
        night.show_unsuccessful_logs()
    found = look_for_secrets({token, *issued}, directory, stand_in_home / "state", report)
    problems += [f"a secret stands in {place}" for place in found]
    for problem in problems:
        report.say(f"not as it should be: {problem}")
    report.say(f"\n{'failed' if problems else 'success'} after {report.seconds:.0f} s")
    return not problems


def run_all(nights: Nights, x_api: StandIn, directory: Path) -> None:
    """
    Run the four steps and, while these wait for X, two nights of the archive.

    :raises NotInTimeError: if something takes too long, or Airflow has ended
    """
    # Copies, because an upload leaves its record beside its source.
    ids = directory / "ids"
    ids.mkdir()
    params = {name: Path(shutil.copy(path, ids)).as_uri() for name, path in SAMPLES.items()}
    params["destination"] = (directory / RESULTS).as_uri()
    four_steps = nights.start("four steps", FOUR_STEPS, params, WAITS)
    nights.watch_until(lambda: four_steps.is_waiting or four_steps.is_over, "the four steps wait for X")
    x_api.set_processing_seconds(ARCHIVE_PROCESSING_SECONDS)
    places = {
        "source": f"{(directory / ARCHIVE).as_uri()}/",
        "events": (directory / "archive-events").as_uri(),
    }
    first = nights.start("archive, night 1", REFRESH_ARCHIVE, places | ARCHIVE_PARAMS)
    nights.watch_until(lambda: first.is_over, "the first night is over")
    if first.state == "success":
        nights.start("archive, night 2", REFRESH_ARCHIVE, places | ARCHIVE_PARAMS)
    nights.watch()


def show_four_steps(nights: Nights, results: Path, report: Report) -> None:
    """Print what the four steps did, which began first."""
    for night in islice(nights, 1):
        report.table(f"Tasks of the {night.title}", night.task_rows())
    manifests = [json.loads(path.read_text()) for path in sorted(results.rglob("*.manifest.json"))]
    report.table("Events", event_rows(manifests))
    report.table(f"Results in {results}", result_rows(results))


def show_archive(flow: str, directory: Path, report: Report) -> list[str]:
    """Print what became of the archive; return what is not as it should be."""
    archive = directory / ARCHIVE
    evidence = sorted((archive / STATE_FOLDER / "reports").glob("*.json"))
    nights = [json.loads(path.read_text())["done"] for path in evidence]
    report.table("The nights of the archive, by their own reports", night_rows(nights))
    files = check(directory / BEFORE, archive, Answers.of_stand_in(flow))
    problems = [problem for file in files for problem in file.problems]
    report.table(f"The archive in {archive}, before → after", file_rows(files, KINDS))
    report.say(f"\nindependent check, record by record: {'failed' if problems else CLEAN}")
    return [*problems, *contradictions(files, nights)]


def connection_to(x_api: StandIn) -> dict[str, str]:
    """Return the environment variable that is an Airflow connection to the stand-in."""
    connection = {"conn_type": "xcompliance", "host": x_api.url, "password": x_api.bearer_token}
    return {"AIRFLOW_CONN_XCOMPLIANCE_DEFAULT": json.dumps(connection)}


def event_rows(manifests: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Return the table of events, from the manifests that landed."""
    yield "job type", "action", "reason", "events"
    for manifest in manifests:
        job_type = manifest["job_type"]
        for action, reasons in manifest["actions"].items():
            for reason, number in reasons.items():
                yield job_type, action, reason, f"{number:6,}"
        for error, number in manifest["errors"].items():
            yield job_type, "error", error, f"{number:6,}"
        submitted = manifest["submitted"]["ids"]
        yield job_type, "all", f"of {submitted:,} ids", f"{manifest['events']:6,}"


def result_rows(results: Path) -> Iterator[tuple[str, str]]:
    """Return the table of files that landed."""
    yield "file", "bytes"
    for path in sorted(path for path in results.rglob("*") if path.is_file()):
        yield str(path.relative_to(results)), f"{path.stat().st_size:9,}"


def look_for_secrets(issued: set[str], directory: Path, leave_out: Path, report: Report) -> list[str]:
    """
    Search logs, databases, results and this demo's own output, and say how many secrets were found.

    :param leave_out: the stand-in's own files, where the secrets come from
    """
    scan = SecretScan(issued)
    scan.files(directory, [leave_out])
    for database in directory.rglob("*.db"):
        scan.database(database)
    scan.text("the output of this demo", "\n".join(report.lines))
    report.say(
        f"\nsecrets found: {len(scan.found)}"
        f" (the bearer and {len(issued) - 1} signatures or tokens,"
        f" looked for in {scan.places:,} files and database rows)"
    )
    return scan.found


def new_directory(flow: str) -> Path:
    """Return a new directory under ``.demo``, and remove those of earlier runs of the flow."""
    parent = ROOT / ".demo"
    parent.mkdir(exist_ok=True)
    for earlier in parent.glob(f"{flow}-*"):
        shutil.rmtree(earlier, ignore_errors=True)
    # Not the same name again: what is left of a run that was killed cannot get in the way.
    return Path(tempfile.mkdtemp(prefix=f"{flow}-", dir=parent))


def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """Handle a signal that asks this process to end."""
    raise Interrupted(number)


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flow", choices=("current", "legacy"), default="current", help="the wire flow")
    options = parser.parse_args()
    for number in ENDING_SIGNALS:
        signal.signal(number, interrupt)
    report = Report()
    try:
        return 0 if demonstrate(options.flow, new_directory(options.flow), report) else 1
    except (NotInTimeError, StandInError, requests.RequestException) as error:
        report.say(f"\nfailed after {report.seconds:.0f} s: {error}")
        return 1
    except Interrupted as signal_received:
        report.say("\ninterrupted; everything that was started has ended")
        return 128 + signal_received.number


if __name__ == "__main__":
    sys.exit(main())
