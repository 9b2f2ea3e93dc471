import logging
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import google_crc32c
import msgspec
import pytest
from urllib3.exceptions import ConnectTimeoutError

from airflow_provider_xcompliance.api import errors
from airflow_provider_xcompliance.api.client import XComplianceClient, retry_wait
from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.api.transport import Credentials, Transport
from airflow_provider_xcompliance.api.urls import Flow, UrlPolicy
from tests.servers.recording_proxy import Trickle

BIG = b"".join(b"%d\n" % (1265324480517361664 + number) for number in range(35_000))
RESULT = b'{"id":"1","action":"delete"}\n{"id":"2","action":"delete"}\n'
BIG_RESULT = RESULT * 12_000
GATEWAY = "<html><h1>502 Bad Gateway</h1></html>"


def count(session: Any, endpoint: str) -> int:
    return len(session.emulator.requests(endpoint))


# The JSON endpoints


def test_a_job_is_created_seen_listed_and_cancelled(session: Any) -> None:
    assert session.client.list_jobs("tweets") == []
    job = session.create()
    assert (job.type, job.status, job.name) == ("tweets", "created", "nightly")
    assert job.upload_expires_at - job.created_at == timedelta(minutes=15)
    assert [listed.id for listed in session.client.list_jobs("tweets", "created")] == [job.id]
    assert session.client.list_jobs("users") == []
    assert session.client.cancel_job(job.id).status == "failed"
    assert session.client.get_job(job.id).status == "failed"


@pytest.mark.usefixtures("legacy")
def test_a_job_of_the_legacy_flow_cannot_be_cancelled(session: Any) -> None:
    job = session.create()
    with pytest.raises(errors.InvalidRequestError, match="legacy flow"):
        session.client.cancel_job(job.id)


def test_a_job_that_ended_otherwise_is_not_cancelled(session: Any) -> None:
    job = session.complete(RESULT)
    with pytest.raises(errors.JobConflictError, match="cancel job"):
        session.client.cancel_job(job.id)


def test_a_second_job_of_a_type_is_a_conflict(session: Any, flow: str) -> None:
    session.create()
    with pytest.raises(errors.JobConflictError, match="another job of this type is active"):
        session.create()
    assert session.sleeps == []


def test_a_job_that_does_not_exist_is_told(session: Any) -> None:
    with pytest.raises(errors.JobNotFoundError, match="check the job id"):
        session.client.get_job("1")


