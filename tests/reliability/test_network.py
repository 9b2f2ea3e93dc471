import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext, TLSVersion
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import (
    CertificateError,
    NetworkError,
    UrlRefusedError,
    XComplianceError,
)
from airflow_provider_xcompliance.hooks import compliance
from airflow_provider_xcompliance.hooks.compliance import XComplianceHook
from airflow_provider_xcompliance.operators.jobs import DownloadOperator, UploadOperator
from tests.servers.recording_proxy import LOOPBACK, THREAD, Authority, RecordingProxy, TlsFront

pytestmark = pytest.mark.row("SSRF, redirect, .netrc, TLS")

BEARER = "canary-bearer-3f9d1c"
API, TWITTER, STORAGE, UPLOADS = "api.x.com", "api.twitter.com", "storage.googleapis.com", "uploads.example"
JOB = "1299999999999999999"
CONTEXT = {
    "ti": SimpleNamespace(dag_id="dag", task_id="task", run_id="run", map_index=-1, try_number=1),
}
SIGNED = "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature=00112233445566778899aabbccddeeff"
TOKEN = "token=canary-token-77aa0b"
PATH = f"2/compliance/jobs/{JOB}/{{operation}}?{TOKEN}"

#: What X might return, if somebody else wrote the answer: none of these may cost a packet.
REFUSED = {
    "cloud metadata": f"https://169.254.169.254/latest/meta-data?{SIGNED}",
    "cloud metadata by http": f"http://169.254.169.254/latest/meta-data?{SIGNED}",
    "evil suffix": f"https://storage.googleapis.com.evil.example/b/o?{SIGNED}",
    "evil suffix of the API": f"https://api.x.com.evil.example/{PATH}",
    "evil prefix": f"https://notapi.x.com/{PATH}",
    "evil prefix of the storage": f"https://evilstorage.googleapis.com/b/o?{SIGNED}",
    "another Google host": f"https://www.googleapis.com/b/o?{SIGNED}",
    "a bucket's own host": f"https://evil.storage.googleapis.com/o?{SIGNED}",
    "evil host": f"https://evil.example/{PATH}",
    "evil host, signed": f"https://evil.example/b/o?{SIGNED}",
    "user is a good host": f"https://api.x.com@evil.example/{PATH}",
    "user and password are": f"https://api.x.com:443@evil.example/{PATH}",
    "user at a good host": f"https://someone@api.x.com/{PATH}",
    "empty user": f"https://@api.x.com/{PATH}",
    "percent-encoded user": f"https://api.x.com%40evil.example/{PATH}",
    "http to the API": f"http://api.x.com/{PATH}",
    "http to the storage": f"http://storage.googleapis.com/b/o?{SIGNED}",
    "another port": f"https://api.x.com:8443/{PATH}",
    "another port of the storage": f"https://storage.googleapis.com:80/b/o?{SIGNED}",
    "port 0": f"https://api.x.com:0/{PATH}",
    "port too high": f"https://api.x.com:65979/{PATH}",
    "port is no number": f"https://api.x.com:https/{PATH}",
    "localhost": f"https://localhost/{PATH}",
    "loopback": f"https://127.0.0.1/{PATH}",
    "loopback by http": f"http://127.0.0.1:8080/b/o?{SIGNED}",
    "decimal IP": f"https://2130706433/b/o?{SIGNED}",
    "octal IP": f"https://0177.0.0.1/b/o?{SIGNED}",
    "hexadecimal IP": f"https://0x7f000001/b/o?{SIGNED}",
    "short IP": f"https://127.1/b/o?{SIGNED}",
    "IPv6 loopback": f"https://[::1]/b/o?{SIGNED}",
    "IPv6 of an IPv4": f"https://[::ffff:169.254.169.254]/b/o?{SIGNED}",
    "IPv6 with a zone": f"https://[fe80::1%25eth0]/b/o?{SIGNED}",
    "IPv6 that is not closed": f"https://[::1/b/o?{SIGNED}",
    "trailing dot": f"https://api.x.com./{PATH}",
    "trailing dot of the storage": f"https://storage.googleapis.com./b/o?{SIGNED}",
    "Cyrillic letter": f"https://\u0430pi.x.com/{PATH}",
    "full-width letter": f"https://\uff41pi.x.com/{PATH}",
    "ideographic full stop": f"https://api\u3002x.com/{PATH}",
    "punycode lookalike": f"https://xn--pi-7kc.x.com/{PATH}",
    "soft hyphen": f"https://api\u00ad.x.com/{PATH}",
    "backslash before a user": f"https://api.x.com\\@evil.example/{PATH}",
    "backslashes for slashes": f"https:\\\\api.x.com\\{PATH}",
    "tab in the host": f"https://api.x.com\t.evil.example/{PATH}",
    "newline in the path": f"https://api.x.com/{PATH}\r\nX-Evil: 1",
    "NUL in the host": f"https://api.x.com\0.evil.example/{PATH}",
    "blank before it": f" https://api.x.com/{PATH}",
    "file": "file:///etc/passwd",
    "file on a good host": f"file://api.x.com/{PATH}",
    "gopher": f"gopher://api.x.com:443/{PATH}",
    "ftp": f"ftp://storage.googleapis.com/b/o?{SIGNED}",
    "data": f"data:text/plain,{SIGNED}",
    "no scheme": f"//api.x.com/{PATH}",
    "no host": f"https:///{PATH}",
    "one slash": f"https:/api.x.com/{PATH}",
    "double slash": f"https://api.x.com//{PATH}",
    "double slash to another host": f"https://api.x.com//evil.example/{PATH}",
    "another job": f"https://api.x.com/2/compliance/jobs/1/{{operation}}?{TOKEN}",
    "another endpoint": f"https://api.x.com/2/tweets?{TOKEN}",
    "path traversal": f"https://api.x.com/2/compliance/jobs/{JOB}/../../../tweets?{TOKEN}",
    "encoded path traversal": f"https://api.x.com/2/compliance/jobs/{JOB}/%2e%2e/%2e%2e?{TOKEN}",
    "encoded slash": f"https://api.x.com/2/compliance/jobs/{JOB}%2f{{operation}}?{TOKEN}",
    "storage without a signature": f"https://storage.googleapis.com/b/o?{TOKEN}",
    "signature in the path alone": f"https://storage.googleapis.com/X-Goog-Signature=00?{TOKEN}",
    "signature in the fragment alone": f"https://storage.googleapis.com/b/o#{SIGNED}",
    "a host that is allowed, not signed": f"https://{UPLOADS}/{PATH}",
    "a host that is allowed, another port": f"https://{UPLOADS}:444/b/o?{SIGNED}",
    "nothing": "",
}

