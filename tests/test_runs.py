"""Whole jobs, without Airflow."""

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance import transfer
from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import JobConflictError, JobFailedError, UploadTooLargeError
from airflow_provider_xcompliance.api.ownership import job_name
from airflow_provider_xcompliance.api.transport import Credentials, Transport
from airflow_provider_xcompliance.api.urls import UrlPolicy
from airflow_provider_xcompliance.archive.events import MissingControlsError
from airflow_provider_xcompliance.archive.ids import InvalidIdsError
from airflow_provider_xcompliance.emulator.server import EmulatorServer
from airflow_provider_xcompliance.runs import JobRun, Part, parts_of
from airflow_provider_xcompliance.storage import DestinationExistsError, StorageError

SIX_HOURS = timedelta(hours=6)
FIRST_ID = 1_300_000_000_000_000_000


@pytest.fixture(scope="module")
def running() -> Iterator[EmulatorServer]:
    with EmulatorServer(rate_limit=1_000_000) as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where transfers spool; they leave nothing there."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    assert list(directory.iterdir()) == []


@pytest.fixture
def client(emulator: EmulatorServer, flow: str) -> XComplianceClient:
    return client_of(emulator)


def client_of(emulator: EmulatorServer) -> XComplianceClient:
    policy = UrlPolicy(emulator.url)
    transport = Transport(policy, Credentials(emulator.bearer_token))
    return XComplianceClient(transport, policy, sleep=lambda _: None)


