import asyncio
import base64
import http.client
import json
import logging
import tempfile
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.hooks import compliance
from airflow_provider_xcompliance.operators.jobs import (
    CancelJobOperator,
    CreateJobOperator,
    DownloadOperator,
    UploadOperator,
)
from airflow_provider_xcompliance.sensors.jobs import JobStatusSensor
from airflow_provider_xcompliance.triggers import jobs as triggers
from tests.servers.clients import AZURE_KEY, azure_client
from tests.servers.stores import azurite  # noqa: F401 - a fixture

pytestmark = pytest.mark.row("secrets")

BEARER = "canary-bearer-3f9d1c"
KEY, SECRET = "canary-api-key-8c11e0", "canary/api+secret 57aa0e"
SESSION = "canary-session-b91f20dd"
BASIC = base64.b64encode(f"{quote(KEY, safe='')}:{quote(SECRET, safe='')}".encode()).decode()
ECHO = "{echo}"

#: The two flows, and the two ways to upload in the older one.
WAYS = {
    "current": ("oauth", "list", "create", "get", "upload", "download", "cancel"),
    "legacy": ("upload", "download"),
    "resumable": ("resumable_start", "resumable_put"),
}

_PROBLEM = {
    "type": f"https://api.x.com/2/problems/{ECHO}",
    "title": ECHO,
    "detail": f"The request {ECHO} is refused",
    "errors": [{"message": ECHO, "parameters": {"token": [ECHO]}}],
}
_HEADERS = {
    "x-echo": ECHO,
    "www-authenticate": f"Bearer {ECHO}",
    "location": f"https://evil.example/?token={ECHO}",
}
_STATUSES = (400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 502, 503)

#: What goes wrong; each answer holds every secret of the request that it answers.
FAULTS: dict[str, dict[str, Any]] = {
    **{
        f"status {status}": {"action": "status", "status": status, "body": _PROBLEM, "headers": _HEADERS}
        for status in _STATUSES
    },
    "XML of a refusal": {
        "action": "status",
        "status": 403,
        "body": f"<Error><Code>SignatureDoesNotMatch</Code><StringToSign>{ECHO}</StringToSign></Error>",
        "content_type": "application/xml",
    },
    "a page": {"action": "status", "status": 200, "body": f"<html>{ECHO}", "content_type": "text/html"},
    "a content type": {"action": "status", "status": 200, "content_type": f"text/html; {ECHO}"},
    "an encoding": {"action": "status", "status": 200, "headers": {"content-encoding": ECHO}, "body": "x"},
    "JSON that is cut": {"action": "status", "status": 200, "body": f'{{"data": {{"id": "{ECHO}'},
    "JSON of another shape": {"action": "status", "status": 200, "body": {"data": ECHO, ECHO: ECHO}},
    "JSON with problems": {"action": "status", "status": 200, "body": {"errors": [{"title": ECHO}]}},
    "a bad header": {"action": "status", "status": 200, "headers": {"content-range": ECHO, "etag": ECHO}},
    "a redirect": {"action": "redirect", "location": f"https://evil.example/?token={ECHO}"},
    "a reset": {"action": "reset"},
    "a lost answer": {"action": "reset", "after_effect": True},
    # Not for ever: a download gets 5 bytes further each time.
    "a cut": {"action": "cut", "at": 5, "times": 6},
    "a wrong length": {"action": "wrong_length", "offset": 9},
}
#: What a request carries besides the credentials that are exchanged for the bearer; else the bearer.
CARRIED = {
    "oauth": (),
    "upload": ("bearer", "upload's "),
    "resumable_start": ("upload's ",),
    "resumable_put": ("session",),
    "download": ("bearer", "download's "),
}
QUICK = {("current", "upload"), ("resumable", "resumable_put"), ("legacy", "download"), ("current", "oauth")}
QUICK_FAULTS = ("status 403", "status 500", "a redirect", "a reset")


def forms(secret: str) -> Iterator[str]:
    """Return how a secret may look: as it is, percent-encoded, and within base64 at any offset."""
    yield from {secret, quote(secret, safe=""), quote_plus(secret)}
    for offset in range(3):
        # The outermost characters depend on what stands beside it.
        yield base64.b64encode(b"\0" * offset + secret.encode()).decode()[4:-4]


