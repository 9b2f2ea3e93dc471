"""The endpoints on X's own host."""

import base64
import re
import socket
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest
import requests

OPERATIONS = [
    ("GET", "?type=tweets", {}),
    ("GET", "/1", {}),
    ("POST", "", {"json": {"type": "tweets"}}),
    ("DELETE", "/1", {}),
    ("PUT", "/1/upload?token=x", {"data": b"1\n"}),
    ("GET", "/1/download?token=x", {}),
]


def problem(answer):
    """Return a problem's status and the last segment of its type, after checking its form."""
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["title"]
    assert body["detail"]
    return answer.status_code, body["type"].rpartition("/")[2]


class TestAuthorization:
    @pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic test-bearer", "test-bearer", "Bearer"])
    @pytest.mark.parametrize(("method", "path", "options"), OPERATIONS)
    def test_a_request_without_the_bearer_is_refused(self, emulator, method, path, options, header):
        url = f"{emulator.url}/2/compliance/jobs{path}"
        headers = {"Authorization": header} if header else {}
        answer = requests.request(method, url, headers=headers, timeout=10, **options)
        assert problem(answer) == (401, "about:blank")
        assert answer.json()["title"] == "Unauthorized"

    def exchange(self, emulator, credentials=None, data="grant_type=client_credentials"):
        raw = credentials or f"{emulator.api_key}:{emulator.api_secret}"
        headers = {
            "Authorization": "Basic " + base64.b64encode(raw.encode()).decode(),
            "Content-Type": "application/x-www-form-urlencoded;charset=UTF-8",
        }
        return requests.post(f"{emulator.url}/oauth2/token", data=data, headers=headers, timeout=10)

    def test_a_key_and_secret_become_the_bearer(self, emulator):
        answer = self.exchange(emulator)
        assert answer.json() == {"token_type": "bearer", "access_token": emulator.bearer_token}

    def test_key_and_secret_are_url_decoded(self, emulator):
        emulator.configure(api_key="k y", api_secret="s/t")
        assert self.exchange(emulator, "k%20y:s%2Ft").status_code == 200

    @pytest.mark.parametrize(
        ("options", "status"),
        [({"credentials": "no:no"}, 403), ({"credentials": "\xff"}, 403), ({"data": "grant_type=x"}, 400)],
    )
    def test_a_wrong_exchange_gets_an_error_of_the_old_shape(self, emulator, options, status):
        answer = self.exchange(emulator, **options)
        assert answer.status_code == status
        assert answer.json()["errors"][0]["code"]


class TestCreating:
    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"type": "posts"},
            {"type": "tweets", "name": "n" * 65},
            {"type": "tweets", "name": None},
            {"type": "tweets", "resumable": "true"},
            {"type": "tweets", "owner": "me"},
            ["tweets"],
        ],
    )
    def test_a_body_that_the_contract_does_not_know_is_refused(self, client, body):
        assert problem(client.call("POST", json=body)) == (400, "invalid-request")

    def test_a_resumable_job_is_refused_in_the_current_flow(self, client):
        answer = client.call("POST", json={"type": "tweets", "resumable": True})
        assert problem(answer) == (400, "invalid-request")

    def test_a_name_may_have_64_characters_of_any_text(self, client):
        assert client.create(name="ñ🙂" * 32)["name"] == "ñ🙂" * 32

    @pytest.mark.usefixtures("flow")
    def test_a_second_active_job_of_a_type_is_refused(self, client):
        first = client.create("tweets")
        assert problem(client.call("POST", json={"type": "tweets"})) == (409, "about:blank")
        client.create("users")
        client.upload(first)
        client.job(first)
        client.create("tweets")

    def test_the_legacy_answer_to_a_second_job_can_be_chosen(self, emulator, client):
        emulator.configure(flow="legacy", legacy_conflict_status=400)
        client.create()
        assert client.call("POST", json={"type": "tweets"}).status_code == 400

    @pytest.mark.usefixtures("flow")
    def test_the_windows_are_exact(self, client):
        job = client.create()
        names = ("created_at", "upload_expires_at", "download_expires_at")
        created, upload, download = (datetime.fromisoformat(job[name]) for name in names)
        assert upload - created == timedelta(minutes=15)
        assert download - created == timedelta(days=7)

    @pytest.mark.usefixtures("flow")
    def test_the_urls_never_change(self, client):
        job = client.create()
        assert client.job(job) == job

    def test_the_flow_says_where_the_urls_lead(self, client, flow):
        job = client.create()
        pattern = {
            "current": r"http://127.0.0.1:\d+/2/compliance/jobs/\d+/upload\?token=[\w-]+",
            "legacy": r"http://127.0.0.1:\d+/twttr-tweet-compliance/\d+/submission/\S+&X-Goog-Signature=\w{512}",
        }[flow]
        assert re.fullmatch(pattern, job["upload_url"])


