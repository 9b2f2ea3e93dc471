"""The steps of a compliance job, one task each, and whole jobs in one task."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    BaseOperator,
    Context,
    conf,
)

from airflow_provider_xcompliance.api.client import DEFAULT_MAX_RATE_LIMIT_WAIT
from airflow_provider_xcompliance.api.errors import DeadlineError, JobConflictError, JobFailedError
from airflow_provider_xcompliance.api.jobs import DOWNLOAD_WINDOW, Job, JobStatus, explain_end
from airflow_provider_xcompliance.api.ownership import Step
from airflow_provider_xcompliance.api.waiting import too_late, wait_for_end
from airflow_provider_xcompliance.failures import failing_at_once
from airflow_provider_xcompliance.hooks.compliance import XComplianceHook
from airflow_provider_xcompliance.runs import JobRun
from airflow_provider_xcompliance.triggers.jobs import DEADLINE_MARGIN, JobStatusTrigger


class _ComplianceOperator(BaseOperator):
    """
    What the operators share: the connection, and failing at once where another try cannot succeed.

    They take a job's id as text even where it is a number, which is what Jinja makes of it under
    ``render_template_as_native_obj``.

    :param max_rate_limit_wait: the most seconds to hold a worker for one reset of a rate limit
    """

    ui_color = "#e8f5fd"

    def __init__(
        self,
        *,
        xcompliance_conn_id: str = XComplianceHook.default_conn_name,
        max_rate_limit_wait: float = DEFAULT_MAX_RATE_LIMIT_WAIT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.xcompliance_conn_id = xcompliance_conn_id
        self.max_rate_limit_wait = max_rate_limit_wait

    @cached_property
    def hook(self) -> XComplianceHook:
        """The hook for the connection."""
        return XComplianceHook(self.xcompliance_conn_id, max_rate_limit_wait=self.max_rate_limit_wait)

    def _tell_outlets(self, context: Context, extra: dict[str, Any]) -> None:
        for outlet in self.outlets:
            # Other things than assets may be outlets too, and have no event.
            with suppress(TypeError):
                context["outlet_events"][outlet].extra = extra


class _JobOwner(_ComplianceOperator):
    """
    What the operators that create jobs share: the name of the own job, waiting, and what to do when killed.

    :param job_type: ``tweets`` or ``users``
    :param job_name: the readable part of the job's name at X (default: the ids of DAG and task); a digest of
        owner, DAG, task, run and map index follows it, by which a retry knows the job again
    :param on_conflict: ``wait`` (default) for the end of a job of the type that is not this task's own, or
        ``fail``
    :param conflict_timeout: how long to wait for the jobs of others in all (default: 6 hours)
    :param poll_interval: seconds between two looks at a job (default: 60); stretches after 15 minutes
    :param deferrable: wait in the triggerer (default: Airflow's ``[operators] default_deferrable``), else in
        the worker
    :param cancel_on_kill: whether killing the task cancels its own job (default: yes); one that has its ids
        is only cancelled when a user ends the waiting task
    """

    def __init__(
        self,
        *,
        job_type: str,
        job_name: str | None = None,
        resumable: bool | None = None,
        on_conflict: str = "wait",
        conflict_timeout: timedelta | float = timedelta(hours=6),
        poll_interval: float = 60,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_conflict not in ("wait", "fail"):
            raise ValueError(f"on_conflict must be 'wait' or 'fail', not {on_conflict[:40]!r}")
        self.job_type = job_type
        self.job_name = job_name
        self.resumable = resumable
        self.on_conflict = on_conflict
        self.conflict_timeout = conflict_timeout
        self.poll_interval = poll_interval
        self.deferrable = deferrable
        self.cancel_on_kill = cancel_on_kill
        self._own_job: Job | None = None

    def on_kill(self) -> None:
        """Cancel the own job if it still waits for its ids; the next try finds one in progress again."""
        job = self._own_job
        if not (self.cancel_on_kill and job):
            return
        # Every SIGTERM leads here, so whatever fails must not hide what ended the task.
        with suppress(Exception):
            hook = XComplianceHook(self.xcompliance_conn_id, max_tries=1, max_rate_limit_wait=0)
            if hook.get_job(job.id).status == JobStatus.CREATED:
                hook.cancel_job(job.id)
                self.log.info("Cancelled job %s, which had no ids yet", job.id)

    def _name_of(self, context: Context) -> Callable[..., str]:
        """Return what names the own job, given what its input is known by."""
        ti = context["ti"]
        label = str(self.job_name or f"{ti.dag_id}.{ti.task_id}")
        identity = (ti.dag_id, ti.task_id, ti.run_id, str(ti.map_index))
        return lambda *inputs: self.hook.job_name(label, *identity, *inputs)

    def _clear_way(self, job: Job, *, is_own: bool, deadline: float, part: int = 0) -> None:
        """
        Wait for the end of a job that is in the way, if that is wanted.

        :param deadline: when to give up, in seconds since 1970
        """
        if self.on_conflict == "fail" and not is_own:
            raise JobConflictError(f"{_in_the_way(job)}, and X runs one job of a type at a time")
        left = (deadline - time.time()) / 3600
        self.log.warning("%s; waiting for its end, %.1f hours at most", _in_the_way(job), left)
        self._wait(job, for_result=False, deadline=deadline, part=part)

    def _wait(self, job: Job, *, for_result: bool, deadline: float, part: int = 0) -> Job:
        """
        Wait for the end of a job, in the triggerer or here.

        :param for_result: whether its result comes next; else it is only in the way
        :param deadline: when to give up, in seconds since 1970
        """
        if deadline <= time.time():
            raise DeadlineError(too_late(job.id))
        # What was rendered may be text.
        poll_interval = float(self.poll_interval)
        self.log.info("Waiting for job %s; next look in %.0f s", job.id, poll_interval)
        if not self.deferrable:
            return wait_for_end(self.hook.client, job.id, poll_interval=poll_interval, deadline=deadline)
        self.defer(
            trigger=JobStatusTrigger(
                job_id=job.id,
                xcompliance_conn_id=self.xcompliance_conn_id,
                poll_interval=poll_interval,
                deadline=deadline,
                for_result=for_result,
                part=part,
                cancel_on_kill=self.cancel_on_kill and for_result,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=max(0.0, deadline - time.time())) + DEADLINE_MARGIN,
        )
        raise AssertionError("defer() does not return")


def _seconds(span: timedelta | float) -> float:
    return span.total_seconds() if isinstance(span, timedelta) else float(span)


def _from_now(span: timedelta | float) -> float:
    return time.time() + _seconds(span)


def _texts(values: Sequence[Any] | None) -> Sequence[str]:
    """Return ids as text, of which Jinja may have made numbers; a text in a list's place is refused later."""
    return values if isinstance(values, str) else [str(value) for value in values or ()]


def _in_the_way(job: Job) -> str:
    return f"job {job.id} (name {job.name!r}, created {job.created_at}) is {job.status} and in the way"


def _require_ended(event: dict[str, Any]) -> None:
    """
    Check what a trigger says.

    :raises AirflowException: for every event that does not say how the job ended
    """
    status, message = (
        event.get("status"),
        event.get("message") or "the trigger sent an event that is not known",
    )
    if status == "timeout":
        raise DeadlineError(message)
    if status not in (JobStatus.COMPLETE, JobStatus.FAILED, JobStatus.EXPIRED):
        raise (AirflowFailException if event.get("is_final") else AirflowException)(message)
    if event.get("for_result") and status != JobStatus.COMPLETE:
        raise JobFailedError(message)


class CreateJobOperator(_JobOwner):
    """
    Create a compliance job; its ids must be uploaded within 15 minutes.

    Every job is paid for, and X allows one active job per type. A try that finds the job of an earlier one
    goes on with it, as long as enough of its 15 minutes is left.

    :param job_type: ``tweets`` or ``users``
    :param job_name: the readable part of the job's name at X (default: the ids of DAG and task)
    :param resumable: True asks for a resumable upload, which only the legacy flow has (default: no)
    :param on_conflict: ``wait`` (default) for the end of another job of the type, or ``fail``
    :param conflict_timeout: how long to wait for other jobs in all (default: 6 hours)
    :param poll_interval: seconds between two looks at such a job (default: 60); stretches after 15 minutes
    :param deferrable: wait in the triggerer (default: Airflow's ``[operators] default_deferrable``), else in
        the worker
    :param cancel_on_kill: whether killing this task cancels the job (default: yes)
    :param xcompliance_conn_id: the connection (default: ``xcompliance_default``)
    :return: the job's id, as XCom
    """

    template_fields: Sequence[str] = ("job_type", "job_name", "xcompliance_conn_id")

    def execute(self, context: Context) -> str:
        """Create the job, or find it again."""
        with failing_at_once():
            return self._claim(context, _from_now(self.conflict_timeout))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> str:
        """Take over from the trigger: the job that was in the way has ended."""
        with failing_at_once():
            _require_ended(event)
            return self._claim(context, event["deadline"])

    def _claim(self, context: Context, deadline: float) -> str:
        name = self._name_of(context)()
        while True:
            step, job = self.hook.claim_job(self.job_type, name, resumable=self.resumable)
            if step is Step.ADOPT:
                self._own_job = job
                self.log.info("Job %s for %s; upload until %s", job.id, job.type, job.upload_expires_at)
                return job.id
            self._clear_way(job, is_own=job.name == name, deadline=deadline)


class UploadOperator(_ComplianceOperator):
    """
    Validate a file of ids and send it to a job that was created for it.

    What is sent is recorded in ``<source>.upload.json``. So a try that finds that an earlier one, which was
    killed, had sent the same ids already is a success; a store that cannot be written to only loses that.

    :param job_id: the job
    :param source: URI or path of the file, one decimal id per line
    :param source_conn_id: connection of its store (default: the store library's own credentials)
    :param control_ids: ids that are known to be gone, sent with the others (default: none)
    :param allow_rounded_ids: take ids that look as if a program had rounded all of them (default: refuse)
    :param xcompliance_conn_id: the connection (default: ``xcompliance_default``)
    :return: the receipt, as XCom: number of ids, bytes, digests, what was cleaned away, and whether an
        earlier try had sent them (``already_accepted``)
    """

    template_fields: Sequence[str] = (
        "job_id",
        "source",
        "source_conn_id",
        "control_ids",
        "xcompliance_conn_id",
    )

    def __init__(
        self,
        *,
        job_id: str,
        source: str,
        source_conn_id: str | None = None,
        control_ids: Sequence[str] | None = None,
        allow_rounded_ids: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.source = source
        self.source_conn_id = source_conn_id
        self.control_ids = control_ids
        self.allow_rounded_ids = allow_rounded_ids

    def execute(self, context: Context) -> dict[str, Any]:
        """Upload the ids."""
        with failing_at_once():
            return self.hook.upload(
                str(self.job_id),
                self.source,
                self.source_conn_id,
                control_ids=_texts(self.control_ids),
                allow_rounded_ids=self.allow_rounded_ids,
            )


class DownloadOperator(_ComplianceOperator):
    """
    Verify the results of a complete job and land them with their manifest.

    With outlets, each asset event carries the counts.

    :param job_id: the job
    :param destination: URI or path of the events; the manifest is ``<destination>.manifest.json``
    :param destination_conn_id: connection of its store (default: the store library's own credentials)
    :param submitted: URI or path of the ids that were uploaded: no other id may occur in the results
        (default: not checked)
    :param source_conn_id: connection of the store of ``submitted`` (default: the library's own credentials)
    :param control_ids: those that were uploaded: each must have an event (default: none)
    :param if_exists: ``verify`` (default: only the same content may stand at the destination) or ``replace``
    :param xcompliance_conn_id: the connection (default: ``xcompliance_default``)
    :return: the receipt, as XCom: counts per action and reason, bytes, digests, where the manifest is
    """

    template_fields: Sequence[str] = (
        "job_id",
        "destination",
        "destination_conn_id",
        "submitted",
        "source_conn_id",
        "control_ids",
        "if_exists",
        "xcompliance_conn_id",
    )

    def __init__(
        self,
        *,
        job_id: str,
        destination: str,
        destination_conn_id: str | None = None,
        submitted: str | None = None,
        source_conn_id: str | None = None,
        control_ids: Sequence[str] | None = None,
        if_exists: str = "verify",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.destination = destination
        self.destination_conn_id = destination_conn_id
        self.submitted = submitted
        self.source_conn_id = source_conn_id
        self.control_ids = control_ids
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        """Download the results."""
        with failing_at_once():
            receipt = self.hook.download(
                str(self.job_id),
                self.destination,
                self.destination_conn_id,
                submitted=self.submitted,
                source_conn_id=self.source_conn_id,
                control_ids=_texts(self.control_ids),
                if_exists=self.if_exists,
            )
        self._tell_outlets(context, receipt)
        return receipt


class CancelJobOperator(_ComplianceOperator):
    """
    Cancel a job that has not ended, so that the next one of its type can be created.

    A job that has ended is left as it is. X cancels only jobs of the current flow.

    :param job_id: the job
    :param xcompliance_conn_id: the connection (default: ``xcompliance_default``)
    :return: the job without its URLs, as XCom
    """

    template_fields: Sequence[str] = ("job_id", "xcompliance_conn_id")

    def __init__(self, *, job_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Cancel the job."""
        with failing_at_once():
            job = self.hook.get_job(str(self.job_id))
            if job.is_terminal:
                self.log.info("Job %s is %s already: there is nothing to cancel", job.id, job.status)
            else:
                job = self.hook.cancel_job(job.id)
                self.log.info("Cancelled job %s; it is %s now", job.id, job.status)
            return job.to_dict()


class RunJobOperator(_JobOwner):
    """
    Take files of ids through whole compliance jobs, one after another, to verified events.

    Each file is validated before a job is created for it, and uploaded right after. A try that follows one
    that was killed finds its job again, and one that finds its events landed and fresh has nothing to do.
    With outlets, each asset event carries the receipts.

    :param job_type: ``tweets`` or ``users``
    :param source: URI or path of a file, one decimal id per line; or a list of such files
    :param destination: URI or path of the events; for a list the folder in which they are called
        ``part-0001.ndjson`` and so on, in its order. Manifests are beside them
    :param source_conn_id: connection of the store of ``source`` (default: the library's own credentials)
    :param destination_conn_id: connection of the store of ``destination`` (default: the library's own)
    :param reuse_within: how old a result may be, by X's clock, to count as the one of this run (default: 6
        hours); with 0 each try checks anew, at the price of another job
    :param control_ids: ids that are known to be gone: sent with each file, each must have an event, else the
        result is void (default: none)
    :param if_exists: ``replace`` (default) other events at the destination, or ``verify`` that there are none
    :param allow_rounded_ids: take ids that look as if a program had rounded all of them (default: refuse)
    :param timeout: how long to wait for one job's end, below 7 days (default: 24 hours)
    :param job_name: the readable part of the jobs' names at X (default: the ids of DAG and task)
    :param resumable: True asks for resumable uploads, which only the legacy flow has (default: no)
    :param on_conflict: ``wait`` (default) for the end of another job of the type, or ``fail``
    :param conflict_timeout: how long to wait for other jobs in all (default: 6 hours)
    :param poll_interval: seconds between two looks at a job (default: 60); stretches after 15 minutes
    :param deferrable: wait in the triggerer (default: Airflow's ``[operators] default_deferrable``), else in
        the worker
    :param cancel_on_kill: whether killing this task cancels its job if it has no ids yet, and whether a user
        who ends the deferred task cancels it in any case (default: yes)
    :param xcompliance_conn_id: the connection (default: ``xcompliance_default``)
    :return: the receipts, one per file, as XCom: counts per action and reason, digests, where the manifest is
    """

    template_fields: Sequence[str] = (
        "job_type",
        "job_name",
        "source",
        "source_conn_id",
        "destination",
        "destination_conn_id",
        "control_ids",
        "if_exists",
        "poll_interval",
        "xcompliance_conn_id",
    )

    def __init__(
        self,
        *,
        source: str | Sequence[str],
        destination: str,
        source_conn_id: str | None = None,
        destination_conn_id: str | None = None,
        reuse_within: timedelta | float = timedelta(hours=6),
        control_ids: Sequence[str] | None = None,
        if_exists: str = "replace",
        allow_rounded_ids: bool = False,
        timeout: timedelta | float = timedelta(hours=24),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if _seconds(timeout) >= DOWNLOAD_WINDOW.total_seconds():
            raise ValueError("timeout must be below 7 days: by then X has thrown the results away")
        self.source = source
        self.destination = destination
        self.source_conn_id = source_conn_id
        self.destination_conn_id = destination_conn_id
        self.reuse_within = reuse_within
        self.control_ids = control_ids
        self.if_exists = if_exists
        self.allow_rounded_ids = allow_rounded_ids
        self.timeout = timeout
        self._run: JobRun | None = None

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Run the jobs."""
        with failing_at_once():
            run = self._job_run(context)
            run.validate()
            return self._finish(context, run)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Take over from the trigger: a job has ended."""
        with failing_at_once():
            _require_ended(event)
            run = self._job_run(context)
            run.resume(event["part"])
            if event["for_result"]:
                return self._finish(context, run, waited_for=event["job"]["id"])
            return self._finish(context, run, conflict_deadline=event["deadline"])

    def on_kill(self) -> None:
        """Cancel the own job if it still waits for its ids."""
        self._own_job = self._run.job if self._run else None
        super().on_kill()

    def _finish(
        self,
        context: Context,
        run: JobRun,
        *,
        waited_for: str | None = None,
        conflict_deadline: float | None = None,
    ) -> list[dict[str, Any]]:
        """Go on to the end, or to where the task is deferred."""
        self._run = run
        conflict_deadline = conflict_deadline or _from_now(self.conflict_timeout)
        while waiting := run.advance(waited_for):
            if waiting.for_result:
                waited_for = self._result_of(waiting.job, run.part)
                conflict_deadline = _from_now(self.conflict_timeout)
            else:
                waited_for = None
                self._clear_way(waiting.job, is_own=waiting.is_own, deadline=conflict_deadline, part=run.part)
        self._tell_outlets(context, {"receipts": run.receipts})
        return run.receipts

    def _result_of(self, job: Job, part: int) -> str:
        ended = self._wait(job, for_result=True, deadline=_from_now(self.timeout), part=part)
        if ended.status != JobStatus.COMPLETE:
            raise JobFailedError(explain_end(ended))
        return ended.id

    def _job_run(self, context: Context) -> JobRun:
        return self.hook.job_run(
            self.job_type,
            self.source,
            self.destination,
            self.source_conn_id,
            self.destination_conn_id,
            name_of=self._name_of(context),
            reuse_within=timedelta(seconds=_seconds(self.reuse_within)),
            control_ids=_texts(self.control_ids),
            resumable=self.resumable,
            allow_rounded_ids=self.allow_rounded_ids,
            if_exists=self.if_exists,
        )
