import http.client
import ipaddress
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_xcompliance.api.errors import (
    TRANSIENT_ERRORS,
    CertificateError,
    InvalidRequestError,
    NetworkError,
    UrlRefusedError,
)
from airflow_provider_xcompliance.api.messages import Auth, FileSlice, Request
from airflow_provider_xcompliance.api.transport import Credentials, Transport
from airflow_provider_xcompliance.api.urls import UrlPolicy
from tests.servers.recording_proxy import Trickle

BEARER = "AAAAbearer%2Ftoken"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
SIGNED = "/bucket/object?X-Goog-Signature=0123456789abcdef&x=1"
PROXIES = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES + [name.upper() for name in PROXIES]:
        monkeypatch.delenv(name, raising=False)


def transport(url: str, **options: Any) -> Transport:
    return Transport(UrlPolicy(url), Credentials(BEARER), **({"timeout_seconds": 20} | options))


def get(url: str, auth: Auth = Auth.BEARER) -> Request:
    return Request("get job 17", "GET", url, auth)


def failure(url: str, **options: Any) -> NetworkError:
    request = get(url + "/2/compliance/jobs/17?token=abcdefghijklmnop")
    with pytest.raises(NetworkError) as caught:
        transport(url, **options).send(request)
    return caught.value


@pytest.mark.parametrize(
    "credentials",
    [
        {},
        {"bearer_token": ""},
        {"api_key": "k"},
        {"api_secret": "s"},
        {"bearer_token": "AAA\nBBB"},
        {"bearer_token": "AAA BBB"},
        {"bearer_token": "AAA…"},
    ],
    ids=str,
)
def test_credentials_that_cannot_be_used_are_refused_without_being_told(credentials: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="bearer token") as caught:
        Credentials(**credentials)
    assert "AAA" not in str(caught.value)


def test_credentials_do_not_show_themselves() -> None:
    assert "secret" not in repr(Credentials("secret", "secret", "secret"))


@pytest.mark.parametrize(("auth", "has_bearer"), [(Auth.BEARER, True), (Auth.NONE, False)])
def test_only_a_request_that_wants_the_bearer_has_it(
    serve: Callable[..., Any], auth: Auth, has_bearer: bool
) -> None:
    server = serve(OK)
    assert transport(server.url).send(get(server.url + "/x", auth)).body == b"{}"
    assert (f"Authorization: Bearer {BEARER}".encode() in server.requests[0]) is has_bearer
    assert (b"uthorization" in server.requests[0]) is has_bearer


@pytest.mark.parametrize("auth", [Auth.BEARER, Auth.BASIC])
def test_no_credential_leaves_for_a_signed_url_or_another_host(serve: Callable[..., Any], auth: Auth) -> None:
    server, other = serve(OK), serve(OK)
    policy = UrlPolicy(server.url, (f"127.0.0.1:{other.port}",))
    for url in (server.url + SIGNED, other.url + "/2/compliance/jobs"):
        with pytest.raises(UrlRefusedError, match="nothing was sent"):
            Transport(policy, Credentials(BEARER)).send(get(url, auth))
    assert server.requests == other.requests == []


def test_nothing_leaves_for_a_host_that_is_not_listed(serve: Callable[..., Any]) -> None:
    server, other = serve(OK), serve(OK)
    with pytest.raises(UrlRefusedError, match=f"127.0.0.1:{other.port}.*'allowed_hosts'"):
        transport(server.url).send(get(other.url + SIGNED, Auth.NONE))
    assert other.requests == []


