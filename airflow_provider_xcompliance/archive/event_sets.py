"""The events of a night as sorted numbers: few bytes for each, and quickly asked."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from airflow_provider_xcompliance.archive.events import (
    EFFECTS,
    NO_POLICY,
    Effect,
    Event,
    EventCounts,
    Policy,
    effect_of,
    read_events,
)
from airflow_provider_xcompliance.archive.extras import require
from airflow_provider_xcompliance.archive.guards import JobType
from airflow_provider_xcompliance.archive.records import NO_DECISION, Decision
from airflow_provider_xcompliance.archive.sorted_ids import numbers_of, unique_in_place

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import SupportsRead
    from numpy.typing import NDArray
else:
    np = require("numpy", "archive", "reading archives")

# How many ids are looked at together, so that what that takes does not grow with their number.
_IDS_AT_ONCE = 1 << 19

#: Of each job type, the ids with an event of a kind, in any order.
IdsByDecision = Mapping[tuple[JobType, Decision], "NDArray[np.int64]"]


class EventSet:
    """
    What is done about which id; of several events of an id, the one with the strongest effect counts.

    Beside a post's being fetched again, its location's going is known too, for where nothing is fetched.

    :param ids: ids by job type, and what is done about them: tombstones, or the events of a night
    :param unknown: number of events that nothing is known to do about, by ``action/reason``
    """

    def __init__(self, ids: IdsByDecision, unknown: Mapping[str, int] = MappingProxyType({})) -> None:
        self._posts = _Decided.of(_of_type(ids, "tweets"))
        self._users = _Decided.of(_of_type(ids, "users"))
        #: Number of events by ``action/reason`` whose action is not known and which the policy does not name.
        self.unknown = Counter(unknown)

    @classmethod
    def build(
        cls,
        sources: Iterable[tuple[JobType, SupportsRead[bytes], str]],
        policy: Policy = NO_POLICY,
        tombstones: IdsByDecision = MappingProxyType({}),
    ) -> EventSet:
        """
        Read results; nothing grows with them but at most 20 bytes for each event.

        :param sources: of each result its job type, the file open for reading bytes, and what errors call it
        :param policy: what is done instead about some actions and reasons
        :param tombstones: ids with events of earlier nights, which count besides
        :raises InvalidEventsError: if a line of a result is no record, or there are too many kinds of them
        """
        found: dict[tuple[JobType, Decision], array[int]] = {}
        unknown: Counter[str] = Counter()
        for job_type, source, name in sources:
            counts = EventCounts()
            for events in read_events(source, name):
                counts.add(events)
                for (action, reason), lines in _lines_by_kind(events).items():
                    decision = Decision(effect_of(action, reason, policy), f"{action}/{reason}")
                    if decision.effect:
                        ids = found.setdefault((job_type, decision), array("q"))
                        ids.frombytes(numbers_of(lines).tobytes())
            unknown.update(_unknown(counts.kinds, policy))
        return cls(_joined(found, tombstones), unknown)

    @property
    def posts(self) -> NDArray[np.int64]:
        """Ids of posts about which something is done, sorted and unique."""
        return self._posts.ids

    @property
    def users(self) -> NDArray[np.int64]:
        """Ids of users about which something is done, sorted and unique."""
        return self._users.ids

    def of_post(self, post: int, /) -> Decision:
        """Return what is done about a post, and the kind of event that decides it."""
        return self._posts.decision(post)

    def of_user(self, user: int, /) -> Decision:
        """Return what is done about a user, and the kind of event that decides it."""
        return self._users.decision(user)

    def decided(self, job_type: JobType) -> Iterator[tuple[Decision, NDArray[np.int64]]]:
        """Yield each event that counts, and its sorted ids; an id of which two count comes with both."""
        return (self._posts if job_type == "tweets" else self._users).by_event()


class _Decided:
    """Sorted ids, and of each the number of its decision."""

    def __init__(
        self, ids: NDArray[np.int64], numbers: NDArray[np.uint16], decisions: list[Decision]
    ) -> None:
        self.ids = ids
        self._numbers = numbers
        self._decisions = decisions

    @classmethod
    def of(cls, given: list[tuple[Decision, NDArray[np.int64]]]) -> _Decided:
        # Strongest last, so that it overwrites the others; of equally strong ones, the first by name.
        given = sorted(given, key=lambda each: each[0].kind, reverse=True)
        given.sort(key=lambda each: each[0].effect)
        ids = np.concatenate([np.empty(0, np.int64), *(ids for _, ids in given)])
        ids.sort()
        ids = unique_in_place(ids)
        decided = cls(ids, np.zeros(len(ids), np.uint16), [NO_DECISION])
        for decision, some in given:
            for start in range(0, len(some), _IDS_AT_ONCE):
                # Sorted, they are looked up one beside the other, which caches like.
                places = np.searchsorted(ids, np.sort(some[start : start + _IDS_AT_ONCE]))
                decided._decide(places, decision)
        return decided

    def _decide(self, places: NDArray[np.int64], decision: Decision) -> None:
        if decision.effect != Effect.FETCH_AGAIN:
            self._numbers[places] = self._number(decision)
            return
        before = self._numbers[places]
        for number in np.unique(before).tolist():
            # Weaker, or fetched again for another reason: what is left of it without is a scrub, or nothing.
            both = decision._replace(otherwise=self._decisions[number].without_fetching.kind)
            self._numbers[places[before == number]] = self._number(both)

    def _number(self, decision: Decision) -> int:
        if decision not in self._decisions:
            self._decisions.append(decision)
        return self._decisions.index(decision)

    def by_event(self) -> Iterator[tuple[Decision, NDArray[np.int64]]]:
        numbers = defaultdict[Decision, list[int]](list)
        for number, decision in enumerate(self._decisions[1:], start=1):
            for event in (decision._replace(otherwise=""), decision.without_fetching):
                numbers[event].append(number)
        for event, some in numbers.items():
            if event.effect:
                yield event, self.ids[np.isin(self._numbers, some)]

    def decision(self, number: int) -> Decision:
        place = self.ids.searchsorted(number)
        if place < len(self.ids) and self.ids[place] == number:
            return self._decisions[int(self._numbers[place])]
        return NO_DECISION


def _of_type(ids: IdsByDecision, job_type: JobType) -> list[tuple[Decision, NDArray[np.int64]]]:
    return [
        (decision, some) for (each, decision), some in ids.items() if each == job_type and decision.effect
    ]


def _joined(
    found: Mapping[tuple[JobType, Decision], array[int]], tombstones: IdsByDecision
) -> dict[tuple[JobType, Decision], NDArray[np.int64]]:
    ids = {key: np.frombuffer(some, np.int64) for key, some in found.items()}
    for key, some in tombstones.items():
        ids[key] = np.concatenate([ids[key], some]) if key in ids else some
    return ids


def _lines_by_kind(events: Iterable[Event]) -> dict[tuple[str, str], bytes]:
    """Ids, one on a line, by action and reason; those that X could not read are left out."""
    ids = defaultdict[tuple[str | None, str | None], list[str]](list)
    for event in events:
        ids[event.action, event.reason].append(event.id)
    return {
        (action, str(reason)): "\n".join([*some, ""]).encode()
        for (action, reason), some in ids.items()
        if action
    }


def _unknown(kinds: Mapping[tuple[str, str], int], policy: Policy) -> Counter[str]:
    unknown: Counter[str] = Counter()
    for (action, reason), number in kinds.items():
        if action not in EFFECTS and f"{action}/{reason}" not in policy:
            unknown[f"{action}/{reason}"] += number
    return unknown
