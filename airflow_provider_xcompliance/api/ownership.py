"""
Whose job it is: the name that says so, and what to do about the jobs that X lists.

Pure: nothing here talks to X. A deployment and a task know their own job again by its name alone, so a worker
that was killed between a request and its answer finds what it had begun.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple

from airflow_provider_xcompliance.api.jobs import Job, JobStatus

#: X's limit is 64 characters; 128 bits of the digest are beyond any chance of a collision.
_LABEL_LENGTH, _DIGEST_LENGTH = 31, 32

#: A job with less of its upload window left is not begun with: the ids must be on their way by then.
MIN_WINDOW = timedelta(minutes=3)


def job_name(label: str, *identity: str) -> str:
    """
    Return the name by which a job is known again.

    :param label: for whoever reads it; what it holds besides letters, digits and ``._-`` is replaced
    :param identity: all that makes the job another one than its neighbours: owner, DAG, task, run, …
    :return: the label and a digest of the identity, at most 64 characters
    """
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', label)[:_LABEL_LENGTH]}-{digest}"


class Step(Enum):
    """What to do next to come by a job; the value is the word for logs."""

    ADOPT = "adopt"
    CANCEL = "cancel"
    CREATE = "create"
    WAIT = "wait"


class Decision(NamedTuple):
    """
    A step, and the job that it is about.

    :param job: the job to adopt, to cancel, or whose end is to be waited for; None where one is to be created
    """

    step: Step
    job: Job | None = None


def decide(
    jobs: Iterable[Job],
    name: str,
    *,
    reuse_within: timedelta | None,
    refused: bool = False,
) -> Decision:
    """
    Decide what to do, from what X lists: the table of the documentation's page on reliability.

    :param jobs: of the type that is wanted
    :param name: of the own job: see :func:`job_name`
    :param reuse_within: how old a complete job may be, by X's clock, to be taken for the answer; None: the
        name does not say which ids a job was given, so one that has ids already is not taken
    :param refused: X has just refused to create a job, because one of the type is active
    """
    jobs = sorted(jobs, key=lambda job: job.created_at or _NEVER, reverse=True)
    own = [job for job in jobs if job.name == name]
    for job in own:
        if not job.is_terminal:
            return _about_own_active(job, reuse_within)
    for job in own:
        if reuse_within is not None and job.has_results and job.is_fresh(reuse_within):
            return Decision(Step.ADOPT, job)
    # With a status that is not documented a job may be over, so that alone is no reason to wait.
    foreign = [job for job in jobs if not job.is_terminal and (job.is_known or refused)]
    return Decision(Step.WAIT, foreign[0]) if foreign else Decision(Step.CREATE)


_NEVER = datetime.min.replace(tzinfo=UTC)


def _about_own_active(job: Job, reuse_within: timedelta | None) -> Decision:
    if job.status != JobStatus.CREATED:
        return Decision(Step.WAIT if reuse_within is None else Step.ADOPT, job)
    ends = job.upload_expires_at and job.upload_expires_at - MIN_WINDOW
    return Decision(Step.CANCEL if job.has_lapsed(ends) else Step.ADOPT, job)
