from datetime import UTC, datetime

import pytest
from requests.structures import CaseInsensitiveDict

from airflow_provider_xcompliance.api.downloads import Download
from airflow_provider_xcompliance.api.errors import (
    AccessDeniedError,
    IntegrityError,
    InvalidRequestError,
    JobNotFoundError,
    ServerError,
    UrlExpiredError,
    XComplianceError,
)
from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.api.messages import Auth, Response
from airflow_provider_xcompliance.api.urls import Flow

EXPIRES = datetime(2026, 11, 29, 12, tzinfo=UTC)
JOB = Job(id="17", type="tweets", status="complete", download_url="https://d", download_expires_at=EXPIRES)
RANGES = {"Accept-Ranges": "bytes", "ETag": '"v1"'}


def response(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Response:
    return Response(
        status, CaseInsensitiveDict({"Date": "Sun, 22 Nov 2026 12:00:00 GMT"} | (headers or {})), body
    )


def begun(headers: dict[str, str]) -> Download:
    download = Download(JOB, Flow.CURRENT)
    download.begin(response(200, headers))
    return download


def broken(headers: dict[str, str], received: int = 40) -> Download:
    download = begun(headers)
    download.interrupted(received)
    return download


@pytest.mark.parametrize(("flow", "auth"), [(Flow.CURRENT, Auth.BEARER), (Flow.LEGACY, Auth.NONE)])
def test_a_result_is_asked_for_as_it_is(flow: Flow, auth: Auth) -> None:
    request = Download(JOB, flow).next_request()
    assert (request.method, request.url, request.auth) == ("GET", "https://d", auth)
    assert request.headers == {"Accept-Encoding": "identity"}


@pytest.mark.parametrize(
    ("headers", "resumes"),
    [
        (RANGES, True),
        (RANGES | {"Content-Length": "100"}, True),
        (RANGES | {"accept-ranges": "Bytes"}, True),
        ({"ETag": '"v1"'}, False),
        (RANGES | {"Accept-Ranges": "none"}, False),
        (RANGES | {"ETag": 'W/"v1"'}, False),
        (RANGES | {"ETag": "v1"}, False),
        ({"Accept-Ranges": "bytes"}, False),
        ({}, False),
    ],
)
def test_a_break_is_resumed_only_where_the_same_version_can_be_asked_for(
    headers: dict[str, str], resumes: bool
) -> None:
    download = broken(headers)
    assert download.offset == (40 if resumes else 0)
    asked = download.next_request().headers
    assert asked.get("Range") == ("bytes=40-" if resumes else None)
    assert asked.get("If-Match") == ('"v1"' if resumes else None)


def test_a_break_before_the_first_byte_starts_anew() -> None:
    assert "Range" not in broken(RANGES, received=0).next_request().headers


@pytest.mark.parametrize("first", [RANGES, RANGES | {"Content-Length": "100"}])
@pytest.mark.parametrize("second", [{}, {"ETag": '"v1"'}])
def test_the_rest_is_taken_where_it_belongs(first: dict[str, str], second: dict[str, str]) -> None:
    download = broken(first)
    download.begin(response(206, {"Content-Range": "bytes 40-99/100"} | second))
    assert (download.offset, download.total) == (40, 100)
    assert download.finish(100, 0)


@pytest.mark.parametrize(
    "answer",
    [
        response(206),
        response(206, {"Content-Range": "bytes 41-99/100"}),
        response(206, {"Content-Range": "bytes 0-99/100"}),
        response(206, {"Content-Range": "bytes 40-99/*"}),
        response(206, {"Content-Range": "bytes 40-98/99"}),
        response(206, {"Content-Range": "40-99/100"}),
        response(206, {"Content-Range": "bytes 40-99/100", "ETag": '"v2"'}),
        response(206, {"Content-Range": "bytes 40-99/100", "Content-Encoding": "gzip"}),
        response(412),
        response(416),
    ],
    ids=lambda answer: f"{answer.status} {dict(answer.headers)}",
)
def test_a_rest_that_does_not_fit_starts_the_download_anew(answer: Response) -> None:
    download = broken(RANGES | {"Content-Length": "100"})
    with pytest.raises(ServerError, match="it is fetched anew"):
        download.begin(answer)
    assert download.offset == 0
    assert "Range" not in download.next_request().headers


def test_a_whole_answer_to_a_range_starts_from_the_first_byte_by_its_own_headers() -> None:
    download = broken(RANGES | {"Content-Length": "100"})
    download.begin(response(200, {"Content-Length": "70"}))
    assert (download.offset, download.total) == (0, 70)


@pytest.mark.parametrize("status", [412, 416])
def test_a_range_error_that_was_not_asked_for_is_final(status: int) -> None:
    with pytest.raises(InvalidRequestError):
        Download(JOB, Flow.CURRENT).begin(response(status))


def test_a_part_that_was_not_asked_for_is_never_the_whole() -> None:
    download = Download(JOB, Flow.CURRENT)
    download.begin(response(206, {"Content-Range": "bytes 0-39/100"}))
    with pytest.raises(IntegrityError, match="40 bytes arrived, 100 were promised"):
        download.finish(40, 0)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/html"},
        {"Content-Type": "Text/HTML; charset=utf-8"},
        {"Content-Type": "application/problem+json"},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "identity, br"},
        {"Transfer-Encoding": "gzip, chunked"},
    ],
    ids=str,
)
def test_what_is_no_result_in_plain_bytes_is_not_taken_for_one(headers: dict[str, str]) -> None:
    with pytest.raises(ServerError, match="no result, but of"):
        begun(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json", "Content-Encoding": "Identity", "Transfer-Encoding": "Chunked"},
    ],
    ids=str,
)
def test_any_other_form_may_be_a_result(headers: dict[str, str]) -> None:
    begun(headers)


