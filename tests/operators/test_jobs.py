import json
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_xcompliance.api.errors import JobConflictError, UrlExpiredError, XComplianceError
from airflow_provider_xcompliance.hooks.compliance import XComplianceHook
from airflow_provider_xcompliance.operators.jobs import (
    CancelJobOperator,
    CreateJobOperator,
    DownloadOperator,
    UploadOperator,
)

pytestmark = pytest.mark.usefixtures("x_connection")

SECRETS = ("token=", "X-Goog-Signature", "upload_url", "download_url", "canary")


def create(job_type="tweets", **options) -> str:
    return CreateJobOperator(task_id="create", job_type=job_type, **options).execute({})


def upload(job_id, source, **options) -> dict:
    return UploadOperator(task_id="upload", job_id=job_id, source=str(source), **options).execute({})


def download(job_id, destination, context=None, **options) -> dict:
    operator = DownloadOperator(task_id="download", job_id=job_id, destination=str(destination), **options)
    return operator.execute(context or {})


def complete_job(id_file) -> str:
    job_id = create()
    upload(job_id, id_file)
    wait_for(job_id)
    return job_id


def wait_for(job_id) -> None:
    hook = XComplianceHook()
    while hook.get_job(job_id).status != "complete":
        pass


class TestCreate:
    def test_the_job_id_is_returned(self, emulator):
        job_id = create("users", job_name="nightly users")

        (job,) = emulator.jobs()
        assert (job["id"], job["type"], job["name"]) == (job_id, "users", "nightly users")

    def test_a_second_active_job_of_the_type_is_refused_with_the_reason(self):
        create()

        with pytest.raises(JobConflictError, match="another job of this type is active"):
            create()

    def test_an_unknown_type_is_refused_before_x_is_asked(self, emulator):
        with pytest.raises(ValueError, match="job_type must be 'tweets' or 'users'"):
            create("posts")
        assert emulator.requests() == []


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

        with pytest.raises(UrlExpiredError, match=r"15 minutes for it ended.*create a new job"):
            upload(job_id, id_file)
        assert emulator.requests("upload") == []

    def test_bad_ids_fail_before_x_is_asked(self, emulator, tmp_path):
        job_id = create()
        bad = tmp_path / "ids.csv"
        bad.write_text("123\n1.41786E+18\n")
        before = len(emulator.requests())

        with pytest.raises(ValueError, match=r"ids\.csv:2: not a decimal id: '1\.41786E\+18'"):
            upload(job_id, bad)
        assert len(emulator.requests()) == before

    def test_ids_are_read_from_s3_with_a_connection(self, s3, connect, id_file):
        connect("store", **s3.connection())
        bucket = s3.bucket()
        s3.client().upload_file(str(id_file), bucket, "ids.txt")

        assert upload(create(), f"s3://{bucket}/ids.txt", source_conn_id="store")["ids"] == 1000


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

        with pytest.raises(Exception, match="exists with other content"):
            download(job_id, tmp_path / "events")
        assert (tmp_path / "events").read_text() == "something else\n"

        assert download(job_id, tmp_path / "events", if_exists="replace")["created"] is True

    def test_an_unknown_way_with_existing_files_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="if_exists must be 'verify' or 'replace'"):
            download("1", tmp_path / "events", if_exists="overwrite")

    def test_a_job_without_results_is_an_error_that_says_so(self, tmp_path):
        with pytest.raises(JobConflictError, match="no results yet; wait until it is complete"):
            download(create(), tmp_path / "events")

    def test_the_counts_go_into_the_event_of_each_outlet(self, id_file, tmp_path):
        from airflow.providers.common.compat.sdk import Asset

        asset = Asset("events_of_tweets")
        events = {asset: SimpleNamespace(extra={})}

        receipt = download(
            complete_job(id_file), tmp_path / "events", {"outlet_events": events}, outlets=[asset]
        )

        assert events[asset].extra["actions"] == receipt["actions"]

    def test_an_outlet_that_is_no_asset_does_no_harm(self, id_file, tmp_path):
        class Accessors(dict):
            def __missing__(self, key):
                raise TypeError(f"Key should be either an asset or an asset alias, not {type(key)}")

        receipt = download(
            complete_job(id_file), tmp_path / "events", {"outlet_events": Accessors()}, outlets=["a table"]
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

        assert CancelJobOperator(task_id="cancel", job_id=job_id).execute({})["status"] == "failed"

    @pytest.mark.parametrize("flow", ["legacy"], indirect=True)
    def test_a_legacy_job_cannot_be_cancelled_and_the_error_says_so(self):
        job_id = create()

        with pytest.raises(XComplianceError, match="only jobs of the current flow"):
            CancelJobOperator(task_id="cancel", job_id=job_id).execute({})

    def test_a_job_that_has_ended_is_left_alone(self, emulator, id_file):
        job_id = complete_job(id_file)

        assert CancelJobOperator(task_id="cancel", job_id=job_id).execute({})["status"] == "complete"
        assert emulator.requests("cancel") == []


def test_a_job_id_that_was_rendered_as_a_number_will_do(id_file, tmp_path):
    def rendered(operator, **options):
        with DAG("native", schedule=None, render_template_as_native_obj=True):
            task = operator(task_id="task", job_id="{{ job_id }}", **options)
        task.render_template_fields({"job_id": job_id})
        assert task.job_id == int(job_id)
        return task

    job_id = create()
    assert rendered(UploadOperator, source=str(id_file)).execute({})["job_id"] == job_id
    wait_for(job_id)
    assert rendered(DownloadOperator, destination=str(tmp_path / "events")).execute({})["job_id"] == job_id
    assert rendered(CancelJobOperator).execute({})["id"] == job_id


@pytest.mark.parametrize(
    ("operator", "options"),
    [
        (CreateJobOperator, {"job_type": "tweets"}),
        (UploadOperator, {"job_id": "1", "source": "/ids"}),
        (DownloadOperator, {"job_id": "1", "destination": "/events"}),
        (CancelJobOperator, {"job_id": "1"}),
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
