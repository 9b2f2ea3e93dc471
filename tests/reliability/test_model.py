"""A model of one App that two deployments share: whatever happens in whatever order, nothing goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import logging
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import hypothesis
import pytest
import requests
import urllib3
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from airflow_provider_xcompliance import storage
from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import JobConflictError, JobFailedError, NetworkError
from airflow_provider_xcompliance.api.jobs import JobStatus
from airflow_provider_xcompliance.api.ownership import MIN_WINDOW, job_name
from airflow_provider_xcompliance.api.transport import Credentials, Transport
from airflow_provider_xcompliance.api.urls import UrlPolicy
from airflow_provider_xcompliance.emulator.app import build
from airflow_provider_xcompliance.emulator.control import Control
from airflow_provider_xcompliance.emulator.front import endpoint_of
from airflow_provider_xcompliance.emulator.jobs import ACTIVE, Job
from airflow_provider_xcompliance.emulator.settings import Clock, Settings
from airflow_provider_xcompliance.emulator.state import State
from airflow_provider_xcompliance.runs import JobRun, Part, Waiting

pytestmark = pytest.mark.row("a model")

URL = "http://127.0.0.1:1"
REUSE_WITHIN = timedelta(hours=6)
LITTLE = MIN_WINDOW.total_seconds()
FOREIGN = "a third deployment"

#: Both deployments have the same DAG, with runs of the same names.
RUNS = [
    ("alpha", "monday", "tweets"),
    ("alpha", "tuesday", "tweets"),
    ("beta", "monday", "tweets"),
    ("beta", "tuesday", "users"),
]
RUN = st.integers(0, len(RUNS) - 1)
#: Versions of an input; the ids of one are in part those of the others.
INPUTS = tuple("".join(f"{1_000 + number}\n" for number in range(first, first + 6)) for first in (0, 2, 4))
#: What people have done by now: which ids are gone.
TIMES = tuple(
    "\n".join(f'{{"id":"{1_000 + number}","action":"delete","reason":"deleted"}}' for number in range(last))
    for last in (0, 3, 6, 9)
)
MINUTE, HOUR, DAY = 60, 3_600, 86_400
#: Time passes with what happens alone, so that a history is always the same.
NOON, SECONDS_PER_REQUEST = 1_795_000_000.0, 0.3


class Killed(BaseException):
    """The worker is gone."""


@dataclass
class Fate:
    """
    What becomes of a worker at the nth point of its way: before or after a request, or a landing.

    :param left: points until it strikes; 0: never
    :param kills: else the network fails, where the point is at a request
    """

    left: int = 0
    kills: bool = True

    def pass_point(self, *, network: bool) -> None:
        self.left -= 1
        if self.left == 0 and self.kills:
            raise Killed
        if self.left == 0 and network:
            raise requests.ConnectionError(ConnectionResetError())


class InProcess(requests.adapters.HTTPAdapter):
    """The network of one deployment: the stand-in's own application, called without a socket between."""

    def __init__(self, model: Model, owner: str) -> None:
        super().__init__()
        self._model = model
        self._owner = owner

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        self._model.fate.pass_point(network=True)
        body = request.body if isinstance(request.body, bytes) else b"".join(request.body or ())
        self._model.state.clock.advance(SECONDS_PER_REQUEST)
        self._model.about_to_send(self._owner, request)
        status, headers, content = self._model.loop.run_until_complete(self._answer(request, body))
        self._model.has_sent(request, status, content)
        self._model.fate.pass_point(network=True)
        raw = urllib3.HTTPResponse(
            io.BytesIO(content), [(k.decode(), v.decode()) for k, v in headers], status, preload_content=False
        )
        return self.build_response(request, raw)

    async def _answer(self, request: requests.PreparedRequest, body: bytes) -> tuple[int, list[Any], bytes]:
        parts = urlsplit(request.url)
        headers = {**request.headers, "host": parts.netloc}
        scope = {
            "type": "http",
            "method": request.method,
            "scheme": parts.scheme,
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "state": {"protocol": SimpleNamespace(cycle=None)},
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._model.app(scope, receive, send)
        return sent[0]["status"], sent[0]["headers"], b"".join(message.get("body", b"") for message in sent)


@dataclass
class Worker:
    """
    A process that works on a run, with all that it remembers.

    :param waited_for: ids of the own jobs whose end it has seen
    """

    run: JobRun
    waiting: Waiting | None = None
    waited_for: list[str] = field(default_factory=list)


class Model(RuleBasedStateMachine):
    """One App, two deployments with three runs each, and all that can happen to them."""

    flows = ("current", "legacy")

    def __init__(self) -> None:
        super().__init__()
        self._patches = contextlib.ExitStack()
        self._patches.enter_context(patch.object(Clock, "now", lambda clock: NOON + clock.offset))
        self.directory = Path(tempfile.mkdtemp(prefix="model-"))
        self.loop = asyncio.new_event_loop()
        settings = Settings(flow=self.flows[0], processing_seconds=10 * 365 * DAY, rate_limit=10**9)
        self.state = State(settings, self.directory)
        self.control = Control(self.state)
        self.control.set_events(TIMES[1])
        self.app = build(self.state, self.control)
        self.fate = Fate()
        self.clients = {owner: self._client(owner) for owner in ("alpha", "beta")}
        self.workers: dict[int, Worker] = {}
        #: Name of a job → the run that it is of, and the sha256 of its ids.
        self.names: dict[str, tuple[int, str]] = {}
        self.resumes: bool | None = None
        self.spoiled: set[int] = set()
        self.wrongs: list[str] = []
        self.seen: Counter[str] = Counter()
        land = storage.land

        def watched_land(*arguments: Any, **options: Any) -> bool:
            self.fate.pass_point(network=False)
            created = land(*arguments, **options)
            self.fate.pass_point(network=False)
            return created

        self._patches.enter_context(patch.object(storage, "land", watched_land))
        spools = self.directory / "spools"
        spools.mkdir()
        self._patches.enter_context(patch.object(tempfile, "tempdir", str(spools)))
        # Whether a disk keeps what it was given is not what is modelled here.
        self._patches.enter_context(patch.object(os, "fsync"))
        for run in range(len(RUNS)):
            self.source(run).parent.mkdir(parents=True)
            self.source(run).write_text(INPUTS[0])

    def _client(self, owner: str) -> XComplianceClient:
        policy = UrlPolicy(URL)
        transport = Transport(policy, Credentials(self.state.settings.bearer_token))
        transport._session.mount("http://", InProcess(self, owner))
        clock = self.state.clock
        return XComplianceClient(transport, policy, sleep=clock.advance, clock=clock.now)

    def source(self, run: int) -> Path:
        return self.directory / f"run-{run}" / "ids.txt"

    def destination(self, run: int) -> Path:
        return self.directory / f"run-{run}" / "events.ndjson"

    def manifest(self, run: int) -> Path:
        return self.directory / f"run-{run}" / "events.ndjson.manifest.json"

    # What can happen

    def work(self, run: int) -> None:
        """Let a worker of a run go on as far as it can, and begin anew where there is none."""
        worker = self.workers.get(run) or self._new_worker(run)
        self.workers[run] = worker
        try:
            if not self._go_on(worker):
                return
            self._succeeded(run, worker)
        except Killed:
            self.seen["killed"] += 1
        except (JobFailedError, JobConflictError, NetworkError) as error:
            self.seen[type(error).__name__] += 1
        if not (worker.waiting and run in self.workers):
            self.workers.pop(run, None)

    def _new_worker(self, run: int) -> Worker:
        owner, run_id, job_type = RUNS[run]

        def name_of(sha256: str) -> str:
            name = job_name("dag.task", owner, "dag", "task", run_id, "-1", sha256)
            self.names[name] = (run, sha256)
            return name

        part = Part(str(self.source(run)), str(self.destination(run)))
        job_run = JobRun(self.clients[owner], job_type, [part], name_of, REUSE_WITHIN)
        job_run.validate()
        return Worker(job_run)

    def _go_on(self, worker: Worker) -> bool:
        """Do what the operator does between two waits; True when all has landed."""
        # Only the legacy flow has resumable uploads.
        worker.run.resumable = self.resumes if self.state.settings.flow == "legacy" else None
        if waiting := worker.waiting:
            job = worker.run.client.get_job(waiting.job.id)
            if not job.is_terminal:
                return False
            worker.waiting = None
            if waiting.for_result:
                if job.status != JobStatus.COMPLETE:
                    raise JobFailedError(job.id)
                worker.waited_for.append(job.id)
            worker.waiting = worker.run.advance(job.id if waiting.for_result else None)
        else:
            worker.waiting = worker.run.advance()
        return worker.waiting is None

    @rule(run=RUN)
    def works(self, run: int) -> None:
        self.work(run)

    @rule(run=RUN, point=st.integers(1, 10), kills=st.booleans())
    def works_and_is_struck(self, run: int, point: int, kills: bool) -> None:
        self.fate = Fate(point, kills)
        self.work(run)
        self.fate = Fate()

    @rule(run=RUN, point=st.integers(0, 30), kills=st.booleans())
    def works_to_its_end_if_nothing_is_in_the_way(self, run: int, point: int, kills: bool) -> None:
        self.fate = Fate(point, kills)
        ended = self.seen["succeeded"]
        for _ in range(3):
            self.work(run)
            if self.seen["succeeded"] > ended:
                break
            for job in self.jobs_of(run):
                if job.status == "in_progress":
                    self.control.set_job(job.id, "complete")
        self.fate = Fate()

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def is_killed_or_cleared(self, data: st.DataObject) -> None:
        del self.workers[data.draw(st.sampled_from(sorted(self.workers)))]

    @rule(
        seconds=st.sampled_from([MINUTE, 11 * MINUTE, 13 * MINUTE, 16 * MINUTE, 3 * HOUR, 7 * HOUR, 8 * DAY])
    )
    def time_passes(self, seconds: int) -> None:
        self.control.advance(seconds)

    @precondition(lambda self: self.jobs("in_progress"))
    @rule(data=st.data())
    def x_finishes_a_job(self, data: st.DataObject) -> None:
        self.control.set_job(data.draw(st.sampled_from(self.jobs("in_progress"))).id, "complete")

    @precondition(lambda self: self.jobs(*ACTIVE))
    @rule(data=st.data())
    def a_job_fails_or_is_cancelled_by_a_foreign_hand(self, data: st.DataObject) -> None:
        self.control.set_job(data.draw(st.sampled_from(self.jobs(*ACTIVE))).id, "failed")

    @rule(job_type=st.sampled_from(["tweets", "users"]), status=st.sampled_from(ACTIVE))
    def a_third_deployment_creates_a_job(self, job_type: str, status: str) -> None:
        if not [job for job in self.jobs(*ACTIVE) if job.type == job_type]:
            self.control.set_job(self.state.create(URL, job_type, FOREIGN, False).id, status)

    @rule(run=RUN, version=st.sampled_from(INPUTS))
    def an_input_changes(self, run: int, version: str) -> None:
        self.source(run).write_text(version)

    @rule(events=st.sampled_from(TIMES))
    def people_delete_and_bring_back(self, events: str) -> None:
        self.control.set_events(events)

    @precondition(lambda self: self.landed())
    @rule(data=st.data(), what=st.sampled_from(["cut", "change", "lose", "manifest lost", "manifest cut"]))
    def a_landed_file_is_spoiled(self, data: st.DataObject, what: str) -> None:
        run = data.draw(st.sampled_from(self.landed()))
        path = self.manifest(run) if what.startswith("manifest") else self.destination(run)
        if not path.exists():
            return
        content = path.read_bytes()
        self.spoiled.add(run)
        if what in ("lose", "manifest lost"):
            path.unlink()
        else:
            path.write_bytes(content[:-7] if "cut" in what else content.replace(b"delete", b"DELETE") + b"\n")

    @rule(resumes=st.sampled_from([True, None]))
    def uploads_become_resumable_or_not(self, resumes: bool | None) -> None:
        self.resumes = resumes

    @precondition(lambda self: len(self.flows) > 1)
    @rule(data=st.data())
    def x_changes_the_flow(self, data: st.DataObject) -> None:
        self.control.configure(flow=data.draw(st.sampled_from(self.flows)))

    # What is seen on the way

    def about_to_send(self, owner: str, request: requests.PreparedRequest) -> None:
        """Look at each request with the eyes of the other deployment."""
        parts = urlsplit(request.url)
        endpoint = endpoint_of(request.method, parts.path, parse_qs(parts.query))
        if endpoint in ("create", "list", "get"):
            return
        now = self.state.clock.now()
        job = self.state.jobs.get(re.search("[0-9]{16,}(?=_|/upload|/download|$)", parts.path)[0], now)
        what = f"{endpoint} by {owner}: job {job.name!r}, which is {job.status}"
        run, _ = self.names.get(job.name, (None, ""))
        if run is None or RUNS[run][0] != owner:
            self.wrongs.append(f"{what}, is not its own")
        elif endpoint == "cancel" and job.status == "created" and job.upload_expires - now > LITTLE:
            self.wrongs.append(f"{what}, has time enough for its upload")
        elif endpoint == "download" and self._stands(run, job):
            self.wrongs.append(f"{what}, has its events there already")

    def _stands(self, run: int, job: Job) -> bool:
        try:
            manifest = json.loads(self.manifest(run).read_bytes())
            whole = self.destination(run).read_bytes() == job.result.read_bytes()
        except (OSError, ValueError):
            return False
        return whole and run not in self.spoiled and manifest["job_id"] == job.id

    def has_sent(self, request: requests.PreparedRequest, status: int, content: bytes) -> None:
        """Look at each creation as whoever pays for it."""
        if (request.method, status) != ("POST", 200):
            return
        created = json.loads(content)["data"]
        now = self.state.clock.now()
        self.seen["created"] += 1
        for job in self.state.jobs.list(None, now):
            if job.name == created["name"] and job.id != created["id"]:
                is_old = now - job.created >= REUSE_WITHIN.total_seconds() - 2
                if not (job.status in ("failed", "expired") or (job.status == "complete" and is_old)):
                    self.wrongs.append(f"a second job {job.name!r} is paid for; the first is {job.status}")

    def jobs(self, *statuses: str) -> list[Job]:
        return [job for job in self.state.jobs.list(None, self.state.clock.now()) if job.status in statuses]

    def landed(self) -> list[int]:
        return [run for run in range(len(RUNS)) if self.destination(run).exists()]

    # What must always hold

    @invariant()
    def nothing_was_wrong(self) -> None:
        assert self.wrongs == []

    @invariant()
    def one_job_of_a_type_is_active(self) -> None:
        assert max(Counter(job.type for job in self.jobs(*ACTIVE)).values(), default=0) <= 1

    @invariant()
    def each_job_was_given_the_ids_in_its_name(self) -> None:
        for job in self.jobs("in_progress", "complete"):
            if job.name in self.names and job.submission:
                _, sha256 = self.names[job.name]
                assert hashlib.sha256(job.submission.read_bytes()).hexdigest() == sha256

    @invariant()
    def what_stands_is_a_whole_result_of_its_own_run(self) -> None:
        for run in self.landed():
            assert not [*self.destination(run).parent.glob("*.part")]
            if run in self.spoiled:
                continue
            content = self.destination(run).read_bytes()
            results = {job.id: job.result.read_bytes() for job in self.jobs_of(run) if job.result}
            assert content in results.values()
            if self.manifest(run).exists():
                manifest = json.loads(self.manifest(run).read_bytes())
                # It is replaced after the events, so right after a kill it may still tell of those before.
                if manifest["sha256"] == hashlib.sha256(content).hexdigest():
                    assert content == results[manifest["job_id"]]
                    _, sha256 = self.names[manifest["job_name"]]
                    assert manifest["submitted"]["sha256"] == sha256

    def jobs_of(self, run: int) -> list[Job]:
        names = {name for name, (of, _) in self.names.items() if of == run}
        return [job for job in self.state.jobs.list(None, self.state.clock.now()) if job.name in names]

    def _succeeded(self, run: int, worker: Worker) -> None:
        self.seen["succeeded"] += 1
        self.spoiled.discard(run)
        (receipt,) = worker.run.receipts
        manifest = json.loads(self.manifest(run).read_bytes())
        assert manifest == {key: receipt[key] for key in manifest}
        (job,) = [job for job in self.jobs_of(run) if job.id == manifest["job_id"]]
        age = self.state.clock.now() - job.created
        assert job.status == "complete"
        assert age < REUSE_WITHIN.total_seconds() + 2 or job.id in worker.waited_for
        assert self.destination(run).read_bytes() == job.result.read_bytes()
        assert job.submission.read_bytes() == self.source(run).read_bytes()

    # What must hold in the end

    def teardown(self) -> None:
        """Bring every run to its end, and see that another run of it has nothing to do."""
        self.fate = Fate()
        TOTALS.update(self.seen)
        TOTALS["histories"] += 1
        try:
            if not self.wrongs:
                self._end_well()
        finally:
            self._patches.close()
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.directory)

    def _end_well(self) -> None:
        for run in range(len(RUNS)):
            for _ in range(40):
                ended = self.seen["succeeded"]
                self.work(run)
                if self.seen["succeeded"] > ended:
                    break
                for job in self.jobs("in_progress"):
                    self.control.set_job(job.id, "complete")
                self.control.advance(2 * MINUTE)
            else:
                pytest.fail(f"{RUNS[run]} does not come to its end")
            created, is_fresh = self.seen["created"], self._is_fresh(run)
            self.work(run)
            if is_fresh:
                assert (self.seen["succeeded"], self.seen["created"]) == (ended + 2, created)
            self.nothing_was_wrong()

    def _is_fresh(self, run: int) -> bool:
        # What was waited for is an answer however old it is, but only once.
        job = self.state.jobs.get(json.loads(self.manifest(run).read_bytes())["job_id"], 0)
        return self.state.clock.now() - job.created < REUSE_WITHIN.total_seconds() - 2