class TestFields:
    @pytest.mark.parametrize("fields", ["id", "status,id", "created_at,upload_url"])
    def test_only_what_was_asked_for_is_returned(self, client, fields):
        job = client.create()
        answer = client.call("GET", f"/{job['id']}", params={"compliance_job.fields": fields})
        assert set(answer.json()["data"]) == set(fields.split(","))

    @pytest.mark.parametrize("fields", ["", "id,", "id,id", "error", "ID"])
    def test_anything_else_is_refused(self, client, fields):
        answer = client.call("GET", params={"type": "tweets", "compliance_job.fields": fields})
        assert problem(answer) == (400, "invalid-request")

    def test_without_asking_the_current_flow_returns_no_url_and_the_legacy_flow_all(self, emulator, client):
        current = client.call("POST", json={"type": "tweets"}).json()["data"]
        emulator.configure(flow="legacy")
        legacy = client.call("POST", json={"type": "users"}).json()["data"]
        assert set(current) == {"id", "status", "type"}
        assert {"upload_url", "download_url", "created_at"} < set(legacy)

    def test_what_is_returned_without_asking_can_be_chosen(self, emulator, client):
        emulator.configure(default_fields=["id"])
        assert set(client.call("POST", json={"type": "tweets"}).json()["data"]) == {"id"}

    def test_a_job_without_a_name_has_no_name(self, client):
        assert "name" not in client.create()


class TestReading:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/123", (404, "resource-not-found")),
            ("/abc", (400, "invalid-request")),
            ("/12345678901234567890", (400, "invalid-request")),
            ("/%D9%A1", (400, "invalid-request")),
            ("?type=posts", (400, "invalid-request")),
            ("", (400, "invalid-request")),
            ("?type=tweets&status=expired", (400, "invalid-request")),
            ("?type=tweets&type=tweets", (400, "invalid-request")),
            ("?type=tweets&max_results=10", (400, "invalid-request")),
        ],
    )
    def test_a_wrong_request_gets_its_problem(self, client, path, expected):
        assert problem(client.call("GET", path)) == expected

    def test_an_unknown_method_is_told_the_known_ones(self, client):
        answer = client.call("PATCH")
        assert problem(answer) == (405, "about:blank")
        assert set(answer.headers["allow"].replace(" ", "").split(",")) >= {"GET", "POST"}

    def test_a_list_without_a_job_has_no_data(self, client):
        assert client.call("GET", params={"type": "users"}).json() == {"meta": {"result_count": 0}}

    def test_a_list_is_filtered_by_type_and_status(self, client):
        done, active, other = client.completed("tweets"), client.create("tweets"), client.create("users")

        def ids(**params):
            return [job["id"] for job in client.call("GET", params=params).json().get("data", [])]

        assert ids(type="tweets") == [active["id"], done["id"]]
        assert ids(type="tweets", status="complete") == [done["id"]]
        assert ids(type="users") == [other["id"]]
        assert ids(type="users", status="failed") == []

    def test_how_far_back_the_list_goes_can_be_chosen(self, emulator, client):
        old = client.completed()
        emulator.advance(3600)
        new = client.completed()

        def ids():
            listed = client.call("GET", params={"type": "tweets"}).json()["data"]
            return [job["id"] for job in listed]

        assert ids() == [new["id"], old["id"]]
        emulator.configure(listed_seconds=1800)
        assert ids() == [new["id"]]
        assert client.job(old)["status"] == "complete"