CALLS: dict[str, Callable[[XComplianceClient, str], Any]] = {
    "get": lambda client, job_id: client.get_job(job_id),
    "list": lambda client, _: client.list_jobs("tweets"),
    "cancel": lambda client, job_id: client.cancel_job(job_id),
}
SWOONS = {
    "gateway's page": {"action": "status", "status": 200, "body": GATEWAY, "content_type": "text/html"},
    "empty body": {"action": "status", "status": 200, "body": ""},
    "no JSON": {"action": "status", "status": 200, "body": '{"data": {"id": "1'},
    "502": {"action": "status", "status": 502, "body": GATEWAY},
    "408": {"action": "status", "status": 408},
    "cut": {"action": "cut", "at": 5},
    "reset": {"action": "reset"},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", SWOONS)
def test_what_passes_is_waited_out(session: Any, call: str, fault: str) -> None:
    job = session.create()
    session.emulator.add_fault(endpoint=call, times=4, **SWOONS[fault])
    assert CALLS[call](session.client, job.id)
    assert count(session, call) == 5
    assert [0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(session.sleeps, 1)] == [True] * 4


@pytest.mark.parametrize("fault", SWOONS)
def test_what_does_not_pass_becomes_one_clear_line(
    session: Any, fault: str, assert_no_secret: Callable[..., None]
) -> None:
    job = session.create()
    session.emulator.add_fault(endpoint="get", times=0, **SWOONS[fault])
    with pytest.raises(errors.TRANSIENT_ERRORS, match=rf"^get job {job.id}: [^\n]{{10,250}}$") as caught:
        session.client.get_job(job.id)
    assert count(session, "get") == 5
    assert_no_secret(caught.value)


@pytest.mark.parametrize("after_effect", [True, False])
@pytest.mark.parametrize("fault", ["reset", "502", "gateway's page", "cut"])
def test_a_creation_that_may_have_arrived_is_never_repeated(
    session: Any, fault: str, after_effect: bool
) -> None:
    session.emulator.add_fault(endpoint="create", times=0, after_effect=after_effect, **SWOONS[fault])
    with pytest.raises((errors.NetworkError, errors.ServerError)) as caught:
        session.create()
    assert getattr(caught.value, "delivered", True)
    assert (count(session, "create"), session.sleeps) == (1, [])


def test_a_creation_that_times_out_is_never_repeated(session: Any) -> None:
    session.emulator.add_fault("stall", endpoint="create", times=0)
    with pytest.raises(errors.NetworkError):
        session.new_client(timeout_seconds=0.1).create_job("tweets")
    assert count(session, "create") == 1


def test_a_creation_that_never_arrived_is_repeated() -> None:
    sleeps: list[float] = []
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        policy = UrlPolicy(f"http://127.0.0.1:{unused.getsockname()[1]}")
        client = XComplianceClient(Transport(policy, Credentials("b")), policy, sleep=sleeps.append)
        with pytest.raises(errors.NetworkError, match="no connection could be made"):
            client.create_job("tweets")
    assert len(sleeps) == 4


def test_a_creation_beside_an_earlier_failure_is_not_repeated_either(session: Any) -> None:
    def create_while_dealing_with_another_failure() -> None:
        try:
            raise ConnectTimeoutError
        except ConnectTimeoutError:
            session.create()

    session.emulator.add_fault("reset", endpoint="create", times=0)
    with pytest.raises(errors.NetworkError, match="the connection was cut"):
        create_while_dealing_with_another_failure()
    assert count(session, "create") == 1


# Rate limits


@pytest.mark.parametrize("hours_off", [0, 3])
@pytest.mark.parametrize("endpoint", ["create", "get", "upload", "download"])
def test_a_rate_limit_is_waited_out_by_the_servers_clock(session: Any, endpoint: str, hours_off: int) -> None:
    session.emulator.advance(hours_off * 3600)
    session.emulator.add_fault("rate_limit", endpoint=endpoint, seconds=100)
    job = session.create()
    session.upload(job)
    session.download(session.client.get_job(job.id))
    assert len(session.sleeps) == 1
    assert 100 <= session.sleeps[0] <= 106
    assert count(session, endpoint) >= 2


def test_a_rate_limit_that_lasts_longer_than_allowed_carries_its_reset(session: Any) -> None:
    session.emulator.add_fault("rate_limit", endpoint="get", seconds=1000)
    with pytest.raises(errors.RateLimitedError, match=r"resets in .* UTC") as caught:
        session.client.get_job("1")
    assert 998 <= caught.value.wait_seconds <= 1002
    assert caught.value.reset_at.timestamp() == pytest.approx(session.emulator.now() + 1000, abs=5)
    assert session.sleeps == []


def test_a_caller_that_does_not_want_to_wait_is_told_at_once(session: Any) -> None:
    session.emulator.add_fault("rate_limit", endpoint="get", seconds=0)
    with pytest.raises(errors.RateLimitedError):
        session.new_client(max_rate_limit_wait=0).get_job("1")
    assert session.sleeps == []


RATE_LIMITED = errors.RateLimitedError("x", wait_seconds=100)


@pytest.mark.parametrize(
    ("error", "tries", "repeatable", "expected"),
    [
        (errors.ServerError("x"), 1, True, (1, 2)),
        (errors.ServerError("x"), 4, True, (8, 16)),
        (errors.ServerError("x"), 60, True, (15, 30)),
        (errors.ServerError("x"), 1, False, None),
        (errors.IntegrityError("x"), 1, True, (1, 2)),
        (errors.NetworkError("x", delivered=True), 1, True, (1, 2)),
        (errors.NetworkError("x", delivered=True), 1, False, None),
        (errors.NetworkError("x", delivered=False), 1, False, (1, 2)),
        (RATE_LIMITED, 1, True, (100, 105)),
        (RATE_LIMITED, 1, False, (100, 105)),
        (errors.RateLimitedError("x"), 2, False, (2, 4.2)),
        (errors.RateLimitedError("x", wait_seconds=0), 1, True, (1, 2.1)),
        (errors.RateLimitedError("x", wait_seconds=199), 1, True, (199, 200)),
        (errors.RateLimitedError("x", wait_seconds=201), 1, True, None),
        (errors.UsageCappedError("x"), 1, True, None),
        (errors.UrlExpiredError("x"), 1, True, None),
        (errors.AuthenticationError("x"), 1, True, None),
        (errors.InvalidRequestError("x"), 1, True, None),
        (errors.DeadlineError("x"), 1, True, None),
        (errors.CertificateError("x"), 1, True, None),
    ],
)
def test_how_long_to_wait_before_trying_again(
    error: errors.XComplianceError, tries: int, repeatable: bool, expected: tuple[float, float] | None
) -> None:
    wait = retry_wait(error, tries, 200, repeatable=repeatable)
    assert wait is None if expected is None else expected[0] <= wait <= expected[1]


# Upload


WAYS = pytest.mark.parametrize("way", ["current", "legacy", "resumable"])


def new_job(session: Any, way: str) -> Job:
    session.emulator.configure(flow="current" if way == "current" else "legacy", processing_seconds=3600)
    return session.create(resumable=True if way == "resumable" else None)


def body_endpoint(way: str) -> str:
    return "resumable_put" if way == "resumable" else "upload"


@WAYS
def test_ids_go_up_and_only_x_itself_sees_the_bearer(session: Any, way: str) -> None:
    job = new_job(session, way)
    session.upload(job)
    (found,) = session.emulator.jobs()
    assert (found["status"], found["submitted_bytes"]) == ("in_progress", len(session.ids))
    sent = [
        entry
        for entry in session.emulator.requests()
        if entry["method"] == "PUT" or "start" in entry["endpoint"]
    ]
    assert len(sent) == (2 if way == "resumable" else 1)
    assert all(entry["has_authorization"] is (way == "current") for entry in sent)
    assert sent[-1]["headers"]["content-length"] == str(len(session.ids))
    assert "transfer-encoding" not in sent[-1]["headers"]


@WAYS
def test_the_limit_is_the_flows_own(session: Any, way: str) -> None:
    flow = Flow.CURRENT if way == "current" else Flow.LEGACY
    assert session.client.upload_limit(new_job(session, way)) == flow.value


@pytest.mark.parametrize(("setting", "sent"), [(None, "text/plain"), ("application/octet-stream",) * 2])
def test_the_content_type_of_the_current_flow_is_a_setting(
    session: Any, setting: str | None, sent: str
) -> None:
    session.emulator.configure(upload_content_type=sent)
    options = {"upload_content_type": setting} if setting else {}
    session.upload(session.create(), client=session.new_client(**options))
    assert session.emulator.requests("upload")[0]["headers"]["content-type"] == sent


def test_the_legacy_flow_ignores_that_setting_because_the_type_is_signed(session: Any) -> None:
    job = new_job(session, "legacy")
    session.upload(job, client=session.new_client(upload_content_type="application/octet-stream"))
    assert session.emulator.jobs()[0]["status"] == "in_progress"


@WAYS
@pytest.mark.parametrize(
    "fault",
    [{"action": "reset"}, {"action": "cut_upload", "at": 1000}, {"action": "status", "status": 503}],
    ids=str,
)
def test_an_upload_that_broke_is_sent_again(session: Any, way: str, fault: dict[str, Any]) -> None:
    job = new_job(session, way)
    session.emulator.add_fault(endpoint=body_endpoint(way), times=2, **fault)
    session.upload(job)
    (found,) = session.emulator.jobs()
    assert (found["status"], found["submitted_bytes"]) == ("in_progress", len(session.ids))
    assert len(session.sleeps) == 2


@WAYS
@pytest.mark.parametrize(
    "fault", [{"action": "reset"}, {"action": "status", "status": 502, "body": GATEWAY}], ids=str
)
def test_an_upload_whose_answer_was_lost_is_not_sent_again(
    session: Any, way: str, fault: dict[str, Any]
) -> None:
    job = new_job(session, way)
    session.emulator.add_fault(endpoint=body_endpoint(way), after_effect=True, **fault)
    session.upload(job)
    with_body = [
        entry for entry in session.emulator.requests(body_endpoint(way))
        if entry["headers"]["content-length"] != "0"
    ]  # fmt: skip
    assert len(with_body) == 1


def test_an_upload_is_believed_if_x_tells_late_that_the_first_one_arrived(session: Any) -> None:
    job = new_job(session, "current")
    session.emulator.add_fault("reset", endpoint="upload", after_effect=True)
    stale = {"data": {"id": job.id, "type": "tweets", "status": "created"}}
    session.emulator.add_fault("status", endpoint="get", status=200, body=stale)
    session.upload(job)
    assert (count(session, "upload"), count(session, "get")) == (2, 2)


def test_ids_that_somebody_else_sent_are_not_taken_for_ours(session: Any) -> None:
    job = new_job(session, "current")
    session.upload(job)
    with pytest.raises(errors.JobConflictError):
        session.upload(job)


@pytest.mark.parametrize("status", ["in_progress", "complete", "failed", "expired", "paused"])
def test_a_job_that_does_not_wait_for_ids_gets_none(session: Any, status: str) -> None:
    job = session.create()
    expected = errors.UrlExpiredError if status == "expired" else errors.JobConflictError
    with pytest.raises(expected, match=job.id):
        session.upload(msgspec.structs.replace(job, status=status))
    assert count(session, "upload") == 0


@WAYS
def test_a_window_known_to_be_over_costs_no_upload(session: Any, way: str) -> None:
    job = new_job(session, way)
    session.emulator.advance(901)
    # As seen now, but before X says that it expired.
    job = msgspec.structs.replace(session.client.get_job(job.id), status="created")
    with pytest.raises(errors.UrlExpiredError, match="create a new job"):
        session.upload(job)
    assert not any(entry["method"] == "PUT" for entry in session.emulator.requests())


@WAYS
def test_a_window_that_ends_on_the_way_is_no_missing_permission(
    session: Any, way: str, assert_no_secret: Callable[..., None]
) -> None:
    job = new_job(session, way)
    session.emulator.advance(901)
    with pytest.raises(
        errors.UrlExpiredError, match=r"15 minutes .* by X's clock; create a new job"
    ) as caught:
        session.upload(job)
    assert_no_secret(caught.value, job.upload_url, job.upload_url.split("?")[1])
    assert session.sleeps == []


def test_an_upload_that_broke_is_not_repeated_after_its_window(session: Any, flow: str) -> None:
    job = session.create()
    session.emulator.add_fault("reset", endpoint="upload", times=0)
    session.on_sleep = lambda: session.emulator.advance(901)
    with pytest.raises(errors.UrlExpiredError, match="create a new job"):
        session.upload(job)
    assert count(session, "upload") == 2


class Clock:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@WAYS
def test_an_upload_has_a_deadline_for_the_whole(session: Any, way: str) -> None:
    job, clock = new_job(session, way), Clock()
    session.emulator.add_fault("reset", endpoint=body_endpoint(way), times=0)
    session.on_sleep = lambda: setattr(clock, "now", clock.now + 500)
    expected = (
        (errors.DeadlineError, f"upload to job {job.id}: not done within 0.3 hours")
        if way == "resumable"
        else (errors.UrlExpiredError, "15 minutes")
    )
    with pytest.raises(expected[0], match=expected[1]):
        session.upload(job, client=session.new_client(clock=clock, max_transfer_seconds=1000))
    assert count(session, body_endpoint(way)) == 2


@pytest.mark.parametrize("way", ["current", "legacy"])
def test_only_an_upload_that_can_be_resumed_may_outlast_the_window(session: Any, way: str) -> None:
    clock = Clock()
    session.emulator.add_fault("reset", endpoint="upload", times=1)
    session.on_sleep = lambda: setattr(clock, "now", 901)
    with pytest.raises(errors.UrlExpiredError, match="15 minutes"):
        session.upload(new_job(session, way), client=session.new_client(clock=clock))
    job = session.client.list_jobs("tweets")[0]
    session.emulator.set_job(job.id, "failed")
    session.emulator.add_fault("reset", endpoint="resumable_put", times=1)
    session.upload(new_job(session, "resumable"), client=session.new_client(clock=clock))


def test_an_answer_that_trickles_holds_nobody_for_ever(tmp_path: Path) -> None:
    server = Trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{", 0.01)
    policy = UrlPolicy(server.url)
    transport = Transport(policy, Credentials("b"), timeout_seconds=0.04)
    sleeps: list[float] = []
    client = XComplianceClient(transport, policy, sleep=sleeps.append)
    try:
        with pytest.raises(errors.NetworkError, match="did not go on in time"):
            client.get_job("1")
    finally:
        server.close()
    assert (server.requests, len(sleeps)) == (5, 4)


def test_a_job_that_was_cancelled_meanwhile_is_told(session: Any) -> None:
    job = session.create()
    session.emulator.add_fault("reset", endpoint="upload", times=0)
    session.on_sleep = lambda: session.client.cancel_job(job.id)
    with pytest.raises(errors.JobConflictError, match="was cancelled; create a new job"):
        session.upload(job)


def test_a_file_over_the_limit_is_told(session: Any) -> None:
    session.emulator.configure(upload_limit=1000)
    with pytest.raises(errors.UploadTooLargeError, match="split it"):
        session.upload(session.create())


@pytest.mark.usefixtures("legacy")
def test_other_bytes_in_store_than_were_sent_are_no_success_even_if_the_job_goes_on(
    session: Any, tmp_path: Path
) -> None:
    job = session.create()
    # With this the client has reason to look at the job, which says that it has its ids.
    session.emulator.add_fault("reset", endpoint="upload")
    path = tmp_path / "ids"
    path.write_bytes(session.ids)
    with pytest.raises(errors.IntegrityError, match="crc32c differs"):
        session.client.upload(job, path, google_crc32c.value(session.ids) ^ 1)


@pytest.mark.parametrize("url", ["https://storage.googleapis.com.evil.example/?X-Goog-Signature=a", None])
def test_an_upload_to_nowhere_or_elsewhere_does_not_leave(session: Any, url: str | None) -> None:
    job = msgspec.structs.replace(session.create(), upload_url=url)
    with pytest.raises((errors.UrlRefusedError, errors.ServerError), match=r"evil.example|no upload URL"):
        session.upload(job)


# Resumable


@pytest.mark.parametrize("at", [0, 1, 262_143, 262_144, 262_145, 400_000, 524_288, 600_000, len(BIG) - 1])
def test_a_resumable_upload_goes_on_from_what_is_stored(session: Any, at: int) -> None:
    job = new_job(session, "resumable")
    session.emulator.add_fault("cut_upload", endpoint="resumable_put", at=at)
    session.upload(job, BIG)
    (found,) = session.emulator.jobs()
    assert (found["status"], found["submitted_bytes"]) == ("in_progress", len(BIG))
    ranges = [entry["headers"]["content-range"] for entry in session.emulator.requests("resumable_put")]
    stored = at // 262_144 * 262_144
    last = len(BIG) - 1
    assert ranges == [
        f"bytes 0-{last}/{last + 1}",
        f"bytes */{last + 1}",
        f"bytes {stored}-{last}/{last + 1}",
    ]
    assert count(session, "resumable_start") == 1
    # The session can tell, so no request is paid for.
    assert count(session, "get") == 0


def test_an_upload_that_breaks_often_but_goes_on_is_not_given_up(session: Any) -> None:
    job = new_job(session, "resumable")
    for nth in range(1, 5, 2):
        # Each second request is the question how much is stored.
        session.emulator.add_fault("cut_upload", endpoint="resumable_put", at=262_144, nth=nth)
    session.upload(job, BIG, client=session.new_client(max_tries=2))
    assert session.emulator.jobs()[0]["submitted_bytes"] == len(BIG)
    assert count(session, "resumable_put") == 5


@pytest.mark.parametrize("past_the_window", [False, True])
def test_a_session_that_is_gone_is_begun_anew_while_the_window_lasts(
    session: Any, past_the_window: bool
) -> None:
    job = new_job(session, "resumable")
    session.emulator.add_fault("cut_upload", endpoint="resumable_put", at=300_000)

    def lose() -> None:
        if len(session.sleeps) == 1:
            session.emulator.lose_sessions(job.id)
            session.emulator.advance(901 if past_the_window else 0)

    session.on_sleep = lose
    if past_the_window:
        with pytest.raises(errors.UrlExpiredError, match="create a new job"):
            session.upload(job, BIG)
        return
    session.upload(job, BIG)
    assert count(session, "resumable_start") == 2
    assert session.emulator.jobs()[0]["submitted_bytes"] == len(BIG)


def test_a_session_goes_on_when_the_window_is_over(session: Any) -> None:
    job = new_job(session, "resumable")
    session.emulator.add_fault("cut_upload", endpoint="resumable_put", at=300_000)
    session.on_sleep = lambda: session.emulator.advance(3600)
    session.upload(job, BIG)
    assert session.emulator.jobs()[0]["submitted_bytes"] == len(BIG)


def test_a_session_that_never_stores_anything_is_given_up(session: Any) -> None:
    job = new_job(session, "resumable")
    session.emulator.add_fault("status", endpoint="resumable_put", status=308, times=0)
    with pytest.raises(errors.ServerError, match="stored nothing"):
        session.upload(job)
    assert len(session.sleeps) == 4


def test_a_session_elsewhere_gets_no_packet(session: Any) -> None:
    job = new_job(session, "resumable")
    location = "https://evil.example/?upload_id=abcdefghijklmnopqrst"
    session.emulator.add_fault("redirect", endpoint="resumable_start", status=201, location=location)
    with pytest.raises(errors.UrlRefusedError, match=r"evil.example:443") as caught:
        session.upload(job)
    assert "abcdefghijklmnopqrst" not in str(caught.value)


# Download


def test_a_result_comes_down_and_only_x_itself_sees_the_bearer(session: Any, flow: str) -> None:
    told: list[tuple[int, int | None]] = []
    job = session.complete(BIG_RESULT)
    path = session.directory / "result"
    path.write_bytes(b"older and longer" * 99_999)
    result = session.client.download(job, path, lambda *arguments: told.append(arguments))
    assert path.read_bytes() == BIG_RESULT
    assert (result.bytes, result.crc32c) == (len(BIG_RESULT), google_crc32c.value(BIG_RESULT))
    assert not result.unverified_length
    assert told[-1] == (len(BIG_RESULT), len(BIG_RESULT))
    (asked,) = session.emulator.requests("download")
    assert asked["has_authorization"] is (flow == "current")
    assert asked["headers"]["accept-encoding"] == "identity"


def test_an_empty_result_is_a_result(session: Any, flow: str) -> None:
    result, content = session.download(session.complete(b""))
    assert (result.bytes, content, result.unverified_length) == (0, b"", False)


FRAMINGS = [
    ("current", "length", False),
    ("current", "length", True),
    ("current", "chunked", False),
    ("current", "chunked", True),
    ("current", "close", False),
    ("current", "close", True),
    ("legacy", "length", True),
]


@pytest.mark.parametrize(("flow_", "framing", "digest"), FRAMINGS)
def test_a_result_cut_at_any_byte_is_accepted_nowhere_that_can_tell(
    session: Any, flow_: str, framing: str, digest: bool
) -> None:
    session.emulator.configure(flow=flow_, download_framing=framing, download_digest=digest)
    job = session.complete(RESULT)
    once = session.new_client(max_tries=1)
    for at in range(len(RESULT)):
        session.emulator.clear_faults()
        session.emulator.add_fault("cut", endpoint="download", at=at)
        if framing != "close" or digest:
            with pytest.raises((errors.NetworkError, errors.IntegrityError)):
                session.download(job, once)
        else:
            result, content = session.download(job, once)
            assert (content, result.bytes) == (RESULT[:at], at)
            assert result.unverified_length
    result, content = session.download(job, once)
    assert content == RESULT
    assert result.unverified_length is (framing == "close" and not digest)


@pytest.mark.parametrize(
    ("flow_", "framing", "digest"), [row for row in FRAMINGS if row[1] != "close" or row[2]]
)
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("at", [0, 1, 1000, 262_144, 500_000, len(BIG_RESULT) - 1])
def test_a_download_that_broke_ends_with_the_same_bytes(
    session: Any, flow_: str, framing: str, digest: bool, ranges: bool, at: int
) -> None:
    session.emulator.configure(
        flow=flow_, download_framing=framing, download_digest=digest, download_ranges=ranges
    )
    job = session.complete(BIG_RESULT)
    session.emulator.add_fault("cut", endpoint="download", at=at)
    result, content = session.download(job)
    assert content == BIG_RESULT
    assert result.crc32c == google_crc32c.value(BIG_RESULT)
    assert not result.unverified_length
    _, second = session.emulator.requests("download")
    # Without a framing the break is only seen at the end, as a wrong checksum.
    resumes = (ranges or flow_ == "legacy") and at > 0 and framing != "close"
    assert second["headers"].get("range") == (f"bytes={at}-" if resumes else None)
    assert ("if-match" in second["headers"]) is resumes


def test_a_download_that_breaks_often_but_goes_on_is_not_given_up(session: Any) -> None:
    session.emulator.configure(download_ranges=True)
    job = session.complete(BIG_RESULT)
    session.emulator.add_fault("cut", endpoint="download", at=100_000, times=0)
    _, content = session.download(job, session.new_client(max_tries=2))
    assert content == BIG_RESULT


@pytest.mark.parametrize(("ranges", "tries"), [(True, 2), (False, 5)])
def test_a_download_that_does_not_get_further_is_given_up(session: Any, ranges: bool, tries: int) -> None:
    session.emulator.configure(download_ranges=ranges)
    job = session.complete(RESULT)
    session.emulator.add_fault("cut", endpoint="download", at=40, times=0)
    if ranges:
        # The rest is shorter than that.
        assert session.download(job)[1] == RESULT
        assert count(session, "download") == tries
        return
    with pytest.raises(errors.NetworkError, match="in the middle of the body"):
        session.download(job)
    # The first try came further than nothing, so it does not count.
    assert count(session, "download") == tries


def test_a_stalled_download_goes_on(session: Any) -> None:
    session.emulator.configure(download_ranges=True)
    job = session.complete(BIG_RESULT)
    session.emulator.add_fault("stall", endpoint="download", at=300_000)
    _, content = session.download(job, session.new_client(timeout_seconds=0.2))
    assert content == BIG_RESULT
    assert session.emulator.requests("download")[1]["headers"]["range"] == "bytes=300000-"


def test_a_result_that_changed_meanwhile_is_fetched_anew(session: Any) -> None:
    session.emulator.configure(download_ranges=True)
    job = session.complete(BIG_RESULT)
    session.emulator.add_fault("cut", endpoint="download", at=1000)
    session.on_sleep = lambda: session.emulator.set_result(job.id, RESULT)
    assert session.download(job)[1] == RESULT
    assert [entry["status"] for entry in session.emulator.requests("download")] == [200, 412, 200]


@pytest.mark.parametrize("at", [0, 30, len(RESULT) - 1])
def test_a_corrupt_result_is_fetched_anew_and_never_accepted(session: Any, flow: str, at: int) -> None:
    session.emulator.configure(download_digest=True)
    job = session.complete(RESULT)
    session.emulator.add_fault("corrupt", endpoint="download", at=at)
    assert session.download(job)[1] == RESULT
    session.emulator.add_fault("corrupt", endpoint="download", at=at, times=0)
    with pytest.raises(errors.IntegrityError, match="crc32c differs"):
        session.download(job)


def test_a_rest_that_is_corrupt_is_fetched_anew_from_the_first_byte(session: Any) -> None:
    session.emulator.configure(download_digest=True, download_ranges=True)
    job = session.complete(BIG_RESULT)
    session.emulator.add_fault("cut", endpoint="download", at=1000)
    session.emulator.add_fault("corrupt", endpoint="download", at=1000, nth=2)
    assert session.download(job)[1] == BIG_RESULT
    asked = [entry["headers"].get("range") for entry in session.emulator.requests("download")]
    assert asked == [None, "bytes=1000-", None]


@pytest.mark.parametrize("offset", [7, -7])
def test_a_wrong_length_is_seen_by_the_framing_or_by_the_checksum(
    session: Any, flow: str, offset: int
) -> None:
    session.emulator.configure(download_digest=True)
    job = session.complete(RESULT)
    session.emulator.add_fault("wrong_length", endpoint="download", offset=offset, times=0)
    with pytest.raises((errors.NetworkError, errors.IntegrityError)):
        session.download(job)


@pytest.mark.parametrize("body", [GATEWAY, ""])
def test_a_gateways_page_is_no_result(session: Any, flow: str, body: str) -> None:
    job = session.complete(RESULT)
    page = {"status": 200, "body": body, "content_type": "text/html"}
    session.emulator.add_fault("status", endpoint="download", **page)
    assert session.download(job)[1] == RESULT
    session.emulator.add_fault("status", endpoint="download", times=0, **page)
    with pytest.raises(errors.ServerError, match="no result, but of Content-Type text/html"):
        session.download(job)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_download_after_its_7_days_is_no_missing_permission(
    session: Any, flow: str, status: int, assert_no_secret: Callable[..., None]
) -> None:
    job = session.complete(RESULT)
    session.emulator.advance(7 * 86_400 + 1)
    session.emulator.add_fault("status", endpoint="download", nth=2, status=status)
    for _ in range(2):
        with pytest.raises(errors.UrlExpiredError, match=r"the 7 days .* run a new job") as caught:
            session.download(job)
        assert_no_secret(caught.value, job.download_url.split("?")[1])
    assert session.sleeps == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("created", "no results yet"),
        ("in_progress", "no results yet"),
        ("failed", "new job"),
        ("expired", "new job"),
    ],
)
def test_a_job_that_is_not_complete_has_no_result(session: Any, status: str, words: str) -> None:
    job = msgspec.structs.replace(session.complete(RESULT), status=status)
    with pytest.raises(errors.JobConflictError, match=words):
        session.download(job)
    assert count(session, "download") == 0


