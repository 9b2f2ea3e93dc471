import json
import logging
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.api import endpoints
from airflow_provider_xcompliance.api.errors import (
    AuthenticationError,
    InvalidRequestError,
    JobConflictError,
    ServerError,
    XComplianceError,
)
from airflow_provider_xcompliance.api.messages import Auth, Response

BASE = "https://api.x.com"
DATE = {"Date": "Sun, 22 Nov 2026 12:00:00 GMT"}
TEN_FIELDS = {
    "created_at", "download_expires_at", "download_url", "id", "name", "resumable", "status", "type",
    "upload_expires_at", "upload_url",
}  # fmt: skip
JOB = {"id": "17", "type": "tweets", "status": "created", "upload_url": "https://api.x.com/u?token=abcdefgh"}


def answer(body: object, status: int = 200) -> Response:
    return Response(
        status, DATE, body if isinstance(body, bytes) else json.dumps(body).encode(), ("abcdefgh",)
    )


@pytest.mark.parametrize(
    ("name", "resumable", "expected"),
    [
        (None, None, {"type": "users"}),
        ("", None, {"type": "users", "name": ""}),
        ("n" * 64, True, {"type": "users", "name": "n" * 64, "resumable": True}),
        ("é\n", False, {"type": "users", "name": "é\n", "resumable": False}),
    ],
)
def test_a_job_is_created_with_what_was_given_and_no_other_key(
    name: str | None, resumable: bool | None, expected: dict[str, object]
) -> None:
    request = endpoints.prepare_create(BASE, "users", name, resumable)
    assert json.loads(request.body or b"") == expected
    assert (request.method, request.auth, request.repeatable) == ("POST", Auth.BEARER, False)
    assert urlsplit(request.url).path == "/2/compliance/jobs"


@pytest.mark.parametrize(("job_type", "name"), [("tweet", None), ("tweets", "n" * 65)])
def test_a_job_that_x_would_refuse_is_not_asked_for(job_type: str, name: str | None) -> None:
    with pytest.raises(ValueError, match=r"at most 64|'tweets' or 'users'"):
        endpoints.prepare_create(BASE, job_type, name, None)


@pytest.mark.parametrize(
    ("request_", "method", "path", "query"),
    [
        (endpoints.prepare_create(BASE, "tweets", None, None), "POST", "", {}),
        (endpoints.prepare_get(BASE, "17"), "GET", "/17", {}),
        (endpoints.prepare_cancel(BASE, "17"), "DELETE", "/17", {}),
        (endpoints.prepare_list(BASE, "tweets", None), "GET", "", {"type": ["tweets"]}),
        (
            endpoints.prepare_list(BASE, "users", "failed"),
            "GET",
            "",
            {"type": ["users"], "status": ["failed"]},
        ),
    ],
    ids=["create", "get", "cancel", "list", "list by status"],
)
def test_all_ten_fields_are_asked_for(request_, method, path, query) -> None:
    parts = urlsplit(request_.url)
    given = parse_qs(parts.query)
    assert set(given.pop("compliance_job.fields")[0].split(",")) == TEN_FIELDS
    assert (request_.method, parts.path, given) == (method, "/2/compliance/jobs" + path, query)


@pytest.mark.parametrize("prepare", [endpoints.prepare_get, endpoints.prepare_cancel])
def test_no_path_is_made_of_what_is_no_job_id(prepare) -> None:
    with pytest.raises(ValueError, match="not a job id"):
        prepare(BASE, "17/../18")


def test_a_job_is_read_with_the_time_at_which_it_was_seen() -> None:
    job = endpoints.digest_job(answer({"data": JOB | {"unheard_of": {"x": 1}}}), "get job 17")
    assert (job.id, job.status, job.resumable) == ("17", "created", False)
    assert job.observed_at == datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_problems_beside_the_data_are_told_without_what_is_secret(caplog: pytest.LogCaptureFixture) -> None:
    problems = [{"title": "Odd\nthing abcdefgh", "detail": "x"}, {"detail": "y"}]
    with caplog.at_level(logging.WARNING):
        assert endpoints.digest_job(answer({"data": JOB, "errors": problems}), "get job 17").id == "17"
    assert "2 problems: Odd thing ***, untitled" in caplog.text


