"""Measure, and print one table; the exit code is 1 if a gate is missed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from benchmarks import apply, dedupe, download, events, extract, ids, memory, nights, parquet, upload
from benchmarks.harness import PAIRS, WORK, Row

BENCHMARKS = {
    module.__name__.rpartition(".")[2]: module
    for module in (download, upload, ids, dedupe, events, memory, extract, apply, nights, parquet)
}
HEADINGS = ("what: rival", "ours", "rival", "ratio (min to max)", "gate", "met", "peak MB")
MET = {True: "yes", False: "NO", None: ""}


def main() -> int:
    options = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    chosen = options.parse_args()
    if unknown := set(chosen.names) - set(BENCHMARKS):
        options.error(f"there is no {', '.join(sorted(unknown))}")
    WORK.mkdir(exist_ok=True)
    # Modules are compiled once, as they are where packages are installed.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rows: list[Row] = []
    for name in chosen.names or BENCHMARKS:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows += BENCHMARKS[name].measure()
    print(table(rows))
    if chosen.json:
        chosen.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")
    return int(any(row.met is False for row in rows))


def table(rows: Iterable[Row]) -> str:
    lines = [HEADINGS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    note = f"Ratios: median of {PAIRS} alternating pairs of whole processes, above 1: faster than the rival."
    return "\n".join([*body, "", note])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.what,
        row.ours,
        row.rival,
        f"{median(row.ratios):.2f} ({min(row.ratios):.2f} to {max(row.ratios):.2f})" if row.ratios else "",
        row.gate,
        MET[row.met],
        f"{row.peak_mb:.0f}",
    )


if __name__ == "__main__":
    sys.exit(main())
