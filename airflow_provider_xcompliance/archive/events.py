"""The events that X returns: what has to happen to which post or user, and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any

import msgspec

from airflow_provider_xcompliance.archive.lines import line_blocks

if TYPE_CHECKING:
    from _typeshed import SupportsRead

#: The actions that X documents or was seen to send, and the reasons for each.
KNOWN_EVENTS: dict[str, frozenset[str]] = {
    "delete": frozenset({"deleted", "protected", "deactivated", "suspended", "bounced", "scrub_geo"}),
    "rehydrate": frozenset({"tweet_edited"}),
    "scrub_geo": frozenset({"geo_scrubbed", "scrub_geo"}),
}

# A set of ids takes about 95 bytes for each of them: this many stay near 25 MB.
_IDS_AT_ONCE = 250_000


class InvalidEventsError(ValueError):
    """A result holds a line that is no record: it was cut, is corrupt, or is something else."""


class ForeignEventsError(ValueError):
    """A result speaks of ids that were not submitted, so it is not the answer to that submission."""


class Event(msgspec.Struct, frozen=True):
    """
    One record of a result: an event, or an id that X could not read.

    :param id: the id as it was submitted
    :param action: what to do; None in an error record
    :param reason: why
    :param error: what was wrong with the id, instead of an action
    """

    id: str
    action: str | None = None
    reason: str | None = None
    error: str | None = None
    created_at: datetime | None = None
    redacted_at: datetime | None = None
    deleted_at: datetime | None = None

    @property
    def is_known(self) -> bool:
        """Whether action and reason are ones that X documents."""
        return self.reason in KNOWN_EVENTS.get(self.action or "", frozenset())


_decoder = msgspec.json.Decoder(Event)


def read_events(source: SupportsRead[bytes], name: str) -> Iterator[list[Event]]:
    """
    Read newline-delimited events, about a megabyte at a time; blank lines are skipped.

    :param source: the file, open for reading bytes
    :param name: what errors call it
    :raises InvalidEventsError: at the first line that is no record
    """
    line = 1
    for block in line_blocks(source, name):
        events = _decode_block(block)
        if events is None:
            lines = enumerate(block.split(b"\n"), start=line)
            events = [_decode_line(text, f"{name}:{number}") for number, text in lines if text.strip()]
        line += block.count(b"\n")
        yield events


class EventCounts:
    """How many events there are per action and reason, and how many records of ids that X could not read."""

    def __init__(self) -> None:
        self._events: Counter[tuple[str | None, str | None]] = Counter()
        self._errors: Counter[str] = Counter()

    def add(self, events: Iterable[Event]) -> None:
        """Count some more records."""
        for event in events:
            if event.action is None:
                self._errors[str(event.error)] += 1
            else:
                self._events[event.action, event.reason] += 1

    @property
    def unknown(self) -> list[str]:
        """Return ``action/reason`` of all that is not documented, in order."""
        return sorted(
            f"{action}/{reason}"
            for action, reason in self._events
            if reason not in KNOWN_EVENTS.get(action or "", frozenset())
        )

    def to_dict(self) -> dict[str, Any]:
        """Return ``events``, ``actions`` (action → reason → number), ``errors`` and ``unknown``."""
        actions: dict[str, dict[str, int]] = {}
        for (action, reason), number in sorted(self._events.items(), key=str):
            actions.setdefault(str(action), {})[str(reason)] = number
        return {
            "events": self._events.total(),
            "actions": actions,
            "errors": dict(sorted(self._errors.items())),
            "unknown": self.unknown,
        }


def require_submitted(events: SupportsRead[bytes], submitted: IO[bytes], name: str) -> None:
    """
    Check that every record is about an id that was submitted, in memory that does not grow with the files.

    The ids of the events are held some at a time, and the submitted ids read through for each such part.

    :param events: newline-delimited events
    :param submitted: clean ids, one per line
    :param name: what errors call the events
    :raises ForeignEventsError: if an id was not submitted
    """
    for ids in _id_sets(events, name):
        submitted.seek(0)
        for block in line_blocks(submitted, "submitted ids"):
            ids.difference_update(block.split(b"\n"))
            if not ids:
                break
        if ids:
            examples = ", ".join(sorted(repr(each.decode()[:40]) for each in ids)[:3])
            raise ForeignEventsError(
                f"{name}: at least {len(ids)} records are about ids that were not submitted ({examples}); "
                "this is not the result of that file, and nothing of it is kept"
            )


def _id_sets(events: SupportsRead[bytes], name: str) -> Iterator[set[bytes]]:
    ids: set[bytes] = set()
    for block in read_events(events, name):
        ids.update(event.id.encode() for event in block)
        if len(ids) >= _IDS_AT_ONCE:
            yield ids
            ids = set()
    yield ids


def _decode_block(block: bytes) -> list[Event] | None:
    """All records of a block; None if a line needs a closer look."""
    try:
        events: list[Event] = _decoder.decode_lines(block)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    # The decoder also takes two records on a line, and one record on two lines.
    one_per_line = len(events) == len(re.findall(rb"[^\s][^\n]*", block))
    return events if one_per_line and all(event.action or event.error for event in events) else None


def _decode_line(line: bytes, place: str) -> Event:
    try:
        event = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidEventsError(
            f"{place}: not a record of a compliance result ({error}); the result is incomplete or corrupt, "
            "and nothing of it is kept"
        ) from None
    if not (event.action or event.error):
        raise InvalidEventsError(
            f"{place}: a record with neither action nor error; nothing of the result is kept"
        )
    return event
