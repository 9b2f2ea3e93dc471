import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    Asset,
    TaskDeferred,
)

from airflow_provider_xcompliance import transfer
from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import (
    DeadlineError,
    JobConflictError,
    JobFailedError,
    JobStateError,
    UploadTooLargeError,
    UrlExpiredError,
    XComplianceError,
)
from airflow_provider_xcompliance.api.waiting import wait_for_end
from airflow_provider_xcompliance.archive.events import MissingControlsError
from airflow_provider_xcompliance.archive.ids import InvalidIdsError
from airflow_provider_xcompliance.hooks.compliance import XComplianceHook
from airflow_provider_xcompliance.operators import jobs as operators
from airflow_provider_xcompliance.operators.jobs import (
    CancelJobOperator,
    CreateJobOperator,
    DownloadOperator,
    RunJobOperator,
    UploadOperator,
)
from airflow_provider_xcompliance.storage import DestinationExistsError
from airflow_provider_xcompliance.triggers import jobs as triggers
from airflow_provider_xcompliance.triggers.jobs import JobStatusTrigger

pytestmark = pytest.mark.usefixtures("x_connection")

SECRETS = ("token=", "X-Goog-Signature", "upload_url", "download_url", "canary")
HOUR = 3600


def context(task_id: str = "task", run_id: str = "run", map_index: int = -1, **more: Any) -> dict[str, Any]:
    """What Airflow hands to a try of a task."""
    ti = SimpleNamespace(dag_id="dag", task_id=task_id, run_id=run_id, map_index=map_index, try_number=1)
    return {"ti": ti} | more


def create(job_type="tweets", given=None, **options) -> str:
    operator = CreateJobOperator(task_id="create", job_type=job_type, **options)
    return operator.execute(given or context("create"))


def upload(job_id, source, **options) -> dict:
    return UploadOperator(task_id="upload", job_id=job_id, source=str(source), **options).execute(context())


def download(job_id, destination, given=None, **options) -> dict:
    operator = DownloadOperator(task_id="download", job_id=job_id, destination=str(destination), **options)
    return operator.execute(given or context())


def complete_job(id_file) -> str:
    job_id = create()
    upload(job_id, id_file)
    wait_for(job_id)
    return job_id


def wait_for(job_id) -> None:
    hook = XComplianceHook()
    while hook.get_job(job_id).status != "complete":
        pass


def foreign_job(emulator, status="in_progress") -> str:
    job_id = XComplianceHook().create_job("tweets", "of another team").id
    emulator.set_job(job_id, status)
    return job_id


