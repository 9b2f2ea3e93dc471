"""A night's tasks in a process that can be killed at any point, and is begun again where it was."""

import functools
import gzip
import json
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from tests.nights.world import CONTROLS, JOB_TYPES
from tests.reliability.worker import Spot

log = logging.getLogger(__name__)

_FORKING = multiprocessing.get_context("forkserver")
#: What each worker would else import anew.
PRELOADED = (
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.sdk.execution_time.cache",
    "airflow.sdk.execution_time.supervisor",
    "airflow_provider_xcompliance.archive.delimited",
    "airflow_provider_xcompliance.archive.id_lists",
    "airflow_provider_xcompliance.archive.ndjson",
    "airflow_provider_xcompliance.archive.parquet",
    "airflow_provider_xcompliance.evidence",
    "airflow_provider_xcompliance.operators.archives",
    "airflow_provider_xcompliance.operators.jobs",
    "airflow_provider_xcompliance.redaction",
    "pytest",
    "smart_open",
    __name__,
)

CONN_ID = "archive"
_PATIENCE_SECONDS = 300


class Addition(NamedTuple):
    """
    What somebody else appends to a file in the moment before it is replaced.

    :param packed: how the file is compressed
    """

    uri: str
    content: bytes
    packed: str


class Call(NamedTuple):
    """
    What a worker is told.

    :param done: what tasks before this try returned, as XCom has it
    :param place: where the archive is, and what its files hold
    :param events: folder for what X says
    :param ahead: by how many seconds X's clock is ahead
    :param options: further arguments, by operator
    :param additions: made by somebody else while events are applied
    """

    run_id: str
    done: dict[str, Any]
    place: Mapping[str, Any]
    events: str
    ahead: float
    options: Mapping[str, Mapping[str, Any]]
    additions: tuple[Addition, ...]
    environ: Mapping[str, str]
    log: Path
    spot: Spot | None


class End(NamedTuple):
    """
    How a worker ended.

    :param exitcode: below 0: the signal that killed it
    :param added: URIs of the files that were appended to
    """

    exitcode: int
    done: dict[str, Any]
    added: set[str]
    error: str | None


def prepare() -> None:
    """Let workers be forked from a process that has imported what they need."""
    _FORKING.set_forkserver_preload(list(PRELOADED))


def run(call: Call) -> End:
    """Do what is left of a night, in a process of its own."""
    pipe, theirs = _FORKING.Pipe(duplex=False)
    process = _FORKING.Process(target=_work, args=(call, theirs), daemon=True)
    process.start()
    theirs.close()
    done, added, error = dict(call.done), set(), None
    with suppress(EOFError, ConnectionResetError):
        while pipe.poll(_PATIENCE_SECONDS):
            match pipe.recv():
                case ("done", task, value):
                    done[task] = value
                case ("added", uri):
                    added.add(uri)
                case ("error", text):
                    error = text
    process.join(_PATIENCE_SECONDS)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"the worker did not end: {call.log}")
    return End(process.exitcode, done, added, error)


def pack(content: bytes, packed: str) -> bytes:
    """Compress as a file is compressed; what is appended to such a file stays readable."""
    if packed == "gz":
        return gzip.compress(content, 1)
    if packed == "zst":
        import zstandard

        return zstandard.ZstdCompressor().compress(content)
    return content


def tell(pipe: Connection, *what: Any) -> None:
    """Tell the parent, which makes it an XCom."""
    pipe.send(what)


def _work(call: Call, pipe: Connection) -> None:
    with call.log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(call.environ)
    tempfile.tempdir = call.environ["TMPDIR"]
    logging.basicConfig(level=logging.INFO, force=True)
    _go_ahead(call.ahead)
    _connect_once()
    if call.spot:
        call.spot.arm()
    _let_others_write(call, pipe)
    try:
        _Night(call, pipe).run()
    except Exception as error:
        log.exception("the task failed")
        tell(pipe, "error", f"{type(error).__name__}: {error}")


