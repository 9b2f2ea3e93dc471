"""The endpoints on X's own host: four of JSON, and upload and download of the current flow."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from urllib.parse import unquote_plus

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_xcompliance.emulator import tokens
from airflow_provider_xcompliance.emulator.errors import RefusalError, problem
from airflow_provider_xcompliance.emulator.jobs import (
    ACTIVE,
    DEFAULT_FIELDS,
    FIELDS,
    STATUSES,
    ConflictError,
    Job,
)
from airflow_provider_xcompliance.emulator.state import State
from airflow_provider_xcompliance.emulator.wire import FileResponse, asked_for, base_url, spooled

JSON_LIMIT = 65_536
"""Bytes; more than any request of JSON needs."""

FIELDS_PARAMETER = "compliance_job.fields"
PARAMETERS = {
    "create": {FIELDS_PARAMETER},
    "get": {FIELDS_PARAMETER},
    "list_jobs": {FIELDS_PARAMETER, "type", "status"},
    "cancel": {FIELDS_PARAMETER},
    "upload": {FIELDS_PARAMETER, "token"},
    "download": {FIELDS_PARAMETER, "token"},
}
CHOICES = {"type": ("tweets", "users"), "status": STATUSES}
REQUIRED = {"list_jobs": ("type",), "upload": ("token",), "download": ("token",)}

Handler = Callable[[State, Request, dict[str, str]], Awaitable[Response]]


class CreateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request to create a job."""

    type: Literal["tweets", "users"]
    name: Annotated[str, msgspec.Meta(max_length=64)] | msgspec.UnsetType = msgspec.UNSET
    resumable: bool | msgspec.UnsetType = msgspec.UNSET


