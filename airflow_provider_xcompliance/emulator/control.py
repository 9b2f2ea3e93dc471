"""The control plane: the same functions over HTTP and from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_xcompliance.emulator import results
from airflow_provider_xcompliance.emulator.errors import problem
from airflow_provider_xcompliance.emulator.faults import Endpoint
from airflow_provider_xcompliance.emulator.jobs import FIELDS, Job
from airflow_provider_xcompliance.emulator.state import State

SECRETS = ("bearer_token", "api_key", "api_secret")


class Control:
    """What a test can do to the stand-in. Everything runs in the server's loop."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._initial = msgspec.to_builtins(state.settings)
        self._initial_events = state.events

    def now(self) -> float:
        """Tell the time on the stand-in's clock, in seconds since the epoch."""
        return self._state.clock.now()

    def advance(self, advance_seconds: float) -> float:
        """Move the clock on, and tell the time."""
        self._state.clock.advance(advance_seconds)
        return self.now()

    def configure(self, **settings: Any) -> dict[str, Any]:
        """Change settings, and tell all of them but the secrets."""
        self._state.settings.update(settings)
        everything: dict[str, Any] = msgspec.to_builtins(self._state.settings)
        return {name: value for name, value in everything.items() if name not in SECRETS}

    def add_fault(self, action: str, **fault: Any) -> list[dict[str, Any]]:
        """Set a fault; see :class:`~airflow_provider_xcompliance.emulator.faults.Fault`."""
        self._state.faults.add(action=action, **fault)
        return self.faults()

    def faults(self) -> list[dict[str, Any]]:
        """Tell the faults that are set, with how many requests each has seen."""
        return [msgspec.to_builtins(fault) for fault in self._state.faults.faults]

    def clear_faults(self) -> None:
        """Take all faults back, and let go on what is stalled."""
        self._state.faults.clear()

    def release(self) -> None:
        """Let go on what is stalled."""
        self._state.faults.release()

    def requests(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """Tell the latest requests, or those to one endpoint, without anything secret.

        :raises ValueError: if there is no such endpoint.
        """
        if endpoint not in (None, *get_args(Endpoint)):
            raise ValueError(f"no endpoint {endpoint!r}; known are {', '.join(get_args(Endpoint))}")
        return [dict(entry) for entry in self._state.log if endpoint in (None, entry["endpoint"])]

    def jobs(self) -> list[dict[str, Any]]:
        """Tell all jobs, the newest first, without their URLs."""
        self._state.settle()
        return [_plain(job) for job in self._state.jobs.list(None, self._state.clock.now())]

    def set_job(self, job_id: str, status: str, error: str | None = None) -> dict[str, Any]:
        """Give a job any status; ``complete`` computes its result.

        :param error: why it failed.
        """
        job = self._job(job_id)
        job.error = error
        job.due = self._state.clock.now() if status == "complete" else None
        job.status = "in_progress" if status == "complete" else status
        self._state.settle()
        return _plain(job)

    def set_result(self, job_id: str, result: str | bytes) -> dict[str, Any]:
        """Replace the bytes of a job's result, at once or once it is complete."""
        job = self._job(job_id)
        path = self._state.directory / f"{job_id}.result"
        path.write_bytes(result.encode() if isinstance(result, str) else result)
        job.result, job.digests = path, None
        return _plain(job)

    def set_events(self, events: str | bytes | None = None) -> None:
        """Replace the events for results that are yet to be computed.

        :param events: NDJSON, each line used as it stands for the id in it; None: decided by a hash.
        """
        raw = events.encode() if isinstance(events, str) else events
        self._state.events = None if raw is None else results.parse_events(raw)

    def lose_sessions(self, job_id: str) -> None:
        """Drop a job's resumable sessions, as if the service had lost them."""
        self._state.lose_sessions(self._job(job_id))

    def reset(self) -> None:
        """Go back to the start: no job, no fault, no log, real time, the first settings and events."""
        self._state.clear()
        self._state.settings.update(self._initial)
        self._state.events = self._initial_events

    def _job(self, job_id: str) -> Job:
        job = self._state.jobs.get(job_id, self._state.clock.now())
        if job is None:
            raise KeyError(f"no job {job_id}")
        return job


def _plain(job: Job) -> dict[str, Any]:
    fields = tuple(name for name in FIELDS if not name.endswith("_url"))
    return {**job.view(fields), "flow": job.flow, "submitted_bytes": _size(job)}


def _size(job: Job) -> int | None:
    return job.submission.stat().st_size if job.submission else None


READS: Mapping[str, Callable[[Control], Any]] = {
    "clock": Control.now,
    "config": lambda control: control.configure(),
    "faults": Control.faults,
    "jobs": Control.jobs,
    "requests": Control.requests,
}
WRITES: Mapping[str, Callable[..., Any]] = {
    "clock": Control.advance,
    "config": Control.configure,
    "events": Control.set_events,
    "faults": Control.add_fault,
    "faults/clear": Control.clear_faults,
    "faults/release": Control.release,
    "jobs": Control.set_job,
    "reset": Control.reset,
    "results": Control.set_result,
    "sessions/lose": Control.lose_sessions,
}


async def _body(request: Request) -> dict[str, Any]:
    return msgspec.json.decode(await request.body() or b"{}", type=dict[str, Any])


async def endpoint(control: Control, request: Request) -> Response:
    """Answer ``GET /_emulator/<name>?<arguments>``, and ``POST`` with the arguments as a JSON object."""
    is_write = request.method == "POST"
    table = WRITES if is_write else READS
    name = request.path_params["name"]
    action = table.get(name)
    if action is None:
        return problem(404, f"The control plane knows {sorted(table)}.").response()
    try:
        answer = action(control, **(await _body(request) if is_write else request.query_params))
    except (TypeError, KeyError, ValueError) as error:
        return problem(400, f"{type(error).__name__}: {error}").response()
    return JSONResponse(answer if isinstance(answer, dict) else {name: answer})
