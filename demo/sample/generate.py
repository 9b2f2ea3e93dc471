"""Make the sample id lists anew: ``python demo/sample/generate.py``.

A fixed seed makes the files the same each time. The ids are invented but have the shape of real ones: a
snowflake (milliseconds since Twitter's epoch, shifted by 22 bits) since November 2010 for posts and February
2016 for users, and before that a plain counter.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

EPOCH_MS = 1_288_834_974_657
END = datetime(2026, 9, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Sample:
    """How one list is made up: how many ids, how many of them counters, and where the counter ended."""

    path: str
    size: int
    counters: int
    last_counter: int
    snowflakes_since: datetime


SAMPLES = (
    Sample("tweets.txt", 10_000, 200, 29_700_859_247, datetime(2010, 11, 5, tzinfo=UTC)),
    Sample("users.txt", 2_000, 1_400, 4_900_000_000, datetime(2016, 2, 1, tzinfo=UTC)),
)


def ids(sample: Sample, rng: random.Random) -> list[int]:
    """Return the ids of one list, unique and in ascending order."""
    found = set(rng.sample(range(1_000, sample.last_counter), sample.counters))
    while len(found) < sample.size:
        found.add(snowflake(sample.snowflakes_since, rng))
    return sorted(found)


def snowflake(since: datetime, rng: random.Random) -> int:
    """Return an id of a random moment between ``since`` and :data:`END`."""
    moment = rng.randrange(milliseconds(since), milliseconds(END))
    return (moment - EPOCH_MS) << 22 | rng.randrange(1 << 10) << 12 | rng.randrange(4)


def milliseconds(moment: datetime) -> int:
    """Return milliseconds since 1970."""
    return int(moment.timestamp() * 1000)


def main() -> None:
    """Write every list beside this file."""
    for sample in SAMPLES:
        lines = "".join(f"{an_id}\n" for an_id in ids(sample, random.Random(2010)))
        (Path(__file__).parent / sample.path).write_text(lines)


if __name__ == "__main__":
    main()