class _Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # The servers of the tests live in this process, and their logs are not ours.
        if not record.name.startswith(("uvicorn", "werkzeug", "moto")):
            formatted = logging.Formatter("%(name)s %(message)s").format(record)
            self.texts.append(f"{formatted} {record.msg!r} {record.args!r} {record.exc_info!r}")


@dataclass
class Sinks:
    """Where a secret may not turn up."""

    logs: _Recorder
    output: Callable[[], str]
    directory: Path
    told: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def keep(self, where: str, *values: Any) -> None:
        self.texts[f"{where} {len(self.texts)}"] = "\n".join(
            value if isinstance(value, str) else f"{value!r} {json.dumps(value, default=str)}"
            for value in values
        )

    def error(self, where: str, error: BaseException) -> None:
        self.keep(where, "".join(traceback.format_exception(error)))
        seen: list[BaseException] = []
        pending: list[Any] = [error]
        while pending:
            link = pending.pop()
            if isinstance(link, BaseException) and link not in seen:
                seen.append(link)
                pending += [link.__cause__, link.__context__, *link.args, *vars(link).values()]
            self.keep(where, str(link), repr(link))

    def hits(self, canaries: dict[str, str]) -> list[str]:
        """Return what was found, and where."""
        self.texts["output"] = self.output()
        self.texts |= {f"log {n}": text for n, text in enumerate(self.logs.texts)}
        for path in self.directory.rglob("*"):
            if path.is_file():
                self.texts[str(path)] = path.read_bytes().decode("latin-1")
        everything = "\n".join(self.texts.values())
        needles = {
            name: part for name, secret in canaries.items() for part in forms(secret) if part in everything
        }
        return [
            f"{name} in {where}: {text[:300]}"
            for where, text in self.texts.items()
            for name, part in needles.items()
            if part in text
        ]


@pytest.fixture
def sinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Sinks]:
    """Listen everywhere, with everything as talkative as it can be."""
    recorder = _Recorder()
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    talkative = (
        "urllib3",
        "botocore",
        "smart_open",
        "http.client",
        "requests",
        "airflow_provider_xcompliance",
    )
    loggers += [logging.getLogger(name) for name in talkative]
    levels = {logger: logger.level for logger in loggers}
    ends = [logger for logger in levels if logger is logging.root or not logger.propagate]
    _set_levels(dict.fromkeys(levels, logging.DEBUG))
    for logger in ends:
        logger.addHandler(recorder)
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    yield Sinks(recorder, lambda: "\n".join(capfd.readouterr()), tmp_path)
    for logger in ends:
        logger.removeHandler(recorder)
    _set_levels(levels)


def _set_levels(levels: dict[logging.Logger, int]) -> None:
    # setLevel would look at all loggers again for each of a thousand.
    for logger, level in levels.items():
        logger.level = level
    logging.getLogger().setLevel(levels[logging.getLogger()])


