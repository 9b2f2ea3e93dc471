"""Coming by one's own job, against the stand-in."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import (
    AccessDeniedError,
    AuthenticationError,
    InvalidRequestError,
    JobConflictError,
    RateLimitedError,
    ServerError,
    XComplianceError,
)
from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.api.ownership import Step, job_name

NAME = job_name("nightly", "one deployment", "dag", "task", "run")
OTHER = job_name("nightly", "another deployment", "dag", "task", "run")
SIX_HOURS = timedelta(hours=6)
PROBLEM = {"title": "Service Unavailable"}


def claim(client: XComplianceClient, name: str = NAME, reuse_within: timedelta | None = SIX_HOURS):
    return client.claim_job("tweets", name, reuse_within=reuse_within)


@pytest.fixture
def before_creation(session: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that has something happen between the list and the creation that follows it."""
    transport = session.client._transport
    send = transport.send
    events: list[Callable[[], Any]] = []

    def send_after_event(request: Any, *arguments: Any, **options: Any) -> Any:
        if request.method == "POST" and events:
            events.pop()()
        return send(request, *arguments, **options)

    monkeypatch.setattr(transport, "send", send_after_event)
    return events.append


def in_progress(session: Any, name: str | None = NAME) -> Job:
    job = session.new_client().create_job("tweets", name)
    session.emulator.set_job(job.id, "in_progress")
    return job


def endpoints(session: Any) -> list[str]:
    return [request["endpoint"] for request in session.emulator.requests()]


class TestOneJob:
    def test_where_there_is_none_it_is_created_after_a_look(self, session, flow):
        step, job = claim(session.client)

        assert (step, job.status, job.name) == (Step.ADOPT, "created", NAME)
        assert job.upload_url
        assert endpoints(session) == ["list", "create"]

    def test_a_second_claim_finds_it_again(self, session, flow):
        _, first = claim(session.client)

        step, again = claim(session.new_client())

        assert (step, again.id) == (Step.ADOPT, first.id)
        assert len(session.emulator.requests("create")) == 1

    def test_the_type_keeps_them_apart(self, session, flow):
        claim(session.client)

        step, job = session.client.claim_job("users", NAME, reuse_within=SIX_HOURS)

        assert (step, job.type) == (Step.ADOPT, "users")
        assert len(session.emulator.jobs()) == 2

    @pytest.mark.parametrize(
        ("reuse_within", "step"), [(SIX_HOURS, Step.ADOPT), (timedelta(), Step.ADOPT), (None, Step.WAIT)]
    )
    def test_one_at_work_is_adopted_unless_nobody_knows_its_ids(self, session, flow, reuse_within, step):
        job = in_progress(session)

        found = claim(session.client, reuse_within=reuse_within)

        assert (found[0], found[1].id) == (step, job.id)
        assert len(session.emulator.jobs()) == 1


LOST = [
    {"action": "reset", "after_effect": True},
    {"action": "status", "status": 503, "body": PROBLEM, "after_effect": True},
    {"action": "status", "status": 500, "body": "<html>oops</html>", "after_effect": True},
    {"action": "status", "status": 200, "body": "", "after_effect": True},
    {"action": "status", "status": 200, "body": {"data": None}, "after_effect": True},
    {"action": "cut", "at": 40},
    {"action": "truncate", "at": 40},
]
NEVER_ARRIVED = [{"action": "reset"}, {"action": "status", "status": 502, "body": "<html>"}]