@pytest.fixture
def naps(emulator, monkeypatch) -> list[float]:
    """How long was slept, in worker and triggerer; sleeping moves the stand-in's clock on, the only one."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        emulator.advance(seconds)

    class FakeAsyncio:
        to_thread = staticmethod(asyncio.to_thread)

        @staticmethod
        async def sleep(seconds: float) -> None:
            sleep(seconds)

    clock = SimpleNamespace(time=emulator.now)
    monkeypatch.setitem(wait_for_end.__kwdefaults__, "sleep", sleep)
    monkeypatch.setitem(wait_for_end.__kwdefaults__, "clock", emulator.now)
    monkeypatch.setitem(XComplianceClient.__init__.__kwdefaults__, "sleep", sleep)
    monkeypatch.setattr(operators, "time", clock)
    monkeypatch.setattr(triggers, "time", clock)
    monkeypatch.setattr(triggers, "asyncio", FakeAsyncio)
    return slept


def jobs_created(emulator) -> int:
    return len(emulator.requests("create"))


def statuses(emulator) -> list[str]:
    """The status of each job, the first one first."""
    return [job["status"] for job in reversed(emulator.jobs())]


class TestCreate:
    def test_the_job_id_is_returned(self, emulator):
        job_id = create("users", job_name="nightly users")

        (job,) = emulator.jobs()
        assert (job["id"], job["type"]) == (job_id, "users")

    @pytest.mark.parametrize(
        ("job_name", "label"),
        [(None, "dag.create-"), ("nightly users", "nightly-users-"), (20261122, "20261122-")],
    )
    def test_its_name_begins_with_a_label_and_says_whose_it_is(self, emulator, job_name, label):
        create(job_name=job_name)

        (job,) = emulator.jobs()
        assert job["name"].startswith(label)
        assert len(job["name"]) == len(label) + 32

    def test_an_unknown_type_is_refused_for_good_before_x_is_asked(self, emulator):
        with pytest.raises(AirflowFailException, match="job_type must be 'tweets' or 'users'"):
            create("posts")
        assert emulator.requests() == []

    def test_an_unknown_way_with_conflicts_is_refused_with_the_dag(self):
        with pytest.raises(ValueError, match="on_conflict must be 'wait' or 'fail'"):
            CreateJobOperator(task_id="create", job_type="tweets", on_conflict="cancel")


class TestOwnJob:
    def test_another_try_finds_the_job_of_the_first(self, emulator):
        assert create() == create()
        assert jobs_created(emulator) == 1

    @pytest.mark.parametrize(
        "other", [context("create", run_id="another"), context("create", map_index=0), context("create2")]
    )
    def test_that_of_another_run_or_task_is_foreign(self, emulator, other):
        create()

        with pytest.raises(JobConflictError, match=r"\(name 'dag.create-.*is created and in the way"):
            create(given=other, on_conflict="fail")
        assert jobs_created(emulator) == 1

    def test_that_of_another_owner_is_foreign(self, emulator, connect):
        create()
        extra = {"owner": "another deployment"}
        connect(
            "other", conn_type="xcompliance", host=emulator.url, password=emulator.bearer_token, extra=extra
        )

        with pytest.raises(JobConflictError, match="in the way"):
            create(xcompliance_conn_id="other", on_conflict="fail")
        assert jobs_created(emulator) == 1

    def test_one_that_is_at_work_is_waited_for_because_nobody_knows_its_ids(self, emulator, monkeypatch):
        first = create()
        emulator.set_job(first, "in_progress")
        monkeypatch.setitem(
            wait_for_end.__kwdefaults__, "sleep", lambda _: emulator.set_job(first, "complete")
        )

        second = create(on_conflict="fail")

        assert first != second
        assert statuses(emulator) == ["complete", "created"]

    @pytest.mark.parametrize("flow", ["legacy"], indirect=True)
    def test_one_whose_window_is_nearly_gone_is_waited_out_even_if_conflicts_shall_fail(self, emulator, naps):
        first = create()
        emulator.advance(14 * 60)

        assert create(on_conflict="fail") != first
        assert statuses(emulator) == ["expired", "created"]
        assert naps == [60]


class TestForeignJob:
    def test_its_end_is_waited_for_in_the_worker(self, emulator, naps):
        emulator.configure(processing_seconds=600)
        foreign = foreign_job(emulator, "created")

        job_id = create()

        assert job_id != foreign
        assert statuses(emulator) == ["expired", "created"]
        assert sum(naps) == pytest.approx(15 * 60, abs=61)
        assert emulator.requests("cancel") == []

    def test_the_wait_has_an_end_of_its_own(self, emulator, naps):
        foreign = foreign_job(emulator)

        with pytest.raises(DeadlineError, match=f"job {foreign} has not ended"):
            create(conflict_timeout=timedelta(hours=1))
        assert sum(naps) == pytest.approx(HOUR, abs=60)

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_with_no_time_for_it_nothing_is_waited_for(self, emulator, naps, deferrable):
        foreign_job(emulator)

        with pytest.raises(DeadlineError):
            create(conflict_timeout=0, deferrable=deferrable)
        assert naps == []

    def test_it_can_be_a_failure_that_may_be_retried(self, emulator):
        foreign_job(emulator)

        with pytest.raises(
            JobConflictError, match=r"job \d+ \(name 'of another team', created .*X runs one job of a type"
        ):
            create(on_conflict="fail")
        assert jobs_created(emulator) == 1

    def test_the_triggerer_waits_within_one_deadline_for_one_after_another(self, emulator, naps):
        deadlines = set()
        task = CreateJobOperator(
            task_id="create", job_type="tweets", deferrable=True, conflict_timeout=2 * HOUR
        )
        foreign_job(emulator)
        deferral = deferral_of(lambda: task.execute(context("create")))
        for _ in range(3):
            _, arguments = deferral.trigger.serialize()
            assert (arguments["for_result"], arguments["cancel_on_kill"]) == (False, False)
            deadlines.add(arguments["deadline"])
            emulator.set_job(arguments["job_id"], "failed")
            emulator.advance(600)
            event = event_of(deferral)
            foreign_job(emulator)
            deferral = deferral_of(lambda event=event: task.execute_complete(context("create"), event))
        emulator.advance(2 * HOUR)

        assert len(deadlines) == 1
        event = event_of(deferral)
        with pytest.raises(DeadlineError):
            task.execute_complete(context("create"), event)

    def test_after_it_the_job_is_created(self, emulator, naps):
        task = CreateJobOperator(task_id="create", job_type="tweets", deferrable=True)
        foreign = foreign_job(emulator)
        deferral = deferral_of(lambda: task.execute(context("create")))
        emulator.set_job(foreign, "complete")

        job_id = task.execute_complete(context("create"), event_of(deferral))

        assert [job["id"] for job in emulator.jobs()] == [job_id, foreign]


def deferral_of(step: Callable[[], Any]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        step()
    deferral = deferred.value
    path, arguments = deferral.trigger.serialize()
    # Both are kept in clear text, and must survive it.
    assert json.loads(json.dumps(arguments)) == arguments
    assert not any(secret in json.dumps(arguments) for secret in SECRETS)
    assert path == "airflow_provider_xcompliance.triggers.jobs.JobStatusTrigger"
    assert deferral.method_name == "execute_complete"
    assert not deferral.kwargs
    return deferral


def event_of(deferral: TaskDeferred) -> dict[str, Any]:
    """Let the triggerer wait, which knows nothing but what was serialized."""
    _, arguments = deferral.trigger.serialize()

    async def only_event() -> dict[str, Any]:
        (event,) = [each async for each in JobStatusTrigger(**arguments).run()]
        return event.payload

    event = asyncio.run(only_event())
    assert not any(secret in json.dumps(event) for secret in SECRETS)
    return json.loads(json.dumps(event))


class TestOnKill:
    @pytest.fixture
    def task(self) -> CreateJobOperator:
        task = CreateJobOperator(task_id="create", job_type="tweets")
        task.execute(context("create"))
        return task

    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_a_job_that_waits_for_its_ids_is_cancelled(self, emulator, task):
        task.on_kill()

        assert statuses(emulator) == ["failed"]

    @pytest.mark.parametrize("flow", ["legacy"], indirect=True)
    def test_one_that_cannot_be_cancelled_does_no_harm(self, emulator, task):
        task.on_kill()

        assert statuses(emulator) == ["created"]

    @pytest.mark.parametrize("status", ["in_progress", "complete", "failed", "reviewing"])
    def test_any_other_job_is_left_for_the_next_try(self, emulator, task, status):
        emulator.set_job(emulator.jobs()[0]["id"], status)

        task.on_kill()

        assert emulator.requests("cancel") == []

    def test_nothing_is_cancelled_where_that_is_not_wanted(self, emulator, task):
        task.cancel_on_kill = False
        asked = len(emulator.requests())

        task.on_kill()

        assert len(emulator.requests()) == asked

    @pytest.mark.parametrize(
        "operator",
        [
            CreateJobOperator(task_id="create", job_type="tweets"),
            RunJobOperator(task_id="run", job_type="tweets", source="/ids", destination="/events"),
        ],
    )
    def test_before_there_is_a_job_x_is_not_asked(self, emulator, operator):
        operator.on_kill()

        assert emulator.requests() == []

    @pytest.mark.parametrize(
        "fault",
        [
            {"action": "reset"},
            {"action": "status", "status": 503},
            {"action": "status", "status": 401},
            {"action": "status", "status": 200, "body": "<html>"},
            {"action": "rate_limit"},
        ],
    )
    def test_it_never_raises_and_never_waits(self, emulator, task, naps, fault):
        emulator.add_fault(**fault, times=0)

        task.on_kill()

        assert naps == []

    def test_without_a_connection_it_does_not_raise_either(self, task, monkeypatch):
        monkeypatch.delenv("AIRFLOW_CONN_XCOMPLIANCE_DEFAULT")

        task.on_kill()


class TestUpload:
    def test_the_receipt_says_what_went_up_and_holds_no_secret(self, id_file):
        job_id = create()

        receipt = upload(job_id, id_file)

        assert receipt["job_id"] == job_id
        assert receipt["ids"] == 1000
        assert receipt["bytes"] == id_file.stat().st_size
        assert not any(secret in json.dumps(receipt) for secret in SECRETS)

    def test_after_the_window_the_error_says_so_and_what_to_do(self, emulator, id_file):
        job_id = create()
        emulator.advance(15 * 60 + 1)

        with pytest.raises(
            AirflowFailException, match=r"15 minutes for it ended.*create a new job"
        ) as failure:
            upload(job_id, id_file)
        assert isinstance(failure.value.__cause__, UrlExpiredError)
        assert emulator.requests("upload") == []

    def test_bad_ids_fail_before_x_is_asked(self, emulator, tmp_path):
        job_id = create()
        bad = tmp_path / "ids.csv"
        bad.write_text("123\n1.41786E+18\n")
        before = len(emulator.requests())

        with pytest.raises(
            AirflowFailException, match=r"ids\.csv:2: not a decimal id: '1\.41786E\+18'"
        ) as failure:
            upload(job_id, bad)
        assert isinstance(failure.value.__cause__, InvalidIdsError)
        assert len(emulator.requests()) == before

    def test_ids_are_read_from_s3_with_a_connection(self, s3, connect, id_file):
        connect("store", **s3.connection())
        bucket = s3.bucket()
        s3.client().upload_file(str(id_file), bucket, "ids.txt")

        receipt = upload(create(), f"s3://{bucket}/ids.txt", source_conn_id="store")

        record = s3.client().get_object(Bucket=bucket, Key="ids.txt.upload.json")["Body"].read()
        assert receipt["ids"] == json.loads(record)["ids"] == 1000

    def test_another_try_after_a_kill_finds_that_the_ids_were_sent(self, emulator, id_file):
        job_id = create()
        first = upload(job_id, id_file)

        assert upload(job_id, id_file) == first | {"already_accepted": True}
        assert len([job for job in emulator.jobs() if job["submitted_bytes"]]) == 1

    def test_if_it_was_other_ids_it_fails_for_good(self, id_file):
        job_id = create()
        upload(job_id, id_file)
        id_file.write_text("12\n")

        with pytest.raises(AirflowFailException, match="the job was given other ids") as failure:
            upload(job_id, id_file)
        assert isinstance(failure.value.__cause__, JobStateError)


class TestDownload:
    def test_events_and_manifest_land_and_the_receipt_holds_no_secret(self, id_file, tmp_path):
        job_id = complete_job(id_file)

        receipt = download(job_id, tmp_path / "out" / "events.ndjson", submitted=str(id_file))

        manifest = json.loads((tmp_path / "out" / "events.ndjson.manifest.json").read_text())
        assert manifest["job_id"] == job_id
        assert receipt["events"] == manifest["events"] > 0
        assert receipt["created"] is True
        assert not any(secret in json.dumps([receipt, manifest]) for secret in SECRETS)

    def test_a_second_run_finds_the_same_and_changes_nothing(self, id_file, tmp_path):
        job_id = complete_job(id_file)
        first = download(job_id, tmp_path / "events")

        assert download(job_id, tmp_path / "events") == first | {"created": False}

    def test_other_content_is_replaced_only_when_asked_for(self, id_file, tmp_path):
        job_id = complete_job(id_file)
        (tmp_path / "events").write_text("something else\n")

        with pytest.raises(AirflowFailException, match="exists with other content") as failure:
            download(job_id, tmp_path / "events")
        assert isinstance(failure.value.__cause__, DestinationExistsError)
        assert (tmp_path / "events").read_text() == "something else\n"

        assert download(job_id, tmp_path / "events", if_exists="replace")["created"] is True

    def test_an_unknown_way_with_existing_files_is_refused(self, tmp_path):
        with pytest.raises(AirflowFailException, match="if_exists must be 'verify' or 'replace'"):
            download("1", tmp_path / "events", if_exists="overwrite")

    def test_a_job_without_results_is_an_error_that_says_so(self, tmp_path):
        with pytest.raises(JobConflictError, match="no results yet; wait until it is complete"):
            download(create(), tmp_path / "events")

    def test_the_counts_go_into_the_event_of_each_outlet(self, id_file, tmp_path):
        asset = Asset("events_of_tweets")
        events = {asset: SimpleNamespace(extra={})}

        receipt = download(
            complete_job(id_file), tmp_path / "events", context(outlet_events=events), outlets=[asset]
        )

        assert events[asset].extra["actions"] == receipt["actions"]

    def test_an_outlet_that_is_no_asset_does_no_harm(self, id_file, tmp_path):
        class Accessors(dict):
            def __missing__(self, key):
                raise TypeError(f"Key should be either an asset or an asset alias, not {type(key)}")

        receipt = download(
            complete_job(id_file),
            tmp_path / "events",
            context(outlet_events=Accessors()),
            outlets=["a table"],
        )

        assert receipt["created"] is True

    def test_results_land_on_s3_with_a_connection(self, s3, connect, id_file):
        connect("store", **s3.connection())
        bucket = s3.bucket()

        receipt = download(complete_job(id_file), f"s3://{bucket}/out/events", destination_conn_id="store")

        landed = s3.client().get_object(Bucket=bucket, Key="out/events")["Body"].read()
        assert len(landed) == receipt["bytes"]
        assert receipt["manifest"] == f"s3://{bucket}/out/events.manifest.json"


class TestCancel:
    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_an_active_job_of_the_current_flow_is_cancelled(self):
        job_id = create()

        assert CancelJobOperator(task_id="cancel", job_id=job_id).execute(context())["status"] == "failed"

    @pytest.mark.parametrize("flow", ["legacy"], indirect=True)
    def test_a_legacy_job_cannot_be_cancelled_and_the_error_says_so(self):
        job_id = create()

        with pytest.raises(AirflowFailException, match="only jobs of the current flow") as failure:
            CancelJobOperator(task_id="cancel", job_id=job_id).execute(context())
        assert isinstance(failure.value.__cause__, XComplianceError)

    def test_a_job_that_has_ended_is_left_alone(self, emulator, id_file):
        job_id = complete_job(id_file)

        assert CancelJobOperator(task_id="cancel", job_id=job_id).execute(context())["status"] == "complete"
        assert emulator.requests("cancel") == []


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def sources(tmp_path) -> list[str]:
    paths = [tmp_path / f"ids-{number}.txt" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_text("".join(f"{1_300_000_000_000_000_001 + 1000 * number + n}\n" for n in range(300)))
    return [str(path) for path in paths]


@pytest.fixture
def run_task(sources, out) -> Callable[..., RunJobOperator]:
    """Return a function that makes a task, or the same task in a new process."""

    def make(source=None, **options) -> RunJobOperator:
        source = source or sources[0]
        destination = out / "events" if isinstance(source, str) else out
        return RunJobOperator(
            task_id="run", job_type="tweets", source=source, destination=str(destination), **options
        )

    return make


def run_deferred(make: Callable[..., RunJobOperator], **options: Any) -> tuple[list[dict], list[dict]]:
    """Take a task to its end, each step in a process of its own; return receipts and triggers' arguments."""
    waits: list[dict[str, Any]] = []
    step = partial(make(deferrable=True, **options).execute, context("run"))
    while True:
        try:
            return step(), waits
        except TaskDeferred as deferral:
            found = deferral
        deferral_of(raiser(found))
        waits.append(found.trigger.serialize()[1])
        task = make(deferrable=True, **options)
        step = partial(task.execute_complete, context("run"), event_of(found))