def test_netrc_is_not_read(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\ndefault login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    server = serve(OK)
    transport(server.url).send(get(server.url + "/x"))
    transport(server.url).send(get(server.url + SIGNED, Auth.NONE))
    assert b"Authorization: Bearer" in server.requests[0]
    assert b"uthorization" not in server.requests[1]
    assert all(b"Basic" not in request for request in server.requests)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", [b"https://evil.example/", b"/elsewhere", b"\xff\xfe://[", b"http://["])
def test_a_redirect_is_an_answer_and_not_followed(
    serve: Callable[..., Any], status: int, location: bytes
) -> None:
    server = serve(b"HTTP/1.1 %d X\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, location), OK)
    assert transport(server.url).send(get(server.url + "/x")).status == status
    assert len(server.requests) == 1


def test_no_cookie_is_sent_back(serve: Callable[..., Any]) -> None:
    server = serve(OK.replace(b"OK\r\n", b"OK\r\nSet-Cookie: guest_id=1; Path=/\r\n"))
    sender = transport(server.url)
    for _ in range(2):
        sender.send(get(server.url + "/x"))
    assert b"ookie" not in server.requests[1]


def test_the_url_goes_out_byte_for_byte_as_it_was_signed(serve: Callable[..., Any]) -> None:
    server = serve(OK)
    target = "/b//a/../c?X-Goog-Signature=ab%2fcd&a=%7E~!*'()&b=x+y"
    transport(server.url).send(get(server.url + target, Auth.NONE))
    sent = server.requests[0].split(b" ")[1].decode()
    assert sent.replace("%2F", "%2f") == target


@pytest.mark.parametrize("content", [b"", b"1\n2\n", b"1234567890\n" * 60_000], ids=len)
def test_a_file_goes_out_whole_with_its_length(
    serve: Callable[..., Any], tmp_path: Path, content: bytes
) -> None:
    server, seen = serve(OK), []
    path = tmp_path / "ids"
    path.write_bytes(content)
    body = FileSlice(path, 0, len(content))
    request = Request("upload", "PUT", server.url + SIGNED, Auth.NONE, {"Content-Type": "text/plain"}, body)
    transport(server.url).send(request, lambda done, total: seen.append((done, total)))
    head, _, received = server.requests[0].partition(b"\r\n\r\n")
    assert received == content
    assert f"Content-Length: {len(content)}".encode() in head.split(b"\r\n")
    assert b"ransfer-" not in head
    assert seen[-1:] == ([(len(content), len(content))] if content else [])


def test_the_rest_of_a_file_goes_out_from_its_offset(serve: Callable[..., Any], tmp_path: Path) -> None:
    server, seen = serve(OK), []
    path = tmp_path / "ids"
    path.write_bytes(b"0123456789")
    request = Request("upload", "PUT", server.url + SIGNED, Auth.NONE, body=FileSlice(path, 4, 6))
    transport(server.url).send(request, lambda done, total: seen.append((done, total)))
    assert server.requests[0].endswith(b"\r\n\r\n456789")
    assert seen[0] == (10, 10)


# Failures


def test_an_unresolved_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    error = failure("https://no-such-host.invalid")
    assert "no-such-host.invalid: the host name cannot be resolved" in str(error)
    assert not error.delivered


def test_a_refused_connection_was_not_delivered() -> None:
    with socket.socket() as unused:
        # Bound but not listening, so that nobody else can take the port meanwhile.
        unused.bind(("127.0.0.1", 0))
        error = failure(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert "no connection could be made" in str(error)
    assert not error.delivered


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (None, "the connection was cut"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", "in the middle of the body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", "in the middle of the body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "in the middle of the body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}", "in the middle of the body"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}",
            "the connection failed",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "the connection failed"),
        (b"garbage\r\n\r\n", "the connection failed"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "the connection failed"),
    ],
)
def test_every_broken_answer_is_one_error_of_ours_and_may_have_been_delivered(
    serve: Callable[..., Any], assert_no_secret: Callable[..., None], reply: bytes | None, words: str
) -> None:
    error = failure(serve(reply).url)
    assert str(error).startswith("get job 17: 127.0.0.1: ")
    assert words in str(error)
    assert error.delivered
    assert error.__context__ is None
    assert_no_secret(error, BEARER, "abcdefghijklmnop")


def test_an_earlier_failure_that_is_being_dealt_with_does_not_say_whether_this_one_was_delivered(
    serve: Callable[..., Any],
) -> None:
    try:
        raise NetworkError("never arrived", delivered=False)
    except NetworkError:
        try:
            raise ConnectionRefusedError
        except OSError:
            assert failure(serve(None).url).delivered


def test_a_server_that_does_not_go_on_is_given_up(
    emulator: Any, assert_no_secret: Callable[..., None]
) -> None:
    emulator.add_fault("stall", endpoint="get")
    error = failure(emulator.url, timeout_seconds=0.1)
    assert "did not go on in time" in str(error)
    assert error.delivered
    assert_no_secret(error, BEARER)


def test_an_answer_without_end_is_read_up_to_a_limit(serve: Callable[..., Any]) -> None:
    server = serve(b"HTTP/1.1 500 X\r\nContent-Length: 33000000\r\n\r\n" + b"x" * 33_000_000)
    assert len(transport(server.url).send(get(server.url + "/x")).body) == 32_000_000


# Deadlines

HEAD = b"HTTP/1.1 200 OK\r\nX-Slow: "
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"


@pytest.fixture
def trickle() -> Iterator[Callable[..., Trickle]]:
    """Start servers that never come to an end."""
    servers: list[Trickle] = []

    def start(reply: bytes, takes: int | None = None) -> Trickle:
        servers.append(Trickle(reply, 0.02, takes))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 ", HEAD, BODY], ids=["nothing", "status", "head", "body"])
