"""The events that X returns: what has to happen to which post or user, and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_xcompliance.archive.ids import is_id
from airflow_provider_xcompliance.archive.lines import LineTooLongError, line_blocks
from airflow_provider_xcompliance.archive.repetitions import IdShares, numbers

if TYPE_CHECKING:
    from _typeshed import SupportsRead


class Effect(IntEnum):
    """What is done about an event with what is stored; of several about one id, the greatest counts."""

    NOTHING = 0
    SCRUB_LOCATION = 1
    FETCH_AGAIN = 2
    REMOVE = 3


#: What is done about each action and reason that X documents or was seen to send. Old documents have no other
#: action than delete: what they delete for scrub_geo is the location.
EFFECTS: dict[str, dict[str, Effect]] = {
    "delete": {
        "deleted": Effect.REMOVE,
        "protected": Effect.REMOVE,
        "deactivated": Effect.REMOVE,
        "suspended": Effect.REMOVE,
        "bounced": Effect.REMOVE,
        "scrub_geo": Effect.SCRUB_LOCATION,
    },
    "rehydrate": {"tweet_edited": Effect.FETCH_AGAIN},
    "scrub_geo": {"geo_scrubbed": Effect.SCRUB_LOCATION, "scrub_geo": Effect.SCRUB_LOCATION},
}

# A result has a handful; what has more is no result, and would fill the memory and the manifest.
_MAX_KINDS = 1_000

_PLAIN_IDS = re.compile(r"(?:[1-9][0-9]{0,17}\n|[1-8][0-9]{18}\n)*+")


class InvalidEventsError(ValueError):
    """A result holds a line that is no record: it was cut, is corrupt, or is something else."""


class ForeignEventsError(ValueError):
    """A result speaks of ids that were not submitted, so it is not the answer to that submission."""


class MissingControlsError(ValueError):
    """A result says nothing of ids that are known to be gone, so its silence about others proves nothing."""


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


_decoder = msgspec.json.Decoder(Event)

# A record nested without end is a RecursionError.
_NO_RECORD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


# The decoder takes a date that is cut by one for whole. What X could not read may hold one, and is told of.
_ZERO_BYTE = rb"\u0000"


def is_known(action: str, reason: str) -> bool:
    """Whether X documents such an event, or was seen to send it."""
    return reason in EFFECTS.get(action, {})


def effect_of(action: str, reason: str) -> Effect:
    """Return what is done about an event; for an unknown reason, the most that its action stands for."""
    effects = EFFECTS.get(action, {})
    return effects.get(reason, max(effects.values(), default=Effect.NOTHING))


def read_events(source: SupportsRead[bytes], name: str) -> Iterator[list[Event]]:
    """
    Read newline-delimited events, about a megabyte at a time; blank lines are skipped.

    :param source: the file, open for reading bytes
    :param name: what errors call it
    :raises InvalidEventsError: at the first line that is no record
    """
    line = 1
    try:
        for block in line_blocks(source):
            yield _decode_block(block) or _decode_lines(block, name, line)
            line += block.count(b"\n")
    except LineTooLongError as error:
        raise InvalidEventsError(f"{name}: {error}, so it is no compliance result; nothing is kept") from None


class EventCounts:
    """How many events there are per action and reason, and how many records of ids that X could not read."""

    def __init__(self) -> None:
        #: The number of events by action and reason.
        self.kinds: Counter[tuple[str, str]] = Counter()
        self._errors: Counter[str] = Counter()

    def add(self, events: Iterable[Event]) -> None:
        """
        Count some more records.

        :raises InvalidEventsError: if there are more kinds of them than a result can have
        """
        for event in events:
            if event.action:
                self.kinds[event.action, str(event.reason)] += 1
            else:
                self._errors[str(event.error)] += 1
        if len(self.kinds) + len(self._errors) > _MAX_KINDS:
            raise InvalidEventsError(
                f"more than {_MAX_KINDS:,} different actions, reasons and errors are no compliance result; "
                "nothing of it is kept"
            )

    @property
    def unknown(self) -> list[str]:
        """Return ``action/reason`` of all that is not documented, in order."""
        return sorted(f"{action}/{reason}" for action, reason in self.kinds if not is_known(action, reason))

    def to_dict(self) -> dict[str, Any]:
        """Return ``events``, ``actions`` (action → reason → number), ``errors`` and ``unknown``."""
        actions: dict[str, dict[str, int]] = {}
        for (action, reason), number in sorted(self.kinds.items()):
            actions.setdefault(action, {})[reason] = number
        return {
            "events": self.kinds.total(),
            "actions": actions,
            "errors": dict(sorted(self._errors.items())),
            "unknown": self.unknown,
        }


def require_submitted(events: SupportsRead[bytes], submitted: SupportsRead[bytes], name: str) -> int:
    """
    Check that every record is about an id that was submitted, in memory that does not grow with the files.

    :param events: newline-delimited events
    :param submitted: clean ids, one per line: see :class:`.ids.IdReader`
    :param name: what errors call the events
    :return: how many ids have more than one record; X promises one for each
    :raises ForeignEventsError: if an id was not submitted
    """
    repeated = 0
    with IdShares() as mentioned, IdShares() as given:
        for records in read_events(events, name):
            strange = next((record.id for record in records if not is_id(record.id.encode())), None)
            if strange is not None:
                raise _foreign(name, "an id", repr(strange[:40]))
            mentioned.add([int(record.id) for record in records])
        for block in line_blocks(submitted):
            given.add(numbers(block))
        for ids, known in zip(mentioned, given, strict=True):
            different = set(ids)
            if foreign := different.difference(known):
                raise _foreign(
                    name, f"at least {len(foreign):,} ids", ", ".join(map(str, sorted(foreign)[:3]))
                )
            if len(different) < len(ids):
                repeated += sum(times > 1 for times in Counter(ids).values())
    return repeated


def require_controls(events: SupportsRead[bytes], control_ids: Iterable[str], name: str) -> None:
    """
    Check that ids which are known to be gone have an event; an error record is none.

    :param events: newline-delimited events
    :param control_ids: the ids, a handful
    :param name: what the error calls the events
    :raises MissingControlsError: if one of them has none
    """
    missing = dict.fromkeys(control_ids)
    controls = len(missing)
    for records in read_events(events, name):
        for record in records:
            if record.action:
                missing.pop(record.id, None)
    if missing:
        raise MissingControlsError(
            f"{name}: {len(missing):,} of {controls:,} control ids have no event "
            f"({', '.join([*missing][:3])}), though they are known to be gone; the result is void, and "
            "nothing of it is kept"
        )


def _foreign(name: str, how_many: str, examples: str) -> ForeignEventsError:
    return ForeignEventsError(
        f"{name}: there are records of {how_many} not submitted ({examples}); this is not the result of that "
        "file, and nothing of it is kept"
    )


def _require_utf8(content: bytes) -> None:
    # The decoder does not look into keys and strings that no field asks for.
    if not content.isascii():
        content.decode()


def _decode_block(block: bytes) -> list[Event] | None:
    """All records of a block of plain events; None if a line needs a closer look."""
    lines = block.count(b"\n")
    # The decoder also takes two records on a line, and one record on two lines. Where each line begins and
    # ends an object, no record goes over the end of a line, and equal numbers mean one record on each.
    if not block.startswith(b"{") or not block.endswith(b"}\n") or block.count(b"}\n{") != lines - 1:
        return None
    if _ZERO_BYTE in block:
        return None
    try:
        _require_utf8(block)
        events: list[Event] = _decoder.decode_lines(block)
    except _NO_RECORD:
        return None
    ids = "".join([f"{event.id}\n" for event in events if event.action])
    is_plain = len(events) == lines == ids.count("\n") and _PLAIN_IDS.fullmatch(ids)
    return events if is_plain else None


def _decode_lines(block: bytes, name: str, first: int) -> list[Event]:
    lines = enumerate(block.split(b"\n"), start=first)
    return [_decode_line(line, f"{name}:{number}") for number, line in lines if line.strip()]


def _decode_line(line: bytes, place: str) -> Event:
    try:
        _require_utf8(line)
        event = _decoder.decode(line)
    except _NO_RECORD as error:
        raise InvalidEventsError(
            f"{place}: not a record of a compliance result ({error}); the result is incomplete or corrupt, "
            "and nothing of it is kept"
        ) from None
    if not (event.action or event.error):
        raise InvalidEventsError(
            f"{place}: a record with neither action nor error; nothing of the result is kept"
        )
    if event.action and _ZERO_BYTE in line:
        raise InvalidEventsError(f"{place}: an event with a zero byte in it; nothing of the result is kept")
    if event.action and not is_id(event.id.encode()):
        raise InvalidEventsError(
            f"{place}: an event of {event.id[:40]!r}, which is no id; nothing of the result is kept"
        )
    return event
