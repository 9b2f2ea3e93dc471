"""The world that a cell runs in: the stand-in, one clock for it and the worker, and a network that can go."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import json
import os
import random
import resource
import socket
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xcompliance import spools
from airflow_provider_xcompliance.api import client as clients
from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import XComplianceError
from airflow_provider_xcompliance.api.messages import FileSlice, Request
from airflow_provider_xcompliance.api.transport import Transport
from airflow_provider_xcompliance.api.waiting import wait_for_end
from airflow_provider_xcompliance.emulator.front import endpoint_of
from airflow_provider_xcompliance.emulator.server import EmulatorServer
from airflow_provider_xcompliance.hooks import compliance
from airflow_provider_xcompliance.hooks.compliance import XComplianceHook
from airflow_provider_xcompliance.operators import jobs
from airflow_provider_xcompliance.operators.jobs import RunJobOperator
from airflow_provider_xcompliance.storage import StorageError

FOREIGN = "somebody else's job"

#: What no text may hold: the credentials of the tests, and what comes before a secret in a URL.
SECRETS = ("canary", "token=", "Signature=", "upload_id=", "test-key", "test-secret")


class Killed(BaseException):
    """The worker is gone: nothing that it would still do is done."""


class Gate:
    """
    A way to a server that can be shut, so that connections to it are refused, and opened again.

    :param url: of the server
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._upstream = (parts.hostname, parts.port)
        self._port = 0
        self._open: list[socket.socket] = []
        self.open()
        self.url = f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Let connections through."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        """Cut what is connected, and refuse everybody."""
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._upstream)
                self._open += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65_536):
                target.sendall(block)
            target.shutdown(socket.SHUT_WR)


@dataclass
class World:
    """
    One operator, run as often as a cell wants, against the stand-in.

    :param script: what happens right before the nth request to an endpoint
    :param limit: seconds that the operator may wait for a job
    :param gate: the way to the stand-in, if it is to be shut
    :param gate_opens_after: how many sleeps later it opens again; 0: not by itself
    :param count: how many ids there are; each is in one line of 20 bytes
    """

    emulator: EmulatorServer
    directory: Path
    resumable: bool | None = None
    limit: float = 3600.0
    script: dict[tuple[str, int], Callable[[World], None]] = field(default_factory=dict)
    slept: float = 0.0
    gate: Gate | None = None
    gate_opens_after: int = 0
    count: int = 200

    def __post_init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._alter: Callable[[Request], Request] | None = None
        self._unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.spool = self.directory / "spool"
        self.kept: list[Path] = []
        self.source, self.destination = self.directory / "ids.txt", self.directory / "events.ndjson"
        self.ids = [str(1_300_000_000_000_000_000 + 4_194_305 * number) for number in range(self.count)]
        self.source.write_text("".join(f"{number}\n" for number in self.ids))
        gone = self.ids[:: max(2, self.count // 60)]
        self.control_ids = gone[:1]
        self.events = [f'{{"id":"{number}","action":"delete","reason":"deleted"}}' for number in gone]
        self.emulator.set_events("\n".join(self.events))

    # What a worker does

    def run(self) -> list[dict[str, Any]]:
        """Run the operator once, as a task's try does."""
        self._seen.clear()
        operator = RunJobOperator(
            task_id="check",
            job_type="tweets",
            source=str(self.source),
            destination=str(self.destination),
            control_ids=self.control_ids,
            resumable=self.resumable,
            poll_interval=30,
            timeout=self.limit,
            conflict_timeout=self.limit,
        )
        ti = SimpleNamespace(dag_id="nightly", task_id="check", run_id="a night", map_index=-1, try_number=1)
        try:
            return operator.execute({"ti": ti})
        finally:
            # Held open beyond the test, connections would pile up.
            operator.hook.client._transport._session.close()

    def now(self) -> float:
        """Tell the time: the worker's clock and the stand-in's go alike."""
        return time.time() + self.slept

    def sleep(self, seconds: float) -> None:
        """Let time pass, everywhere."""
        self.slept += seconds
        self.emulator.advance(seconds)
        if self.gate and self.gate_opens_after:
            self.gate_opens_after -= 1
            if not self.gate_opens_after:
                self.gate.open()

    def passing(self, request: Request) -> Request:
        """Do what the script says before a request leaves."""
        parts = urlsplit(request.url)
        endpoint = endpoint_of(request.method, parts.path, parse_qs(parts.query))
        self._seen[endpoint] += 1
        if deed := self.script.get((endpoint, self._seen[endpoint])):
            deed(self)
        alter, self._alter = self._alter, None
        return alter(request) if alter else request

    # What happens to it

    def die(self) -> None:
        """Kill the worker."""
        raise Killed

    def lose_network(self) -> None:
        """Let the stand-in be out of reach."""
        assert self.gate
        self.gate.shut()

    def leave_job_without_ids(self) -> None:
        """Let an earlier try end between the creation of its job and the upload."""
        script, self.script = self.script, dict.fromkeys([("upload", 1), ("resumable_start", 1)], World.die)
        with contextlib.suppress(Killed):
            self.run()
        self.script = script

    def leave_job_with_ids(self) -> None:
        """Let an earlier try end while it waits for its job."""
        script, self.script = self.script, {("get", 1): World.die}
        with contextlib.suppress(Killed):
            self.run()
        self.script = script

    def create_foreign_job(self, job_type: str = "tweets") -> None:
        """Let somebody else who shares the App create a job."""
        XComplianceHook().create_job(job_type, FOREIGN)

    def end_foreign_job(self) -> None:
        """Let that job end."""
        for job in self.jobs(foreign=True):
            self.emulator.set_job(job["id"], "failed")

    def end_job(self, status: str) -> None:
        """Give the newest job of our own another status."""
        self.emulator.set_job(self.jobs()[0]["id"], status)

    def list_without_urls(self) -> None:
        """Let X's next list hold no URLs, as it need not."""
        plain = [{key: job[key] for key in ("id", "type", "name", "status")} for job in self.jobs()]
        self.emulator.add_fault("status", endpoint="list", status=200, body={"data": plain})

    def mistake_the_job(self, job_type: str) -> None:
        """Let X answer the next look at a job with the description of somebody else's newest one."""
        (job, *_) = (job for job in self.jobs(foreign=True) if job["type"] == job_type)
        described = msgspec.to_builtins(XComplianceHook().get_job(job["id"]))
        self.emulator.add_fault("status", endpoint="get", status=200, body={"data": described})

    def lose_session(self) -> None:
        """Let the service lose the resumable session."""
        self.emulator.lose_sessions(self.jobs()[0]["id"])

    def stop_ranges(self) -> None:
        """Let the stand-in send whole results alone from now on."""
        self.emulator.configure(download_ranges=False)

    def replace_result(self) -> None:
        """Let the result become another object, with the same events in it."""
        self.emulator.set_result(self.jobs()[0]["id"], "\n".join(reversed(self.events)) + "\n")

    def corrupt_upload(self) -> None:
        """Change one digit of the next upload on its way."""

        def alter(request: Request) -> Request:
            body = request.body
            if not isinstance(body, FileSlice):
                return request
            corrupt = body.path.with_name("corrupt")
            content = bytearray(body.path.read_bytes())
            content[72] ^= 1
            corrupt.write_bytes(content)
            return replace(request, body=replace(body, path=corrupt))

        self._alter = alter

    def fill_disk(self) -> None:
        """Let no file of this process grow beyond 200 bytes: the disk is full for all that writes more."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, self._unlimited[1]))

    def free_disk(self) -> None:
        """Let files grow again."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._unlimited)

    def give_source(self, name: str, content: bytes) -> None:
        """Put another file in the place of the source."""
        self.source = self.directory / name
        self.source.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    def clean_up_beside(self) -> None:
        """Let another task look for orphans right before this one locks its spool."""
        lock = fcntl.flock

        def lock_late(file: Any, operation: int) -> None:
            spools.fcntl = fcntl
            with spools.spool_directory():
                lock(file, operation)

        spools.fcntl = SimpleNamespace(flock=lock_late, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB)

    def keep_a_directory(self) -> None:
        """Let somebody keep a directory where the spools are, which was not touched for a day."""
        self.kept = [self.spool / "xcompliance-notes"]
        self.kept[0].mkdir()
        os.utime(self.kept[0], (self.now() - 86_400,) * 2)

    def lose_source(self) -> None:
        """Name a source that does not exist."""
        self.source = self.directory / "gone.txt"

    def heal(self) -> None:
        """Take back whatever was done to the world."""
        self.free_disk()
        self.emulator.clear_faults()
        self.end_foreign_job()
        for job in self.jobs():
            if job["status"] in ("paused", "in_progress"):
                self.emulator.set_job(job["id"], "complete")
        self.script = {}
        self.source = self.directory / "ids.txt"
        if self.gate:
            self.gate.shut()
            self.gate.open()

    # What came of it

    def all_struck(self) -> bool:
        """Tell whether every fault came to strike, and everything in the script happened."""
        faults = all(fault["seen"] >= fault["nth"] for fault in self.emulator.faults())
        return faults and all(self._seen[endpoint] >= nth for endpoint, nth in self.script)

    def jobs(self, *, foreign: bool = False) -> list[dict[str, Any]]:
        """Return the jobs at X, the newest first: our own, or the foreign ones."""
        return [job for job in self.emulator.jobs() if (job["name"] == FOREIGN) == foreign]

    def assert_right(self, receipts: list[dict[str, Any]]) -> None:
        """Assert that what landed is the whole answer, of the newest job, and that nothing lies about."""
        landed = self.destination.read_text()
        assert sorted(filter(None, landed.split("\n"))) == sorted(self.events)
        manifest = json.loads(Path(f"{self.destination}.manifest.json").read_text())
        assert manifest["job_id"] == self.jobs()[0]["id"]
        assert manifest["bytes"] == len(landed)
        assert [receipt["job_id"] for receipt in receipts] == [manifest["job_id"]]
        assert self.jobs()[0]["status"] == "complete"
        assert [*self.spool.iterdir()] == self.kept


