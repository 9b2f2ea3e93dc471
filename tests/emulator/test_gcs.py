"""The legacy flow's objects."""

import base64
import hashlib
import re
import socket
from urllib.parse import urlsplit

import google_crc32c
import pytest
import requests

from airflow_provider_xcompliance.emulator.storage import QUANTUM

pytestmark = pytest.mark.usefixtures("legacy")

BIG = b"1265324480517361664\n" * 40_000
"""Bytes: three quanta and a bit."""


def code(answer):
    """Return status and code of an error."""
    assert answer.headers["content-type"].startswith("application/xml")
    return answer.status_code, re.search("<Code>(.*?)</Code>", answer.text).group(1)


def crc32c(data):
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


class TestPut:
    def test_an_upload_is_answered_as_google_does(self, client):
        job = client.create()
        answer = client.upload(job, b"1\n2\n")
        md5 = hashlib.md5(b"1\n2\n").digest()
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.raw.headers.getlist("x-goog-hash") == [
            "crc32c=" + crc32c(b"1\n2\n"),
            "md5=" + base64.b64encode(md5).decode(),
        ]
        assert answer.headers["etag"] == f'"{md5.hex()}"'
        assert answer.headers["x-goog-stored-content-length"] == "4"
        assert answer.headers["x-goog-stored-content-encoding"] == "identity"
        assert answer.headers["x-goog-generation"].isdigit()

    @pytest.mark.parametrize(
        ("sent", "expected"), [(b"1\n2\n", 200), (b"1\n3\n", 400)], ids=["as sent", "changed on the way"]
    )
    def test_a_body_that_is_not_what_its_md5_says_is_refused(self, emulator, client, sent, expected):
        md5 = base64.b64encode(hashlib.md5(b"1\n2\n").digest()).decode()

        answer = client.upload(client.create(), sent, **{"Content-MD5": md5})

        assert answer.status_code == expected
        assert expected == 200 or code(answer) == (400, "BadDigest")
        assert (emulator.jobs()[0]["status"] == "created") == (expected == 400)

    def test_a_lapsed_url_is_answered_400_expired_token(self, emulator, client):
        job = client.create()
        emulator.advance(901)
        assert code(client.upload(job)) == (400, "ExpiredToken")

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"Content-Type": "application/octet-stream"}, (403, "SignatureDoesNotMatch")),
            ({"x-goog-meta-a": "1"}, (400, "MalformedSecurityHeader")),
        ],
    )
    def test_wrong_headers_get_googles_code(self, client, headers, expected):
        job = client.create()
        assert code(client.upload(job, **headers)) == expected
        assert client.job(job)["status"] == "created"

    def test_a_missing_signed_header_is_named(self, client):
        answer = client.request("PUT", client.create()["upload_url"], data=b"1\n")
        assert code(answer) == (400, "MalformedSecurityHeader")
        assert "<ParameterName>content-type</ParameterName>" in answer.text

    def test_an_unsigned_request_is_denied(self, client):
        url = client.create()["upload_url"].partition("?")[0]
        assert code(client.request("PUT", url, data=b"1\n")) == (403, "AccessDenied")

    def test_a_method_that_is_never_signed_does_not_match(self, client):
        answer = client.request(
            "DELETE", client.create()["upload_url"], headers={"Content-Type": "text/plain"}
        )
        assert code(answer) == (403, "SignatureDoesNotMatch")

    def test_a_body_without_a_length_is_refused(self, client):
        job = client.create()
        assert code(client.upload(job, iter([b"1\n"]))) == (411, "MissingContentLength")
        assert client.job(job)["status"] == "created"

    def test_a_body_over_the_limit_is_refused(self, emulator, client):
        assert emulator.configure()["legacy_upload_limit"] == 1_000_000_000
        emulator.configure(legacy_upload_limit=1000)
        job = client.create()
        assert code(client.upload(job, b"1" * 1001)) == (400, "EntityTooLarge")
        assert client.job(job)["status"] == "created"
        assert client.upload(job, b"1" * 1000).status_code == 200

    def test_a_bearer_is_seen_in_the_log(self, emulator, client):
        client.upload(client.create(), Authorization=client.bearer["Authorization"])
        assert [entry["has_authorization"] for entry in emulator.requests("upload")] == [True]

    def test_a_body_cut_short_leaves_nothing(self, emulator, client):
        job = client.create()
        emulator.add_fault("cut_upload", endpoint="upload", at=500_000)
        with pytest.raises(requests.ConnectionError):
            client.upload(job, BIG)
        assert client.job(job)["status"] == "created"
        assert client.upload(job, BIG).status_code == 200


