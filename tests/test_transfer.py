import gzip
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import pytest

from airflow_provider_xcompliance import progress, storage, transfer
from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import (
    JobStateError,
    ServerError,
    UploadTooLargeError,
    XComplianceError,
)
from airflow_provider_xcompliance.api.transport import Credentials, Transport
from airflow_provider_xcompliance.api.urls import UrlPolicy
from airflow_provider_xcompliance.archive.events import (
    ForeignEventsError,
    InvalidEventsError,
    MissingControlsError,
)
from airflow_provider_xcompliance.archive.ids import InvalidIdsError
from airflow_provider_xcompliance.emulator.server import EmulatorServer
from airflow_provider_xcompliance.storage import DestinationExistsError, StorageError

IDS = b"".join(b"%d\n" % (1_265_324_480_517_361_664 + step * 7_919_111_333) for step in range(200))
RESULT = b'{"id":"12","action":"delete","reason":"deleted"}\n\n{"id":"7","error":"invalid_id"}\n'


@pytest.fixture(scope="module")
def running() -> Iterator[EmulatorServer]:
    with EmulatorServer(rate_limit=1_000_000) as emulator:
        yield emulator


@pytest.fixture
def client(emulator: EmulatorServer) -> XComplianceClient:
    return client_of(emulator)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where transfers spool; they leave nothing there."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    assert list(directory.iterdir()) == []


def client_of(emulator: EmulatorServer, max_tries: int = 5) -> XComplianceClient:
    policy = UrlPolicy(emulator.url)
    transport = Transport(policy, Credentials(emulator.bearer_token))
    return XComplianceClient(transport, policy, max_tries=max_tries, sleep=lambda _: None)


def file(tmp_path: Path, content: bytes = IDS) -> str:
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    return str(path)


def complete(client: XComplianceClient, source: str, **create: Any) -> str:
    """Run a job up to its results."""
    job = client.create_job("tweets", **create)
    transfer.upload(client, job.id, source)
    return job.id


def submission(emulator: EmulatorServer, job_id: str) -> int | None:
    return next(job["submitted_bytes"] for job in emulator.jobs() if job["id"] == job_id)


