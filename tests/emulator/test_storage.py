"""What the headers of ranges mean."""

import pytest

from airflow_provider_xcompliance.emulator.errors import RefusalError
from airflow_provider_xcompliance.emulator.storage import ContentRange, parse_content_range, parse_range


@pytest.mark.parametrize(
    ("header", "length", "expected"),
    [
        (None, 5, ContentRange(0, 4, 5)),
        ("bytes 0-4/5", 5, ContentRange(0, 4, 5)),
        ("bytes 2-4/*", 3, ContentRange(2, 4, None)),
        ("bytes */5", 0, ContentRange(None, None, 5)),
        ("bytes */*", 0, ContentRange(None, None, None)),
    ],
)
def test_a_content_range_says_where_the_body_belongs(header, length, expected):
    assert parse_content_range(header, length) == expected


@pytest.mark.parametrize(
    ("header", "length"),
    [("bytes 0-4/5", 4), ("bytes 0-4/4", 5), ("bytes */5", 5), ("0-4/5", 5), ("bytes 0-/5", 5), ("", 5)],
)
def test_a_content_range_that_does_not_fit_is_refused(header, length):
    with pytest.raises(RefusalError) as refusal:
        parse_content_range(header, length)
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-", (0, 9)),
        ("bytes=3-5", (3, 5)),
        ("bytes=3-99", (3, 9)),
        ("bytes=-4", (6, 9)),
        ("bytes=-99", (0, 9)),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
    ],
)
def test_a_range_is_a_span_of_the_object(header, expected):
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=-0", "bytes=5-4"])
def test_a_range_of_nothing_is_refused(header):
    with pytest.raises(RefusalError) as refusal:
        parse_range(header, 10)
    assert refusal.value.status == 416