class TestLostAnswer:
    @pytest.mark.parametrize(
        "fault", [*LOST, *NEVER_ARRIVED], ids=lambda fault: str(tuple(fault.values())[:3])
    )
    def test_it_costs_no_second_job(self, session, flow, fault):
        session.emulator.add_fault(**fault, endpoint="create")

        step, job = claim(session.client)

        assert step is Step.ADOPT
        assert [each["id"] for each in session.emulator.jobs()] == [job.id]

    def test_a_time_out_costs_no_second_job(self, session, flow):
        session.emulator.add_fault("stall", endpoint="create")
        impatient = session.new_client(timeout_seconds=0.2)

        step, job = claim(impatient)
        session.emulator.release()

        assert step is Step.ADOPT
        assert [each["id"] for each in session.emulator.jobs()] == [job.id]

    def test_nor_does_one_that_is_lost_each_time_and_the_next_run_finds_the_job(self, session, flow):
        session.emulator.add_fault("reset", endpoint="create", after_effect=True, times=0)
        session.emulator.add_fault("status", endpoint="list", status=503, nth=2, times=0)

        with pytest.raises(ServerError, match="list tweets jobs"):
            claim(session.client)
        session.emulator.clear_faults()
        claim(session.new_client())

        assert len(session.emulator.jobs()) == 1

    def test_a_rate_limit_is_waited_out_and_then_x_is_asked_again(self, session, flow):
        session.emulator.add_fault("rate_limit", endpoint="create", seconds=100)

        claim(session.client)

        assert endpoints(session) == ["list", "create", "list", "create"]
        assert session.sleeps == [pytest.approx(102, abs=5)]

    def test_a_rate_limit_that_lasts_too_long_is_raised(self, session, flow):
        session.emulator.add_fault("rate_limit", endpoint="create", seconds=2000)

        with pytest.raises(RateLimitedError):
            claim(session.client)
        assert session.emulator.jobs() == []


class TestListFails:
    def test_for_a_moment_and_the_claim_goes_on(self, session, flow):
        session.emulator.add_fault("status", endpoint="list", status=503, body=PROBLEM, times=2)

        assert claim(session.client)[0] is Step.ADOPT
        assert endpoints(session) == ["list", "list", "list", "create"]

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            ({"action": "status", "status": 503}, ServerError),
            ({"action": "status", "status": 200, "body": {"errors": [{"title": "x"}]}}, ServerError),
            ({"action": "status", "status": 200, "body": "<html>"}, ServerError),
            ({"action": "status", "status": 401}, AuthenticationError),
            ({"action": "reset"}, XComplianceError),
        ],
    )
    def test_for_good_and_nothing_is_created_blindly(self, session, flow, fault, error):
        session.emulator.add_fault(**fault, endpoint="list", times=0)

        with pytest.raises(error):
            claim(session.client)
        assert session.emulator.requests("create") == []


class TestOldWindow:
    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_its_job_is_cancelled_and_another_one_created(self, session, flow, caplog):
        _, old = claim(session.client)
        session.emulator.advance(13 * 60)

        step, job = claim(session.client)

        assert (step, job.status) == (Step.ADOPT, "created")
        assert session.client.get_job(old.id).status == "failed"
        assert f"job {old.id}: too little is left of the 15 minutes" in caplog.text

    @pytest.mark.parametrize("flow", ["legacy"], indirect=True)
    def test_in_the_legacy_flow_it_has_to_run_out(self, session, flow):
        _, old = claim(session.client)
        session.emulator.advance(13 * 60)

        step, job = claim(session.client)
        assert (step, job.id) == (Step.WAIT, old.id)

        session.emulator.advance(3 * 60)
        step, job = claim(session.client)
        assert step is Step.ADOPT
        assert job.id != old.id

    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    @pytest.mark.parametrize("fault", LOST[:2], ids=["reset", "503"])
    def test_an_answer_to_the_cancellation_may_be_lost(self, session, flow, fault):
        claim(session.client)
        session.emulator.advance(13 * 60)
        session.emulator.add_fault(**fault, endpoint="cancel")

        assert claim(session.client)[0] is Step.ADOPT
        assert sorted(job["status"] for job in session.emulator.jobs()) == ["created", "failed"]

    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_one_that_ends_meanwhile_is_in_nobodys_way(self, session, flow, caplog):
        _, old = claim(session.client)
        session.emulator.advance(13 * 60)
        body = {"title": "Conflict", "detail": "The job is expired; it cannot be cancelled."}
        session.emulator.add_fault("status", endpoint="cancel", status=409, body=body)
        send = session.client._transport.send

        def expiring(request: Any, *arguments: Any, **options: Any) -> Any:
            answer = send(request, *arguments, **options)
            if request.method == "DELETE":
                session.emulator.set_job(old.id, "expired")
            return answer

        session.client._transport.send = expiring

        step, job = claim(session.client)

        assert step is Step.ADOPT
        assert job.id != old.id
        assert f"job {old.id} has ended by itself" in caplog.text