def test_an_answer_that_trickles_is_given_up(trickle: Callable[..., Trickle], reply: bytes) -> None:
    server = trickle(reply)
    begun = time.monotonic()
    error = failure(server.url, timeout_seconds=0.1)
    # No single read took so long: the whole did.
    assert 0.5 <= time.monotonic() - begun < 5
    assert "did not go on in time" in str(error)
    assert error.delivered
    assert server.requests == 1


def test_the_time_for_a_whole_exchange_can_be_said(trickle: Callable[..., Trickle]) -> None:
    server = trickle(BODY)
    with pytest.raises(NetworkError, match="did not go on in time"):
        transport(server.url, timeout_seconds=9999).send(get(server.url + "/x"), within=0.2)


def test_a_stream_that_trickles_is_given_up(trickle: Callable[..., Trickle]) -> None:
    server = trickle(BODY)
    with (
        pytest.raises(NetworkError, match="did not go on in time"),
        transport(server.url).stream(get(server.url + "/x"), within=0.3) as (_, blocks),
    ):
        assert all(blocks)


def test_an_upload_that_trickles_is_given_up(trickle: Callable[..., Trickle], tmp_path: Path) -> None:
    server = trickle(b"", takes=65_536)
    ids = tmp_path / "ids"
    with ids.open("wb") as file:
        file.truncate(1 << 30)
    request = Request("upload", "PUT", server.url + SIGNED, Auth.NONE, body=FileSlice(ids, 0, 1 << 30))
    with pytest.raises(NetworkError, match="did not go on in time") as caught:
        transport(server.url).send(request, within=0.3)
    assert caught.value.delivered


def test_an_exchange_for_a_bearer_has_time_of_its_own(serve: Callable[..., Any]) -> None:
    token = b'{"token_type":"bearer","access_token":"AAA"}'
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(token), token), OK)
    sender = Transport(UrlPolicy(server.url), Credentials(api_key="k", api_secret="s"))
    with sender.stream(get(server.url + "/x"), within=5) as (head, blocks):
        assert (head.status, b"".join(blocks)) == (200, b"{}")


def test_connections_are_kept(emulator: Any) -> None:
    sender = transport(emulator.url)
    request = get(f"{emulator.url}/2/compliance/jobs?type=tweets")
    for _ in range(3):
        sender.send(request)
    pools = sender._session.get_adapter(emulator.url).poolmanager.pools
    (pool,) = [pools[key] for key in pools.keys()]  # noqa: SIM118 - these are no dictionary
    assert (pool.num_connections, pool.num_requests) == (1, 3)


# TLS and proxies


def _certificate(directory: Path) -> tuple[ssl.SSLContext, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, key_file = directory / "certificate.pem", directory / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key_file)
    return context, pem


def test_a_certificate_that_is_not_trusted_gets_no_request(
    serve: Callable[..., Any], tmp_path: Path, assert_no_secret: Callable[..., None]
) -> None:
    server = serve(OK, context=_certificate(tmp_path)[0])
    request = get(server.url + "/x?token=abcdefghijklmnop")
    with pytest.raises(
        CertificateError, match=r"127.0.0.1: its certificate is not trusted \(self.signed.*'ca_bundle'"
    ) as caught:
        transport(server.url).send(request)
    assert not isinstance(caught.value, TRANSIENT_ERRORS)
    assert_no_secret(caught.value, BEARER, "abcdefghijklmnop")
    assert server.requests == []


