"""
Task runs in processes that can be killed at an exact point.

The processes are forked from one that has imported Airflow, so that each costs milliseconds. What a task
returned is kept as Airflow keeps an XCom, and one that died is begun again with the same context.
"""

import functools
import gc
import logging
import multiprocessing
import os
import pkgutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

JOBS = "airflow_provider_xcompliance.operators.jobs"
SENSORS = "airflow_provider_xcompliance.sensors.jobs"

_FORKING = multiprocessing.get_context("forkserver")
# The last three are what each worker would else import anew, two of them for Airflow 3.
_FORKING.set_forkserver_preload(
    [
        "pytest",
        __name__,
        JOBS,
        SENSORS,
        "airflow.sdk.execution_time.cache",
        "airflow.sdk.execution_time.supervisor",
        "smart_open",
    ]
)

POLL_SECONDS = 0.01
_PATIENCE_SECONDS = 60
_NEVER = threading.Event()


class Spot(NamedTuple):
    """
    A point within the worker at which it is struck by a signal.

    :param function: ``module:name``
    :param when: ``before`` the call, ``after`` it, or ``halfway`` through ``shutil.copyfileobj``
    :param nth: which call of it, counted from 1
    """

    function: str
    when: str
    nth: int = 1
    signal: int = signal.SIGKILL

    def arm(self) -> None:
        module, _, path = self.function.partition(":")
        holder, _, name = path.rpartition(".")
        owner = pkgutil.resolve_name(f"{module}:{holder}" if holder else module)
        original = getattr(owner, name)
        calls = iter(range(1, sys.maxsize))

        @functools.wraps(original)
        def struck(*arguments: Any, **options: Any) -> Any:
            if next(calls) != self.nth:
                return original(*arguments, **options)
            if self.when == "halfway":
                source, target = arguments[:2]
                target.write(source.read(os.fstat(source.fileno()).st_size // 2))
                target.flush()
            if self.when != "after":
                os.kill(os.getpid(), self.signal)
            try:
                return original(*arguments, **options)
            finally:
                # However it ended: X may refuse the first request of whoever comes second.
                if self.when == "after":
                    os.kill(os.getpid(), self.signal)

        setattr(owner, name, struck)


class XCom(NamedTuple):
    """What a task returned, where it stands for an option of a later one."""

    task_id: str


class Task(NamedTuple):
    """
    A task of a DAG.

    :param operator: ``module:class``
    """

    task_id: str
    operator: str
    options: Mapping[str, Any]


class Call(NamedTuple):
    """What a worker is told: to run tasks, one after another."""

    tasks: Sequence[Task]
    xcom: Mapping[str, Any]
    identity: Mapping[str, Any]
    environ: Mapping[str, str]
    log: Path
    spot: Spot | None


@dataclass(frozen=True)
class End:
    """
    How a worker ended.

    :param exitcode: below 0: the signal that killed it
    :param xcom: what the tasks returned, by their ids
    :param error: what the last one raised: class and text
    :param log: all that it logged
    """

    exitcode: int
    xcom: Mapping[str, Any]
    error: str | None
    log: str


class Worker:
    """A process for some tasks, which waits until it is told to go."""

    def __init__(self, call: Call) -> None:
        self._log = call.log
        self._pipe, theirs = _FORKING.Pipe()
        self._process = _FORKING.Process(target=_work, args=(call, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.pid: int = self._process.pid

    def go(self) -> None:
        self._pipe.send("go")

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> End:
        """Wait for the end of the process."""
        self._process.join(_PATIENCE_SECONDS)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise TimeoutError(f"the worker did not end:\n{self._log.read_text()}")
        told = list(_told(self._pipe))
        xcom = {task_id: value for task_id, value, error in told if not error}
        error = next((error for _, _, error in told if error), None)
        self._pipe.close()
        return End(self._process.exitcode, xcom, error, self._log.read_text())


def _told(pipe: Connection) -> Iterator[tuple[str, Any, str | None]]:
    with suppress(EOFError, ConnectionResetError):
        while True:
            yield pipe.recv()


def _work(call: Call, pipe: Connection) -> None:
    # Else each collection of garbage would copy the pages that are shared.
    gc.freeze()
    with call.log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.update(call.environ)
    tempfile.tempdir = call.environ["TMPDIR"]
    logging.basicConfig(level=logging.INFO, force=True, stream=sys.stderr)
    if call.spot:
        call.spot.arm()
    pipe.recv()
    _run(call, pipe)


def _run(call: Call, pipe: Connection) -> None:
    xcom = dict(call.xcom)
    for task_id, path, options in call.tasks:
        rendered = {
            name: xcom[value.task_id] if isinstance(value, XCom) else value for name, value in options.items()
        }
        operator = pkgutil.resolve_name(path)(task_id=task_id, **rendered)
        _pass_on_sigterm(operator)
        try:
            value = operator.execute({"ti": SimpleNamespace(task_id=task_id, map_index=-1, **call.identity)})
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            pipe.send((task_id, None, f"{type(error).__name__}: {error}"))
            return
        xcom[task_id] = value
        hand_over(pipe, task_id, value)


def _pass_on_sigterm(operator: Any) -> None:
    # As Airflow 3 does: the task is told, and goes on until it is killed.
    signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())


def hand_over(pipe: Connection, task_id: str, value: Any) -> None:
    """Tell what a task returned, which makes it an XCom."""
    pipe.send((task_id, value, None))


@dataclass
class DagRun:
    """
    A run of a DAG, whose tasks are run when told to.

    :param directory: where logs, and scratch space of its workers, are
    :param environ: of the workers
    :param xcom: what the tasks that are done returned
    """

    tasks: Sequence[Task]
    directory: Path
    environ: Mapping[str, str]
    dag_id: str = "nightly"
    run_id: str = "scheduled__2026-01-01"
    xcom: dict[str, Any] = field(default_factory=dict)
    workers: int = 0

    def __post_init__(self) -> None:
        self.scratch.mkdir(parents=True)

    @property
    def scratch(self) -> Path:
        """Where the workers spool."""
        return self.directory / "scratch"

    @property
    def todo(self) -> list[Task]:
        """The tasks that have no XCom."""
        return [task for task in self.tasks if task.task_id not in self.xcom]

    def start(self, *tasks: Task, spot: Spot | None = None) -> Worker:
        """Fork a worker for tasks."""
        self.workers += 1
        identity = {"dag_id": self.dag_id, "run_id": self.run_id, "try_number": self.workers}
        log = self.directory / f"{self.workers:03}.log"
        environ = {"TMPDIR": str(self.scratch), **self.environ}
        return Worker(Call(tasks, dict(self.xcom), identity, environ, log, spot))

    def finish(self, worker: Worker) -> End:
        """Wait for the end of a worker, and keep what its tasks returned."""
        end = worker.end()
        self.xcom |= end.xcom
        return end

    def run(self, *tasks: Task, spot: Spot | None = None) -> End:
        """Run tasks, one after another."""
        worker = self.start(*tasks, spot=spot)
        worker.go()
        return self.finish(worker)

    def complete(self) -> End:
        """Run what is still to do, each task once."""
        end = self.run(*self.todo)
        assert not self.todo, end
        return end


def wait_until(is_so: Callable[[], bool]) -> None:
    """Look every few milliseconds whether something has come to pass."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError("what was waited for did not come to pass")
        _NEVER.wait(POLL_SECONDS)


def write_ids(directory: Path, count: int = 1000, first: int = 1_300_000_000_000_000_000) -> None:
    """Make a run's file of ids, each of which may be that of a post or of a user."""
    source = source_of(directory)
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("".join(f"{first + n * 4_194_305}\n" for n in range(count)))


def source_of(directory: Path) -> Path:
    """Return where the ids of a run are."""
    return directory / "in" / "ids.txt"


def destination_of(directory: Path) -> Path:
    """Return where the events of a run land."""
    return directory / "out" / "events.ndjson"


def manifest_of(directory: Path) -> Path:
    """Return where the manifest of these events lands."""
    return Path(f"{destination_of(directory)}.manifest.json")


def whole_job(directory: Path, job_type: str = "tweets", **options: Any) -> tuple[Task, ...]:
    """Return a DAG that runs a job in one task."""
    files = {"source": str(source_of(directory)), "destination": str(destination_of(directory))}
    options = {"job_type": job_type, "poll_interval": POLL_SECONDS, **files, **options}
    return (Task("run", f"{JOBS}:RunJobOperator", options),)


def four_steps(directory: Path, job_type: str = "tweets", **options: Any) -> tuple[Task, ...]:
    """
    Return a DAG that runs a job in a task per step.

    :param options: of the step that creates it
    """
    source, destination = str(source_of(directory)), str(destination_of(directory))
    job = {"job_id": XCom("create")}
    create = {"job_type": job_type, "poll_interval": POLL_SECONDS, **options}
    return (
        Task("create", f"{JOBS}:CreateJobOperator", create),
        Task("upload", f"{JOBS}:UploadOperator", {**job, "source": source}),
        Task("status", f"{SENSORS}:JobStatusSensor", {**job, "mode": "poke", "poke_interval": POLL_SECONDS}),
        Task(
            "download", f"{JOBS}:DownloadOperator", {**job, "submitted": source, "destination": destination}
        ),
    )


#: The two ways to run a job.
STYLES: Mapping[str, Callable[..., tuple[Task, ...]]] = {"RunJob": whole_job, "four steps": four_steps}
