"""Two deployments that share an App, with the same ids of DAG, task and run: each lands its own."""

import json
import random
import re
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.emulator.server import EmulatorServer
from tests.reliability.worker import (
    STYLES,
    DagRun,
    Spot,
    destination_of,
    manifest_of,
    source_of,
    wait_until,
    write_ids,
)

pytestmark = pytest.mark.row("two deployments, one App")

BEARER_TOKEN = "canary-bearer-3f9d1c"
FLOWS = ("current", "legacy")
OWNERS = ("paris", "tokyo")
FIRST_IDS = (1_300_000_000_000_000_000, 1_500_000_000_000_000_000)
IDS = 300

#: What a worker that is to be killed at random is killed around.
MOMENTS = (
    "airflow_provider_xcompliance.api.transport:Transport.send",
    "airflow_provider_xcompliance.api.transport:Transport.stream",
    "airflow_provider_xcompliance.storage:land",
    "os:fsync",
    "tests.reliability.worker:hand_over",
)
KILLS = 4


@dataclass(frozen=True)
class Night:
    """
    Two runs at the same time.

    :param styles: how each deployment runs its job
    :param job_types: of which type it is
    :param owners: by which the connections tell the deployments apart
    :param seed: of the points at which the workers are killed
    """

    name: str
    styles: tuple[str, str]
    job_types: tuple[str, str] = ("tweets", "tweets")
    owners: tuple[str, str] = OWNERS
    seed: int = 0


RUN_JOBS, STEPS = ("RunJob", "RunJob"), ("four steps", "four steps")
NIGHTS = (
    *(Night(f"whole jobs, seed {seed}", RUN_JOBS, seed=seed) for seed in range(3)),
    *(Night(f"four steps, seed {seed}", STEPS, seed=seed) for seed in range(3)),
    Night("users, whole jobs", RUN_JOBS, ("users", "users"), seed=3),
    Night("users, four steps", STEPS, ("users", "users"), seed=4),
    Night("a whole job beside four steps", ("RunJob", "four steps"), seed=5),
    Night("tweets beside users", RUN_JOBS, ("tweets", "users"), seed=6),
    Night("tweets beside users, four steps", STEPS, ("tweets", "users"), seed=7),
    Night("one owner, other files", RUN_JOBS, owners=("paris", "paris"), seed=8),
)
CELLS = [
    pytest.param(
        night,
        flow,
        id=f"{night.name}, {flow}",
        marks=[pytest.mark.quick] if night.name.endswith("seed 0") else [],
    )
    for night in NIGHTS
    for flow in FLOWS
]


class Deployment(DagRun):
    """One of those that share the App, with a run of its own."""

    def ids(self) -> set[str]:
        return set(source_of(self.directory).read_text().split())

    def job_id(self) -> str:
        """Return the id of the job that the run ended with."""
        return self.xcom["create"] if "create" in self.xcom else self.xcom["run"][0]["job_id"]

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.directory.glob("*.log")))

    def waited_for(self) -> set[str]:
        """Return the ids of the jobs that the log names as being in the way."""
        return set(
            re.findall(r"job (\d+) \(name .*\) is \w+ and in the way; waiting for its end", self.log())
        )

    def run_through(self, spots: Iterator[Spot]) -> int:
        """Run all tasks, each again after it was killed or lost a race; return how often one was killed."""
        kills = 0
        for task in self.tasks:
            while task in self.todo:
                end = self.run(task, spot=next(spots, None))
                kills += end.exitcode == -signal.SIGKILL
                # What Airflow's retries are for: X refused, and then there was nobody to wait for any more.
                assert end.error is None or end.error.startswith("JobConflictError"), end
        return kills

    def assert_landed(self) -> None:
        """Assert that the events are about the own ids, and that the manifest says so."""
        events = destination_of(self.directory).read_text().splitlines()
        manifest = json.loads(manifest_of(self.directory).read_bytes())
        assert {json.loads(line)["id"] for line in events if line} == self.ids()
        assert manifest["job_id"] == self.job_id()
        assert manifest["submitted"]["source"] == str(source_of(self.directory))


