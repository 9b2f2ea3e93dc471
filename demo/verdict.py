"""What became of the archive, in tables, and whether its nights tell the same of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from demo.check import FileCheck

Done = Mapping[str, Any]

NIGHTS = 2
#: What has to happen to records, and what the nights call it.
COUNTED = {"remove": "removed", "fetch again": "quarantined", "scrub": "scrubbed"}


def file_rows(files: Sequence[FileCheck], kinds: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """
    Return the table of files, and their total.

    :param kinds: what they hold, in words
    """
    yield "file", "holds", "records", *COUNTED.values(), "no record", "bytes"
    for file in files:
        yield file.name, kinds[file.name], *_numbers(file)
    yield "all", "", *_numbers(_total(files))


def _numbers(file: FileCheck) -> Iterator[str]:
    yield f"{file.records[0]:6,} → {file.records[1]:6,}"
    for fate in COUNTED:
        yield f"{file.fates[fate]:6,}"
    yield f"{file.no_records:4,}"
    yield f"{file.sizes[0]:9,} → {file.sizes[1]:9,}"


def _total(files: Sequence[FileCheck]) -> FileCheck:
    return FileCheck(
        name="all",
        records=(sum(file.records[0] for file in files), sum(file.records[1] for file in files)),
        no_records=sum(file.no_records for file in files),
        sizes=(sum(file.sizes[0] for file in files), sum(file.sizes[1] for file in files)),
        fates=sum((file.fates for file in files), Counter()),
    )


def night_rows(nights: Sequence[Done]) -> Iterator[tuple[str, ...]]:
    """Return the table of what the nights report."""
    keys = ("records", "removed", "quarantined", "scrubbed", "stripped", "bad", "files", "files_changed")
    yield "night", *(key.replace("_", " ") for key in keys), "seconds"
    for number, done in enumerate(nights, start=1):
        yield str(number), *(f"{done[key]:6,}" for key in keys), f"{done['seconds']:7.1f}"


def contradictions(files: Sequence[FileCheck], nights: Sequence[Done]) -> Iterator[str]:
    """Compare what the nights report with what was found."""
    if len(nights) != NIGHTS:
        yield f"the archive has reports of {len(nights)} nights, not {NIGHTS}"
        return
    first, second = nights
    fates = _total(files).fates
    for fate, key in COUNTED.items():
        if first[key] != fates[fate]:
            yield f"the first night reports {first[key]:,} {key}, and {fates[fate]:,} had to be"
    if second["files_changed"]:
        yield f"the second night changed {second['files_changed']} files, and had nothing to do"