class TestStates:
    @pytest.mark.usefixtures("flow")
    def test_a_job_goes_from_created_to_complete_as_time_passes(self, emulator, client):
        emulator.configure(processing_seconds=600)
        job = client.create()
        assert client.job(job)["status"] == "created"
        client.upload(job)
        assert client.job(job)["status"] == "in_progress"
        emulator.advance(590)
        assert client.job(job)["status"] == "in_progress"
        emulator.advance(10)
        assert client.job(job)["status"] == "complete"

    @pytest.mark.usefixtures("flow")
    def test_a_job_expires_when_nothing_was_uploaded_in_time(self, emulator, client):
        job = client.create()
        emulator.advance(890)
        assert client.job(job)["status"] == "created"
        emulator.advance(11)
        assert client.job(job)["status"] == "expired"
        client.create()

    def test_an_active_job_can_be_cancelled_and_frees_its_slot(self, client):
        job = client.create()
        answer = client.call("DELETE", f"/{job['id']}", params={"compliance_job.fields": "id,status"})
        assert answer.json() == {"data": {"id": job["id"], "status": "failed"}}
        client.create()

    def test_a_job_that_has_ended_cannot_be_cancelled(self, client):
        job = client.completed()
        assert problem(client.call("DELETE", f"/{job['id']}")) == (409, "about:blank")

    def test_a_job_in_progress_that_is_cancelled_stays_failed(self, emulator, client):
        emulator.configure(processing_seconds=60)
        job = client.create()
        client.upload(job)
        client.call("DELETE", f"/{job['id']}")
        emulator.advance(120)
        assert client.job(job)["status"] == "failed"

    @pytest.mark.usefixtures("legacy")
    def test_a_legacy_job_cannot_be_cancelled(self, client):
        job = client.create()
        assert problem(client.call("DELETE", f"/{job['id']}")) == (405, "about:blank")
        assert client.job(job)["status"] == "created"


class TestUpload:
    def test_the_answer_is_the_job_in_progress(self, client):
        job = client.create()
        answer = client.upload(job)
        assert answer.json()["data"]["status"] == "in_progress"

    def test_the_token_alone_is_not_enough(self, client):
        job = client.create()
        answer = client.request("PUT", job["upload_url"], data=b"1\n")
        assert problem(answer) == (401, "about:blank")

    @pytest.mark.parametrize(
        ("token", "status"), [("", 401), ("nonsense", 401), ("ü", 401), ("A" * 120, 401), ("!", 401)]
    )
    def test_an_unusable_token_is_refused(self, client, token, status):
        job = client.create()
        answer = client.call("PUT", f"/{job['id']}/upload", params={"token": token}, data=b"1\n")
        assert problem(answer) == (status, "about:blank")

    def test_a_missing_token_is_a_missing_parameter(self, client):
        job = client.create()
        assert problem(client.call("PUT", f"/{job['id']}/upload", data=b"1\n")) == (400, "invalid-request")

    def test_a_token_binds_one_operation_on_one_job(self, client):
        job, other = client.create("tweets"), client.create("users")
        wrong_operation = job["download_url"].replace("/download", "/upload")
        wrong_job = job["upload_url"].replace(job["id"], other["id"])
        for url in (wrong_operation, wrong_job):
            answer = client.request("PUT", url, data=b"1\n", headers=client.bearer)
            assert problem(answer) == (403, "about:blank")

    def test_a_token_lapses_with_its_window(self, emulator, client):
        job = client.create()
        emulator.advance(901)
        assert problem(client.upload(job)) == (403, "about:blank")

    def test_a_second_upload_is_refused(self, client):
        job = client.create()
        client.upload(job)
        assert problem(client.upload(job)) == (409, "about:blank")

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            (iter([b"1\n"]), (411, "about:blank")),
            (b"", (400, "invalid-request")),
            (b"1" * 1001, (413, "about:blank")),
        ],
    )
    def test_a_body_out_of_bounds_leaves_the_job_as_it_was(self, emulator, client, body, expected):
        emulator.configure(upload_limit=1000)
        job = client.create()
        answer = client.upload(job, body, **({"Content-Length": "0"} if body == b"" else {}))
        assert problem(answer) == expected
        assert client.job(job)["status"] == "created"
        assert client.upload(job, b"1" * 1000).status_code == 200

    def test_the_limit_is_that_of_the_contract(self, emulator):
        assert emulator.configure()["upload_limit"] == 128_000_000

    def test_a_body_cut_short_leaves_the_job_as_it_was(self, emulator, client):
        job = client.create()
        emulator.add_fault("cut_upload", endpoint="upload", at=1000)
        with pytest.raises(requests.ConnectionError):
            client.upload(job)
        assert client.job(job)["status"] == "created"
        assert emulator.jobs()[0]["submitted_bytes"] is None
        assert client.upload(job).status_code == 200

    def test_a_large_body_over_the_limit_is_refused_before_it_is_read(self, emulator, client):
        emulator.configure(upload_limit=1000)
        job = client.create()
        assert problem(client.upload(job, b"1" * 20_000_000)) == (413, "about:blank")

    def test_a_client_that_leaves_leaves_nothing_behind(self, emulator, client):
        job = client.create()
        parts = urlsplit(job["upload_url"])
        with socket.create_connection((parts.hostname, parts.port), 10) as connection:
            head = (
                f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                f"Authorization: {client.bearer['Authorization']}\r\nContent-Length: 1000\r\n\r\n"
            )
            connection.sendall(head.encode() + b"1\n" * 499)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        assert client.job(job)["status"] == "created"
        assert emulator.jobs()[0]["submitted_bytes"] is None

    def test_a_content_type_can_be_insisted_on(self, emulator, client):
        emulator.configure(upload_content_type="application/octet-stream")
        job = client.create()
        assert client.upload(job).status_code == 415
        assert client.upload(job, **{"Content-Type": "application/octet-stream"}).status_code == 200


