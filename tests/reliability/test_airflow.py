"""Kill -9 of each component of a real Airflow, while runs of the chain stand in each of its states."""

import json
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.emulator.server import EmulatorServer
from airflow_provider_xcompliance.emulator.signatures import signing_key
from demo.airflow_standalone import NotInTimeError
from demo.secret_scan import SecretScan, secrets_of_urls
from demo.stand_in import StandIn
from tests.servers.airflow_stack import AirflowStack, airflow_stack

pytestmark = pytest.mark.row("Airflow for real")

DAGS = Path(__file__).parent / "dags"
FLOWS = ("current", "legacy")
COMPONENTS = ("worker", "triggerer", "scheduler")

#: Whose death, and in which state of the task, costs the task its try.
COSTS_A_TRY = {("worker", "running"), ("scheduler", "running"), ("scheduler", "queued")}
#: What can hold a secret, if anything does.
TABLES = {
    "trigger",
    "xcom",
    "rendered_task_instance_fields",
    "task_instance",
    "dag_run",
    "serialized_dag",
    "log",
}

IDS = 1000
HOLD_SECONDS = 90
RECOVERY_SECONDS = 150
AN_HOUR = 3600
LOG_LINES, LOG_WIDTH = 10, 600


@dataclass(frozen=True)
class State:
    """
    A state that a run of the chain can be in.

    :param dag_id: the DAG that gets there
    :param task_id: the task that is in it
    :param task_state: what Airflow calls it
    :param stalled: the endpoint that does not answer as long as the run is held
    :param nth: the request to it that is not answered; all that it asks for has been done
    :param processing_seconds: how long X works on the job, by its own clock
    """

    dag_id: str
    task_id: str
    task_state: str
    stalled: str | None = None
    nth: int = 1
    processing_seconds: int = 0


STATES = {
    # The job is paid for, and its window runs. Held by stopping all workers, once it is there.
    "queued": State("four_steps", "upload", "queued", stalled="create"),
    "uploading": State("four_steps", "upload", "running", stalled="upload"),
    "uploading in one task": State("one_task", "run", "running", stalled="upload"),
    # The first request is the upload's.
    "looking": State("four_steps", "wait", "running", stalled="get", nth=2),
    "waiting rescheduled": State("four_steps", "wait", "up_for_reschedule", processing_seconds=AN_HOUR),
    "waiting deferred": State("one_task", "run", "deferred", processing_seconds=AN_HOUR),
    "downloading": State("four_steps", "download", "running", stalled="download"),
    "downloading in one task": State("one_task", "run", "running", stalled="download"),
}


