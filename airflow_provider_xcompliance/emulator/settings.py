"""What the stand-in can be told, at the start or through its control plane."""

from __future__ import annotations

import time
from typing import Literal

import msgspec

UPLOAD_WINDOW = 15 * 60
"""Seconds from a job's creation until its upload URL lapses."""
DOWNLOAD_WINDOW = 7 * 24 * 3600
"""Seconds from a job's creation until its download URL lapses."""


class Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Every setting, with the behaviour that the wire contract records as its default.

    :param flow: what newly created jobs get; both flows are served whatever it says.
    :param processing_seconds: seconds of the stand-in's clock between the upload and ``complete``.
    :param event_rate: share of ids that have an event where no events were given.
    :param default_fields: fields of a job when the request names none; None: all ten in the legacy flow,
        id, name, status and type in the current flow, where none is promised.
    :param upload_limit: largest body of an upload in the current flow, in bytes.
    :param upload_content_type: the one content type that an upload of the current flow may have (else 415);
        None: any.
    :param legacy_conflict_status: answer to a second active job in the legacy flow, which is undocumented.
    :param rate_limit: requests per endpoint and window.
    :param rate_window: length of that window, in seconds.
    :param download_framing: how the current flow frames a result: by length, chunked, or by closing.
    :param download_digest: whether the current flow states the crc32c of a result.
    :param download_ranges: whether the current flow states an ETag and honours Range and If-Match.
    """

    flow: Literal["current", "legacy"] = "current"
    bearer_token: str = "test-bearer"  # noqa: S105
    api_key: str = "test-key"
    api_secret: str = "test-secret"  # noqa: S105
    processing_seconds: float = 0
    seed: int = 0
    event_rate: float = 0.05
    default_fields: list[str] | None = None
    upload_limit: int = 128_000_000
    upload_content_type: str | None = None
    legacy_conflict_status: int = 409
    rate_limit: int = 150
    rate_window: int = 900
    download_framing: Literal["length", "chunked", "close"] = "length"
    download_digest: bool = False
    download_ranges: bool = False

    def update(self, changes: dict[str, object]) -> None:
        """Change some settings; nothing changes if any of them is unknown or of the wrong type.

        :raises msgspec.ValidationError: if so.
        """
        changed = msgspec.convert({**msgspec.to_builtins(self), **changes}, Settings)
        for name in changes:
            setattr(self, name, getattr(changed, name))


class Clock:
    """Real time plus an offset that only grows."""

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        """Return seconds since the epoch, by this clock."""
        return time.time() + self.offset