@pytest.mark.parametrize(
    "body", [{"meta": {"result_count": 0}}, {"data": [], "meta": {}}, {"data": None}, {}], ids=str
)
def test_no_job_is_an_empty_list(body: dict[str, object]) -> None:
    assert endpoints.digest_list(answer(body), "list tweets jobs") == []


def test_errors_instead_of_a_list_do_not_mean_that_there_is_no_job() -> None:
    with pytest.raises(ServerError, match="list tweets jobs: status 200, but the body holds errors"):
        endpoints.digest_list(answer({"errors": [{"title": "Service Unavailable"}]}), "list tweets jobs")


def test_jobs_are_listed_in_the_order_given() -> None:
    listed = endpoints.digest_list(answer({"data": [JOB, JOB | {"id": "16"}]}), "list")
    assert [job.id for job in listed] == ["17", "16"]
    assert all(job.observed_at for job in listed)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>\nsorry</html>",
        b'{"data": {"id"',
        b'{"errors":[{"a":' + b"[" * 200_000,
        {},
        {"data": None},
        {"data": []},
        {"data": JOB | {"id": 17}},
        {"data": {"id": "17"}},
        {"data": JOB | {"created_at": "yesterday"}},
        {"data": JOB | {"created_at": "2026-11-22T12:00:00"}},
    ],
    ids=lambda body: str(body)[:40],
)
def test_a_success_without_a_job_is_a_failure_of_the_server_in_one_line(body: object) -> None:
    with pytest.raises(ServerError, match=r"^get job 17: status 200, but the body [^\n]+$"):
        endpoints.digest_job(answer(body), "get job 17")


@pytest.mark.parametrize(
    ("status", "kind"), [(404, InvalidRequestError), (405, InvalidRequestError), (409, JobConflictError)]
)
def test_a_cancellation_that_x_does_not_do_says_why(status: int, kind: type[XComplianceError]) -> None:
    with pytest.raises(kind, match=f"cancel job 17: status {status}"):
        endpoints.digest_cancel(answer({}, status), "cancel job 17")


def test_a_cancelled_job_is_read() -> None:
    assert (
        endpoints.digest_cancel(answer({"data": JOB | {"status": "failed"}}), "cancel job 17").status
        == "failed"
    )


def test_a_token_is_asked_for_with_key_and_secret_and_may_be_asked_for_again() -> None:
    request = endpoints.prepare_token(BASE)
    assert (request.method, request.url) == ("POST", "https://api.x.com/oauth2/token")
    assert (request.auth, request.body, request.repeatable) == (
        Auth.BASIC,
        b"grant_type=client_credentials",
        True,
    )


def test_a_token_is_read() -> None:
    assert endpoints.digest_token(answer({"token_type": "Bearer", "access_token": "AAA%2F"}), "x") == "AAA%2F"


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (403, {"errors": [{"code": 99, "message": "Unable"}]}, AuthenticationError, "API key and secret"),
        (401, {}, AuthenticationError, "check its token or key"),
        (503, b"", ServerError, "try again later"),
        (200, b"<html>", ServerError, "not the JSON"),
        (200, {"token_type": "bearer"}, ServerError, "not the JSON"),
        (200, {"token_type": "mac", "access_token": "x"}, ServerError, "no bearer token"),
        (200, {"token_type": "bearer", "access_token": ""}, ServerError, "no bearer token"),
        (200, {"token_type": "bearer", "access_token": "a\r\nHost: evil"}, ServerError, "no bearer token"),
    ],
)
def test_no_token_is_a_clear_failure(
    status: int, body: object, kind: type[XComplianceError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        endpoints.digest_token(answer(body, status), "exchange")


DIGESTS = [endpoints.digest_job, endpoints.digest_list, endpoints.digest_cancel, endpoints.digest_token]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=9)
    | st.sampled_from(["17", "tweets", "created"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "id", "type", "status", "errors", "title", "access_token"]), inner
        )
    ),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())


@given(
    st.sampled_from(DIGESTS),
    st.binary(max_size=99) | JSON,
    st.sampled_from([200, 201, 302, 400, 403, 429, 500]),
)
def test_whatever_the_body_it_is_understood_or_one_of_our_errors(digest, body: bytes, status: int) -> None:
    said = ""
    try:
        digest(answer(body, status), "do it")
    except XComplianceError as error:
        said = str(error)
    assert "\n" not in said
