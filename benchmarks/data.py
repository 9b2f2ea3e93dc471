"""Test data, the same every time. Run as ``python -m benchmarks.data KIND AMOUNT FILE``."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

FIRST_ID = 1_000_000_000_000_000_000


def ids(amount: int) -> Iterator[bytes]:
    """As many post ids, in order, one per line."""
    number, step = FIRST_ID, random.Random(0).random
    for _ in range(amount):
        number += 1 + int(step() * 100_000_000_000)
        yield b"%d\n" % number


def shuffled_ids(amount: int) -> Iterator[bytes]:
    """The same ids, in no order."""
    lines = list(ids(amount))
    random.Random(0).shuffle(lines)
    yield from lines


def events(amount: int) -> Iterator[bytes]:
    """As many records of a result, as the stand-in X API writes them."""
    from airflow_provider_xcompliance.emulator.results import Rules

    rules = Rules("current", "tweets", seed=0, event_rate=1.0, events=None)
    for line in ids(amount):
        for record in rules.records(line.strip()):
            yield record + b"\n"


KINDS = {kind.__name__: kind for kind in (ids, shuffled_ids, events)}

if __name__ == "__main__":
    with Path(sys.argv[3]).open("wb", buffering=1 << 20) as file:
        file.writelines(KINDS[sys.argv[1]](int(sys.argv[2])))