def ids_from(path: Path, first: int, count: int = 200) -> str:
    path.write_text("".join(f"{FIRST_ID + 4_194_305 * (first + number)}\n" for number in range(count)))
    return str(path)


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    return [ids_from(tmp_path / f"ids-{number}.txt", 1000 * number) for number in range(3)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def make(client: XComplianceClient, sources: list[str], out: Path) -> Callable[..., JobRun]:
    """Return a function that makes a try of a task, which knows of no earlier one."""

    def make_run(source: str | list[str] | None = None, owner: str = "us", **options: Any) -> JobRun:
        settings: dict[str, Any] = {"reuse_within": SIX_HOURS} | options
        source = source or sources[0]
        destination = str(out / "events" if isinstance(source, str) else out)
        return JobRun(
            client,
            "tweets",
            parts_of(source, destination),
            lambda *inputs: job_name("dag.task", owner, "dag", "task", "run", "-1", *inputs),
            **settings,
        )

    return make_run


def finish(run: JobRun) -> list[dict[str, Any]]:
    """Take a run to its end; the stand-in processes ids in no time."""
    waited_for = None
    while waiting := run.advance(waited_for):
        assert waiting.for_result
        waited_for = waiting.job.id
    return run.receipts


def statuses(emulator: EmulatorServer) -> list[str]:
    """The status of each job, the first one first."""
    return [job["status"] for job in reversed(emulator.jobs())]


def landed(out: Path) -> list[str]:
    return sorted(path.name for path in out.rglob("*")) if out.exists() else []


def paid(emulator: EmulatorServer) -> int:
    return len(emulator.requests("create"))


class TestParts:
    @pytest.mark.parametrize(
        ("source", "destination", "parts"),
        [
            ("/ids", "/events", [Part("/ids", "/events")]),
            (["/ids"], "/out", [Part("/ids", "/out/part-0001.ndjson")]),
            (
                ("s3://b/1", "s3://b/2"),
                "s3://b/out/",
                [
                    Part("s3://b/1", "s3://b/out/part-0001.ndjson"),
                    Part("s3://b/2", "s3://b/out/part-0002.ndjson"),
                ],
            ),
        ],
    )
    def test_each_source_has_its_destination(self, source, destination, parts):
        assert parts_of(source, destination) == parts

    @pytest.mark.parametrize("source", [[["/ids"]], ["/ids", 5], [None, "/ids"]])
    def test_what_is_no_address_is_an_error(self, source):
        with pytest.raises(ValueError, match="source: not a URI or path"):
            parts_of(source, "/out")

    @pytest.mark.parametrize("source", [[], (), None])
    def test_no_source_is_an_error(self, source):
        with pytest.raises(ValueError, match="the list holds no file of ids"):
            parts_of(source, "/out")


class TestRun:
    def test_one_file_is_taken_through_one_job_to_its_events(self, emulator, make, sources, out):
        (receipt,) = finish(make())

        (job,) = emulator.jobs()
        events = (out / "events").read_bytes()
        manifest = json.loads((out / "events.manifest.json").read_bytes())
        assert receipt == manifest | {"manifest": f"{out}/events.manifest.json", "created": True}
        assert (receipt["job_id"], receipt["job_name"]) == (job["id"], job["name"])
        assert receipt["submitted"]["source"] == sources[0]
        assert receipt["bytes"] == len(events) > 0

    def test_a_list_is_taken_through_part_after_part(self, emulator, make, sources, out):
        receipts = finish(make(sources))

        assert [receipt["submitted"]["source"] for receipt in receipts] == sources
        assert [receipt["destination"] for receipt in receipts] == [
            f"{out}/part-{number:04}.ndjson" for number in (1, 2, 3)
        ]
        assert statuses(emulator) == ["complete"] * 3
        assert len({job["name"] for job in emulator.jobs()}) == 3

    def test_it_stops_where_it_has_to_wait(self, emulator, make, sources):
        emulator.configure(processing_seconds=600)
        run = make(sources)

        waiting = run.advance()

        (job,) = emulator.jobs()
        assert waiting is not None
        assert (waiting.job.id, waiting.for_result, run.part) == (job["id"], True, 0)
        assert job["status"] == "in_progress"

    def test_the_same_file_twice_costs_one_job(self, emulator, make, sources, out):
        first, second = finish(make([sources[0], sources[0]]))

        assert first["job_id"] == second["job_id"]
        assert (out / "part-0001.ndjson").read_bytes() == (out / "part-0002.ndjson").read_bytes()
        assert paid(emulator) == 1

    def test_repeated_and_dirty_ids_are_sent_clean(self, emulator, make, tmp_path):
        dirty = tmp_path / "dirty.txt"
        dirty.write_bytes(b"\xef\xbb\xbf12\r\n\r\n 13 \r\n12\r\n")

        (receipt,) = finish(make(str(dirty)))

        assert (receipt["submitted"]["ids"], receipt["submitted"]["bytes"]) == (2, 6)


class TestValidation:
    @pytest.mark.parametrize("bad", [0, 1, 2])
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"12\n1.41786E+18\n", r"ids-\d\.txt:2: not a decimal id"),
            (b"", r"ids-\d\.txt: holds no ids"),
        ],
    )
    def test_nothing_is_created_when_any_part_is_bad(self, emulator, make, sources, bad, content, words):
        Path(sources[bad]).write_bytes(content)
        run = make(sources)

        with pytest.raises(InvalidIdsError, match=words):
            start(run)
        assert emulator.requests() == []

    @pytest.mark.parametrize("missing", [0, 2])
    def test_nor_when_a_file_is_missing(self, emulator, make, sources, missing):
        Path(sources[missing]).unlink()

        with pytest.raises(StorageError, match=r"ids-\d\.txt"):
            start(make(sources))
        assert emulator.requests() == []

    @pytest.mark.parametrize("control_ids", [["x"], [12], ["007"], "12345", ["-1"], [None]])
    def test_nor_when_a_control_id_is_none(self, emulator, make, control_ids):
        with pytest.raises(ValueError, match="control_ids"):
            start(make(control_ids=control_ids))
        assert emulator.requests() == []

    def test_nor_when_the_type_is_unknown(self, emulator, make):
        run = make()
        run.job_type = "posts"

        with pytest.raises(ValueError, match="job_type must be"):
            start(run)
        assert emulator.requests() == []

    def test_nor_when_nothing_can_land(self, emulator, make):
        run = make()
        run.parts = [Part(run.parts[0].source, "ftp://host/events")]

        with pytest.raises(StorageError, match="cannot land on"):
            start(run)
        assert emulator.requests() == []


def start(run: JobRun) -> None:
    run.validate()
    run.advance()


