"""
Tables as text: CSV and TSV, with a row of names on top.

A row is what the csv module takes for one when it is strict. Reading, blocks are cut into fields at once,
or field by field if quotes stand in unusual places; rewriting, only rows are looked at that an event meets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.extras import require
from airflow_provider_xcompliance.archive.formats import Format
from airflow_provider_xcompliance.archive.ids import MAX_SHOWN, is_id
from airflow_provider_xcompliance.archive.index import BadIndexError, Facts, IndexWriter
from airflow_provider_xcompliance.archive.lines import BOM
from airflow_provider_xcompliance.archive.records import Counts, Decisions
from airflow_provider_xcompliance.archive.rows import Fate, Fates, Rows, add_rows, fates
from airflow_provider_xcompliance.archive.text import Buffer, ids_at

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = require("numpy", "archive", "reading archives")

_DELIMITERS = {"csv": b",", "tsv": b"\t"}
_QUOTE, _LF, _CR = b'"\n\r'

# A field with quotes around it, of which the closing one may be missing; or one without.
_FIELD = rb'"[^"]*+(?:""[^"]*+)*+(?:"|(\Z))|(?:[^"%b\r\n][^%b\r\n]*+)?+'
_END_OF_LINE = re.compile(rb"\r*+(?:\n|\Z)")


class _Row(NamedTuple):
    """
    A row: where its fields are, with their quotes, and where the next one begins.

    :param wrong: what is, if anything
    """

    fields: list[tuple[int, int]]
    end: int
    wrong: str = ""


class _Rows(NamedTuple):
    """
    Rows that are no blank lines.

    :param ids: -1 where there is none; so are the authors
    :param wrong: number of a row → what is wrong with it, besides its id
    :param end: where the next one begins
    """

    starts: NDArray[np.int64]
    ids: NDArray[np.int64]
    authors: NDArray[np.int64]
    wrong: dict[int, str]
    end: int


class _Cut(NamedTuple):
    """
    Where rows begin and end, without the ends of their lines, and where their delimiters are.

    :param end: where the next row begins
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    delimiters: NDArray[np.int64]
    end: int