def _go_ahead(seconds: float) -> None:
    """Let extraction read X's clock."""
    from airflow_provider_xcompliance import extraction

    extract = extraction.extract

    def extract_later(*arguments: Any, **options: Any) -> Any:
        return extract(*arguments, **options, now=datetime.now(UTC) + timedelta(seconds=seconds))

    extraction.extract = extract_later


def _connect_once() -> None:
    """Let a worker make one client of the store: with a dozen of them, that is what a night would take."""
    from airflow_provider_xcompliance.operators import archives, jobs

    client_of = functools.cache(archives.get_storage_client)
    for module in (archives, jobs):
        module.get_storage_client = lambda uri, conn_id: client_of(uri.partition("://")[0] + "://", conn_id)


def _let_others_write(call: Call, pipe: Connection) -> None:
    from airflow_provider_xcompliance import storage
    from airflow_provider_xcompliance.hooks.object_storage import get_storage_client

    replace = storage.replace
    additions = {addition.uri: addition for addition in call.additions}

    def replace_late(source: Path, uri: str, client: Any, version: str) -> Any:
        if addition := additions.pop(uri, None):
            s3 = get_storage_client(uri, CONN_ID)
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            s3.put_object(Bucket=bucket, Key=key, Body=content + pack(addition.content, addition.packed))
            # Not by what workers are killed at: what others do is done.
            pipe.send(("added", uri))
        return replace(source, uri, client, version)

    storage.replace = replace_late


class _Night:
    """The tasks of a night, as the example DAG orders them."""

    def __init__(self, call: Call, pipe: Connection) -> None:
        self._call = call
        self._pipe = pipe
        self._done = dict(call.done)

    def run(self) -> None:
        from airflow_provider_xcompliance.operators.archives import (
            ExtractIdsOperator,
            GuardEventsOperator,
            PlanRedactionOperator,
            RecordChecksOperator,
            RedactArchiveOperator,
        )
        from airflow_provider_xcompliance.operators.jobs import RunJobOperator

        ids = {
            job_type: self._do(
                f"extract_{job_type}", ExtractIdsOperator, job_type=job_type, **self._call.place
            )
            for job_type in JOB_TYPES
        }
        events = [
            self._do(
                f"run_{job_type}",
                RunJobOperator,
                job_type=job_type,
                source=ids[job_type],
                destination=f"{self._call.events}/{job_type}",
                source_conn_id=CONN_ID,
                destination_conn_id=CONN_ID,
                control_ids=[str(CONTROLS[job_type])],
            )
            for job_type in JOB_TYPES
        ]
        landed = {"events": events, "events_conn_id": CONN_ID}
        self._do("guard", GuardEventsOperator, **landed)
        groups = self._do("plan", PlanRedactionOperator, **self._call.place, **landed)
        reports = [
            self._do(f"apply_{number}", RedactArchiveOperator, group=group, **self._call.place, **landed)
            for number, group in enumerate(groups)
        ]
        self._do("record", RecordChecksOperator, reports=reports, **self._call.place, **landed)

    def _do(self, task: str, kind: Callable[..., Any], **arguments: Any) -> Any:
        """Run a task, unless a try before this one came to its end."""
        if task not in self._done:
            task_id, _, number = task.partition("_") if task.startswith("apply") else (task, "", -1)
            operator = kind(task_id=task_id, **arguments, **self._call.options.get(kind.__name__, {}))
            value = operator.execute({"ti": self._instance(task_id, int(number))})
            # XCom is JSON.
            self._done[task] = json.loads(json.dumps(value))
            tell(self._pipe, "done", task, self._done[task])
        return self._done[task]

    def _instance(self, task_id: str, number: int) -> SimpleNamespace:
        def push(key: str, value: Any) -> None:
            tell(self._pipe, "done", f"{task_id}.{key}", json.loads(json.dumps(value)))

        return SimpleNamespace(
            dag_id="nightly",
            task_id=task_id,
            run_id=self._call.run_id,
            map_index=number,
            try_number=1,
            xcom_push=push,
        )