def endpoint(state: State, **handlers: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Return what calls a method's handler only within authorization, rate limit and a valid query."""

    async def answer(request: Request) -> Response:
        handler = handlers["GET" if request.method == "HEAD" else request.method]
        name = handler.__name__
        headers: dict[str, str] = {}
        try:
            if not is_authorized(state, request):
                raise problem(401, "Unauthorized")
            allowed, headers = state.limits.take(name, state.clock.now())
            if not allowed:
                raise problem(429, "Too Many Requests")
            state.settle()
            response = await handler(state, request, checked_query(name, request))
        except RefusalError as refusal:
            response = refusal.response()
        response.headers.update(headers)
        return response

    return answer


def is_authorized(state: State, request: Request) -> bool:
    """Say whether the request carries the App's bearer."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    expected = state.settings.bearer_token
    return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), expected.encode())


def invalid(parameter: str, value: str, reason: str) -> RefusalError:
    """Return the refusal of a parameter."""
    errors = [{"parameters": {parameter: [value]}, "message": reason}]
    return problem(400, reason, parameter=parameter, value=value, errors=errors)


def checked_query(name: str, request: Request) -> dict[str, str]:
    """Return the query of a request.

    :raises RefusalError: 400 for anything that the endpoint does not know or that is given twice.
    """
    query: dict[str, str] = {}
    for key, value in request.query_params.multi_items():
        if key not in PARAMETERS[name]:
            raise invalid(
                key, value, f"The query parameter [{key}] is not one of {sorted(PARAMETERS[name])}."
            )
        if key in query:
            raise invalid(key, value, f"The query parameter [{key}] is given twice.")
        if key in CHOICES and value not in CHOICES[key]:
            raise invalid(key, value, f"The value of [{key}] is not one of {list(CHOICES[key])}.")
        query[key] = value
    for key in REQUIRED.get(name, ()):
        if key not in query:
            raise invalid(key, "", f"The query parameter [{key}] is missing.")
    if FIELDS_PARAMETER in query:
        _check_fields(query[FIELDS_PARAMETER])
    return query


def _check_fields(value: str) -> None:
    names = value.split(",")
    if not set(names) <= set(FIELDS) or len(set(names)) < len(names):
        raise invalid(FIELDS_PARAMETER, value, f"Each value may stand once and is one of {list(FIELDS)}.")


def view(state: State, job: Job, query: dict[str, str]) -> dict[str, Any]:
    """Return a job with the fields that were asked for."""
    fields = (
        query[FIELDS_PARAMETER].split(",") if FIELDS_PARAMETER in query else state.settings.default_fields
    )
    return job.view(DEFAULT_FIELDS[job.flow] if fields is None else tuple(fields))


def job_of(state: State, request: Request) -> Job:
    """Return the job that the path names.

    :raises RefusalError: 400 if that is no id, 404 if there is none of this id.
    """
    job_id = request.path_params["id"]
    if not re.fullmatch(r"[0-9]{1,19}", job_id):
        raise invalid("id", job_id, "The id does not match ^[0-9]{1,19}$.")
    job = state.jobs.get(job_id, state.clock.now())
    if job is None:
        detail = f"Could not find compliance job with id: [{job_id}]."
        raise problem(404, detail, resource_id=job_id, parameter="id", value=job_id)
    return job


async def create(state: State, request: Request, query: dict[str, str]) -> Response:
    """Create a job."""
    wanted = _decode(await _read(request))
    resumable = wanted.resumable is True
    if resumable and state.settings.flow == "current":
        raise invalid("resumable", "true", "Resumable uploads are not supported.")
    name = wanted.name if isinstance(wanted.name, str) else None
    try:
        job = state.create(base_url(request), wanted.type, name, resumable)
    except ConflictError as conflict:
        status = 409 if state.settings.flow == "current" else state.settings.legacy_conflict_status
        raise problem(status, str(conflict)) from None
    return JSONResponse({"data": view(state, job, query)})


async def _read(request: Request) -> bytes:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise problem(415, "The request body must be application/json.")
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > JSON_LIMIT:
            raise problem(413, "The request body is too large.")
    return bytes(body)


def _decode(body: bytes) -> CreateRequest:
    try:
        return msgspec.json.decode(body, type=CreateRequest)
    except msgspec.DecodeError as error:
        raise problem(
            400, f"The request body is invalid: {error}", errors=[{"message": str(error)}]
        ) from None


async def get(state: State, request: Request, query: dict[str, str]) -> Response:
    """Show a job."""
    return JSONResponse({"data": view(state, job_of(state, request), query)})


async def list_jobs(state: State, request: Request, query: dict[str, str]) -> Response:
    """List the jobs of a type; without any there is no ``data``."""
    now, listed = state.clock.now(), state.settings.listed_seconds
    jobs = state.jobs.list(query["type"], now, query.get("status"))
    shown = [view(state, job, query) for job in jobs if listed is None or now - job.created <= listed]
    return JSONResponse({**({"data": shown} if shown else {}), "meta": {"result_count": len(shown)}})


async def cancel(state: State, request: Request, query: dict[str, str]) -> Response:
    """Cancel a job; one of the legacy flow has no such method."""
    job = job_of(state, request)
    if job.flow == "legacy":
        raise problem(405, "This job cannot be cancelled.", {"allow": "GET"})
    if job.status not in ACTIVE:
        raise problem(409, f"The job is {job.status}; it cannot be cancelled.")
    job.status, job.due = "failed", None
    return JSONResponse({"data": view(state, job, query)})


def _check_token(state: State, request: Request, query: dict[str, str], operation: str) -> None:
    job_id = request.path_params["id"]
    refused = tokens.refusal(state.token_key, query["token"], job_id, operation, state.clock.now())
    if refused:
        raise problem(*refused)


async def upload(state: State, request: Request, query: dict[str, str]) -> Response:
    """Take the ids of a job; a body that does not come to its end leaves nothing behind."""
    job = job_of(state, request)
    _check_token(state, request, query, "upload")
    _check_upload_headers(state, request)
    _check_waits(job)
    async with spooled(request, state.directory) as part:
        if part is None:
            raise problem(400, "The request body is incomplete.")
        _check_waits(job)
        state.uploaded(job, part)
    return JSONResponse({"data": view(state, job, query)})


def _check_waits(job: Job) -> None:
    if job.status != "created":
        raise problem(409, f"The job is {job.status}; it takes no upload.")


def _check_upload_headers(state: State, request: Request) -> None:
    length = request.headers.get("content-length")
    wanted = state.settings.upload_content_type
    if length is None:
        raise problem(411, "Content-Length is required.")
    if int(length) > state.settings.upload_limit:
        raise problem(413, f"The file is larger than {state.settings.upload_limit} bytes.")
    if int(length) == 0:
        raise problem(400, "The file is empty.")
    if wanted and request.headers.get("content-type") != wanted:
        raise problem(415, f"The content type must be {wanted}.")


async def download(state: State, request: Request, query: dict[str, str]) -> Response:
    """Give a result; what is stated about it is a matter of settings."""
    job = job_of(state, request)
    _check_token(state, request, query, "download")
    if job.status != "complete" or job.result is None:
        raise problem(409, f"The job is {job.status}; there is no result.")
    settings = state.settings
    digests = await state.digests(job, job.result)
    headers = [("x-goog-hash", f"crc32c={digests.crc32c}")] if settings.download_digest else []
    if not settings.download_ranges:
        return FileResponse(job.result, headers, (0, digests.size - 1), framing=settings.download_framing)
    headers += [("accept-ranges", "bytes"), ("etag", digests.composite_etag)]
    try:
        return asked_for(request, job.result, digests, headers, settings.download_framing)
    except RefusalError as refused:
        raise problem(refused.status, "The result has no such range, or is another one.") from None


async def exchange_key(state: State, request: Request) -> Response:
    """Exchange API key and secret for the bearer."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    try:
        key, _, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:
        key = secret = ""
    given = (unquote_plus(key), unquote_plus(secret))
    if scheme.lower() != "basic" or given != (state.settings.api_key, state.settings.api_secret):
        return _old_error(403, 99, "Unable to verify your credentials")
    if await request.body() != b"grant_type=client_credentials":
        return _old_error(400, 170, "Missing required parameter: grant_type")
    return JSONResponse({"token_type": "bearer", "access_token": state.settings.bearer_token})


def _old_error(status: int, code: int, message: str) -> Response:
    body = json.dumps({"errors": [{"code": code, "message": message, "label": "authenticity_token_error"}]})
    return Response(body, status, media_type="application/json")
