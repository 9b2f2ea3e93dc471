"""Google's own vectors, and each way in which a signed request can be wrong."""

import json
import re
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from airflow_provider_xcompliance.emulator import signatures
from airflow_provider_xcompliance.emulator.errors import RefusalError

DATA = Path(__file__).parent.parent / "data"
VECTORS = json.loads((DATA / "gcs-v4-signatures.json").read_text())["signingV4Tests"]
# The file states no key: the modulus is the common divisor that two of its signatures share
# (s ** 65537 - padded digest), and all 29 signatures verify with it.
PUBLIC_KEY = load_pem_public_key((DATA / "gcs-v4-public-key.pem").read_bytes())
# Its expected canonical request names a path that its own URL has not, and its signature does not cover.
MISTAKEN = "Universe domain with virtual hosted style"

BASE, PATH, NOW = "http://127.0.0.1:8765", "/bucket/some object", 1_800_000_000
HEADERS = {"host": "127.0.0.1:8765", "content-type": "text/plain"}


def sent(vector):
    """Return method, path, query and headers of the request that a vector stands for."""
    url = urlsplit(vector["expectedUrl"])
    headers = {name.lower(): value for name, value in vector.get("headers", {}).items()}
    return vector["method"], url.path, url.query, {"host": url.netloc, **headers}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["description"])
class TestGooglesVectors:
    def test_the_signature_verifies(self, vector):
        now = datetime.fromisoformat(vector["timestamp"]).timestamp()
        signatures.check(*sent(vector), now, PUBLIC_KEY)

    def test_it_expires_to_the_second(self, vector):
        now = datetime.fromisoformat(vector["timestamp"]).timestamp() + vector["expiration"]
        signatures.check(*sent(vector), now - 1, PUBLIC_KEY)
        with pytest.raises(RefusalError) as refusal:
            signatures.check(*sent(vector), now, PUBLIC_KEY)
        assert code(refusal.value) == (400, "ExpiredToken")

    def test_the_texts_are_googles(self, vector):
        method, path, query, headers = sent(vector)
        pairs = parse_qsl(query)
        names = dict(pairs)
        scope = names["X-Goog-Credential"].partition("/")[2]
        canonical = signatures.canonical_request(method, path, pairs, headers, names["X-Goog-SignedHeaders"])
        if vector["description"] != MISTAKEN:
            assert canonical == vector["expectedCanonicalRequest"]
        text = signatures.string_to_sign(names["X-Goog-Date"], scope, canonical)
        assert text == vector["expectedStringToSign"]


def code(refusal):
    """Return status and code of a refusal."""
    return refusal.status, re.search("<Code>(.*?)</Code>", refusal.body).group(1)


def verdict(url, method="PUT", headers=HEADERS, now=NOW):
    """Return status and code for a request, or None if it is good."""
    parts = urlsplit(url)
    try:
        signatures.check(method, parts.path, parts.query, headers, now, signatures.signing_key().public_key())
    except RefusalError as refusal:
        return code(refusal)
    return None


@pytest.fixture(scope="module")
def url():
    """A URL signed for a PUT of plain text."""
    return signatures.sign_url(BASE, "PUT", PATH, {"content-type": "text/plain"}, NOW, 900)


MALFORMED = (400, "MalformedSecurityHeader")
MISMATCH = (403, "SignatureDoesNotMatch")


def without(*names):
    return {name: value for name, value in HEADERS.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "request_as", "expected"),
    [
        pytest.param(None, {}, None, id="as signed"),
        pytest.param(None, {"now": NOW + 899.9}, None, id="in the last second"),
        pytest.param(None, {"now": NOW + 900}, (400, "ExpiredToken"), id="expired"),
        pytest.param(None, {"method": "GET"}, MISMATCH, id="other method"),
        pytest.param(None, {"headers": HEADERS | {"host": "localhost:8765"}}, MISMATCH, id="other host"),
        pytest.param(
            None, {"headers": HEADERS | {"host": "127.0.0.1:1"}}, None, id="the port does not count"
        ),
        pytest.param(
            None, {"headers": HEADERS | {"content-type": "text/csv"}}, MISMATCH, id="other content type"
        ),
        pytest.param(None, {"headers": without("content-type")}, MALFORMED, id="signed header missing"),
        pytest.param(
            None, {"headers": HEADERS | {"x-goog-meta": "1"}}, MALFORMED, id="unsigned x-goog header"
        ),
        pytest.param(None, {"headers": HEADERS | {"x-other": "1"}}, None, id="other unsigned header"),
        pytest.param(("some%20object", "some%20other"), {}, MISMATCH, id="other object"),
        pytest.param(("Expires=900", "Expires=901"), {}, MISMATCH, id="prolonged"),
        pytest.param(("X-Goog-Signature=", "generation=1&X-Goog-Signature="), {}, MISMATCH, id="added query"),
        pytest.param(("X-Goog-Signature=", "X-Goog-Signature=00"), {}, MISMATCH, id="other signature"),
        pytest.param(("X-Goog-Signature=", "X-Goog-Signature=zz"), {}, MALFORMED, id="unreadable signature"),
        pytest.param(("X-Goog-Date=2", "X-Goog-Date=9999"), {}, MALFORMED, id="unreadable date"),
        pytest.param(("X-Goog-Expires=900&", ""), {}, MALFORMED, id="parameter missing"),
        pytest.param(("X-Goog-Signature=", "signature="), {}, (403, "AccessDenied"), id="not signed"),
        pytest.param(
            None,
            {"now": NOW + 900, "headers": without("content-type")},
            (400, "ExpiredToken"),
            id="expiry first",
        ),
        pytest.param(
            ("object", "other"),
            {"headers": without("content-type")},
            MALFORMED,
            id="headers before signature",
        ),
    ],
)
def test_a_request_gets_googles_answer(url, change, request_as, expected):
    assert verdict(url.replace(*change) if change else url, **request_as) == expected
