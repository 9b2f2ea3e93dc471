import sqlite3
from contextlib import closing

import pytest

from demo.secret_scan import SecretScan, secrets_of_urls

SECRET = "demo-0123456789abcdef/0123456789abcdef=0123456789"
SIGNATURE = "5e" * 128


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"cut off: {SECRET[:30]}",
        f"the end of it: {SECRET[20:]}",
        "?x=demo-0123456789abcdef%2F0123456789abcdef%3D0123456789",
        f"https://storage.googleapis.com/bucket/object?X-Goog-Signature={SIGNATURE}",
        "/2/compliance/jobs/123/upload?token=abcdefghijklmnopqrstuvwxyz",
        "PUT /session?upload_id=abcdefghijklmnopqrstuvwxyz",
    ],
)
def test_a_secret_is_found_in_text_whole_cut_off_encoded_or_by_its_shape(text):
    scan = SecretScan([SECRET])
    scan.text("somewhere", text)
    assert scan.found == ["somewhere"]


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer ***",
        "/2/compliance/jobs/123/upload?token=***",
        "?X-Goog-Signature=***&X-Goog-Expires=900",
        "https://storage.googleapis.com/bucket/object",
        SECRET[:20],
    ],
)
def test_what_is_masked_or_harmless_is_not_found(text):
    scan = SecretScan([SECRET])
    scan.text("somewhere", text)
    assert scan.found == []
    assert scan.places == 1


def test_files_are_searched_at_any_depth_except_those_left_out(tmp_path):
    for name in ("logs/deep/task.log", "state/tokens"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(SECRET)
    scan = SecretScan([SECRET])
    scan.files(tmp_path, leave_out=[tmp_path / "state"])
    assert scan.found == [str(tmp_path / "logs/deep/task.log")]


@pytest.mark.parametrize("value", [SECRET, SECRET.encode(), "x" * 100_000 + SECRET + "x" * 100_000])
def test_a_secret_is_found_in_a_database_wherever_its_pages_are_cut(tmp_path, value):
    path = tmp_path / "airflow.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE xcom (key, value)")
        connection.execute("INSERT INTO xcom VALUES ('harmless', 'text'), ('return_value', ?)", [value])
    scan = SecretScan([SECRET])
    scan.database(path)
    assert scan.found == [f"{path} table xcom"]
    assert scan.places == 2


def test_the_secrets_of_a_url_are_its_signature_or_token():
    urls = [
        f"https://storage.googleapis.com/b/o?X-Goog-Expires=900&X-Goog-Signature={SIGNATURE}",
        f"https://api.x.com/2/compliance/jobs/1/upload?token={SECRET}",
        "https://api.x.com/2/compliance/jobs",
    ]
    assert secrets_of_urls(urls) == {SIGNATURE, SECRET}


def test_a_secret_that_is_too_short_to_be_told_from_other_text_is_refused():
    with pytest.raises(ValueError, match="too short"):
        SecretScan(["password"])
