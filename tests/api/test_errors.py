import pickle
from datetime import UTC, datetime

import pytest

from airflow_provider_xcompliance.api.errors import (
    TRANSIENT_ERRORS,
    CertificateError,
    NetworkError,
    RateLimitedError,
    one_line,
)


def test_errors_survive_pickling_with_what_they_know() -> None:
    reset = datetime(2026, 1, 1, tzinfo=UTC)
    limited = pickle.loads(pickle.dumps(RateLimitedError("x", wait_seconds=5, reset_at=reset)))
    assert (str(limited), limited.wait_seconds, limited.reset_at) == ("x", 5, reset)
    assert pickle.loads(pickle.dumps(NetworkError("x", delivered=False))).delivered is False


def test_a_certificate_that_is_not_trusted_passes_no_more_than_a_wrong_setting() -> None:
    assert not issubclass(CertificateError, TRANSIENT_ERRORS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two\r\n lines\tand\x1b[31m colour\x00", "two lines and [31m colour"),
        ("see https://api.x.com/2/jobs?token=abc&x=y for it", "see https://api.x.com/2/jobs?*** for it"),
        ("why? because", "why? because"),
        ("a" * 500, "a" * 200),
    ],
)
def test_what_a_server_says_becomes_one_short_line(text: str, expected: str) -> None:
    assert one_line(text) == expected
