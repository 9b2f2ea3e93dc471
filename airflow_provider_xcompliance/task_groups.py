"""The whole night as one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import TaskGroup, chain

from airflow_provider_xcompliance.archive.guards import JOB_TYPES
from airflow_provider_xcompliance.operators.archives import (
    ExtractIdsOperator,
    GuardEventsOperator,
    PlanRedactionOperator,
    RecordChecksOperator,
    RedactArchiveOperator,
)
from airflow_provider_xcompliance.operators.jobs import RunJobOperator

# Groups, DAGs and runs may share a folder; the ids of the first two hold nothing that splits a path.
_DAG = "{{ dag.dag_id }}"
_RUN = "{{ run_id.replace('+00:00', '').replace(':', '') }}"


def refresh_archive(
    group_id: str = "refresh_archive",
    *,
    source: Any,
    events: str,
    job_types: Sequence[str] = JOB_TYPES,
    source_conn_id: str | None = None,
    events_conn_id: str | None = None,
    xcompliance_conn_id: str = "xcompliance_default",
    control_ids: Mapping[str, Any] | None = None,
    archive: Mapping[str, Any] | None = None,
    extract: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
    guard: Mapping[str, Any] | None = None,
    redact: Mapping[str, Any] | None = None,
    max_tasks: int = 64,
    max_active_tasks: int | None = None,
    retries: int = 3,
) -> TaskGroup:
    """
    Bring an archive into compliance: ids out of it, jobs, go or no go, and what X said applied to it.

    The tasks are ``extract_tweets``, ``extract_users``, ``run_tweets``, ``run_users``, ``guard``, ``plan``,
    ``apply`` (one for each group of files) and ``record``, which returns the report of the night.

    :param source: URI of a file, a glob, a folder (ending in ``/``), or a list of them
    :param events: folder for the results; each run of each group has a folder of its own in it
    :param job_types: what is checked (default: ``tweets`` and ``users``)
    :param source_conn_id: connection of the store of ``source`` (default: the library's own credentials)
    :param events_conn_id: connection of the store of ``events`` (default: that of ``source``)
    :param xcompliance_conn_id: the connection to X (default: ``xcompliance_default``)
    :param control_ids: by job type, ids that are known to be gone: without events of them a result is void
    :param archive: further arguments about the archive: ``state``, ``state_conn_id``, ``shapes``, ``columns``
    :param extract: further arguments of ExtractIdsOperator, such as ``max_jobs_per_run``
    :param run: further arguments of RunJobOperator, such as ``reuse_within``
    :param guard: further arguments of GuardEventsOperator, such as ``max_removal_ratio``
    :param redact: further arguments of RedactArchiveOperator, such as ``dry_run`` or ``purge_versions``
    :param max_tasks: how many groups the files are split into at most (default: 64)
    :param max_active_tasks: how many of them are done at once in a run (default: as many as Airflow lets)
    :param retries: of each task (default: 3); without them a killed worker's task is not done again
    :return: the task group
    """
    place: dict[str, Any] = {"source": source, "source_conn_id": source_conn_id, **(archive or {})}
    state_conn_id = place.get("state_conn_id") or source_conn_id
    events_conn_id = events_conn_id or source_conn_id
    ids_conn_id = (extract or {}).get("destination_conn_id")
    policy: dict[str, Any] = {"policy": (redact or {}).get("policy")}
    defaults: Any = {"retries": retries}
    with TaskGroup(group_id, default_args=defaults) as group:
        extracts, runs = [], []
        for job_type in job_types:
            ids = ExtractIdsOperator(
                task_id=f"extract_{job_type}", job_type=job_type, **place, **(extract or {})
            )
            found: Any = ids.output
            results = RunJobOperator(
                task_id=f"run_{job_type}",
                job_type=job_type,
                source=found,
                source_conn_id=ids_conn_id or state_conn_id,
                destination=f"{events.rstrip('/')}/{_DAG}/{group.group_id}/{_RUN}/{job_type}",
                destination_conn_id=events_conn_id,
                control_ids=(control_ids or {}).get(job_type),
                xcompliance_conn_id=xcompliance_conn_id,
                **{"deferrable": True, **(run or {})},
            )
            extracts.append(ids)
            runs.append(results)
        landed: dict[str, Any] = {"events": [each.output for each in runs], "events_conn_id": events_conn_id}
        go = GuardEventsOperator(
            task_id="guard", **landed, **policy, **{"control_ids": control_ids or None, **(guard or {})}
        )
        groups = PlanRedactionOperator(
            task_id="plan",
            max_tasks=max_tasks,
            ids_conn_id=ids_conn_id,
            dry_run=(redact or {}).get("dry_run", False),
            **place,
            **landed,
            **policy,
        )
        done = RedactArchiveOperator.partial(
            task_id="apply",
            max_active_tis_per_dagrun=max_active_tasks,
            **place,
            **landed,
            **{"ids_conn_id": ids_conn_id, **(redact or {})},
        ).expand(group=groups.output)
        record = RecordChecksOperator(task_id="record", reports=done.output, **place, **landed, **policy)
        # The second one finds the indexes that the first one made.
        chain(*extracts)
        chain(runs, go, groups, done, record)
    return group
