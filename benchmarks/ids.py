"""Validation of an id file into a clean copy: ours beside a loop over its lines."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.harness import Row, generated, megabytes_of, python, race, scratch

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


def measure() -> list[Row]:
    source = generated("ids", LINES)
    with scratch(round(megabytes_of(source))) as clean:
        commands = [python("ids", side, source, clean) for side in ("ours", "rival")]
        what = "validate ids: a loop over the lines"
        return [race(what, megabytes_of(source), *commands, output=clean)]


if __name__ == "__main__":
    {"ours": ours, "rival": rival}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
