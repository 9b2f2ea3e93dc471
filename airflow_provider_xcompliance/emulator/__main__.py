"""The command line of the stand-in X API."""

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
    options.add_argument("--port", type=_port, required=True, help="of 127.0.0.1; 0: a free one")
    options.add_argument("--flow", choices=("current", "legacy"), help="what new jobs get")
    options.add_argument("--bearer-token", metavar="T", help="the one that is accepted")
    options.add_argument("--processing-seconds", type=float, metavar="S", help="from an upload to its result")
    options.add_argument("--events", type=Path, metavar="FILE", help="NDJSON: each line the event of its id")
    options.add_argument("--seed", type=int, metavar="N", help="where no events are given, what decides")
    options.add_argument("--event-rate", type=float, metavar="R", help="and for which share of the ids")
    options.add_argument("--state-dir", type=Path, metavar="DIR", help="for bodies; None: a temporary one")
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