@dataclass
class Run:
    """
    One run of the chain, with an App of its own at X.

    :param name: of the run, and of the connection to the App
    :param directory: new; takes what goes up, what is at X, and what lands
    """

    name: str
    flow: str
    state: State
    directory: Path
    run_id: str = ""
    x: EmulatorServer = field(init=False)

    def __post_init__(self) -> None:
        self.directory.mkdir()
        ids = range(1_300_000_000_000_000_001, 1_300_000_000_000_000_001 + IDS)
        (self.directory / "ids").write_text("".join(f"{number}\n" for number in ids))
        self.x = EmulatorServer(
            bearer_token=f"canary-{secrets.token_hex(32)}",
            flow=self.flow,
            event_rate=1,
            processing_seconds=self.state.processing_seconds,
            state_dir=self.directory / "x",
        )

    @property
    def connection(self) -> dict[str, str]:
        """The environment variable that is an Airflow connection to the App."""
        values = {
            "conn_type": "xcompliance",
            "host": self.x.url,
            "password": self.x.bearer_token,
            # Nobody gives up on an answer while the run is held.
            "extra": {"timeout_seconds": 600},
        }
        return {f"AIRFLOW_CONN_{self.name.upper()}": json.dumps(values)}

    @property
    def events(self) -> Path:
        """Where the events land."""
        return self.directory / "events.ndjson"

    @property
    def secrets(self) -> set[str]:
        """What must not be seen: the bearer, and what gives access in the URLs."""
        x_api = StandIn(self.x.url, self.x.bearer_token)
        return {x_api.bearer_token, *secrets_of_urls(x_api.issued_urls())}

    def start(self, stack: AirflowStack) -> None:
        """Start the run; it will come to a halt in its state."""
        if self.state.stalled:
            self.x.add_fault("stall", endpoint=self.state.stalled, nth=self.state.nth)
        conf = {
            "connection": self.name,
            "source": str(self.directory / "ids"),
            "destination": str(self.events),
        }
        self.run_id = stack.api.trigger(self.state.dag_id, conf)

    def is_stalled(self) -> bool:
        """Whether X keeps this run waiting, if that is what holds it."""
        return self.state.stalled is None or any(request["fault"] == "stall" for request in self.x.requests())

    def is_held(self, stack: AirflowStack) -> bool:
        """Whether the run stands in its state."""
        query = "SELECT state FROM task_instance WHERE dag_id = %s AND run_id = %s AND task_id = %s"
        found = stack.rows(query, self.state.dag_id, self.run_id, self.state.task_id)
        return self.is_stalled() and found == [(self.state.task_state,)]

    def let_go(self) -> None:
        """Let X answer, and let it have done its work."""
        self.x.clear_faults()
        self.x.advance(self.state.processing_seconds)

    def outcome(self, stack: AirflowStack) -> str:
        """Return the state of the run as a whole."""
        query = "SELECT state FROM dag_run WHERE dag_id = %s AND run_id = %s"
        return stack.rows(query, self.state.dag_id, self.run_id)[0][0]

    def tries(self, stack: AirflowStack) -> int:
        """Return how often the task was tried that had got to the state."""
        query = "SELECT try_number FROM task_instance WHERE dag_id = %s AND run_id = %s AND task_id = %s"
        number: int = stack.rows(query, self.state.dag_id, self.run_id, self.state.task_id)[0][0]
        return number

    def paid(self) -> list[str]:
        """Return the jobs that were created, and what was done to them that X takes note of."""
        endpoints = ("create", "upload", "resumable_start", "resumable_put", "cancel")
        return [request["endpoint"] for request in self.x.requests() if request["endpoint"] in endpoints]

    def story(self, stack: AirflowStack) -> str:
        """Say what became of each task and how its logs end, for whoever finds the cell red."""
        tasks = stack.api.task_instances(self.state.dag_id, self.run_id)
        states = [f"{task['task_id']}: {task['state']}, try {task['try_number']}" for task in tasks]
        directory = stack.home / "logs" / f"dag_id={self.state.dag_id}" / f"run_id={self.run_id}"
        return "\n".join([*states, *(_end_of(log) for log in sorted(directory.rglob("*.log")))])


def _end_of(log: Path) -> str:
    lines = [line[:LOG_WIDTH] for line in log.read_text().splitlines() if '"level":"debug"' not in line]
    return "\n".join([str(log), *lines[-LOG_LINES:]])


@dataclass(frozen=True)
class Killed:
    """
    A component was killed under a run in each state.

    :param component: one of :data:`COMPONENTS`
    :param held: the states that the runs were in at that moment
    :param tables: those of the database that were not empty then
    :param leaks: those in which a secret stood then
    :param seconds: from then until all runs were over
    """

    component: str
    runs: Mapping[str, Run]
    held: Collection[str]
    tables: Collection[str]
    leaks: list[str]
    seconds: float


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Run]]]:
    """All runs by component and state; their Apps are there, but none of them is started."""
    directory = tmp_path_factory.mktemp("runs")
    found: dict[str, dict[str, Run]] = {component: {} for component in COMPONENTS}
    # Two Apps that make the key for their URLs at the same time would each have another one.
    signing_key()
    with ExitStack() as servers:
        for i, component in enumerate(COMPONENTS):
            for j, (name, state) in enumerate(STATES.items()):
                run_name = f"{component}_{name}".replace(" ", "_")
                run = Run(run_name, FLOWS[(i + j) % 2], state, directory / run_name)
                servers.enter_context(run.x)
                found[component][name] = run
        yield found