@pytest.fixture(autouse=True)
def tell_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


class TestOthers:
    @pytest.mark.parametrize("reuse_within", [None, SIX_HOURS])
    def test_a_foreign_job_is_waited_for_and_never_touched(self, session, flow, reuse_within):
        foreign = in_progress(session, OTHER)

        step, job = claim(session.client, reuse_within=reuse_within)

        assert (step, job.id, job.name) == (Step.WAIT, foreign.id, OTHER)
        assert endpoints(session) == ["create", "list"]

    def test_one_without_a_name_is_foreign_too(self, session, flow):
        foreign = in_progress(session, None)

        step, job = claim(session.client)

        assert (step, job.id) == (Step.WAIT, foreign.id)

    @pytest.mark.parametrize("status", [400, 403, 409])
    def test_one_that_appears_between_the_list_and_the_creation_is_waited_for(
        self, session, flow, before_creation, status
    ):
        session.emulator.configure(legacy_conflict_status=status)
        before_creation(lambda: session.new_client().create_job("tweets", OTHER))

        step, job = claim(session.client)

        assert (step, job.name) == (Step.WAIT, OTHER)
        assert len(session.emulator.jobs()) == 1

    def test_of_two_workers_of_one_task_the_slower_one_adopts_the_job_of_the_other(
        self, session, flow, before_creation
    ):
        created: list[Job] = []
        before_creation(lambda: created.append(claim(session.new_client())[1]))

        step, job = claim(session.client)

        assert (step, job.id) == (Step.ADOPT, created[0].id)
        assert len(session.emulator.jobs()) == 1

    def test_two_deployments_take_turns(self, session, flow):
        _, mine = claim(session.client)
        step, in_the_way = claim(session.new_client(), OTHER)
        assert (step, in_the_way.id) == (Step.WAIT, mine.id)

        session.emulator.set_job(mine.id, "complete")
        step, theirs = claim(session.new_client(), OTHER)
        assert (step, theirs.name) == (Step.ADOPT, OTHER)
        assert claim(session.client)[1].id == mine.id

    @pytest.mark.parametrize(
        ("status", "error"), [(400, InvalidRequestError), (403, AccessDeniedError), (409, JobConflictError)]
    )
    @pytest.mark.parametrize("flow", ["legacy"], indirect=True)
    def test_a_refusal_for_no_job_that_is_listed_is_raised_as_it_came(self, session, flow, status, error):
        in_progress(session, OTHER)
        session.emulator.advance(60)
        session.emulator.configure(listed_seconds=30, legacy_conflict_status=status)

        with pytest.raises(error, match=f"create a tweets job: status {status}"):
            claim(session.client)
        assert len(session.emulator.jobs()) == 1
        assert len(session.emulator.requests("create")) == 2

    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_nor_is_a_second_job_created_when_the_own_one_is_not_listed(self, session, flow):
        in_progress(session)
        session.emulator.advance(60)
        session.emulator.configure(listed_seconds=30)

        with pytest.raises(JobConflictError, match="another job of this type is active"):
            claim(session.client)
        assert len(session.emulator.jobs()) == 1

    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_a_list_that_never_settles_is_given_up(self, session, flow):
        _, old = claim(session.client)
        session.emulator.advance(13 * 60)
        listed = {"data": [job for job in session.emulator.jobs() if job["id"] == old.id]}
        session.emulator.add_fault("status", endpoint="list", status=200, body=listed, times=0)

        with pytest.raises(JobConflictError, match="X's list of jobs keeps changing"):
            claim(session.client)
        assert len(session.emulator.jobs()) == 1

    @pytest.mark.parametrize("flow", ["current"], indirect=True)
    def test_an_own_job_that_a_refusal_was_about_is_replaced_once_it_is_cancelled(self, session, flow):
        claim(session.client)
        session.emulator.advance(13 * 60)
        session.emulator.add_fault("status", endpoint="list", status=200, body={"meta": {"result_count": 0}})

        step, job = claim(session.client)

        assert (step, job.status) == (Step.ADOPT, "created")
        assert sorted(each["status"] for each in session.emulator.jobs()) == ["created", "failed"]
