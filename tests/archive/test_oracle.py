"""The fast way and the obvious one agree on every byte that is kept, and on every record that goes."""

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings

from airflow_provider_xcompliance.archive.event_sets import EventSet
from airflow_provider_xcompliance.archive.events import parse_policy
from airflow_provider_xcompliance.archive.formats import module_of
from airflow_provider_xcompliance.archive.index import FileIndex, IndexWriter
from airflow_provider_xcompliance.archive.records import BadRecordError, Counts, ids_of, redact
from tests.archive import generated, oracle
from tests.archive.agreement import compare_content, format_of_file, hold, judge, quarantined_in
from tests.archive.generated import FILES, RECORDS, File, Night
from tests.archive.oracle import BadError, Held, Outcome, Rules

JOB_TYPES = ("tweets", "users")

#: How many files of each kind are compared; some thousands where the rules or the fast way change.
FILES_OF_A_KIND = int(os.environ.get("ORACLE_FILES", "8"))
LINES = 25
#: As many records as take several blocks of whoever reads.
MANY_LINES = 4_000


@dataclass
class Applied:
    """A file after the package was at it."""

    index: FileIndex
    hits: list[int]
    content: bytes
    counts: Counts
    quarantine: bytes


def decisions_of(night: Night) -> EventSet:
    sources = [
        (job_type, io.BytesIO(generated.as_result(night.events, job_type)), job_type)
        for job_type in JOB_TYPES
    ]
    return EventSet.build(sources, parse_policy(night.policy))


def apply(night: Night, content: bytes) -> Applied:
    fmt, name, decisions = format_of_file(night.file), night.file.name, decisions_of(night)
    module = module_of(fmt)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "index.zip"
        with IndexWriter(path) as writer:
            module.read(io.BytesIO(content), fmt, name, writer)
        index = FileIndex(path)
        hits = index.hits(decisions)
        sink, aside = io.BytesIO(), io.BytesIO()
        quarantine = aside if night.quarantine else None
        counts = module.rewrite(io.BytesIO(content), sink, fmt, name, hits, decisions, quarantine)
        compare_index(replace(night.file, content=content), index)
    return Applied(index, hits.tolist(), sink.getvalue(), counts, aside.getvalue())


def rules_of(night: Night) -> Rules:
    return Rules(night.events, night.policy, night.quarantine)


def compare(night: Night) -> None:
    """Assert that the package does with a file what the oracle says, and nothing if it does it twice."""
    found, wanted = apply(night, night.file.content), judge(night.file, rules_of(night))
    assert wanted.hits <= set(found.hits)
    compare_counts(found.counts, wanted)
    compare_content(night.file, found.content, wanted)
    assert quarantined_in(night.file, found.quarantine) == wanted.quarantined
    again = apply(night, found.content)
    compare_counts(again.counts, Outcome())
    assert quarantined_in(night.file, again.quarantine) == []
    compare_content(
        replace(night.file, content=found.content), again.content, unchanged(night, found.content)
    )


def unchanged(night: Night, content: bytes) -> Outcome:
    return judge(replace(night.file, content=content), Rules({}))


def compare_index(file: File, index: FileIndex) -> None:
    wanted, facts = hold(file), index.facts
    found = [{number for some in index.ids(job_type) for number in some.tolist()} for job_type in JOB_TYPES]
    assert found == [wanted.posts, wanted.users]
    assert (facts.records, facts.bad) == (wanted.records, len(wanted.bad))
    assert facts.authorless == wanted.authorless
    named = [line.partition(": ")[0] for line in facts.bad_lines]
    assert named == [f"{file.name}:{number}" for number in wanted.bad[:10]]


def compare_counts(counts: Counts, wanted: Outcome) -> None:
    assert (counts.removed, counts.quarantined) == (wanted.removed, len(wanted.quarantined))
    assert (counts.scrubbed, counts.stripped) == (wanted.scrubbed, wanted.stripped)
    # What was taken out of records, or off them, is counted besides.
    assert counts.kinds >= wanted.certain_kinds
    assert sum(counts.kinds.values()) >= wanted.removed + len(wanted.quarantined)


@pytest.mark.parametrize("kind", FILES)
def test_files_are_read_and_redacted_as_the_oracle_says(kind):
    for seed in range(FILES_OF_A_KIND):
        try:
            compare(generated.night(Random(f"{kind} {seed}"), kind, LINES))
        except Exception as error:
            error.add_note(f"{kind}, seed {seed}")
            raise


@pytest.mark.parametrize("kind", ["NDJSON of mixed", "CSV", "ids", "Parquet"])
def test_files_of_several_blocks_are_read_and_redacted_as_the_oracle_says(kind):
    compare(generated.night(Random(f"many {kind}"), kind, MANY_LINES))


@pytest.mark.parametrize("kind", ["NDJSON of flattened", "NDJSON of v1.1", "NDJSON of pages", "CSV"])
@settings(max_examples=max(10, FILES_OF_A_KIND), suppress_health_check=list(HealthCheck))
@given(data=generated.st.data())
def test_small_files_are_read_and_redacted_as_the_oracle_says(kind, data):
    compare(data.draw(generated.nights(kind)))


@pytest.mark.parametrize("records", RECORDS)
def test_each_record_holds_and_leaves_what_the_oracle_says(records):
    for seed in range(FILES_OF_A_KIND):
        night = generated.night(Random(f"{records} {seed} alone"), f"NDJSON of {records}", LINES)
        rules = rules_of(night)
        for line in night.file.content.split(b"\n"):
            if not oracle.is_blank(line):
                compare_record(line, night, rules)


def compare_record(line: bytes, night: Night, rules: Rules) -> None:
    shape = night.file.shape
    try:
        record = oracle.record_of(line)
    except BadError:
        for look in (lambda: ids_of(line, shape), lambda: redact(line, decisions_of(night), shape)):
            with pytest.raises(BadRecordError):
                look()
        return
    held, wanted = ids_of(line, shape), Held()
    wanted.add_line(record, shape)
    assert (set(held.posts), set(held.users)) == (wanted.posts, wanted.users), line
    assert (held.records, held.authorless) == (wanted.records, wanted.authorless), line
    left = oracle.redact(record, rules, shape)
    found = redact(line, decisions_of(night), shape, quarantine=night.quarantine)
    assert (found.line and oracle.record_of(found.line)) == left.value, line
    assert [oracle.record_of(aside) for aside in found.quarantined] == left.quarantined, line
