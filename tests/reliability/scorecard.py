"""Run the matrix and print its scorecard."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@dataclass
class Row:
    """What came of the cells of one row."""

    name: str
    cells: int = 0
    green: int = 0
    seconds: float = 0.0
    red: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)

    def note(self, name: str, value: Any) -> None:
        """Keep what a cell measured: of numbers with one name the largest, of texts the last."""
        known = self.measured.get(name)
        self.measured[name] = max(known, value) if isinstance(known, (int, float)) else value


class Scorecard:
    """A pytest plugin that keeps the books."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self._row_of: dict[str, str] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Count the cells before the first of them runs."""
        for item in session.items:
            name = item.get_closest_marker("row").args[0]
            self._row_of[item.nodeid] = name
            self.rows.setdefault(name, Row(name)).cells += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Book a cell: green only if it ran and passed, its teardown included."""
        row = self.rows[self._row_of[report.nodeid]]
        row.seconds += report.duration
        if report.when == "call" and report.passed:
            row.green += 1
            for name, value in report.user_properties:
                row.note(name, value)
        elif report.when == "teardown" and report.failed:
            row.green -= 1
        if not report.passed:
            row.red.append(f"{report.nodeid.partition('::')[2]}: {_reason(report)}")

    def lines(self) -> Iterator[str]:
        """Yield the table, as Markdown, and below it the cells that are red."""
        yield "| row | cells | as specified | seconds | measured |"
        yield "| --- | ---: | ---: | ---: | --- |"
        for row in self.rows.values():
            measured = "; ".join(f"{name}: {value}" for name, value in row.measured.items())
            yield f"| {row.name} | {row.cells} | {row.green} | {row.seconds:.0f} | {measured} |"
        cells, green = (sum(getattr(row, what) for row in self.rows.values()) for what in ("cells", "green"))
        yield f"| **all** | **{cells}** | **{green}** | | |"
        for row in self.rows.values():
            for cell in row.red:
                yield f"- red, {row.name}: {cell}"


def _reason(report: pytest.TestReport) -> str:
    if known := getattr(report, "wasxfail", ""):
        return known
    return str(report.longrepr).strip().splitlines()[-1][:300] if report.longrepr else "did not run"


def main() -> int:
    """Run the cells and print the scorecard; a cell known to be red is shown, and fails nothing."""
    parser = argparse.ArgumentParser(description="Run the reliability matrix and print its scorecard.")
    parser.add_argument("--quick", action="store_true", help="only the part that CI runs")
    parser.add_argument("--json", type=Path, help="also write the scorecard to this file")
    options, rest = parser.parse_known_args()
    card = Scorecard()
    started = time.monotonic()
    which = "matrix and quick" if options.quick else "matrix"
    code = pytest.main([str(HERE), "-m", which, "-p", "no:cacheprovider", *rest], plugins=[card])
    part = "The quick part of the matrix" if options.quick else "The matrix"
    print(f"\n{part}: {time.monotonic() - started:.0f} s\n")
    print("\n".join(card.lines()))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in card.rows.values()], indent=2) + "\n")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