def raiser(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


class TestRun:
    def test_one_file_is_taken_to_its_events(self, emulator, naps, run_task, sources, out):
        (receipt,) = run_task().execute(context("run"))

        (job,) = emulator.jobs()
        assert (receipt["job_id"], receipt["job_name"]) == (job["id"], job["name"])
        assert job["name"].startswith("dag.run-")
        assert receipt["events"] > 0
        assert files(out) == ["events", "events.manifest.json"]
        assert not any(secret in json.dumps(receipt) for secret in SECRETS)

    def test_a_list_is_taken_part_after_part(self, emulator, naps, run_task, sources, out):
        emulator.configure(processing_seconds=20 * 60)

        receipts = run_task(sources).execute(context("run"))

        assert [receipt["submitted"]["source"] for receipt in receipts] == sources
        assert statuses(emulator) == ["complete"] * 3
        assert [name for name in files(out) if name.endswith(".ndjson")] == [
            f"part-000{number}.ndjson" for number in (1, 2, 3)
        ]

    def test_another_try_after_the_end_pays_for_nothing(self, emulator, naps, run_task, sources):
        first = run_task(sources).execute(context("run"))

        again = run_task(sources).execute(context("run"))

        assert again == [receipt | {"created": False} for receipt in first]
        assert jobs_created(emulator) == 3

    @pytest.mark.parametrize(("reuse_within", "jobs"), [(12 * HOUR, 1), (timedelta(hours=1), 2), (0, 2)])
    def test_what_is_not_fresh_any_more_is_checked_anew(self, emulator, naps, run_task, reuse_within, jobs):
        run_task(reuse_within=reuse_within).execute(context("run"))
        emulator.advance(2 * HOUR)

        run_task(reuse_within=reuse_within).execute(context("run"))

        assert jobs_created(emulator) == jobs

    def test_another_run_of_the_dag_lands_its_own(self, emulator, naps, run_task, out):
        run_task(reuse_within=0).execute(context("run", run_id="monday"))
        run_task(reuse_within=0).execute(context("run", run_id="tuesday"))

        assert len({job["name"] for job in emulator.jobs()}) == 2

    @pytest.mark.parametrize("bad", [0, 2])
    def test_nothing_is_created_when_any_part_is_bad(self, emulator, run_task, sources, bad):
        Path(sources[bad]).write_text("12\nnull\n")

        with pytest.raises(
            AirflowFailException, match=rf"ids-{bad}\.txt:2: not a decimal id: 'null'"
        ) as failure:
            run_task(sources).execute(context("run"))
        assert isinstance(failure.value.__cause__, InvalidIdsError)
        assert emulator.requests() == []

    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_a_file_that_is_too_large_fails_for_good_and_leaves_no_job_behind(
        self, emulator, run_task, monkeypatch
    ):
        monkeypatch.setattr(XComplianceClient, "upload_limit", lambda *_: 1000)

        with pytest.raises(AirflowFailException, match=r"6,000 bytes of ids.*split it") as failure:
            run_task().execute(context("run"))
        assert isinstance(failure.value.__cause__, UploadTooLargeError)
        assert statuses(emulator) == ["failed"]

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_a_job_that_fails_at_x_is_a_failure_and_the_next_try_creates_another(
        self, emulator, naps, run_task, deferrable
    ):
        emulator.configure(processing_seconds=HOUR)
        fail = iter(["once"])
        look = XComplianceClient.get_job

        def failing(client: XComplianceClient, job_id: str) -> Any:
            if next(fail, None):
                emulator.set_job(job_id, "failed", "malformed input")
            return look(client, job_id)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(XComplianceClient, "get_job", failing)
            step = (
                partial(run_deferred, run_task) if deferrable else partial(run_task().execute, context("run"))
            )
            with pytest.raises(JobFailedError, match=r"failed at X \(malformed input\)"):
                step()

        (receipt,) = run_task().execute(context("run"))
        assert statuses(emulator) == ["failed", "complete"]
        assert receipt["job_id"] == emulator.jobs()[0]["id"]

    def test_the_controls_are_sent_and_come_back(self, emulator, naps, run_task):
        emulator.set_events('{"id":"5","action":"delete","reason":"deleted"}\n')

        (receipt,) = run_task(control_ids=["5"]).execute(context("run"))

        assert (receipt["submitted"]["ids"], receipt["control_ids"]) == (301, ["5"])

    def test_without_one_of_them_nothing_lands(self, emulator, naps, run_task, out):
        emulator.set_events('{"id":"5","action":"delete","reason":"deleted"}\n')

        with pytest.raises(MissingControlsError):
            run_task(control_ids=["5", "6"]).execute(context("run"))
        assert files(out) == []

    @pytest.mark.parametrize("control_ids", ["56", "['5', '6']"])
    def test_a_text_in_place_of_a_list_of_controls_is_refused(self, emulator, run_task, control_ids):
        with pytest.raises(AirflowFailException, match="control_ids: a list of ids is needed, not a text"):
            run_task(control_ids=control_ids).execute(context("run"))
        assert emulator.requests() == []

    def test_other_events_stay_where_that_is_wanted(self, naps, run_task, out):
        out.mkdir()
        (out / "events").write_text("somebody's\n")

        with pytest.raises(AirflowFailException, match="exists with other content") as failure:
            run_task(if_exists="verify").execute(context("run"))
        assert isinstance(failure.value.__cause__, DestinationExistsError)
        assert (out / "events").read_text() == "somebody's\n"

    def test_each_outlet_is_told_the_receipts(self, naps, run_task):
        asset = Asset("events_of_tweets")
        events = {asset: SimpleNamespace(extra={})}

        receipts = run_task(outlets=[asset]).execute(context("run", outlet_events=events))

        assert events[asset].extra == {"receipts": receipts}

    def test_files_go_from_s3_to_s3_with_connections(self, naps, s3, connect, id_file):
        connect("store", **s3.connection())
        bucket = s3.bucket()
        s3.client().upload_file(str(id_file), bucket, "ids.txt")

        (receipt,) = RunJobOperator(
            task_id="run",
            job_type="tweets",
            source=[f"s3://{bucket}/ids.txt"],
            source_conn_id="store",
            destination=f"s3://{bucket}/out/",
            destination_conn_id="store",
        ).execute(context("run"))

        landed = s3.client().get_object(Bucket=bucket, Key="out/part-0001.ndjson")["Body"].read()
        assert len(landed) == receipt["bytes"]

    @pytest.mark.parametrize("timeout", [7 * 24 * HOUR, timedelta(days=8)])
    def test_a_time_out_beyond_the_life_of_the_results_is_refused_with_the_dag(self, run_task, timeout):
        with pytest.raises(ValueError, match="timeout must be below 7 days"):
            run_task(timeout=timeout)


class TestRunDeferred:
    def test_each_part_is_waited_for_in_the_triggerer_and_the_receipts_are_complete(
        self, emulator, naps, run_task, sources
    ):
        emulator.configure(processing_seconds=600)

        receipts, waits = run_deferred(run_task, source=sources)

        assert [receipt["submitted"]["source"] for receipt in receipts] == sources
        assert [(wait["part"], wait["for_result"], wait["cancel_on_kill"]) for wait in waits] == [
            (number, True, True) for number in range(3)
        ]
        assert jobs_created(emulator) == 3

    def test_a_result_that_took_longer_than_it_may_be_reused_is_still_the_answer(
        self, emulator, naps, run_task, sources
    ):
        emulator.configure(processing_seconds=2 * HOUR, listed_seconds=HOUR)

        receipts, _ = run_deferred(run_task, source=sources, reuse_within=0)

        assert len(receipts) == 3
        assert jobs_created(emulator) == 3

    def test_a_foreign_job_between_two_parts_is_waited_for_too(
        self, emulator, naps, run_task, sources, monkeypatch
    ):
        emulator.configure(processing_seconds=600)
        claim = XComplianceClient.claim_job
        claims = iter(range(10))

        def overtaken(client: XComplianceClient, *arguments: Any, **options: Any) -> Any:
            # The second part's claim: the one of the first result needs none.
            if next(claims) == 1:
                foreign = XComplianceHook().create_job("tweets", "of another team")
                XComplianceHook().upload(foreign.id, sources[2])
            return claim(client, *arguments, **options)

        monkeypatch.setattr(XComplianceClient, "claim_job", overtaken)

        receipts, waits = run_deferred(run_task, source=sources)

        assert [(wait["part"], wait["for_result"]) for wait in waits] == [
            (0, True),
            (1, False),
            (1, True),
            (2, True),
        ]
        assert [receipt["submitted"]["source"] for receipt in receipts] == sources
        assert jobs_created(emulator) == 4

    def test_the_time_for_ones_own_job_and_for_others_are_two(self, emulator, naps, run_task):
        foreign_job(emulator)
        now = emulator.now()
        task = run_task(deferrable=True, timeout=10 * HOUR, conflict_timeout=timedelta(hours=2))
        in_the_way = deferral_of(lambda: task.execute(context("run")))
        emulator.set_job(in_the_way.trigger.job_id, "complete")
        event = event_of(in_the_way)
        own = deferral_of(lambda: task.execute_complete(context("run"), event))

        assert in_the_way.trigger.deadline == pytest.approx(now + 2 * HOUR, abs=60)
        assert own.trigger.deadline == pytest.approx(now + 10 * HOUR, abs=180)
        for deferral in (in_the_way, own):
            left = deferral.trigger.deadline - now
            assert deferral.timeout > timedelta(seconds=left - 180)

    def test_the_time_for_others_outlives_several_of_them(self, emulator, naps, run_task):
        foreign_job(emulator)
        task = run_task(deferrable=True, conflict_timeout=2 * HOUR)
        deferral = deferral_of(lambda: task.execute(context("run")))
        deadline = deferral.trigger.deadline
        for _ in range(2):
            emulator.set_job(deferral.trigger.job_id, "expired")
            event = event_of(deferral)
            foreign_job(emulator)
            deferral = deferral_of(lambda event=event: task.execute_complete(context("run"), event))

        assert deferral.trigger.deadline == deadline
        with pytest.raises(DeadlineError):
            task.execute_complete(context("run"), event_of(deferral))

    def test_the_time_is_over_for_ones_own_job_and_the_next_try_goes_on_with_it(
        self, emulator, naps, run_task
    ):
        emulator.configure(processing_seconds=3 * HOUR)

        for _ in range(2):
            with pytest.raises(DeadlineError, match="has not ended in the time"):
                run_deferred(run_task, timeout=HOUR)
        run_deferred(run_task, timeout=2 * HOUR)

        assert jobs_created(emulator) == 1

    @pytest.mark.parametrize(
        ("event", "error", "words"),
        [
            ({"status": "failed", "message": "job 1 failed", "for_result": True}, JobFailedError, "job 1"),
            ({"status": "expired", "message": "job 1 expired", "for_result": True}, JobFailedError, "job 1"),
            ({"status": "timeout", "message": "job 1 has not"}, DeadlineError, "job 1"),
            ({"status": "error", "message": "no token", "is_final": True}, AirflowFailException, "no token"),
            ({"status": "error", "message": "job 1: reset"}, AirflowException, "job 1: reset"),
            ({"status": "something new"}, AirflowException, "an event that is not known"),
            ({}, AirflowException, "an event that is not known"),
        ],
    )
    def test_every_event_but_an_end_fails(self, emulator, run_task, event, error, words):
        with pytest.raises(error, match=words) as failure:
            run_task(deferrable=True).execute_complete(context("run"), {"part": 0, "deadline": 0} | event)
        assert type(failure.value) is error
        assert emulator.requests() == []

    def test_an_event_for_a_part_beyond_an_edited_list_ends_the_run(self, emulator, naps, run_task, sources):
        receipts, _ = run_deferred(run_task, source=sources)
        event = {
            "status": "complete",
            "job": {"id": receipts[2]["job_id"]},
            "for_result": True,
            "part": 2,
            "deadline": 0,
        }

        again = run_task(sources[:1], deferrable=True).execute_complete(context("run"), event)

        assert again == receipts[:1]
        assert jobs_created(emulator) == 3


class TestRunInTheWorker:
    def test_the_time_for_others_begins_anew_after_each_of_ones_own_jobs(
        self, emulator, naps, run_task, sources, monkeypatch
    ):
        emulator.configure(processing_seconds=2 * HOUR)
        claim = XComplianceClient.claim_job
        claims = iter(range(10))

        def overtaken(client: XComplianceClient, *arguments: Any, **options: Any) -> Any:
            if next(claims) == 1:
                XComplianceHook().create_job("tweets", "of another team")
            return claim(client, *arguments, **options)

        monkeypatch.setattr(XComplianceClient, "claim_job", overtaken)

        receipts = run_task(sources[:2], conflict_timeout=HOUR).execute(context("run"))

        assert len(receipts) == 2
        assert statuses(emulator) == ["complete", "expired", "complete"]

    def test_a_foreign_job_fails_it_where_that_is_wanted(self, emulator, run_task):
        foreign_job(emulator)

        with pytest.raises(JobConflictError, match="of another team"):
            run_task(on_conflict="fail").execute(context("run"))
        assert jobs_created(emulator) == 1

    def test_the_time_for_ones_own_job_is_limited(self, emulator, naps, run_task):
        emulator.configure(processing_seconds=3 * HOUR)

        with pytest.raises(DeadlineError):
            run_task(timeout=HOUR).execute(context("run"))
        assert sum(naps) == pytest.approx(HOUR, abs=60)


class TestRunOnKill:
    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_in_the_middle_of_the_upload_the_job_is_cancelled_and_the_next_try_creates_another(
        self, emulator, naps, run_task, monkeypatch
    ):
        task = run_task()
        send = transfer.send

        def struck(*arguments: Any) -> None:
            # As Airflow 3 does it: the handler of SIGTERM returns, and the task goes on for a moment.
            task.on_kill()
            send(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(transfer, "send", struck)
            with pytest.raises(JobFailedError, match="was cancelled"):
                task.execute(context("run"))
        assert statuses(emulator) == ["failed"]

        run_task().execute(context("run"))
        assert statuses(emulator) == ["failed", "complete"]

    def test_while_the_job_is_at_work_it_is_left_for_the_next_try(self, emulator, naps, run_task):
        emulator.configure(processing_seconds=HOUR)
        task = run_task(deferrable=True)
        deferral_of(lambda: task.execute(context("run")))

        task.on_kill()

        assert statuses(emulator) == ["in_progress"]
        run_deferred(run_task)
        assert jobs_created(emulator) == 1


def test_a_job_id_that_was_rendered_as_a_number_will_do(id_file, tmp_path):
    def rendered(operator, **options):
        with DAG("native", schedule=None, render_template_as_native_obj=True):
            task = operator(task_id="task", job_id="{{ job_id }}", **options)
        task.render_template_fields({"job_id": job_id})
        assert task.job_id == int(job_id)
        return task

    job_id = create()
    assert rendered(UploadOperator, source=str(id_file)).execute(context())["job_id"] == job_id
    wait_for(job_id)
    download = rendered(DownloadOperator, destination=str(tmp_path / "events"))
    assert download.execute(context())["job_id"] == job_id
    assert rendered(CancelJobOperator).execute(context())["id"] == job_id


def test_lists_that_were_rendered_as_such_and_ids_that_became_numbers_will_do(
    emulator, naps, sources, out, tmp_path
):
    emulator.set_events('{"id":"5","action":"delete","reason":"deleted"}\n')
    with DAG("native", schedule=None, render_template_as_native_obj=True):
        task = RunJobOperator(
            task_id="run",
            job_type="tweets",
            source="{{ sources }}",
            destination="{{ out }}",
            control_ids=["{{ control }}"],
            job_name="{{ day }}",
        )
    task.render_template_fields({"sources": sources, "out": str(out), "control": "5", "day": "20261122"})
    assert (task.source, task.control_ids, task.job_name) == (sources, [5], 20261122)

    receipts = task.execute(context("run"))

    assert [receipt["control_ids"] for receipt in receipts] == [["5"]] * 3
    assert receipts[0]["job_name"].startswith("20261122-")


@pytest.mark.parametrize(
    ("operator", "options"),
    [
        (CreateJobOperator, {"job_type": "tweets"}),
        (UploadOperator, {"job_id": "1", "source": "/ids"}),
        (DownloadOperator, {"job_id": "1", "destination": "/events"}),
        (CancelJobOperator, {"job_id": "1"}),
        (
            RunJobOperator,
            {"job_type": "tweets", "source": "/ids", "destination": "/events", "control_ids": []},
        ),
    ],
)
class TestInAirflow:
    def test_every_id_uri_and_connection_can_be_templated(self, operator, options):
        task = operator(task_id="task", **options)

        assert set(options) | {"xcompliance_conn_id"} <= set(operator.template_fields)
        assert all(hasattr(task, field) for field in operator.template_fields)

    def test_it_can_be_mapped_over(self, operator, options):
        with DAG("mapping", schedule=None):
            mapped = operator.partial(task_id="task").expand(
                **{key: [value] for key, value in options.items()}
            )

        assert mapped.task_id == "task"


MAPPED = """
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_xcompliance.operators.jobs import RunJobOperator

with DAG("whole_jobs", schedule=None, render_template_as_native_obj=True):
    options = {{"poll_interval": 0.2, "deferrable": {deferrable}, "retries": 0}}
    in_a_row = RunJobOperator(
        task_id="in_a_row",
        job_type="tweets",
        source="{{{{ params.sources }}}}",
        destination="{{{{ params.out }}}}/in_a_row",
        **options,
    )
    mapped = RunJobOperator.partial(
        task_id="mapped", job_type="users", source="{{{{ params.sources[0] }}}}", **options
    ).expand(destination=["{{{{ params.out }}}}/mapped/1", "{{{{ params.out }}}}/mapped/2"])
    in_a_row >> mapped
"""


@pytest.fixture
def dags_folder(tmp_path, monkeypatch, airflow_database) -> Iterator[Path]:
    """A folder that Airflow takes its DAGs from."""
    from airflow import settings

    folder = tmp_path / "dags"
    folder.mkdir()
    monkeypatch.setattr(settings, "DAGS_FOLDER", str(folder))
    return folder


def load(folder: Path, dag_id: str) -> Any:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    bag = DagBag(folder)
    assert not bag.import_errors
    return bag.dags[dag_id]


@pytest.mark.parametrize("flow", ["current"], indirect=True)
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_dag_runs_with_it_alone_and_mapped(dags_folder, emulator, sources, out, deferrable):
    (dags_folder / "whole_jobs.py").write_text(MAPPED.format(deferrable=deferrable))
    dag = load(dags_folder, "whole_jobs")

    dag_run = dag.test(run_conf={"sources": sources, "out": str(out)})

    instances = dag_run.get_task_instances()
    assert sorted((ti.task_id, ti.map_index, str(ti.state)) for ti in instances) == [
        ("in_a_row", -1, "success"),
        ("mapped", 0, "success"),
        ("mapped", 1, "success"),
    ]
    assert len(files(out / "in_a_row")) == 6
    assert files(out / "mapped") == ["1", "1.manifest.json", "2", "2.manifest.json"]
    # Each of the mapped ones has a job of its own, since each is a task of its own.
    assert jobs_created(emulator) == 5
