"""The second night of an archive, of which one file in about a hundred has changed, beside the first."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.archives import archive
from benchmarks.harness import WORK, Row, megabytes_of, python, race, run

MEGABYTES = 1_000
#: Copies of these megabytes, each with other ids: those of the first begin with 1, of the next with 2.
COPIES = 8
FILES = 104
GATE = 20.0


def second(folder: Path) -> None:
    """Extract again, after one file has changed; on the very first round nothing is known yet."""
    (folder / "0.ndjson.gz").touch()
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
    folder = WORK / f"nights-{COPIES * MEGABYTES}"
    source, _ = archive("v2", MEGABYTES)
    if not folder.exists():
        run(python("nights", "split", folder))
    commands = [python("nights", side, folder) for side in ("second", "first")]
    what = f"extract again, 1 of {FILES} .gz files changed: the first night"
    return [race(what, COPIES * megabytes_of(source), *commands, gate=GATE)]


def split(folder: Path) -> None:
    """Make the archive."""
    from isal import igzip

    source, _ = archive("v2", MEGABYTES)
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    files = FILES // COPIES
    with source.open("rb") as file:
        for number in range(files):
            lines = b"".join(file.readlines(source.stat().st_size // files))
            for copy in range(COPIES):
                others = lines.replace(b'"id":"1', b'"id":"%d' % (copy + 1))
                (part / f"{number + copy * files}.ndjson.gz").write_bytes(igzip.compress(others))
    part.rename(folder)


if __name__ == "__main__":
    {"second": second, "first": first, "split": split}[sys.argv[1]](Path(sys.argv[2]))
