"""Every night: check all stored post ids and user ids against X, side by side.

Each run has a directory of its own for the results, and each download updates an asset, so that another DAG
can be scheduled on it. Put the addresses of your own id files below, or give them when triggering.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Asset, TaskGroup, chain

from airflow_provider_xcompliance.operators.jobs import CreateJobOperator, DownloadOperator, UploadOperator
from airflow_provider_xcompliance.sensors.jobs import JobStatusSensor

# Named after the run, which always has an id, while a run triggered over the REST API may have no date.
RUN_DIRECTORY = "{{ params.destination }}/{{ run_id.replace('+00:00', '').replace(':', '') }}"

SOURCES = {"tweets": "{{ params.tweet_ids }}", "users": "{{ params.user_ids }}"}
# Neither way of waiting holds a worker; the deferred one needs a triggerer to be running.
WAITING = {"tweets": {"mode": "reschedule"}, "users": {"deferrable": True}}

with DAG(
    dag_id="xcompliance_nightly",
    description="Check all stored post ids and user ids against X",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # X answers for the present alone: a night that was missed cannot be made up for
    max_active_runs=1,  # X allows one active job of a type
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    params={
        "tweet_ids": "file:///srv/xcompliance/tweet_ids.txt",
        "user_ids": "file:///srv/xcompliance/user_ids.txt",
        "destination": "file:///srv/xcompliance/events",
    },
    tags=["xcompliance"],
):
    for job_type, source in SOURCES.items():
        with TaskGroup(job_type):
            job = CreateJobOperator(task_id="create", job_type=job_type)
            upload = UploadOperator(task_id="upload", job_id=job.output, source=source)
            wait = JobStatusSensor(task_id="wait", job_id=job.output, **WAITING[job_type])
            download = DownloadOperator(
                task_id="download",
                job_id=job.output,
                destination=f"{RUN_DIRECTORY}/{job_type}.ndjson",
                submitted=source,
                outlets=[Asset(f"xcompliance_{job_type}_events")],
            )
            chain(job, upload, wait, download)