@dataclass
class Run:
    """One job's life, task by task, with what each of them leaves behind."""

    emulator: Any
    sinks: Sinks
    source: str
    destination: str
    options: dict[str, str]
    way: str = "current"

    def __post_init__(self) -> None:
        self.emulator.configure(
            flow="current" if self.way == "current" else "legacy",
            api_key=KEY,
            api_secret=SECRET,
            processing_seconds=3600,
        )

    def execute(self, operator: Any) -> Any:
        """Run a task, and keep what Airflow would: its fields, its XCom, its deferral, its failure."""
        name = type(operator).__name__
        self.sinks.keep(f"{name}'s fields", {key: getattr(operator, key) for key in operator.template_fields})
        ti = SimpleNamespace(
            dag_id="dag", task_id="task", run_id="run", map_index=-1, try_number=1, max_tries=0
        )
        ti.get_first_reschedule_date = lambda context: None
        try:
            result = operator.execute({"ti": ti})
        except TaskDeferred as deferral:
            self.sinks.keep(f"{name}'s deferral", deferral.trigger.serialize(), deferral.kwargs)
            return deferral.trigger
        except Exception as error:  # noqa: BLE001 - whatever it is, Airflow would log it
            self.sinks.error(f"{name}'s failure", error)
            return None
        self.sinks.keep(f"{name}'s XCom", result)
        return result

    def create(self, job_type: str = "tweets") -> str | None:
        resumable = True if self.way == "resumable" else None
        return self.execute(CreateJobOperator(task_id="create", job_type=job_type, resumable=resumable))

    def upload(self, job_id: str) -> Any:
        return self.execute(
            UploadOperator(task_id="up", job_id=job_id, source=self.source, **self.source_conn)
        )

    @property
    def source_conn(self) -> dict[str, str]:
        return {key: value for key, value in self.options.items() if key == "source_conn_id"}

    def wait(self, job_id: str) -> None:
        """Look at the job in the worker, and then in the triggerer."""
        sensor = JobStatusSensor(task_id="wait", job_id=job_id, deferrable=True)
        with suppress(Exception):
            self.sinks.keep("look", repr(sensor.poke({})))
        trigger = self.execute(sensor)
        if not hasattr(trigger, "run"):
            return
        self.emulator.set_job(job_id, "complete")
        self.sinks.keep("event", asyncio.run(_only_event(trigger)))

    def download(self, job_id: str) -> Any:
        return self.execute(
            DownloadOperator(
                task_id="down",
                job_id=job_id,
                destination=self.destination,
                submitted=self.source,
                **self.options,
            )
        )

    def cancel(self) -> None:
        job_id = self.create("users")
        self.execute(CancelJobOperator(task_id="cancel", job_id=job_id))

    def canaries(self) -> dict[str, str]:
        """Return every secret that there was, by its own name."""
        state = self.emulator._emulator.state
        jobs = state.jobs.list(None, state.clock.now())
        found = {"bearer": BEARER, "API key": KEY, "API secret": SECRET, "Basic": BASIC, "session": SESSION}
        for job in jobs:
            for operation, url in (("upload", job.upload_url), ("download", job.download_url)):
                for name, value in parse_qsl(urlsplit(url).query):
                    if name in ("token", "X-Goog-Signature"):
                        found[f"{operation}'s {name} of job {job.id}"] = value
        return found | {f"session {n}": value for n, value in enumerate(state.sessions._sessions)}

    def arm(self, endpoint: str, fault: dict[str, Any]) -> None:
        """Set the fault, whose answer holds all secrets that the request carries."""
        if endpoint == "resumable_put":
            location = f"{self.emulator.url}/twttr-x/y?upload_id={SESSION}"
            headers = {"location": location}
            self.emulator.add_fault(
                "status", endpoint="resumable_start", times=0, status=201, headers=headers
            )
        names = ("API key", "API secret", "Basic", *CARRIED.get(endpoint, ("bearer",)))
        carried = {name: value for name, value in self.canaries().items() if name.startswith(names)}
        echo = " ".join(carried.values())
        # For ever, but a triggerer looks for as long as that.
        times = 15 if endpoint == "get" else 0
        self.emulator.add_fault(endpoint=endpoint, **{"times": times} | _filled(fault, echo))

    def whole_life(self, endpoint: str | None = None, fault: dict[str, Any] | None = None) -> None:
        """
        Take a job from its creation to its end, each step once with the fault and once without.

        :param endpoint: that fails
        """

        def step(endpoints: tuple[str, ...], action: Callable[[], Any]) -> Any:
            if endpoint in endpoints:
                self.arm(endpoint, fault or {})
                action()
                self.emulator.clear_faults()
            return action()

        step(("oauth", "list", "create"), self.create)
        (job,) = self.emulator.jobs()
        step(("upload", "resumable_start", "resumable_put"), lambda: self.upload(job["id"]))
        step(("get",), lambda: self.wait(job["id"]))
        self.emulator.set_job(job["id"], "complete")
        step(("download",), lambda: self.download(job["id"]))
        if self.way == "current":
            step(("cancel",), self.cancel)


async def _only_event(trigger: Any) -> Any:
    return [event.payload async for event in trigger.run()]