class TestAgain:
    def test_what_has_landed_and_is_fresh_costs_one_look(self, emulator, make, out):
        first = finish(make())
        before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
        emulator.advance(3 * 3600)
        asked = len(emulator.requests())

        again = finish(make())

        assert again == [first[0] | {"created": False}]
        assert [request["endpoint"] for request in emulator.requests()[asked:]] == ["get"]
        assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before

    @pytest.mark.parametrize(("seconds", "jobs"), [(6 * 3600 - 60, 1), (6 * 3600 + 1, 2)])
    def test_what_is_older_is_checked_anew(self, emulator, make, seconds, jobs):
        finish(make())
        emulator.advance(seconds)

        (receipt,) = finish(make())

        assert paid(emulator) == jobs
        assert receipt["job_id"] == emulator.jobs()[0]["id"]

    def test_with_0_each_run_checks_anew(self, emulator, make):
        finish(make(reuse_within=timedelta()))
        finish(make(reuse_within=timedelta()))

        assert paid(emulator) == 2

    def test_only_the_parts_that_are_not_done_are_done(self, emulator, make, sources):
        run = make(sources)
        waiting = run.advance()
        waiting = run.advance(waiting.job.id)
        assert run.part == 1

        finish(make(sources))

        assert paid(emulator) == 3

    def test_other_ids_are_other_jobs(self, emulator, make, sources):
        finish(make())
        ids_from(Path(sources[0]), 5000)

        (receipt,) = finish(make())

        assert paid(emulator) == 2
        assert receipt["job_id"] == emulator.jobs()[0]["id"]

    def test_other_control_ids_are_other_jobs(self, emulator, make):
        emulator.set_events(b'{"id":"5","action":"delete","reason":"deleted"}\n')
        finish(make())

        (receipt,) = finish(make(control_ids=["5"]))

        assert paid(emulator) == 2
        assert receipt["control_ids"] == ["5"]

    def test_a_control_id_among_the_ids_needs_no_other_job_but_another_look_at_its_result(
        self, emulator, make, sources, out
    ):
        emulator.set_events(b'{"id":"5","action":"delete","reason":"deleted"}\n')
        Path(sources[0]).write_text("5\n6\n")
        finish(make())

        (receipt,) = finish(make(control_ids=["5"]))
        assert (receipt["control_ids"], receipt["created"]) == (["5"], False)
        with pytest.raises(MissingControlsError):
            finish(make(control_ids=["6"]))
        assert paid(emulator) == 1

    def test_the_parts_in_another_order_are_the_same_jobs(self, emulator, make, sources):
        finish(make(sources))

        receipts = finish(make(sources[::-1]))

        assert paid(emulator) == 3
        assert [receipt["submitted"]["source"] for receipt in receipts] == sources[::-1]
        assert all(receipt["created"] for receipt in (receipts[0], receipts[2]))

    @pytest.mark.parametrize(
        "damage",
        [
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(path.read_bytes()[:-50]),
            lambda path: path.unlink(),
        ],
        ids=["emptied", "cut", "gone"],
    )
    def test_a_landed_file_that_was_damaged_is_landed_again_without_a_new_job(
        self, emulator, make, out, damage
    ):
        finish(make())
        whole = (out / "events").read_bytes()
        damage(out / "events")

        (receipt,) = finish(make())

        assert (out / "events").read_bytes() == whole
        assert receipt["created"] is True
        assert paid(emulator) == 1

    @pytest.mark.parametrize(
        "manifest",
        [
            None,
            b"",
            b"[]",
            b'{"submitted": "no"}',
            b'{"job_type": "tweets", "control_ids": [], "submitted": {"sha256": "%s"}}',
            b'{"job_type": "tweets", "control_ids": [], "submitted": {"sha256": "%s"}, "job_id": "../1"}',
            b'{"job_type": "tweets", "control_ids": [], "submitted": {"sha256": "%s"}, "job_id": "12"}',
        ],
    )
    def test_a_manifest_that_says_nothing_is_replaced_without_a_new_job(self, emulator, make, out, manifest):
        (first,) = finish(make())
        path = out / "events.manifest.json"
        path.unlink()
        if manifest is not None:
            path.write_bytes(manifest.replace(b"%s", first["submitted"]["sha256"].encode()))

        (receipt,) = finish(make())

        assert receipt == first | {"created": False}
        assert paid(emulator) == 1

    def test_a_manifest_of_the_right_job_without_a_digest_is_replaced(self, emulator, make, out):
        (first,) = finish(make())
        path = out / "events.manifest.json"
        kept = {key: first[key] for key in ("job_id", "job_type", "control_ids", "submitted")}
        path.write_text(json.dumps(kept))

        assert finish(make()) == [first | {"created": False}]
        assert json.loads(path.read_bytes())["sha256"] == first["sha256"]

    def test_other_events_at_the_destination_are_replaced_only_where_that_is_wanted(
        self, emulator, make, out
    ):
        out.mkdir()
        (out / "events").write_text("somebody's\n")

        with pytest.raises(DestinationExistsError):
            finish(make(replace=False))
        assert (out / "events").read_text() == "somebody's\n"

        finish(make(replace=True))
        assert paid(emulator) == 1


