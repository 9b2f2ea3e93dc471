"""The events that X returns: what has to happen to which post or user, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import IntEnum
from functools import reduce
from operator import attrgetter, or_
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from airflow_provider_xcompliance.archive.ids import count_clean, is_id
from airflow_provider_xcompliance.archive.lines import MAX_LINE_BYTES, LineTooLongError, line_blocks
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

#: What a policy may say → what is done then.
POLICY_CHOICES = {
    "remove": Effect.REMOVE,
    "quarantine": Effect.FETCH_AGAIN,
    "scrub": Effect.SCRUB_LOCATION,
    "keep": Effect.NOTHING,
}

#: ``action/reason`` → what is done about it, whatever :data:`EFFECTS` says.
Policy = Mapping[str, Effect]
NO_POLICY: Policy = {}

# A result has a handful; what has more is no result, and would fill the memory and the manifest.
_MAX_KINDS = 1_000


class InvalidEventsError(ValueError):
    """A result holds a line that is no record: it was cut, is corrupt, or is something else."""


class ForeignEventsError(ValueError):
    """A result speaks of ids that were not submitted, so it is not the answer to that submission."""


class MissingControlsError(ValueError):
    """A result says nothing of ids that are known to be gone, so its silence about others proves nothing."""


class Event(msgspec.Struct, frozen=True, gc=False):
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


class _KnownEvent(Event, frozen=True, gc=False):
    # Texts that are known beforehand are not made anew for each event.
    action: Literal["delete", "rehydrate", "scrub_geo"] | None = None
    reason: (
        Literal[
            "deleted",
            "protected",
            "deactivated",
            "suspended",
            "bounced",
            "scrub_geo",
            "tweet_edited",
            "geo_scrubbed",
        ]
        | None
    ) = None


_decoder = msgspec.json.Decoder(Event)
_known_decoder = msgspec.json.Decoder(_KnownEvent)


class _Counted(msgspec.Struct, kw_only=True, gc=False):
    """What is looked at of an event that is only counted; each usual action has a class of its own."""

    id: str
    error: str | None = None
    created_at: datetime | None = None
    redacted_at: datetime | None = None
    deleted_at: datetime | None = None


# The action of each reason, so that it need not be asked for; the newer one of the one reason that has two.
_USUAL = {reason: action for action, reasons in EFFECTS.items() for reason in reasons}


def _counted(action: str) -> type[msgspec.Struct]:
    reasons = tuple(reason for reason, usual in _USUAL.items() if usual == action)
    fields = [("reason", Literal[reasons])]
    return msgspec.defstruct(action, fields, bases=(_Counted,), tag_field="action", tag=action, gc=False)


_count_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(reduce(or_, map(_counted, EFFECTS)))

_action_of, _reason_of, _id_of = map(attrgetter, ("action", "reason", "id"))

# A record nested without end is a RecursionError.
_NO_RECORD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


# So much stays in a processor's caches while it is taken apart, and in memory that is used again and again.
_BLOCK_BYTES = 1 << 16

# The decoder takes a date that is cut by one for whole. What X could not read may hold one, and is told of.
_ZERO_BYTE = rb"\u0000"


def is_known(action: str, reason: str) -> bool:
    """Whether X documents such an event, or was seen to send it."""
    return reason in EFFECTS.get(action, {})


def effect_of(action: str, reason: str, policy: Policy = NO_POLICY) -> Effect:
    """
    Return what is done about an event; for an unknown reason, the most that its action stands for.

    :param policy: what is done instead about some actions and reasons
    """
    effects = EFFECTS.get(action, {})
    default = effects.get(reason, max(effects.values(), default=Effect.NOTHING))
    return policy.get(f"{action}/{reason}", default)


def parse_policy(policy: Mapping[str, str]) -> Policy:
    """
    Read a policy as users write it.

    :param policy: ``action/reason`` → ``remove``, ``quarantine``, ``scrub`` or ``keep``
    :raises ValueError: if it has another form
    """
    if not isinstance(policy, Mapping):
        raise ValueError(f"policy: give a dict of 'action/reason' → what to do, not {str(policy)[:80]!r}")
    for kind, choice in policy.items():
        if str(choice) not in POLICY_CHOICES or str(kind).count("/") != 1:
            raise ValueError(
                f"policy: {str(kind)[:80]!r} → {str(choice)[:40]!r}; give 'action/reason' → one of "
                f"{', '.join(POLICY_CHOICES)}"
            )
    return {kind: POLICY_CHOICES[choice] for kind, choice in policy.items()}


def read_events(source: SupportsRead[bytes], name: str) -> Iterator[list[Event]]:
    """
    Read newline-delimited events, some at a time; blank lines are skipped.

    :param source: the file, open for reading bytes
    :param name: what errors call it
    :raises InvalidEventsError: at the first line that is no record
    """
    for block in _blocks(source, name):
        yield _decode_block(block) or _decode_lines(block, name)


def count_events(source: SupportsRead[bytes], name: str) -> EventCounts:
    """
    Count the events that :func:`read_events` reads, in less time.

    :raises InvalidEventsError: as it does, and if there are more kinds of events than a result can have
    """
    counts = EventCounts()
    for block in _blocks(source, name):
        kinds = _kinds_of(block)
        if kinds is None:
            counts.add(_decode_block(block) or _decode_lines(block, name))
        else:
            counts.kinds.update(kinds)
    return counts


class _Block(NamedTuple):
    content: bytes
    lines: list[bytes]
    first: int

    @property
    def is_plain(self) -> bool:
        """Whether no line of it needs a closer look before it is decoded."""
        # To look for a single byte first is quick.
        return not (b"\\" in self.content and _ZERO_BYTE in self.content)


def _blocks(source: SupportsRead[bytes], name: str) -> Iterator[_Block]:
    line = 1
    try:
        for content in line_blocks(source, _BLOCK_BYTES):
            lines = content.split(b"\n")
            yield _Block(content, lines, line)
            line += len(lines) - 1
    except LineTooLongError:
        raise InvalidEventsError(
            f"{name}: line {line} has more than {MAX_LINE_BYTES:,} bytes, so it is no compliance result; "
            "nothing is kept"
        ) from None


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
        events = [*events]
        kinds = Counter(zip(map(_action_of, events), map(_reason_of, events), strict=True))
        for (action, reason), number in kinds.items():
            if action:
                self.kinds[action, str(reason)] += number
        if not all(action for action, _ in kinds):
            self._errors.update(str(event.error) for event in events if not event.action)
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


def _decode_block(block: _Block) -> list[Event] | None:
    """All records of a block of plain ones; None if a line needs a closer look."""
    if not block.is_plain:
        return None
    # Each by itself: else the decoder takes two records on a line, and one record on two lines.
    lines = [*filter(None, block.lines)]
    try:
        _require_utf8(block.content)
        try:
            events: list[Event] = [*map(_known_decoder.decode, lines)]
        except msgspec.ValidationError:
            events = [*map(_decoder.decode, lines)]
    except _NO_RECORD:
        return None
    return events if _are_whole(events) else None


def _kinds_of(block: _Block) -> Counter[tuple[str, str]] | None:
    """The events of a block of usual ones by action and reason; None if something else is in it."""
    if not block.is_plain:
        return None
    try:
        _require_utf8(block.content)
        events = [*map(_count_decoder.decode, filter(None, block.lines))]
    except _NO_RECORD:
        return None
    if not _are_ids([*map(_id_of, events)]):
        return None
    return Counter({(_USUAL[reason], reason): n for reason, n in Counter(map(_reason_of, events)).items()})


def _are_whole(events: list[Event]) -> bool:
    """Whether all records say what happened to an id, or what was wrong with it; False also if in doubt."""
    ids = [event.id for event in events if event.action]
    if len(ids) < len(events) and not all(event.action or event.error for event in events):
        return False
    return _are_ids(ids)


def _are_ids(ids: list[str]) -> bool:
    return not ids or count_clean("\n".join([*ids, ""]).encode()) == len(ids)


def _decode_lines(block: _Block, name: str) -> list[Event]:
    lines = enumerate(block.lines, start=block.first)
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
