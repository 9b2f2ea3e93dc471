"""
Parquet files: column by column, without decoding what stays as it is.

A file is written anew with its old footer, in which the places of the columns change. So all that the footer
says of the schema stays word for word, and a column in which nothing goes is copied as bytes. The others are
decoded, thinned out and encoded one by one, which takes each thread the memory of a column of a row group.

The level of a compression stands nowhere in a file: what is encoded anew gets the one that pyarrow takes by
default, which for ``zstd`` is 1.
"""

from __future__ import annotations

import os
import sys
import threading
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, groupby
from operator import itemgetter
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias

from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.extras import require
from airflow_provider_xcompliance.archive.formats import Columns, Format
from airflow_provider_xcompliance.archive.ids import MAX_ID, MAX_SHOWN
from airflow_provider_xcompliance.archive.index import BadIndexError, Facts, IndexWriter
from airflow_provider_xcompliance.archive.parquet_footer import MAGIC, Struct, footer_of, parse
from airflow_provider_xcompliance.archive.records import Counts, Decisions
from airflow_provider_xcompliance.archive.rows import Fate, Fates, Rows, add_rows, fates

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = require("numpy", "archive", "reading archives")
# What Arrow takes by default keeps some 60 MB of what was freed; the system's allocator takes longer.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc" if sys.platform == "linux" else "system")
pa = require("pyarrow", "parquet", "reading Parquet")
pc = require("pyarrow.compute", "parquet", "reading Parquet")
pq = require("pyarrow.parquet", "parquet", "reading Parquet")

_Flags: TypeAlias = "NDArray[np.bool_]"
_Task: TypeAlias = "tuple[tuple[int, _Edits], Callable[[], list[_Part]]]"

_ROWS_AT_ONCE = 1 << 17
_BYTES_AT_ONCE = 1 << 20
_LARGE_BYTES = 8 << 20
_ID = r"\A(?:0|[1-9][0-9]{0,18})\z"
_TEXTS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
)

# Rows that wait for quarantine in memory: a row group for each few of them would be a poor file.
_ROWS_IN_QUARANTINE = 10_000

# Columns that are encoded ahead of the one that is written, so that no thread waits for a large one.
_THREADS = min(os.cpu_count() or 1, 4)
_AHEAD = 2 * _THREADS

# Fields of the footer's structures, as parquet.thrift numbers them.
_SCHEMA, _ROWS, _GROUPS, _METADATA, _ENCRYPTION = 2, 3, 4, 5, 8
_TYPE, _LENGTH, _CHILDREN = 1, 2, 5
_CHUNKS, _GROUP_BYTES, _GROUP_ROWS, _SORTING, _GROUP_OFFSET, _GROUP_COMPRESSED, _ORDINAL = 1, 2, 3, 4, 5, 6, 7
_CHUNK_OFFSET, _CHUNK, _OFFSET_INDEX, _COLUMN_INDEX = 2, 3, (4, 5), (6, 7)
_STORED, _ENCODINGS, _PATH, _CODEC, _UNCOMPRESSED, _COMPRESSED = 1, 2, 3, 4, 6, 7
_DATA, _INDEX, _DICTIONARY, _STATISTICS, _PAGES, _BLOOM = 9, 10, 11, 12, 13, (14, 15)
_PAGE_KIND, _PAGE_ENCODING = 1, 2
_DICTIONARY_HEADER, _VALUES = 7, 1

_DATA_PAGE, _DATA_PAGE_V2 = 0, 3
_DICTIONARY_ENCODINGS = (2, 8)

# Enough for the header of a page without statistics.
_HEADER_BYTES = 1024

# The length of the footer, and the magic bytes.
_TAIL = 8

_INT96, _INT96_BYTES, _FIXED_BYTES = 3, 12, 7
_CODECS = {0: "NONE", 1: "SNAPPY", 2: "GZIP", 4: "BROTLI", 5: "LZ4", 6: "ZSTD", 7: "LZ4"}
_SPECIAL_ENCODINGS = {
    5: "DELTA_BINARY_PACKED",
    6: "DELTA_LENGTH_BYTE_ARRAY",
    7: "DELTA_BYTE_ARRAY",
    9: "BYTE_STREAM_SPLIT",
}

