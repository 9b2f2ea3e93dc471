"""Tokens of the current flow: each binds one operation on one job until a moment."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac


def issue(key: bytes, job_id: str, operation: str, expires: int) -> str:
    """Return a token.

    :param key: secret of this server.
    :param operation: ``upload`` or ``download``.
    :param expires: seconds since the epoch from which it is no longer good.
    """
    claim = f"{job_id}.{operation}.{expires}".encode()
    digest = hmac.new(key, claim, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest + claim).decode().rstrip("=")


def refusal(key: bytes, token: str, job_id: str, operation: str, now: float) -> tuple[int, str] | None:
    """Say what is wrong with a token: status and reason, or None if it is good."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return 401, "The token cannot be read."
    digest, claim = raw[:32], raw[32:]
    if not hmac.compare_digest(digest, hmac.new(key, claim, hashlib.sha256).digest()):
        return 401, "The token was not issued by this service."
    claimed_job, claimed_operation, expires = claim.decode().split(".")
    if (claimed_job, claimed_operation) != (job_id, operation):
        return 403, "The token is for another job or operation."
    if now >= int(expires):
        return 403, "The token has expired."
    return None