@dataclass
class App:
    """The App that is shared."""

    x: EmulatorServer
    directory: Path

    def deployment(
        self, number: int, style: str, job_type: str = "tweets", owner: str | None = None, **options: Any
    ) -> Deployment:
        directory = self.directory / f"deployment-{number}"
        write_ids(directory, IDS, FIRST_IDS[number])
        connection = {
            "conn_type": "xcompliance",
            "host": self.x.url,
            "password": BEARER_TOKEN,
            "extra": {"owner": owner} if owner else {},
        }
        environ = {"AIRFLOW_CONN_XCOMPLIANCE_DEFAULT": json.dumps(connection)}
        return Deployment(STYLES[style](directory, job_type, **options), directory, environ)

    def pair(self, style: str, **options: Any) -> tuple[Deployment, Deployment]:
        """Return two deployments that differ in owner and ids alone."""
        first, second = (self.deployment(n, style, owner=OWNERS[n], **options) for n in range(2))
        return first, second

    def jobs(self) -> list[tuple[str, str]]:
        """Tell ids and statuses of all jobs, the oldest first."""
        return [(job["id"], job["status"]) for job in reversed(self.x.jobs())]

    def hold(self) -> None:
        """Let X work on every job until :meth:`let_go`."""
        self.x.configure(processing_seconds=3600)

    def let_go(self) -> None:
        self.x.configure(processing_seconds=0)
        self.x.advance(3600)

    def assert_each_landed_its_own(self, deployments: Sequence[Deployment], *, lapsed: int = 0) -> None:
        """Assert what is the point of it all."""
        for deployment in deployments:
            deployment.assert_landed()
        used = {deployment.job_id() for deployment in deployments}
        assert len(used) == len(deployments)
        assert {job for job, status in self.jobs() if status == "complete"} == used
        assert len(self.jobs()) == len(deployments) + lapsed
        assert self.x.requests("cancel") == []


@pytest.fixture
def app(emulator: EmulatorServer, tmp_path: Path) -> App:
    emulator.configure(event_rate=1, rate_limit=1_000_000)
    return App(emulator, tmp_path)


def _spots(seed: int) -> Iterator[Spot]:
    """Yield points at random; the first is one that every task comes to."""
    dice = random.Random(seed)
    yield Spot(MOMENTS[0], dice.choice(("before", "after")))
    for _ in range(KILLS - 1):
        yield Spot(dice.choice(MOMENTS), dice.choice(("before", "after")), dice.randint(1, 3))


@pytest.mark.parametrize(("night", "flow"), CELLS)
def test_each_of_two_that_are_killed_at_random_lands_its_own(app: App, night: Night, flow: str) -> None:
    app.x.configure(flow=flow, processing_seconds=0.1)
    deployments = [
        app.deployment(number, night.styles[number], night.job_types[number], night.owners[number])
        for number in range(2)
    ]

    with ThreadPoolExecutor() as threads:
        kills = threads.map(
            lambda pair: pair[1].run_through(_spots(2 * night.seed + pair[0])), enumerate(deployments)
        )
        assert all(count > 0 for count in kills)

    app.assert_each_landed_its_own(deployments)
    for one, other in (deployments, deployments[::-1]):
        # An own job with ids, of which CreateJobOperator does not know the file, may be one of them.
        assert one.waited_for() <= {one.job_id(), other.job_id()}
    if night.job_types[0] != night.job_types[1]:
        assert not any(deployment.waited_for() for deployment in deployments)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("style", STYLES)
