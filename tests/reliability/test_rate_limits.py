from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import google_crc32c
import pytest

from airflow_provider_xcompliance.api import errors
from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.hooks import compliance
from airflow_provider_xcompliance.hooks.compliance import XComplianceHook
from airflow_provider_xcompliance.operators.jobs import (
    CreateJobOperator,
    DownloadOperator,
    UploadOperator,
)

pytestmark = pytest.mark.row("rate limits")

BEARER = "canary-bearer-3f9d1c"
CONTEXT = {
    "ti": SimpleNamespace(dag_id="dag", task_id="task", run_id="run", map_index=-1, try_number=1),
}

#: Seconds by which X's clock is off the local one.
CLOCKS = {"two hours behind": -7200, "right": 0, "two hours ahead": 7200}
#: Seconds until the reset; with the longest one an upload still ends within its own 15 minutes.
WAITS = (60, 300, 840)


@dataclass
class Session:
    """A client that moves X's clock on instead of sleeping."""

    emulator: Any
    ids: Path
    result: Path
    sleeps: list[float] = field(default_factory=list)

    @cached_property
    def client(self) -> XComplianceClient:
        return XComplianceHook().client

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.emulator.advance(seconds)

    def create(self, **options: Any) -> Any:
        """Create the only active job."""
        for job in self.emulator.jobs():
            self.emulator.set_job(job["id"], "failed")
        return self.client.create_job("tweets", **options)

    def upload(self, job: Any) -> None:
        self.client.upload(job, self.ids, google_crc32c.value(self.ids.read_bytes()))

    def complete(self) -> Any:
        job = self.create()
        self.upload(job)
        return self.client.get_job(job.id)

    def download(self, job: Any) -> None:
        self.client.download(job, self.result)


