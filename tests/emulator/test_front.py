"""The names under which faults and the log know endpoints."""

from typing import get_args
from urllib.parse import parse_qs

import pytest

from airflow_provider_xcompliance.emulator.faults import Endpoint
from airflow_provider_xcompliance.emulator.front import endpoint_of

TARGETS = [
    ("POST", "/2/compliance/jobs", "create"),
    ("GET", "/2/compliance/jobs?type=tweets", "list"),
    ("GET", "/2/compliance/jobs/1?compliance_job.fields=id", "get"),
    ("DELETE", "/2/compliance/jobs/1", "cancel"),
    ("PUT", "/2/compliance/jobs/1/upload?token=upload_id=1", "upload"),
    ("GET", "/2/compliance/jobs/1/download?token=x", "download"),
    ("POST", "/oauth2/token", "oauth"),
    ("PUT", "/twttr-tweet-compliance/1/submission/2?X-Goog-Date=x", "upload"),
    ("POST", "/twttr-user-compliance/1/submission/2?X-Goog-Date=x", "resumable_start"),
    ("PUT", "/twttr-user-compliance/1/submission/2?X-Goog-Date=x&upload_id=y", "resumable_put"),
    ("GET", "/twttr-user-compliance/1/results/2?X-Goog-Date=x", "download"),
    ("PATCH", "/2/compliance/jobs", "other"),
    ("GET", "/2/tweets", "other"),
    ("POST", "/2/compliance/jobs\n", "other"),
]


@pytest.mark.parametrize(("method", "target", "name"), TARGETS)
def test_an_endpoint_has_a_name(method, target, name):
    path, _, query = target.partition("?")
    assert endpoint_of(method, path, parse_qs(query)) == name


def test_every_name_is_that_of_an_endpoint():
    assert {name for _, _, name in TARGETS} == set(get_args(Endpoint))