class TestGet:
    def test_a_result_is_a_composite_object(self, client):
        job = client.completed()
        answer = client.download(job)
        assert answer.raw.headers.getlist("x-goog-hash") == ["crc32c=" + crc32c(answer.content)]
        assert answer.headers["etag"].startswith('"-C')
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-length"] == str(len(answer.content))
        assert answer.headers["x-goog-component-count"].isdigit()

    def test_there_is_no_object_before_the_job_is_complete(self, client):
        assert code(client.download(client.create())) == (404, "NoSuchKey")

    def test_it_lapses_after_seven_days(self, emulator, client):
        job = client.completed()
        emulator.advance(7 * 86400)
        assert code(client.download(job)) == (400, "ExpiredToken")

    @pytest.mark.parametrize(
        ("span", "expected"),
        [("bytes=5-", slice(5, None)), ("bytes=5-9", slice(5, 10)), ("bytes=-7", slice(-7, None))],
    )
    def test_a_range_is_honoured(self, client, span, expected):
        job = client.completed()
        whole = client.download(job)
        part = client.download(job, **{"Range": span, "If-Match": whole.headers["etag"]})
        assert (part.status_code, part.content) == (206, whole.content[expected])

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"Range": "bytes=99999999-"}, (416, "InvalidRange")),
            ({"If-Match": '"other"'}, (412, "PreconditionFailed")),
        ],
    )
    def test_what_cannot_be_had_gets_googles_code(self, client, headers, expected):
        assert code(client.download(client.completed(), **headers)) == expected


