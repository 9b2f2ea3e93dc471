from datetime import UTC, datetime
from pathlib import Path

import pytest
from requests.structures import CaseInsensitiveDict

from airflow_provider_xcompliance.api.errors import (
    AccessDeniedError,
    IntegrityError,
    JobNotFoundError,
    RateLimitedError,
    ServerError,
    UrlExpiredError,
    XComplianceError,
)
from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.api.messages import Auth, FileSlice, Response
from airflow_provider_xcompliance.api.uploads import ResumableUpload, digest_put, prepare_put, window_is_over
from airflow_provider_xcompliance.api.urls import Flow

EXPIRES = datetime(2026, 11, 22, 12, tzinfo=UTC)
JOB = Job(
    id="17", type="tweets", status="created", upload_url="https://u/?token=t", upload_expires_at=EXPIRES
)
BODY = FileSlice(Path("ids"), 0, 100)
ZERO = "crc32c=AAAAAA=="
ACCEPTED = b'{"data": {}}'
LATE = "Sun, 22 Nov 2026 12:00:00 GMT"
EARLY = "Sun, 22 Nov 2026 11:59:59 GMT"


def response(status: int, body: bytes = b"", date: str = EARLY, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()} | {"Date": date}
    return Response(status, CaseInsensitiveDict(named), body)


@pytest.mark.parametrize(
    ("flow", "auth", "content_type"),
    [(Flow.CURRENT, Auth.BEARER, "application/octet-stream"), (Flow.LEGACY, Auth.NONE, "text/plain")],
)
def test_only_the_current_flow_has_the_bearer_and_a_content_type_to_choose(
    flow: Flow, auth: Auth, content_type: str
) -> None:
    request = prepare_put(JOB, flow, BODY, "application/octet-stream")
    assert (request.method, request.url, request.body) == ("PUT", JOB.upload_url, BODY)
    assert (request.auth, request.headers) == (auth, {"Content-Type": content_type})


def test_google_is_told_the_digest_of_what_is_sent() -> None:
    request = prepare_put(JOB, Flow.LEGACY, BODY, content_md5="XrY7u+Ae7tCTyyK7j1rNww==")
    assert request.headers == {"Content-Type": "text/plain", "Content-MD5": "XrY7u+Ae7tCTyyK7j1rNww=="}


@pytest.mark.parametrize(
    ("answer", "flow"),
    [
        (response(200, ACCEPTED), Flow.CURRENT),
        (response(200, ACCEPTED, x_goog_hash=ZERO), Flow.CURRENT),
        (response(200, x_goog_hash=ZERO + ",md5=x"), Flow.LEGACY),
        (response(201), Flow.LEGACY),
    ],
)
def test_an_upload_is_accepted(answer: Response, flow: Flow) -> None:
    digest_put(answer, JOB, flow, 0)


@pytest.mark.parametrize(
    ("answer", "flow", "kind", "words"),
    [
        (response(200, b"<html>"), Flow.CURRENT, ServerError, "not the JSON"),
        (response(200), Flow.CURRENT, ServerError, "not the JSON"),
        (response(200, b"[]"), Flow.CURRENT, ServerError, "not the JSON"),
        (response(200, x_goog_hash="crc32c=AAAAAQ=="), Flow.LEGACY, IntegrityError, "crc32c differs"),
        (
            response(200, ACCEPTED, x_goog_hash="crc32c=AAAAAQ=="),
            Flow.CURRENT,
            IntegrityError,
            "crc32c differs",
        ),
        (response(200, b"<html>"), Flow.LEGACY, ServerError, "a page of someone else's"),
        (response(400, b"<Code>BadDigest</Code>"), Flow.LEGACY, IntegrityError, "not those that were sent"),
        (response(400, b"<Code>ExpiredToken</Code>"), Flow.LEGACY, UrlExpiredError, "create a new job"),
        (response(400, date=LATE), Flow.LEGACY, UrlExpiredError, "create a new job"),
        (response(401, date=LATE), Flow.CURRENT, UrlExpiredError, "create a new job"),
        (
            response(403, date=LATE),
            Flow.CURRENT,
            UrlExpiredError,
            "ended at 2026-11-22 12:00:00 UTC by X's clock",
        ),
        (response(403), Flow.CURRENT, AccessDeniedError, "check its access"),
        (response(404), Flow.LEGACY, JobNotFoundError, "the upload address is gone; create a new job"),
        (response(503, date=LATE), Flow.CURRENT, ServerError, "try again later"),
    ],
)
def test_an_upload_that_was_not_accepted_says_why(
    answer: Response, flow: Flow, kind: type[XComplianceError], words: str
) -> None:
    with pytest.raises(kind, match=rf"^upload to job 17: .*{words}"):
        digest_put(answer, JOB, flow, 0)