class TestKilled:
    """A try that ends without a word, and the next one."""

    def test_after_the_creation_the_job_is_found_again(self, emulator, make):
        run = make()
        run.client.claim_job("tweets", name_for(run), reuse_within=SIX_HOURS)

        finish(make())

        assert statuses(emulator) == ["complete"]

    @pytest.mark.parametrize("reuse_within", [SIX_HOURS, timedelta()])
    def test_while_the_job_is_at_work_it_is_found_again(self, emulator, make, reuse_within):
        emulator.configure(processing_seconds=7200)
        make(reuse_within=reuse_within).advance()

        waiting = make(reuse_within=reuse_within).advance()
        assert (waiting.for_result, statuses(emulator)) == (True, ["in_progress"])
        emulator.advance(7200)
        finish(make(reuse_within=SIX_HOURS))

        assert paid(emulator) == 1

    def test_after_the_events_landed_the_manifest_is_put_beside_them(self, emulator, make, out):
        finish(make())
        (out / "events.manifest.json").unlink()

        (receipt,) = finish(make())

        assert receipt["created"] is False
        assert landed(out) == ["events", "events.manifest.json"]
        assert paid(emulator) == 1

    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_so_long_ago_that_the_window_is_nearly_gone(self, emulator, make):
        run = make()
        run.client.claim_job("tweets", name_for(run), reuse_within=SIX_HOURS)
        emulator.advance(14 * 60)

        finish(make())

        assert statuses(emulator) == ["failed", "complete"]

    @pytest.mark.parametrize("flow", ["legacy"], indirect=True)
    def test_and_in_the_legacy_flow_that_is_waited_for_as_ones_own(self, emulator, make):
        run = make()
        run.client.claim_job("tweets", name_for(run), reuse_within=SIX_HOURS)
        emulator.advance(14 * 60)

        waiting = make().advance()
        assert (waiting.for_result, waiting.is_own) == (False, True)
        emulator.advance(60)
        finish(make())

        assert statuses(emulator) == ["expired", "complete"]


def name_for(run: JobRun) -> str:
    with transfer.spool_ids(run.parts[0].source) as ids:
        return run.name_of(ids.digest.sha256)


class TestWaitedFor:
    def test_it_is_the_answer_however_long_it_took(self, emulator, make):
        emulator.configure(processing_seconds=10 * 3600)
        run = make(reuse_within=timedelta())
        waiting = run.advance()
        emulator.advance(10 * 3600)

        assert run.advance(waiting.job.id) is None
        assert (len(run.receipts), paid(emulator)) == (1, 1)

    def test_it_is_the_answer_even_if_x_does_not_list_it_any_more(self, emulator, make):
        emulator.configure(processing_seconds=10 * 3600, listed_seconds=3600)
        run = make()
        waiting = run.advance()
        emulator.advance(10 * 3600)

        assert run.advance(waiting.job.id) is None
        assert paid(emulator) == 1

    def test_it_is_not_if_the_ids_have_changed_meanwhile(self, emulator, make, sources):
        waiting = make().advance()
        ids_from(Path(sources[0]), 5000)

        receipts = finish_from(make(), waiting.job.id)

        assert receipts[0]["job_id"] != waiting.job.id
        assert paid(emulator) == 2

    def test_it_is_waited_for_again_if_it_has_not_ended_after_all(self, emulator, make):
        emulator.configure(processing_seconds=600)
        first = make().advance()

        second = make().advance(first.job.id)

        assert (second.job.id, second.for_result) == (first.job.id, True)

    def test_an_answer_about_another_job_is_not_believed(self, emulator, make, sources):
        emulator.configure(processing_seconds=600)
        waiting = make().advance()
        emulator.set_job(waiting.job.id, "complete")
        body = {"data": emulator.jobs()[0] | {"id": "17"}}
        emulator.add_fault("status", endpoint="get", times=0, status=200, body=body)

        with pytest.raises(Exception, match=f"get job {waiting.job.id}: X answered with another job"):
            make().advance(waiting.job.id)


def finish_from(run: JobRun, waited_for: str) -> list[dict[str, Any]]:
    waiting = run.advance(waited_for)
    while waiting:
        waiting = run.advance(waiting.job.id)
    return run.receipts


