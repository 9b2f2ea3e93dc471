"""Whether what became of a file is what the oracle says, to the byte."""

import io
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from airflow_provider_xcompliance.archive.formats import Columns, Format, format_of
from tests.archive import oracle
from tests.archive.generated import File
from tests.archive.oracle import Held, Line, Outcome, Rules

DELIMITERS = {"csv": ",", "tsv": "\t"}


def format_of_file(file: File) -> Format:
    return format_of(file.name, shape=file.shape, columns=file.table and Columns(*file.table))


def hold(file: File) -> Held:
    """Ask the oracle what a file holds."""
    content = file.content
    match format_of_file(file).kind:
        case "ndjson":
            return oracle.read_ndjson(content, file.shape)
        case "ids":
            return oracle.read_ids(content, file.shape)
        case "parquet":
            return oracle.read_parquet(content, file.table)
        case kind:
            return oracle.read_csv(content, file.table, DELIMITERS[kind], file.shape)


def judge(file: File, rules: Rules) -> Outcome:
    """Ask the oracle what rules do to a file."""
    match format_of_file(file).kind:
        case "ndjson":
            return oracle.apply_ndjson(file.content, rules, file.shape)
        case "ids":
            return oracle.apply_ids(file.content, rules, file.shape)
        case "parquet":
            return oracle.apply_parquet(file.content, rules, file.table)
        case kind:
            return oracle.apply_csv(file.content, rules, file.table, DELIMITERS[kind], file.shape)


def pieces(file: File, content: bytes) -> list[Line]:
    """The lines of a file, or the rows of a table."""
    kind = format_of_file(file).kind
    if kind in DELIMITERS:
        return [row.line for row in oracle.csv_rows(content, DELIMITERS[kind])]
    return list(oracle.lines_of(content))


def parser(file: File) -> Callable[[bytes], Any]:
    """Return what makes values of a record's bytes."""
    kind = format_of_file(file).kind
    if kind in DELIMITERS:
        header = next(oracle.csv_rows(file.content, DELIMITERS[kind])).line.content.rstrip(b"\r\n") + b"\n"
        return lambda content: list(oracle.csv_rows(header + content, DELIMITERS[kind]))[1].values
    return oracle.record_of


def compare_content(file: File, content: bytes, wanted: Outcome) -> None:
    """Assert that each record is there as it was, or lost what it had to lose and no more."""
    if format_of_file(file).kind == "parquet":
        _compare_parquet(file.content, content, wanted)
    else:
        _compare_text(file, content, wanted)


def quarantined_in(file: File, quarantine: bytes) -> list[Any]:
    """Return the records that a file's quarantine holds, and which lost no more bytes than they had to."""
    if format_of_file(file).kind == "parquet":
        return oracle.parquet_rows(quarantine) if quarantine else []
    aside = [piece.content.rstrip(b"\r\n") for piece in pieces(file, quarantine)]
    if file.table and aside:
        assert aside.pop(0) == pieces(file, file.content)[0].content.rstrip(b"\r\n")
    origins = iter(piece.content for piece in pieces(file, file.content))
    origin = b""
    for content in aside:
        # A post out of a page stands in a page of its own; there may be several of the same page.
        bare = content.removeprefix(b'{"data":[').removesuffix(b"]}")
        while not (is_made_by_deleting(content, origin) or is_made_by_deleting(bare, origin)):
            origin = next(origins)
    return [parser(file)(content) for content in aside]


def _compare_text(file: File, content: bytes, wanted: Outcome) -> None:
    parse = parser(file)
    for line, piece in zip(wanted.kept, pieces(file, content), strict=True):
        if line.left is None:
            assert piece.content == line.content, f"{file.name}:{line.number} is not as it was"
        else:
            assert parse(piece.content) == line.left.value, f"line {line.number}: {line.content!r}"
            assert is_made_by_deleting(piece.content, line.content), f"line {line.number}: {line.content!r}"


def _compare_parquet(original: bytes, content: bytes, wanted: Outcome) -> None:
    before, after = (pq.ParquetFile(io.BytesIO(some)) for some in (original, content))
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert _compressions(after) <= _compressions(before)
    rows = oracle.parquet_rows(original)
    assert oracle.parquet_rows(content) == [
        line.left.value if line.left else rows[line.at] for line in wanted.kept
    ]


def _compressions(file: pq.ParquetFile) -> set[str]:
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    return {group.column(number).compression for group in groups for number in range(group.num_columns)}


def is_made_by_deleting(result: bytes, original: bytes) -> bool:
    rest = iter(original)
    return all(byte in rest for byte in result)