@pytest.fixture
def session(
    emulator: Any,
    connect: Callable[..., None],
    id_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Session:
    connect("xcompliance_default", conn_type="xcompliance", host=emulator.url, password=BEARER)
    result = tmp_path / "result"
    result.touch()
    session = Session(emulator, id_file, result)
    # Airflow compiles all secrets of the process anew for each one that it is told.
    monkeypatch.setattr(compliance, "mask_secret", lambda secret: None)
    monkeypatch.setitem(XComplianceClient.__init__.__kwdefaults__, "sleep", session.sleep)
    return session


@dataclass(frozen=True)
class Call:
    """
    A request that may be refused.

    :param prepare: makes what the request is about
    :param run: makes the request, and others only if it succeeds
    """

    prepare: Callable[[Session], Any]
    run: Callable[[Session, Any], Any]


_UPLOAD = Call(lambda s: s.create(), lambda s, job: s.upload(job))
_RESUMABLE = Call(lambda s: s.create(resumable=True), lambda s, job: s.upload(job))
CALLS = {
    "create": Call(lambda s: s.create(), lambda s, _: s.create()),
    "list": Call(lambda s: None, lambda s, _: s.client.list_jobs("tweets")),
    "get": Call(lambda s: s.create(), lambda s, job: s.client.get_job(job.id)),
    "cancel": Call(lambda s: s.create(), lambda s, job: s.client.cancel_job(job.id)),
    "upload": _UPLOAD,
    "resumable_start": _RESUMABLE,
    "resumable_put": _RESUMABLE,
    "download": Call(lambda s: s.complete(), lambda s, job: s.download(job)),
}
CURRENT = ("create", "list", "get", "cancel", "upload", "download")
LEGACY = ("create", "list", "get", "upload", "resumable_start", "resumable_put", "download")
ENDPOINTS = [("current", endpoint) for endpoint in CURRENT] + [("legacy", endpoint) for endpoint in LEGACY]


@pytest.mark.parametrize(
    ("flow_", "endpoint", "clock", "seconds"),
    [
        pytest.param(*where, clock, seconds, marks=pytest.mark.quick if seconds == 300 else ())
        for where, clock, seconds in product(ENDPOINTS, CLOCKS, WAITS)
    ],
)
def test_a_refusal_is_waited_out_by_xs_clock(
    session: Session, flow_: str, endpoint: str, clock: str, seconds: int
) -> None:
    session.emulator.configure(flow=flow_)
    session.emulator.advance(CLOCKS[clock])
    job = CALLS[endpoint].prepare(session)
    session.emulator.add_fault("rate_limit", endpoint=endpoint, seconds=seconds)
    begun, before = session.emulator.now(), len(session.emulator.requests(endpoint))
    CALLS[endpoint].run(session, job)
    (wait,) = session.sleeps
    # The reset is in whole seconds, so it may be up to one nearer.
    assert session.emulator.now() - begun >= wait >= seconds - 1
    assert wait <= seconds * 1.1
    # After a doubt, a session is asked what it holds before the rest is sent.
    assert len(session.emulator.requests(endpoint)) - before == (3 if endpoint == "resumable_put" else 2)


@pytest.mark.parametrize("seconds", WAITS)
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("endpoint", CURRENT)
def test_the_next_try_after_a_real_limit_is_let_through(
    session: Session, endpoint: str, clock: str, seconds: int
) -> None:
    session.emulator.advance(CLOCKS[clock])
    call = CALLS[endpoint]
    call.run(session, call.prepare(session))
    # The first request opened a window of 15 minutes, at whose end the second one may come.
    session.emulator.advance(900 - seconds)
    job = call.prepare(session)
    session.emulator.configure(rate_limit=1)
    begun = session.emulator.now()
    call.run(session, job)
    (wait,) = session.sleeps
    assert seconds - 5 <= wait <= (seconds + 1) * 1.1
    assert session.emulator.now() - begun >= wait
    assert [entry["status"] for entry in session.emulator.requests(endpoint)][-2:] == [429, 200]


@pytest.mark.quick
def test_waits_are_spread_so_that_not_everybody_comes_back_at_once(
    session: Session, record_property: Callable[[str, str], None]
) -> None:
    session.emulator.add_fault("rate_limit", endpoint="list", nth=1, seconds=900)
    for nth in range(3, 80, 2):
        session.emulator.add_fault("rate_limit", endpoint="list", nth=nth, seconds=900)
    for _ in range(40):
        session.client.list_jobs("tweets")
    assert len(session.sleeps) == 40
    assert len({round(wait) for wait in session.sleeps}) > 10
    assert all(899 <= wait <= 990 for wait in session.sleeps)
    over = max(session.sleeps) / 900 - 1
    record_property("wait beyond the reset", f"{over:.1%} at most, of 10 %")


#: What says nothing useful about when the limit ends.
STRANGE_RESETS = {
    "no header": None,
    "no number": "soon",
    "negative": "-900",
    "in milliseconds": "1795348800000",
    "in the year 2286": "9999999999",
    "of ISO": "2026-11-22T12:00:00Z",
    "in the past": "1500000000",
    "zero": "0",
    "empty": "",
}


@pytest.mark.quick
@pytest.mark.parametrize("reset", STRANGE_RESETS)
def test_a_reset_that_says_nothing_is_waited_for_with_patience_and_not_for_ever(
    session: Session, flow: str, reset: str
) -> None:
    value = STRANGE_RESETS[reset]
    headers = {} if value is None else {"x-rate-limit-reset": value}
    session.emulator.add_fault("status", endpoint="list", times=2, status=429, headers=headers)
    session.client.list_jobs("tweets")
    assert len(session.sleeps) == 2
    assert 1 <= session.sleeps[0] < session.sleeps[1] * 1.5 < 8
    session.emulator.add_fault("status", endpoint="list", times=0, status=429, headers=headers)
    session.sleeps.clear()
    with pytest.raises(errors.RateLimitedError) as caught:
        session.client.list_jobs("tweets")
    assert len(session.sleeps) == 4
    assert sum(session.sleeps) < 60
    assert not caught.value.wait_seconds


@pytest.mark.quick
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize(("flow_", "endpoint"), ENDPOINTS)
def test_a_longer_wait_than_allowed_raises_and_says_how_long(
    session: Session, flow_: str, endpoint: str, clock: str
) -> None:
    session.emulator.configure(flow=flow_)
    session.emulator.advance(CLOCKS[clock])
    job = CALLS[endpoint].prepare(session)
    session.emulator.add_fault("rate_limit", endpoint=endpoint, times=0, seconds=1500)
    with pytest.raises(errors.RateLimitedError, match=r"resets in 1[45]") as caught:
        CALLS[endpoint].run(session, job)
    assert session.sleeps == []
    assert caught.value.wait_seconds == pytest.approx(1500, abs=5)
    assert caught.value.reset_at.timestamp() == pytest.approx(session.emulator.now() + 1500, abs=5)


@pytest.mark.quick
def test_usage_that_is_spent_is_not_waited_for(session: Session, flow: str) -> None:
    body = {"type": "https://api.x.com/2/problems/usage-capped", "title": "UsageCapExceeded"}
    headers = {"x-rate-limit-reset": str(int(session.emulator.now()) + 60)}
    session.emulator.add_fault("status", endpoint="list", times=0, status=429, body=body, headers=headers)
    with pytest.raises(errors.UsageCappedError):
        session.client.list_jobs("tweets")
    assert session.sleeps == []


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_wait_that_outlasts_the_uploads_window_is_told_as_that(
    session: Session, flow: str, clock: str
) -> None:
    session.emulator.advance(CLOCKS[clock])
    job = session.create()
    session.emulator.add_fault("rate_limit", endpoint="upload", seconds=905)
    with pytest.raises(errors.UrlExpiredError, match="create a new job"):
        session.upload(job)
    assert len(session.sleeps) == 1


@pytest.mark.quick
@pytest.mark.parametrize("clock", CLOCKS)
def test_every_operator_waits_once_and_ends_well(session: Session, flow: str, clock: str) -> None:
    emulator = session.emulator
    emulator.advance(CLOCKS[clock])
    for endpoint in ("list", "create", "upload", "download"):
        emulator.add_fault("rate_limit", endpoint=endpoint, seconds=200)
    job_id = CreateJobOperator(task_id="create", job_type="tweets").execute(CONTEXT)
    UploadOperator(task_id="upload", job_id=job_id, source=str(session.ids)).execute(CONTEXT)
    emulator.set_job(job_id, "complete")
    destination = str(session.result.with_name("events"))
    DownloadOperator(task_id="download", job_id=job_id, destination=destination).execute(CONTEXT)
    assert len(emulator.jobs()) == 1
    assert 3 <= len(session.sleeps) <= 4
    assert all(199 <= wait <= 220 for wait in session.sleeps)