class TestResume:
    def deferred(self, make, sources) -> tuple[int, str]:
        """Return where a run is that has landed its first part and waits for its second."""
        run = make(sources)
        first = run.advance()
        second = run.advance(first.job.id)
        return run.part, second.job.id

    def test_it_goes_on_with_the_receipts_of_what_has_landed(self, emulator, make, sources):
        part, job_id = self.deferred(make, sources)
        run = make(sources)
        run.resume(part)
        looks = len(emulator.requests("get"))

        receipts = finish_from(run, job_id)

        assert [receipt["submitted"]["source"] for receipt in receipts] == sources
        assert all(receipt["created"] for receipt in receipts)
        assert paid(emulator) == 3
        assert len(emulator.requests("get")) - looks <= 4

    def test_it_is_the_first_time_for_the_first_part(self, make, sources):
        run = make(sources)
        run.resume(0)

        assert (run.part, run.receipts) == (0, [])

    @pytest.mark.parametrize("suffix", ["", ".manifest.json"])
    def test_a_part_that_is_gone_is_landed_again_without_a_new_job(
        self, emulator, make, sources, out, suffix
    ):
        part, job_id = self.deferred(make, sources)
        (out / f"part-0001.ndjson{suffix}").unlink()
        run = make(sources)
        run.resume(part)

        receipts = finish_from(run, job_id)

        assert [receipt["submitted"]["source"] for receipt in receipts] == sources
        assert paid(emulator) == 3

    def test_a_part_beyond_a_list_that_has_become_shorter_is_no_part(self, emulator, make, sources):
        part, job_id = self.deferred(make, sources)
        run = make(sources[:1])
        run.resume(part)

        assert len(finish_from(run, job_id)) == 1
        run = make(sources[:1])
        run.resume(7)
        assert len(finish_from(run, job_id)) == 1

    @pytest.mark.parametrize("order", [(1, 0, 2), (2, 0, 1), (1, 2)])
    def test_of_a_list_that_has_become_another_each_part_gets_its_own_events(
        self, emulator, make, sources, order
    ):
        part, job_id = self.deferred(make, sources)
        others = [sources[number] for number in order]
        run = make(others)
        run.resume(part)
        emulator.set_job(job_id, "complete")

        receipts = finish_from(run, job_id)

        assert [receipt["submitted"]["source"] for receipt in receipts] == others
        assert paid(emulator) == 3


