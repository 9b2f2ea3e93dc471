"""Plain lists of ids, one on each line; blanks around them stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.extras import require
from airflow_provider_xcompliance.archive.formats import Format
from airflow_provider_xcompliance.archive.ids import MAX_SHOWN, is_id
from airflow_provider_xcompliance.archive.index import BadIndexError, Entries, Facts, IndexWriter
from airflow_provider_xcompliance.archive.lines import BOM
from airflow_provider_xcompliance.archive.records import Counts, Decisions
from airflow_provider_xcompliance.archive.text import Buffer, ids_at

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = require("numpy", "archive", "reading archives")

_BLANKS = b" \t\r"
_LF, _CR = b"\n\r"


def read(
    source: IO[bytes],
    fmt: Format,
    name: str,
    index: IndexWriter,
    progress: Callable[[int], object] | None = None,
) -> Facts:
    """
    Read the ids, and write the index; posts of a list have no known author.

    :raises ValueError: if a line is longer than 64 MB
    """
    buffer = Buffer(source, name)
    facts = Facts()
    nothing = Entries(np.empty(0, np.int64), np.empty(0, np.int64))
    line = 1
    while not buffer.is_final:
        done = buffer.more()
        starts, ids = _lines(buffer)
        for number in np.flatnonzero(ids < 0).tolist():
            bare = _bare_line(buffer, int(starts[number]))
            if is_id(bare):
                ids[number] = int(bare)
            elif bare:
                facts.bad += 1
                if len(facts.bad_lines) < MAX_SHOWN:
                    facts.bad_lines.append(f"{name}:{line + number}: no id")
        found = Entries(ids[ids >= 0], starts[ids >= 0] - buffer.at)
        index.add(*((nothing, found) if fmt.shape == "user_ids" else (found, nothing)), buffer.place)
        facts.records += len(found.ids)
        line += len(starts)
        buffer.at = len(buffer.data) if buffer.is_final else buffer.data.rfind(b"\n") + 1
        if progress:
            progress(done)
    facts.bytes = buffer.place
    facts.authorless = 0 if fmt.shape == "user_ids" else facts.records
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
    Write the file anew, without the lines at these places whose ids are to be removed.

    :param quarantine: takes nothing: a list has no content that could be fetched again
    :raises BadIndexError: if at one of the places there is no line with an id
    """
    buffer = Buffer(source, name)
    of_id = decisions.of_user if fmt.shape == "user_ids" else decisions.of_post
    counts = Counts()
    for place in hits.tolist():
        buffer.copy_to(place, sink)
        while _end_of_line(buffer, buffer.at) < 0 and not buffer.is_final:
            buffer.more()
        bare = _bare_line(buffer, buffer.at)
        if not is_id(bare):
            raise BadIndexError(f"{name}: the index is not of this file: no id stands at byte {place:,}")
        decision = of_id(int(bare))
        if decision.effect == Effect.REMOVE:
            counts.removed += 1
            counts.kinds[decision.kind] += 1
            buffer.at = _end_of_line(buffer, buffer.at) + 1 or len(buffer.data)
    buffer.copy_rest(sink)
    return counts


def _lines(buffer: Buffer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the lines at hand begin, and their ids; -1 for what has to be looked at."""
    text = np.frombuffer(buffer.data, np.uint8)
    ends = np.flatnonzero(text == _LF)
    if buffer.is_final and buffer.data and not buffer.data.endswith(b"\n"):
        ends = np.append(ends, len(text))
    starts = np.concatenate([[0], ends + 1])[: len(ends)]
    has_return = ends > starts
    has_return[has_return] = text[ends[has_return] - 1] == _CR
    return starts, ids_at(text, starts, ends - has_return)


def _end_of_line(buffer: Buffer, at: int) -> int:
    return buffer.data.find(b"\n", at)


def _bare_line(buffer: Buffer, at: int) -> bytes:
    end = _end_of_line(buffer, at)
    line = buffer.data[at : end if end >= 0 else None]
    is_first = buffer.place == at == 0
    return (line.removeprefix(BOM) if is_first else line).strip(_BLANKS)