#: What the histories of a test came to before their ends.
TOTALS: Counter[str] = Counter()


class CurrentModel(Model):
    """All jobs are of the current flow."""

    flows = ("current",)


class LegacyModel(Model):
    """All jobs are of the legacy flow."""

    flows = ("legacy",)


def run_model(model: type[Model], examples: int, steps: int = 40) -> None:
    """Try out as many histories as that, the same ones each time."""
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=True,
        database=None,
        deadline=None,
        # Shrinking a failure would take minutes; add Phase.shrink to look into one.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(model, settings=settings)


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path: Path) -> Iterator[None]:
    """Keep no log, in which hundreds of thousands of lines would tell nothing, and no notes of Hypothesis."""
    logging.disable()
    set_hypothesis_home_dir(tmp_path)
    yield
    set_hypothesis_home_dir(None)
    logging.disable(logging.NOTSET)


@pytest.mark.quick
def test_a_few_histories_in_both_flows() -> None:
    run_model(Model, 25)


@pytest.mark.parametrize("model", [Model, CurrentModel, LegacyModel])
def test_many_histories(model: type[Model], record_property: Callable[[str, str], None]) -> None:
    TOTALS.clear()
    run_model(model, 100)
    measured = ("histories", "created", "killed", "succeeded")
    record_property(model.__name__, ", ".join(f"{TOTALS[what]} {what}" for what in measured))
