from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from airflow_provider_xcompliance.api.errors import UrlRefusedError
from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.api.urls import Flow, UrlPolicy, secrets_of

JOB = Job(id="17", type="tweets", status="created")
UPLOAD = "/2/compliance/jobs/17/upload?token=t"
SIGNED = "/bucket/object?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature=ab"


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.x.com",
        "https://api.x.com/",
        "https://API.twitter.com:443",
        "https://proxy.example.org:8443",
        "http://127.0.0.1:8765",
        "http://localhost:8765",
        "http://[::1]:8765",
    ],
)
def test_a_base_url_may_be_https_or_loopback(base_url: str) -> None:
    policy = UrlPolicy(base_url)
    assert policy.may_have_bearer(f"{policy.base_url}/2/compliance/jobs")
    assert not policy.base_url.endswith("/")


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.x.com",
        "http://api.x.com",
        "http://192.168.0.1:8765",
        "http://127.1:8765",
        "ftp://api.x.com",
        "https://",
        "https://user@api.x.com",
        "https://api.x.com/2",
        "https://api.x.com?x=1",
        "https://api.x.com#x",
        "https://api.x.com:0",
        "https://api.x.com:99999",
        "https://api.x.com:x",
        "https://api.x.com\\@evil.example",
        "https://api.x.com\n",
        "https://\u0430pi.x.com",
    ],
)
def test_any_other_base_url_is_refused(base_url: str) -> None:
    with pytest.raises(UrlRefusedError, match=r"the connection's host|plain http"):
        UrlPolicy(base_url)


@pytest.mark.parametrize(
    ("base_url", "allowed", "url", "expected"),
    [
        ("https://api.x.com", (), "https://api.x.com" + UPLOAD, Flow.CURRENT),
        ("https://api.x.com", (), "https://API.X.COM:443" + UPLOAD, Flow.CURRENT),
        ("https://api.x.com", (), "https://api.twitter.com" + UPLOAD, Flow.CURRENT),
        ("https://api.twitter.com", (), "https://api.x.com" + UPLOAD, Flow.CURRENT),
        ("https://api.x.com", (), "https://api.x.com/2/compliance/jobs/17/download?token=t", Flow.CURRENT),
        ("https://api.x.com", (), "https://storage.googleapis.com" + SIGNED, Flow.LEGACY),
        ("https://api.x.com", (), "https://storage.googleapis.com/b?x-goog-signature=ab", Flow.LEGACY),
        ("https://api.x.com", ("eu.example.org",), "https://eu.example.org" + SIGNED, Flow.LEGACY),
        ("https://api.x.com", ("EU.example.org:8443",), "https://eu.example.org:8443" + SIGNED, Flow.LEGACY),
        ("http://127.0.0.1:8765", (), "http://127.0.0.1:8765" + UPLOAD, Flow.CURRENT),
        ("http://127.0.0.1:8765", (), "http://127.0.0.1:8765" + SIGNED, Flow.LEGACY),
        ("http://127.0.0.1:1", ("127.0.0.1:2",), "http://127.0.0.1:2" + SIGNED, Flow.LEGACY),
    ],
)
def test_a_url_tells_its_flow(base_url: str, allowed: tuple[str, ...], url: str, expected: Flow) -> None:
    assert UrlPolicy(base_url, allowed).flow(url, JOB) is expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://storage.googleapis.com.evil.example" + SIGNED, "evil.example:443.*'allowed_hosts'"),
        ("https://169.254.169.254" + SIGNED, "169.254.169.254:443.*'allowed_hosts'"),
        ("https://storage.googleapis.com:8443" + SIGNED, "googleapis.com:8443.*'allowed_hosts'"),
        ("https://storage.googleapis.com." + SIGNED, "'allowed_hosts'"),
        ("http://storage.googleapis.com:443" + SIGNED, "plain http"),
        ("http://api.x.com" + UPLOAD, "allowed_hosts"),
        ("https://x:y@storage.googleapis.com" + SIGNED, "user name"),
        ("https://storage.googleapis.com@evil.example" + SIGNED, "user name"),
        ("https://evil.example#@api.x.com" + UPLOAD, "'allowed_hosts'"),
        ("https://evil.example\\@api.x.com" + UPLOAD, "not of the form"),
        ("https://api.x.com\t" + UPLOAD, "not of the form"),
        ("file:///etc/passwd", "not of the form"),
        ("//api.x.com" + UPLOAD, "not of the form"),
        ("https://storage.googleapis.com/bucket/object", "neither signed"),
        ("https://api.x.com/2/compliance/jobs/18/upload?token=t", "neither signed"),
        ("https://api.x.com/2/compliance/jobs/17/upload/?token=t", "neither signed"),
        ("https://api.x.com/2/compliance/jobs/17/../17/upload?token=t", "neither signed"),
        ("https://api.x.com/2/tweets?token=t", "neither signed"),
        ("https://storage.googleapis.com" + UPLOAD, "neither signed"),
        ("http://127.0.0.1:8765" + SIGNED, "127.0.0.1:8765.*'allowed_hosts'"),
    ],
)
def test_any_other_url_is_refused_with_its_host_and_the_setting(url: str, words: str) -> None:
    with pytest.raises(UrlRefusedError, match=words) as caught:
        UrlPolicy("https://api.x.com").flow(url, JOB)
    assert "token=" not in str(caught.value)
    assert "Signature" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "https://api.x.com" + UPLOAD + "&X-Goog-Signature=ab",
        "https://api.x.com" + UPLOAD + "&X-Goog-Signature=",
        "https://api.x.com" + UPLOAD + "&X-Goog-Signature",
        "https://api.x.com" + UPLOAD + "&x%2Dgoog%2Dsignature=ab",
    ],
)
def test_a_signed_url_never_gets_the_bearer_even_on_the_api_itself(url: str) -> None:
    policy = UrlPolicy("https://api.x.com")
    assert policy.flow(url, JOB) is Flow.LEGACY
    assert not policy.may_have_bearer(url)