def test_a_download_has_a_deadline_for_the_whole(session: Any) -> None:
    ticks = iter(range(0, 10**9, 1800))
    slow = session.new_client(max_transfer_seconds=3600, clock=lambda: next(ticks))
    job = session.complete(BIG_RESULT * 3)
    with pytest.raises(
        errors.DeadlineError, match=r"download the results of job .* not done within 1.0 hours"
    ):
        session.download(job, slow)
    assert session.sleeps == []


# Raw framings: what the stand-in does not produce


def raw_download(server: Any, path: Path, tries: int = 3) -> tuple[bytes, bool]:
    policy = UrlPolicy(server.url)
    transport = Transport(policy, Credentials("bearer"), timeout_seconds=20)
    client = XComplianceClient(transport, policy, sleep=lambda _: None, max_tries=tries)
    job = Job(
        id="1",
        type="tweets",
        status="complete",
        download_url=f"{server.url}/2/compliance/jobs/1/download?token=t",
    )
    path.touch()
    result = client.download(job, path)
    return path.read_bytes(), result.unverified_length


def http(status: int, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", *headers, "", ""]).encode() + body


PART = http(200, 'ETag: "1"', "Accept-Ranges: bytes", "Content-Length: 10", body=b"01234")


@pytest.mark.parametrize(
    "rest",
    [
        http(206, "Content-Range: bytes 4-9/10", "Content-Length: 6", body=b"456789"),
        http(206, "Content-Range: bytes 5-9/11", "Content-Length: 5", body=b"56789"),
        http(206, "Content-Length: 5", body=b"56789"),
        http(206, "Content-Range: bytes 5-9/10", 'ETag: "2"', "Content-Length: 5", body=b"xxxxx"),
        http(416, "Content-Range: bytes */10", "Content-Length: 0"),
        http(412, "Content-Length: 0"),
    ],
)
def test_a_rest_that_does_not_fit_is_thrown_away(
    serve: Callable[..., Any], tmp_path: Path, rest: bytes
) -> None:
    server = serve(PART, rest, http(200, "Content-Length: 3", body=b"new"))
    assert raw_download(server, tmp_path / "result") == (b"new", False)
    assert [b"Range: bytes=5-\r\n" in request for request in server.requests] == [False, True, False]


def test_a_rest_that_is_cut_too_is_resumed_again(serve: Callable[..., Any], tmp_path: Path) -> None:
    server = serve(
        PART,
        http(206, "Content-Range: bytes 5-9/10", "Content-Length: 5", body=b"56"),
        http(206, "Content-Range: bytes 7-9/10", "Content-Length: 3", body=b"789"),
    )
    assert raw_download(server, tmp_path / "result", tries=2) == (b"0123456789", False)


def test_a_server_that_ignores_the_range_starts_again(serve: Callable[..., Any], tmp_path: Path) -> None:
    server = serve(PART, http(200, "Content-Length: 4", body=b"abcd"))
    assert raw_download(server, tmp_path / "result") == (b"abcd", False)


@pytest.mark.parametrize(
    "first",
    [
        http(200, 'ETag: W/"1"', "Accept-Ranges: bytes", "Content-Length: 10", body=b"01234"),
        http(200, 'ETag: "1"', "Content-Length: 10", body=b"01234"),
        http(200, "Accept-Ranges: bytes", "Content-Length: 10", body=b"01234"),
    ],
    ids=["weak", "no Accept-Ranges", "no ETag"],
)
def test_without_a_strong_tag_and_ranges_it_starts_again(
    serve: Callable[..., Any], tmp_path: Path, first: bytes
) -> None:
    server = serve(first, http(200, "Content-Length: 4", body=b"abcd"))
    assert raw_download(server, tmp_path / "result") == (b"abcd", False)
    assert b"Range:" not in server.requests[1]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (http(200, body=b"abc"), (b"abc", True)),
        (http(200, body=b""), (b"", True)),
        (http(200, "x-goog-hash: crc32c=NksCew==", body=b"abc"), None),
        (http(200, "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"), (b"abc", False)),
        (http(200, "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n"), (b"abc", False)),
        (http(200, "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n"), None),
        (http(200, "Transfer-Encoding: chunked", body=b"03\r\nabc\r\n00\r\n\r\n"), (b"abc", False)),
        (http(200, "Transfer-Encoding: chunked", body=b"03\r\nabc\r\n0"), None),
        (http(200, "Transfer-Encoding: chunked", body=b"03\r\nabc\r\n00\r"), None),
        (http(200, "Transfer-Encoding: chunked", body=b""), None),
        (http(200, "Content-Length: 2", body=b"abc"), (b"ab", False)),
        (http(200, "Content-Length: 4", body=b"abc"), None),
        (http(200, "Content-Length: 3", "Content-Encoding: gzip", body=b"abc"), None),
    ],
)
def test_the_framing_decides_what_is_whole(
    serve: Callable[..., Any], tmp_path: Path, reply: bytes, expected: tuple[bytes, bool] | None
) -> None:
    if expected is not None:
        assert raw_download(serve(reply), tmp_path / "result") == expected
        return
    with pytest.raises(errors.TRANSIENT_ERRORS):
        raw_download(serve(reply), tmp_path / "result")


