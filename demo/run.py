"""
The nightly DAG on a real Airflow, against the stand-in X API: ``python -m demo.run [--flow current|legacy]``.

It ends everything that it started, in whatever way it ends itself, and leaves the results in ``.demo/``.
"""

import argparse
import json
import secrets
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import requests

from demo.airflow_standalone import FINAL_STATES, NotInTimeError, Standalone, standalone
from demo.processes import ENDING_SIGNALS
from demo.secret_scan import SecretScan, secrets_of_urls
from demo.stand_in import StandIn, StandInError, stand_in

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = {"tweet_ids": ROOT / "demo/sample/tweets.txt", "user_ids": ROOT / "demo/sample/users.txt"}
DAG_ID = "xcompliance_nightly"

#: Longer than it takes from the upload to the first look, shorter than the minute until the second.
PROCESSING_SECONDS = 30
RUN_SECONDS = 150

#: How each wait must have been seen to wait, and what that is called in the table.
WAITS = {"tweets.wait": "up_for_reschedule", "users.wait": "deferred"}
WAIT_WORDS = {"up_for_reschedule": "rescheduled", "deferred": "deferred"}
#: A retry waits for a minute at least: the demo has failed by then.
FAILED_STATES = {"failed", "upstream_failed", "up_for_retry"}
LOG_LINES = 20


class Interrupted(BaseException):
    """Somebody wants this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Report:
    """What the demo says, and remembers in order to be searched for secrets."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.lines: list[str] = []

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def say(self, line: str = "") -> None:
        """Print a line at once."""
        self.lines.append(line)
        print(line, flush=True)

    def step(self, line: str) -> None:
        """Print a line with the time that has passed."""
        self.say(f"{self.seconds:5.0f} s  {line}")

    def table(self, title: str, rows: Iterable[Sequence[str]]) -> None:
        """Print rows with their columns aligned; the first row is the heading."""
        all_rows = list(rows)
        widths = [max(len(row[column]) for row in all_rows) for column in range(len(all_rows[0]))]
        self.say(f"\n{title}")
        for row in all_rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.say(f"  {'  '.join(cells)}".rstrip())


@dataclass
class TaskHistory:
    """What was seen of one task."""

    states: list[str] = field(default_factory=list)
    try_number: int = 0
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def state(self) -> str:
        """The last one."""
        return self.states[-1] if self.states else "none"

    @property
    def seconds(self) -> float:
        """From the first start to the last end, waiting included."""
        return (self.ended - self.started).total_seconds() if self.started and self.ended else 0.0

    def note(self, instance: dict[str, Any]) -> bool:
        """Take down what the API says, and tell whether the state is new."""
        self.started = self.started or _moment(instance["start_date"])
        self.ended = _moment(instance["end_date"])
        self.try_number = instance["try_number"]
        state = instance["state"] or "none"
        is_new = state != self.state
        if is_new:
            self.states.append(state)
        return is_new