def test_the_end_of_the_window_is_told_even_if_x_never_said_when() -> None:
    assert "15 minutes for it ended by X's clock" in str(
        window_is_over(Job(id="1", type="users", status="expired"))
    )


def begun(size: int = 100) -> ResumableUpload:
    upload = ResumableUpload(JOB, Path("ids"), size, 0)
    upload.digest(response(201, Location="https://s/?upload_id=1"))
    return upload


def sent(upload: ResumableUpload) -> tuple[str | None, int]:
    """Return the Content-Range of the next request, and from which byte of the file on it has a body."""
    request = upload.next_request()
    assert (request.method, request.auth, request.url) == ("PUT", Auth.NONE, "https://s/?upload_id=1")
    if isinstance(request.body, FileSlice):
        assert request.body.offset + request.body.length == 100
        return request.headers["Content-Range"], request.body.offset
    assert request.body == b""
    return request.headers["Content-Range"], -1


def test_a_session_is_begun_by_a_signed_post_of_nothing() -> None:
    request = ResumableUpload(JOB, Path("ids"), 100, 0).next_request()
    assert (request.method, request.url, request.auth, request.body) == (
        "POST",
        JOB.upload_url,
        Auth.NONE,
        b"",
    )
    assert request.headers == {"Content-Type": "text/plain", "x-goog-resumable": "start"}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (response(400, b"<Code>ExpiredToken</Code>"), UrlExpiredError),
        (response(201), ServerError),
        (response(200, b"<html>"), ServerError),
        (response(503), ServerError),
        (response(403), AccessDeniedError),
        (response(404), JobNotFoundError),
    ],
)
def test_a_session_that_does_not_begin_says_why(answer: Response, kind: type[XComplianceError]) -> None:
    upload = ResumableUpload(JOB, Path("ids"), 100, 0)
    with pytest.raises(kind):
        upload.digest(answer)
    assert not upload.is_open


def test_the_whole_file_goes_at_once_and_is_finished() -> None:
    upload = begun()
    assert sent(upload) == ("bytes 0-99/100", 0)
    upload.digest(response(200, x_goog_hash=ZERO))
    assert upload.finished


def test_after_a_doubt_the_session_is_asked_and_the_rest_goes() -> None:
    upload = begun()
    upload.doubt()
    assert sent(upload) == ("bytes */100", -1)
    upload.digest(response(308, Range="bytes=0-41"))
    assert upload.stored == 42
    assert sent(upload) == ("bytes 42-99/100", 42)


def test_no_range_means_that_nothing_is_stored() -> None:
    upload = begun()
    upload.digest(response(308, Range="bytes=0-41"))
    upload.doubt()
    upload.digest(response(308))
    assert upload.stored == 0
    assert sent(upload) == ("bytes 0-99/100", 0)


def test_a_part_that_was_stored_is_not_sent_again() -> None:
    upload = begun()
    upload.digest(response(308, Range="bytes=0-41"))
    assert sent(upload) == ("bytes 42-99/100", 42)


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-41"}, {"Range": "bytes=0-40"}])
def test_a_session_that_stores_nothing_more_is_a_failure_and_no_endless_loop(headers: dict[str, str]) -> None:
    upload = begun()
    upload.digest(response(308, Range="bytes=0-41"))
    with pytest.raises(ServerError, match="stored nothing of what was sent"):
        upload.digest(response(308, **headers))


@pytest.mark.parametrize(
    "stored", ["bytes=0-99", "bytes=0-100", "bytes=1-41", "bytes 0-41", "0-41", "bytes=0--1"]
)
def test_an_account_that_makes_no_sense_is_not_believed(stored: str) -> None:
    upload = begun()
    with pytest.raises(ServerError, match="makes no sense"):
        upload.digest(response(308, Range=stored))
    upload.doubt()
    assert sent(upload) == ("bytes */100", -1)


@pytest.mark.parametrize("status", [404, 410])
def test_a_session_that_is_gone_is_begun_anew(status: int) -> None:
    upload = begun()
    upload.digest(response(308, Range="bytes=0-41"))
    with pytest.raises(ServerError, match="session is gone"):
        upload.digest(response(status))
    assert not upload.is_open
    upload.doubt()
    assert upload.next_request().method == "POST"
    assert upload.stored == 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, AccessDeniedError), (429, RateLimitedError), (500, ServerError), (408, ServerError)],
)
def test_a_session_outlives_the_window_so_its_refusals_are_no_expiry(
    status: int, kind: type[XComplianceError]
) -> None:
    upload = begun()
    with pytest.raises(kind):
        upload.digest(response(status, date=LATE))
    assert upload.is_open


def test_what_the_session_stored_must_be_what_was_sent() -> None:
    upload = begun()
    with pytest.raises(IntegrityError):
        upload.digest(response(200, x_goog_hash="crc32c=AAAAAQ=="))
    assert not upload.finished
