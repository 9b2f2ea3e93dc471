"""What Google Cloud Storage keeps in the legacy flow: objects and resumable sessions."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from google_crc32c import extend

from airflow_provider_xcompliance.emulator.errors import gcs_error
from airflow_provider_xcompliance.emulator.settings import DOWNLOAD_WINDOW

QUANTUM = 262_144
"""Bytes; what a broken connection leaves of a chunk is kept in multiples of this."""
BLOCK = 1 << 18


@dataclass(frozen=True)
class Digests:
    """What is stated about a stored file."""

    size: int
    crc32c: str
    md5: str
    generation: int

    @classmethod
    def of(cls, path: Path) -> Digests:
        """Read a file and digest it."""
        crc32c, md5 = 0, hashlib.md5(usedforsecurity=False)
        with path.open("rb") as stored:
            while block := stored.read(BLOCK):
                crc32c = extend(crc32c, block)
                md5.update(block)
        stat = path.stat()
        return cls(
            stat.st_size,
            base64.b64encode(crc32c.to_bytes(4, "big")).decode(),
            md5.hexdigest(),
            stat.st_mtime_ns // 1000,
        )

    @property
    def content_md5(self) -> str:
        """The md5 as headers write it."""
        return base64.b64encode(bytes.fromhex(self.md5)).decode()

    def upload_headers(self) -> list[tuple[str, str]]:
        """Return the headers of a successful upload."""
        return [
            ("ETag", f'"{self.md5}"'),
            ("x-goog-generation", str(self.generation)),
            ("x-goog-metageneration", "1"),
            ("x-goog-hash", f"crc32c={self.crc32c}"),
            ("x-goog-hash", f"md5={self.content_md5}"),
            ("x-goog-stored-content-length", str(self.size)),
            ("x-goog-stored-content-encoding", "identity"),
        ]

    @property
    def composite_etag(self) -> str:
        """ETag of a composite object, which has no md5."""
        return f'"-C{self.crc32c.rstrip("=")}{self.generation}"'

    def download_headers(self) -> list[tuple[str, str]]:
        """Return the headers of a result, which is a composite object."""
        return [
            ("Accept-Ranges", "bytes"),
            ("ETag", self.composite_etag),
            ("x-goog-generation", str(self.generation)),
            ("x-goog-metageneration", "1"),
            ("x-goog-hash", f"crc32c={self.crc32c}"),
            ("x-goog-component-count", "4"),
            ("x-goog-stored-content-length", str(self.size)),
            ("x-goog-stored-content-encoding", "identity"),
        ]


@dataclass
class Session:
    """A resumable upload.

    :param expires: seconds since the epoch.
    :param turn: counts the requests, so that one that was given up cannot spoil what a later one does.
    :param digests: of the object, once it is whole.
    """

    id: str
    job_id: str
    path: Path
    expires: int
    turn: int = 0
    digests: Digests | None = None

    @property
    def stored(self) -> int:
        """Bytes that are kept of what came."""
        size = self.path.stat().st_size
        return size - size % QUANTUM

    def is_whole(self, total: int | None) -> bool:
        """Say whether all has come."""
        return total is not None and self.path.stat().st_size == total

    def trim(self) -> None:
        """Drop what is not kept."""
        with self.path.open("r+b") as stored:
            stored.truncate(self.stored)


class Sessions:
    """The resumable uploads that are open."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def start(self, job_id: str, directory: Path, now: float) -> Session:
        """Open one."""
        upload_id = secrets.token_urlsafe(48)
        path = directory / f"{job_id}.{upload_id[:12]}.session"
        path.touch()
        session = self._sessions[upload_id] = Session(upload_id, job_id, path, int(now) + DOWNLOAD_WINDOW)
        return session

    def get(self, upload_id: str, now: float) -> Session:
        """Return one.

        :raises RefusalError: 404 if it never was, 410 if its week is over.
        """
        session = self._sessions.get(upload_id)
        if session is None:
            raise gcs_error("NoSuchUpload")
        if now >= session.expires:
            raise gcs_error("UploadGone")
        return session

    def forget(self, job_id: str) -> None:
        """Drop a job's sessions, as if the service had lost them."""
        for session in [session for session in self._sessions.values() if session.job_id == job_id]:
            del self._sessions[session.id]

    def clear(self) -> None:
        """Drop all sessions."""
        self._sessions.clear()


@dataclass(frozen=True)
class ContentRange:
    """What a PUT to a session says about its body; no start: a question how much is stored."""

    start: int | None
    end: int | None
    total: int | None


def parse_content_range(header: str | None, length: int) -> ContentRange:
    """Read ``Content-Range``; without one the body is the whole object.

    :param length: ``Content-Length``, in bytes.
    :raises RefusalError: if it makes no sense.
    """
    if header is None:
        return ContentRange(0, length - 1, length)
    found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", header, re.ASCII)
    if found is None:
        raise gcs_error("InvalidArgument", f"Failed to parse Content-Range header: {header[:80]}")
    start, end, total = (int(text) if text and text != "*" else None for text in found.groups())
    if start is not None and end is not None:
        if end - start + 1 != length or (total is not None and end >= total):
            raise gcs_error("InvalidArgument", "Content-Range does not fit the body.")
    elif length:
        raise gcs_error("InvalidArgument", "A status query has no body.")
    return ContentRange(start, end, total)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Read a ``Range`` of one part.

    :return: first and last byte, or None for the whole.
    :raises RefusalError: 416 if nothing of it exists.
    """
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "", re.ASCII)
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    else:
        start, end = max(size - int(last), 0), size - 1
    if start > end:
        raise gcs_error("InvalidRange")
    return start, end