# Ways to store one and the same type, of which a file has taken one.
_LAYOUTS: tuple[dict[str, Any], ...] = (
    {},
    {"store_decimal_as_integer": True},
)


class _Chunk(NamedTuple):
    """A column of a row group: what a footer says of it, and its bytes, which stood there."""

    about: Struct
    start: int
    blocks: Iterable[Any]


class _Part(NamedTuple):
    """What becomes of a column of a row group: nothing, if no row stays; and what goes to quarantine."""

    chunks: list[_Chunk]
    quarantined: Sequence[Any] = ()


class _Edits(NamedTuple):
    """
    What is done in a row group, each a flag for every row.

    :param staying: rows that stay; None: all
    :param quarantined: rows that go to quarantine; None: none
    :param scrubbed: rows whose locations go, by column
    """

    staying: Any = None
    quarantined: Any = None
    scrubbed: Mapping[int, _Flags] = MappingProxyType({})

    def concern(self, column: int) -> bool:
        """Whether anything changes in a column."""
        return self.staying is not None or column in self.scrubbed

    def rows(self, rows: int) -> int:
        """Return how many of so many rows stay."""
        return rows if self.staying is None else int(self.staying.true_count)


def read(
    source: IO[bytes],
    fmt: Format,
    name: str,
    index: IndexWriter,
    progress: Callable[[int], object] | None = None,
) -> Facts:
    """
    Read the ids, and write the index; positions are numbers of rows.

    :raises ValueError: if it is no Parquet file, or a column is not there or holds something else
    """
    table = _Table(source, name)
    columns = _columns_of(fmt, table)
    facts = Facts(bytes=table.size)
    first = 0
    for own, authors in table.ids(columns):
        rows = Rows(own, authors, np.arange(len(own)))
        bad = add_rows(rows, fmt.shape, index, first, facts)[: MAX_SHOWN - len(facts.bad_lines)]
        facts.bad_lines += [f"{name}:{row}: no id in {columns.id}" for row in (bad + first + 1).tolist()]
        first += len(own)
        if progress:
            progress(table.size * len(own) // table.rows)
    index.finish(facts)
    return facts


def rewrite(
    source: IO[bytes],
    sink: IO[bytes],
    fmt: Format,
    name: str,
    hits: NDArray[np.int64],
    decisions: Decisions,
    quarantine: IO[bytes] | None = None,
) -> Counts:
    """
    Write the file anew, without what has to go from these rows.

    :param quarantine: takes the rows that are to be fetched again; nothing is written if there are none.
        None: they stay
    :raises BadIndexError: if one of the rows is not there, or has no id
    :raises ValueError: if it is no Parquet file, or a column is not there, cannot be emptied, or cannot be
        written the way it is stored
    """
    table = _Table(source, name)
    columns = _columns_of(fmt, table)
    if len(hits) and not 0 <= hits[0] <= hits[-1] < table.rows:
        raise BadIndexError(f"{name}: has {table.rows:,} rows, and the index another one")
    plan = _Plan(table, columns, fates(decisions, fmt.shape, quarantine=quarantine is not None))
    out, apart = _Output(table, sink), _Quarantine(table, quarantine)
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = _in_order(pool, plan.tasks(hits))
        for (number, edits), of_group in groupby(parts, key=itemgetter(0)):
            rows = edits.rows(table.groups[number][_GROUP_ROWS])
            quarantined = out.add(
                number, rows, (part for _, some in of_group for part in some), resorted=bool(edits.scrubbed)
            )
            apart.add(number, quarantined)
    apart.finish()
    out.finish()
    return plan.counts


class _Table:
    """A file, its footer and its columns; each thread has a reader of its own."""

    def __init__(self, source: IO[bytes], name: str) -> None:
        self.name = name
        self._source = source
        self._lock = threading.Lock()
        self._local = threading.local()
        self.size: int = source.seek(0, os.SEEK_END)
        self.footer = self._read_footer()
        if _ENCRYPTION in self.footer:
            raise ValueError(f"{name}: is encrypted; only files that are not can be redacted")
        self.groups: list[Struct] = self.footer[_GROUPS]
        self.rows: int = self.footer[_ROWS]
        plain = self.footer.copy()
        # It says which columns were dictionaries in memory. Those would be written whole, with the values of
        # rows that went.
        plain.drop(_METADATA)
        plain.put(_SCHEMA, [*map(_as_it_is, self.footer[_SCHEMA])])
        self._metadata = _metadata_of(plain)
        self.schema = self._metadata.schema.to_arrow_schema()
        self._categories = _categories_in(_metadata_of(self.footer).schema)
        self._leaves = _leaves(self.footer[_SCHEMA])
        self._layouts: dict[int, _Layout] = {}

    def is_category(self, column: int) -> bool:
        """
        Whether a column was a dictionary in memory.

        Arrow writes all of it with each row group, and so does pandas, whatever values the rows there have.
        """
        return column in self._categories

    def column_number(self, column: str) -> int:
        numbers = self.schema.get_all_field_indices(column)
        if len(numbers) != 1:
            raise ValueError(
                f"{self.name}: {len(numbers) or 'no'} columns are called {column!r}; there are "
                f"{', '.join(self.schema.names)}"
            )
        return int(numbers[0])

    def ids(self, columns: Columns) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Ids of rows and of authors, some rows at a time; -1 where there is none."""
        names = [columns.id, *([columns.author] if columns.author else [])]
        for batch in self._reader().iter_batches(_ROWS_AT_ONCE, columns=names, use_threads=False):
            yield self._ids_of(batch, columns)

    def ids_at(
        self, number: int, columns: Columns, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The same of some rows of a row group."""
        names = [columns.id, *([columns.author] if columns.author else [])]
        some = self._reader().read_row_group(number, names, use_threads=False).take(pa.array(rows))
        return self._ids_of(some.combine_chunks().to_batches()[0], columns)

    def batches(self, number: int, column: int) -> Iterator[Any]:
        """Decode a column of a row group, some rows at a time; texts out of a dictionary stay with it."""
        if self._is_dictionary_of_texts(number, column):
            batches = [*self._decoded(number, column, dictionaries=True)]
            # Arrow joins values that stand in a dictionary twice, and takes others for those that follow.
            if {len(values.dictionary) for values in batches} == {self._dictionary_size(number, column)}:
                yield from batches
                return
        yield from self._decoded(number, column)

    def _decoded(self, number: int, column: int, *, dictionaries: bool = False) -> Iterator[Any]:
        # By number: several may have one name, or a name that is the path into another one.
        leaves = [*range(self._leaves[column].start, self._leaves[column].stop)]
        rows = self.groups[number][_GROUP_ROWS]
        size = sum(chunk[_CHUNK][_UNCOMPRESSED] for chunk in self.chunks(number, column))
        at_once = rows * _BYTES_AT_ONCE // max(size, _BYTES_AT_ONCE)
        reader = self._reader(dictionaries=dictionaries).reader
        for batch in reader.iter_batches(max(at_once, 1), [number], leaves, use_threads=False):
            yield batch.column(0)

    def chunks(self, number: int, column: int) -> list[Struct]:
        """What the footer says of a column of a row group: several if it is nested."""
        chunks: list[Struct] = self.groups[number][_CHUNKS]
        return chunks[self._leaves[column]]

    def portions(self, number: int) -> Iterator[list[int]]:
        """Columns of a row group that are worth a thread's while together."""
        columns: list[int] = []
        size = 0
        for column in range(len(self.schema)):
            columns.append(column)
            size += sum(chunk[_CHUNK][_UNCOMPRESSED] for chunk in self.chunks(number, column))
            if size > _LARGE_BYTES:
                yield columns
                columns, size = [], 0
        if columns:
            yield columns

    def copied(self, number: int, column: int) -> list[_Chunk]:
        """A column of a row group as it is."""
        found = []
        for chunk in self.chunks(number, column):
            start, length = _extent(chunk[_CHUNK])
            found.append(_Chunk(chunk, start, self._blocks(start, start + length)))
        return found

    def encoded(self, number: int, column: int, parts: Sequence[Any]) -> list[_Chunk]:
        """Values of a column, stored as those of a row group are."""
        like = self.chunks(number, column)
        if column not in self._layouts:
            self._layouts[column] = self._layout_of(column)
        options = _options(self._layouts[column], [chunk[_CHUNK] for chunk in like])
        file = _written(self.schema.field(column), parts, options)
        chunks = file.footer()[_GROUPS][0][_CHUNKS]
        found = []
        for chunk, old in zip(chunks, like, strict=True):
            start, length = _extent(chunk[_CHUNK])
            for field in (_STORED, _PATH):
                chunk[_CHUNK].put(field, old[_CHUNK][field])
            found.append(_Chunk(chunk, start, file.between(start, start + length)))
        return found

    def _is_dictionary_of_texts(self, number: int, column: int) -> bool:
        if not _is_text(self.schema.field(column).type):
            return False
        (chunk,) = self.chunks(number, column)
        return _PAGES in chunk[_CHUNK] and _pays_dictionary(chunk[_CHUNK])

    def _dictionary_size(self, number: int, column: int) -> int:
        """Return how many values the dictionary of a column says that it has."""
        (chunk,) = self.chunks(number, column)
        header = parse(self.read_at(_extent(chunk[_CHUNK])[0], _HEADER_BYTES))
        return int(header[_DICTIONARY_HEADER][_VALUES])

    def _reader(self, *, dictionaries: bool = False) -> Any:
        """Return a reader of this thread's own."""
        readers = self._local.__dict__.setdefault("readers", {})
        if dictionaries not in readers:
            readers[dictionaries] = pq.ParquetFile(
                pa.PythonFile(_View(self), "r"),
                metadata=self._metadata,
                pre_buffer=False,
                buffer_size=_BYTES_AT_ONCE,
                read_dictionary=self._leaves_of_texts() if dictionaries else None,
                # JSON stays text and a UUID bytes, as the schema has them.
                arrow_extensions_enabled=False,
            )
        return readers[dictionaries]

    def _leaves_of_texts(self) -> list[int]:
        columns = zip(self._leaves, self.schema, strict=True)
        return [leaves.start for leaves, field in columns if _is_text(field.type)]

    def _read_footer(self) -> Struct:
        end = self.read_at(max(self.size - _TAIL, 0), _TAIL)
        length = int.from_bytes(end[:4], "little")
        if len(end) < _TAIL or end[4:] != MAGIC or length + _TAIL + len(MAGIC) > self.size:
            raise ValueError(f"{self.name}: no Parquet file, or not all of it")
        return parse(self.read_at(self.size - _TAIL - length, length))

    def read_at(self, place: int, size: int) -> bytes:
        """Read some bytes, whichever thread reads others."""
        with self._lock:
            self._source.seek(place)
            return self._source.read(size)

    def _blocks(self, start: int, end: int) -> Iterator[bytes]:
        for place in range(start, end, _BYTES_AT_ONCE):
            yield self.read_at(place, min(_BYTES_AT_ONCE, end - place))

    def _ids_of(self, batch: Any, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        own = self._numbers(batch, columns.id)
        authors = self._numbers(batch, columns.author) if columns.author else np.full(len(own), -1)
        return own, authors

    def _numbers(self, batch: Any, column: str) -> NDArray[np.int64]:
        try:
            return _numbers(batch.column(column))
        except TypeError as error:
            raise ValueError(f"{self.name}: the column {column} {error}") from None

    def _layout_of(self, column: int) -> _Layout:
        field = self.schema.field(column)
        stored = [self._metadata.schema.column(leaf) for leaf in range(len(self._metadata.schema))]
        stored = stored[self._leaves[column]]
        for options in _LAYOUTS:
            empty = _written(field, [], options)
            schema = pq.read_metadata(pa.BufferReader(empty.content())).schema
            leaves = [schema.column(leaf) for leaf in range(len(schema))]
            if [*map(_storage, leaves)] == [*map(_storage, stored)]:
                return _Layout(options, [leaf.path for leaf in leaves])
        raise ValueError(f"{self.name}: the column {field.name} is stored in a way that cannot be written")


class _View:
    """A place of its own in a file that several threads read; Arrow seeks and reads without a lock."""

    closed = False

    def __init__(self, table: _Table) -> None:
        self._table = table
        self._place = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._table.size)[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        data = self._table.read_at(self._place, size)
        self._place += len(data)
        return data

    def close(self) -> None:
        """Leave the file open for the others."""


class _Blocks:
    """A file in memory, as the blocks that were written: one that grows is copied, and takes more."""

    closed = False

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._starts: list[int] = []
        self._size = 0

    def write(self, block: bytes) -> int:
        self._blocks.append(block)
        self._starts.append(self._size)
        self._size += len(block)
        return len(block)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """It can still be read."""

    def between(self, start: int, end: int) -> Iterator[bytes]:
        """Yield what stands between two places."""
        first, last = bisect_right(self._starts, start) - 1, bisect_left(self._starts, end)
        for block, place in zip(self._blocks[first:last], self._starts[first:last], strict=True):
            yield block[max(start - place, 0) : end - place]

    def content(self) -> bytes:
        return b"".join(self._blocks)

    def footer(self) -> Struct:
        end = self._size - _TAIL
        length = int.from_bytes(b"".join(self.between(end, self._size - len(MAGIC))), "little")
        return parse(b"".join(self.between(end - length, end)))


class _Layout(NamedTuple):
    """
    How a column is stored.

    :param options: that make it so
    :param paths: of its leaves, as the writer calls them
    """

    options: dict[str, Any]
    paths: list[str]


class _Plan:
    """What is done, row group by row group, and what it comes to."""

    def __init__(self, table: _Table, columns: Columns, rules: Fates) -> None:
        self._table = table
        self._columns = columns
        self._rules = rules
        self._geo = [table.column_number(column) for column in columns.geo]
        self.counts = Counts()

    def tasks(self, hits: NDArray[np.int64]) -> Iterator[_Task]:
        """Return what to do, column by column, in the order of the file."""
        first = 0
        for number, group in enumerate(self._table.groups):
            last = first + group[_GROUP_ROWS]
            rows = hits[np.searchsorted(hits, first) : np.searchsorted(hits, last)] - first
            edits = self._edits(number, group[_GROUP_ROWS], rows) if len(rows) else _Edits()
            for columns in self._table.portions(number):
                yield (number, edits), partial(_parts, self._table, number, edits, columns)
            first = last

    def _edits(self, number: int, length: int, rows: NDArray[np.int64]) -> _Edits:
        own, authors = self._table.ids_at(number, self._columns, rows)
        if (own < 0).any():
            raise BadIndexError(f"{self._table.name}: a row has no id where the index has one")
        leaving: list[int] = []
        quarantined: list[int] = []
        scrubbed: list[tuple[int, Fate]] = []
        for row, post, author in zip(rows.tolist(), own.tolist(), authors.tolist(), strict=True):
            fate = self._rules(post, author if author >= 0 else None)
            if fate.leaves.effect:
                leaving.append(row)
                self.counts.kinds[fate.leaves.kind] += 1
            if fate.leaves.effect == Effect.FETCH_AGAIN:
                quarantined.append(row)
            if fate.scrubbed.effect and self._geo:
                scrubbed.append((row, fate))
        self.counts.quarantined += len(quarantined)
        self.counts.removed += len(leaving) - len(quarantined)
        return _Edits(
            pa.array(~_flags(length, leaving)) if leaving else None,
            pa.array(_flags(length, quarantined)) if quarantined else None,
            self._located(number, length, scrubbed) if scrubbed else {},
        )

    def _located(self, number: int, length: int, scrubbed: list[tuple[int, Fate]]) -> dict[int, _Flags]:
        """Find those that have a location, by column, and count them."""
        rows = np.array([row for row, _ in scrubbed])
        told = {column: self._told(number, column) & _flags(length, rows) for column in self._geo}
        is_told = np.any([flags[rows] for flags in told.values()], axis=0)
        for (_, fate), has_location in zip(scrubbed, is_told.tolist(), strict=True):
            if has_location:
                self.counts.kinds[fate.scrubbed.kind] += 1
                self.counts.scrubbed += not fate.leaves.effect
        return {column: flags for column, flags in told.items() if flags.any()}

    def _told(self, number: int, column: int) -> _Flags:
        """In which rows of a row group a column is not null."""
        field = self._table.schema.field(column)
        if not field.nullable:
            raise ValueError(
                f"{self._table.name}: the column {field.name} takes no null, so it cannot be emptied"
            )
        return np.concatenate([values.is_valid() for values in self._table.batches(number, column)])


def _flags(length: int, rows: Any) -> _Flags:
    flags = np.zeros(length, np.bool_)
    flags[rows] = True
    return flags


def _parts(table: _Table, number: int, edits: _Edits, columns: Iterable[int]) -> list[_Part]:
    return [_part(table, number, edits, column) for column in columns]


def _part(table: _Table, number: int, edits: _Edits, column: int) -> _Part:
    """What becomes of a column of a row group."""
    if not (edits.concern(column) or table.is_category(column)):
        return _Part(table.copied(number, column))
    scrubbed = edits.scrubbed.get(column)
    staying: list[Any] = []
    quarantined: list[Any] = []
    first = 0
    for values in table.batches(number, column):
        rows = len(values)
        if scrubbed is not None:
            values = _emptied(values, scrubbed[first : first + rows])
        if edits.quarantined is not None:
            some = values.filter(edits.quarantined.slice(first, rows))
            quarantined.append(some.cast(table.schema.field(column).type))
        if edits.staying is not None:
            values = values.filter(edits.staying.slice(first, rows))
        staying.append(values)
        first += rows
    if staying and pa.types.is_dictionary(staying[0].type):
        staying = [_compacted(staying)]
    chunks = table.encoded(number, column, staying) if any(map(len, staying)) else []
    return _Part(chunks, quarantined)


def _compacted(parts: Sequence[Any]) -> Any:
    """Join texts, and leave in their dictionary what a row still has."""
    values = pa.chunked_array(parts).unify_dictionaries().combine_chunks()
    numbers = values.indices.dictionary_encode()
    return pa.DictionaryArray.from_arrays(numbers.indices, values.dictionary.take(numbers.dictionary))


def _emptied(values: Any, flags: _Flags) -> Any:
    # Works for every type: what is taken from nowhere is null.
    return values.take(pa.array(np.arange(len(values)), mask=flags))


def _in_order(
    pool: ThreadPoolExecutor, tasks: Iterable[_Task]
) -> Iterator[tuple[tuple[int, _Edits], list[_Part]]]:
    """Do the tasks side by side, some ahead, and hand out what they return in their order."""
    waiting: deque[tuple[tuple[int, _Edits], Future[list[_Part]]]] = deque()
    try:
        for key, task in tasks:
            waiting.append((key, pool.submit(task)))
            if len(waiting) > _AHEAD:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


class _Output:
    """A file like another one, with other row groups."""

    def __init__(self, table: _Table, sink: IO[bytes]) -> None:
        self._table = table
        self._sink = sink
        self._place = sink.write(MAGIC)
        self._groups: list[Struct] = []
        self._rows = 0

    def add(
        self, number: int, rows: int, parts: Iterable[_Part], *, resorted: bool = False
    ) -> list[Sequence[Any]]:
        """
        Write what becomes of a row group.

        :param number: its number in the other file
        :param rows: that it has now
        :param resorted: whether it may no longer be in the order that the other file says
        :return: the columns of rows that go to quarantine
        """
        start = self._place
        chunks: list[Struct] = []
        quarantined = []
        for part in parts:
            chunks += map(self._write, part.chunks)
            if part.quarantined:
                quarantined.append(part.quarantined)
        if rows:
            group = _group(self._table.groups[number], len(self._groups), start, chunks, rows)
            if resorted:
                group.drop(_SORTING)
            self._groups.append(group)
            self._rows += rows
        return quarantined

    def finish(self) -> None:
        """Write the footer."""
        footer = self._table.footer.copy()
        footer.put(_ROWS, self._rows)
        footer.put(_GROUPS, self._groups)
        self._sink.write(footer_of(footer))

    def _write(self, chunk: _Chunk) -> Struct:
        about = _moved(chunk.about, self._place - chunk.start)
        for block in chunk.blocks:
            self._sink.write(block)
            self._place += len(block)
        return about


def _group(like: Struct, ordinal: int, start: int, chunks: list[Struct], rows: int) -> Struct:
    """What the footer says of a row group."""
    contents = [chunk[_CHUNK] for chunk in chunks]
    group = like.copy()
    news = {
        _CHUNKS: chunks,
        _GROUP_BYTES: sum(content[_UNCOMPRESSED] for content in contents),
        _GROUP_ROWS: rows,
        _GROUP_OFFSET: start,
        _GROUP_COMPRESSED: sum(content[_COMPRESSED] for content in contents),
        _ORDINAL: ordinal,
    }
    for field, value in news.items():
        if field in group:
            group.put(field, value)
    return group


class _Quarantine:
    """Rows that are to be fetched again, in a file of the same schema."""

    def __init__(self, table: _Table, sink: IO[bytes] | None) -> None:
        self._table = table
        self._sink = sink
        self._out: _Output | None = None
        self._waiting: list[list[Sequence[Any]]] = []
        self._rows = 0

    def add(self, number: int, columns: list[Sequence[Any]]) -> None:
        """Take rows of a row group, column by column."""
        if columns:
            self._waiting.append(columns)
            self._rows += sum(map(len, columns[0]))
        if self._rows >= _ROWS_IN_QUARANTINE:
            self._write(number)

    def finish(self) -> None:
        """Write what is left."""
        if self._rows:
            self._write(0)
        if self._out:
            self._out.finish()

    def _write(self, number: int) -> None:
        if self._out is None and self._sink is not None:
            self._out = _Output(self._table, self._sink)
        if self._out is not None:
            columns = [[*chain.from_iterable(parts)] for parts in zip(*self._waiting, strict=True)]
            chunks = (_Part(self._table.encoded(number, *column)) for column in enumerate(columns))
            self._out.add(number, self._rows, chunks)
        self._waiting, self._rows = [], 0


def _metadata_of(footer: Struct) -> Any:
    return pq.read_metadata(pa.BufferReader(MAGIC + footer_of(footer)))


def _categories_in(schema: Any) -> frozenset[int]:
    """Return the columns that were dictionaries in memory, or hold some."""
    return frozenset(
        number for number, field in enumerate(schema.to_arrow_schema()) if _is_category(field.type)
    )


def _is_category(kind: Any) -> bool:
    inner = (kind.field(number).type for number in range(kind.num_fields))
    return bool(pa.types.is_dictionary(kind)) or any(map(_is_category, inner))


def _columns_of(fmt: Format, table: _Table) -> Columns:
    columns = fmt.columns
    if columns is None:
        raise ValueError(f"{table.name}: a table needs to be told its columns")
    for column in (columns.id, columns.author, *columns.geo):
        if column is not None:
            table.column_number(column)
    return columns


def _leaves(elements: Sequence[Struct]) -> list[slice]:
    """Of each column of a schema, the chunks that it has in a row group: one, or several if it is nested."""
    found: list[slice] = []
    leaf = 0
    position = 1
    while position < len(elements):
        start, open_nodes = leaf, 1
        while open_nodes:
            children = elements[position].get(_CHILDREN, 0)
            leaf += not children
            open_nodes += children - 1
            position += 1
        found.append(slice(start, leaf))
    return found


def _as_it_is(element: Struct) -> Struct:
    """Have old timestamps read as the bytes that they are: Arrow's cannot hold each of them."""
    if element.get(_TYPE) != _INT96:
        return element
    element = element.copy()
    element.put_number(_TYPE, _FIXED_BYTES)
    element.put_number(_LENGTH, _INT96_BYTES)
    return element


def _storage(leaf: Any) -> tuple[Any, ...]:
    """What has to be alike if the bytes of a column are to mean the same."""
    return leaf.physical_type, leaf.length, leaf.max_definition_level, leaf.max_repetition_level


def _extent(content: Struct) -> tuple[int, int]:
    """Where the bytes of a chunk start, and how many there are."""
    # Some writers say 0 for a dictionary that is not there.
    dictionary = content.get(_DICTIONARY, 0)
    start = dictionary if 0 < dictionary < content[_DATA] else content[_DATA]
    return start, content[_COMPRESSED]


def _moved(chunk: Struct, by: int) -> Struct:
    """What the footer says of a chunk whose bytes stand elsewhere now."""
    chunk, content = chunk.copy(), chunk[_CHUNK].copy()
    for struct, numbers in ((chunk, (_CHUNK_OFFSET,)), (content, (_DATA, _INDEX, _DICTIONARY))):
        for number in numbers:
            if struct.get(number, 0) > 0:
                struct.put(number, struct[number] + by)
    # They stand elsewhere in the file, and hold places themselves, or traces of what went.
    chunk.drop(*_OFFSET_INDEX, *_COLUMN_INDEX)
    content.drop(*_BLOOM)
    chunk.put(_CHUNK, content)
    return chunk


def _options(layout: _Layout, like: list[Struct]) -> dict[str, Any]:
    """How to write a column like what is stored."""
    leaves = [*zip(layout.paths, like, strict=True)]
    options = layout.options | {
        "compression": {path: _CODECS[chunk[_CODEC]] for path, chunk in leaves},
        "use_dictionary": [path for path, chunk in leaves if _pays_dictionary(chunk)],
        # The order of bytes is not that of timestamps.
        "write_statistics": [
            path for path, chunk in leaves if _STATISTICS in chunk and chunk[_STORED] != _INT96
        ],
        "data_page_version": "2.0" if any(map(_has_pages_v2, like)) else "1.0",
    }
    encodings = {
        path: _SPECIAL_ENCODINGS[encoding]
        for path, chunk in leaves
        for encoding in chunk[_ENCODINGS]
        if encoding in _SPECIAL_ENCODINGS
    }
    if encodings and not options["use_dictionary"]:
        options |= {"use_dictionary": False, "column_encoding": encodings}
    return options


def _pays_dictionary(chunk: Struct) -> bool:
    # Where nearly all values differ, a dictionary of them is larger than they are, and takes time.
    start, length = _extent(chunk)
    dictionary: int = chunk[_DATA] - start
    return 0 < dictionary * 2 < length and all(
        page[_PAGE_ENCODING] in _DICTIONARY_ENCODINGS for page in _data_pages(chunk)
    )


def _has_pages_v2(chunk: Struct) -> bool:
    return any(page[_PAGE_KIND] == _DATA_PAGE_V2 for page in _data_pages(chunk))


def _data_pages(chunk: Struct) -> Iterator[Struct]:
    """What a footer says of kinds of pages, if it says anything."""
    for page in chunk.get(_PAGES, []):
        if page[_PAGE_KIND] in (_DATA_PAGE, _DATA_PAGE_V2):
            yield page


def _written(field: Any, parts: Sequence[Any], options: dict[str, Any]) -> _Blocks:
    """A file with this column alone, in one row group."""
    values = pa.chunked_array(parts, None if parts else field.type)
    schema = pa.schema([field.with_type(values.type)])
    file = _Blocks()
    with pq.ParquetWriter(pa.PythonFile(file, "w"), schema, store_schema=False, **options) as writer:
        writer.write_table(pa.table([values], schema), max(len(values), 1))
    return file


def _numbers(values: Any) -> NDArray[np.int64]:
    """
    Turn ids into numbers; -1 where there is none.

    :raises TypeError: if such a column cannot hold ids
    """
    kind = values.type
    if pa.types.is_integer(kind):
        return _whole(values)
    if pa.types.is_decimal(kind) and kind.scale == 0:
        return _from_text(values.cast(pa.string()))
    if _is_text(kind):
        return _from_text(pc.cast(values, pa.large_string(), safe=False))
    if pa.types.is_floating(kind):
        raise TypeError(
            f"holds floating-point numbers ({kind}); they rounded its ids, which are ids of others now; "
            "export it anew as int64 or as text"
        )
    raise TypeError(f"holds {kind}; ids are int64, uint64 or text")


def _is_text(kind: Any) -> bool:
    return any(is_text(kind) for is_text in _TEXTS)


def _from_text(texts: Any) -> NDArray[np.int64]:
    is_id = pc.fill_null(pc.match_substring_regex(texts, _ID), False)
    numbers = pc.if_else(is_id, texts, "0").cast(pa.uint64())
    return np.where(np.asarray(is_id), _whole(numbers), -1)


def _whole(values: Any) -> NDArray[np.int64]:
    numbers = np.asarray(pc.fill_null(values, 0))
    valid = np.asarray(values.is_valid()) & (numbers >= 0) & (numbers <= MAX_ID)
    return np.where(valid, numbers.astype(np.int64), -1)
