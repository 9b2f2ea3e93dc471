"""
Events applied to newline-delimited JSON: a million of them, one record in a hundred hit.

Ours with the file's index at hand, as after each extraction, beside a loop of ``json.loads`` with a set; for
information, with the index built first. The events only remove, so that both leave the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.archives import EVENT_IDS, FIRST_ID, archive
from benchmarks.harness import ChildFailedError, Row, python, race, run, scratch

#: What is raced: kind of archive, megabytes, compression, whether the index is at hand, and the gate.
RACES = (
    ("v2", 1_000, "", True, 4.0),
    ("v1", 1_000, "", True, 2.5),
    ("v2", 200, "gz", True, 4.0),
    ("v2", 400, "", False, None),
    ("v1", 200, "", False, None),
)

#: How many events show what each of them takes.
MANY_EVENT_IDS = 5_000_000


def ours(source: Path, events: Path, sink: Path, index: Path | None = None) -> None:
    from airflow_provider_xcompliance.archive.compression import plain_reader, plain_writer
    from airflow_provider_xcompliance.archive.event_sets import EventSet
    from airflow_provider_xcompliance.archive.formats import format_of, module_of
    from airflow_provider_xcompliance.archive.index import FileIndex

    index = index or make_index(source, sink.with_suffix(".index"))
    fmt = format_of(source.name)
    with events.open("rb") as results:
        decisions = EventSet.build([("tweets", results, events.name)])
    hits = FileIndex(index).hits(decisions)
    with (
        source.open("rb", buffering=0) as raw,
        plain_reader(raw, fmt.compression) as plain,
        sink.open("wb") as file,
        plain_writer(file, fmt.compression) as writer,
    ):
        counts = module_of(fmt).rewrite(plain, writer, fmt, source.name, hits, decisions)
    print(counts.removed)


def make_index(source: Path, index: Path) -> Path:
    from airflow_provider_xcompliance.archive.compression import plain_reader
    from airflow_provider_xcompliance.archive.formats import format_of, module_of
    from airflow_provider_xcompliance.archive.index import IndexWriter

    fmt = format_of(source.name)
    with (
        source.open("rb", buffering=0) as raw,
        plain_reader(raw, fmt.compression) as plain,
        IndexWriter(index) as writer,
    ):
        module_of(fmt).read(plain, fmt, source.name, writer)
    return index


def json_loads(source: Path, events: Path, sink: Path) -> None:
    opened: Any = gzip.open if source.suffix == ".gz" else open
    gone = set[int]()
    with events.open() as file:
        for line in file:
            event = json.loads(line)
            if event["action"] == "delete":
                gone.add(int(event["id"]))
    removed = 0
    with opened(source, "rb") as file, opened(sink, "wb") as output:
        for line in file:
            if gone.isdisjoint(_ids(json.loads(line))):
                output.write(line)
            else:
                removed += 1
    print(removed)


def _ids(post: dict[str, Any]) -> Iterator[int]:
    yield int(post["id_str"] if "id_str" in post else post["id"])
    if "retweeted_status" in post:
        yield from _ids(post["retweeted_status"])
    for reference in post.get("referenced_tweets", ()):
        if reference["type"] == "retweeted":
            yield int(reference["id"])


def make_many_events(events: Path, sink: Path) -> None:
    draw = random.Random(2)
    with events.open("rb") as file, sink.open("wb", buffering=1 << 20) as to:
        shutil.copyfileobj(file, to)
        for _ in range(MANY_EVENT_IDS - EVENT_IDS):
            to.write(b'{"id":"%d","action":"delete","reason":"deleted"}\n' % draw.randrange(FIRST_ID, 2**63))


def same(one: Path, other: Path) -> None:
    from airflow_provider_xcompliance.archive.compression import plain_reader
    from airflow_provider_xcompliance.archive.formats import format_of

    compression = format_of(one.name).compression
    digests = set()
    for path in (one, other):
        with path.open("rb") as raw, plain_reader(raw, compression) as plain:
            digests.add(hashlib.file_digest(plain, "blake2b").hexdigest())  # type: ignore[arg-type]
    print(len(digests) == 1)


def measure() -> list[Row]:
    return [*(_race(*each) for each in RACES), _memory()]


def _race(kind: str, megabytes: int, compression: str, index_at_hand: bool, gate: float | None) -> Row:
    source, events = archive(kind, megabytes, compression)
    file, loop = (f"{kind}, .gz", "gzip.open, json.loads") if compression else (kind, "json.loads")
    with scratch(2 * megabytes) as path:
        sink = path.with_name(source.name)
        index, copy = f"{path}.index", f"{path}-{source.name}"
        ours, rival = (python("apply", side, source, events) for side in ("ours", "json_loads"))
        run(python("apply", "make_index", source, index))
        _require_same([*ours, str(sink), index], [*rival, copy], [str(sink), copy])
        what = f"apply ({file}{'' if index_at_hand else ', index built first'}): {loop}"
        mine = [*ours, str(sink), *([index] if index_at_hand else [])]
        return race(what, megabytes, mine, [*rival, str(sink)], gate=gate, output=sink)


def _memory() -> Row:
    source, events = archive("v2", 1_000)
    with scratch(2_000) as path:
        sink, index, many = (path.with_suffix(suffix) for suffix in (".ndjson", ".index", ".events"))
        run(python("apply", "make_index", source, index))
        run(python("apply", "make_many_events", events, many))
        done = run(python("apply", "ours", source, many, sink, index))
    most = 150 + 20 * MANY_EVENT_IDS / 1e6
    return Row(
        what=f"memory of an apply, {MANY_EVENT_IDS / 1e6:g} million events",
        ours=f"{done.seconds:.0f} s",
        rival="",
        ratios=(),
        gate=f"≤ {most:.0f} MB",
        met=done.peak_mb <= most,
        peak_mb=done.peak_mb,
    )


def _require_same(ours: list[str], rival: list[str], outputs: list[str]) -> None:
    run(ours)
    run(rival)
    if run(python("apply", "same", *outputs)).output != "True\n":
        raise ChildFailedError(f"the outputs {' and '.join(outputs)} differ")
    for path in outputs:
        Path(path).unlink()


if __name__ == "__main__":
    steps: dict[str, Callable[..., object]] = {
        step.__name__: step for step in (ours, make_index, make_many_events, json_loads, same)
    }
    steps[sys.argv[1]](*map(Path, sys.argv[2:]))
