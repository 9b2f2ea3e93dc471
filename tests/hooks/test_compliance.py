from datetime import timedelta

import pytest

from airflow_provider_xcompliance.api.errors import AuthenticationError
from airflow_provider_xcompliance.api.ownership import Step, job_name
from airflow_provider_xcompliance.emulator.server import EmulatorServer
from airflow_provider_xcompliance.get_provider_info import CONNECTION_TYPE
from airflow_provider_xcompliance.hooks import compliance
from airflow_provider_xcompliance.hooks.compliance import XComplianceHook

CLOSED = "http://127.0.0.1:9"


def hook_for(connect, **values) -> XComplianceHook:
    connect("x_test", conn_type="xcompliance", **values)
    return XComplianceHook("x_test")


class TestConnection:
    def test_a_bearer_token_is_the_password(self, emulator, connect):
        hook = hook_for(connect, host=emulator.url, password=emulator.bearer_token)

        assert hook.list_jobs("tweets") == []

    def test_blanks_around_a_pasted_token_do_no_harm(self, emulator, connect):
        hook = hook_for(connect, host=emulator.url, password=f" {emulator.bearer_token}\n")

        assert hook.list_jobs("tweets") == []

    def test_an_api_key_and_secret_are_exchanged_once_and_the_token_is_masked(
        self, emulator, connect, monkeypatch
    ):
        masked = []
        monkeypatch.setattr(compliance, "mask_secret", masked.append)
        hook = hook_for(connect, host=emulator.url, login=emulator.api_key, password=emulator.api_secret)

        hook.list_jobs("tweets")
        hook.list_jobs("users")

        assert masked.count(emulator.bearer_token) == 1
        assert len(emulator.requests("oauth")) == 1

    @pytest.mark.parametrize(
        ("values", "base_url"),
        [
            ({}, "https://api.x.com"),
            ({"host": "api.twitter.com"}, "https://api.twitter.com"),
            ({"host": "https://api.x.com/"}, "https://api.x.com"),
            ({"host": "127.0.0.1", "schema": "http", "port": 8765}, "http://127.0.0.1:8765"),
            ({"host": "http://127.0.0.1:8765"}, "http://127.0.0.1:8765"),
        ],
    )
    def test_the_host_may_be_written_in_several_ways(self, connect, values, base_url):
        hook = hook_for(connect, password="token", **values)

        assert hook.client._policy.base_url == base_url

    @pytest.mark.parametrize(
        "hosts", ["uploads.example, other.example:8443", ["uploads.example", "other.example:8443"]]
    )
    def test_allowed_hosts_are_a_list_or_separated_by_commas(self, connect, hosts):
        policy = hook_for(connect, password="token", extra={"allowed_hosts": hosts}).client._policy

        assert policy.check("https://uploads.example/x").host == "uploads.example"
        assert policy.check("https://other.example:8443/x").port == 8443

    def test_without_credentials_the_error_says_what_is_needed(self, connect):
        with pytest.raises(ValueError, match="a bearer token, or an API key and secret, is needed"):
            hook_for(connect, host="https://api.x.com").get_conn()

    def test_a_wrong_token_is_an_authentication_error(self, emulator, connect):
        with pytest.raises(AuthenticationError, match="credentials of the connection are not accepted"):
            hook_for(connect, host=emulator.url, password="wrong").get_job("1")


class TestTestConnection:
    def answer_of(self, connect, **values) -> tuple[bool, str]:
        return hook_for(connect, **values).test_connection()

    def test_a_good_connection_says_so(self, emulator, connect):
        assert self.answer_of(connect, host=emulator.url, password=emulator.bearer_token) == (
            True,
            "X accepts the token, and lists the App's compliance jobs.",
        )

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"password": "wrong-token"}, "is wrong or revoked"),
            ({"login": "wrong-key", "password": "wrong-secret"}, "is wrong or revoked"),
            ({"password": "good", "host": CLOSED}, "No answer: check the API base URL"),
            ({"password": "good", "host": "http://api.example.com"}, "is not acceptable"),
            ({"password": "good", "host": "https://me@api.x.com"}, "is not acceptable"),
            ({}, "a bearer token, or an API key and secret, is needed"),
        ],
    )
    def test_a_bad_connection_is_told_in_plain_words(self, emulator, connect, values, words):
        good, message = self.answer_of(connect, **{"host": emulator.url} | values)

        assert not good
        assert words in message
        assert "wrong-" not in message

    @pytest.mark.parametrize(
        ("answer", "good", "words"),
        [
            (
                {"status": 403, "body": {"type": "about:blank", "title": "Forbidden"}},
                False,
                "no access to batch",
            ),
            ({"status": 200, "body": "<html>", "content_type": "text/html"}, False, "not as X's API does"),
            ({"status": 404, "body": ""}, False, "not as X's API does"),
            ({"status": 502, "body": "<html>"}, False, "not as X's API does"),
        ],
    )
    def test_a_strange_answer_is_told_in_plain_words(self, emulator, connect, answer, good, words):
        emulator.add_fault("status", endpoint="list", **answer)

        assert self.answer_of(connect, host=emulator.url, password=emulator.bearer_token)[0] is good
        emulator.add_fault("status", endpoint="list", **answer)
        assert words in self.answer_of(connect, host=emulator.url, password=emulator.bearer_token)[1]

    def test_a_rate_limit_proves_the_token_and_is_not_waited_for(self, emulator, connect):
        emulator.add_fault("rate_limit", endpoint="list", seconds=800)

        good, message = self.answer_of(connect, host=emulator.url, password=emulator.bearer_token)

        assert good
        assert "limits its rate" in message

    def test_the_hook_is_as_patient_afterwards_as_before(self, emulator, connect):
        hook = hook_for(connect, host=emulator.url, password=emulator.bearer_token)
        before = vars(hook).copy()

        hook.test_connection()

        assert {**vars(hook), "client": None} == {**before, "client": None}


