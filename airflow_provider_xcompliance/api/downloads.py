"""The download, without I/O: what to ask for next, and what proves that all of it arrived."""

from __future__ import annotations

import re
from typing import NoReturn

from airflow_provider_xcompliance.api.errors import IntegrityError, ServerError, UrlExpiredError
from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.api.messages import (
    Auth,
    Request,
    Response,
    refuse,
    says_expired,
    stated_crc32c,
)
from airflow_provider_xcompliance.api.urls import Flow


class Download:
    """
    One result, over as many requests as it takes.

    :meth:`next_request` and :meth:`begin` take turns; after each interruption :meth:`interrupted` is told how
    many bytes are there, and at the end :meth:`finish` judges the whole.
    """

    def __init__(self, job: Job, flow: Flow) -> None:
        #: What it is for, in words.
        self.what = f"download the results of job {job.id}"
        self._job = job
        self._auth = Auth.BEARER if flow is Flow.CURRENT else Auth.NONE
        self._etag: str | None = None
        self._framed = False
        #: Where the next answer's bytes belong.
        self.offset = 0
        #: Length of the whole result, where the server states it.
        self.total: int | None = None
        #: crc32c of the whole result, where the server states it.
        self.crc32c: int | None = None

    def next_request(self) -> Request:
        """Ask for what is missing; only for a version that is known to be the same."""
        headers = {"Accept-Encoding": "identity"}
        if self.offset and self._etag:
            headers |= {"Range": f"bytes={self.offset}-", "If-Match": self._etag}
        return Request(
            what=self.what,
            method="GET",
            url=self._job.download_url or "",
            auth=self._auth,
            headers=headers,
        )

    def begin(self, response: Response) -> None:
        """
        Take note of an answer's head; :attr:`offset` says where its bytes belong.

        :raises UrlExpiredError: if the 7 days are over
        :raises ServerError: if the answer cannot be used; the next request starts anew
        """
        if response.status in (412, 416) and self.offset:
            self._start_anew("the result cannot be continued")
        if response.status not in (200, 206):
            self._refuse(response)
        if wrong := _wrong_form(response):
            self._start_anew(wrong)
        if response.status == 200:
            self._start(response)
        else:
            self._continue(response)

    def interrupted(self, received: int) -> None:
        """Note how many bytes of the whole result are there when a connection broke."""
        self.offset = received if self._etag else 0

    def restart(self) -> None:
        """Forget what was fetched."""
        self.offset, self._etag, self.total, self.crc32c = 0, None, None, None

    def finish(self, received: int, crc32c: int) -> bool:
        """
        Judge the whole.

        :return: whether something other than the end of the connection says that nothing is missing
        :raises IntegrityError: if length or checksum are not what the server stated
        """
        if self.total is not None and received != self.total:
            raise IntegrityError(f"{self.what}: {received} bytes arrived, {self.total} were promised")
        if self.crc32c is not None and crc32c != self.crc32c:
            raise IntegrityError(f"{self.what}: the bytes that arrived are corrupt (crc32c differs)")
        return self._framed or self.total is not None or self.crc32c is not None

    def _start(self, response: Response) -> None:
        self.restart()
        self.total = _length(response)
        self.crc32c = stated_crc32c(response)
        self._framed = "Transfer-Encoding" in response.headers
        etag = response.headers.get("ETag", "")
        # A weak tag does not promise equal bytes, and If-Match never matches one.
        if response.headers.get("Accept-Ranges", "").lower() == "bytes" and etag.startswith('"'):
            self._etag = etag

    def _continue(self, response: Response) -> None:
        span = re.fullmatch(
            r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15})", response.headers.get("Content-Range", "")
        )
        if not span or int(span[1]) != self.offset or self.total not in (None, int(span[2])):
            self._start_anew("the server continued at another place than asked")
        if response.headers.get("ETag", self._etag) != self._etag:
            self._start_anew("the server continued with another version of the result")
        self.total = int(span[2])

    def _start_anew(self, why: str) -> NoReturn:
        self.restart()
        raise ServerError(f"{self.what}: {why}; it is fetched anew")

    def _refuse(self, response: Response) -> NoReturn:
        if says_expired(response, self._job.download_expires_at):
            raise UrlExpiredError(
                f"{self.what}: the 7 days for it are over by X's clock; run a new job for the same ids"
            )
        refuse(response, self.what)


#: What a result does not come in: a gateway's page, or an encoding that was not asked for.
_WRONG_FORMS: tuple[tuple[str, str], ...] = (
    ("Content-Type", r"(?i)text/html|application/problem\+json"),
    ("Content-Encoding", r"(?i)(?!identity$)."),
    ("Transfer-Encoding", r"(?i)(?!chunked$)."),
)


def _wrong_form(response: Response) -> str | None:
    for name, wrong in _WRONG_FORMS:
        if re.match(wrong, value := response.headers.get(name, "")):
            return f"the answer is no result, but of {name} {response.quote(value)[:40]}"
    return None


def _length(response: Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,15}", length) else None
