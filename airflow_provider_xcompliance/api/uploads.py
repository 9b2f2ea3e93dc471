"""
The upload, without I/O.

Three ways: one PUT with token and bearer (current flow), one PUT to a signed URL, or a resumable session that
a signed POST begins (both legacy).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_xcompliance.api.errors import (
    IntegrityError,
    JobNotFoundError,
    ServerError,
    UrlExpiredError,
)
from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.api.messages import (
    Auth,
    FileSlice,
    Request,
    Response,
    decode,
    refuse,
    says_expired,
    stated_crc32c,
    xml_code,
)
from airflow_provider_xcompliance.api.urls import Flow

# Signed into the URL by the legacy flow: any other value is answered with 403.
_SIGNED_CONTENT_TYPE = "text/plain"

_DONE = frozenset({200, 201})
_INCOMPLETE = 308


def prepare_put(
    job: Job, flow: Flow, body: FileSlice, content_type: str = "text/plain", content_md5: str = ""
) -> Request:
    """
    Send the whole file in one request.

    :param content_type: used in the current flow alone, where X's own documents disagree on it
    :param content_md5: of the file, in base64; for the legacy flow, where Google refuses other bytes
    """
    current = flow is Flow.CURRENT
    signed = {"Content-Type": _SIGNED_CONTENT_TYPE} | ({"Content-MD5": content_md5} if content_md5 else {})
    return Request(
        what=_what(job),
        method="PUT",
        url=job.upload_url or "",
        auth=Auth.BEARER if current else Auth.NONE,
        headers={"Content-Type": content_type} if current else signed,
        body=body,
    )


def digest_put(response: Response, job: Job, flow: Flow, crc32c: int) -> None:
    """
    Check that the whole file was accepted.

    :raises UrlExpiredError: if the 15 minutes were over
    :raises ServerError: if a success is not X's own answer, but a gateway's page
    :raises IntegrityError: if the server states another checksum than the file's
    """
    if xml_code(response) == "BadDigest":
        raise IntegrityError(f"{_what(job)}: the bytes that arrived are not those that were sent")
    if response.status not in _DONE:
        _refuse(response, job)
    if flow is Flow.CURRENT:
        decode(response, _Accepted, _what(job))
    elif response.body:
        # Google's own answer is empty.
        raise ServerError(f"{_what(job)}: status {response.status}, but with a page of someone else's")
    stored = stated_crc32c(response)
    if stored is not None and stored != crc32c:
        raise IntegrityError(f"{_what(job)}: the server stored other bytes than were sent (crc32c differs)")


class _Accepted(msgspec.Struct):
    data: dict[str, Any]


class ResumableUpload:
    """
    A Google Cloud Storage session: begin, send, ask after any doubt, go on from what is stored.

    :meth:`next_request` and :meth:`digest` take turns until :attr:`finished`.
    """

    def __init__(self, job: Job, path: Path, size: int, crc32c: int) -> None:
        self._job = job
        self._path = path
        self._size = size
        self._crc32c = crc32c
        self._session_url: str | None = None
        self._in_doubt = False
        #: How many bytes the server is known to have stored.
        self.stored = 0
        self.finished = False

    @property
    def is_open(self) -> bool:
        """Whether there is a session, which can be asked what it holds."""
        return self._session_url is not None

    def doubt(self) -> None:
        """Note that a request failed: what the server stored is no longer known."""
        self._in_doubt = self.is_open

    def next_request(self) -> Request:
        """Begin the session, ask what is stored, or send what is not stored yet."""
        if self._session_url is None:
            return self._begin()
        if self._in_doubt:
            return self._put(b"", f"bytes */{self._size}")
        rest = FileSlice(self._path, self.stored, self._size - self.stored)
        return self._put(rest, f"bytes {self.stored}-{self._size - 1}/{self._size}")

    def digest(self, response: Response) -> None:
        """
        Take note of an answer.

        :raises UrlExpiredError: if the session could not be begun within the 15 minutes
        :raises ServerError: if the session is gone, or stores nothing of what is sent
        """
        if self._session_url is None:
            self._take_session(response)
        elif response.status in _DONE:
            digest_put(response, self._job, Flow.LEGACY, self._crc32c)
            self.finished = True
        elif response.status == _INCOMPLETE:
            self._take_progress(response)
        elif response.status in (404, 410):
            self._session_url, self._in_doubt, self.stored = None, False, 0
            raise ServerError(f"{_what(self._job)}: the resumable session is gone; a new one is begun")
        else:
            # Not as the upload URL is refused: a session outlives its 15 minutes.
            refuse(response, _what(self._job))

    def _begin(self) -> Request:
        return Request(
            what=f"begin the {_what(self._job)}",
            method="POST",
            url=self._job.upload_url or "",
            auth=Auth.NONE,
            headers={"Content-Type": _SIGNED_CONTENT_TYPE, "x-goog-resumable": "start"},
            body=b"",
        )

    def _put(self, body: bytes | FileSlice, content_range: str) -> Request:
        return Request(
            what=_what(self._job),
            method="PUT",
            url=self._session_url or "",
            auth=Auth.NONE,
            headers={"Content-Range": content_range},
            body=body,
        )

    def _take_session(self, response: Response) -> None:
        if response.status // 100 != 2:
            _refuse(response, self._job)
        location = response.headers.get("Location")
        if not location:
            raise ServerError(f"{_what(self._job)}: the server began no resumable session")
        self._session_url, self._in_doubt, self.stored = location, False, 0

    def _take_progress(self, response: Response) -> None:
        header = response.headers.get("Range")
        span = re.fullmatch(r"bytes=0-([0-9]{1,15})", header or "")
        stored = int(span[1]) + 1 if span else 0
        # All of it and yet not finished is as unbelievable as more than all of it.
        if stored >= self._size or (header and not span):
            raise ServerError(f"{_what(self._job)}: the server's account of what it stored makes no sense")
        has_grown = stored > self.stored
        was_asked, self._in_doubt, self.stored = self._in_doubt, False, stored
        if not (was_asked or has_grown):
            raise ServerError(f"{_what(self._job)}: the server stored nothing of what was sent")


def window_is_over(job: Job) -> UrlExpiredError:
    """Say that the 15 minutes for an upload have passed, and what to do."""
    when = f" at {job.upload_expires_at:%Y-%m-%d %H:%M:%S} UTC" if job.upload_expires_at else ""
    return UrlExpiredError(
        f"{_what(job)}: the 15 minutes for it ended{when} by X's clock; create a new job (clear the "
        "task that creates it) and upload right after"
    )


def _refuse(response: Response, job: Job) -> None:
    if says_expired(response, job.upload_expires_at):
        raise window_is_over(job)
    if response.status == 404:
        raise JobNotFoundError(f"{_what(job)}: the upload address is gone; create a new job")
    refuse(response, _what(job))


def _what(job: Job) -> str:
    return f"upload to job {job.id}"
