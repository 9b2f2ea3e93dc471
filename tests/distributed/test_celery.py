"""The example night of an archive on two Celery workers: undisturbed, and while one of them is killed."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.emulator.server import EmulatorServer
from demo.check import Answers, check
from demo.run import ARCHIVE_PARAMS, REFRESH_ARCHIVE, connection_to
from demo.sample.archive import KINDS, write_archive
from demo.stand_in import StandIn
from tests.servers.airflow_stack import ROOT, AirflowStack, airflow_stack
from tests.servers.fault_proxy import Fault
from tests.servers.versioned_s3 import VersionedS3, versioned_s3

pytestmark = pytest.mark.distributed

SETTINGS = Path(__file__).parent / "settings"
FLOW = "current"
WORKERS = ("one", "two")
APPLY = "refresh_archive.apply"
JOB_TYPES = ["tweets", "users"]

HOLD_SECONDS = 120
NIGHT_SECONDS = 240


@pytest.fixture(scope="module")
def store() -> Iterator[VersionedS3]:
    with versioned_s3() as running:
        yield running


@pytest.fixture(scope="module")
def x() -> Iterator[EmulatorServer]:
    with EmulatorServer(flow=FLOW, processing_seconds=1) as server:
        yield server


@pytest.fixture(scope="module")
def stack(store: VersionedS3, x: EmulatorServer) -> Iterator[AirflowStack]:
    """An Airflow with two workers, which knows the example DAGs, X, and the store."""
    env = {
        **connection_to(StandIn(x.url, x.bearer_token)),
        "AWS_ENDPOINT_URL": store.endpoint_url,
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "PYTHONPATH": f"{ROOT}:{SETTINGS}",
    }
    with airflow_stack(ROOT / "example_dags", env, celery_workers=WORKERS) as running:
        running.wait_until(lambda: running.api.knows_dag(REFRESH_ARCHIVE), "the DAG is parsed", 60)
        running.api.unpause(REFRESH_ARCHIVE)
        yield running


class Night:
    """
    A run of the DAG over an archive in a bucket of its own.

    :param directory: empty; takes the archive as it was, and as it is
    """

    def __init__(self, stack: AirflowStack, store: VersionedS3, x: EmulatorServer, directory: Path) -> None:
        self._stack, self._store, self._x = stack, store, x
        self._jobs_before = len(x.jobs())
        self._before, self._after = directory / "before", directory / "after"
        self.bucket = store.bucket()
        write_archive(self._before)
        for name in KINDS:
            store.client().upload_file(self._before / name, self.bucket, name)
        places = {"source": f"s3://{self.bucket}/", "events": f"s3://{self.bucket}-events"}
        store.client().create_bucket(Bucket=f"{self.bucket}-events")
        params = ARCHIVE_PARAMS | places | {"max_tasks": len(KINDS)}
        self.run_id = stack.api.trigger(REFRESH_ARCHIVE, params)

    @contextmanager
    def held(self, workers: Collection[str]) -> Iterator[None]:
        """
        Stop each apply where it is about to replace a file; as long as the context lives, no file changes.

        :param workers: who must have got there, before the context begins
        """
        gate = threading.Event()
        what = f"^PUT /{self.bucket}/({'|'.join(KINDS)})"
        holds = [Fault(what, "pass", nth=number, before=gate.wait) for number in range(1, len(KINDS) + 1)]
        self._store.proxy.plan(*holds)
        try:
            self._stack.wait_until(
                lambda: (
                    set(self._applying()) == set(workers)
                    and len(self._applying()) <= sum(hold.hit for hold in holds)
                ),
                "all workers are about to replace files",
                HOLD_SECONDS,
            )
            yield
        finally:
            gate.set()

    def end(self) -> None:
        """Wait for the end."""
        self._stack.wait_until(lambda: self.state() in ("success", "failed"), "the end", NIGHT_SECONDS)

    def state(self) -> str:
        return self._stack.api.run_state(REFRESH_ARCHIVE, self.run_id)

    def applies(self) -> list[tuple[str, int]]:
        """Return worker and number of the try of each mapped task of the apply."""
        return self._rows("SELECT hostname, try_number FROM task_instance")

    def paid(self) -> list[str]:
        """Return the type of each job that X took on since the night began."""
        jobs = self._x.jobs()
        return sorted(job["type"] for job in jobs[: len(jobs) - self._jobs_before])

    def problems(self) -> list[str]:
        """Return what is wrong with the archive."""
        for name in KINDS:
            path = self._after / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._store.client().download_file(self.bucket, name, path)
        files = check(self._before, self._after, Answers.of_stand_in(FLOW))
        return [problem for file in files for problem in file.problems]

    def versions(self) -> dict[str, int]:
        """Return how many versions each file of the archive has had."""
        pages = self._store.client().get_paginator("list_object_versions").paginate(Bucket=self.bucket)
        found = [version["Key"] for page in pages for version in page["Versions"]]
        return {name: found.count(name) for name in KINDS}

    def story(self) -> str:
        return self._stack.story(REFRESH_ARCHIVE, self.run_id)

    def _applying(self) -> list[str]:
        return [host for (host,) in self._rows("SELECT hostname FROM task_instance", "AND state = 'running'")]

    def _rows(self, select: str, condition: str = "") -> list[tuple[Any, ...]]:
        query = f"{select} WHERE run_id = %s AND task_id = %s {condition}"
        return self._stack.rows(query, self.run_id, APPLY)


@pytest.fixture
def night(stack: AirflowStack, store: VersionedS3, x: EmulatorServer, tmp_path: Path) -> Night:
    stack.revive_workers()
    return Night(stack, store, x, tmp_path)


def test_a_night_is_applied_by_both_workers(night: Night) -> None:
    with night.held(WORKERS):
        assert night.problems() != []
    night.end()
    assert night.state() == "success", night.story()
    assert {host for host, _ in night.applies()} == set(WORKERS)
    assert night.problems() == []
    assert night.paid() == JOB_TYPES


def test_a_worker_that_is_killed_while_it_applies_loses_nothing(night: Night, stack: AirflowStack) -> None:
    killed, other = WORKERS
    with night.held(WORKERS):
        stack.kill(killed)
    # What the dead worker had already sent comes through now, like any request that was on its way.
    night.end()
    assert night.state() == "success", night.story()
    assert {host for host, _ in night.applies()} == {other}
    assert max(tries for _, tries in night.applies()) > 1
    assert night.problems() == []
    assert night.versions() == dict.fromkeys(KINDS, 2), "each file was replaced once"
    assert night.paid() == JOB_TYPES