@pytest.mark.parametrize(
    ("headers", "is_proven"),
    [
        ({"Content-Length": "100"}, True),
        ({"Transfer-Encoding": "chunked"}, True),
        ({"x-goog-hash": "crc32c=AAAAAA=="}, True),
        ({}, False),
        ({"Content-Length": "many"}, False),
        ({"x-goog-hash": "md5=AAAA"}, False),
    ],
)
def test_without_length_framing_and_digest_the_end_is_unproven(
    headers: dict[str, str], is_proven: bool
) -> None:
    assert begun(headers).finish(100, 0) is is_proven


@pytest.mark.parametrize("received", [0, 99, 101])
def test_another_length_than_promised_is_no_result(received: int) -> None:
    with pytest.raises(IntegrityError, match=f"{received} bytes arrived, 100 were promised"):
        begun({"Content-Length": "100"}).finish(received, 0)


def test_another_checksum_than_promised_is_no_result() -> None:
    with pytest.raises(IntegrityError, match="crc32c differs"):
        begun({"x-goog-hash": "crc32c=AAAAAA=="}).finish(100, 1)


@pytest.mark.parametrize(
    ("status", "body", "date", "kind", "words"),
    [
        (400, b"<Code>ExpiredToken</Code>", 22, UrlExpiredError, "7 days .* run a new job"),
        (400, b"", 29, UrlExpiredError, "7 days"),
        (401, b"", 29, UrlExpiredError, "7 days"),
        (403, b"", 29, UrlExpiredError, "7 days"),
        (403, b"", 22, AccessDeniedError, "check its access"),
        (404, b"<Code>NoSuchKey</Code>", 22, JobNotFoundError, "NoSuchKey"),
        (302, b"", 22, InvalidRequestError, "never followed"),
        (500, b"", 29, ServerError, "try again later"),
        (204, b"", 22, InvalidRequestError, "does not document"),
    ],
)
def test_a_refusal_says_why(
    status: int, body: bytes, date: int, kind: type[XComplianceError], words: str
) -> None:
    answer = response(status, {"Date": f"Sun, {date} Nov 2026 12:00:00 GMT"}, body)
    with pytest.raises(kind, match=f"^download the results of job 17: .*{words}"):
        Download(JOB, Flow.LEGACY).begin(answer)
