"""The command line of the stand-in X API."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from airflow_provider_xcompliance.emulator.server import Emulator, run
from airflow_provider_xcompliance.emulator.settings import Settings

SETTINGS = (
    "flow",
    "bearer_token",
    "api_key",
    "api_secret",
    "processing_seconds",
    "seed",
    "event_rate",
)


def parser() -> argparse.ArgumentParser:
    """Return the parser; defaults are those of the settings."""
    defaults = Settings()
    options = argparse.ArgumentParser("python -m airflow_provider_xcompliance.emulator", description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, required=True, help="0: a free one")
    options.add_argument("--state-dir", type=Path, help="where bodies are kept (default: a temporary one)")
    options.add_argument("--events", type=Path, metavar="FILE", help="NDJSON: each line the event of its id")
    for name in SETTINGS:
        default = getattr(defaults, name)
        options.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default) if name != "processing_seconds" else float,
            default=default,
            choices=("current", "legacy") if name == "flow" else None,
        )
    return options


def main() -> None:
    """Serve until told to end."""
    options = parser().parse_args()
    settings = Settings(**{name: getattr(options, name) for name in SETTINGS})
    events = options.events.read_bytes() if options.events else None
    asyncio.run(run(Emulator(settings, options.host, options.port, options.state_dir, events)))


if __name__ == "__main__":
    main()
