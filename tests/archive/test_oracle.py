"""The fast way and the obvious one agree on every byte that is kept, and on every record that goes."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings

from airflow_provider_xcompliance.archive.event_sets import EventSet
from airflow_provider_xcompliance.archive.events import parse_policy
from airflow_provider_xcompliance.archive.formats import Columns, Format, format_of, module_of
from airflow_provider_xcompliance.archive.index import FileIndex, IndexWriter
from airflow_provider_xcompliance.archive.records import BadRecordError, Counts, ids_of, redact
from tests.archive import generated, oracle
from tests.archive.generated import FILES, RECORDS, File, Night, Style
from tests.archive.oracle import Held, Outcome, Rules

JOB_TYPES = ("tweets", "users")
DELIMITERS = {"csv": ",", "tsv": "\t"}
#: How many seeded files of each kind there are, and of how many records.
FILES_OF_A_KIND = 40
LINES = 25


@dataclass
class Applied:
    """A file after the package was at it."""

    index: FileIndex
    hits: list[int]
    content: bytes
    counts: Counts
    quarantine: bytes
    again: Counts = field(default_factory=Counts)


def format_of_file(file: File) -> Format:
    columns = file.table and Columns(*file.table[:3])
    return format_of(file.name, shape=file.shape, columns=columns)


def event_set(night: Night) -> EventSet:
    sources = [
        (job_type, io.BytesIO(generated.as_result(night.events, job_type)), job_type)
        for job_type in JOB_TYPES
    ]
    return EventSet.build(sources, parse_policy(night.policy))


def index_of(content: bytes, fmt: Format, name: str, directory: Path) -> FileIndex:
    path = directory / "index.zip"
    with IndexWriter(path) as writer:
        writer.finish(module_of(fmt).read(io.BytesIO(content), fmt, name, writer))
    return FileIndex(path)


def applied(night: Night, directory: Path) -> Applied:
    fmt, decisions = format_of_file(night.file), event_set(night)
    index = index_of(night.file.content, fmt, night.file.name, directory)
    hits = index.hits(decisions)
    sink, quarantine = io.BytesIO(), io.BytesIO()
    counts = module_of(fmt).rewrite(
        io.BytesIO(night.file.content),
        sink,
        fmt,
        night.file.name,
        hits,
        decisions,
        quarantine if night.quarantine else None,
    )
    return Applied(index, hits.tolist(), sink.getvalue(), counts, quarantine.getvalue())


def rules_of(night: Night) -> Rules:
    return Rules(night.events, night.policy, night.quarantine)


def held(file: File) -> Held:
    match format_of_file(file).kind:
        case "ndjson":
            return oracle.read_ndjson(file.content, file.shape)
        case "ids":
            return oracle.read_ids(file.content, file.shape)
        case "parquet":
            return oracle.read_parquet(file.content, file.table)
        case kind:
            return oracle.read_csv(file.content, file.table, DELIMITERS[kind], file.shape)


def outcome(night: Night) -> Outcome:
    file, rules = night.file, rules_of(night)
    match format_of_file(file).kind:
        case "ndjson":
            return oracle.apply_ndjson(file.content, rules, file.shape)
        case "ids":
            return oracle.apply_ids(file.content, rules, file.shape)
        case "parquet":
            return oracle.apply_parquet(file.content, rules, file.table)
        case kind:
            return oracle.apply_csv(file.content, rules, file.table, DELIMITERS[kind], file.shape)


def assert_read_alike(file: File, index: FileIndex) -> None:
    wanted, facts = held(file), index.facts
    found = [
        {int(number) for some in index.ids(job_type) for number in some} for job_type in JOB_TYPES
    ]
    assert found == [wanted.posts, wanted.users]
    assert (facts.records, facts.bad) == (wanted.records, len(wanted.bad))
    if format_of_file(file).kind != "ids":
        assert facts.authorless == wanted.authorless
    assert [line.split(": ")[0] for line in facts.bad_lines] == [
        f"{file.name}:{number}" for number in wanted.bad[:10]
    ]


def is_made_by_deleting(result: bytes, original: bytes) -> bool:
    rest = iter(original)
    return all(byte in rest for byte in result)


def records_of(lines: bytes) -> list[Any]:
    return [oracle.record_of(line) for line in lines.split(b"\n") if line.strip()]


def assert_lines_alike(result: bytes, wanted: Outcome, values_of: Any) -> None:
    """
    Assert that each line that stays is there as it was, and each that is changed lost something and no more.

    :param values_of: parses a line
    """
    at = 0
    for line in wanted.lines:
        if line.gone:
            continue
        if line.left is None:
            assert result[at : at + len(line.content)] == line.content, f"line {line.number} is not as it was"
            at += len(line.content)
            continue
        # What follows begins where the next line does, whatever its length is now.
        changed, at = _taken(result, at, line.content), at + len(_taken(result, at, line.content))
        assert values_of(changed) == line.left.value, f"line {line.number}: {line.content!r} → {changed!r}"
        assert is_made_by_deleting(changed, line.content), f"line {line.number}: {line.content!r} → {changed!r}"
    assert result[at:] == b""


def _taken(result: bytes, at: int, original: bytes) -> bytes:
    ends = original.count(b"\n")
    end = at
    for _ in range(ends):
        end = result.index(b"\n", end) + 1
    return result[at:end] if ends else result[at:]


def assert_quarantined_alike(quarantine: bytes, wanted: Outcome) -> None:
    lines = [line.removesuffix(b"\r") for line in quarantine.split(b"\n") if line.strip()]
    assert [oracle.record_of(line) for line in lines] == wanted.quarantined
    origins = [line.content for line in wanted.lines if line.left for _ in line.left.quarantined]
    for line, origin in zip(lines, origins, strict=True):
        # A post out of a page stands in a page of its own.
        bare = line.removeprefix(b'{"data":[').removesuffix(b"]}")
        assert is_made_by_deleting(line, origin) or is_made_by_deleting(bare, origin), line


def assert_counted_alike(counts: Counts, wanted: Outcome) -> None:
    assert (counts.removed, counts.quarantined) == (wanted.removed, len(wanted.quarantined))
    assert (counts.scrubbed, counts.stripped) == (wanted.scrubbed, wanted.stripped)


def night_of(kind: str, seed: int) -> Night:
    return generated.night(Random(f"{kind} {seed}"), kind, LINES)


def compare(night: Night, directory: Path) -> None:
    found = applied(night, directory)
    assert_read_alike(night.file, found.index)
    kind = format_of_file(night.file).kind
    if kind == "parquet":
        return
    wanted = outcome(night)
    assert wanted.hits <= set(found.hits)
    if kind == "ndjson":
        assert_lines_alike(found.content, wanted, oracle.record_of)
        assert_quarantined_alike(found.quarantine, wanted)
    assert_counted_alike(found.counts, wanted)


@pytest.mark.parametrize("seed", range(int(__import__('os').environ.get('N','40'))))
@pytest.mark.parametrize("kind", FILES)
def test_seeded(kind, seed, tmp_path):
    compare(night_of(kind, seed), tmp_path)