@pytest.mark.parametrize(
    ("base_url", "url", "expected"),
    [
        ("https://api.x.com", "https://api.twitter.com/2/compliance/jobs", True),
        ("https://api.x.com", "https://storage.googleapis.com/2/compliance/jobs", False),
        ("https://own.example", "https://api.x.com/2/compliance/jobs", False),
        ("http://127.0.0.1:1", "http://127.0.0.1:2/2/compliance/jobs", False),
    ],
)
def test_the_bearer_is_for_the_connections_own_api(base_url: str, url: str, expected: bool) -> None:
    assert UrlPolicy(base_url, ("127.0.0.1:2",)).may_have_bearer(url) is expected


HOSTS = "api.x.com storage.googleapis.com evil.example 127.0.0.1 [::1] user:pass \uff58"
MARKS = "/ \\ @ : # ? % & . ; %40 %2f :443 :80 \t \u3002"
PIECES = st.sampled_from(HOSTS.split(" ") + MARKS.split(" ")) | st.text(max_size=2)


@given(
    st.sampled_from(["https://", "HTTPS://", "http://", "https:", ""]),
    st.lists(PIECES, min_size=1, max_size=6).map("".join),
    st.sampled_from(["", "/", "?X-Goog-Signature=ab", "/2/compliance/jobs/17/upload"]),
)
@example("https://", "api.x.com?@evil.example", "/")
@example("https://", "api.x.com:443@evil.example", "/")
@example("https://", "evil.example#@api.x.com", "/")
def test_no_url_gets_past_the_list_of_hosts_however_it_is_read(scheme: str, host: str, path: str) -> None:
    url = scheme + host + path
    try:
        origin = UrlPolicy("https://api.x.com").check(url)
    except UrlRefusedError:
        return
    assert origin.scheme == "https"
    assert origin.port == 443
    trusted = {"api.x.com", "api.twitter.com", "storage.googleapis.com"}
    # The two parsers that a connection would go by.
    assert urlsplit(url).hostname in trusted
    try:
        second = parse_url(url)
    except LocationParseError:
        return
    assert (second.scheme, second.host, second.auth) == ("https", origin.host, None)


@pytest.mark.parametrize(
    ("query", "secrets"),
    [
        ("", []),
        ("?token=", []),
        ("?compliance_job.fields=id&token=a%2Fb", ["a%2Fb", "a/b"]),
        ("?X-Goog-Date=1&X-Goog-Signature=ab&upload_id=c", ["ab", "ab", "c", "c"]),
        ("?TOKEN=a#token=b", ["a", "a"]),
    ],
)
def test_what_gives_access_stands_in_the_query(query: str, secrets: list[str]) -> None:
    assert list(secrets_of(f"https://api.x.com/2/x{query}")) == secrets
