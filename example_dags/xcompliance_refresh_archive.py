"""Every night: an archive of posts and users is brought into compliance, from its ids to the report.

Of files that did not change since the last night nothing is read but their index; nothing is written to the
archive before the guard has said go; and what is written takes the place of exactly what was read.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_xcompliance.task_groups import refresh_archive

with DAG(
    dag_id="xcompliance_refresh_archive",
    description="Bring an archive into compliance with what X says of its posts and users",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # X answers for the present alone: a night that was missed cannot be made up for
    max_active_runs=1,  # X allows one active job of a type
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    params={
        "source": "file:///srv/xcompliance/archive/",
        "events": "file:///srv/xcompliance/events",
        # What the columns of tables are called, by pattern of file names; of CSV, TSV and Parquet alone.
        "columns": {"*": {"id": "id", "author": "author_id", "geo": []}},
        # What files hold that do not show it: {"*.txt": "tweet_ids"}.
        "shapes": {},
        # Ids of your own choice that are known to be gone: if X does not say so, its answer is void.
        "control_ids": {"tweets": [], "users": []},
        # Of posts, and of users; each is paid for, and takes up to an hour.
        "max_jobs_per_run": 10,
        # None for a first run, which may find years of deletions.
        "max_removal_ratio": 0.05,
        "max_change_ratio": 0.05,
        "dry_run": False,
        "max_tasks": 64,
        "poll_interval": 60,
    },
    render_template_as_native_obj=True,
    tags=["xcompliance"],
):
    refresh_archive(
        source="{{ params.source }}",
        events="{{ params.events }}",
        control_ids={
            "tweets": "{{ params.control_ids.tweets }}",
            "users": "{{ params.control_ids.users }}",
        },
        archive={"columns": "{{ params.columns }}", "shapes": "{{ params.shapes }}"},
        extract={"max_jobs_per_run": "{{ params.max_jobs_per_run }}"},
        guard={
            "max_removal_ratio": "{{ params.max_removal_ratio }}",
            "max_change_ratio": "{{ params.max_change_ratio }}",
        },
        redact={"dry_run": "{{ params.dry_run }}"},
        run={"poll_interval": "{{ params.poll_interval }}"},
        max_tasks="{{ params.max_tasks }}",
    )
