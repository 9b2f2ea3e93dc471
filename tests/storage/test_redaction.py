import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas
from google.oauth2.credentials import Credentials

from airflow_provider_xcompliance.storage import StorageError, digest_of, redaction
from tests.servers.clients import AZURE_ACCOUNT, AZURE_KEY, s3_client
from tests.storage.helpers import LARGE, put, spool

SESSION_TOKEN = "canary-session-token-7b1f"
SECRET_KEY = "canary-secret-key-9d20"
GS_TOKEN = "ya29.canary-token-41ce"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("open s3://AKIA:sec/ret@bucket/key now", "open s3://***@bucket/key now"),
        ("'https://host/x?sv=1&sig=abc%3D' next", "'https://host/x?***' next"),
        ('"PUT /o?uploadType=resumable&upload_id=abc HTTP/1.1" 200', '"PUT /o?*** HTTP/1.1" 200'),
        ("POST\n/bkt/k?uploads\nhost:h", "POST\n/bkt/k?uploads\nhost:h"),
        ("x-amz-date:1\nx-amz-security-token:abc\n\nhost", "x-amz-date:1\nx-amz-security-token:***\n\nhost"),
        ("Signature:\n0a1b2c", "Signature:\n***"),
        (
            "{'Authorization': b'AWS4 Credential=a, Signature=b', 'Host': b'h'}",
            "{'Authorization': ***, 'Host': b'h'}",
        ),
        ("Credential=AKIA/2026/s3, Signature=0a1b", "Credential=***, Signature=***"),
        ("auth Bearer ya29.abcdefghijklmnop end", "auth Bearer *** end"),
        ('{"access_token": "abc", "expires_in": 3}', '{"access_token": ***, "expires_in": 3}'),
        ("<SessionToken>abc</SessionToken>", "<SessionToken>***</SessionToken>"),
        ("AccountName=a;AccountKey=abc==;EndpointSuffix=s", "AccountName=a;AccountKey=***;EndpointSuffix=s"),
        (
            "Response body: b'<Key>events</Key>' of key=events",
            "Response body: b'<Key>events</Key>' of key=events",
        ),
    ],
)
def test_secrets_are_taken_out_and_the_rest_is_left(
    text: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("botocore.made.up")
    redaction.shield()

    with caplog.at_level(logging.DEBUG):
        logger.debug("%s", text)

    assert caplog.messages == [shown]


def test_exceptions_that_are_logged_are_cleaned_too(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("azure.made.up")
    redaction.shield()

    try:
        raise ConnectionError("http://host/?sig=canary")
    except ConnectionError:
        logger.exception("failed")

    assert "ConnectionError: http://host/?***" in caplog.text
    assert "canary" not in caplog.text


def test_loggers_of_others_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    redaction.shield()

    logging.getLogger("someone.else").warning("token=%s", "abc")

    assert caplog.messages == ["token=abc"]


def land_on_s3(request: pytest.FixtureRequest, source: Path) -> list[str]:
    server, signatures = request.getfixturevalue("moto_s3"), []
    client = s3_client(server.endpoint_url, "AKIACANARY", SECRET_KEY, aws_session_token=SESSION_TOKEN)

    def keep(request: Any, **_: object) -> None:
        signatures.append(re.search(rb"Signature=(\w+)", request.headers["Authorization"])[1].decode())

    client.meta.events.register("before-send.s3", keep)
    put(source, f"s3://{server.bucket()}/events", client)
    return [SECRET_KEY, SESSION_TOKEN, "AKIACANARY", *signatures]


def land_on_gs(request: pytest.FixtureRequest, source: Path) -> list[str]:
    server = request.getfixturevalue("gcs")
    put(source, f"gs://{server.bucket()}/events", server.client(credentials=Credentials(token=GS_TOKEN)))
    return [GS_TOKEN, "upload_id="]


def land_on_azure(request: pytest.FixtureRequest, source: Path) -> list[str]:
    server = request.getfixturevalue("azurite")
    put(source, f"azure://{server.bucket()}/events", server.client(logging_enable=True))
    return [AZURE_KEY, "SharedKey testaccount"]


def land_on_azure_by_sas(request: pytest.FixtureRequest, source: Path) -> list[str]:
    server = request.getfixturevalue("azurite")
    sas = generate_account_sas(
        AZURE_ACCOUNT,
        AZURE_KEY,
        resource_types=ResourceTypes(container=True, object=True),
        permission=AccountSasPermissions(read=True, write=True, create=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    put(source, f"azure://{server.bucket()}/events", server.client(credential=sas, logging_enable=True))
    return [re.search("sig=([^&]+)", sas)[1]]


def read_by_url(_request: pytest.FixtureRequest, _source: Path) -> list[str]:
    with pytest.raises(StorageError):
        digest_of("http://user:canary-password@127.0.0.1:1/ids?token=canary-parameter")
    return ["canary-password", "canary-parameter"]


@pytest.mark.parametrize(
    ("use", "talkative"),
    [
        (land_on_s3, "botocore.auth"),
        (land_on_gs, "urllib3.connectionpool"),
        (land_on_azure, "azure.core.pipeline.policies.http_logging_policy"),
        (land_on_azure_by_sas, "urllib3.connectionpool"),
        (read_by_url, "smart_open.smart_open_lib"),
    ],
)
def test_with_every_log_at_debug_no_secret_is_in_it(
    use: Callable[[pytest.FixtureRequest, Path], list[str]],
    talkative: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        canaries = use(request, spool(tmp_path, LARGE))

    assert talkative in {record.name for record in caplog.records}
    assert [canary for canary in canaries if canary in caplog.text] == []
    assert [canary for canary in canaries for record in caplog.records if canary in repr(vars(record))] == []
