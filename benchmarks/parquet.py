"""One in a hundred rows of Parquet goes by its id: ours beside polars and duckdb, in time and memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import WORK, Row, megabytes_of, python, race, run, scratch

ROWS = 2_000_000
ROWS_IN_GROUP = 125_000
EVENTS = 1_000_000
CODECS = ("zstd", "snappy")
MOST_MEMORY = 0.5

#: All at the level that pyarrow takes by default, as which one a file has cannot be seen.
LEVELS = {"zstd": 1, "snappy": None}


def make_posts(codec: str, path: Path) -> None:
    """Write posts with texts of Zipf's words, and the ids of those that are to be removed, beside others."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    words = _words(rng, 20_000)
    weights = np.cumsum(1 / np.arange(1, len(words) + 1) ** 0.9)
    last, gone = 10**18, []
    writer: Any = None
    for _ in range(ROWS // ROWS_IN_GROUP):
        ids = last + np.cumsum(rng.integers(1, 10**11, ROWS_IN_GROUP))
        last = int(ids[-1])
        gone.append(rng.choice(ids, ROWS_IN_GROUP // 100, replace=False))
        lengths = rng.integers(4, 32, ROWS_IN_GROUP)
        chosen = words[np.searchsorted(weights / weights[-1], rng.random(int(lengths.sum())))]
        texts = [" ".join(part) for part in np.split(chosen, np.cumsum(lengths)[:-1])]
        table = _posts(rng, ids, texts)
        writer = writer or pq.ParquetWriter(path, table.schema, compression=codec)
        writer.write_table(table, ROWS_IN_GROUP)
    writer.close()
    found = np.concatenate(gone)
    others = rng.integers(last, 2 * 10**18, EVENTS - len(found))
    events = np.sort(np.concatenate([found, others]))
    np.save(path.with_suffix(".npy"), events)
    pq.write_table(pa.table({"id": events}), path.with_suffix(".gone"))


def make_index(source: Path) -> None:
    from airflow_provider_xcompliance.archive import parquet
    from airflow_provider_xcompliance.archive.index import IndexWriter

    with source.open("rb") as file, IndexWriter(source.with_suffix(".index")) as index:
        parquet.read(file, _format(), source.name, index)


def ours(source: Path, sink: Path) -> None:
    import numpy as np

    from airflow_provider_xcompliance.archive import parquet
    from airflow_provider_xcompliance.archive.event_sets import EventSet
    from airflow_provider_xcompliance.archive.events import Effect
    from airflow_provider_xcompliance.archive.index import FileIndex
    from airflow_provider_xcompliance.archive.records import Decision

    ids = np.load(source.with_suffix(".npy"))
    events = EventSet({("tweets", Decision(Effect.REMOVE, "delete/deleted")): ids})
    hits = FileIndex(source.with_suffix(".index")).hits(events)
    with source.open("rb") as file, sink.open("wb") as new:
        parquet.rewrite(file, new, _format(), source.name, hits, events)


def polars(source: Path, sink: Path) -> None:
    import polars as pl

    gone = pl.read_parquet(source.with_suffix(".gone"))["id"]
    codec = _codec(source)
    pl.scan_parquet(source).filter(~pl.col("id").is_in(gone.implode())).sink_parquet(
        sink, compression=codec, compression_level=LEVELS[codec], row_group_size=ROWS_IN_GROUP
    )


def duckdb(source: Path, sink: Path) -> None:
    import duckdb

    codec = _codec(source)
    level = f", COMPRESSION_LEVEL {LEVELS[codec]}" if LEVELS[codec] else ""
    duckdb.connect().execute(
        f"COPY (SELECT * FROM read_parquet('{source}') p ANTI JOIN "
        f"read_parquet('{source.with_suffix('.gone')}') g ON p.id = g.id) "
        f"TO '{sink}' (FORMAT parquet, COMPRESSION {codec}{level}, ROW_GROUP_SIZE {ROWS_IN_GROUP})"
    )


RIVALS: tuple[Callable[[Path, Path], None], ...] = (polars, duckdb)


def measure() -> list[Row]:
    return [row for codec in CODECS for row in _measure(codec)]


def _measure(codec: str) -> list[Row]:
    source = _generated(codec)
    megabytes = megabytes_of(source)
    rows: list[Row] = []
    with scratch(round(megabytes)) as sink:
        mine = python("parquet", "ours", source, sink)
        for rival in RIVALS:
            theirs = python("parquet", rival.__name__, source, sink)
            what = f"apply to Parquet, {codec}, 1 % of the rows: {rival.__name__}"
            rows.append(race(what, megabytes, mine, theirs, gate=1, output=sink))
        faster = min(RIVALS, key=lambda rival: run(python("parquet", rival.__name__, source, sink)).seconds)
        rows.append(_memory(codec, mine, python("parquet", faster.__name__, source, sink), faster.__name__))
    return rows


def _memory(codec: str, mine: list[str], theirs: list[str], name: str) -> Row:
    our = median(run(mine).peak_mb for _ in range(3))
    their = median(run(theirs).peak_mb for _ in range(3))
    return Row(
        what=f"memory of that, {codec}: {name}",
        ours=f"{our:.0f} MB",
        rival=f"{their:.0f} MB",
        ratios=(),
        gate=f"≤ {MOST_MEMORY:g} of it",
        met=our <= MOST_MEMORY * their,
        peak_mb=our,
    )


def _generated(codec: str) -> Path:
    path = WORK / f"posts-{codec}-{ROWS}.parquet"
    if not path.with_suffix(".gone").exists():
        run(python("parquet", "make_posts", codec, path))
    run(python("parquet", "make_index", path))
    return path


def _codec(source: Path) -> str:
    return source.stem.split("-")[1]


def _format() -> Any:
    from airflow_provider_xcompliance.archive.formats import Columns, Format

    return Format("parquet", columns=Columns("id", "author_id", ("geo",)))


def _words(rng: Any, number: int) -> Any:
    import numpy as np

    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    picks = (np.minimum(rng.exponential(6, size), 25).astype(int) for size in rng.integers(2, 11, number))
    return np.array(["".join(letters[pick]) for pick in picks], dtype=object)


def _posts(rng: Any, ids: Any, texts: list[str]) -> Any:
    import numpy as np
    import pyarrow as pa

    rows = len(ids)

    def some(values: list[str]) -> Any:
        weights = 1 / np.arange(1, len(values) + 1)
        return pa.array(values).take(pa.array(rng.choice(len(values), rows, p=weights / weights.sum())))

    def metric(exponent: float) -> Any:
        return pa.array(np.minimum(rng.zipf(exponent, rows), 10**7) - 1, pa.int32())

    longitude, latitude = rng.uniform(-180, 180, rows).round(6), rng.uniform(-90, 90, rows).round(6)
    geo = [
        {"place_id": f"{place:016x}", "coordinates": {"type": "Point", "coordinates": point}}
        if told
        else None
        for told, place, *point in zip(
            rng.random(rows) < 0.02, rng.integers(0, 2**62, rows), longitude, latitude, strict=True
        )
    ]
    return pa.table(
        {
            "id": ids,
            "author_id": 10**17 + rng.zipf(1.3, rows) % 3_000_000 * 1_000_003,
            "conversation_id": np.where(rng.random(rows) < 0.6, ids, ids - rng.integers(1, 10**15, rows)),
            "text": texts,
            "created_at": pa.array((ids >> 22) + 1_288_834_974_657, pa.timestamp("ms", "UTC")),
            "lang": some(["en", "ja", "es", "pt", "ar", "tr", "ko", "fr", "in", "de", "und"]),
            "source": some(
                ["Twitter for iPhone", "Twitter for Android", "Twitter Web App", "TweetDeck", "IFTTT"]
            ),
            "retweet_count": metric(1.5),
            "reply_count": metric(2),
            "like_count": metric(1.4),
            "quote_count": metric(3),
            "possibly_sensitive": rng.random(rows) < 0.03,
            "geo": geo,
        }
    )


if __name__ == "__main__":
    steps: dict[str, Callable[..., None]] = {each.__name__: each for each in (ours, *RIVALS)}
    if sys.argv[1] in steps:
        steps[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1] == "make_posts":
        make_posts(sys.argv[2], Path(sys.argv[3]))
    else:
        make_index(Path(sys.argv[2]))
