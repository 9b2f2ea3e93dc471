"""Results: which ids have events, and how they are written."""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from airflow_provider_xcompliance.emulator.jobs import SNOWFLAKE_EPOCH_MS

SHARDS = 4
ROUNDS_BETWEEN_CHECKS = 0xFFFF

_REMOVALS = (*6 * ["deleted"], *2 * ["suspended"], "deactivated", "protected")
MIXES: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("current", "tweets"): (
        *(("delete", reason) for reason in _REMOVALS),
        ("rehydrate", "tweet_edited"),
        ("scrub_geo", "geo_scrubbed"),
    ),
    ("current", "users"): (
        *(("delete", reason) for reason in _REMOVALS),
        ("scrub_geo", "geo_scrubbed"),
    ),
    ("legacy", "tweets"): tuple(("delete", reason) for reason in (*_REMOVALS, "scrub_geo", "bounced")),
    ("legacy", "users"): tuple(("delete", reason) for reason in (*_REMOVALS, "scrub_geo")),
}
"""What happens to an id that has an event, by flow and job type; each entry is as likely as the others."""

Events = Mapping[bytes, list[bytes]]


class StoppedError(Exception):
    """The computation was told to stop."""


class Record(msgspec.Struct):
    """What must be known of a record that is given."""

    id: str | int


def parse_events(ndjson: bytes) -> dict[bytes, list[bytes]]:
    """Return the records by id, each as it was written.

    :raises ValueError: if a line is no record with an id; it says which.
    """
    events: dict[bytes, list[bytes]] = {}
    for number, line in enumerate(map(bytes.strip, ndjson.splitlines()), 1):
        if line:
            try:
                record = msgspec.json.decode(line, type=Record)
            except msgspec.DecodeError as error:
                raise ValueError(f"line {number} of the events: {error}") from None
            events.setdefault(str(record.id).encode(), []).append(line)
    return events


class Rules:
    """Which ids have which events; the same id and seed give the same event, whatever else is submitted."""

    def __init__(
        self, flow: str, job_type: str, *, seed: int, event_rate: float, events: Events | None
    ) -> None:
        self._flow = flow
        self._type = job_type
        self._seed = zlib.crc32(str(seed).encode())
        self._threshold = int(event_rate * 2**32)
        self._events = events

    def records(self, line: bytes) -> Iterable[bytes]:
        """Return the records that a submitted line brings about."""
        if not (line.isdigit() and len(line) <= 19):
            return self._invalid(line)
        if self._events is not None:
            return self._events.get(line, ())
        if zlib.crc32(line, self._seed) < self._threshold:
            return (self._render(line),)
        return ()

    def _invalid(self, line: bytes) -> Iterable[bytes]:
        # What the legacy flow made of such a line is not known: it says nothing here.
        if self._flow == "legacy" or not line:
            return ()
        return (msgspec.json.encode({"id": line.decode(errors="replace"), "error": "invalid_id"}),)

    def _render(self, line: bytes) -> bytes:
        digest = hashlib.blake2b(line, digest_size=8, salt=self._seed.to_bytes(8, "big")).digest()
        number = int.from_bytes(digest, "big")
        mix = MIXES[self._flow, self._type]
        action, reason = mix[number % len(mix)]
        show = SHOW_MOMENT[self._type]
        created = _created(int(line), number)
        event: dict[str, str | None] = {
            "id": line.decode(),
            "action": action,
            "created_at": show(created),
            "redacted_at": show(created + timedelta(seconds=1 + (number >> 16) % 2_592_000)),
            "reason": reason,
        }
        match (number >> 8) % 8:
            case 0:
                event["redacted_at"] = None
            case 1:
                del event["redacted_at"]
            case 2 if self._flow == "current" and reason == "deleted":
                event["deleted_at"] = event["redacted_at"]
        return msgspec.json.encode(event)


def _created(number: int, hashed: int) -> datetime:
    """Tell the moment from a snowflake; older ids get one between 2006 and 2010."""
    milliseconds = (number >> 22) + SNOWFLAKE_EPOCH_MS
    if not number >> 32 or milliseconds > 4_000_000_000_000:
        milliseconds = 1_150_000_000_000 + hashed % 138_000_000_000
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


SHOW_MOMENT: dict[str, Callable[[datetime], str]] = {
    "tweets": lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z",
    "users": lambda moment: moment.isoformat(timespec="seconds"),
}


def compute(submission: Path | None, result: Path, rules: Rules, is_stopped: Callable[[], bool]) -> None:
    """Write a result: not in input order, in shards with a blank line between them.

    :param submission: the uploaded file; None counts as empty.
    :param is_stopped: asked now and then whether to give up.
    :raises StoppedError: if so.
    """
    shards = [result.with_name(f"{result.name}.{number}") for number in range(SHARDS)]
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(shard.open("wb")) for shard in shards]
            written = 0
            lines = stack.enter_context(submission.open("rb")) if submission else ()
            for count, line in enumerate(lines):
                if not count & ROUNDS_BETWEEN_CHECKS and is_stopped():
                    raise StoppedError
                for record in rules.records(line.removesuffix(b"\n")):
                    files[written % SHARDS].write(record + b"\n")
                    written += 1
        _join([shard for shard in reversed(shards) if shard.stat().st_size], result)
    finally:
        for shard in shards:
            shard.unlink(missing_ok=True)


def _join(shards: list[Path], result: Path) -> None:
    part = result.with_name(f"{result.name}.part")
    with part.open("wb") as target:
        for number, shard in enumerate(shards):
            if number:
                target.write(b"\n")
            with shard.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)
    part.replace(result)
