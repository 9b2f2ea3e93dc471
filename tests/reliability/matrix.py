"""
Every fault, at each step where it can happen, and how a run must end under it: the cells, as data.

A fault that passes must be waited out within one try: the right events land, of one job. One that stays must
end the try with one clear line, of an error that says whether another try can help; and once the fault is
gone, another try ends well. How many jobs it took in all stands in the cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from airflow_provider_xcompliance.api.errors import (
    AccessDeniedError,
    AuthenticationError,
    DeadlineError,
    IntegrityError,
    InvalidRequestError,
    JobConflictError,
    JobFailedError,
    JobNotFoundError,
    NetworkError,
    RateLimitedError,
    ServerError,
    UploadTooLargeError,
    UrlExpiredError,
    UsageCappedError,
)
from airflow_provider_xcompliance.archive.events import InvalidEventsError, MissingControlsError
from airflow_provider_xcompliance.archive.ids import InvalidIdsError
from airflow_provider_xcompliance.storage import MissingError, StorageError
from tests.reliability.world import World

Deed = Callable[[World], Any]
Injection = Mapping[str, Any]


class Error(NamedTuple):
    """
    How a try fails.

    :param kind: of the error
    :param says: pattern of what its text must name: the step, the cause, the remedy
    :param may_retry: whether Airflow is to try again
    """

    kind: type[Exception]
    says: str
    may_retry: bool = True


@dataclass(frozen=True)
class Cell:
    """
    One fault at one step.

    :param step: the endpoint that it strikes
    :param fault: its name
    :param way: ``current``, ``legacy``, ``resumable`` (which is legacy too), or ``key`` (current, where the
        bearer has to be come by first)
    :param inject: faults of the stand-in; of the cell's step if they name no endpoint
    :param before: what has happened before the try
    :param script: what happens right before the nth request to an endpoint
    :param settings: of the stand-in
    :param ids: how many ids are sent
    :param patience: seconds of a read without progress, and with it five times as much of a whole exchange
    :param limit: seconds that the task may wait for a job
    :param error: how the try ends; None: well
    :param jobs: how many jobs of our own there are when all has ended well
    :param refused_after: the server is gone from the step's first request on, until that many sleeps have
        passed (0: until the try is over); None: it is there
    :param defect: why the cell is known to be red
    """

    step: str
    fault: str
    way: str = "current"
    inject: tuple[Injection, ...] = ()
    before: tuple[Deed, ...] = ()
    script: Mapping[tuple[str, int], Deed] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    ids: int = 200
    patience: float = 20.0
    limit: float = 3600.0
    error: Error | None = None
    jobs: int = 1
    refused_after: int | None = None
    quick: bool = False
    defect: str = ""

    def __str__(self) -> str:
        return f"{self.step}, {self.way}: {self.fault}"


# What is at each step

#: Step → what the errors of its requests begin with.
JSON_STEPS = {
    "list": "list tweets jobs: ",
    "create": "create a tweets job: ",
    "get": "get job [0-9]+: ",
    "cancel": "cancel job [0-9]+: ",
    "oauth": "exchange the API key and secret for a bearer token: ",
}
UPLOADS = (
    ("upload", "current"),
    ("upload", "legacy"),
    ("resumable_start", "resumable"),
    ("resumable_put", "resumable"),
)
DOWNLOADS = (("download", "current"), ("download", "legacy"))
WAYS = (
    *((step, "key" if step == "oauth" else "current") for step in JSON_STEPS),
    *UPLOADS,
    *DOWNLOADS,
)
WORDS = JSON_STEPS | {
    "upload": "upload to job [0-9]+: ",
    "resumable_start": "upload to job [0-9]+: ",
    "resumable_put": "upload to job [0-9]+: ",
    "download": "download the results of job [0-9]+: ",
}

#: What makes a run come to a step that it else does not come to, and how many jobs it then takes.
MINUTES = 60.0
LITTLE_LEFT: tuple[Deed, ...] = (World.leave_job_without_ids, partial(World.sleep, seconds=14 * MINUTES))
LEAD_UP: dict[str, tuple[Deed, ...]] = {"cancel": LITTLE_LEFT}
JOBS = {"cancel": 2}

#: While it waits, a task outlasts what fails until its time is over.
WAITED_TOO_LONG = Error(DeadlineError, r"job [0-9]+ has not ended in the time that the task may wait")


# What passes

PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"
HTML = {"body": PAGE, "content_type": "text/html"}


class Passing(NamedTuple):
    """A failure of X, of a gateway or of the network, and what it is called if it does not pass."""

    inject: Injection
    kind: type[Exception]
    says: str
    patience: float = 20.0


def _status(status: int, says: str, **answer: Any) -> Passing:
    return Passing(
        {"action": "status", "status": status, **answer}, ServerError, f"status {status} ?: {says}"
    )


GATEWAY_FAILED = "X or a gateway before it failed; try again later"
NETWORK: dict[str, Passing] = {
    "500": _status(500, GATEWAY_FAILED),
    "502 with a gateway's page": _status(502, GATEWAY_FAILED, **HTML),
    "503 with nothing": _status(503, GATEWAY_FAILED),
    "504": _status(504, GATEWAY_FAILED, body="upstream request timeout"),
    "408": _status(408, "X or a gateway before it timed out; try again later"),
    "reset before the effect": Passing(
        {"action": "reset"}, NetworkError, "127.0.0.1: the connection was cut"
    ),
    "reset after the effect": Passing(
        {"action": "reset", "after_effect": True}, NetworkError, "127.0.0.1: the connection was cut"
    ),
    "502 after the effect": Passing(
        {"action": "status", "status": 502, "after_effect": True, **HTML},
        ServerError,
        f"status 502 ?: {GATEWAY_FAILED}",
    ),
    "stall": Passing({"action": "stall"}, NetworkError, "127.0.0.1: the server did not go on in time", 0.08),
    "429 with a reset": Passing(
        {"action": "rate_limit", "seconds": 40},
        RateLimitedError,
        r"status 429 ?: rate limited; the limit resets in [0-9]+ s, at [-0-9]+ [:0-9]+ UTC",
    ),
    "429 without a reset": Passing(
        {"action": "status", "status": 429}, RateLimitedError, "status 429 ?: rate limited, and X did not say"
    ),
}
NO_JSON = "status 200, but the body is not the JSON that X documents"
ANSWERS: dict[str, Passing] = {
    "200 with a gateway's page": Passing({"action": "status", "status": 200, **HTML}, ServerError, NO_JSON),
    "200 with an empty body": Passing({"action": "status", "status": 200}, ServerError, NO_JSON),
    "200 with no JSON": Passing({"action": "status", "status": 200, "body": "ok"}, ServerError, NO_JSON),
    "200 with JSON of another shape": Passing(
        {"action": "status", "status": 200, "body": [1]}, ServerError, NO_JSON
    ),
    "200 with a cut body": Passing(
        {"action": "cut", "at": 9}, NetworkError, "127.0.0.1: the connection ended in the middle of the body"
    ),
    "200 with half of the JSON": Passing(
        {"action": "status", "status": 200, "body": '{"data": {"id": "1', "content_type": "application/json"},
        ServerError,
        NO_JSON,
    ),
}
#: Step and fault → how a try ends all the same if it stays; None: well.
STAYING: dict[tuple[str, str], Error | None] = {
    # X has the job, and lists it.
    ("create", "reset after the effect"): None,
    ("create", "stall"): None,
    # X has the ids, and says so when the job is looked at.
    ("upload", "reset after the effect"): None,
    ("upload", "stall"): None,
}
#: Those that are tried as one that stays, too.
LASTING = (
    "503 with nothing",
    "reset before the effect",
    "reset after the effect",
    "stall",
    "429 with a reset",
    "429 without a reset",
    "200 with a gateway's page",
    "200 with JSON of another shape",
)
QUICK = {
    ("list", "502 with a gateway's page"),
    ("create", "reset after the effect"),
    ("get", "200 with no JSON"),
    ("cancel", "500"),
    ("oauth", "stall"),
    ("upload", "502 after the effect"),
    ("resumable_put", "reset before the effect"),
    ("download", "429 with a reset"),
}


def passing() -> Iterator[Cell]:
    """Yield what goes wrong once, and the next request finds well again; and what stays so."""
    for step, way in WAYS:
        faults = NETWORK | (ANSWERS if step in JSON_STEPS or (step, way) == ("upload", "current") else {})
        for name, fault in faults.items():
            common = {
                "way": way,
                "before": LEAD_UP.get(step, ()),
                "patience": fault.patience,
                "jobs": JOBS.get(step, 1),
            }
            once = {**fault.inject, "times": 1}
            yield Cell(step, f"{name}, once", inject=(once,), quick=(step, name) in QUICK, **common)
            if name in LASTING:
                always = {**fault.inject, "times": 0}
                error = _error_of(step, name, fault)
                yield Cell(step, f"{name}, always", inject=(always,), error=error, limit=100, **common)


def _error_of(step: str, name: str, fault: Passing) -> Error | None:
    if step == "cancel":
        # What cannot be cancelled ends by itself a little later.
        return None
    usual = WAITED_TOO_LONG if step == "get" else Error(fault.kind, WORDS[step] + fault.says)
    return STAYING.get((step, name), usual)


# What is refused

PROBLEM = "application/problem+json"


class Refusal(NamedTuple):
    """An answer that no repetition changes."""

    inject: Injection
    kind: type[Exception]
    says: str


def _refusal(status: int, kind: type[Exception], says: str, **answer: Any) -> Refusal:
    return Refusal(
        {"action": "status", "status": status, **answer}, kind, f"status {status} ?[a-z-]*: {says}"
    )


REFUSALS: dict[str, Refusal] = {
    "401": _refusal(
        401, AuthenticationError, "the credentials of the connection are not accepted; check its"
    ),
    "403": _refusal(403, AccessDeniedError, "this App may not do that; check its access to batch compliance"),
    "404": _refusal(404, JobNotFoundError, "X knows no such job or address for this App; check the job id"),
    "400": _refusal(400, InvalidRequestError, "the request is not acceptable to X"),
    "usage-capped": _refusal(
        429,
        UsageCappedError,
        "the plan's usage for this period is spent; raise it",
        body='{"type": "https://api.x.com/2/problems/usage-capped"}',
        content_type=PROBLEM,
    ),
    "a redirect": Refusal(
        {"action": "redirect", "location": "http://127.0.0.1:9/"},
        InvalidRequestError,
        "status 302 ?: a redirect, which is never followed; check the host of the connection",
    ),
    "a reset in three hours": Refusal(
        {"action": "rate_limit", "seconds": 10_800},
        RateLimitedError,
        "status 429 ?: rate limited; the limit resets in [0-9]+ s",
    ),
}
#: Where a refusal means something else than everywhere.
EXCEPTIONS: dict[tuple[str, str], Error | None] = {
    ("get", "a reset in three hours"): WAITED_TOO_LONG,
    # X cannot cancel it, as in the legacy flow, so its end is waited for.
    ("cancel", "404"): None,
    ("cancel", "400"): None,
    ("cancel", "a redirect"): None,
    ("oauth", "403"): Error(
        AuthenticationError,
        "status 403: X does not accept the connection's API key and secret",
        may_retry=False,
    ),
    ("upload", "404"): Error(
        JobNotFoundError, "the upload address is gone; create a new job", may_retry=False
    ),
    ("resumable_start", "404"): Error(
        JobNotFoundError, "the upload address is gone; create a new job", may_retry=False
    ),
    ("resumable_put", "404"): Error(ServerError, "the resumable session is gone; a new one is begun"),
}
MAY_RETRY = ("a reset in three hours",)


def refused() -> Iterator[Cell]:
    """Yield what ends a try at once, and what is said then."""
    for step, way in WAYS:
        for name, fault in REFUSALS.items():
            usual = Error(fault.kind, WORDS[step] + fault.says, may_retry=name in MAY_RETRY)
            yield Cell(
                step,
                name,
                way,
                inject=({**fault.inject, "times": 0},),
                before=LEAD_UP.get(step, ()),
                limit=1200,
                error=EXCEPTIONS.get((step, name), usual),
                jobs=JOBS.get(step, 1),
                quick=(step, name) in {("list", "401"), ("download", "a redirect")},
            )


# A server that is gone

NO_CONNECTION = "127.0.0.1: no connection could be made"


def gone() -> Iterator[Cell]:
    """Yield the server that is gone, and comes back."""
    for step, way in WAYS:
        common = {"way": way, "before": LEAD_UP.get(step, ()), "jobs": JOBS.get(step, 1), "limit": 300}
        yield Cell(step, "gone, and back after two tries", refused_after=2, quick=step == "create", **common)
        # After a creation that failed, the list is asked for first.
        first = {"create": "list", "cancel": "list"}.get(step, step)
        error = WAITED_TOO_LONG if step == "get" else Error(NetworkError, WORDS[first] + NO_CONNECTION)
        yield Cell(step, "gone", refused_after=0, error=error, **common)


# Jobs that are not as they should be

HIDDEN = {"action": "status", "status": 200, "body": {"meta": {"result_count": 0}}, "endpoint": "list"}
BAD_JOBS = {
    "a job without an id": {"type": "tweets", "status": "created"},
    "a job without a status": {"type": "tweets", "id": "1"},
    "a job whose id is a number": {"type": "tweets", "id": 1, "status": "created"},
    "a job whose time has no zone": {
        "type": "tweets",
        "id": "1",
        "status": "created",
        "created_at": "2026-01-01T00:00:00",
    },
    "no job": None,
}
TITLES = {"action": "status", "status": 200, "body": {"errors": [{"title": "Service Unavailable"}]}}


def bad_jobs() -> Iterator[Cell]:
    """Yield answers that are JSON, and hold no job that can be used."""
    for step in ("list", "create", "get"):
        for name, job in BAD_JOBS.items():
            body = {"data": [job] if step == "list" else job}
            answer = {"action": "status", "status": 200, "body": body, "after_effect": True, "times": 1}
            yield Cell(step, name, inject=(answer,), quick=(step, name) == ("create", "a job without an id"))
    yield Cell("list", "errors instead of a list, once", inject=(TITLES,))
    yield Cell(
        "list",
        "errors instead of a list, always",
        inject=({**TITLES, "times": 0},),
        error=Error(ServerError, "list tweets jobs: status 200, but the body holds errors and no list; try"),
    )


LEFT: tuple[Deed, ...] = (World.leave_job_without_ids,)
FOREIGN: tuple[Deed, ...] = (World.create_foreign_job,)
PAUSE, FAIL, EXPIRE, COMPLETE = (
    partial(World.end_job, status=status) for status in ("paused", "failed", "expired", "complete")
)
FAILED = Error(
    JobFailedError, r"job [0-9]+ \(tweets\) failed at X, or was cancelled; create a new job with the same ids"
)
EXPIRED = Error(
    JobFailedError, r"job [0-9]+ \(tweets\) expired: no ids were uploaded within 15 minutes.*create a new job"
)
UNLISTED = Error(JobConflictError, "create a tweets job: status 409 ?: another job of this type is active")
NEVER_DONE = {"processing_seconds": 1e6}

#: In both flows; what they have in common is written once.
STATES = (
    Cell(
        "create",
        "the answer is lost, and the list is late",
        inject=({"action": "reset", "after_effect": True}, {**HIDDEN, "nth": 2}),
    ),
    Cell("create", "409 for a job of our own", before=LEFT, inject=(HIDDEN,), quick=True),
    Cell(
        "create",
        "409 for a foreign job, which ends",
        before=FOREIGN,
        inject=(HIDDEN,),
        script={("get", 3): World.end_foreign_job},
    ),
    Cell(
        "create",
        "409 for a job that is never listed",
        before=FOREIGN,
        inject=({**HIDDEN, "times": 0},),
        error=UNLISTED,
    ),
    Cell(
        "list",
        "a foreign job, which ends",
        before=FOREIGN,
        script={("get", 3): World.end_foreign_job},
        quick=True,
    ),
    Cell("list", "a foreign job, which does not end", before=FOREIGN, limit=300, error=WAITED_TOO_LONG),
    Cell(
        "list",
        "our own job in a status that is not known",
        before=(World.leave_job_with_ids, PAUSE),
        settings=NEVER_DONE,
        script={("get", 3): COMPLETE},
    ),
    Cell("list", "our own job failed meanwhile", before=(*LEFT, FAIL), jobs=2),
    Cell("list", "our own job expired meanwhile", before=(*LEFT, EXPIRE), jobs=2),
    Cell("get", "the job fails", script={("get", 1): FAIL}, error=FAILED, jobs=2),
    Cell("get", "the job expires", script={("get", 1): EXPIRE}, error=EXPIRED, jobs=2),
    Cell(
        "get",
        "a status that is not known, and then done",
        settings=NEVER_DONE,
        script={("get", 1): PAUSE, ("get", 4): COMPLETE},
    ),
    Cell(
        "get",
        "a status that is not known, for ever",
        settings=NEVER_DONE,
        script={("get", 1): PAUSE},
        limit=300,
        error=WAITED_TOO_LONG,
    ),
    Cell("get", "never done", settings=NEVER_DONE, limit=300, error=WAITED_TOO_LONG),
    Cell(
        "get",
        "another job's description",
        before=(*FOREIGN, World.end_foreign_job),
        settings=NEVER_DONE,
        script={("get", 1): partial(World.mistake_the_job, job_type="tweets"), ("get", 3): COMPLETE},
    ),
    Cell(
        "get",
        "another job's description, and with it another address for the upload",
        before=(
            *LEFT,
            partial(World.create_foreign_job, job_type="users"),
            World.list_without_urls,
            partial(World.mistake_the_job, job_type="users"),
        ),
    ),
)
#: In the legacy flow the refusal of a second job is not documented.
OTHER_CONFLICTS = tuple(
    Cell(
        "create",
        f"{status} for a foreign job, which ends",
        "legacy",
        before=FOREIGN,
        inject=(HIDDEN,),
        settings={"legacy_conflict_status": status},
        script={("get", 3): World.end_foreign_job},
    )
    for status in (400, 403)
)


# The upload

SIXTEEN_MINUTES: Deed = partial(World.sleep, seconds=16 * MINUTES)
LAPSED_TWICE = Error(JobFailedError, "ids.txt: the 15 minutes for the upload lapsed 2 times in a row")
WINDOWS = (
    Cell("upload", "the window lapsed in the queue", before=(*LEFT, SIXTEEN_MINUTES), jobs=2, quick=True),
    Cell("upload", "the window is nearly over", before=LITTLE_LEFT, jobs=2),
    Cell("upload", "the window lapses on the way", script={("upload", 1): SIXTEEN_MINUTES}, jobs=2),
    Cell(
        "upload",
        "the window lapses while it is tried again",
        inject=({"action": "reset", "times": 2},),
        script={("upload", 2): SIXTEEN_MINUTES},
        jobs=2,
    ),
    Cell(
        "upload",
        "the window lapses while a limit resets",
        inject=({"action": "rate_limit", "seconds": 950},),
        jobs=2,
    ),
    Cell(
        "upload",
        "the window lapses twice",
        script={("upload", 1): SIXTEEN_MINUTES, ("upload", 2): SIXTEEN_MINUTES},
        error=LAPSED_TWICE,
        jobs=3,
    ),
)

TOO_LARGE = Error(
    UploadTooLargeError,
    "upload to job [0-9]+: status 413 ?: the file is too large.*split it",
    may_retry=False,
)
WRONG_TYPE = Error(
    InvalidRequestError, "X wants another content type; set 'upload_content_type'", may_retry=False
)
NOT_AS_SIGNED = Error(
    InvalidRequestError, "SignatureDoesNotMatch: the request that arrived is not the one", may_retry=False
)
OTHER_BYTES = Error(IntegrityError, r"the server stored other bytes than were sent \(crc32c differs\)")
WRONG_SUM = {"x-goog-hash": "crc32c=AAAAAA=="}


def _always(action: str, **answer: Any) -> tuple[Injection, ...]:
    return ({"action": action, "times": 0, **answer},)


def uploads() -> Iterator[Cell]:
    """Yield what happens to an upload in each flow, besides what happens to every request."""
    for way in ("current", "legacy"):
        for size, at in (("its first byte", 0), ("the middle", 2_000), ("its last byte", 3_999)):
            cut = {"action": "cut_upload", "at": at}
            yield Cell("upload", f"cut at {size}, once", way, (cut,), quick=way == "current" and at == 2_000)
        yield Cell(
            "upload",
            "cut in the middle, always",
            way,
            _always("cut_upload", at=2_000),
            error=Error(NetworkError, WORDS["upload"] + "127.0.0.1: the connection was cut"),
        )
        # Refused as too large the job is cancelled, where X can do that, so that it blocks nobody.
        jobs = 2 if way == "current" else 1
        yield Cell("upload", "413", way, _always("status", status=413), error=TOO_LARGE, jobs=jobs)
        yield Cell("upload", "415", way, _always("status", status=415), error=WRONG_TYPE)
        yield Cell(
            "upload",
            "stopped by a failure at X",
            way,
            script={("upload", 1): FAIL},
            jobs=2,
            error=FAILED,
        )
    yield Cell(
        "upload",
        "403 because of what a proxy changed",
        "legacy",
        _always("status", status=403, body="<Error><Code>SignatureDoesNotMatch</Code></Error>"),
        error=NOT_AS_SIGNED,
    )
    yield Cell(
        "upload",
        "200 with a gateway's page, once",
        "legacy",
        ({"action": "status", "status": 200, **HTML},),
    )
    yield Cell(
        "upload",
        "another checksum stated, once",
        "legacy",
        ({"action": "status", "status": 200, "headers": WRONG_SUM},),
    )
    yield Cell(
        "upload",
        "another checksum stated, always",
        "legacy",
        _always("status", status=200, headers=WRONG_SUM),
        error=OTHER_BYTES,
    )
    yield Cell(
        "upload",
        "a digit changed on the way",
        "legacy",
        script={("upload", 1): World.corrupt_upload},
    )


#: More than Google keeps of a chunk that broke off, so that there is something to go on from.
MANY = 20_000
RESUMABLE_START = (
    Cell("resumable_start", "201 without a session, once", inject=({"action": "status", "status": 201},)),
    Cell(
        "resumable_start",
        "201 without a session, always",
        inject=_always("status", status=201),
        error=Error(ServerError, "the server began no resumable session"),
    ),
    Cell(
        "resumable_start",
        "200 with a gateway's page, once",
        inject=({"action": "status", "status": 200, **HTML},),
    ),
    Cell(
        "resumable_start",
        "the window lapses on the way",
        script={("resumable_start", 1): SIXTEEN_MINUTES},
        jobs=2,
    ),
)
RESUMABLE_PUT = (
    *(
        Cell("resumable_put", f"cut at byte {at:,}", inject=({"action": "cut_upload", "at": at},), ids=MANY)
        for at in (0, 100_000, 262_144, 300_000, 399_999)
    ),
    Cell(
        "resumable_put",
        "cut three times",
        inject=({"action": "cut_upload", "at": 300_000, "times": 3},),
        ids=MANY,
    ),
    Cell(
        "resumable_put",
        "the window lapses meanwhile",
        inject=({"action": "cut_upload", "at": 300_000},),
        script={("resumable_put", 2): SIXTEEN_MINUTES},
        ids=MANY,
    ),
    Cell("resumable_put", "308 without Range, once", inject=({"action": "status", "status": 308},)),
    Cell(
        "resumable_put",
        "308 without Range, always",
        inject=_always("status", status=308),
        error=Error(ServerError, "the server stored nothing of what was sent"),
    ),
    Cell(
        "resumable_put",
        "308 with more than there is",
        inject=({"action": "status", "status": 308, "headers": {"Range": "bytes=0-999999"}},),
    ),
    Cell("resumable_put", "404 for the session, once", inject=({"action": "status", "status": 404},)),
    Cell("resumable_put", "410 for the session, once", inject=({"action": "status", "status": 410},)),
    Cell(
        "resumable_put",
        "the session is lost half way",
        inject=({"action": "cut_upload", "at": 300_000},),
        script={("resumable_put", 2): World.lose_session},
        ids=MANY,
        quick=True,
    ),
    Cell(
        "resumable_put",
        "200 with a gateway's page, once",
        inject=({"action": "status", "status": 200, **HTML},),
    ),
    Cell(
        "resumable_put",
        "another checksum stated, once",
        inject=({"action": "status", "status": 200, "headers": WRONG_SUM},),
    ),
)


# The download

NO_SPACE = Error(StorageError, "cannot spool in .*: .*; free space there, or set TMPDIR")
RANGES = {"download_ranges": True}
DIGEST = {"download_digest": True}
CHUNKED = {"download_framing": "chunked"}
CLOSED = {"download_framing": "close"}
NOT_WHOLE = Error(
    InvalidEventsError, "results of job [0-9]+:[0-9]+: not a record.*the result is incomplete or corrupt"
)
CUT_SHORT = Error(
    NetworkError, WORDS["download"] + "127.0.0.1: the connection ended in the middle of the body"
)
NO_CONTROL = Error(
    MissingControlsError, "results of job [0-9]+: 1 of 1 control ids have no event.*the result is void"
)
CORRUPT = Error(IntegrityError, r"the bytes that arrived are corrupt \(crc32c differs\)")
AGAIN = {"action": "cut", "at": 1_000}

#: Cut in the middle once: (what the server states, how it ends there).
CUTS: tuple[tuple[str, Mapping[str, Any], Error | None], ...] = (
    ("with its length", {}, None),
    ("with its length and ranges", RANGES, None),
    ("with length, ranges and digest", RANGES | DIGEST, None),
    ("in chunks", CHUNKED, None),
    ("in chunks, with ranges", CHUNKED | RANGES, None),
    ("until the connection ends", CLOSED, NOT_WHOLE),
    ("until the connection ends, with a digest", CLOSED | DIGEST, None),
)


def downloads() -> Iterator[Cell]:
    """Yield what happens to a result on its way, in the current flow."""
    for stated, settings, error in CUTS:
        for at in (0, 1_000, 4_000):
            once = ({"action": "cut", "at": at},)
            # Of a connection that ends at once, not even the head of an answer is there to doubt.
            ends = NO_CONTROL if error and at == 0 else error
            quick = at == 1_000 and settings in (RANGES, CLOSED)
            yield Cell(
                "download",
                f"cut at {at:,}, {stated}",
                inject=once,
                settings=settings,
                error=ends,
                quick=quick,
            )
    yield from (
        Cell("download", "cut at 1,000, always", inject=_always("cut", at=1_000), error=CUT_SHORT),
        # Each time it comes a thousand bytes further.
        Cell(
            "download", "cut after each 1,000, with ranges", inject=_always("cut", at=1_000), settings=RANGES
        ),
        Cell("download", "truncated", inject=({"action": "truncate", "at": 1_000},), error=NOT_WHOLE),
        Cell(
            "download",
            "truncated in chunks",
            inject=({"action": "truncate", "at": 1_000},),
            settings=CHUNKED,
            error=NOT_WHOLE,
        ),
        Cell(
            "download",
            "truncated, with a digest, once",
            inject=({"action": "truncate", "at": 1_000},),
            settings=DIGEST,
        ),
        Cell(
            "download",
            "truncated, with a digest, always",
            inject=_always("truncate", at=1_000),
            settings=DIGEST,
            error=CORRUPT,
        ),
        Cell("download", "corrupt", inject=({"action": "corrupt", "at": 2},), error=NOT_WHOLE),
        Cell(
            "download",
            "corrupt, with a digest, once",
            inject=({"action": "corrupt", "at": 2_000},),
            settings=DIGEST,
        ),
        Cell(
            "download",
            "corrupt, with a digest, always",
            inject=_always("corrupt", at=2_000),
            settings=DIGEST,
            error=CORRUPT,
        ),
        Cell(
            "download", "a length that is too great, once", inject=({"action": "wrong_length", "offset": 10},)
        ),
        Cell(
            "download",
            "a length that is too great, always",
            inject=_always("wrong_length", offset=10),
            error=CUT_SHORT,
        ),
        Cell(
            "download",
            "a length that is too great, with ranges",
            inject=({"action": "wrong_length", "offset": 10},),
            settings=RANGES,
        ),
        Cell(
            "download",
            "a length that is too small",
            inject=({"action": "wrong_length", "offset": -10},),
            error=NOT_WHOLE,
        ),
        Cell(
            "download",
            "a length that is too small, with a digest",
            inject=({"action": "wrong_length", "offset": -10},),
            settings=DIGEST,
        ),
        Cell(
            "download", "stall in the middle, once", inject=({"action": "stall", "at": 1_000},), patience=0.08
        ),
        Cell(
            "download",
            "stall in the middle, with ranges",
            inject=({"action": "stall", "at": 1_000},),
            settings=RANGES,
            patience=0.08,
        ),
        Cell(
            "download",
            "200 with a gateway's page, once",
            inject=({"action": "status", "status": 200, **HTML},),
        ),
        Cell(
            "download",
            "200 with a gateway's page, always",
            inject=_always("status", status=200, **HTML),
            error=Error(ServerError, "the answer is no result, but of Content-Type text/html.*fetched anew"),
        ),
        Cell(
            "download",
            "200 with an error in it",
            inject=({"action": "status", "status": 200, "body": {"errors": []}},),
            error=Error(InvalidEventsError, "results of job [0-9]+:1: "),
        ),
        Cell("download", "200 with nothing", inject=({"action": "status", "status": 200},), error=NO_CONTROL),
        Cell(
            "download",
            "200 compressed, though nobody asked",
            inject=({"action": "status", "status": 200, "headers": {"content-encoding": "gzip"}},),
        ),
        Cell(
            "download",
            "204",
            inject=_always("status", status=204),
            error=Error(
                InvalidRequestError, "status 204 ?: an answer that X does not document", may_retry=False
            ),
        ),
        Cell(
            "download",
            "409, not complete after all",
            inject=_always("status", status=409),
            error=Error(JobConflictError, WORDS["download"] + "status 409"),
        ),
        Cell(
            "download",
            "the 7 days are over",
            script={("download", 1): partial(World.sleep, seconds=8 * 86_400)},
            jobs=2,
            error=Error(
                UrlExpiredError,
                "the 7 days for it are over by X's clock; run a new job for the same ids",
                may_retry=False,
            ),
        ),
        Cell("download", "the disk is full", script={("download", 1): World.fill_disk}, error=NO_SPACE),
    )


#: Answers to the request for the rest of a result that was cut at byte 1,000.
ELSEWHERE = {"action": "status", "status": 206, "body": "x", "nth": 2}
RESTS = (
    ("416", ({"action": "status", "status": 416, "nth": 2},), {}),
    ("412", ({"action": "status", "status": 412, "nth": 2},), {}),
    ("200, and so all of it", (), {("download", 2): World.stop_ranges}),
    ("another version", (), {("download", 2): World.replace_result}),
    ("206 of another place", ({**ELSEWHERE, "headers": {"content-range": "bytes 0-0/9000"}},), {}),
    ("206 of another length", ({**ELSEWHERE, "headers": {"content-range": "bytes 1000-1000/1001"}},), {}),
    ("206 of no place", (ELSEWHERE,), {}),
    ("503", ({"action": "status", "status": 503, "nth": 2},), {}),
    ("a reset", ({"action": "reset", "nth": 2},), {}),
    ("a stall", ({"action": "stall", "nth": 2},), {}),
)


def rests() -> Iterator[Cell]:
    """Yield what may come instead of the rest of a result."""
    for name, more, script in RESTS:
        yield Cell(
            "download",
            f"cut at 1,000, and then {name}",
            inject=(AGAIN, *more),
            script=script,
            settings=RANGES,
            patience=0.3 if name == "a stall" else 20,
        )


#: The legacy flow always states length, digest and ranges.
LEGACY_DOWNLOADS = (
    Cell("download", "cut at 1,000", inject=(AGAIN,)),
    Cell("download", "cut after each 1,000", inject=_always("cut", at=1_000)),
    Cell("download", "truncated, once", inject=({"action": "truncate", "at": 1_000},)),
    Cell("download", "corrupt, once", inject=({"action": "corrupt", "at": 2_000},), quick=True),
    Cell("download", "corrupt, always", inject=_always("corrupt", at=2_000), error=CORRUPT),
    Cell(
        "download",
        "another version half way",
        inject=(AGAIN,),
        script={("download", 2): World.replace_result},
    ),
    Cell(
        "download",
        "the 7 days are over",
        script={("download", 1): partial(World.sleep, seconds=8 * 86_400)},
        error=Error(UrlExpiredError, "the 7 days for it are over by X's clock", may_retry=False),
        jobs=2,
    ),
)


# The worker's own machine

#: Step ``source``: X hears of none of these.
SOURCES = (
    Cell(
        "source",
        "a gzip bomb",
        before=(partial(World.give_source, name="ids.gz", content=b"1\n" * 5_000_000),),
        error=Error(StorageError, "cannot read .*ids.gz: it decompresses to more than 200 times its size"),
    ),
    Cell(
        "source",
        "a line without end",
        before=(partial(World.give_source, name="line.txt", content=b"1" * 2_500_000),),
        error=Error(InvalidIdsError, "line.txt:1: a line of more than 1,048,576 bytes", may_retry=False),
    ),
    Cell(
        "source",
        "a compressed line without end",
        before=(partial(World.give_source, name="line.gz", content=bytes(range(256)) * 8_000),),
        error=Error(InvalidIdsError, "line.gz:1: ", may_retry=False),
    ),
    Cell(
        "source",
        "a spreadsheet's ids",
        before=(partial(World.give_source, name="ids.csv", content=b"1.41786E+18\n"),),
        error=Error(
            InvalidIdsError, "ids.csv:1: not a decimal id.*export the column as text", may_retry=False
        ),
    ),
    Cell(
        "source",
        "nothing in it",
        before=(partial(World.give_source, name="empty.txt", content=b""),),
        error=Error(InvalidIdsError, "empty.txt: holds no ids", may_retry=False),
        quick=True,
    ),
    Cell(
        "source",
        "not there",
        before=(World.lose_source,),
        error=Error(MissingError, "cannot read .*gone.txt: No such file"),
    ),
    Cell("source", "the disk is full", before=(World.fill_disk,), error=NO_SPACE),
    Cell("source", "somebody's directory beside the spools", before=(World.keep_a_directory,)),
    Cell("source", "another task cleans up in the same moment", before=(World.clean_up_beside,)),
)


def _in(way: str, cells: Iterable[Cell]) -> list[Cell]:
    return [replace(cell, way=way, quick=cell.quick and way != "legacy") for cell in cells]


CELLS: tuple[Cell, ...] = (
    *passing(),
    *refused(),
    *gone(),
    *bad_jobs(),
    *_in("current", STATES),
    *_in("legacy", STATES),
    *OTHER_CONFLICTS,
    *_in("current", WINDOWS),
    *_in("legacy", WINDOWS),
    *uploads(),
    *_in("resumable", (*RESUMABLE_START, *RESUMABLE_PUT)),
    *downloads(),
    *rests(),
    *_in("legacy", LEGACY_DOWNLOADS),
    *SOURCES,
)
