import base64
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import google_crc32c
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from airflow_provider_xcompliance.api import errors
from airflow_provider_xcompliance.api.messages import (
    Request,
    Response,
    decode,
    refuse,
    says_expired,
    stated_crc32c,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
#: Nested without end, where anything may stand.
DEEP = b'{"errors":[{"a":' + b"[" * 200_000
EXPIRED_XML = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Details>x</Details></Error>"


def response(status: int, body: bytes = b"", secrets: tuple[str, ...] = (), **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, CaseInsensitiveDict(named), body, secrets)


def problem(status: int, **fields: object) -> Response:
    return response(status, json.dumps(fields).encode())


def refusal(answer: Response) -> errors.XComplianceError:
    with pytest.raises(errors.XComplianceError) as caught:
        refuse(answer, "get job 17")
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (202, errors.InvalidRequestError, "does not document"),
        (301, errors.InvalidRequestError, "check the host of the connection"),
        (302, errors.InvalidRequestError, "never followed"),
        (308, errors.InvalidRequestError, "never followed"),
        (400, errors.InvalidRequestError, "not acceptable"),
        (401, errors.AuthenticationError, "check its token or key"),
        (402, errors.InvalidRequestError, "does not document"),
        (403, errors.AccessDeniedError, "check its access"),
        (404, errors.JobNotFoundError, "check the job id and the host"),
        (408, errors.ServerError, "try again later"),
        (409, errors.JobConflictError, "another job of this type is active"),
        (413, errors.UploadTooLargeError, "split it"),
        (415, errors.InvalidRequestError, "'upload_content_type'"),
        (418, errors.InvalidRequestError, "does not document"),
        (429, errors.RateLimitedError, "rate limited"),
        (500, errors.ServerError, "try again later"),
        (503, errors.ServerError, "try again later"),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>\n<h1>Oops</h1></html>", b'{"title": 5}', b"[1]", b"\xff", DEEP]
)
def test_a_refusal_says_what_it_means_whatever_its_body(
    status: int, kind: type[Exception], remedy: str, body: bytes
) -> None:
    error = refusal(response(status, body))
    assert type(error) is kind
    assert str(error).startswith(f"get job 17: status {status}")
    assert remedy in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            problem(
                403,
                type="https://api.x.com/2/problems/client-forbidden/",
                title="Client\nForbidden",
                detail="d",
            ),
            errors.AccessDeniedError,
            "status 403 client-forbidden: this App may not do that.*X says: Client Forbidden d",
        ),
        (
            problem(409, type="about:blank", title="Conflict"),
            errors.JobConflictError,
            "status 409: another job",
        ),
        (problem(400, errors=[{"code": 1, "message": "older"}]), errors.InvalidRequestError, "X says: older"),
        (
            problem(429, type="/problems/usage-capped"),
            errors.UsageCappedError,
            "usage for this period is spent",
        ),
        (
            problem(403, type="/problems/usage-capped"),
            errors.UsageCappedError,
            "usage for this period is spent",
        ),
        (
            response(403, b"<Code>SignatureDoesNotMatch</Code>"),
            errors.InvalidRequestError,
            "not the one that was sig",
        ),
        (
            response(400, b"<Code>MalformedSecurityHeader</Code>"),
            errors.InvalidRequestError,
            "what a proxy changed",
        ),
        (response(404, b"<Code>NoSuchKey</Code>"), errors.JobNotFoundError, "status 404 NoSuchKey"),
    ],
)
def test_a_problem_that_is_named_is_told_by_its_name(
    answer: Response, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        refuse(answer, "get job 17")


@pytest.mark.parametrize("hours_off", [-26, 0, 5])
def test_the_wait_for_a_reset_is_reckoned_by_the_servers_own_clock(hours_off: int) -> None:
    server_time = (datetime.now(UTC) + timedelta(hours=hours_off)).replace(microsecond=0)
    reset = server_time + timedelta(seconds=850)
    error = refusal(
        response(
            429,
            Date=format_datetime(server_time, usegmt=True),
            x_rate_limit_reset=str(int(reset.timestamp())),
        )
    )
    assert isinstance(error, errors.RateLimitedError)
    assert (error.wait_seconds, error.reset_at) == (850, reset)
    assert f"{reset:%H:%M:%S} UTC" in str(error)


@pytest.mark.parametrize("reset", ["", "soon", "-5", "1e3", "9" * 12, "1795348800000", "\u0661"])
def test_a_reset_that_cannot_be_read_is_none(reset: str) -> None:
    error = refusal(response(429, x_rate_limit_reset=reset))
    assert isinstance(error, errors.RateLimitedError)
    assert error.wait_seconds is error.reset_at is None


@pytest.mark.parametrize(
    ("seconds", "is_believed"), [(900, True), (86_400, True), (200_000, False), (8e9, False)]
)
def test_a_reset_that_cannot_be_true_is_none(seconds: float, is_believed: bool) -> None:
    reset = str(int(NOON.timestamp() + seconds))
    error = refusal(response(429, Date=format_datetime(NOON, usegmt=True), x_rate_limit_reset=reset))
    assert isinstance(error, errors.RateLimitedError)
    assert error.wait_seconds == (seconds if is_believed else None)
    assert ("cannot be true" in str(error)) is not is_believed


def test_a_reset_that_is_over_needs_no_wait() -> None:
    error = refusal(response(429, Date=format_datetime(NOON, usegmt=True), x_rate_limit_reset="5"))
    assert isinstance(error, errors.RateLimitedError)
    assert error.wait_seconds == 0


@pytest.mark.parametrize(
    "date",
    [
        "",
        "noon",
        "0",
        "Mon, 22 Nov 2021 10:00:00 +99999999999999999999",
        "Mon, 22 Nov 99999999999 10:00:00 GMT",
    ],
)
def test_without_a_date_that_can_be_read_the_local_clock_has_to_do(date: str) -> None:
    before = datetime.now(UTC)
    assert before <= response(200, Date=date).server_time <= datetime.now(UTC)


def test_a_date_without_zone_is_utc() -> None:
    assert response(200, Date="Sun, 22 Nov 2026 12:00:00 -0000").server_time == NOON


@pytest.mark.parametrize(
    ("status", "body", "after_expiry", "expected"),
    [
        (400, EXPIRED_XML, False, True),
        (400, b"", True, True),
        (401, b"", True, True),
        (403, b"", True, True),
        (403, b"", False, False),
        (404, b"", True, False),
        (500, b"", True, False),
        (400, b"<Code>MalformedSecurityHeader</Code>", False, False),
    ],
)
def test_a_url_has_expired_by_its_code_or_by_the_servers_clock(
    status: int, body: bytes, after_expiry: bool, expected: bool
) -> None:
    answer = response(status, body, Date=format_datetime(NOON, usegmt=True))
    assert says_expired(answer, NOON + timedelta(seconds=0 if after_expiry else 1)) is expected


@given(st.binary())
def test_a_crc32c_is_read_out_of_googles_header(content: bytes) -> None:
    crc32c = google_crc32c.value(content)
    stated = base64.b64encode(crc32c.to_bytes(4, "big")).decode()
    assert stated_crc32c(response(200, x_goog_hash=f"md5=abc==, crc32c={stated}")) == crc32c


@pytest.mark.parametrize("header", ["", "md5=AAAAAA==", "crc32c=", "crc32c=AAAA", "xcrc32c=AAAAAA=="])
def test_no_crc32c_is_none(header: str) -> None:
    assert stated_crc32c(response(200, x_goog_hash=header)) is None


class _Shape(msgspec.Struct):
    data: dict[str, str]
    errors: list[dict[str, object]] = []


@pytest.mark.parametrize("body", [b"", b"<html></html>", b'{"data"', b"{}", b'{"data":"x"}', b"\xff", DEEP])
def test_a_success_that_is_not_the_json_promised_is_a_failure_of_the_server(body: bytes) -> None:
    with pytest.raises(errors.ServerError, match="get job 17: status 200, but the body is not") as caught:
        decode(response(200, body), _Shape, "get job 17")
    assert caught.value.__context__ is None


SECRET = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters="*"),
    min_size=8,
    max_size=60,
)
FIELD = st.sampled_from(["type", "title", "detail"])


@given(
    SECRET,
    st.text(max_size=20),
    st.text(max_size=300),
    FIELD,
    st.sampled_from([400, 401, 403, 409, 429, 500]),
)
def test_what_the_request_carried_never_comes_back_in_an_errors_text(
    secret: str, before: str, after: str, field: str, status: int
) -> None:
    body = json.dumps({field: f"{before}{secret}{after}"}).encode()
    error = refusal(response(status, body, (secret,)))
    own_words = refusal(response(status))
    assert secret not in str(error) or secret in str(own_words)


@given(st.binary(max_size=200), st.integers(100, 599))
def test_no_body_makes_a_refusal_fail_otherwise(body: bytes, status: int) -> None:
    assert isinstance(refusal(response(status, body)), errors.XComplianceError)


def test_neither_requests_nor_answers_show_what_is_secret() -> None:
    shown = repr(Request("x", "GET", "https://secret")) + repr(
        response(200, b"secret", ("secret",), Location="secret")
    )
    assert "secret" not in shown
