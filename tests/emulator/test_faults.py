"""Each fault as a client sees it."""

import http.client
import subprocess
import sys
from contextlib import closing
from urllib.parse import urlsplit

import pytest
import requests

LIST = {"params": {"type": "tweets"}}


@pytest.fixture
def job(client):
    """A job with a result."""
    return client.completed()


@pytest.fixture
def whole(client, job):
    """Its result, untouched."""
    return client.download(job).content


@pytest.fixture
def raw(client, job, emulator):
    """Read a download off the wire: its headers, and as many bytes as came."""

    def read():
        parts = urlsplit(job["download_url"])
        with closing(http.client.HTTPConnection(parts.netloc, timeout=10)) as connection:
            connection.request("GET", f"{parts.path}?{parts.query}", headers=client.bearer)
            answer = connection.getresponse()
            try:
                return answer.headers, answer.read()
            except http.client.IncompleteRead as error:
                return answer.headers, error.partial

    return read


class TestWhichRequestIsStruck:
    def statuses(self, client, count=5):
        return [client.call("GET", **LIST).status_code for _ in range(count)]

    @pytest.mark.parametrize(
        ("when", "expected"),
        [
            ({}, [503, 200, 200, 200, 200]),
            ({"nth": 3}, [200, 200, 503, 200, 200]),
            ({"nth": 2, "times": 2}, [200, 503, 503, 200, 200]),
            ({"nth": 4, "times": 0}, [200, 200, 200, 503, 503]),
            ({"endpoint": "list"}, [503, 200, 200, 200, 200]),
            ({"endpoint": "get"}, [200] * 5),
            ({"path": "jobs$"}, [503, 200, 200, 200, 200]),
            ({"path": "upload"}, [200] * 5),
        ],
    )
    def test_it_is_the_nth_that_matches(self, emulator, client, when, expected):
        emulator.add_fault("status", status=503, **when)
        assert self.statuses(client) == expected

    def test_faults_can_be_taken_back(self, emulator, client):
        emulator.add_fault("status", times=0)
        emulator.clear_faults()
        assert self.statuses(client, 1) == [200]

    def test_the_log_tells_which_request_was_struck(self, emulator, client):
        emulator.add_fault("status", nth=2)
        self.statuses(client, 3)
        assert [entry["fault"] for entry in emulator.requests("list")] == [None, "status", None]

    @pytest.mark.parametrize(
        "fault",
        [
            {"action": "explode"},
            {"action": "status", "when": 3},
            {"action": "status", "path": "("},
            {"action": "status", "endpoint": "uploads"},
            {"action": "status", "status": 99},
            {"action": "status", "nth": 0},
            {"action": "cut", "at": -1},
            {"action": "stall", "seconds": -1},
            {"action": "kill"},
            {"action": "kill", "pid": 1},
        ],
    )
    def test_a_fault_that_makes_no_sense_is_refused(self, emulator, fault):
        with pytest.raises(ValueError, match=r"."):
            emulator.add_fault(**fault)


class TestAnswers:
    def test_any_answer_can_be_given(self, emulator, client):
        emulator.add_fault(
            "status", status=502, body="<html>", content_type="text/html", headers={"via": "x"}
        )
        answer = client.call("GET", **LIST)
        assert (answer.status_code, answer.text, answer.headers["via"]) == (502, "<html>", "x")
        assert answer.headers["content-type"].startswith("text/html")

    def test_a_body_that_is_no_text_becomes_json(self, emulator, client):
        emulator.add_fault("status", status=200, body={"data": {"id": "1"}, "errors": []})
        assert client.call("GET", **LIST).json() == {"data": {"id": "1"}, "errors": []}

    @pytest.mark.parametrize(("after_effect", "jobs"), [(True, 1), (False, 0)])
    def test_an_error_comes_with_or_without_the_effect(self, emulator, client, after_effect, jobs):
        emulator.add_fault("status", endpoint="create", status=500, after_effect=after_effect)
        assert client.call("POST", json={"type": "tweets"}).status_code == 500
        assert len(emulator.jobs()) == jobs

    def test_a_redirect_points_where_it_is_told(self, emulator, client):
        emulator.add_fault("redirect", location="http://127.0.0.1:1/", status=307)
        answer = client.call("GET", **LIST)
        assert (answer.status_code, answer.headers["location"]) == (307, "http://127.0.0.1:1/")

    def test_a_rate_limit_states_its_reset(self, emulator, client):
        emulator.add_fault("rate_limit", seconds=60)
        answer = client.call("GET", **LIST)
        assert answer.status_code == 429
        assert float(answer.headers["x-rate-limit-reset"]) == pytest.approx(emulator.now() + 60, abs=20)


