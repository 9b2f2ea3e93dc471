"""The JSON endpoints: create, get, list and cancel jobs; exchange an API key and secret for a bearer."""

from __future__ import annotations

import logging
import re
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from airflow_provider_xcompliance.api.errors import AuthenticationError, InvalidRequestError, ServerError
from airflow_provider_xcompliance.api.jobs import Job, require_job_id, require_job_type
from airflow_provider_xcompliance.api.messages import Auth, Request, Response, decode, refuse

log = logging.getLogger(__name__)

_JOBS_PATH = "/2/compliance/jobs"
_MAX_NAME_LENGTH = 64

# No field is promised by default, so all of them are asked for.
_FIELDS = {
    "compliance_job.fields": "created_at,download_expires_at,download_url,id,name,resumable,status,type,"
    "upload_expires_at,upload_url"
}


class _Problems(msgspec.Struct):
    errors: list[dict[str, Any]] | None = None


A = TypeVar("A", bound=_Problems)


class _JobAnswer(_Problems):
    data: Job | None = None


class _JobListAnswer(_Problems):
    # With no job the key is absent.
    data: list[Job] | None = None


class _TokenAnswer(msgspec.Struct):
    token_type: str
    access_token: str


def prepare_create(base_url: str, job_type: str, name: str | None, resumable: bool | None) -> Request:
    """
    Ask for a new job.

    :param name: at most 64 characters; None leaves it out
    :param resumable: None leaves it out; the current flow accepts nothing else
    :raises ValueError: if the type is unknown or the name too long
    """
    require_job_type(job_type)
    if name is not None and len(name) > _MAX_NAME_LENGTH:
        raise ValueError(f"a job's name has at most {_MAX_NAME_LENGTH} characters, this one has {len(name)}")
    body: dict[str, Any] = {"type": job_type}
    if name is not None:
        body["name"] = name
    if resumable is not None:
        body["resumable"] = resumable
    return Request(
        what=f"create a {job_type} job",
        method="POST",
        url=f"{base_url}{_JOBS_PATH}?{urlencode(_FIELDS)}",
        headers={"Content-Type": "application/json"},
        body=msgspec.json.encode(body),
        # There is no idempotency key: a second POST is a second, paid job.
        repeatable=False,
    )


def prepare_get(base_url: str, job_id: str) -> Request:
    """Ask for one job."""
    return Request(what=f"get job {job_id}", method="GET", url=_job_url(base_url, job_id))


def prepare_cancel(base_url: str, job_id: str) -> Request:
    """Ask for the cancellation of a job; only jobs of the current flow can be cancelled."""
    return Request(what=f"cancel job {job_id}", method="DELETE", url=_job_url(base_url, job_id))


def prepare_list(base_url: str, job_type: str, status: str | None) -> Request:
    """
    Ask for the jobs of a type.

    :param status: created, in_progress, failed or complete; X cannot be asked for ``expired``
    """
    query = {"type": require_job_type(job_type)} | ({"status": status} if status else {}) | _FIELDS
    return Request(
        what=f"list {job_type} jobs", method="GET", url=f"{base_url}{_JOBS_PATH}?{urlencode(query)}"
    )


def prepare_token(base_url: str) -> Request:
    """Ask for the bearer of an API key and secret; repeating it gives the same one."""
    return Request(
        what="exchange the API key and secret for a bearer token",
        method="POST",
        url=f"{base_url}/oauth2/token",
        auth=Auth.BASIC,
        headers={"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"},
        body=b"grant_type=client_credentials",
    )


def digest_job(response: Response, what: str) -> Job:
    """
    Read the job that a create, get or cancel answered with.

    :raises XComplianceError: if it is no success, or holds no job
    """
    answer = _read(response, _JobAnswer, what)
    if answer.data is None:
        raise ServerError(f"{what}: status 200, but the body holds no job")
    return _seen(answer.data, response)


def digest_cancel(response: Response, what: str) -> Job:
    """
    Read the job that was cancelled.

    :raises InvalidRequestError: if the job cannot be cancelled
    """
    if response.status in (404, 405):
        raise InvalidRequestError(
            f"{what}: status {response.status}: X has no such job, or it is of the legacy flow; only jobs of "
            "the current flow can be cancelled, others end by themselves"
        )
    return digest_job(response, what)


def digest_list(response: Response, what: str) -> list[Job]:
    """
    Read a list of jobs; empty where X knows none.

    :raises ServerError: if the answer has errors instead of a list: that is no proof that there are no jobs
    """
    answer = _read(response, _JobListAnswer, what)
    if answer.errors and answer.data is None:
        raise ServerError(f"{what}: status 200, but the body holds errors and no list; try again later")
    return [_seen(job, response) for job in answer.data or []]


def digest_token(response: Response, what: str) -> str:
    """
    Read the bearer token.

    :raises AuthenticationError: if X does not accept the key and secret
    """
    # A wrong key is answered with 403 here, and 401 everywhere else.
    if response.status == 403:
        raise AuthenticationError(
            f"{what}: status 403: X does not accept the connection's API key and secret"
        )
    if response.status != 200:
        refuse(response, what)
    answer = decode(response, _TokenAnswer, what)
    if answer.token_type.lower() != "bearer" or not re.fullmatch(r"[!-~]+", answer.access_token):
        raise ServerError(f"{what}: the answer holds no bearer token")
    return answer.access_token


def _job_url(base_url: str, job_id: str) -> str:
    return f"{base_url}{_JOBS_PATH}/{require_job_id(job_id)}?{urlencode(_FIELDS)}"


def _seen(job: Job, response: Response) -> Job:
    # X's words on why a job failed end up in errors and logs.
    error = response.quote(job.error) if job.error else None
    return msgspec.structs.replace(job, error=error, observed_at=response.server_time)


def _read(response: Response, shape: type[A], what: str) -> A:
    if response.status != 200:
        refuse(response, what)
    answer = decode(response, shape, what)
    if answer.errors:
        titles = ", ".join(sorted({str(error.get("title", "untitled")) for error in answer.errors}))
        count = len(answer.errors)
        log.warning("%s: the answer came with %d problems: %s", what, count, response.quote(titles))
    return answer