@pytest.fixture(scope="module")
def stack(runs: dict[str, dict[str, Run]]) -> Iterator[AirflowStack]:
    """A whole Airflow that knows the DAGs, with each App as a connection."""
    connections: dict[str, str] = {}
    for of_component in runs.values():
        for run in of_component.values():
            connections |= run.connection
    dag_ids = {state.dag_id for state in STATES.values()}
    with airflow_stack(DAGS, connections) as running:
        running.wait_until(lambda: all(map(running.api.knows_dag, dag_ids)), "the DAGs are parsed", 60)
        for dag_id in dag_ids:
            running.api.unpause(dag_id)
        yield running


@pytest.fixture(scope="module", params=COMPONENTS)
def killed(request: pytest.FixtureRequest, stack: AirflowStack, runs: dict[str, dict[str, Run]]) -> Killed:
    """Bring a run into each state, kill the component under all of them, and wait until they are over."""
    component, mine = request.param, runs[request.param]
    for run in mine.values():
        run.start(stack)
    # What does not come to pass in time makes its own cell red, and no other.
    with suppress(NotInTimeError):
        stack.wait_until(lambda: _all_but_queued_are_held(mine, stack), "the states", HOLD_SECONDS)
    with stack.no_worker_starts():
        mine["queued"].x.release()
        with suppress(NotInTimeError):
            stack.wait_until(lambda: mine["queued"].is_held(stack), "queued", HOLD_SECONDS)
        held = {name for name, run in mine.items() if run.is_held(stack)}
        tables = {table for table, _ in stack.database_rows()}
        leaks = _scan_database(stack, mine.values()).found
        stack.kill(component)
        killed_at = time.monotonic()
        if component != "worker":
            stack.restart(component)
    for run in mine.values():
        run.let_go()
    with suppress(NotInTimeError):
        stack.wait_until(lambda: _all_are_over(mine, stack), "the ends", RECOVERY_SECONDS)
    return Killed(component, mine, held, tables, leaks, time.monotonic() - killed_at)


def _all_but_queued_are_held(runs: Mapping[str, Run], stack: AirflowStack) -> bool:
    return all(run.is_stalled() if name == "queued" else run.is_held(stack) for name, run in runs.items())


def _all_are_over(runs: Mapping[str, Run], stack: AirflowStack) -> bool:
    return all(run.outcome(stack) in {"success", "failed"} for run in runs.values())


def _scan_database(stack: AirflowStack, runs: Collection[Run]) -> SecretScan:
    scan = SecretScan(set.union(*(run.secrets for run in runs)))
    for table, row in stack.database_rows():
        scan.text(f"table {table}", row)
    return scan


@pytest.mark.parametrize("state", STATES)
def test_a_run_ends_green_with_one_job_whatever_is_killed_under_it(
    killed: Killed, state: str, stack: AirflowStack, record_property: Any
) -> None:
    run = killed.runs[state]
    assert state in killed.held, run.story(stack)
    assert run.outcome(stack) == "success", run.story(stack)
    if (killed.component, run.state.task_state) in COSTS_A_TRY:
        assert run.tries(stack) > 1
    (job,) = run.x.jobs()
    assert job["status"] == "complete"
    assert run.events.read_bytes() == (run.directory / "x" / f"{job['id']}.result").read_bytes()
    manifest = json.loads(Path(f"{run.events}.manifest.json").read_text())
    assert (manifest["job_id"], manifest["submitted"]["ids"]) == (job["id"], IDS)
    record_property(f"{killed.component} killed, all over after", f"{killed.seconds:.0f} s")


def test_a_run_that_is_cleared_soon_asks_nothing_of_x_that_costs(killed: Killed, stack: AirflowStack) -> None:
    run = killed.runs["waiting deferred"]
    before, tries = run.paid(), run.tries(stack)
    stack.api.clear(run.state.dag_id, run.run_id)
    stack.wait_until(lambda: run.outcome(stack) in {"success", "failed"}, "the end", RECOVERY_SECONDS)
    assert run.outcome(stack) == "success", run.story(stack)
    assert run.tries(stack) > tries
    assert run.paid() == before


def test_no_secret_is_in_the_database_or_a_log(
    killed: Killed, stack: AirflowStack, record_property: Any
) -> None:
    scan = _scan_database(stack, killed.runs.values())
    scan.files(stack.home)
    record_property("files and rows searched", f"{scan.places:,}")
    assert killed.leaks + scan.found == []
    assert TABLES.issubset(killed.tables)