class TestWindow:
    def lapse(self, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> None:
        """Let the time for an upload run out between the creation and the upload."""
        send = transfer.send
        lapses = iter(range(times))

        def late(*arguments: Any) -> None:
            if next(lapses, None) is not None:
                emulator.advance(15 * 60 + 1)
            send(*arguments)

        monkeypatch.setattr(transfer, "send", late)

    def test_if_it_lapses_another_job_is_created_and_that_is_said(self, emulator, make, monkeypatch, caplog):
        self.lapse(emulator, monkeypatch)
        caplog.set_level("INFO")

        finish(make())

        (receipt,) = statuses(emulator)[1:]
        assert (statuses(emulator)[0], receipt) == ("expired", "complete")
        assert re.search(r"the 15 minutes for it ended.*now another job is created", caplog.text)

    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_a_job_that_x_still_calls_created_is_cancelled(self, emulator, make, monkeypatch):
        # Nearly gone by X's clock, and over before the ids are on their way.
        send = transfer.send
        lapses = iter(["once"])

        def late(client: XComplianceClient, job: Any, ids: Any) -> None:
            if next(lapses, None):
                emulator.advance(13 * 60)
                raise transfer_window_is_over(job)
            send(client, job, ids)

        monkeypatch.setattr(transfer, "send", late)

        finish(make())

        assert statuses(emulator) == ["failed", "complete"]
        assert len(emulator.requests("cancel")) == 1

    def test_if_it_lapses_again_the_try_fails_and_the_next_one_creates_anew(
        self, emulator, make, monkeypatch
    ):
        self.lapse(emulator, monkeypatch, times=2)

        with pytest.raises(JobFailedError, match="the upload lapsed 2 times in a row"):
            make().advance()
        assert statuses(emulator) == ["expired", "expired"]

        finish(make())
        assert statuses(emulator) == ["expired", "expired", "complete"]


def transfer_window_is_over(job: Any) -> Exception:
    from airflow_provider_xcompliance.api.uploads import window_is_over

    return window_is_over(job)


class TestUpload:
    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_of_a_file_that_is_too_large_the_job_is_cancelled(self, emulator, make, monkeypatch, client):
        monkeypatch.setattr(client, "upload_limit", lambda _: 1000)

        with pytest.raises(UploadTooLargeError, match=r"ids-0\.txt: 4,000 bytes of ids.*split it"):
            make().advance()
        assert statuses(emulator) == ["failed"]

    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_so_it_is_where_x_itself_says_so(self, emulator, make):
        emulator.configure(upload_limit=1000)

        with pytest.raises(UploadTooLargeError):
            make().advance()
        assert statuses(emulator) == ["failed"]

    @pytest.mark.parametrize("flow", ["legacy"], indirect=True)
    def test_a_legacy_job_cannot_be_cancelled_and_the_error_is_the_same(self, make, monkeypatch, client):
        monkeypatch.setattr(client, "upload_limit", lambda _: 1000)

        with pytest.raises(UploadTooLargeError, match="split it"):
            make().advance()

    @pytest.mark.parametrize(("status", "is_told"), [("in_progress", False), ("failed", True)])
    def test_by_a_worker_that_was_thought_dead_is_this_ones_too(
        self, emulator, make, monkeypatch, status, is_told
    ):
        send = transfer.send

        def overtaken(client: XComplianceClient, job: Any, ids: Any) -> None:
            send(client, job, ids)
            emulator.set_job(job.id, status)
            raise JobConflictError(f"upload to job {job.id}: status 409")

        monkeypatch.setattr(transfer, "send", overtaken)

        if is_told:
            with pytest.raises(JobFailedError, match="failed at X, or was cancelled"):
                make().advance()
        else:
            assert make().advance().for_result

    def test_that_x_refuses_without_a_reason_to_see_is_raised_as_it_came(self, emulator, make, monkeypatch):
        def refused(_client: XComplianceClient, job: Any, _ids: Any) -> None:
            raise JobConflictError(f"upload to job {job.id}: status 409")

        monkeypatch.setattr(transfer, "send", refused)

        with pytest.raises(JobConflictError, match="status 409"):
            make().advance()


class TestControls:
    EVENTS = (
        b'{"id":"5","action":"delete","reason":"deleted"}\n{"id":"6","action":"delete","reason":"deleted"}\n'
    )

    def test_they_are_sent_once_with_each_part_and_come_back(self, emulator, make, sources, out):
        emulator.set_events(self.EVENTS)
        Path(sources[0]).write_text("5\n7\n")

        receipts = finish(make(sources[:2], control_ids=["5", "6", "5"]))

        assert [receipt["submitted"]["ids"] for receipt in receipts] == [3, 202]
        assert [receipt["events"] for receipt in receipts] == [2, 2]

    def test_without_one_nothing_lands_and_the_next_try_costs_no_other_job(self, emulator, make, out):
        emulator.set_events(self.EVENTS)
        run = make(control_ids=["5", "8"])
        waiting = run.advance()

        for _ in range(2):
            with pytest.raises(MissingControlsError, match="8"):
                make(control_ids=["5", "8"]).advance(waiting.job.id)
        assert landed(out) == []
        assert paid(emulator) == 1


class TestOthers:
    def test_a_foreign_job_is_in_the_way_and_not_ones_own(self, emulator, make):
        emulator.configure(processing_seconds=600)
        theirs = make(owner="them").advance()

        waiting = make().advance()

        assert (waiting.job.id, waiting.for_result, waiting.is_own) == (theirs.job.id, False, False)

    def test_two_deployments_land_their_own(self, emulator, make, sources, out):
        theirs = finish(make(owner="them"))[0]["job_id"]
        (out / "events").unlink()
        (out / "events.manifest.json").unlink()

        mine = finish(make())[0]["job_id"]

        assert mine != theirs
        assert paid(emulator) == 2

    def test_two_tasks_with_one_destination_never_mix_events_and_manifest(self, emulator, make, sources, out):
        finish(make(sources[0]))
        (receipt,) = finish(make(sources[1]))

        assert json.loads((out / "events.manifest.json").read_bytes())["sha256"] == receipt["sha256"]
        assert transfer.storage.digest_of(str(out / "events")).sha256 == receipt["sha256"]


def test_a_rate_limit_of_one_request_a_quarter_of_an_hour_is_lived_with(emulator, make, client, monkeypatch):
    emulator.configure(rate_limit=1)
    monkeypatch.setattr(client, "_sleep", emulator.advance)

    finish(make())
    finish(make())

    assert paid(emulator) == 1
