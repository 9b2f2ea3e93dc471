"""Wait for a compliance job in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import XComplianceError
from airflow_provider_xcompliance.api.jobs import explain_end
from airflow_provider_xcompliance.api.waiting import look, pause, too_late
from airflow_provider_xcompliance.hooks.compliance import XComplianceHook
from airflow_provider_xcompliance.retries import is_final

#: The trigger ends by its own deadline; Airflow's is this much later, for the case that it does not.
DEADLINE_MARGIN = timedelta(minutes=5)


class JobStatusTrigger(BaseTrigger):
    """
    Look at a job until it ends, and say how.

    The event's ``status`` is the job's (``complete``, ``failed``, ``expired``), ``timeout``, or ``error``;
    ``job`` is the job without its URLs, and ``message`` says what went wrong; ``is_final`` is set where
    another try cannot succeed. ``deadline``, ``for_result`` and ``part`` come back as they were given.

    :param job_id: the job
    :param xcompliance_conn_id: the connection
    :param poll_interval: seconds between two looks; they stretch after 15 minutes
    :param deadline: when to give up, in seconds since 1970; a restart of the triggerer does not move it
    :param for_result: whether the job's result is waited for; else the job only is in the way
    :param part: which of the task's files of ids the job is for, counted from 0
    :param cancel_on_kill: whether to cancel the job when a user ends the waiting task (Airflow 3.3)
    """

    def __init__(
        self,
        *,
        job_id: str,
        xcompliance_conn_id: str,
        poll_interval: float,
        deadline: float,
        for_result: bool = True,
        part: int = 0,
        cancel_on_kill: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.xcompliance_conn_id = xcompliance_conn_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.for_result = for_result
        self.part = part
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what a triggerer needs to go on with this; it is stored in clear text."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "job_id": self.job_id,
                "xcompliance_conn_id": self.xcompliance_conn_id,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "for_result": self.for_result,
                "part": self.part,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event that ends the wait."""
        try:
            outcome = await self._wait(await self._client())
        except (XComplianceError, ValueError) as error:
            outcome = {"status": "error", "message": str(error), "is_final": is_final(error)}
        yield TriggerEvent(
            outcome | {"deadline": self.deadline, "for_result": self.for_result, "part": self.part}
        )

    async def on_kill(self) -> None:
        """Cancel the job, since a user does not want the task to go on."""
        if not self.cancel_on_kill:
            return
        try:
            client = await self._client()
            job = await asyncio.to_thread(client.cancel_job, self.job_id)
        except XComplianceError as error:
            self.log.warning("%s", error)
        else:
            self.log.info("Cancelled job %s; it is %s now", job.id, job.status)

    async def _client(self) -> XComplianceClient:
        hook = XComplianceHook(self.xcompliance_conn_id, max_tries=1, max_rate_limit_wait=0)
        connection = await get_async_connection(self.xcompliance_conn_id)
        extra = await get_async_extra_dejson(connection)
        return hook.client_for(connection, extra)

    async def _wait(self, client: XComplianceClient) -> dict[str, Any]:
        # The sensor has just looked, and an event within seconds of the deferral runs into a race in Airflow.
        wait = self.poll_interval
        while (left := self.deadline - time.time()) > 0:
            await asyncio.sleep(min(wait, left))
            # The client blocks, and a blocked event loop would stall every trigger of the process.
            job, wait_at_least = await asyncio.to_thread(look, client, self.job_id, self.log)
            if job:
                self.log.info("Job %s is %s", job.id, job.status)
            if job and job.is_terminal:
                return {"status": job.status, "job": job.to_dict(), "message": explain_end(job)}
            wait = pause(job, self.poll_interval, wait_at_least)
        return {"status": "timeout", "message": too_late(self.job_id)}
