"""Ids in ranges, each of which one job checks; and which of them are due."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from airflow_provider_xcompliance.archive.ids import MAX_ID

#: How many ids a range has at most: 20 bytes each, they leave room for 1,000 control ids in X's 128,000,000.
MAX_IDS = 6_399_000


@dataclass(frozen=True)
class IdRange:
    """
    Ids that are checked together.

    :param first: the smallest id that belongs to it
    :param last: the largest one, right before the next range
    :param ids: how many there are in the archive
    :param seen_at: when it was first there
    :param checked_at: when X was last asked about it, and what X said was done; None: never
    :param written: what the ids in its file are known by; empty if there is no file yet
    """

    first: int
    last: int
    ids: int
    seen_at: datetime
    checked_at: datetime | None = None
    written: str = ""

    @property
    def since(self) -> datetime:
        """Since when nobody has asked about its ids, as far as is known."""
        # X's clock may be behind the one that tells when ids were seen.
        return max(self.seen_at, self.checked_at or self.seen_at)


def recut(ranges: Sequence[IdRange], ids: Sequence[int], max_ids: int) -> Iterator[tuple[IdRange, list[int]]]:
    """
    Decide how ranges are cut, so that most stay as they are from night to night.

    :param ranges: in order, as they were
    :param ids: how many ids there are in each now
    :param max_ids: how many one may have
    :return: each range with the sizes of the pieces that it is cut into; ranges without ids are left out, and
        neighbours that are small are put together
    """
    kept = list(_put_together(ranges, ids, max_ids))
    for position, each in enumerate(kept):
        yield each, _sizes(each.ids, max_ids, is_last=position == len(kept) - 1)


def _put_together(ranges: Sequence[IdRange], ids: Sequence[int], max_ids: int) -> Iterator[IdRange]:
    current: IdRange | None = None
    for each, number in zip(ranges, ids, strict=True):
        if current is None:
            # What comes before the first one belongs to it.
            current = replace(each, first=0, ids=number)
        elif not current.ids or not number or current.ids + number <= max_ids // 2:
            current = _joined(current, each, number)
        else:
            yield current
            current = replace(each, ids=number)
    if current and current.ids:
        yield current


def _joined(current: IdRange, following: IdRange, number: int) -> IdRange:
    if not number:
        return current
    if not current.ids:
        return replace(following, first=current.first, ids=number)
    older = min(current, following, key=lambda each: each.since)
    return replace(older, first=current.first, ids=current.ids + number, written="")


def _sizes(ids: int, max_ids: int, *, is_last: bool) -> list[int]:
    pieces = -(-ids // max_ids)
    if is_last:
        # New ids come at the end, so that what is full there stays as it is.
        return [max_ids] * (pieces - 1) + [ids - max_ids * (pieces - 1)]
    return [ids // pieces + (number < ids % pieces) for number in range(pieces)]


def due(ranges: Iterable[IdRange], max_jobs: int | None) -> list[IdRange]:
    """
    Choose what is checked now: what nobody has asked about for longest comes first.

    :param max_jobs: how many; None: all
    :return: in that order; of several since the same time, those that were never checked before the others
    """
    return sorted(ranges, key=lambda each: (each.since, each.checked_at is not None, each.first))[:max_jobs]


def oldest_check_age(ranges: Iterable[IdRange], now: datetime) -> timedelta:
    """Return for how long nobody has asked about some id, at most."""
    return max((now - each.since for each in ranges), default=timedelta(0))


def with_checks(ranges: Iterable[IdRange], checks: Mapping[tuple[int, int], datetime]) -> Iterator[IdRange]:
    """
    Add what was checked since.

    :param checks: when the ids from one to another were checked
    """
    for each in ranges:
        times = filter(None, (each.checked_at, checks.get((each.first, each.last))))
        yield replace(each, checked_at=max(times, default=None))


def closed(ranges: Sequence[IdRange]) -> list[IdRange]:
    """Let each range end where the next one begins, and the last one with the largest id."""
    lasts = [*(each.first - 1 for each in ranges[1:]), MAX_ID]
    return [replace(each, last=last) for each, last in zip(ranges, lasts, strict=False)]


def nothing_known(now: datetime) -> IdRange:
    """Return the range of all ids, as it is on the first night."""
    return IdRange(first=0, last=MAX_ID, ids=0, seen_at=now)