def _filled(value: Any, echo: str) -> Any:
    if isinstance(value, str):
        return value.replace(ECHO, echo)
    if isinstance(value, dict):
        return {_filled(key, echo): _filled(each, echo) for key, each in value.items()}
    return [_filled(each, echo) for each in value] if isinstance(value, list) else value


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, sinks: Sinks) -> None:
    """Do not sleep, and note what is masked instead of masking it: nothing may depend on that."""

    class FakeAsyncio:
        to_thread = staticmethod(asyncio.to_thread)

        @staticmethod
        async def sleep(seconds: float) -> None:
            return None

    monkeypatch.setattr(triggers, "asyncio", FakeAsyncio)
    monkeypatch.setattr(compliance, "mask_secret", sinks.told.append)
    monkeypatch.setitem(XComplianceClient.__init__.__kwdefaults__, "sleep", lambda seconds: None)


@pytest.fixture
def new_run(
    emulator: Any, connect: Callable[..., None], id_file: Path, tmp_path: Path, sinks: Sinks, quiet: None
) -> Callable[..., Run]:
    """Return a function that makes a run, from and to local files unless told otherwise."""

    def make(way: str, **where: Any) -> Run:
        values = {"source": str(id_file), "destination": str(tmp_path / "out" / "events"), "options": {}}
        return Run(emulator, sinks, way=way, **(values | where))

    connect("xcompliance_default", conn_type="xcompliance", host=emulator.url, login=KEY, password=SECRET)
    return make


def assert_clean(run: Run) -> None:
    assert run.sinks.hits(run.canaries()) == []
    assert not list((run.sinks.directory / "spool").iterdir())


@pytest.mark.parametrize(
    ("way", "endpoint", "fault"),
    [
        pytest.param(
            way,
            endpoint,
            fault,
            marks=pytest.mark.quick if (way, endpoint) in QUICK and fault in QUICK_FAULTS else (),
        )
        for way, endpoints in WAYS.items()
        for endpoint in endpoints
        for fault in FAULTS
    ],
)
def test_a_failure_shows_no_secret_even_if_the_answer_holds_all_of_them(
    new_run: Callable[..., Run], way: str, endpoint: str, fault: str
) -> None:
    run = new_run(way)
    run.whole_life(endpoint, FAULTS[fault])
    assert [entry for entry in run.emulator.requests(endpoint) if entry["fault"]]
    assert run.emulator.requests("download")
    assert_clean(run)


@pytest.mark.quick
@pytest.mark.parametrize("way", WAYS)
def test_each_secret_is_masked_before_it_is_used(
    new_run: Callable[..., Run], way: str, record_property: Callable[[str, str], None]
) -> None:
    run = new_run(way)
    run.whole_life()
    assert_clean(run)
    canaries = run.canaries()
    used = {name: value for name, value in canaries.items() if value not in (KEY, SECRET, SESSION)}
    (first, *_) = run.emulator.jobs()[-1:]
    used = {name: value for name, value in used.items() if " of job " not in name or first["id"] in name}
    assert set(used.values()) <= set(run.sinks.told)
    assert len(run.sinks.logs.texts) > 20
    record_property(f"canaries ({way})", f"{len(canaries)}, 0 hits in {len(run.sinks.texts)} texts")


# Stores: a secret key never goes over the wire, but clients and their errors know it

NOBODY = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Store:
    """
    A store with credentials that are canaries.

    :param folder: URI under which anything may be written
    :param canaries: what may not turn up
    :param put: writes an object there
    :param connect: gives a connection its values; False: nobody is there
    """

    folder: str
    canaries: dict[str, str]
    put: Callable[[str, bytes], Any]
    connect: Callable[[str, bool], Any]


def _s3(request: pytest.FixtureRequest) -> Store:
    server, connect = request.getfixturevalue("moto_s3"), request.getfixturevalue("connect")
    bucket = server.bucket()
    # moto takes any credentials, so these can be told from other text.
    login, password = f"AKIA{uuid.uuid4().hex}", f"canary-s3-{uuid.uuid4()}"

    def connection(conn_id: str, is_up: bool) -> None:
        values = server.connection() | {"login": login, "password": password}
        values["extra"] |= {} if is_up else {"endpoint_url": NOBODY}
        connect(conn_id, **values)

    return Store(
        f"s3://{bucket}/folder",
        {"S3 secret key": password},
        lambda name, body: server.client().put_object(Bucket=bucket, Key=f"folder/{name}", Body=body),
        connection,
    )


