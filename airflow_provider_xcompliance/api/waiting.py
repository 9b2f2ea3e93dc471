"""Wait for the end of a job: how to look, how often, and when to give up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import TRANSIENT_ERRORS, DeadlineError, RateLimitedError
from airflow_provider_xcompliance.api.jobs import Job, poll_seconds

log = logging.getLogger(__name__)


def look(client: XComplianceClient, job_id: str, log: Any) -> tuple[Job | None, float]:
    """
    Look at a job once, for whoever looks again anyway.

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


def pause(job: Job | None, poll_interval: float, wait_at_least: float) -> float:
    """
    Return how many seconds to wait after a :func:`look`.

    :param poll_interval: the interval of the first 15 minutes of the job's life
    """
    return max(poll_seconds(poll_interval, job.age_seconds if job else 0.0), wait_at_least)


def too_late(job_id: str) -> str:
    """Say that a job was waited for as long as was allowed."""
    return f"job {job_id} has not ended in the time that the task may wait for it"


def wait_for_end(
    client: XComplianceClient,
    job_id: str,
    *,
    poll_interval: float,
    deadline: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> Job:
    """
    Look at a job until it ends, in this process.

    :param deadline: when to give up, in seconds since 1970
    :raises DeadlineError: if it has not ended by then
    """
    wait = poll_interval
    while (left := deadline - clock()) > 0:
        sleep(min(wait, left))
        job, wait_at_least = look(client, job_id, log)
        if job and job.is_terminal:
            return job
        log.info("job %s is %s", job_id, job.status if job else "not to be seen")
        wait = pause(job, poll_interval, wait_at_least)
    raise DeadlineError(too_late(job_id))