def landed(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


class TestUpload:
    @pytest.mark.parametrize(("flow", "resumable"), [("current", None), ("legacy", None), ("legacy", True)])
    def test_the_receipt_says_what_was_sent(
        self,
        client: XComplianceClient,
        emulator: EmulatorServer,
        flow: str,
        tmp_path: Path,
        resumable: bool | None,
    ) -> None:
        emulator.configure(flow=flow)
        job = client.create_job("tweets", resumable=resumable)
        dirty = b"\xef\xbb\xbf\n" + IDS.replace(b"\n", b"\r\n") + IDS[:40]

        receipt = transfer.upload(client, job.id, file(tmp_path, dirty))

        assert receipt == {
            "job_id": job.id,
            "job_type": "tweets",
            "source": str(tmp_path / "ids.txt"),
            "ids": 200,
            "bytes": len(IDS),
            "sha256": hashlib.sha256(IDS).hexdigest(),
            "crc32c": f"{google_crc32c.value(IDS):08x}",
            "cleaned": {"byte_order_mark": 1, "blank_lines": 1, "crlf": 200, "duplicates": 2},
            "control_ids": [],
            "already_accepted": False,
        }
        assert submission(emulator, job.id) == len(IDS)

    def test_a_bad_file_is_refused_before_any_request(
        self,
        client: XComplianceClient,
        emulator: EmulatorServer,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        source = file(tmp_path, b"1\nx\n2\ny\n")

        with pytest.raises(InvalidIdsError, match=r"ids\.txt:2: not a decimal id: 'x'; further bad lines: 1"):
            transfer.upload(client, "1", source)

        assert emulator.requests() == []
        assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
            f"{source}:2: not a decimal id: 'x'",
            f"{source}:4: not a decimal id: 'y'",
        ]

    def test_ids_that_look_rounded_are_refused_unless_they_are_said_to_be_right(
        self, client: XComplianceClient, emulator: EmulatorServer, tmp_path: Path
    ) -> None:
        source = file(tmp_path, b"".join(b"%d000\n" % (1_265_324_480_517_361 + step) for step in range(50)))
        job = client.create_job("tweets")
        asked = len(emulator.requests())

        with pytest.raises(InvalidIdsError, match=r"ids\.txt: all of its 50 ids above 2\^53 end in 00"):
            transfer.upload(client, job.id, source)
        assert len(emulator.requests()) == asked
        assert transfer.upload(client, job.id, source, allow_rounded=True)["ids"] == 50

    @pytest.mark.parametrize(
        ("lines", "limit", "parts"),
        [(6, 100, 2), (7, 100, 2), (10, 100, 3), (100, 100, 25), (100, 99, 25)],
    )
    def test_an_input_over_the_limit_is_refused_with_parts_that_suffice(
        self,
        client: XComplianceClient,
        emulator: EmulatorServer,
        tmp_path: Path,
        lines: int,
        limit: int,
        parts: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(client, "upload_limit", lambda _: limit)
        source = file(tmp_path, IDS[: 20 * lines])
        job = client.create_job("tweets")

        with pytest.raises(UploadTooLargeError) as caught:
            transfer.upload(client, job.id, source)

        found = re.search("into at least ([0-9]+) parts", str(caught.value))
        assert found is not None
        # Each part holds as many whole lines of 20 bytes as the limit lets it.
        assert int(found[1]) >= -(-lines // (limit // 20))
        assert int(found[1]) <= parts
        assert submission(emulator, job.id) is None

    def test_a_compressed_source_is_sent_as_its_content(
        self, client: XComplianceClient, s3: Any, tmp_path: Path
    ) -> None:

        bucket = s3.bucket()
        s3.client().put_object(Bucket=bucket, Key="ids.txt.gz", Body=gzip.compress(IDS))
        job = client.create_job("tweets")

        receipt = transfer.upload(client, job.id, f"s3://{bucket}/ids.txt.gz", s3.client())

        assert receipt["sha256"] == hashlib.sha256(IDS).hexdigest()
        assert receipt["source"] == f"s3://{bucket}/ids.txt.gz"

    def test_a_full_disk_is_one_sentence(
        self, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = file(tmp_path)

        def full(*_: object) -> None:
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr(transfer, "_write_ids", full)

        with pytest.raises(StorageError) as caught, transfer.spool_ids(source):
            pass

        assert str(caught.value) == (
            f"cannot spool in {scratch}: No space left on device; free space there, or set TMPDIR"
        )

    def test_the_spool_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        with transfer.spool_ids(file(tmp_path)) as spool:
            assert spool.path.stat().st_mode & 0o777 == 0o600
            assert spool.path.parent.stat().st_mode & 0o777 == 0o700
            assert spool.path.read_bytes() == IDS


class TestControlIds:
    CONTROLS = ("12", "1265324480517361664", "7")

    def test_those_that_are_missing_are_added_at_the_end(self, tmp_path: Path) -> None:
        with transfer.spool_ids(file(tmp_path), control_ids=self.CONTROLS) as spool:
            assert spool.path.read_bytes() == IDS + b"12\n7\n"
            assert (spool.ids, spool.control_ids) == (202, self.CONTROLS)
            assert spool.digest.sha256 == hashlib.sha256(IDS + b"12\n7\n").hexdigest()

    def test_one_that_is_given_twice_is_added_once(self, tmp_path: Path) -> None:
        with transfer.spool_ids(file(tmp_path), control_ids=["12", "12"]) as spool:
            assert spool.ids == 201

    def test_a_part_of_another_id_is_not_it(self, tmp_path: Path) -> None:
        with transfer.spool_ids(file(tmp_path, b"123\n512\n"), control_ids=["12", "23", "51"]) as spool:
            assert spool.path.read_bytes() == b"123\n512\n12\n23\n51\n"

    @pytest.mark.parametrize("bad", [["x"], [12], [""], ["012"], ["1\n2"], ["9" * 19], "12", [None]])
    def test_what_is_no_id_as_text_is_refused(self, tmp_path: Path, bad: Any) -> None:
        with (
            pytest.raises(ValueError, match="control_ids: "),
            transfer.spool_ids(file(tmp_path), control_ids=bad),
        ):
            pass

    def test_each_must_have_an_event(
        self, client: XComplianceClient, emulator: EmulatorServer, tmp_path: Path
    ) -> None:
        emulator.set_events(b'{"id":"12","action":"delete","reason":"deleted"}\n')
        source = file(tmp_path)
        job = client.create_job("tweets")
        transfer.upload(client, job.id, source, control_ids=["12", "7"])

        with pytest.raises(MissingControlsError):
            transfer.download(client, job.id, str(tmp_path / "out" / "events"), control_ids=["12", "7"])
        assert landed(tmp_path / "out") == []
        receipt = transfer.download(
            client, job.id, str(tmp_path / "events"), submitted=source, control_ids=["12"]
        )
        assert receipt["control_ids"] == ["12"]


class TestUploadAgain:
    """After an upload whose worker was killed."""

    def record(self, source: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(Path(f"{source}.upload.json").read_bytes())
        return content

    def test_what_is_sent_is_recorded_beside_the_source(
        self, client: XComplianceClient, flow: str, tmp_path: Path
    ) -> None:
        source = file(tmp_path)
        job_id = complete(client, source)

        assert self.record(source) == {
            "job_id": job_id,
            "job_type": "tweets",
            "source": source,
            "ids": 200,
            "bytes": len(IDS),
            "sha256": hashlib.sha256(IDS).hexdigest(),
        }
        assert Path(f"{source}.upload.json").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("status", ["in_progress", "complete"])
    def test_ids_that_the_job_has_already_are_a_success(
        self, client: XComplianceClient, emulator: EmulatorServer, flow: str, tmp_path: Path, status: str
    ) -> None:
        source = file(tmp_path)
        job = client.create_job("tweets")
        first = transfer.upload(client, job.id, source)
        emulator.set_job(job.id, status)
        uploads = len(emulator.requests("upload"))

        again = transfer.upload(client, job.id, source)

        assert again == first | {"already_accepted": True}
        assert len(emulator.requests("upload")) == uploads

    @pytest.mark.parametrize(
        ("content", "control_ids"), [(IDS[:-20], []), (IDS, ["12"])], ids=["other ids", "other control ids"]
    )
    def test_other_ids_are_a_failure_that_says_so(
        self, client: XComplianceClient, flow: str, tmp_path: Path, content: bytes, control_ids: list[str]
    ) -> None:
        job_id = complete(client, file(tmp_path))
        source = file(tmp_path, content)

        with pytest.raises(JobStateError, match=rf"upload to job {job_id}: the job was given other ids, not"):
            transfer.upload(client, job_id, source, control_ids=control_ids)

    @pytest.mark.parametrize("record", [None, b"", b"{}", b"[1]", b'{"job_id": "17", "sha256": "x"}'])
    def test_without_a_record_of_this_job_nobody_can_tell(
        self, client: XComplianceClient, tmp_path: Path, record: bytes | None
    ) -> None:
        source = file(tmp_path)
        job_id = complete(client, source)
        path = Path(f"{source}.upload.json")
        path.unlink()
        if record is not None:
            path.write_bytes(record)

        with pytest.raises(JobStateError, match=r"ids that no record tells of.*create a new job"):
            transfer.upload(client, job_id, source)

    def test_a_record_of_an_older_job_does_no_harm(self, client: XComplianceClient, tmp_path: Path) -> None:
        source = file(tmp_path)
        complete(client, source)

        job_id = complete(client, source)

        assert self.record(source)["job_id"] == job_id

    def test_a_source_beside_which_nothing_can_be_written_is_sent_with_a_warning(
        self, client: XComplianceClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = file(tmp_path)
        Path(f"{source}.upload.json").mkdir()
        job = client.create_job("tweets")

        receipt = transfer.upload(client, job.id, source)

        assert receipt["already_accepted"] is False
        assert "another run of it cannot tell what was sent" in caplog.text

    def test_ids_that_changed_between_two_tries_are_sent_as_they_are_now(
        self, client: XComplianceClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = client.create_job("tweets")
        with monkeypatch.context() as patch:
            patch.setattr(client, "upload", killed)
            with pytest.raises(KeyboardInterrupt):
                transfer.upload(client, job.id, file(tmp_path))

        first = transfer.upload(client, job.id, file(tmp_path, IDS[:-20]))

        assert transfer.upload(client, job.id, file(tmp_path, IDS[:-20])) == first | {
            "already_accepted": True
        }

    def test_if_a_worker_that_was_thought_dead_sent_the_others_nobody_takes_them_for_these(
        self,
        client: XComplianceClient,
        emulator: EmulatorServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        job = client.create_job("tweets")
        with monkeypatch.context() as patch:
            patch.setattr(client, "upload", killed)
            for content in (IDS, IDS[:-20]):
                with pytest.raises(KeyboardInterrupt):
                    transfer.upload(client, job.id, file(tmp_path, content))
        # One of the two has arrived all the same.
        emulator.set_job(job.id, "in_progress")

        for content in (IDS, IDS[:-20]):
            with pytest.raises(JobStateError, match="the job was given other ids"):
                transfer.upload(client, job.id, file(tmp_path, content))


def killed(*_: Any) -> None:
    """Stand for a kill: nothing of this package catches it."""
    raise KeyboardInterrupt


class TestDownload:
    def test_the_receipt_is_the_manifest_and_says_what_landed(
        self, client: XComplianceClient, flow: str, tmp_path: Path
    ) -> None:
        source = file(tmp_path)
        job_id = complete(client, source, name="nightly")
        out = tmp_path / "out" / "events.ndjson"

        receipt = transfer.download(client, job_id, str(out), submitted=source)

        events = out.read_bytes()
        ids = [json.loads(line)["id"] for line in events.splitlines() if line]
        manifest = json.loads((tmp_path / "out" / "events.ndjson.manifest.json").read_bytes())
        assert receipt == manifest | {"manifest": f"{out}.manifest.json", "created": True}
        assert manifest["events"] == len(ids) > 0
        assert sum(sum(reasons.values()) for reasons in manifest["actions"].values()) == len(ids)
        assert {
            key: manifest[key]
            for key in ("job_id", "job_type", "job_name", "bytes", "sha256", "crc32c", "destination")
        } == {
            "job_id": job_id,
            "job_type": "tweets",
            "job_name": "nightly",
            "bytes": len(events),
            "sha256": hashlib.sha256(events).hexdigest(),
            "crc32c": f"{google_crc32c.value(events):08x}",
            "destination": str(out),
        }
        assert manifest["submitted"] == {
            "source": source,
            "ids": 200,
            "bytes": len(IDS),
            "sha256": hashlib.sha256(IDS).hexdigest(),
        }
        assert (manifest["unverified_length"], manifest["errors"], manifest["unknown"]) == (False, {}, [])
        assert landed(out.parent) == ["events.ndjson", "events.ndjson.manifest.json"]

    def test_a_second_run_changes_nothing(
        self, client: XComplianceClient, flow: str, tmp_path: Path, s3: Any
    ) -> None:
        job_id = complete(client, file(tmp_path))
        store, bucket = s3.client(), s3.bucket()
        destination = f"s3://{bucket}/out/events.ndjson"

        first = transfer.download(client, job_id, destination, store)
        before = store.list_objects_v2(Bucket=bucket)["Contents"]
        writes: list[str] = []
        store.meta.events.register("before-call.s3.PutObject", lambda model, **_: writes.append(model.name))
        second = transfer.download(client, job_id, destination, store)

        assert first["created"] is True
        assert second == first | {"created": False}
        assert store.list_objects_v2(Bucket=bucket)["Contents"] == before
        assert writes == []

    def test_another_file_at_the_destination_is_replaced_only_when_asked(
        self, client: XComplianceClient, emulator: EmulatorServer, tmp_path: Path
    ) -> None:
        job_id = complete(client, file(tmp_path))
        out = tmp_path / "out" / "events"
        out.parent.mkdir()
        out.write_bytes(b"other")

        with pytest.raises(DestinationExistsError):
            transfer.download(client, job_id, str(out))
        assert landed(out.parent) == ["events"]
        assert out.read_bytes() == b"other"

        assert transfer.download(client, job_id, str(out), replace=True)["created"] is True
        assert landed(out.parent) == ["events", "events.manifest.json"]

    @pytest.mark.parametrize(
        "destination",
        ["gs://bucket/", "s3://bucket/", "ftp://host/key", "s3://id:secret@bucket/key", "s3:/a/b"],
    )
    def test_a_destination_that_cannot_be_is_refused_before_any_request(
        self, client: XComplianceClient, emulator: EmulatorServer, destination: str
    ) -> None:
        with pytest.raises(StorageError):
            transfer.download(client, "1", destination)

        assert emulator.requests() == []

    def test_the_manifest_comes_last(
        self, client: XComplianceClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job_id = complete(client, file(tmp_path))
        landings: list[str] = []
        land = storage.land

        def noted(*arguments: Any, **options: Any) -> bool:
            landings.append(Path(arguments[2]).name)
            return land(*arguments, **options)

        monkeypatch.setattr(storage, "land", noted)
        transfer.download(client, job_id, str(tmp_path / "events"))

        assert landings == ["events", "events.manifest.json"]

    @pytest.mark.parametrize(
        ("result", "error"),
        [
            (RESULT[:20], InvalidEventsError),
            (b"<html>502 Bad Gateway</html>", InvalidEventsError),
            (RESULT + b'{"id":"12"}\n', InvalidEventsError),
            (RESULT, ForeignEventsError),
        ],
    )
    def test_nothing_lands_of_a_result_that_cannot_be_believed(
        self,
        client: XComplianceClient,
        emulator: EmulatorServer,
        tmp_path: Path,
        result: bytes,
        error: type[Exception],
    ) -> None:
        source = file(tmp_path)
        job_id = complete(client, source)
        emulator.set_result(job_id, result)

        with pytest.raises(error, match=f"^results of job {job_id}"):
            transfer.download(client, job_id, str(tmp_path / "out" / "events"), submitted=source)

        assert landed(tmp_path / "out") == []

    def test_unknown_actions_land_counted_and_are_logged(
        self,
        client: XComplianceClient,
        emulator: EmulatorServer,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        job_id = complete(client, file(tmp_path))
        emulator.set_result(job_id, b'{"id":"12","action":"freeze","reason":"cold\\nday"}')

        receipt = transfer.download(client, job_id, str(tmp_path / "events"))

        assert receipt["unknown"] == ["freeze/cold\nday"]
        assert "does not know: ['freeze/cold\\nday']" in caplog.text

    def test_an_empty_result_lands(
        self, client: XComplianceClient, emulator: EmulatorServer, flow: str, tmp_path: Path
    ) -> None:
        emulator.set_events(b"")
        job_id = complete(client, file(tmp_path))

        receipt = transfer.download(client, job_id, str(tmp_path / "events"))

        assert (receipt["events"], receipt["bytes"], receipt["unverified_length"]) == (0, 0, False)

    def test_a_result_that_will_not_fit_on_the_disk_is_not_fetched(
        self, client: XComplianceClient, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job_id = complete(client, file(tmp_path))
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=-1))

        with pytest.raises(StorageError, match=f"bytes do not fit into {scratch}, which has"):
            transfer.download(client, job_id, str(tmp_path / "out" / "events"))

        assert landed(tmp_path / "out") == []

    def test_nothing_secret_is_logged_or_kept(
        self,
        client: XComplianceClient,
        emulator: EmulatorServer,
        flow: str,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            source = file(tmp_path)
            job_id = complete(client, source)
            receipt = transfer.download(client, job_id, str(tmp_path / "events"), submitted=source)

        job = client.get_job(job_id)
        secrets = [emulator.bearer_token]
        for url in (job.upload_url, job.download_url):
            secrets += re.findall(r"(?:token|X-Goog-Signature)=([^&]+)", url or "")
        ours = [record.getMessage() for record in caplog.records]
        seen = "".join(ours) + json.dumps(receipt) + (tmp_path / "events.manifest.json").read_text()
        assert len(secrets) == 3
        assert not [secret for secret in secrets if secret in seen]


class Framing(NamedTuple):
    """How a result ends on the wire, how it is cut, and whether that can be told."""

    flow: str
    settings: dict[str, Any]
    fault: str
    can_tell: bool


FRAMINGS = {
    "legacy, connection lost": Framing("legacy", {}, "cut", can_tell=True),
    "legacy, ended early": Framing("legacy", {}, "truncate", can_tell=True),
    "length, connection lost": Framing("current", {"download_framing": "length"}, "cut", can_tell=True),
    "chunked, connection lost": Framing("current", {"download_framing": "chunked"}, "cut", can_tell=True),
    "length and digest, ended early": Framing(
        "current", {"download_framing": "length", "download_digest": True}, "truncate", can_tell=True
    ),
    "closed and digest, connection lost": Framing(
        "current", {"download_framing": "close", "download_digest": True}, "cut", can_tell=True
    ),
    "ranges, connection lost": Framing(
        "current", {"download_framing": "length", "download_ranges": True}, "cut", can_tell=True
    ),
    "closed, connection lost": Framing("current", {"download_framing": "close"}, "cut", can_tell=False),
}


def holds_whole_records(content: bytes) -> bool:
    try:
        return all(json.loads(line) for line in content.split(b"\n") if line)
    except ValueError:
        return False


def test_an_answer_about_another_job_is_not_believed(
    emulator: EmulatorServer, client: XComplianceClient, tmp_path: Path
) -> None:
    other = complete(client, file(tmp_path))
    body = {"data": next(job for job in emulator.jobs() if job["id"] == other)}
    emulator.add_fault("status", endpoint="get", times=0, status=200, body=body)

    with pytest.raises(ServerError, match=rf"get job 17: X answered with another job \({other}\)"):
        transfer.download(client, "17", str(tmp_path / "out" / "events"))
    assert landed(tmp_path / "out") == []
    with pytest.raises(ServerError, match="X answered with another job"):
        transfer.upload(client, "17", file(tmp_path))


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS.keys())
def test_a_result_cut_at_any_byte_is_refused_or_said_to_be_unverified(
    emulator: EmulatorServer, tmp_path: Path, framing: Framing
) -> None:
    emulator.configure(flow=framing.flow, **framing.settings)
    client = client_of(emulator, max_tries=1)
    job_id = complete(client, file(tmp_path))
    emulator.set_result(job_id, RESULT)
    accepted = []
    for at in range(len(RESULT)):
        out = tmp_path / f"cut-{at}"
        emulator.clear_faults()
        emulator.add_fault(framing.fault, endpoint="download", at=at, times=0)
        try:
            receipt = transfer.download(client, job_id, str(out / "events"))
        except (XComplianceError, InvalidEventsError):
            assert landed(out) == []
        else:
            assert receipt["unverified_length"] is True
            assert (out / "events").read_bytes() == RESULT[:at]
            accepted.append(at)

    undetectable = [at for at in range(len(RESULT)) if holds_whole_records(RESULT[:at])]
    assert accepted == ([] if framing.can_tell else undetectable)


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS.keys())
def test_a_whole_result_lands_however_it_is_framed(
    emulator: EmulatorServer, tmp_path: Path, framing: Framing
) -> None:
    emulator.configure(flow=framing.flow, **framing.settings)
    client = client_of(emulator)
    job_id = complete(client, file(tmp_path))
    emulator.set_result(job_id, RESULT)

    receipt = transfer.download(client, job_id, str(tmp_path / "events"))

    assert (tmp_path / "events").read_bytes() == RESULT
    assert receipt["unverified_length"] is not framing.can_tell


@pytest.mark.parametrize("flow_of_job", ["current", "legacy"])
def test_a_result_cut_once_is_fetched_again(
    emulator: EmulatorServer, tmp_path: Path, flow_of_job: str
) -> None:
    emulator.configure(flow=flow_of_job)
    client = client_of(emulator)
    job_id = complete(client, file(tmp_path))
    emulator.set_result(job_id, RESULT)
    emulator.add_fault("cut", endpoint="download", at=60)

    transfer.download(client, job_id, str(tmp_path / "events"))

    assert (tmp_path / "events").read_bytes() == RESULT


def test_upload_and_download_tell_their_progress(
    client: XComplianceClient,
    flow: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "_SECONDS", 0.0)

    with caplog.at_level(logging.INFO):
        job_id = complete(client, file(tmp_path))
        transfer.download(client, job_id, str(tmp_path / "events"))

    size = (tmp_path / "events").stat().st_size
    assert f"uploading to job {job_id}: 4,000 of 4,000 (100 %) bytes" in caplog.text
    assert f"downloading the results of job {job_id}: {size:,} of {size:,} (100 %) bytes" in caplog.text
