"""A stand-in for X's batch compliance API on 127.0.0.1; its control plane is under /_emulator/."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import msgspec

from airflow_provider_xcompliance.emulator.server import Emulator, run
from airflow_provider_xcompliance.emulator.settings import Settings

SETTINGS = ("flow", "bearer_token", "processing_seconds", "seed", "event_rate")


def parser() -> argparse.ArgumentParser:
    """Return the parser; defaults are those of the settings."""
    defaults = Settings()
    options = argparse.ArgumentParser(
        "python -m airflow_provider_xcompliance.emulator",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = options.add_argument
    add("--port", type=_port, default=8765, help="port to listen on; 0 picks a free one")
    add("--flow", choices=("current", "legacy"), help="wire flow of the jobs that are created")
    add("--bearer-token", metavar="T", help="bearer token that is accepted")
    add("--processing-seconds", type=float, metavar="S", help="seconds from an upload to its result")
    add("--events", type=Path, metavar="FILE", help="NDJSON file with the events to return, by their ids")
    add("--seed", type=int, metavar="N", help="without --events: chooses the ids that have an event")
    add("--event-rate", type=float, metavar="R", help="without --events: share of the ids that have one")
    add(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where bodies are kept; a temporary directory if left out",
    )
    options.set_defaults(**{name: getattr(defaults, name) for name in SETTINGS})
    return options


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not between 0 and 65535")
    return port


def main() -> None:
    """Serve until told to end."""
    options = parser()
    given = options.parse_args()
    try:
        settings = msgspec.convert({name: getattr(given, name) for name in SETTINGS}, Settings)
        events = given.events.read_bytes() if given.events else None
        emulator = Emulator(settings, given.port, given.state_dir, events)
    except (ValueError, OSError) as error:
        options.error(str(error))
    asyncio.run(run(emulator))


if __name__ == "__main__":
    main()