def _azure(request: pytest.FixtureRequest) -> Store:
    server, monkeypatch = request.getfixturevalue("azurite"), request.getfixturevalue("monkeypatch")
    container, clients = server.bucket(), {}

    def connection(conn_id: str, is_up: bool) -> None:
        clients[conn_id] = server.client() if is_up else azure_client(NOBODY)

    # The client itself, so that Airflow's provider for Azure is not needed.
    monkeypatch.setattr(compliance, "get_storage_client", lambda uri, conn_id: clients.get(conn_id))
    return Store(
        f"azure://{container}/folder",
        {"Azure key": AZURE_KEY},
        lambda name, body: server.client().get_blob_client(container, f"folder/{name}").upload_blob(body),
        connection,
    )


STORES: dict[str, Callable[[pytest.FixtureRequest], Store]] = {"s3": _s3, "azure": _azure}

#: What is wrong with the store of the results: where they shall go, and whether anybody is there.
STORE_FAULTS: dict[str, tuple[str | None, bool]] = {
    "nothing": (None, True),
    "no such bucket": ("no-such-one/folder", True),
    "nobody there": (None, False),
}


@pytest.mark.parametrize("way", ["current", "legacy"])
@pytest.mark.parametrize("fault", STORE_FAULTS)
@pytest.mark.parametrize("kind", STORES)
def test_a_store_shows_no_secret(
    new_run: Callable[..., Run],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    id_file: Path,
    kind: str,
    fault: str,
    way: str,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = STORES[kind](request)
    store.put("ids.txt", id_file.read_bytes())
    elsewhere, is_up = STORE_FAULTS[fault]
    store.connect("store", True)
    store.connect("target", is_up)
    folder = f"{kind}://{elsewhere}" if elsewhere else store.folder
    options = {"source_conn_id": "store", "destination_conn_id": "target"}
    run = new_run(way, source=f"{store.folder}/ids.txt", destination=f"{folder}/events", options=options)
    run.whole_life()
    landed = any("'created': True" in text for text in run.sinks.texts.values())
    assert landed is (fault == "nothing")
    assert run.sinks.hits(run.canaries() | store.canaries) == []
    assert not list((run.sinks.directory / "spool").iterdir())


# A job that X describes with a secret in it


def test_a_jobs_own_error_is_redacted_too(new_run: Callable[..., Run]) -> None:
    run = new_run("current")
    job_id = run.create()
    run.emulator.set_job(job_id, "failed", error=f"the bearer {BEARER} was refused")
    run.wait(job_id)
    run.download(job_id)
    assert any("was refused" in text for text in run.sinks.texts.values())
    assert_clean(run)


# The scan itself


@pytest.mark.quick
@pytest.mark.parametrize("form", ["as it is", "percent-encoded", "base64", "within base64"])
@pytest.mark.parametrize("sink", ["log", "log's arguments", "traceback", "cause", "output", "file", "XCom"])
def test_the_scan_sees_what_it_shall(sinks: Sinks, sink: str, form: str) -> None:
    secret = {
        "as it is": SECRET,
        "percent-encoded": quote(SECRET, safe=""),
        "base64": base64.b64encode(SECRET.encode()).decode(),
        "within base64": base64.b64encode(f"k:{SECRET}:".encode()).decode(),
    }[form]
    log = logging.getLogger("airflow_provider_xcompliance.api.client")

    def fail() -> None:
        try:
            raise ValueError(secret)
        except ValueError as error:
            raise RuntimeError("no more") from error

    leaks: dict[str, Callable[[], Any]] = {
        "log": lambda: log.debug(secret),
        "log's arguments": lambda: log.debug("%.0s", secret),
        "traceback": lambda: sinks.error("x", KeyError(secret)),
        "cause": lambda: fail(),
        "output": lambda: print(secret),
        "file": lambda: (sinks.directory / "left").write_text(secret),
        "XCom": lambda: sinks.keep("XCom", {"a": [secret]}),
    }
    try:
        leaks[sink]()
    except RuntimeError as error:
        sinks.error("x", error)
    assert sinks.hits({"secret": SECRET})