def test_a_foreign_job_is_named_and_waited_for_and_survives_whoever_waits(
    app: App, style: str, flow: str
) -> None:
    app.x.configure(flow=flow)
    app.hold()
    first, second = app.pair(style)
    ahead = first.start(*first.tasks)
    ahead.go()
    wait_until(lambda: [status for _, status in app.jobs()] == ["in_progress"])
    ((job_id, _),) = app.jobs()

    behind = second.start(*second.tasks)
    behind.go()
    wait_until(lambda: second.waited_for() == {job_id})
    name = app.x.jobs()[0]["name"]
    assert f"job {job_id} (name {name!r}, created " in second.log()
    # Evicted while it waits, and then killed.
    asked = len(app.x.requests("get"))
    behind.signal(signal.SIGTERM)
    wait_until(lambda: len(app.x.requests("get")) > asked + 10)
    behind.signal(signal.SIGKILL)
    assert second.finish(behind).exitcode == -signal.SIGKILL
    assert app.jobs() == [(job_id, "in_progress")]

    behind = second.start(*second.todo)
    behind.go()
    wait_until(lambda: second.log().count("in the way") == 2)
    app.let_go()
    for deployment, worker in ((first, ahead), (second, behind)):
        end = deployment.finish(worker)
        assert not deployment.todo, end
    app.assert_each_landed_its_own([first, second])
    assert second.waited_for() == {job_id}
    assert first.waited_for() <= {second.job_id()}


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("minutes", [0, 13], ids=["just created", "window nearly over"])
def test_a_foreign_job_without_ids_is_neither_taken_nor_cancelled(
    app: App, style: str, flow: str, minutes: int
) -> None:
    app.x.configure(flow=flow)
    first, second = app.pair(style)
    worker = first.start(first.tasks[0])
    app.x.add_fault("kill", endpoint="create", after_effect=True, pid=worker.pid)
    worker.go()
    assert first.finish(worker).exitcode == -signal.SIGKILL
    app.x.advance(60 * minutes)
    ((lost, _),) = app.jobs()

    behind = second.start(*second.tasks)
    behind.go()
    wait_until(lambda: second.waited_for() == {lost})
    asked = len(app.x.requests("get"))
    wait_until(lambda: len(app.x.requests("get")) > asked + 10)
    assert app.jobs() == [(lost, "created")]
    app.x.advance(60 * (15 - minutes))
    end = second.finish(behind)
    assert not second.todo, end
    first.complete()

    app.assert_each_landed_its_own([first, second], lapsed=1)
    assert dict(app.jobs())[lost] == "expired"


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("style", STYLES)
def test_who_would_rather_fail_than_wait_is_told_whose_job_it_is(app: App, style: str, flow: str) -> None:
    app.x.configure(flow=flow)
    app.hold()
    first, second = app.pair(style, on_conflict="fail")
    ahead = first.start(*first.tasks)
    ahead.go()
    wait_until(lambda: [status for _, status in app.jobs()] == ["in_progress"])
    ((job_id, _),) = app.jobs()

    end = second.run(second.tasks[0])
    assert re.match(rf"JobConflictError: job {job_id} \(name 'nightly\..*in the way", end.error)

    app.let_go()
    first.finish(ahead)
    assert not first.todo
    second.complete()
    app.assert_each_landed_its_own([first, second])


WARNING = "The connection names no 'owner'"


@pytest.mark.parametrize("flow", FLOWS)
def test_without_owners_whole_jobs_are_told_apart_by_their_files(app: App, flow: str) -> None:
    app.x.configure(flow=flow, processing_seconds=0.1)
    deployments = [app.deployment(number, "RunJob") for number in range(2)]
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda pair: pair[1].run_through(_spots(20 + pair[0])), enumerate(deployments)))
    app.assert_each_landed_its_own(deployments)
    assert all(WARNING in deployment.log() for deployment in deployments)


@pytest.mark.parametrize("flow", FLOWS)
def test_without_owners_four_steps_take_the_same_job_and_the_second_upload_fails_at_once(
    app: App, flow: str
) -> None:
    # The limit that the documentation states, and of which the log warns.
    app.x.configure(flow=flow)
    first, second = (app.deployment(number, "four steps") for number in range(2))
    for deployment in (first, second):
        deployment.run(deployment.tasks[0])
        assert WARNING in deployment.log()
    assert first.xcom == second.xcom
    assert len(app.jobs()) == 1

    first.complete()
    first.assert_landed()
    end = second.run(*second.todo)
    assert re.match("AirflowFailException: .* was given ids that no record tells of", end.error)
    assert not destination_of(second.directory).exists()


@pytest.mark.parametrize("flow", FLOWS)
def test_without_owners_addresses_of_their_own_tell_deployments_apart(app: App, flow: str) -> None:
    app.x.configure(flow=flow, processing_seconds=0.1)
    deployments = [app.deployment(number, "four steps") for number in range(2)]
    for deployment, owner in zip(deployments, OWNERS, strict=True):
        address = f"https://airflow-{owner}.example"
        deployment.environ |= {"AIRFLOW__API__BASE_URL": address, "AIRFLOW__WEBSERVER__BASE_URL": address}
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda pair: pair[1].run_through(_spots(30 + pair[0])), enumerate(deployments)))
    app.assert_each_landed_its_own(deployments)
    assert not any(WARNING in deployment.log() for deployment in deployments)
