"""What the stand-in can be told, at the start or through its control plane."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import msgspec

UPLOAD_WINDOW = 15 * 60
"""Seconds from a job's creation until its upload URL lapses."""
DOWNLOAD_WINDOW = 7 * 24 * 3600
"""Seconds from a job's creation until its download URL lapses."""


Token = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Every setting, with the behaviour that the wire contract records as its default.

    :param flow: what newly created jobs get; both flows are served whatever it says.
    :param processing_seconds: seconds of the stand-in's clock between the upload and ``complete``.
    :param event_rate: share of ids that have an event where no events were given.
    :param default_fields: fields of a job when the request names none; None: all ten in the legacy flow,
        id, name, status and type in the current flow, where none is promised.
    :param upload_limit: largest body of an upload in the current flow, in bytes.
    :param legacy_upload_limit: the same in the legacy flow.
    :param upload_content_type: the one content type that an upload of the current flow may have (else 415);
        None: any.
    :param legacy_conflict_status: answer to a second active job in the legacy flow, which is undocumented.
    :param listed_seconds: how long after its creation a job is listed, which is undocumented; None: for ever.
    :param rate_limit: requests per endpoint in 15 minutes.
    :param download_framing: how the current flow frames a result: by length, chunked, or by closing.
    :param download_digest: whether the current flow states the crc32c of a result.
    :param download_ranges: whether the current flow states an ETag and honours Range and If-Match.
    """

    flow: Literal["current", "legacy"] = "current"
    bearer_token: Token = "test-bearer"  # noqa: S105
    api_key: Token = "test-key"
    api_secret: Token = "test-secret"  # noqa: S105
    processing_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    seed: int = 0
    event_rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    default_fields: list[str] | None = None
    upload_limit: Count = 128_000_000
    legacy_upload_limit: Count = 1_000_000_000
    upload_content_type: str | None = None
    legacy_conflict_status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 409
    listed_seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None
    rate_limit: Count = 150
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
    """Real time plus an offset."""

    # A job's id holds 41 bits of milliseconds since the first of these.
    EARLIEST, LATEST = 1_288_834_975, 3_487_858_230

    def __init__(self) -> None:
        self.offset = 0.0

    def advance(self, seconds: float) -> None:
        """Move on; less than 0: back.

        :raises ValueError: if that leads to where no job can have an id.
        """
        if not self.EARLIEST <= self.now() + seconds < self.LATEST:
            raise ValueError("the clock goes from 2010-11-04 to 2080-07-10")
        self.offset += seconds

    def now(self) -> float:
        """Return seconds since the epoch, by this clock."""
        return time.time() + self.offset