class TestDownload:
    def test_there_is_no_result_before_the_job_is_complete(self, client):
        assert problem(client.download(client.create())) == (409, "about:blank")

    def test_bearer_and_token_are_both_needed(self, client):
        job = client.completed()
        assert problem(client.request("GET", job["download_url"])) == (401, "about:blank")
        wrong = job["upload_url"].replace("/upload", "/download")
        assert problem(client.request("GET", wrong, headers=client.bearer)) == (403, "about:blank")

    def test_it_lapses_after_seven_days(self, emulator, client):
        job = client.completed()
        emulator.advance(7 * 86400 - 10)
        assert client.download(job).status_code == 200
        emulator.advance(11)
        assert problem(client.download(job)) == (403, "about:blank")

    @pytest.mark.parametrize(
        ("framing", "length", "encoding", "connection"),
        [("length", True, None, None), ("chunked", False, "chunked", None), ("close", False, None, "close")],
    )
    def test_the_framing_can_be_chosen(self, emulator, client, framing, length, encoding, connection):
        job = client.completed()
        expected = client.download(job).content
        emulator.configure(download_framing=framing)
        answer = client.download(job)
        assert answer.content == expected
        assert answer.headers["content-type"] == "application/octet-stream"
        assert ("content-length" in answer.headers) is length
        assert answer.headers.get("transfer-encoding") == encoding
        assert answer.headers.get("connection") == connection

    def test_by_default_nothing_is_promised_but_a_length(self, client):
        answer = client.download(client.completed())
        assert not {"etag", "accept-ranges", "x-goog-hash"} & set(answer.headers)
        assert client.download(client.completed(), Range="bytes=1-2").status_code == 200

    def test_ranges_and_a_digest_can_be_had(self, emulator, client):
        emulator.configure(download_ranges=True, download_digest=True)
        job = client.completed()
        whole = client.download(job)
        assert whole.headers["x-goog-hash"].startswith("crc32c=")
        part = client.download(job, **{"Range": "bytes=10-", "If-Match": whole.headers["etag"]})
        assert (part.status_code, part.content) == (206, whole.content[10:])
        size = len(whole.content)
        assert part.headers["content-range"] == f"bytes 10-{size - 1}/{size}"
        assert problem(client.download(job, **{"If-Match": '"other"'})) == (412, "about:blank")
        assert problem(client.download(job, Range=f"bytes={size}-")) == (416, "about:blank")


class TestRateLimits:
    def test_headers_count_down_per_endpoint_and_the_window_starts_anew(self, emulator, client):
        emulator.configure(rate_limit=2)
        answers = [client.call("GET", params={"type": "tweets"}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["x-rate-limit-remaining"] for answer in answers] == ["1", "0", "0"]
        assert {answer.headers["x-rate-limit-limit"] for answer in answers} == {"2"}
        reset = int(answers[0].headers["x-rate-limit-reset"])
        assert 880 <= reset - emulator.now() <= 901
        assert problem(answers[2]) == (429, "about:blank")
        assert "retry-after" not in answers[2].headers
        assert client.call("GET", "/1").status_code == 404
        emulator.advance(reset - emulator.now())
        assert client.call("GET", params={"type": "tweets"}).status_code == 200

    def test_refusals_carry_the_headers_too(self, client):
        assert client.call("GET", "/1").headers["x-rate-limit-remaining"] == "149"
