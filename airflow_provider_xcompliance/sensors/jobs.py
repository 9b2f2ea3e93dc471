"""Wait for a compliance job without holding a worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    Context,
    PokeReturnValue,
    conf,
)

from airflow_provider_xcompliance.api.jobs import DOWNLOAD_WINDOW, JobStatus, explain_end, poll_seconds
from airflow_provider_xcompliance.api.waiting import look
from airflow_provider_xcompliance.failures import failing_at_once
from airflow_provider_xcompliance.hooks.compliance import XComplianceHook
from airflow_provider_xcompliance.triggers.jobs import DEADLINE_MARGIN, JobStatusTrigger

_DEFAULT_TIMEOUT_SECONDS = 24 * 3600


class JobStatusSensor(BaseSensorOperator):
    """
    Wait until a compliance job is complete.

    A job that failed or expired fails the task at once. A job with a status that this version does not know
    is waited for, and so is one that X cannot be asked about for the moment.

    :param job_id: the job
    :param poke_interval: seconds between two looks (default: 60); stretches after 15 minutes, up to 5
    :param timeout: how long to wait in all, below 7 days (default: 24 hours)
    :param mode: ``reschedule`` (default: no worker is held between two looks) or ``poke``
    :param deferrable: wait in the triggerer instead (default: Airflow's ``[operators] default_deferrable``)
    :param xcompliance_conn_id: the connection (default: ``xcompliance_default``)
    :return: the job without its URLs, as XCom
    :raises AirflowFailException: if the job failed or expired
    """

    template_fields: Sequence[str] = ("job_id", "xcompliance_conn_id")
    ui_color = "#e8f5fd"

    def __init__(
        self,
        *,
        job_id: str,
        xcompliance_conn_id: str = XComplianceHook.default_conn_name,
        poke_interval: timedelta | float = 60,
        timeout: timedelta | float = _DEFAULT_TIMEOUT_SECONDS,
        mode: str = "reschedule",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, mode=mode, **kwargs)
        if self.timeout >= DOWNLOAD_WINDOW.total_seconds():
            raise ValueError("timeout must be below 7 days: by then X has thrown the results away")
        self.job_id = job_id
        self.xcompliance_conn_id = xcompliance_conn_id
        self.deferrable = deferrable
        self._wait_at_least = 0.0

    @cached_property
    def hook(self) -> XComplianceHook:
        """The hook for the connection; it asks once, since this sensor asks again anyway."""
        return XComplianceHook(self.xcompliance_conn_id, max_tries=1, max_rate_limit_wait=0)

    def execute(self, context: Context) -> Any:
        """Look at the job, and wait in the way that was chosen."""
        if not self.deferrable:
            return super().execute(context)
        # As if back from a trigger, because that heeds soft_fail.
        found = self.resume_execution("poke", None, context)
        if found.is_done:
            return found.xcom_value
        self.defer(
            trigger=JobStatusTrigger(
                job_id=str(self.job_id),
                xcompliance_conn_id=self.xcompliance_conn_id,
                poll_interval=self.poke_interval,
                deadline=time.time() + self.timeout,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout) + DEADLINE_MARGIN,
        )
        return None

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """
        Take over from the trigger.

        :raises AirflowException: for every event that does not say that the job is complete
        """
        if event.get("status") == JobStatus.COMPLETE:
            job: dict[str, Any] = event["job"]
            self.log.info("Job %s is complete", self.job_id)
            return job
        failures = {
            JobStatus.FAILED: AirflowFailException,
            JobStatus.EXPIRED: AirflowFailException,
            "timeout": AirflowSensorTimeout,
        }
        other = AirflowFailException if event.get("is_final") else AirflowException
        failure = failures.get(str(event.get("status")), other)
        raise failure(
            event.get("message") or f"job {self.job_id}: the trigger sent an event that is not known"
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the job once."""
        with failing_at_once():
            job, self._wait_at_least = look(self.hook.client, str(self.job_id), self.log)
        if job is None:
            return PokeReturnValue(is_done=False)
        if job.is_terminal and job.status != JobStatus.COMPLETE:
            raise AirflowFailException(explain_end(job))
        self.log.info("Job %s is %s", job.id, job.status)
        return PokeReturnValue(is_done=job.is_terminal, xcom_value=job.to_dict())

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        waited = run_duration()
        # A reset of a rate limit may lie further off than the end of the wait.
        return max(poll_seconds(self.poke_interval, waited), min(self._wait_at_least, self.timeout - waited))
