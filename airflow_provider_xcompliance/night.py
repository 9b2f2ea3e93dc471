"""
What X said in a night, of posts and users, made ready to be applied to an archive.

The results are read once more and found to be those that landed; then tombstones, the list of what has to be
fetched again, and groups of files are laid down for whoever applies them.
"""

from __future__ import annotations

import heapq
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_xcompliance import __version__, storage
from airflow_provider_xcompliance.archive.event_sets import EventSet, IdsByDecision
from airflow_provider_xcompliance.archive.events import Effect, Policy, effect_of
from airflow_provider_xcompliance.archive.extras import require
from airflow_provider_xcompliance.archive.guards import JOB_TYPES, JobType
from airflow_provider_xcompliance.archive.lines import line_blocks
from airflow_provider_xcompliance.archive.records import Decision
from airflow_provider_xcompliance.archive.sorted_ids import lines_of, numbers_of
from airflow_provider_xcompliance.archive.tombstones import (
    Occasion,
    Tombstones,
    lines_of_tombstones,
    renewed,
)
from airflow_provider_xcompliance.catalogue import Archive, key_of, until_unchanged
from airflow_provider_xcompliance.documents import land_json, read_json
from airflow_provider_xcompliance.results import Landed
from airflow_provider_xcompliance.spools import spool_directory, spool_file
from airflow_provider_xcompliance.storage import (
    ChangedError,
    DestinationExistsError,
    MissingError,
    StorageError,
)
from airflow_provider_xcompliance.transfer import spool_ids

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = require("numpy", "archive", "reading archives")

log = logging.getLogger(__name__)

#: How many groups an archive is split into at most; Airflow maps over 1,024.
MAX_GROUPS = 64


@dataclass(frozen=True)
class Night:
    """
    Results of jobs, and what is done about them.

    :param results: found to be whole
    :param client: of the store that they are on
    :param policy: what is done instead about some actions and reasons
    :param source_client: of the store of the ids that were submitted
    """

    results: Sequence[Landed]
    client: Any
    policy: Policy
    source_client: Any = None

    @property
    def key(self) -> str:
        """What the results and the policy are known by."""
        events = sorted(f"{landed.result.job_id} {landed.sha256}" for landed in self.results)
        return key_of(__version__, *events, *sorted(self.policy.items()))

    @property
    def at(self) -> datetime:
        """When X was asked, at the latest."""
        times = [landed.created_at for landed in self.results if landed.created_at]
        return max(times, default=datetime.fromtimestamp(0, UTC)).astimezone(UTC)

    def events(self, tombstones: IdsByDecision = {}) -> EventSet:  # noqa: B006 - never changed
        """
        Read what has to be applied.

        :param tombstones: what was said earlier and counts besides: see :func:`tombstones_for`
        :raises ValueError: if users are to be put into quarantine
        """
        with ExitStack() as stack:
            events = EventSet.build(self._opened(stack), self.policy, tombstones)
        for decision, _ in events.decided("users"):
            if decision.effect is Effect.FETCH_AGAIN:
                raise ValueError(
                    f"{decision.kind!r} → quarantine: of users there is nothing to fetch again; say in "
                    "policy= what is done about it: remove, scrub or keep"
                )
        return events

    def require_elsewhere(self, uris: Iterable[str]) -> None:
        """
        Make sure that the results are not among files that they are applied to.

        :raises ValueError: if they are
        """
        if own := {storage.canonical(landed.uri) for landed in self.results}.intersection(uris):
            raise ValueError(
                f"{storage.display(min(own))} is among the files of the archive, and would be taken for "
                "posts; land events elsewhere"
            )

    def _opened(self, stack: ExitStack) -> Iterator[tuple[JobType, Any, str]]:
        for landed in self.results:
            source = stack.enter_context(storage.open_source(landed.uri, self.client))
            yield landed.result.job_type, source, storage.display(landed.uri)

    def by_type(self) -> dict[JobType, list[Landed]]:
        """Return the results of each job type."""
        found: dict[JobType, list[Landed]] = defaultdict(list)
        for landed in self.results:
            found[landed.result.job_type].append(landed)
        return found


def tombstones_for(archive: Archive, night: Night, *, in_place: bool) -> IdsByDecision:
    """
    Return what X said in earlier nights, as far as it still has to be done.

    :param in_place: whether it was done to this very archive, so that only what was removed may be back
    """
    found: dict[tuple[JobType, Decision], NDArray[np.int64]] = {}
    for job_type in JOB_TYPES:
        for (action, reason, _), ids in archive.tombstones(job_type).items():
            decision = Decision(effect_of(action, reason, night.policy), f"{action}/{reason}")
            if decision.effect is Effect.REMOVE or not in_place:
                some = found.get((job_type, decision), ids[:0])
                found[job_type, decision] = np.concatenate([some, ids])
    return found


