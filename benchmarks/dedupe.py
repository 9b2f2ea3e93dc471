"""
Sorting out repeated ids: ours beside a set of the lines, and how far ours goes.

The rival keeps the order of the file, ours sorts: both are files of ids that X takes alike.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import WORK, Row, megabytes_of, python, race, run, scratch

RACED = 10_000_000
MANY = 100_000_000
MEGABYTES_AT_MOST = 350
FIRST_ID = 1_000_000_000_000_000_000


def make(path: Path, ids: int) -> None:
    """Write as many ids in no order; every fifth or so stands further up already."""
    import numpy as np

    from airflow_provider_xcompliance.archive.sorted_ids import lines_of

    random = np.random.default_rng(0)
    # Odd, as multiples of a hundred look rounded.
    step = 4 * 10**17 // ids - 1
    with path.open("wb") as file:
        for _ in range(0, ids, 1_000_000):
            file.write(lines_of(FIRST_ID + step * random.integers(0, 2 * ids, 1_000_000)))


def ours(source: Path, unique: Path) -> None:
    from airflow_provider_xcompliance.archive.ids import IdReader
    from airflow_provider_xcompliance.archive.sorted_ids import SortedIds, lines_of, numbers_of

    with tempfile.TemporaryDirectory(dir=unique.parent) as directory, SortedIds(Path(directory)) as ids:
        with source.open("rb") as file:
            for block in IdReader(file, source.name):
                ids.add(numbers_of(block))
        with unique.open("wb") as file:
            file.writelines(map(lines_of, ids))
    print(unique.stat().st_size)


def rival(source: Path, unique: Path) -> None:
    seen: set[str] = set()
    with source.open() as file, unique.open("w") as kept:
        for line in file:
            if line not in seen:
                seen.add(line)
                kept.write(line)
    print(unique.stat().st_size)


def measure() -> list[Row]:
    with _made(RACED) as source, scratch(round(2 * megabytes_of(source))) as unique:
        commands = [python("dedupe", side, source, unique) for side in ("ours", "rival")]
        what = "de-duplicate 10 million ids: a set of the lines"
        raced = race(what, megabytes_of(source), *commands, gate=4, output=unique)
    with _made(MANY) as source, tempfile.TemporaryDirectory(dir=WORK) as directory:
        alone = run(python("dedupe", "ours", source, Path(directory, "unique")))
        rate = f"{megabytes_of(source) / alone.seconds:,.0f} MB/s"
    met = alone.peak_mb <= MEGABYTES_AT_MOST
    gate = f"≤ {MEGABYTES_AT_MOST} MB"
    return [raced, Row("de-duplicate 100 million ids", rate, "", (), gate, met, alone.peak_mb)]


@contextmanager
def _made(ids: int) -> Iterator[Path]:
    """A file of so many ids, gone afterwards."""
    path = WORK / f"repeated_ids-{ids}"
    try:
        run(python("dedupe", "make", path, ids))
        yield path
    finally:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        {"ours": ours, "rival": rival}[sys.argv[1]](*map(Path, sys.argv[2:]))
