"""One compliance job for posts, one task for each step: create, upload, wait, download.

Trigger it with the address of your own file of post ids, one decimal id on each line, and a place for the
results; ``file://`` and ``s3://`` both work. The bearer token is the password of the connection
``xcompliance_default``.
"""

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, chain

from airflow_provider_xcompliance.operators.jobs import CreateJobOperator, DownloadOperator, UploadOperator
from airflow_provider_xcompliance.sensors.jobs import JobStatusSensor

IDS = "{{ params.ids }}"
# Named after the run, which always has an id, while a run triggered over the REST API may have no date.
EVENTS = "{{ params.destination }}/{{ run_id.replace('+00:00', '').replace(':', '') }}/tweets.ndjson"

with DAG(
    dag_id="xcompliance_job",
    description="Check a file of post ids against X",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # X allows one active job of a type
    default_args={"retries": 3},
    params={
        "ids": "file:///srv/xcompliance/tweet_ids.txt",
        "destination": "file:///srv/xcompliance/events",
    },
    tags=["xcompliance"],
):
    job = CreateJobOperator(task_id="create", job_type="tweets")
    upload = UploadOperator(task_id="upload", job_id=job.output, source=IDS)
    # Looks once a minute and holds no worker in between.
    wait = JobStatusSensor(task_id="wait", job_id=job.output, mode="reschedule")
    # `submitted` has every event checked to be about an id that went up.
    download = DownloadOperator(task_id="download", job_id=job.output, destination=EVENTS, submitted=IDS)

    chain(job, upload, wait, download)