class TestConnections:
    def test_a_reset_is_a_reset(self, emulator, client):
        emulator.add_fault("reset")
        with pytest.raises(requests.ConnectionError, match="reset by peer"):
            client.call("GET", **LIST)

    @pytest.mark.parametrize(("after_effect", "jobs"), [(True, 1), (False, 0)])
    def test_a_reset_comes_with_or_without_the_effect(self, emulator, client, after_effect, jobs):
        emulator.add_fault("reset", endpoint="create", after_effect=after_effect)
        with pytest.raises(requests.ConnectionError):
            client.call("POST", json={"type": "tweets"})
        assert len(emulator.jobs()) == jobs

    @pytest.mark.parametrize("after_effect", [True, False])
    def test_a_process_is_killed_with_or_without_the_effect(self, emulator, client, after_effect):
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
            emulator.add_fault("kill", endpoint="create", pid=victim.pid, after_effect=after_effect)
            with pytest.raises(requests.ConnectionError):
                client.call("POST", json={"type": "tweets"})
            assert victim.wait(10) == -9
        assert len(emulator.jobs()) == int(after_effect)

    @pytest.mark.parametrize("action", ["kill", "cut_upload"])
    def test_a_process_is_killed_within_a_body(self, emulator, client, job, action):
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
            other = client.create("users")
            emulator.add_fault(action, pid=victim.pid, at=10)
            with pytest.raises(requests.RequestException):
                client.download(job) if action == "kill" else client.upload(other)
            assert victim.wait(10) == -9

    def test_a_stall_lasts_until_the_client_gives_up(self, emulator, client):
        emulator.add_fault("stall")
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{emulator.url}/2/compliance/jobs", timeout=0.1)

    def test_a_stall_within_a_body_ends_when_released(self, emulator, client, job, whole):
        emulator.add_fault("stall", at=20)
        with client.session.get(
            job["download_url"], headers=client.bearer, stream=True, timeout=10
        ) as answer:
            assert answer.raw.read(20) == whole[:20]
            emulator.release()
            assert answer.raw.read() == whole[20:]

    def test_a_stall_ends_by_itself_after_its_seconds(self, emulator, client, job, whole):
        emulator.add_fault("stall", at=20, seconds=0.01)
        assert client.download(job).content == whole


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
class TestBodies:
    @pytest.fixture(autouse=True)
    def _framing(self, emulator, whole, framing):
        emulator.configure(download_framing=framing)

    @pytest.mark.parametrize("at", [0, 1, 100])
    def test_a_cut_ends_the_connection_within_the_framing(self, emulator, raw, whole, framing, at):
        emulator.add_fault("cut", endpoint="download", at=at)
        headers, body = raw()
        assert body == whole[:at]
        assert headers["content-length"] == (str(len(whole)) if framing == "length" else None)

    @pytest.mark.parametrize("at", [0, 1, 100])
    def test_a_truncation_is_well_framed(self, emulator, client, job, whole, at):
        emulator.add_fault("truncate", endpoint="download", at=at)
        assert client.download(job).content == whole[:at]

    def test_a_corruption_flips_one_byte(self, emulator, client, job, whole):
        emulator.add_fault("corrupt", endpoint="download", at=50)
        body = client.download(job).content
        assert [index for index, pair in enumerate(zip(body, whole, strict=True)) if pair[0] != pair[1]] == [
            50
        ]


@pytest.mark.parametrize("offset", [-10, 10])
def test_a_wrong_length_is_stated(emulator, raw, whole, offset):
    emulator.add_fault("wrong_length", endpoint="download", offset=offset)
    headers, body = raw()
    assert int(headers["content-length"]) == len(whole) + offset
    assert body == whole[: len(whole) + min(offset, 0)]
