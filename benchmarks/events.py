"""Counting a result per action and reason: ours beside ``json.loads`` of every line."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.harness import Row, generated, megabytes_of, python, race

EVENTS = 4_000_000


def ours(source: Path) -> None:
    from airflow_provider_xcompliance.archive.events import count_events

    with source.open("rb") as file:
        counts = count_events(file, source.name)
    print(counts.to_dict()["events"])


def rival(source: Path) -> None:
    import json
    from collections import Counter

    counts: Counter[tuple[str, str]] = Counter()
    with source.open() as file:
        for line in file:
            if line.strip():
                event = json.loads(line)
                counts[event["action"], event["reason"]] += 1
    print(counts.total())


def measure() -> list[Row]:
    source = generated("events", EVENTS)
    commands = [python("events", side, source) for side in ("ours", "rival")]
    return [race("count events: json.loads", megabytes_of(source), *commands, gate=4)]


if __name__ == "__main__":
    {"ours": ours, "rival": rival}[sys.argv[1]](Path(sys.argv[2]))