# Secrets


@pytest.mark.parametrize("way", ["current", "legacy", "resumable"])
def test_a_whole_life_leaves_no_secret_in_the_logs(
    session_with_key: Any, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    session = session_with_key
    with caplog.at_level(logging.DEBUG):
        job = new_job(session, way)
        session.emulator.add_fault("reset", endpoint=body_endpoint(way))
        session.upload(job)
        session.emulator.advance(3601)
        job = session.client.get_job(job.id)
        session.emulator.add_fault("cut", endpoint="download", at=5)
        session.download(job)
    # The stand-in's own log of its requests is not ours.
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "PUT /" in text
    assert "trying again" in text
    secrets = [session.emulator.bearer_token, session.emulator.api_key, session.emulator.api_secret]
    for url in (job.upload_url, job.download_url):
        secrets += [
            pair.partition("=")[2] for pair in url.split("?")[1].split("&") if "oken" in pair or "Sig" in pair
        ]
    secrets = [secret for secret in secrets if len(secret) > 15]
    assert len(secrets) >= 5
    assert not [secret for secret in secrets if secret in text]
    assert count(session, "oauth") == 1


@pytest.mark.parametrize("status", [400, 403, 409, 500])
def test_a_server_that_echoes_everything_is_not_quoted(
    session: Any, flow: str, status: int, assert_no_secret: Callable[..., None]
) -> None:
    job = session.create()
    echo = f"PUT {job.upload_url} Authorization: Bearer {session.emulator.bearer_token} refused"
    session.emulator.add_fault("status", endpoint="upload", times=0, status=status, body={"detail": echo})
    with pytest.raises(errors.XComplianceError, match=r"refused|15 minutes") as caught:
        session.upload(job)
    assert_no_secret(caught.value, job.upload_url, job.upload_url.split("?")[1])


@pytest.mark.parametrize(
    ("endpoint", "kind"), [("get", errors.AuthenticationError), ("upload", errors.AuthenticationError)]
)
def test_a_bearer_that_is_not_accepted_is_told(session: Any, endpoint: str, kind: type[Exception]) -> None:
    job = session.create()
    session.emulator.configure(bearer_token="another")
    with pytest.raises(kind, match="check its token or key"):
        session.client.get_job(job.id) if endpoint == "get" else session.upload(job)
    assert session.sleeps == []


def test_a_key_that_is_not_accepted_is_told(
    session_with_key: Any, assert_no_secret: Callable[..., None]
) -> None:
    session_with_key.emulator.configure(api_secret="another")
    with pytest.raises(errors.AuthenticationError, match="API key and secret") as caught:
        session_with_key.create()
    assert_no_secret(caught.value)
    assert count(session_with_key, "create") == 0