class Night:
    """One run of the nightly DAG, watched over the REST API."""

    def __init__(self, airflow: Standalone, run_id: str, report: Report) -> None:
        self._airflow = airflow
        self._report = report
        self.run_id = run_id
        self.state = "queued"
        self.tasks: dict[str, TaskHistory] = {}
        self.delays: list[str] = []
        #: A copy of the database while a trigger is waiting; its row is gone afterwards.
        self.deferred_database = airflow.home / "while-deferred.db"

    def is_over(self) -> bool:
        """Look once; report every state that matters to a reader."""
        self.state = self._airflow.api.run_state(DAG_ID, self.run_id)
        for instance in self._airflow.api.task_instances(DAG_ID, self.run_id):
            history = self.tasks.setdefault(instance["task_id"], TaskHistory())
            if history.note(instance) and history.state in {*WAIT_WORDS, *FINAL_STATES, *FAILED_STATES}:
                self._report.step(f"{instance['task_id']:15}  {history.state}")
        if not self.deferred_database.exists() and self._any_in({"deferred"}):
            copy_database(self._airflow.database, self.deferred_database)
        return self.state in FINAL_STATES or self._any_in(FAILED_STATES)

    def problems(self) -> list[str]:
        """Return what keeps this run from being a success."""
        if self.state != "success":
            tasks = [f"{task} is {self.tasks[task].state}" for task in self._unsuccessful()]
            return [*self.delays, f"the run is {self.state}", *tasks]
        return [
            f"{task} was never seen {WAIT_WORDS[state]}"
            for task, state in WAITS.items()
            if state not in self.tasks[task].states
        ]

    def task_rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Return the table of tasks, in the order in which they began."""
        yield "task", "state", "seconds", "waited"
        begun = {task: history for task, history in self.tasks.items() if history.started}
        for task, history in sorted(begun.items(), key=lambda item: str(item[1].started)):
            waits = [WAIT_WORDS[state] for state in dict.fromkeys(history.states) if state in WAIT_WORDS]
            yield task, history.state, f"{history.seconds:7.1f}", ", ".join(waits)

    def unsuccessful_logs(self) -> Iterator[tuple[str, Path]]:
        """Return the log files of the last tries of the tasks that began and did not succeed."""
        for task in self._unsuccessful():
            number = self.tasks[task].try_number
            yield task, self._airflow.task_log(DAG_ID, self.run_id, task, number)

    def _unsuccessful(self) -> list[str]:
        begun = [task for task, history in self.tasks.items() if history.started]
        return [task for task in begun if self.tasks[task].state != "success"]

    def _any_in(self, states: set[str]) -> bool:
        return any(history.state in states for history in self.tasks.values())


def demonstrate(flow: str, directory: Path, report: Report) -> bool:
    """Run the night and say what happened; return whether everything is as it should be."""
    airflow_home, stand_in_home, results = (directory / name for name in ("airflow", "stand-in", "results"))
    airflow_home.mkdir()
    stand_in_home.mkdir()
    token = f"demo-{secrets.token_hex(32)}"
    report.step(f"starting the stand-in X API ({flow} flow) and Airflow in {directory}")
    with stand_in(stand_in_home, flow, token, PROCESSING_SECONDS) as x_api:
        with standalone(airflow_home, ROOT / "example_dags", connection_to(x_api)) as airflow:
            night = run_night(airflow, results, report)
            issued = secrets_of_urls(x_api.issued_urls())
        problems = night.problems()
    report.table("Tasks", night.task_rows())
    manifests = [json.loads(path.read_text()) for path in sorted(results.rglob("*.manifest.json"))]
    report.table("Events", event_rows(manifests))
    report.table(f"Results in {results}", result_rows(results))
    for task, log in night.unsuccessful_logs():
        report.say(f"\nThe end of the log of {task} ({log})")
        for line in last_lines(log):
            report.say(f"  {line}")
    found = look_for_secrets({token, *issued}, directory, stand_in_home / "state", report)
    problems += [f"a secret stands in {place}" for place in found]
    for problem in problems:
        report.say(f"not as it should be: {problem}")
    report.say(f"\n{'failed' if problems else 'success'} after {report.seconds:.0f} s")
    return not problems


def connection_to(x_api: StandIn) -> dict[str, str]:
    """Return the environment variable that is an Airflow connection to the stand-in."""
    connection = {"conn_type": "xcompliance", "host": x_api.url, "password": x_api.bearer_token}
    return {"AIRFLOW_CONN_XCOMPLIANCE_DEFAULT": json.dumps(connection)}


def run_night(airflow: Standalone, results: Path, report: Report) -> Night:
    """Trigger the nightly DAG, and watch it until it is over."""
    report.step(f"Airflow is healthy: {airflow.api.base_url}")
    airflow.wait_until(lambda: is_parsed(airflow), f"{DAG_ID} is parsed", 60)
    # The last midnight is due once the DAG is unpaused; this run takes its place, or would have to wait.
    due = airflow.api.next_logical_date(DAG_ID)
    # Copies, because an upload leaves its record beside its source.
    ids = results.with_name("ids")
    ids.mkdir()
    conf = {name: Path(shutil.copy(path, ids)).as_uri() for name, path in SAMPLES.items()}
    conf["destination"] = results.as_uri()
    night = Night(airflow, airflow.api.trigger(DAG_ID, conf, due), report)
    airflow.api.unpause(DAG_ID)
    report.step(f"triggered {DAG_ID}: {night.run_id}")
    try:
        airflow.wait_until(night.is_over, f"{DAG_ID} is over", RUN_SECONDS)
    except NotInTimeError as error:
        night.delays.append(str(error))
    return night


def is_parsed(airflow: Standalone) -> bool:
    """
    Tell whether the nightly DAG is known.

    :raises NotInTimeError: if it cannot be, because a file of the DAGs folder fails
    """
    if errors := airflow.api.import_errors():
        raise NotInTimeError(f"a DAG cannot be imported:\n{errors[0]}")
    return airflow.api.knows_dag(DAG_ID)


def copy_database(source: Path, copy: Path) -> None:
    """Copy a SQLite file that is in use."""
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(copy)) as target:
        live.backup(target)


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


def last_lines(log: Path) -> list[str]:
    """Return the end of a task's log, which is a JSON object per line, as text."""
    if not log.exists():
        return ["(there is no log: the worker did not get that far)"]
    return "\n".join(_readable(line) for line in log.read_text().splitlines()).splitlines()[-LOG_LINES:]


def _readable(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or []]
    return " ".join([entry.get("timestamp", ""), entry.get("level", ""), entry.get("event", ""), *errors])


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


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


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