class TestResumable:
    @pytest.fixture
    def job(self, client):
        return client.create(resumable=True)

    @pytest.fixture
    def session(self, client, job):
        return client.start(job).headers["Location"]

    def put(self, client, session, body=b"", content_range=None):
        headers = {"Content-Range": content_range} if content_range else {}
        return client.request("PUT", session, data=body, headers=headers | {"Content-Length": str(len(body))})

    def status(self, client, session):
        answer = self.put(client, session, b"", f"bytes */{len(BIG)}")
        return answer.status_code, answer.headers.get("Range")

    def test_the_start_returns_a_session(self, client, job):
        answer = client.start(job)
        assert answer.status_code == 201
        assert "upload_id=" in answer.headers["Location"]
        assert client.job(job)["status"] == "created"

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"Content-Type": "text/csv"}, (403, "SignatureDoesNotMatch")),
            ({"x-goog-resumable": "stop"}, (403, "SignatureDoesNotMatch")),
        ],
    )
    def test_a_wrong_start_gets_googles_code(self, client, job, headers, expected):
        assert code(client.start(job, **headers)) == expected

    def test_a_plain_put_is_not_what_was_signed(self, client, job):
        answer = client.upload(job, **{"x-goog-resumable": "start"})
        assert code(answer) == (403, "SignatureDoesNotMatch")

    def test_the_body_may_come_whole(self, client, job, session):
        answer = self.put(client, session, BIG)
        assert answer.status_code == 200
        assert answer.headers["x-goog-stored-content-length"] == str(len(BIG))
        assert client.job(job)["status"] == "complete"

    def test_the_body_may_come_in_chunks(self, emulator, client, job, session):
        for start in range(0, len(BIG), QUANTUM):
            assert client.job(job)["status"] == "created"
            chunk = BIG[start : start + QUANTUM]
            end = start + len(chunk)
            answer = self.put(client, session, chunk, f"bytes {start}-{end - 1}/{len(BIG)}")
            assert answer.status_code == (308 if end < len(BIG) else 200)
            if end < len(BIG):
                assert answer.headers["Range"] == f"bytes=0-{end - 1}"
        assert client.job(job)["status"] == "complete"
        assert emulator.jobs()[0]["submitted_bytes"] == len(BIG)

    def test_a_session_that_holds_nothing_states_no_range(self, client, session):
        assert self.status(client, session) == (308, None)

    @pytest.mark.parametrize(
        ("cut", "kept"),
        [(0, None), (QUANTUM - 1, None), (QUANTUM, QUANTUM), (600_000, 2 * QUANTUM), (786_431, 2 * QUANTUM)],
    )
    def test_what_had_come_before_a_cut_is_kept_in_whole_quanta(
        self, emulator, client, job, session, cut, kept
    ):
        emulator.add_fault("cut_upload", endpoint="resumable_put", at=cut)
        with pytest.raises(requests.ConnectionError):
            self.put(client, session, BIG, f"bytes 0-{len(BIG) - 1}/{len(BIG)}")
        assert self.status(client, session) == (308, kept and f"bytes=0-{kept - 1}")
        start = kept or 0
        answer = self.put(client, session, BIG[start:], f"bytes {start}-{len(BIG) - 1}/{len(BIG)}")
        assert answer.status_code == 200
        assert answer.headers["x-goog-hash"].startswith("crc32c=" + crc32c(BIG))
        assert client.job(job)["status"] == "complete"

    def test_what_had_come_before_a_client_left_is_kept_too(self, client, session):
        parts = urlsplit(session)
        with socket.create_connection((parts.hostname, parts.port), 10) as connection:
            head = (
                f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                f"Content-Range: bytes 0-{len(BIG) - 1}/{len(BIG)}\r\nContent-Length: {len(BIG)}\r\n\r\n"
            )
            connection.sendall(head.encode() + BIG[: QUANTUM + 1])
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        assert self.status(client, session) == (308, f"bytes=0-{QUANTUM - 1}")

    def test_a_chunk_that_is_no_multiple_lands_in_part(self, client, session):
        answer = self.put(client, session, BIG[:300_000], f"bytes 0-299999/{len(BIG)}")
        assert (answer.status_code, answer.headers["Range"]) == (308, f"bytes=0-{QUANTUM - 1}")

    def test_a_gap_is_refused(self, client, session):
        answer = self.put(client, session, BIG[QUANTUM:], f"bytes {QUANTUM}-{len(BIG) - 1}/{len(BIG)}")
        assert code(answer) == (400, "InvalidArgument")
        assert self.status(client, session) == (308, None)

    @pytest.mark.parametrize("header", ["bytes 0-3/4", "bytes 0-1/1", "0-1/2", "bytes */x", "bytes */10"])
    def test_a_content_range_that_does_not_fit_is_refused(self, client, session, header):
        assert code(self.put(client, session, b"1\n", header)) == (400, "InvalidArgument")

    def test_a_body_without_a_length_is_refused(self, client, session):
        assert code(client.request("PUT", session, data=iter([BIG]))) == (411, "MissingContentLength")
        assert self.status(client, session) == (308, None)

    @pytest.mark.parametrize("content_range", [None, "bytes 0-1000/1001", "bytes 0-1000/*", "bytes */1001"])
    def test_a_body_over_the_limit_is_refused(self, emulator, client, session, content_range):
        emulator.configure(legacy_upload_limit=1000)
        body = b"" if content_range and "*/" in content_range else b"1" * 1001
        assert code(self.put(client, session, body, content_range)) == (400, "EntityTooLarge")
        assert self.put(client, session, b"1" * 1000).status_code == 200

    def test_a_finished_session_says_so_again(self, client, session):
        self.put(client, session, BIG)
        assert self.status(client, session) == (200, None)

    def test_a_session_outlives_the_window_of_its_job(self, emulator, client, job, session):
        emulator.advance(3600)
        assert code(client.start(job)) == (400, "ExpiredToken")
        assert self.put(client, session, BIG).status_code == 200
        assert client.job(job)["status"] == "complete"

    def test_a_session_ends_after_a_week(self, emulator, client, session):
        emulator.advance(7 * 86400)
        assert self.put(client, session, BIG).status_code == 410

    def test_a_lost_session_is_not_found(self, emulator, client, job, session):
        emulator.lose_sessions(job["id"])
        assert code(self.put(client, session, BIG)) == (404, "NoSuchUpload")
        emulator.advance(901)
        assert client.job(job)["status"] == "expired"
