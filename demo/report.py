"""What the demo says."""

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

LOG_LINES = 20


class Report:
    """What the demo says, and remembers in order to be searched for secrets."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.lines: list[str] = []

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def say(self, line: str = "") -> None:
        """Print a line at once."""
        self.lines.append(line)
        print(line, flush=True)

    def step(self, line: str) -> None:
        """Print a line with the time that has passed."""
        self.say(f"{self.seconds:5.0f} s  {line}")

    def table(self, title: str, rows: Iterable[Sequence[str]]) -> None:
        """Print rows with their columns aligned; the first row is the heading."""
        all_rows = list(rows)
        widths = [max(len(row[column]) for row in all_rows) for column in range(len(all_rows[0]))]
        self.say(f"\n{title}")
        for row in all_rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.say(f"  {'  '.join(cells)}".rstrip())

    def end_of_log(self, task: str, log: Path) -> None:
        """Print the end of a task's log, which is a JSON object per line, as text."""
        self.say(f"\nThe end of the log of {task} ({log})")
        for line in _last_lines(log):
            self.say(f"  {line}")


def _last_lines(log: Path) -> list[str]:
    if not log.exists():
        return ["(there is no log: the worker did not get that far)"]
    return "\n".join(_readable(line) for line in log.read_text().splitlines()).splitlines()[-LOG_LINES:]


def _readable(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or []]
    return " ".join([entry.get("timestamp", ""), entry.get("level", ""), entry.get("event", ""), *errors])