@pytest.mark.parametrize("way", ["connection", "environment"])
def test_a_private_authority_can_be_trusted(
    serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    context, pem = _certificate(tmp_path)
    server = serve(OK, context=context)
    if way == "environment":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    sender = transport(server.url, ca_bundle=str(pem) if way == "connection" else None)
    assert sender.send(get(server.url + "/x")).status == 200


def test_a_tls_connection_that_ends_without_an_answer_may_have_delivered(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    context, pem = _certificate(tmp_path)
    assert failure(serve(None, context=context).url, ca_bundle=str(pem)).delivered


def test_a_missing_ca_bundle_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="ca_bundle: there is no /no/such/file"):
        transport("https://api.x.com", ca_bundle="/no/such/file")


def test_a_proxy_of_the_environment_is_used_and_sees_no_credential(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
    monkeypatch.setenv("https_proxy", proxy.url)
    assert "the proxy failed" in str(failure("https://api.x.com"))
    assert proxy.requests[0].startswith(b"CONNECT api.x.com:443 ")
    assert b"uthorization" not in proxy.requests[0]


def test_plain_http_to_loopback_goes_by_no_proxy(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = serve(OK), serve(OK)
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    transport(server.url).send(get(server.url + "/x"))
    assert (len(server.requests), proxy.requests) == (1, [])


# API key and secret


def test_key_and_secret_are_exchanged_once_and_the_token_is_told_for_masking(
    serve: Callable[..., Any],
) -> None:
    token = b'{"token_type":"bearer","access_token":"AAA%2F"}'
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(token), token), OK)
    told: list[str] = []
    credentials = Credentials(api_key="k:/", api_secret="s +")
    sender = Transport(UrlPolicy(server.url), credentials, on_secret=told.append)
    for _ in range(2):
        sender.send(get(server.url + "/x"))
    exchange, *others = server.requests
    assert exchange.startswith(b"POST /oauth2/token ")
    assert b"Authorization: Basic ayUzQSUyRjpzJTIwJTJC\r\n" in exchange
    assert exchange.endswith(b"\r\n\r\ngrant_type=client_credentials")
    assert all(b"Authorization: Bearer AAA%2F\r\n" in request for request in others)
    assert (len(others), told) == (2, ["ayUzQSUyRjpzJTIwJTJC", "AAA%2F"])


def test_what_gives_access_in_a_url_is_told_once_before_it_is_used(serve: Callable[..., Any]) -> None:
    server = serve(OK)
    told: list[str] = []
    sender = Transport(UrlPolicy(server.url), Credentials(BEARER), on_secret=told.append)
    told_at_request: list[list[str]] = []
    for query in (
        "token=one%2Fone&x=public",
        "token=one%2Fone",
        "X-Goog-Signature=two&upload_id=three",
        "a=b",
    ):
        sender.send(get(f"{server.url}/x?{query}", Auth.NONE))
        told_at_request.append(list(told))
    one = ["one%2Fone", "one/one"]
    assert told_at_request == [one, one, [*one, "two", "three"], [*one, "two", "three"]]


def test_a_secret_that_was_used_before_is_not_quoted_either(serve: Callable[..., Any]) -> None:
    server = serve(OK)
    sender = transport(server.url)
    sender.send(get(server.url + "/x?token=abc%2Fdef", Auth.NONE))
    assert sender.send(get(server.url + "/y")).quote("abc%2Fdef, abc/def and " + BEARER) == "***, *** and ***"


# Logs


def test_urllib3_logs_no_secret_of_a_url(serve: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    server = serve(b"HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length: 0\r\n\r\n")
    secrets = ["token", "upload_id", "X-Goog-Signature", "X-Goog-Credential"]
    url = server.url + "/x?" + "&".join(f"{name}=abcdefghijklmnop" for name in secrets)
    with caplog.at_level(logging.DEBUG):
        transport(server.url).send(get(url, Auth.NONE))
    # The filter of the stores' libraries, if it is there too, leaves less.
    assert re.search(r"GET /x\?(\*\*\*|token=\*\*\*&upload_id=\*\*\*&X-Goog-Signature=\*\*\*)", caplog.text)
    assert "Failed to parse headers" in caplog.text
    assert "abcdefghijklmnop" not in caplog.text


def test_a_server_that_echoes_the_key_and_secret_is_not_quoted(serve: Callable[..., Any]) -> None:
    echo = b'{"title":"Forbidden","detail":"Basic ayUzQSUyRjpzJTIwJTJC is not known"}'
    server = serve(b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n%s" % (len(echo), echo))
    sender = Transport(UrlPolicy(server.url), Credentials(api_key="k:/", api_secret="s +"))
    with pytest.raises(InvalidRequestError, match=r"Basic \*\*\* is not known"):
        sender.send(get(server.url + "/x"))


def test_a_server_that_echoes_the_request_is_not_quoted(serve: Callable[..., Any]) -> None:
    server = serve(b"HTTP/1.1 400 X\r\nContent-Length: 0\r\n\r\n")
    url = server.url + "/x?token=abcdef%2Fghijklmnop"
    answer = transport(server.url).send(get(url))
    said = answer.quote(f"Bearer {BEARER} at {url}, token abcdef/ghijklmnop, short")
    assert said == f"Bearer *** at {server.url}/x?*** token ***, short"


@pytest.mark.parametrize("way", ["direct", "proxy"])
def test_http_clients_own_debugging_prints_nothing(
    serve: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    way: str,
) -> None:
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    if way == "direct":
        context, pem = _certificate(tmp_path)
        server = serve(OK, context=context)
        transport(server.url, ca_bundle=str(pem)).send(get(server.url + "/x?token=abcdefghijklmnop"))
    else:
        monkeypatch.setenv("https_proxy", serve(b"HTTP/1.1 502 X\r\nContent-Length: 0\r\n\r\n").url)
        failure("https://api.x.com")
    assert capfd.readouterr() == ("", "")
