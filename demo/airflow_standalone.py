"""A real Airflow 3 for demonstrations and end-to-end tests: ``airflow standalone`` and its REST API."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from demo.processes import background, free_port

LOOPBACK = "127.0.0.1,localhost"
FINAL_STATES = {"success", "failed"}


class NotInTimeError(Exception):
    """Something that was waited for did not happen, or cannot happen any more."""


class RestClient:
    """What is needed of Airflow's REST API."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._session = requests.Session()
        # Neither a proxy nor a .netrc has a say in what goes to the loopback interface.
        self._session.trust_env = False
        # SQLite is locked now and then; only what changes nothing is asked twice.
        retry = Retry(5, status_forcelist=[500, 503], allowed_methods={"GET"}, backoff_factor=0.5)
        self._session.mount("http://", HTTPAdapter(max_retries=retry))

    def is_healthy(self) -> bool:
        """Whether every component reports that it works."""
        try:
            health = self._call("GET", "/api/v2/monitor/health")
        except requests.RequestException:
            return False
        return all(part["status"] == "healthy" for part in health.values())

    def log_in(self) -> None:
        """Take a token; with ``simple_auth_manager_all_admins`` nobody asks for a password."""
        token = self._call("GET", "/auth/token")["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def knows_dag(self, dag_id: str) -> bool:
        """Whether the DAG has been parsed."""
        dags = self._call("GET", f"/api/v2/dags?dag_id_pattern={quote(dag_id)}")["dags"]
        return any(dag["dag_id"] == dag_id for dag in dags)

    def import_errors(self) -> list[str]:
        """Return the tracebacks of DAG files that cannot be parsed."""
        return [error["stack_trace"] for error in self._call("GET", "/api/v2/importErrors")["import_errors"]]

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run the DAG."""
        self._call("PATCH", f"/api/v2/dags/{quote(dag_id)}", json={"is_paused": False})

    def next_logical_date(self, dag_id: str) -> str | None:
        """Return the logical date of the run that the schedule would start next."""
        date: str | None = self._call("GET", f"/api/v2/dags/{quote(dag_id)}")["next_dagrun_logical_date"]
        return date

    def trigger(self, dag_id: str, conf: Mapping[str, Any], logical_date: str | None = None) -> str:
        """
        Start a run and return its id.

        :param conf: overrides the DAG's params
        :param logical_date: with that of a scheduled run, this run takes its place
        """
        body = {"logical_date": logical_date, "conf": conf}
        run_id: str = self._call("POST", f"/api/v2/dags/{quote(dag_id)}/dagRuns", json=body)["dag_run_id"]
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        state: str = self._call("GET", self._run_path(dag_id, run_id))["state"]
        return state

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run as the API describes them."""
        found: list[dict[str, Any]] = self._call("GET", f"{self._run_path(dag_id, run_id)}/taskInstances")[
            "task_instances"
        ]
        return found

    def _run_path(self, dag_id: str, run_id: str) -> str:
        return f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}"

    def _call(self, method: str, path: str, **options: Any) -> Any:
        response = self._session.request(method, self.base_url + path, timeout=30, **options)
        response.raise_for_status()
        return response.json()


class Standalone:
    """
    A running ``airflow standalone``.

    :param home: its AIRFLOW_HOME
    :param api: a client that is logged in
    """

    def __init__(self, home: Path, process: subprocess.Popen[bytes], api: RestClient) -> None:
        self.home = home
        self.api = api
        self._process = process

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """
        Ask once a second until the condition holds.

        :param what: names the condition in the error
        :raises NotInTimeError: when the seconds are over, or Airflow has ended
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if self._process.poll() is not None:
                raise NotInTimeError(f"airflow ended with code {self._process.returncode}: see {self.log}")
            if time.monotonic() > deadline:
                raise NotInTimeError(f"{what}: not within {seconds:.0f} s")
            time.sleep(1)

    @property
    def log(self) -> Path:
        """Where the output of all components goes."""
        return self.home / "standalone.log"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.home / "airflow.db"

    def task_log(self, dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int) -> Path:
        """
        Return the log file of one try.

        :param map_index: -1 for a task that is not mapped
        """
        task = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        mapped = task if map_index < 0 else task / f"map_index={map_index}"
        return mapped / f"attempt={try_number}.log"


@contextmanager
def standalone(home: Path, dags: Path, env: Mapping[str, str], seconds: float = 120) -> Iterator[Standalone]:
    """
    Start an Airflow of its own, and end it on the way out.

    :param home: an empty directory, the new AIRFLOW_HOME
    :param dags: the DAGs folder
    :param env: environment variables for it, such as connections
    :param seconds: how long it may take to become healthy
    :raises NotInTimeError: if it does not
    """
    port = free_port()
    command = [sys.executable, "-m", "airflow", "standalone"]
    with background(command, environment(home, dags, port) | dict(env), home / "standalone.log") as process:
        running = Standalone(home, process, RestClient(f"http://localhost:{port}"))
        running.wait_until(running.api.is_healthy, "airflow is healthy", seconds)
        running.api.log_in()
        yield running


def environment(home: Path, dags: Path, port: int) -> dict[str, str]:
    """Return an environment in which an Airflow is alone: own home and ports, no settings of the user."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    settings = {
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__PARALLELISM": "4",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        # What is stored stays readable, so that a look for secrets in the database sees all of it.
        "CORE__FERNET_KEY": "",
        "CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{port}/execution/",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": f"http://localhost:{port}",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        # Without it a task that reschedules or defers at once is failed by a race in the scheduler.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }
    return {
        **inherited,
        "AIRFLOW_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', '')}",
        "NO_PROXY": LOOPBACK,
        "no_proxy": LOOPBACK,
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
    }
