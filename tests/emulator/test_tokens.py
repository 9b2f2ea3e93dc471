"""Tokens bind one operation on one job until a moment."""

import pytest

from airflow_provider_xcompliance.emulator import tokens

KEY = b"key"
TOKEN = tokens.issue(KEY, "1", "upload", 1000)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, None),
        ({"now": 1000}, 403),
        ({"job_id": "2"}, 403),
        ({"operation": "download"}, 403),
        ({"key": b"other"}, 401),
        ({"token": TOKEN[:-2]}, 401),
        ({"token": "A" + TOKEN[1:]}, 401),
        ({"token": "%"}, 401),
        ({"token": ""}, 401),
    ],
)
def test_a_token_is_good_for_nothing_else(change, status):
    request = {"key": KEY, "token": TOKEN, "job_id": "1", "operation": "upload", "now": 999} | change
    refused = tokens.refusal(**request)
    assert (refused and refused[0]) == status
