"""The chain as four tasks and as one; each run's conf says which connection and files to use."""

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, chain

from airflow_provider_xcompliance.operators.jobs import (
    CreateJobOperator,
    DownloadOperator,
    RunJobOperator,
    UploadOperator,
)
from airflow_provider_xcompliance.sensors.jobs import JobStatusSensor

SOURCE, DESTINATION = "{{ params.source }}", "{{ params.destination }}"
SETTINGS = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "default_args": {
        "retries": 5,
        "retry_delay": timedelta(seconds=1),
        "xcompliance_conn_id": "{{ params.connection }}",
    },
    "params": {"connection": "", "source": "", "destination": ""},
}

with DAG("four_steps", schedule=None, **SETTINGS):
    job = CreateJobOperator(task_id="create", job_type="tweets")
    upload = UploadOperator(task_id="upload", job_id=job.output, source=SOURCE)
    # Long enough to find a run between two looks.
    wait = JobStatusSensor(task_id="wait", job_id=job.output, mode="reschedule", poke_interval=12)
    download = DownloadOperator(
        task_id="download", job_id=job.output, destination=DESTINATION, submitted=SOURCE
    )
    chain(job, upload, wait, download)

with DAG("one_task", schedule=None, **SETTINGS):
    RunJobOperator(
        task_id="run",
        job_type="tweets",
        source=SOURCE,
        destination=DESTINATION,
        deferrable=True,
        poll_interval=2,
    )
