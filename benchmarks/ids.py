"""Validation of an id file into a clean copy: ours beside a loop over its lines."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from benchmarks.harness import WORK, Row, generated, megabytes_of, python, race, run, scratch

LINES = 6_000_000


def ours(source: Path, clean: Path) -> None:
    from airflow_provider_xcompliance.archive.ids import IdReader

    with source.open("rb") as file, clean.open("wb") as spool:
        reader = IdReader(file, source.name)
        spool.writelines(reader)
    print(reader.ids)


def rival(source: Path, clean: Path) -> None:
    ids = 0
    with source.open() as file, clean.open("w") as spool:
        for line in file:
            line = line.strip()
            if not line:
                continue
            if not line.isdecimal() or int(line) >= 2**63:
                raise ValueError(line)
            spool.write(line + "\n")
            ids += 1
    print(ids)


def of_all_years(path: Path) -> None:
    """As many ids, of 18 and 19 digits in no order."""
    bits = random.Random(0).getrandbits
    with path.open("wb", buffering=1 << 20) as file:
        for _ in range(LINES):
            file.write(b"%d\n" % (2 * 10**17 + bits(60)))


def measure() -> list[Row]:
    mixed = WORK / f"ids-of-all-years-{LINES}"
    if not mixed.exists():
        run(python("ids", "of_all_years", mixed))
    return [
        _row("validate ids: a loop over the lines", generated("ids", LINES)),
        _row("validate ids of several lengths: the same", mixed),
    ]


def _row(what: str, source: Path) -> Row:
    with scratch(round(megabytes_of(source))) as clean:
        commands = [python("ids", side, source, clean) for side in ("ours", "rival")]
        return race(what, megabytes_of(source), *commands, gate=5, output=clean)


if __name__ == "__main__":
    {"ours": ours, "rival": rival, "of_all_years": of_all_years}[sys.argv[1]](*map(Path, sys.argv[2:]))