#: URLs that may be used: their only host, and whether the bearer goes there.
USED = {
    "the API": (f"https://api.x.com/{PATH}", API, True),
    "the API's other name": (f"https://api.twitter.com/{PATH}", TWITTER, True),
    "upper case": (f"HTTPS://API.X.COM/{PATH}", API, True),
    "the port said": (f"https://api.x.com:443/{PATH}", API, True),
    "a signature on the API's host": (f"https://api.x.com/{PATH}&{SIGNED}", API, False),
    "a signature without value": (f"https://api.x.com/{PATH}&X-Goog-Signature=", API, False),
    "a signature in lower case": (f"https://api.x.com/{PATH}&x-goog-signature=00", API, False),
    "a signature's name encoded": (f"https://api.x.com/{PATH}&X-Goog-%53ignature=00", API, False),
    "the storage": (f"https://storage.googleapis.com/b/o?{SIGNED}", STORAGE, False),
    "an allowed host": (f"https://{UPLOADS}/b/o?{SIGNED}", UPLOADS, False),
}

_PACKETS: list[tuple[str, Any]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    # Whatever library opens a connection, and by whatever way, it is told here.
    if event in ("socket.connect", "socket.sendto") and threading.current_thread().name != THREAD:
        _PACKETS.append((event, arguments[1]))
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        _PACKETS.append((event, arguments[0]))


@pytest.fixture(scope="module", autouse=True)
def _audit() -> None:
    # An audit hook stays for the life of the process.
    sys.addaudithook(_note)


def _execute(operator: Any) -> Any:
    try:
        return operator.execute(CONTEXT)
    except AirflowFailException as error:
        # So the operators tell Airflow not to try again; what happened is the cause.
        raise error.__cause__ from None


@dataclass
class World:
    """All hosts that exist, and who was called."""

    emulator: Any
    authority: Authority
    proxy: RecordingProxy
    fronts: dict[str, TlsFront]
    ids: Path
    directory: Path
    sleeps: list[float] = field(default_factory=list)

    def answer_with(self, **job: Any) -> None:
        """Let X describe a job so, from now on."""
        data = {"id": JOB, "type": "tweets", **job}
        self.emulator.add_fault("status", endpoint="get", times=0, status=200, body={"data": data})

    def upload(self, job_id: str = JOB) -> Any:
        return _execute(UploadOperator(task_id="upload", job_id=job_id, source=str(self.ids)))

    def download(self, job_id: str = JOB) -> Any:
        destination = self.directory / "events"
        return _execute(DownloadOperator(task_id="download", job_id=job_id, destination=str(destination)))

    def sent(self, host: str) -> list[bytes]:
        return self.fronts[host].requests

    def assert_nothing_elsewhere(self, *hosts: str) -> None:
        """No packet but to these hosts, through the proxy, and the bearer only to the API, unsigned."""
        assert set(self.proxy.calls) <= {f"{host}:443" for host in hosts}
        connects = {packet for packet in _PACKETS if packet[0] == "socket.connect"}
        assert connects == ({("socket.connect", (LOOPBACK, self.proxy.port))} if self.proxy.calls else set())
        assert {packet for packet in _PACKETS if packet[0] != "socket.connect"} <= {
            ("socket.getaddrinfo", LOOPBACK)
        }
        assert not any(b"uthorization" in head for head in self.proxy.heads)
        for host, front in self.fronts.items():
            for head in front.requests:
                has_credentials = b"uthorization" in head
                assert not (has_credentials and (host in (STORAGE, UPLOADS) or b"ignature" in head))
                if has_credentials and b" /oauth2/token " not in head:
                    assert f"Authorization: Bearer {BEARER}\r\n".encode() in head


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def contexts(authority: Authority) -> dict[str, SSLContext]:
    """What each host needs to prove itself."""
    return {host: authority.context(host) for host in (API, TWITTER, STORAGE, UPLOADS)}


@pytest.fixture
def world(
    emulator: Any,
    authority: Authority,
    contexts: dict[str, SSLContext],
    connect: Callable[..., None],
    id_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """The API at its real names, with certificates that the connection trusts."""
    port = int(emulator.url.rpartition(":")[2])
    fronts = {host: TlsFront(context, port) for host, context in contexts.items()}
    proxy = RecordingProxy({f"{host}:443": front.port for host, front in fronts.items()})
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv(name.lower(), proxy.url)
    for name in ("NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    extra = {"ca_bundle": str(authority.bundle), "allowed_hosts": UPLOADS}
    connect("xcompliance_default", conn_type="xcompliance", password=BEARER, extra=extra)
    world = World(emulator, authority, proxy, fronts, id_file, tmp_path)
    # Airflow compiles all secrets of the process anew for each one that it is told.
    monkeypatch.setattr(compliance, "mask_secret", lambda secret: None)
    monkeypatch.setitem(XComplianceClient.__init__.__kwdefaults__, "sleep", world.sleeps.append)
    _PACKETS.clear()
    yield world
    for server in (proxy, *fronts.values()):
        server.close()


# URLs that X returned


@pytest.mark.parametrize("operation", ["upload", "download"])
@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_points_elsewhere_costs_no_packet(world: World, url: str, operation: str) -> None:
    status = "created" if operation == "upload" else "complete"
    world.answer_with(status=status, **{f"{operation}_url": REFUSED[url].format(operation=operation)})
    with pytest.raises(XComplianceError) as caught:
        getattr(world, operation)()
    assert isinstance(caught.value, UrlRefusedError) or not REFUSED[url]
    world.assert_nothing_elsewhere(API)
    assert {head.split(b" ")[0] for head in world.sent(API)} == {b"GET"}
    assert all(f" /2/compliance/jobs/{JOB}?".encode() in head for head in world.sent(API))
    assert not list(world.directory.glob("events*"))


@pytest.mark.parametrize("operation", ["upload", pytest.param("download", marks=pytest.mark.quick)])
@pytest.mark.parametrize("url", USED)
def test_a_url_that_may_be_used_has_the_bearer_on_the_api_alone(
    world: World, url: str, operation: str
) -> None:
    target, host, has_bearer = USED[url]
    status = "created" if operation == "upload" else "complete"
    world.answer_with(status=status, **{f"{operation}_url": target.format(operation=operation)})
    with pytest.raises(XComplianceError):
        # The stand-in knows no such job.
        getattr(world, operation)()
    world.assert_nothing_elsewhere(API, host)
    used = [head for head in world.sent(host) if b" /2/compliance/jobs/" + JOB.encode() + b"?" not in head]
    assert used
    assert all((b"Authorization: Bearer " in head) is has_bearer for head in used)


#: Where a resumable session may not lead either; its secret is its own, so it needs no signature.
SESSIONS = [name for name, url in REFUSED.items() if f"?{SIGNED}" in url]


@pytest.mark.parametrize("location", SESSIONS)
def test_a_session_that_leads_elsewhere_costs_no_packet(world: World, location: str) -> None:
    world.answer_with(
        status="created", resumable=True, upload_url=f"https://storage.googleapis.com/twttr-x/y?{SIGNED}"
    )
    headers = {"location": REFUSED[location]}
    world.emulator.add_fault("status", endpoint="resumable_start", times=0, status=201, headers=headers)
    with pytest.raises(UrlRefusedError):
        world.upload()
    world.assert_nothing_elsewhere(API, STORAGE)
    assert [head.split(b" ")[0] for head in world.sent(STORAGE)] == [b"POST"]


@pytest.mark.quick
def test_all_of_them_by_one_client(world: World, record_property: Callable[[str, str], None]) -> None:
    for url in REFUSED.values():
        world.emulator.clear_faults()
        world.answer_with(status="complete", download_url=url.format(operation="download"))
        with pytest.raises(XComplianceError):
            XComplianceHook().download(JOB, str(world.directory / "events"))
    world.assert_nothing_elsewhere(API)
    assert len(world.sent(API)) == len(REFUSED)
    record_property(f"hostile URLs {len(REFUSED)}", "0 packets off the list, 0 bearers off the API")


# Redirects


def _create(world: World) -> Any:
    return XComplianceHook().create_job("tweets")


def _oauth(world: World) -> Any:
    return XComplianceHook("with_key").list_jobs("tweets")


def _signed_upload(world: World, **job: Any) -> Any:
    world.answer_with(
        status="created", upload_url=f"https://storage.googleapis.com/twttr-x/y?{SIGNED}", **job
    )
    return world.upload()


def _current_upload(world: World) -> Any:
    world.answer_with(status="created", upload_url=f"https://api.x.com/{PATH.format(operation='upload')}")
    return world.upload()


def _resumable_put(world: World) -> Any:
    location = f"https://storage.googleapis.com/twttr-x/y?{SIGNED}&upload_id=canary-session-5b1e"
    headers = {"location": location}
    world.emulator.add_fault("status", endpoint="resumable_start", times=0, status=201, headers=headers)
    return _signed_upload(world, resumable=True)


def _current_download(world: World) -> Any:
    url = f"https://api.x.com/{PATH.format(operation='download')}"
    world.answer_with(status="complete", download_url=url)
    return world.download()


def _signed_download(world: World) -> Any:
    world.answer_with(status="complete", download_url=f"https://storage.googleapis.com/twttr-x/y?{SIGNED}")
    return world.download()


LOCATIONS = {"away": "https://evil.example/steal", "here": "/2/compliance/jobs/1?token=x"}
CALLS: dict[str, tuple[str, Callable[[World], Any]]] = {
    "create": ("create", _create),
    "list": ("list", lambda world: XComplianceHook().list_jobs("tweets")),
    "get": ("get", lambda world: XComplianceHook().get_job(JOB)),
    "cancel": ("cancel", lambda world: XComplianceHook().cancel_job(JOB)),
    "exchange of the key": ("oauth", _oauth),
    "upload, current": ("upload", _current_upload),
    "upload, signed": ("upload", _signed_upload),
    "session's beginning": ("resumable_start", lambda world: _signed_upload(world, resumable=True)),
    "session": ("resumable_put", _resumable_put),
    "download, current": ("download", _current_download),
    "download, signed": ("download", _signed_download),
}


@pytest.mark.parametrize(
    ("status", "location"),
    [
        pytest.param(status, location, marks=pytest.mark.quick if (status, way) == (302, "away") else ())
        for status in (301, 302, 303, 307, 308)
        for way, location in LOCATIONS.items()
    ],
)
@pytest.mark.parametrize("call", CALLS)
def test_a_redirect_is_never_followed_and_is_no_success(
    world: World, connect: Callable[..., None], call: str, status: int, location: str
) -> None:
    connect(
        "with_key",
        conn_type="xcompliance",
        login="canary-key-0d",
        password="canary-secret-0e",
        extra={"ca_bundle": str(world.authority.bundle)},
    )
    endpoint, run = CALLS[call]
    world.emulator.add_fault("redirect", endpoint=endpoint, times=0, status=status, location=location)
    with pytest.raises(XComplianceError):
        run(world)
    world.assert_nothing_elsewhere(API, STORAGE)
    sent = world.sent(API) + world.sent(STORAGE)
    assert not [head for head in sent if b"/jobs/1?" in head or b"/steal" in head]
    assert world.emulator.requests(endpoint)
    assert not list(world.directory.glob("events*"))


# Good runs, which the guards above must let through


def _new_job(world: World, flow: str) -> str:
    """Create a job whose URLs are on X's host, or signed on Google's."""
    world.emulator.configure(flow=flow)
    host = API if flow == "current" else STORAGE
    headers = {"Host": host, "X-Forwarded-Proto": "https", "Authorization": f"Bearer {BEARER}"}
    url = f"{world.emulator.url}/2/compliance/jobs"
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(url, json={"type": "tweets"}, headers=headers, timeout=10)
    _PACKETS.clear()
    return str(answer.json()["data"]["id"])


@pytest.mark.quick
@pytest.mark.parametrize("netrc", [False, True], ids=["", ".netrc"])
@pytest.mark.parametrize("flow", ["current", "legacy"])
def test_a_job_goes_through_and_no_netrc_is_read(
    world: World, flow: str, netrc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if netrc:
        file = world.directory / ".netrc"
        lines = [f"machine {host} login someone password canary-netrc" for host in (API, STORAGE)]
        file.write_text("\n".join([*lines, "default login someone password canary-netrc", ""]))
        file.chmod(0o600)
        monkeypatch.setenv("NETRC", str(file))
        monkeypatch.setenv("HOME", str(world.directory))
    job_id = _new_job(world, flow)
    world.upload(job_id)
    XComplianceHook().get_job(job_id)
    assert world.download(job_id)["job_id"] == job_id
    world.assert_nothing_elsewhere(API, STORAGE)
    assert bool(world.sent(STORAGE)) is (flow == "legacy")
    assert not any(b"Basic" in head for front in world.fronts.values() for head in front.requests)
    assert (world.directory / "events").stat().st_size


# TLS

#: How a server fails to prove who it is, or to encrypt well enough; the error, and a word of it.
BAD_SERVERS: dict[str, tuple[dict[str, Any], type[XComplianceError], str]] = {
    "self-signed": ({"self_signed": True}, CertificateError, "self-signed"),
    "of another authority": ({}, CertificateError, "issuer"),
    "expired": ({"days_off": -30}, CertificateError, "expired"),
    "not yet valid": ({"days_off": 30}, CertificateError, "not yet valid"),
    "of another host": ({}, CertificateError, "mismatch"),
    "TLS 1.0 alone": ({"tls": TLSVersion.TLSv1}, NetworkError, "TLS"),
    "TLS 1.1 alone": ({"tls": TLSVersion.TLSv1_1}, NetworkError, "TLS"),
}


def _bad_context(world: World, host: str, kind: str) -> Any:
    authority = world.authority
    if kind == "of another authority":
        authority = Authority(world.directory / "stranger")
    name = "evil.example" if kind == "of another host" else host
    return authority.context(name, **BAD_SERVERS[kind][0])


@pytest.mark.quick
@pytest.mark.parametrize("host", [API, STORAGE])
@pytest.mark.parametrize("kind", BAD_SERVERS)
def test_a_server_that_cannot_prove_itself_gets_no_request(world: World, kind: str, host: str) -> None:
    _, error, word = BAD_SERVERS[kind]
    job_id = _new_job(world, "legacy")
    world.fronts[host].context = _bad_context(world, host, kind)
    with pytest.raises(error, match=word) as caught:
        world.upload(job_id)
    assert type(caught.value) is error
    assert world.sent(host) == []
    if error is CertificateError:
        assert "'ca_bundle'" in str(caught.value)
        assert world.sleeps == []
    world.assert_nothing_elsewhere(API, STORAGE)


#: Ways to trust what is in an environment variable, and ways in which people turn verification off.
TRUST: dict[str, tuple[dict[str, str], bool]] = {
    "nothing set": ({}, False),
    "REQUESTS_CA_BUNDLE": ({"REQUESTS_CA_BUNDLE": "{bundle}"}, True),
    "CURL_CA_BUNDLE": ({"CURL_CA_BUNDLE": "{bundle}"}, True),
    "REQUESTS_CA_BUNDLE empty": ({"REQUESTS_CA_BUNDLE": ""}, False),
    "CURL_CA_BUNDLE empty": ({"CURL_CA_BUNDLE": ""}, False),
    "PYTHONHTTPSVERIFY=0": ({"PYTHONHTTPSVERIFY": "0"}, False),
    "bundle of a stranger": ({"REQUESTS_CA_BUNDLE": "{stranger}"}, False),
    "bundle that is not there": ({"REQUESTS_CA_BUNDLE": "/no/such/bundle"}, False),
}


@pytest.mark.quick
@pytest.mark.parametrize("way", TRUST)
def test_the_environment_may_name_an_authority_but_never_turns_verification_off(
    world: World, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    settings, is_trusted = TRUST[way]
    connect("xcompliance_default", conn_type="xcompliance", password=BEARER)
    stranger = Authority(world.directory / "stranger").bundle
    for name, value in settings.items():
        monkeypatch.setenv(name, value.format(bundle=world.authority.bundle, stranger=stranger))
    if is_trusted:
        assert XComplianceHook().list_jobs("tweets") == []
    else:
        with pytest.raises(XComplianceError):
            XComplianceHook().list_jobs("tweets")
        assert world.sent(API) == []
    world.assert_nothing_elsewhere(API)


@pytest.mark.quick
def test_the_connections_own_authority_goes_before_the_environments(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(Authority(world.directory / "stranger").bundle))
    assert XComplianceHook().list_jobs("tweets") == []


@pytest.mark.quick
def test_credentials_in_the_proxys_url_are_for_the_proxy_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, world.proxy.url.replace("//", "//someone:canary-proxy@"))
    assert XComplianceHook().list_jobs("tweets") == []
    assert all(b"Proxy-Authorization: Basic " in head for head in world.proxy.heads)
    assert all(BEARER.encode() not in head for head in world.proxy.heads)
    assert not any(b"roxy-" in head for head in world.sent(API))
