"""The stand-in as an ASGI application: routes, and nothing else."""

from __future__ import annotations

from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from airflow_provider_xcompliance.emulator import control, gcs, x
from airflow_provider_xcompliance.emulator.errors import problem
from airflow_provider_xcompliance.emulator.front import Front
from airflow_provider_xcompliance.emulator.state import BUCKETS, State

JOBS = "/2/compliance/jobs"


def build(state: State, plane: control.Control) -> ASGIApp:
    """Return the application."""
    objects = gcs.endpoint(state)
    app = Starlette(
        routes=[
            Route(JOBS, x.endpoint(state, GET=x.list_jobs, POST=x.create), methods=["GET", "POST"]),
            Route(JOBS + "/{id}", x.endpoint(state, GET=x.get, DELETE=x.cancel), methods=["GET", "DELETE"]),
            Route(JOBS + "/{id}/upload", x.endpoint(state, PUT=x.upload), methods=["PUT"]),
            Route(JOBS + "/{id}/download", x.endpoint(state, GET=x.download), methods=["GET"]),
            Route("/oauth2/token", partial(x.exchange_key, state), methods=["POST"]),
            Route("/_emulator/{name:path}", partial(control.endpoint, plane), methods=["GET", "POST"]),
            *(
                # One that is never signed gets Google's answer too.
                Route(f"/{bucket}/{{name:path}}", objects, methods=[*gcs.METHODS, "DELETE", "PATCH"])
                for bucket in BUCKETS.values()
            ),
        ],
        exception_handlers={HTTPException: _as_problem},
    )
    app.router.redirect_slashes = False
    return Front(app, state)


async def _as_problem(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return problem(error.status_code, error.detail, dict(error.headers or {})).response()