def read(
    source: IO[bytes],
    fmt: Format,
    name: str,
    index: IndexWriter,
    progress: Callable[[int], object] | None = None,
) -> Facts:
    """
    Read the ids, and write the index.

    :raises ValueError: if a column is not there, or a row is longer than 64 MB
    """
    buffer = Buffer(source, name)
    table = _Table(buffer, fmt, name)
    facts = Facts()
    line = 1 + table.header.count(b"\n")
    while True:
        rows = table.rows(buffer)
        found = Rows(rows.ids, rows.authors, rows.starts - buffer.at)
        bad = add_rows(found, fmt.shape, index, buffer.place, facts)
        for row in bad[: MAX_SHOWN - len(facts.bad_lines)].tolist():
            at = line + buffer.data.count(b"\n", buffer.at, int(rows.starts[row]))
            facts.bad_lines.append(f"{name}:{at}: {rows.wrong.get(row, table.no_id)}")
        line += buffer.data.count(b"\n", buffer.at, rows.end)
        buffer.at = rows.end
        if buffer.is_final:
            break
        done = buffer.more()
        if progress:
            progress(done)
    facts.bytes = buffer.place
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
    Write the file anew, without what has to go from the rows at these places.

    :param quarantine: takes the rows that are to be fetched again, below the same names; nothing is written
        if there are none. None: they stay
    :raises BadIndexError: if at one of the places no row with an id begins
    :raises ValueError: if a column is not there, or a row is longer than 64 MB
    """
    buffer = Buffer(source, name)
    table = _Table(buffer, fmt, name)
    rules = fates(decisions, fmt.shape, quarantine=quarantine is not None)
    counts = Counts()
    sink.write(table.header)
    for place in hits.tolist():
        buffer.copy_to(place, sink)
        row, fate = table.fate(buffer, rules)
        old = buffer.data[buffer.at : row.end]
        new = table.without_location(buffer.data, row) if fate.scrubbed.effect else old
        _count(counts, fate, has_location=new != old)
        if not fate.leaves.effect:
            sink.write(new)
        elif quarantine is not None and fate.leaves.effect == Effect.FETCH_AGAIN:
            if counts.quarantined == 1:
                quarantine.write(table.header)
            quarantine.write(new)
        buffer.at = row.end
    buffer.copy_rest(sink)
    return counts


class _Table:
    """What the row of names says, and how rows are cut; that row is done then."""

    def __init__(self, buffer: Buffer, fmt: Format, name: str) -> None:
        if fmt.columns is None:
            raise ValueError(f"{name}: a table needs to be told its columns")
        self._delimiter = _DELIMITERS[fmt.kind]
        self._field = re.compile(_FIELD % (self._delimiter, self._delimiter))
        self._name = name
        # A source may give less at a time than stands before the names.
        while buffer.more() and len(buffer.data) < len(BOM):
            pass
        row = self._next_row(buffer, len(BOM) if buffer.data.startswith(BOM) else 0)
        #: The bytes of the row of names, and of what stands before it.
        self.header = buffer.data[: row.end]
        self._names = [_value(buffer.data, field).decode("utf-8", "replace") for field in row.fields]
        buffer.at = row.end
        if self.header in (b"", BOM):
            # A file of nothing has no names; nor has it rows, so that any will do.
            columns = fmt.columns
            self._names = [*dict.fromkeys(filter(None, (columns.id, columns.author, *columns.geo)))]
        self._id = self._number(fmt.columns.id)
        self._author = None if fmt.columns.author is None else self._number(fmt.columns.author)
        self._geo = sorted(map(self._number, fmt.columns.geo))
        #: What is wrong with a row that has none.
        self.no_id = f"no id in {fmt.columns.id}"

    def rows(self, buffer: Buffer) -> _Rows:
        """Cut what is at hand into rows, up to where one may go on."""
        cut = self._cut(buffer)
        return self._unusual_rows(buffer) if cut is None else self._usual_rows(buffer.data, cut)

    def fate(self, buffer: Buffer, rules: Fates) -> tuple[_Row, Fate]:
        """
        Read the next row, and ask what is done to it.

        :raises BadIndexError: if it is none
        """
        row = self._next_row(buffer)
        own = author = None
        if not self._fault(row):
            own = _id_of(buffer.data, row.fields[self._id])
            author = None if self._author is None else _id_of(buffer.data, row.fields[self._author])
        if own is None:
            raise BadIndexError(
                f"{self._name}: the index is not of this file: no row begins at byte {buffer.place:,}"
            )
        return row, rules(own, author)

    def without_location(self, data: bytes, row: _Row) -> bytes:
        """Return the bytes of a row, with nothing in the fields of its location."""
        start = row.fields[0][0]
        parts = []
        for number in self._geo:
            field = row.fields[number]
            if _value(data, field):
                parts.append(data[start : field[0]])
                start = field[1]
        return b"".join([*parts, data[start : row.end]])

    def _number(self, column: str) -> int:
        if self._names.count(column) != 1:
            raise ValueError(
                f"{self._name}: {self._names.count(column) or 'no'} columns are called {column!r}; its first "
                f"row has {', '.join(self._names)}"
            )
        return self._names.index(column)

    def _fault(self, row: _Row) -> str:
        if row.wrong or len(row.fields) == len(self._names):
            return row.wrong
        return f"{len(row.fields)} fields under {len(self._names)} names"

    def _next_row(self, buffer: Buffer, skipped: int = 0) -> _Row:
        while (row := self._row(buffer, buffer.at + skipped)) is None:
            buffer.more()
        return row

    def _row(self, buffer: Buffer, at: int) -> _Row | None:
        """Cut a row field by field; None if it may go on."""
        data = buffer.data
        fields: list[tuple[int, int]] = []
        while True:
            # Nothing at all is a field too.
            field = cast("re.Match[bytes]", self._field.match(data, at))
            end = field.end()
            if end == len(data) and not buffer.is_final:
                return None
            if field[1] is not None:
                return _Row([], end, "a quote that nothing closes")
            fields.append((at, end))
            if data[end : end + 1] != self._delimiter:
                return _ended(buffer, fields, end)
            at = end + 1

    def _unusual_rows(self, buffer: Buffer) -> _Rows:
        starts: list[int] = []
        spans: list[tuple[tuple[int, int], tuple[int, int]]] = []
        wrong: dict[int, str] = {}
        at = buffer.at
        while at < len(buffer.data) and (row := self._row(buffer, at)):
            if row.fields != [(at, at)]:
                if fault := self._fault(row):
                    wrong[len(starts)] = fault
                starts.append(at)
                spans.append(self._spans(row, at) if not fault else ((at, at), (at, at)))
            at = row.end
        data = buffer.data
        ids = [_id_of(data, own) for own, _ in spans]
        authors = [_id_of(data, author) for _, author in spans]
        return _Rows(np.array(starts, np.int64), _array(ids), _array(authors), wrong, at)

    def _spans(self, row: _Row, at: int) -> tuple[tuple[int, int], tuple[int, int]]:
        return row.fields[self._id], (at, at) if self._author is None else row.fields[self._author]

    def _cut(self, buffer: Buffer) -> _Cut | None:
        """Cut all rows at once; None if quotes or returns stand where this cannot tell what they are."""
        text = np.frombuffer(buffer.data, np.uint8)[buffer.at :]
        is_quote = text == _QUOTE
        outside: NDArray[np.bool_] | None = None
        if is_quote.any():
            outside = np.bitwise_xor.accumulate(is_quote.view(np.uint8)) == 0
        breaks = _places(text, _LF, outside)
        end = len(text) if buffer.is_final else int(breaks[-1]) + 1 if len(breaks) else 0
        if outside is not None:
            if buffer.is_final and not outside[-1]:
                return None
            if not _are_around_fields(text[:end], is_quote[:end], outside[:end], self._delimiter[0]):
                return None
        returns = _places(text[:end], _CR, outside)
        if len(returns) and (returns[-1] + 1 == len(text) or (text[returns + 1] != _LF).any()):
            return None
        ends = breaks if not end or (len(breaks) and breaks[-1] + 1 == end) else np.append(breaks, end)
        starts = np.concatenate([[0], breaks + 1])[: len(ends)]
        if len(returns):
            has_return = (ends > starts) & (text[ends - 1] == _CR)
            ends = ends - has_return
        is_blank = starts == ends
        starts, ends = starts[~is_blank] + buffer.at, ends[~is_blank] + buffer.at
        return _Cut(starts, ends, _places(text, self._delimiter[0], outside) + buffer.at, end + buffer.at)

    def _usual_rows(self, data: bytes, cut: _Cut) -> _Rows:
        text = np.frombuffer(data, np.uint8)
        first = np.searchsorted(cut.delimiters, cut.starts)
        fields = np.searchsorted(cut.delimiters, cut.ends) - first + 1
        is_whole = fields == len(self._names)
        ids = self._ids_in(text, cut, first, is_whole, self._id)
        authors = self._ids_in(text, cut, first, is_whole, self._author)
        wrong = {
            row: f"{fields[row]} fields under {len(self._names)} names"
            for row in np.flatnonzero(~is_whole)[:MAX_SHOWN].tolist()
        }
        return _Rows(cut.starts, ids, authors, wrong, cut.end)

    def _ids_in(
        self,
        text: NDArray[np.uint8],
        cut: _Cut,
        first: NDArray[np.int64],
        is_whole: NDArray[np.bool_],
        column: int | None,
    ) -> NDArray[np.int64]:
        """Ids in a column; of each row is known the place of its first delimiter, and whether it is whole."""
        ids = np.full(len(cut.starts), -1, np.int64)
        if column is None:
            return ids
        before = first[is_whole] + column - 1
        starts = cut.delimiters[before] + 1 if column else cut.starts[is_whole]
        is_last = column == len(self._names) - 1
        ends = cut.ends[is_whole] if is_last else cut.delimiters[before + 1]
        is_quoted = ends - starts >= 2
        is_quoted[is_quoted] = text[starts[is_quoted]] == _QUOTE
        ids[is_whole] = ids_at(text, starts + is_quoted, ends - is_quoted)
        return ids


def _ended(buffer: Buffer, fields: list[tuple[int, int]], end: int) -> _Row | None:
    """The row whose last field ends there; what follows has to be the end of its line."""
    data = buffer.data
    line_end = _END_OF_LINE.match(data, end)
    if line_end and (buffer.is_final or data[line_end.end() - 1] == _LF):
        return _Row(fields, line_end.end())
    after = data.find(b"\n", end) + 1
    if not after and not buffer.is_final:
        return None
    what = "a carriage return inside" if data[end] == _CR else "text behind a closing quote"
    return _Row([], after or len(data), what)


def _places(text: NDArray[np.uint8], character: int, outside: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Where a character stands outside of quotes."""
    found = np.flatnonzero(text == character)
    return found if outside is None else found[outside[found]]


