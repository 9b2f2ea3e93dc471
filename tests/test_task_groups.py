from datetime import UTC, datetime

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_xcompliance.task_groups import refresh_archive


def build(**options) -> DAG:
    with DAG(dag_id="night", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        refresh_archive(**{"source": "s3://bucket/posts/", "events": "s3://bucket/events", **options})
    return dag


def task(dag: DAG, name: str):
    return dag.get_task(f"refresh_archive.{name}")


def test_nothing_is_written_to_the_archive_before_the_guard():
    dag = build()

    assert task(dag, "plan").upstream_task_ids >= {"refresh_archive.guard"}
    assert task(dag, "guard").upstream_task_ids == {"refresh_archive.run_tweets", "refresh_archive.run_users"}
    assert "refresh_archive.plan" in task(dag, "apply").upstream_task_ids


def test_what_was_checked_is_recorded_only_after_all_of_it_was_applied():
    assert "refresh_archive.apply" in task(build(), "record").upstream_task_ids


def test_the_second_extraction_finds_the_indexes_of_the_first():
    dag = build()

    assert task(dag, "extract_users").upstream_task_ids == {"refresh_archive.extract_tweets"}


def test_one_kind_of_ids_may_do():
    names = {each.task_id.partition(".")[2] for each in build(job_types=["users"]).tasks}

    assert names == {"extract_users", "run_users", "guard", "plan", "apply", "record"}


def test_each_run_has_results_of_its_own():
    assert task(build(), "run_users").destination == (
        "s3://bucket/events/{{ run_id.replace('+00:00', '').replace(':', '') }}/users"
    )


def test_all_tasks_are_retried():
    assert {each.retries for each in build().tasks} == {3}


@pytest.mark.parametrize(
    ("given", "run_conn_id"),
    [
        ({"source_conn_id": "aws"}, "aws"),
        ({"source_conn_id": "aws", "archive": {"state_conn_id": "other"}}, "other"),
        ({"source_conn_id": "aws", "extract": {"destination_conn_id": "third"}}, "third"),
    ],
)
def test_files_of_ids_are_read_where_they_were_written(given, run_conn_id):
    assert task(build(**given), "run_tweets").source_conn_id == run_conn_id


def test_arguments_reach_their_tasks():
    dag = build(
        archive={"columns": {"id": "key"}},
        extract={"max_jobs_per_run": 4},
        run={"deferrable": False},
        guard={"max_removals": 9},
        control_ids={"tweets": ["20"]},
        max_tasks=7,
        redact={"policy": {"rehydrate/tweet_edited": "keep"}},
    )

    assert task(dag, "extract_users").max_jobs_per_run == 4
    assert task(dag, "run_tweets").deferrable is False
    assert task(dag, "run_tweets").control_ids == ["20"]
    assert task(dag, "guard").max_removals == 9
    assert task(dag, "plan").max_tasks == 7
    assert task(dag, "plan").policy == {"rehydrate/tweet_edited": "keep"}
    assert task(dag, "record").columns == {"id": "key"}