def prepare(archive: Archive, night: Night) -> None:
    """
    Lay down what a night leaves for later ones: tombstones, and the list of what has to be fetched again.

    The same night leaves the same, however often this is done.
    """
    events = night.events()
    for job_type, results in night.by_type().items():
        until_unchanged(partial(_renew_tombstones, archive, night, job_type, results, events))
    _list_fetches(archive, night, events)


def plan(archive: Archive, night: Night, max_groups: int = MAX_GROUPS) -> list[str]:
    """
    Split an archive into groups of files of about as many bytes each.

    :return: URIs of the lists of files
    :raises ValueError: if the results lie among these files
    """
    files = [(file.bytes, file.uri) for file in archive.files()]
    night.require_elsewhere(uri for _, uri in files)
    groups = _balanced(files, max_groups)
    folder = archive.state_uri("plans", archive.key, night.key)
    uris = [f"{folder}/{number:04}.json" for number in range(len(groups))]
    with spool_directory() as directory:
        for number, (uri, group) in enumerate(zip(uris, groups, strict=True)):
            land_json(directory / f"plan-{number}", {"files": group}, uri, archive.state_client)
    return uris


def files_of_plan(archive: Archive, uri: str) -> list[str]:
    """
    Return the files of a group.

    :raises MissingError: if there is no such plan
    """
    found = read_json(uri, archive.state_client)
    if not found or not isinstance(found.get("files"), list):
        raise MissingError(f"{storage.display(uri)}: there is no such plan; run the task that makes it again")
    return [str(file) for file in found["files"]]


def _balanced(files: Iterable[tuple[int, str]], max_groups: int) -> list[list[str]]:
    """Put the largest files first, each where there is least so far."""
    ordered = sorted(files, key=lambda file: (-file[0], file[1]))
    groups: list[list[str]] = [[] for _ in range(min(max_groups, len(ordered)))]
    # A file takes its time even if it is empty.
    heap = [(0, number) for number in range(len(groups))]
    for size, uri in ordered:
        filled, number = heapq.heappop(heap)
        groups[number].append(uri)
        heapq.heappush(heap, (filled + size + 1, number))
    return groups


def _renew_tombstones(
    archive: Archive, night: Night, job_type: JobType, results: Sequence[Landed], events: EventSet
) -> None:
    uri = archive.tombstones_uri(job_type)
    version, before = storage.version_of(uri, archive.state_client), archive.tombstones(job_type)
    said = _said(events, job_type, night.at)
    after = renewed(before, said, _submitted(results, night.source_client) if before else ())
    with spool_directory() as directory:
        path = spool_file(directory, "tombstones")
        with path.open("wb") as spool:
            spool.writelines(lines_of_tombstones(after))
        _put(path, uri, archive.state_client, version)
    log.info("%s: %s tombstones", job_type, f"{sum(map(len, after.values())):,}")


def _put(path: Path, uri: str, client: Any, version: str | None) -> None:
    """
    Land a file in the place of the version that was read.

    :param version: None if there was none
    :raises ChangedError: if another night was first
    """
    if version:
        storage.replace(path, uri, client, version)
        return
    try:
        storage.land(path, storage.digest_of(str(path)), uri, client)
    except DestinationExistsError as error:
        raise ChangedError(f"{storage.display(uri)}: another night was first") from error


def _said(events: EventSet, job_type: JobType, at: datetime) -> Tombstones:
    said = {}
    for decision, ids in events.decided(job_type):
        action, _, reason = decision.kind.partition("/")
        said[Occasion(action, reason, at)] = ids
    return said


def _submitted(results: Iterable[Landed], client: Any) -> Iterator[NDArray[np.int64]]:
    """Read the ids that X was asked about, where they are still what was submitted."""
    for landed in results:
        if not landed.source:
            continue
        try:
            with spool_ids(
                landed.source, client, control_ids=landed.control_ids, allow_rounded=True
            ) as spool:
                if spool.digest.sha256 == landed.source_sha256:
                    yield from _numbers_in(spool.path)
                else:
                    log.warning("%s changed since it was sent; tombstones of its ids stay", spool.source)
        except StorageError as error:
            log.warning("%s; tombstones of its ids stay", error)


def _numbers_in(path: Path) -> Iterator[NDArray[np.int64]]:
    with path.open("rb") as file:
        for block in line_blocks(file):
            # Control ids stand at the end, in any order.
            yield np.sort(numbers_of(block))


def _list_fetches(archive: Archive, night: Night, events: EventSet) -> None:
    ids = [ids for decision, ids in events.decided("tweets") if decision.effect is Effect.FETCH_AGAIN]
    if not ids:
        return
    uri = archive.state_uri("refetch", f"{night.at:%Y-%m-%d}-{night.key}.txt")
    with spool_directory() as directory:
        path = spool_file(directory, "refetch")
        path.write_bytes(lines_of(np.sort(np.concatenate(ids))))
        storage.land(path, storage.digest_of(str(path)), uri, archive.state_client, replace=True)
    log.info("%s: ids of posts that have to be fetched again", storage.display(uri))
