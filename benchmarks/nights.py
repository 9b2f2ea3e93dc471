"""The second night of an archive, of which one file in a hundred has changed, beside the first."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.archives import archive
from benchmarks.harness import WORK, Row, megabytes_of, python, race

MEGABYTES = 1_000
FILES = 100
GATE = 20.0


def second(folder: Path) -> None:
    """Extract again, after one file has grown; on the very first round nothing is known yet."""
    changed = folder / "0.ndjson"
    with changed.open("rb") as file:
        line = file.readline()
    with changed.open("ab") as file:
        file.write(line)
    extract(folder)


def first(folder: Path) -> None:
    """Extract from nothing."""
    shutil.rmtree(folder / "_xcompliance", ignore_errors=True)
    extract(folder)


def extract(folder: Path) -> None:
    from airflow_provider_xcompliance import extraction
    from airflow_provider_xcompliance.catalogue import Archive

    root = f"{folder}/"
    files = Archive(sources=[root], client=None, root=root, state=f"{root}_xcompliance", state_client=None)
    found = extraction.extract(files, "tweets", f"{root}_xcompliance/ids")
    print(found.ids, found.files)


def measure() -> list[Row]:
    source, _ = archive("v2", MEGABYTES)
    folder = WORK / f"nights-{MEGABYTES}"
    if not folder.exists():
        _split(source, folder)
    commands = [python("nights", side, folder) for side in ("second", "first")]
    what = f"extract again, 1 of {FILES} files changed: the first night"
    return [race(what, megabytes_of(source), *commands, gate=GATE)]


def _split(source: Path, folder: Path) -> None:
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    with source.open("rb") as file:
        for number in range(FILES):
            with (part / f"{number}.ndjson").open("wb") as to:
                to.writelines(file.readlines(source.stat().st_size // FILES))
    part.rename(folder)


if __name__ == "__main__":
    {"second": second, "first": first}[sys.argv[1]](Path(sys.argv[2]))
