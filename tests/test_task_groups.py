from datetime import UTC, datetime

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskGroup

from airflow_provider_xcompliance.operators.archives import PlanRedactionOperator
from airflow_provider_xcompliance.task_groups import refresh_archive

PLACES = {"source": "s3://bucket/posts/", "events": "s3://bucket/events"}


def new_dag(dag_id: str = "night") -> DAG:
    return DAG(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC))


def build(**options) -> DAG:
    with new_dag() as dag:
        refresh_archive(**{**PLACES, **options})
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


def destinations(dag: DAG, run_id: str = "manual__2026-01-01T00:00:00+00:00") -> list[str]:
    """Return where the results of a run land."""
    context = {"dag": dag, "run_id": run_id}
    runs = [each for each in dag.tasks if each.task_id.rpartition(".")[2].startswith("run_")]
    return sorted(each.render_template(each.destination, context) for each in runs)


def test_each_run_has_results_of_its_own():
    folder = "s3://bucket/events/night/refresh_archive/manual__2026-01-01T000000"

    assert destinations(build()) == [f"{folder}/tweets", f"{folder}/users"]


def test_two_groups_of_a_dag_have_results_of_their_own():
    with new_dag() as dag:
        refresh_archive("posts", **PLACES, job_types=["tweets"])
        refresh_archive("news", **PLACES, job_types=["tweets"])

    assert destinations(dag, "1") == [
        "s3://bucket/events/night/news/1/tweets",
        "s3://bucket/events/night/posts/1/tweets",
    ]


def test_groups_of_one_name_in_other_groups_have_results_of_their_own():
    with new_dag() as dag:
        for outer in ("posts", "news"):
            with TaskGroup(outer):
                refresh_archive(**PLACES, job_types=["tweets"])

    assert destinations(dag, "1") == [
        "s3://bucket/events/night/news.refresh_archive/1/tweets",
        "s3://bucket/events/night/posts.refresh_archive/1/tweets",
    ]


def test_two_dags_have_results_of_their_own_in_runs_of_one_name():
    found = []
    for dag_id in ("night", "team-a.night_2"):
        with new_dag(dag_id) as dag:
            refresh_archive(**PLACES, job_types=["tweets"])
        found += destinations(dag, "1")

    assert found == [
        "s3://bucket/events/night/refresh_archive/1/tweets",
        "s3://bucket/events/team-a.night_2/refresh_archive/1/tweets",
    ]


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
    )

    assert task(dag, "extract_users").max_jobs_per_run == 4
    assert task(dag, "run_tweets").deferrable is False
    assert task(dag, "run_tweets").control_ids == ["20"]
    assert task(dag, "guard").max_removals == 9
    assert task(dag, "plan").max_tasks == 7
    assert task(dag, "record").columns == {"id": "key"}


def test_the_guard_counts_what_will_be_done():
    policy = {"delete/scrub_geo": "remove"}

    assert task(build(redact={"policy": policy}), "guard").policy == policy
    assert task(build(), "guard").policy is None


def test_the_guard_cannot_be_given_another_policy():
    with pytest.raises(TypeError, match="policy"):
        build(guard={"policy": {"delete/deleted": "keep"}}, redact={"policy": {}})


def test_the_plan_is_told_all_that_the_apply_is_told():
    given = {
        "source_conn_id": "aws",
        "events_conn_id": "landing",
        "archive": {
            "state": "s3://state/",
            "state_conn_id": "other",
            "shapes": {"*.txt": "tweet_ids"},
            "columns": {"id": "key"},
        },
        "extract": {"destination": "s3://ids/", "destination_conn_id": "third"},
        "redact": {"dry_run": True, "policy": {"rehydrate/tweet_edited": "keep"}},
    }
    names = {*PlanRedactionOperator.template_fields} - {"events", "is_dry_run", "max_tasks"}

    dag = build(**given)

    plan, apply = task(dag, "plan"), task(dag, "apply").partial_kwargs
    told = {name: getattr(plan, name) for name in names}
    assert None not in told.values()
    assert told == {name: apply[name] for name in names}
    assert (plan.is_dry_run, plan.max_tasks) == (apply["dry_run"], 64)
    assert [str(each) for each in plan.events] == [str(each) for each in apply["events"]]


@pytest.mark.parametrize("dry_run", [True, "{{ params.dry_run }}"])
def test_a_dry_run_leaves_nothing_at_the_plan_either(dry_run):
    dag = build(redact={"dry_run": dry_run})

    assert task(dag, "plan").is_dry_run == dry_run
    assert task(dag, "apply").partial_kwargs["dry_run"] == dry_run


def test_the_plan_is_no_dry_run_unless_that_is_asked_for():
    assert task(build(), "plan").is_dry_run is False


@pytest.mark.parametrize("name", ["plan", "apply"])
@pytest.mark.parametrize(
    ("extract", "conn_id"), [({"destination_conn_id": "third"}, "third"), ({}, None), (None, None)]
)
def test_ids_that_were_put_elsewhere_are_read_there(name, extract, conn_id):
    found = task(build(source_conn_id="aws", extract=extract), name)

    assert getattr(found, "partial_kwargs", vars(found))["ids_conn_id"] == conn_id
