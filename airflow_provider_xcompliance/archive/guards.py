"""Go or no go: what the results of a night must show, all together, before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import msgspec

from airflow_provider_xcompliance.archive.events import NO_POLICY, Effect, Policy, effect_of, is_known

#: From so many ids on, a result without any event is suspicious.
MANY_IDS = 1_000_000

_SHOWN = 3
_SHOWN_CHARACTERS = 80

JobType = Literal["tweets", "users"]
JOB_TYPES: tuple[JobType, ...] = get_args(JobType)

Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What is still a go.

    :param max_removal_ratio: removals ÷ submitted ids, of each job type; None: no limit
    :param max_removals: over all results; None: no limit
    :param max_change_ratio: scrubs and fetches ÷ submitted ids, of each job type; None: no limit
    :param max_error_ratio: ids that X could not read ÷ submitted ids, of each job type; None: no limit
    :param min_events: over all results. Unless it is 0, a million ids or more of a type, or of one result,
        without any event are a no go
    :param control_ids: by job type, the ids that must have an event in each result
    :param allow_unknown: ``action/reason`` of events that are accepted although they are not documented
    :param allow_repeated: whether ids may have several events
    :param allow_unverified_length: whether a result without control ids may be one whose end nothing proves
    """

    max_removal_ratio: Share | None = 0.05
    max_removals: Count | None = None
    max_change_ratio: Share | None = 0.05
    max_error_ratio: Share | None = 0.05
    min_events: Count | None = None
    control_ids: dict[JobType, frozenset[str]] = {}
    allow_unknown: frozenset[str] = frozenset()
    allow_repeated: bool = False
    allow_unverified_length: bool = False


@dataclass(frozen=True)
class Result:
    """
    What a landed result says; nothing in it is about control ids.

    :param name: what objections call it
    :param submitted: how many ids it answers for; None if it was not compared with them
    :param kinds: number of events by action and reason
    :param errors: number of ids that X could not read
    :param controls: the control ids that have an event
    :param repeated: how many ids have several events; None if that was not looked at
    :param unverified_length: whether neither a length nor a digest told where it ends
    """

    name: str
    job_id: str
    job_type: JobType
    submitted: int | None
    kinds: dict[tuple[str, str], int]
    errors: int
    controls: frozenset[str]
    repeated: int | None
    unverified_length: bool

    @property
    def events(self) -> int:
        """The number of its events."""
        return sum(self.kinds.values())

    def unknown(self, policy: Policy = NO_POLICY) -> dict[str, int]:
        """Return how many of its events neither X documents nor the policy names, by ``action/reason``."""
        undocumented = {"/".join(kind): number for kind, number in self.kinds.items() if not is_known(*kind)}
        return {kind: number for kind, number in undocumented.items() if kind not in policy}


