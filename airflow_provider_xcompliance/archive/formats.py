"""What an archive's file holds, by its name and by what is told about it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from airflow_provider_xcompliance.archive.index import Facts, IndexWriter
    from airflow_provider_xcompliance.archive.records import Counts, Decisions

Kind = Literal["ndjson", "csv", "tsv", "parquet", "ids"]
Compression = Literal["", "gz", "zst"]
_Ending = TypeVar("_Ending", bound=str)

#: What a file's name ends in → what it holds.
KINDS: dict[str, Kind] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "ids",
    ".ids": "ids",
}

#: What may stand behind that, except for Parquet, which is compressed inside.
COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}

#: The shapes that can be told of each kind of file; the first is what a table's rows are without being told.
SHAPES: dict[Kind, tuple[str, ...]] = {
    "ndjson": ("posts", "users", "pages"),
    "csv": ("posts", "users"),
    "tsv": ("posts", "users"),
    "parquet": ("posts", "users"),
    "ids": ("tweet_ids", "user_ids"),
}

_TABLES: frozenset[Kind] = frozenset({"csv", "tsv", "parquet"})

_MODULES: dict[Kind, str] = {
    "ndjson": "ndjson",
    "csv": "delimited",
    "tsv": "delimited",
    "parquet": "parquet",
    "ids": "id_lists",
}


@dataclass(frozen=True)
class Columns:
    """
    The columns of a table that compliance needs.

    :param id: holds the id of each row's post, or user
    :param author: holds the id of the post's author, if there is one
    :param geo: hold locations, and are emptied when they have to go
    """

    id: str
    author: str | None = None
    geo: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """
    How a file is read and written: see :func:`format_of`.

    :param shape: one of :data:`SHAPES`; None: each record of NDJSON shows its own
    :param columns: of a table
    """

    kind: Kind
    compression: Compression = ""
    shape: str | None = None
    columns: Columns | None = None


class FormatModule(Protocol):
    """
    What each module of a format does.

    Sources and sinks are plain: see :mod:`.compression`. A Parquet source can be sought in.
    """

    def read(
        self,
        source: Any,
        fmt: Format,
        name: str,
        index: IndexWriter,
        progress: Callable[[int], object] | None = None,
    ) -> Facts:
        """
        Read a file to its end, and write its index.

        :param name: what bad lines call the file
        :param progress: is called with the number of bytes that were read since it was called last
        """

    def rewrite(
        self,
        source: Any,
        sink: Any,
        fmt: Format,
        name: str,
        hits: NDArray[np.int64],
        decisions: Decisions,
        quarantine: Any = None,
    ) -> Counts:
        """Write the file anew, without what has to go from the records at these positions."""


def format_of(name: str, *, shape: str | None = None, columns: Columns | None = None) -> Format:
    """
    Tell what a file holds.

    What is told of other kinds of files is left out, so that one call serves a mixed archive.

    :param name: the file's name or URI
    :param shape: what its records are: one of :data:`SHAPES`
    :param columns: of a table
    :raises ValueError: if that does not suffice
    """
    if shape is not None and not any(shape in shapes for shapes in SHAPES.values()):
        known = dict.fromkeys(shape for shapes in SHAPES.values() for shape in shapes)
        raise ValueError(f"{name}: there is no shape {shape!r}; give one of {', '.join(known)}")
    plain, compression = _split(name, COMPRESSIONS)
    _, kind = _split(plain, KINDS)
    if kind is None:
        raise ValueError(
            f"{name}: what it holds cannot be told by its name; let it end in one of {', '.join(KINDS)}, and "
            f"{' or '.join(COMPRESSIONS)} behind that if it is compressed"
        )
    if kind == "parquet" and compression:
        raise ValueError(f"{name}: Parquet is compressed inside; take the .{compression} around it off")
    if kind in _TABLES:
        _require_columns(name, shape, columns)
    if kind == "ids" and shape not in SHAPES["ids"]:
        raise ValueError(
            f"{name}: ids do not tell whose they are; give one of the shapes {', '.join(SHAPES['ids'])}"
        )
    return Format(
        kind=kind,
        compression=compression or "",
        shape=shape if shape in SHAPES[kind] else None,
        columns=columns if kind in _TABLES else None,
    )


def module_of(fmt: Format) -> FormatModule:
    """Import the module that reads and writes such files."""
    package = __name__.rpartition(".")[0]
    return cast("FormatModule", import_module(f"{package}.{_MODULES[fmt.kind]}"))


def _require_columns(name: str, shape: str | None, columns: Columns | None) -> None:
    if columns is None:
        raise ValueError(
            f"{name}: each table names its columns as it likes; give columns=Columns(id=…, author=…, geo=(…))"
        )
    if shape == "users" and columns.author is not None:
        raise ValueError(
            f"{name}: users have no author; leave out the shape users, or the column {columns.author!r}"
        )


def _split(name: str, endings: Mapping[str, _Ending]) -> tuple[str, _Ending | None]:
    stem, dot, ending = name.rpartition(".")
    found = endings.get(f"{dot}{ending}".lower())
    return (name, None) if found is None else (stem, found)