class TestForm:
    def test_the_methods_for_older_airflows_say_what_the_metadata_says(self):
        behaviour = XComplianceHook.get_ui_field_behaviour()

        assert behaviour["hidden_fields"] == ["schema", "port"]
        assert behaviour["relabeling"]["password"] == "Bearer token, or API secret"

    def test_the_widgets_of_older_airflows_are_the_fields_of_the_metadata(self):
        pytest.importorskip(
            "flask_appbuilder", reason="only Airflow 2 brings it, and only there it is asked for"
        )

        assert XComplianceHook.get_connection_form_widgets().keys() == CONNECTION_TYPE["conn-fields"].keys()

    def test_every_setting_of_the_form_reaches_the_client(self, connect, tmp_path):
        bundle = tmp_path / "ca.pem"
        bundle.touch()
        extra = {
            "owner": "the night shift",
            "allowed_hosts": "uploads.example",
            "timeout_seconds": 7,
            "upload_content_type": "application/octet-stream",
            "ca_bundle": str(bundle),
        }
        assert extra.keys() == CONNECTION_TYPE["conn-fields"].keys()

        hook = hook_for(connect, password="token", extra=extra)
        client = hook.client

        assert hook.owner == "the night shift"
        assert client._policy.check("https://uploads.example/x")
        assert client._transport._timeout_seconds == 7
        assert client._upload_content_type == "application/octet-stream"
        assert client._transport._verify == str(bundle)


class TestOwner:
    def test_it_is_the_one_of_the_connection(self, connect):
        hook = hook_for(connect, password="token", extra={"owner": " the night shift "})

        assert hook.owner == "the night shift"
        assert hook.job_name("label", "dag") == job_name("label", "the night shift", "dag")

    @pytest.mark.parametrize("extra", [{}, {"owner": ""}, {"owner": None}])
    def test_else_it_is_the_address_of_this_airflow(self, connect, base_url, extra, caplog, capsys):
        base_url("https://airflow.example.com/team")

        assert hook_for(connect, password="token", extra=extra).owner == "https://airflow.example.com/team"
        assert "names no 'owner'" not in caplog.text + capsys.readouterr().out

    @pytest.mark.parametrize("address", ["http://localhost:8080", "http://127.0.0.1:8080", "/"])
    def test_an_address_that_others_may_have_too_is_warned_of_once(
        self, connect, base_url, address, caplog, capsys
    ):
        base_url(address)
        hook = hook_for(connect, password="token")

        assert hook.owner == hook.owner == address
        # It is on one of the two or on both, as the version of Airflow has it.
        told = [text.count("give each an 'owner'") for text in (caplog.text, capsys.readouterr().out)]
        assert max(told) == 1

    def test_without_any_address_it_is_nobody_and_warned_of_too(self, connect, base_url, caplog, capsys):
        base_url("")

        assert hook_for(connect, password="token").owner == ""
        assert "give each an 'owner'" in caplog.text + capsys.readouterr().out

    @pytest.fixture
    def base_url(self, monkeypatch):
        def set_address(address: str) -> None:
            for section in ("API", "WEBSERVER"):
                monkeypatch.setenv(f"AIRFLOW__{section}__BASE_URL", address)

        return set_address


class TestJobs:
    def test_a_claim_adopts_a_job_only_while_it_waits_for_its_ids(self, emulator, x_connection):
        hook = XComplianceHook()
        name = hook.job_name("by hand", "dag")
        step, job = hook.claim_job("tweets", name)
        assert (step, job.name) == (Step.ADOPT, name)
        assert hook.claim_job("tweets", name)[1].id == job.id

        emulator.set_job(job.id, "in_progress")
        assert hook.claim_job("tweets", name)[0] is Step.WAIT

        emulator.set_job(job.id, "complete")
        assert hook.claim_job("tweets", name)[1].id != job.id

    def test_a_run_is_made_of_the_connections_and_knows_what_may_be_replaced(
        self, connect, x_connection, id_file, tmp_path
    ):
        options = {"name_of": str, "reuse_within": timedelta(hours=6)}

        run = XComplianceHook().job_run(
            "tweets", [str(id_file)], str(tmp_path), if_exists="verify", **options
        )

        assert [part.destination for part in run.parts] == [f"{tmp_path}/part-0001.ndjson"]
        assert (run.replace, run.source_client, run.destination_client) == (False, None, None)
        with pytest.raises(ValueError, match="if_exists must be 'verify' or 'replace', not 'add'"):
            XComplianceHook().job_run("tweets", str(id_file), "/events", if_exists="add", **options)


def test_the_chain_runs_through_the_hook_alone(emulator: EmulatorServer, x_connection, id_file, tmp_path):
    hook = XComplianceHook()
    job = hook.create_job("tweets", name="by hand")
    receipt = hook.upload(job.id, str(id_file))
    while hook.get_job(job.id).status != "complete":
        pass
    result = hook.download(job.id, str(tmp_path / "events"), submitted=str(id_file))

    assert [each.id for each in hook.list_jobs("tweets", "complete")] == [job.id]
    assert receipt["ids"] == 1000
    assert result["submitted"]["sha256"] == receipt["sha256"]
    assert result["events"] > 0
