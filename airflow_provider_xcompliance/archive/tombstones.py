"""
What X said of ids earlier: it keeps a backfill from bringing records back.

A tombstone holds an id, the kind of its event and when X was asked, and no content. They are written as
events are, so whoever reads events reads them too.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from airflow_provider_xcompliance.archive.events import read_events
from airflow_provider_xcompliance.archive.extras import require

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import SupportsRead
    from numpy.typing import NDArray
else:
    np = require("numpy", "archive", "reading archives")

#: Reasons that may pass: tombstones for these end when X has nothing more to say of the id.
REVERSIBLE = frozenset({"suspended", "protected", "deactivated", "tweet_edited"})

_LINES_AT_ONCE = 10_000


class Occasion(NamedTuple):
    """What X said of some ids, and when it was asked."""

    action: str
    reason: str
    at: datetime


#: Sorted ids by what was said of them.
Tombstones = Mapping[Occasion, "NDArray[np.int64]"]


def read_tombstones(source: SupportsRead[bytes], name: str) -> Tombstones:
    """
    Read what :func:`lines_of_tombstones` wrote.

    :param name: what errors call it
    :raises InvalidEventsError: if a line is no record
    """
    found: dict[Occasion, array[int]] = {}
    for events in read_events(source, name):
        for event in events:
            at = event.redacted_at or datetime.fromtimestamp(0, UTC)
            occasion = Occasion(str(event.action), str(event.reason), at)
            found.setdefault(occasion, array("q")).append(int(event.id))
    return {occasion: np.sort(np.frombuffer(ids, np.int64)) for occasion, ids in found.items()}


def lines_of_tombstones(tombstones: Tombstones) -> Iterator[bytes]:
    """Yield the lines of a file of tombstones, many at a time; the same ones always in the same order."""
    for (action, reason, at), ids in sorted(tombstones.items()):
        said = msgspec.json.encode({"action": action, "reason": reason, "redacted_at": at}).decode()
        tail = f'",{said[1:]}\n'
        for start in range(0, len(ids), _LINES_AT_ONCE):
            yield "".join(
                [f'{{"id":"{number}{tail}' for number in ids[start : start + _LINES_AT_ONCE].tolist()]
            ).encode()


def renewed(tombstones: Tombstones, said: Tombstones, checked: Iterable[NDArray[np.int64]]) -> Tombstones:
    """
    Bring tombstones up to date.

    :param said: what X said now
    :param checked: all ids that it was asked about now, sorted, in parts
    :return: what was said now takes the place of what was said earlier of the same ids; and where it may have
        passed and X has nothing more to say, nothing is left
    """
    ids_said = np.sort(np.concatenate([np.empty(0, np.int64), *said.values()]))
    reversible = [occasion for occasion in tombstones if occasion.reason in REVERSIBLE]
    kept = {occasion: ~_among(ids, ids_said) for occasion, ids in tombstones.items()}
    for part in checked:
        for occasion in reversible:
            kept[occasion] &= ~_among(tombstones[occasion], part)
    left = {occasion: ids[kept[occasion]] for occasion, ids in tombstones.items()}
    for occasion, ids in said.items():
        left[occasion] = np.union1d(left.get(occasion, np.empty(0, np.int64)), ids)
    return {occasion: ids for occasion, ids in left.items() if len(ids)}


def _among(ids: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell of each id whether it is among sorted others."""
    if not len(others):
        return np.zeros(len(ids), np.bool_)
    places = np.searchsorted(others, ids)
    places[places == len(others)] = 0
    return np.asarray(others[places] == ids)
