"""Wait for a compliance job in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import TRANSIENT_ERRORS, RateLimitedError, XComplianceError
from airflow_provider_xcompliance.api.jobs import Job, explain_end, poll_seconds
from airflow_provider_xcompliance.hooks.compliance import XComplianceHook


def look(client: XComplianceClient, job_id: str, log: Any) -> tuple[Job | None, float]:
    """
    Look at a job once, for a sensor or a trigger that looks again anyway.

    :param log: told what passes, and of a status that is not known
    :return: the job (None: X cannot tell for the moment), and for how many seconds not to ask X again
    """
    try:
        job = client.get_job(job_id)
    except RateLimitedError as error:
        log.warning("%s; waiting on", error)
        return None, error.wait_seconds or 0.0
    except TRANSIENT_ERRORS as error:
        log.warning("%s; waiting on", error)
        return None, 0.0
    if not job.is_known:
        log.warning("Job %s has a status that is not known: %r; waiting on", job.id, job.status)
    return job, 0.0


class JobStatusTrigger(BaseTrigger):
    """
    Look at a job until it ends, and say how.

    The event's ``status`` is the job's (``complete``, ``failed``, ``expired``), ``timeout``, or ``error``;
    ``job`` is the job without its URLs, and ``message`` says what went wrong.

    :param job_id: the job
    :param xcompliance_conn_id: the connection
    :param poll_interval: seconds between two looks; they stretch after 15 minutes
    :param deadline: when to give up, in seconds since 1970; a restart of the triggerer does not move it
    """

    def __init__(
        self, *, job_id: str, xcompliance_conn_id: str, poll_interval: float, deadline: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.xcompliance_conn_id = xcompliance_conn_id
        self.poll_interval = poll_interval
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what a triggerer needs to go on with this; it is stored in clear text."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "job_id": self.job_id,
                "xcompliance_conn_id": self.xcompliance_conn_id,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event that ends the wait."""
        try:
            client = await self._client()
            yield TriggerEvent(await self._wait(client))
        except (XComplianceError, ValueError) as error:
            yield TriggerEvent({"status": "error", "message": str(error)})

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
            if job and job.is_terminal:
                return {"status": job.status, "job": job.to_dict(), "message": explain_end(job)}
            wait = max(poll_seconds(self.poll_interval, job.age_seconds if job else 0.0), wait_at_least)
        return {
            "status": "timeout",
            "message": f"job {self.job_id} has not ended in the time that the task may wait for it",
        }