def assert_clear(error: BaseException) -> None:
    """Assert that an error is one line, and that nothing that can be reached from it is secret or noise."""
    assert "\n" not in str(error)
    assert len(str(error)) < 500
    link: BaseException | None = error
    while link is not None:
        assert isinstance(link, (AirflowFailException, XComplianceError, StorageError, ValueError)), repr(
            link
        )
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    shown = "".join(traceback.format_exception(error))
    assert [secret for secret in SECRETS if secret in shown] == []


@contextmanager
def in_a_world(
    world: World, monkeypatch: pytest.MonkeyPatch, connect: Callable[..., None], **connection: Any
) -> Iterator[World]:
    """
    Make operators live in a world: on its clock, on its network.

    :param connection: values of the Airflow connection
    """

    class WatchedTransport(Transport):
        def send(self, request: Request, *arguments: Any, **options: Any) -> Any:
            return super().send(world.passing(request), *arguments, **options)

        def stream(self, request: Request, **options: Any) -> Any:
            return super().stream(world.passing(request), **options)

    clocks = {"sleep": world.sleep, "clock": world.now}
    monkeypatch.setattr(compliance, "Transport", WatchedTransport)
    monkeypatch.setattr(compliance, "XComplianceClient", partial(XComplianceClient, **clocks))
    # Each secret makes the pattern that masks the logs longer, and these logs are nobody's.
    monkeypatch.setattr(compliance, "mask_secret", lambda _: None)
    world.spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(world.spool))
    monkeypatch.setattr(jobs, "wait_for_end", partial(wait_for_end, **clocks))
    monkeypatch.setattr(jobs, "time", SimpleNamespace(time=world.now))
    monkeypatch.setattr(clients, "random", random.Random(0))
    connect("xcompliance_default", conn_type="xcompliance", **connection)
    try:
        yield world
    finally:
        world.free_disk()
        if world.gate:
            world.gate.shut()
