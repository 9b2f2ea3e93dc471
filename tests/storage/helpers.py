"""What the tests of landing share."""

from pathlib import Path
from typing import Any

from airflow_provider_xcompliance.storage import digest_of, land

SMALL = b"some events\n" * 1000
PART_BYTES = 5 << 20
#: Three parts, as the constant above cuts it.
LARGE = bytes(range(256)) * 4096 * 11


def spool(directory: Path, content: bytes) -> Path:
    path = directory / "spool"
    path.write_bytes(content)
    return path


def put(source: Path, destination: str, client: Any = None, **options: bool) -> bool:
    return land(source, digest_of(str(source)), destination, client, **options)
