"""Every night, one task per kind of id: whole jobs, then go or no go for whatever uses their events.

The files of ids may be lists: each file becomes a job of its own, one after another. The guard looks at the
results of all of them together; put the tasks that write to your archive behind it.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, chain

from airflow_provider_xcompliance.operators.archives import GuardEventsOperator
from airflow_provider_xcompliance.operators.jobs import RunJobOperator

# Named after the run, which always has an id, while a run triggered over the REST API may have no date.
RUN_DIRECTORY = "{{ params.destination }}/{{ run_id.replace('+00:00', '').replace(':', '') }}"

with DAG(
    dag_id="xcompliance_guarded",
    description="Check all stored ids against X, and judge the results before anything uses them",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # X answers for the present alone: a night that was missed cannot be made up for
    max_active_runs=1,  # X allows one active job of a type
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    params={
        "tweet_ids": "file:///srv/xcompliance/tweet_ids.txt",
        "user_ids": "file:///srv/xcompliance/user_ids.txt",
        "destination": "file:///srv/xcompliance/events",
        # Ids of your own choice that are known to be gone: if X does not say so, its answer is void.
        "gone_tweets": [],
        "gone_users": [],
        # None for a first run, which may find years of deletions.
        "max_removal_ratio": 0.05,
    },
    render_template_as_native_obj=True,
    tags=["xcompliance"],
):
    runs = [
        RunJobOperator(
            task_id=f"run_{job_type}",
            job_type=job_type,
            source=source,
            destination=f"{RUN_DIRECTORY}/{job_type}.ndjson",
            control_ids=f"{{{{ params.gone_{job_type} }}}}",
            deferrable=True,  # holds no worker while X is at work; needs a triggerer
        )
        for job_type, source in (
            ("tweets", "{{ params.tweet_ids }}"),
            ("users", "{{ params.user_ids }}"),
        )
    ]
    guard = GuardEventsOperator(
        task_id="guard",
        events=[run.output for run in runs],
        control_ids="{{ {'tweets': params.gone_tweets, 'users': params.gone_users} }}",
        max_removal_ratio="{{ params.max_removal_ratio }}",
    )
    chain(runs, guard)
