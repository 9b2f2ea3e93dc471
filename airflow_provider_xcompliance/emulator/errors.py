"""The bodies of refusals: problem+json as X writes them, XML as Google Cloud Storage does."""

from __future__ import annotations

import json
from typing import Any
from xml.sax.saxutils import escape

from starlette.responses import Response

PROBLEM_TYPES = "https://api.x.com/2/problems/"

TITLES = {
    400: "Invalid Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found Error",
    405: "Method Not Allowed",
    409: "Conflict",
    411: "Length Required",
    413: "Payload Too Large",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    412: "Precondition Failed",
    429: "Too Many Requests",
}
NAMED_PROBLEMS = {400: "invalid-request", 404: "resource-not-found"}

GCS_ERRORS = {
    "AccessDenied": (403, "Access denied."),
    "BadDigest": (400, "The Content-MD5 you specified did not match what we received."),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed object size."),
    "ExpiredToken": (400, "The provided token has expired."),
    "InvalidArgument": (400, "Invalid argument."),
    "InvalidRange": (416, "The requested range cannot be satisfied."),
    "MalformedSecurityHeader": (400, "Your request has a malformed header."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (404, "The requested upload was not found."),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided. "
        "Check your Google secret key and signing method.",
    ),
    "UploadGone": (410, "The upload has ended."),
}


class RefusalError(Exception):
    """An answer other than success, raised wherever it is decided."""

    def __init__(
        self, status: int, body: str, media_type: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.media_type = media_type
        self.headers = headers or {}

    def response(self) -> Response:
        """Return the answer to send."""
        return Response(self.body, self.status, self.headers, self.media_type)


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **extra: Any) -> RefusalError:
    """Return a problem+json refusal; statuses without a problem type of their own are ``about:blank``."""
    name = NAMED_PROBLEMS.get(status)
    body = {
        "title": TITLES.get(status, "Error"),
        "detail": detail,
        "type": PROBLEM_TYPES + name if name else "about:blank",
        "status": status,
        **({"resource_type": "compliance_job"} if status == 404 else {}),
        **extra,
    }
    return RefusalError(status, json.dumps(body), "application/problem+json", headers)


def gcs_error(code: str, details: str = "", parameter: str = "") -> RefusalError:
    """Return a refusal of Google Cloud Storage, worded as since 2025 (the reason stands in Details)."""
    status, message = GCS_ERRORS[code]
    parts = {"Code": code, "Message": message, "Details": details, "ParameterName": parameter}
    inner = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in parts.items() if text)
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error>{inner}</Error>"
    return RefusalError(status, body, "application/xml; charset=UTF-8")
