"""The stand-in against the OpenAPI description of X, fuzzed inputs included."""

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, settings
from schemathesis import GenerationMode

DESCRIPTION = Path(__file__).parent.parent / "data" / "x-openapi-compliance.json"

anything = schemathesis.openapi.from_path(DESCRIPTION)
valid = schemathesis.openapi.from_path(DESCRIPTION)
valid.config.generation.update(modes=[GenerationMode.POSITIVE])

bounded = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def prepare(emulator, flow):
    """Return to an empty service, and return the header that every call needs."""
    emulator.reset()
    emulator.configure(flow=flow, rate_limit=1_000_000)
    return {"Authorization": f"Bearer {emulator.bearer_token}"}


def is_refused_on_record(case, flow):
    """Say whether a request is valid by the description, but refused all the same.

    The current flow knows no resumable jobs, and nothing is no submission.
    """
    if case.method == "PUT":
        return getattr(case.body, "data", case.body) in (b"", "")
    return flow == "current" and isinstance(case.body, dict) and case.body.get("resumable") is True


@anything.parametrize()
@pytest.mark.parametrize("flow", ["current", "legacy"])
@bounded
def test_any_request_is_answered_as_described(case, flow, emulator):
    assume(not is_refused_on_record(case, flow))
    case.call_and_validate(base_url=emulator.url, headers=prepare(emulator, flow))


@valid.parametrize()
@pytest.mark.parametrize("flow", ["current"])
@bounded
def test_a_valid_request_about_a_real_job_succeeds_as_described(case, flow, emulator, client):
    assume(not is_refused_on_record(case, flow))
    headers = prepare(emulator, flow)
    operation = case.path.rpartition("/")[2]
    if "id" in case.path_parameters:
        job = client.completed() if operation == "download" else client.create()
        case.path_parameters["id"] = job["id"]
    if "token" in case.query:
        case.query["token"] = job[f"{operation}_url"].rpartition("token=")[2]
    answer = case.call_and_validate(base_url=emulator.url, headers=headers)
    assert answer.status_code == 200