@dataclass(frozen=True)
class Totals:
    """
    What some results come to.

    :param submitted: ids, without control ids
    :param removals: events that remove what is stored
    :param scrubs: events that remove a location
    :param fetches: events that make a stored copy stale
    :param errors: ids that X could not read
    :param unknown: events that neither X documents nor the policy names, whatever else they count as
    :param repeated: ids with several events
    """

    results: int
    submitted: int
    events: int
    removals: int
    scrubs: int
    fetches: int
    errors: int
    unknown: int
    repeated: int

    @classmethod
    def of(cls, results: Sequence[Result], policy: Policy = NO_POLICY) -> Totals:
        """Add results up, each event as what is done about it."""
        effects: Counter[Effect] = Counter()
        for result in results:
            for kind, number in result.kinds.items():
                effects[effect_of(*kind, policy)] += number
        return cls(
            results=len(results),
            submitted=sum(result.submitted or 0 for result in results),
            events=sum(result.events for result in results),
            removals=effects[Effect.REMOVE],
            scrubs=effects[Effect.SCRUB_LOCATION],
            fetches=effects[Effect.FETCH_AGAIN],
            errors=sum(result.errors for result in results),
            unknown=sum(sum(result.unknown(policy).values()) for result in results),
            repeated=sum(result.repeated or 0 for result in results),
        )

    @property
    def removal_ratio(self) -> float:
        """Removals ÷ submitted."""
        return self.removals / max(self.submitted, 1)

    @property
    def changes(self) -> int:
        """What stays and is not what it was, or waits in the quarantine: scrubs and fetches."""
        return self.scrubs + self.fetches

    @property
    def change_ratio(self) -> float:
        """Changes ÷ submitted."""
        return self.changes / max(self.submitted, 1)

    @property
    def error_ratio(self) -> float:
        """Errors ÷ submitted."""
        return self.errors / max(self.submitted, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers by their names."""
        numbers: dict[str, Any] = msgspec.to_builtins(self)
        return numbers | {"removal_ratio": self.removal_ratio, "change_ratio": self.change_ratio}


@dataclass(frozen=True)
class Plan:
    """What is going to be done: over all results, and by job type."""

    total: Totals
    by_type: dict[JobType, Totals]

    def to_dict(self) -> dict[str, Any]:
        """Return the totals, and ``job_types`` with those of each."""
        by_type = {job_type: totals.to_dict() for job_type, totals in self.by_type.items()}
        return self.total.to_dict() | {"job_types": by_type}

    def lines(self) -> Iterator[str]:
        """Yield an aligned table: a row for each job type, and one for all."""
        rows = [("job type", *_COLUMNS)]
        for name, totals in (*self.by_type.items(), ("all", self.total)):
            rows.append((name, *(show(totals) for show in _COLUMNS.values())))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for name, *cells in rows:
            aligned = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
            yield "  ".join((name.ljust(widths[0]), *aligned))


_COLUMNS: dict[str, Callable[[Totals], str]] = {
    "results": lambda totals: f"{totals.results:,}",
    "submitted": lambda totals: f"{totals.submitted:,}",
    "removals": lambda totals: f"{totals.removals:,}",
    "share": lambda totals: f"{totals.removal_ratio:.2%}",
    "location scrubs": lambda totals: f"{totals.scrubs:,}",
    "re-fetch": lambda totals: f"{totals.fetches:,}",
    "errors": lambda totals: f"{totals.errors:,}",
    "unknown": lambda totals: f"{totals.unknown:,}",
    "repeated": lambda totals: f"{totals.repeated:,}",
}


def plan_of(results: Sequence[Result], policy: Policy = NO_POLICY) -> Plan:
    """
    Add up what results come to.

    :param policy: what is done instead about some actions and reasons
    """
    by_type: dict[JobType, list[Result]] = {}
    for result in results:
        by_type.setdefault(result.job_type, []).append(result)
    totals = {job_type: Totals.of(each, policy) for job_type, each in sorted(by_type.items())}
    return Plan(Totals.of(results, policy), totals)


def judge(results: Sequence[Result], limits: Limits, policy: Policy = NO_POLICY) -> list[str]:
    """
    Decide whether results may be applied.

    :param policy: what is done instead about some actions and reasons, when they are applied
    :return: what is against it, a line for each; none: go
    """
    if not results:
        return ["there is no result to judge; that nothing was checked does not mean that all is well"]
    measurable = plan_of([result for result in results if result.submitted is not None], policy)
    return [
        *_object_to_copies(results),
        *(objection for result in results for objection in _object_to_result(result, limits, policy)),
        *(
            objection
            for job_type, totals in measurable.by_type.items()
            for objection in _object_to_type(job_type, totals, limits)
        ),
        *_object_to_total(Totals.of(results, policy), limits),
    ]


def _object_to_copies(results: Sequence[Result]) -> Iterator[str]:
    names: dict[str, list[str]] = {}
    for result in results:
        names.setdefault(result.job_id, []).append(result.name)
    for job_id, same in names.items():
        if len(same) > 1:
            yield f"job {job_id}: its result was given {len(same)} times ({_some(same)}); give each once"


def _object_to_result(result: Result, limits: Limits, policy: Policy) -> Iterator[str]:
    yield from _object_to_fetches_of_users(result, policy)
    if result.submitted is None:
        yield (
            f"{result.name}: it was not compared with the ids that were submitted; download it again with "
            "submitted="
        )
    elif result.repeated is None and not limits.allow_repeated:
        yield f"{result.name}: its manifest does not tell of repeated ids; download it again"
    if result.repeated and not limits.allow_repeated:
        yield (
            f"{result.name}: {result.repeated:,} ids have several events, which may contradict each other; "
            "run a new job, or give allow_repeated=True"
        )
    if result.unverified_length and not result.controls and not limits.allow_unverified_length:
        yield (
            f"{result.name}: nothing proves that its end is not cut off; download it again, or run a new job "
            "with control_ids=, or give allow_unverified_length=True"
        )
    if missing := sorted(limits.control_ids.get(result.job_type, frozenset()) - result.controls):
        yield (
            f"{result.name}: {len(missing):,} control ids were not submitted with it as such "
            f"({_some(missing)}); run a new job with control_ids="
        )
    numbers = result.unknown(policy)
    if unknown := sorted(numbers.keys() - limits.allow_unknown):
        yield (
            f"{result.name}: {sum(numbers[kind] for kind in unknown):,} events are of kinds that this "
            f"version does not know ({_some(unknown)}); upgrade this package, or name them in policy= or "
            "allow_unknown="
        )
    if _is_silent(result.submitted or 0, result.events, limits):
        yield f"{result.name}: no event at all for {result.submitted:,} ids{_IF_SILENCE_IS_RIGHT}"


def _object_to_fetches_of_users(result: Result, policy: Policy) -> Iterator[str]:
    again = {"/".join(kind) for kind in result.kinds if effect_of(*kind) is Effect.FETCH_AGAIN}
    if result.job_type == "users" and (unforeseen := sorted(again - policy.keys())):
        yield (
            f"{result.name}: users are to be fetched again ({_some(unforeseen)}), which X says of posts "
            "alone; say in policy= what is done about it: remove, scrub or keep"
        )


def _object_to_type(job_type: JobType, totals: Totals, limits: Limits) -> Iterator[str]:
    if limits.max_removal_ratio is not None and totals.removal_ratio > limits.max_removal_ratio:
        yield (
            f"{job_type}: {totals.removals:,} removals of {totals.submitted:,} ids are "
            f"{totals.removal_ratio:.4%}, more than max_removal_ratio={limits.max_removal_ratio}; if that is "
            "right, as it can be on a first run, raise it, or give None"
        )
    if limits.max_change_ratio is not None and totals.change_ratio > limits.max_change_ratio:
        yield (
            f"{job_type}: {totals.fetches:,} records to fetch again and {totals.scrubs:,} locations to "
            f"remove, of {totals.submitted:,} ids, are {totals.change_ratio:.4%}, more than "
            f"max_change_ratio={limits.max_change_ratio}; if that is right, raise it, or give None"
        )
    if limits.max_error_ratio is not None and totals.error_ratio > limits.max_error_ratio:
        yield (
            f"{job_type}: X could not read {totals.errors:,} of {totals.submitted:,} ids, so they are not "
            f"checked; that is more than max_error_ratio={limits.max_error_ratio}; run a new job"
        )
    if totals.results > 1 and _is_silent(totals.submitted, totals.events, limits):
        yield f"{job_type}: no event at all for {totals.submitted:,} ids{_IF_SILENCE_IS_RIGHT}"


def _object_to_total(totals: Totals, limits: Limits) -> Iterator[str]:
    if limits.max_removals is not None and totals.removals > limits.max_removals:
        yield (
            f"all results: {totals.removals:,} removals are more than max_removals={limits.max_removals}; if "
            "that is right, raise it"
        )
    if totals.events < (limits.min_events or 0):
        yield f"all results: {totals.events:,} events are fewer than min_events={limits.min_events}"


_IF_SILENCE_IS_RIGHT = " is suspicious; run a new job, or, if it is right, give min_events=0"


def _is_silent(submitted: int, events: int, limits: Limits) -> bool:
    return submitted >= MANY_IDS and not events and limits.min_events != 0


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name[:_SHOWN_CHARACTERS]) for name in names[:_SHOWN]) + more