def _are_around_fields(
    text: NDArray[np.uint8], is_quote: NDArray[np.bool_], outside: NDArray[np.bool_], delimiter: int
) -> bool:
    """Whether each quote is at the start or the end of a field, or beside another one."""
    quotes = np.flatnonzero(is_quote)
    is_closing = outside[quotes]
    before = text[quotes[~is_closing] - 1]
    opens = (before == delimiter) | (before == _LF) | (before == _QUOTE)
    opens |= quotes[~is_closing] == 0
    closing = quotes[is_closing]
    after = text[np.minimum(closing + 1, len(text) - 1)]
    closes = (after == delimiter) | (after == _LF) | (after == _QUOTE) | (after == _CR)
    closes |= closing == len(text) - 1
    return bool(opens.all() and closes.all())


def _value(data: bytes, field: tuple[int, int]) -> bytes:
    raw = data[slice(*field)]
    return raw[1:-1].replace(b'""', b'"') if raw.startswith(b'"') else raw


def _id_of(data: bytes, field: tuple[int, int]) -> int | None:
    value = _value(data, field)
    return int(value) if is_id(value) else None


def _array(ids: list[int | None]) -> NDArray[np.int64]:
    return np.array([-1 if number is None else number for number in ids], np.int64)


def _count(counts: Counts, fate: Fate, *, has_location: bool) -> None:
    for decision, happens in ((fate.leaves, bool(fate.leaves.effect)), (fate.scrubbed, has_location)):
        if happens:
            counts.kinds[decision.kind] += 1
    counts.removed += fate.leaves.effect == Effect.REMOVE
    counts.quarantined += fate.leaves.effect == Effect.FETCH_AGAIN
    counts.scrubbed += has_location and not fate.leaves.effect
