"""Google Cloud Storage V4 signed URLs (GOOG4-RSA-SHA256), made and checked for real."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from threading import Lock
from urllib.parse import parse_qsl, quote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from airflow_provider_xcompliance.emulator.errors import RefusalError, gcs_error

ALGORITHM = "GOOG4-RSA-SHA256"
ACCOUNT = "compliance-stand-in@x-compliance.iam.gserviceaccount.com"
TIMESTAMP = "%Y%m%dT%H%M%SZ"

Query = Iterable[tuple[str, str]]


_making_key = Lock()


def signing_key() -> rsa.RSAPrivateKey:
    """Return the key of this process, made once."""
    # Two stand-ins on threads of one process would else make one each.
    with _making_key:
        return _make_key()


@cache
def _make_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")


def _query_string(query: Query) -> str:
    return "&".join(sorted(f"{_encode(name)}={_encode(value)}" for name, value in query))


def canonical_request(
    method: str, raw_path: str, query: Query, headers: Mapping[str, str], signed_headers: str
) -> str:
    """Return the canonical request.

    :param raw_path: the path as it stands in the URL, percent-encoded.
    :param query: decoded pairs; the signature itself is left out.
    :param headers: by lower-case name; ``host`` may carry a port, which does not count.
    :param signed_headers: names joined by ``;``, sorted.
    """
    values = {**headers, "host": re.sub(r":\d+$", "", headers.get("host", ""))}
    lines = "".join(
        f"{name}:{' '.join(values.get(name, '').split())}\n" for name in signed_headers.split(";")
    )
    pairs = [pair for pair in query if pair[0] != "X-Goog-Signature"]
    payload = values.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
    return "\n".join((method, raw_path, _query_string(pairs), lines, signed_headers, payload))


def string_to_sign(timestamp: str, scope: str, canonical: str) -> str:
    """Return the text that the signature covers."""
    return "\n".join((ALGORITHM, timestamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))


def sign_url(
    base_url: str, method: str, path: str, headers: Mapping[str, str], now: int, expires: int
) -> str:
    """Return a signed URL.

    :param base_url: scheme, host and port.
    :param headers: what else than ``host`` is signed, by lower-case name.
    :param now: seconds since the epoch from which it is good.
    :param expires: for how many seconds.
    """
    timestamp = datetime.fromtimestamp(now, UTC).strftime(TIMESTAMP)
    scope = f"{timestamp[:8]}/auto/storage/goog4_request"
    signed = {**headers, "host": urlsplit(base_url).netloc}
    names = ";".join(sorted(signed))
    query = [
        ("X-Goog-Algorithm", ALGORITHM),
        ("X-Goog-Credential", f"{ACCOUNT}/{scope}"),
        ("X-Goog-Date", timestamp),
        ("X-Goog-Expires", str(expires)),
        ("X-Goog-SignedHeaders", names),
    ]
    raw_path = quote(path, safe="/-_.~")
    text = string_to_sign(timestamp, scope, canonical_request(method, raw_path, query, signed, names))
    signature = signing_key().sign(text.encode(), padding.PKCS1v15(), SHA256()).hex()
    return f"{base_url}{raw_path}?{_query_string(query)}&X-Goog-Signature={signature}"


def check(
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Mapping[str, str],
    now: float,
    public_key: rsa.RSAPublicKey,
) -> None:
    """Check a request as Google does, in Google's order.

    :param headers: as they came, by lower-case name.
    :raises RefusalError: with Google's status and code.
    """
    query = parse_qsl(raw_query, keep_blank_values=True)
    timestamp, expires, names, scope, signature = _parse(dict(query))
    expiry = datetime.strptime(timestamp, TIMESTAMP).replace(tzinfo=UTC).timestamp() + expires
    if now >= expiry:
        moment = datetime.fromtimestamp(expiry, UTC).isoformat()
        raise gcs_error("ExpiredToken", f"Request signature expired at: {moment}")
    _check_signed_headers(headers, names.split(";"))
    text = string_to_sign(timestamp, scope, canonical_request(method, raw_path, query, headers, names))
    try:
        public_key.verify(signature, text.encode(), padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        raise gcs_error("SignatureDoesNotMatch", text) from None


PARAMETERS = {
    "X-Goog-Algorithm": re.escape(ALGORITHM),
    "X-Goog-Credential": r"[^/]+/\d{8}/[a-z0-9-]+/storage/goog4_request",
    "X-Goog-Date": r"\d{8}T\d{6}Z",
    "X-Goog-Expires": r"\d{1,6}",
    "X-Goog-SignedHeaders": r"[^;]+(;[^;]+)*",
    "X-Goog-Signature": r"([0-9a-f]{2})+",
}


def _parse(query: Mapping[str, str]) -> tuple[str, int, str, str, bytes]:
    if "X-Goog-Signature" not in query:
        raise gcs_error("AccessDenied", "Anonymous caller does not have storage.objects access.")
    for name, pattern in PARAMETERS.items():
        if not re.fullmatch(pattern, query.get(name, ""), re.ASCII):
            raise _malformed("Invalid or missing query parameter", name)
    try:
        datetime.strptime(query["X-Goog-Date"], TIMESTAMP)
    except ValueError:
        raise _malformed("Invalid date", "X-Goog-Date") from None
    scope = query["X-Goog-Credential"].partition("/")[2]
    signature = bytes.fromhex(query["X-Goog-Signature"])
    return query["X-Goog-Date"], int(query["X-Goog-Expires"]), query["X-Goog-SignedHeaders"], scope, signature


def _check_signed_headers(headers: Mapping[str, str], names: list[str]) -> None:
    for name in names:
        if name not in headers:
            raise _malformed("Header was included in signedheaders, but not in the request.", name)
    for name in headers:
        if name.startswith("x-goog-") and name not in names:
            raise _malformed("Header was present in the request, but not in signedheaders.", name)


def _malformed(details: str, parameter: str) -> RefusalError:
    return gcs_error("MalformedSecurityHeader", details, parameter)
