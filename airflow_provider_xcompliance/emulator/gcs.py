"""The legacy flow's objects, as Google Cloud Storage serves them over its XML API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from airflow_provider_xcompliance.emulator import signatures
from airflow_provider_xcompliance.emulator.errors import RefusalError, gcs_error
from airflow_provider_xcompliance.emulator.jobs import Job
from airflow_provider_xcompliance.emulator.state import State, object_path
from airflow_provider_xcompliance.emulator.storage import Digests, Session, parse_content_range
from airflow_provider_xcompliance.emulator.wire import asked_for, base_url, empty, headers_of, spool, spooled


def endpoint(state: State) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of all objects."""

    async def answer(request: Request) -> Response:
        state.settle()
        try:
            if "upload_id" in request.query_params:
                return await _session(state, request)
            _check_signature(state, request)
            return await METHODS[request.method](state, request)
        except RefusalError as refusal:
            return refusal.response()

    return answer


def _check_signature(state: State, request: Request) -> None:
    raw_path = request.scope["raw_path"].decode("ascii")
    raw_query = request.scope["query_string"].decode("ascii", "replace")
    public_key = signatures.signing_key().public_key()
    method = "GET" if request.method == "HEAD" else request.method
    signatures.check(method, raw_path, raw_query, headers_of(request), state.clock.now(), public_key)


def _job(state: State, request: Request, part: str) -> Job:
    for job in state.jobs.list(None, state.clock.now()):
        if request.url.path == object_path(job, part):
            return job
    raise gcs_error("NoSuchKey", "No such object.")


async def _put(state: State, request: Request) -> Response:
    job = _job(state, request, "submission")
    _check_size(state, _content_length(request))
    async with spooled(request, state.directory) as part:
        if part is None:
            raise gcs_error("InvalidArgument", "The body is incomplete.")
        digests = await asyncio.to_thread(Digests.of, part)
        if request.headers.get("content-md5") not in (None, digests.content_md5):
            raise gcs_error("BadDigest", "The MD5 that was sent is not that of the body.")
        _take(state, job, part)
    return empty(200, digests.upload_headers())


def _content_length(request: Request) -> int:
    if "content-length" not in request.headers:
        raise gcs_error("MissingContentLength")
    return int(request.headers["content-length"])


def _check_size(state: State, size: int) -> None:
    if size > state.settings.legacy_upload_limit:
        raise gcs_error("EntityTooLarge", f"{size} bytes are more than {state.settings.legacy_upload_limit}.")


def _take(state: State, job: Job, stored: Path) -> None:
    # Google stores whatever is signed; only the first whole object makes the job go on.
    if job.status == "created":
        state.uploaded(job, stored)


async def _get(state: State, request: Request) -> Response:
    job = _job(state, request, "results")
    if job.status != "complete" or job.result is None:
        raise gcs_error("NoSuchKey", f"No such object: {request.url.path}")
    digests = await state.digests(job, job.result)
    return asked_for(request, job.result, digests, digests.download_headers())


async def _start(state: State, request: Request) -> Response:
    job = _job(state, request, "submission")
    session = state.start_session(job)
    location = f"{base_url(request)}{request.url.path}?{request.url.query}&upload_id={session.id}"
    return empty(201, [("Location", location), ("X-GUploader-UploadID", session.id)])


METHODS = {"PUT": _put, "GET": _get, "HEAD": _get, "POST": _start}


async def _session(state: State, request: Request) -> Response:
    if request.method != "PUT":
        raise gcs_error("InvalidArgument", "A session takes PUT.")
    session = state.sessions.get(request.query_params["upload_id"], state.clock.now())
    if session.digests is None and not await _append(state, session, request):
        return empty(308, [("Range", f"bytes=0-{session.stored - 1}")] if session.stored else [])
    if session.digests is None:
        session.digests = await asyncio.to_thread(Digests.of, session.path)
        job = state.jobs.get(session.job_id, state.clock.now())
        if job is not None:
            _take(state, job, session.path)
    return empty(200, session.digests.upload_headers())


async def _append(state: State, session: Session, request: Request) -> bool:
    """Store what comes, and say whether the object is whole by it."""
    session.turn += 1
    turn = session.turn
    sent = parse_content_range(request.headers.get("content-range"), _content_length(request))
    _check_size(state, max(sent.total or 0, (sent.end or 0) + 1))
    if sent.start is None:
        return session.is_whole(sent.total)
    if sent.start > session.stored:
        raise gcs_error("InvalidArgument", f"{sent.start} is past the {session.stored} bytes stored.")
    await spool(request, session.path, sent.start)
    if session.turn != turn:
        raise gcs_error("InvalidArgument", "A later request has taken over.")
    if session.is_whole(sent.total):
        return True
    session.trim()
    return False
