"""
Events applied to a table of a SQL database: by sets, and in one transaction.

Events are staged beside the table, in columns of its own types: so ids stay as exact as they are there, and
its indexes serve. Then a handful of statements count, remove, move and scrub; either all of it is committed,
or nothing.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import chain
from textwrap import shorten
from typing import Any, Literal, NamedTuple

from airflow_provider_xcompliance import storage
from airflow_provider_xcompliance.archive.events import (
    EFFECTS,
    NO_POLICY,
    Effect,
    Event,
    Policy,
    effect_of,
    read_events,
)
from airflow_provider_xcompliance.archive.formats import Columns
from airflow_provider_xcompliance.archive.guards import JobType, Limits
from airflow_provider_xcompliance.archive.ids import MAX_ID
from airflow_provider_xcompliance.results import Hashed, InvalidResultError, Landed

log = logging.getLogger(__name__)

Shape = Literal["posts", "users"]

#: A result's job type, and its events.
Source = tuple[JobType, Iterable[Sequence[Event]]]

_SUFFIX = "_quarantine"
_MAX_NAME_BYTES = 63

# What PEP 249 calls the errors that the same statements would meet again. Its classes are each driver's own.
_FINAL = {"DataError", "IntegrityError", "NotSupportedError", "ProgrammingError"}

# Where drivers keep an error's SQLSTATE, and SQLite's what it has instead.
_STATES = ("sqlstate", "pgcode", "sqlite_errorname")

# What they hold if there is no such table: of PostgreSQL (two), ODBC, and Snowflake (two).
_NO_SUCH_TABLE = {"42P01", "3F000", "42S02", "02000"}

# What else such an error begins with: with its SQLSTATE through pyodbc, with its number through most drivers
# of MySQL, and in SQLite, which has one name for many errors, with these words.
_MISSING = re.compile(r"42S02\Z|1146\Z|no such table: ")

# The classes of SQLSTATE whose errors are about the names in a statement, not about what rows hold.
_ABOUT_NAMES = ("42", "3F")

_SHOWN_STATEMENT = 80

# A weight is an effect, and the number of a kind below: the heaviest event of an id has the strongest effect.
_EFFECT = 1_000_000


class TableError(ValueError):
    """The table, or what is to be done with it, rules itself out; nothing was written."""


class TableChangedError(RuntimeError):
    """Rows that are to go were written or removed by somebody else meanwhile; nothing was written by us."""


class DatabaseFailedError(RuntimeError):
    """A statement failed, and may not the next time: a lost connection, a lock, a deadlock."""


@dataclass(frozen=True)
class Dialect:
    """
    How a driver wants statements to be written.

    :param placeholder: of a parameter
    :param quoted: how a name is quoted
    :param statistics: what tells the database how many events are staged, if it has to be told
    :param moves: whether one statement may both delete rows and insert them elsewhere
    """

    placeholder: str = "%s"
    quoted: str = '"{}"'
    statistics: str = ""
    moves: bool = False

    def quote(self, name: str) -> str:
        """Quote a name as it is, whatever is in it."""
        end = self.quoted[-1]
        return self.quoted.format(name.replace(end, 2 * end))

    def require_name(self, table: str) -> str:
        """
        Return the name of a table, if it is written as in SQL: plain or quoted, behind its schema's or alone.

        :raises TableError: if it is anything else
        """
        start, end = map(re.escape, (self.quoted[0], self.quoted[-1]))
        part = rf"(?:[^\W\d][\w$]*|{start}(?:[^{end}\\\x00-\x1f]|{end}{end})+{end})"
        if not re.fullmatch(rf"{part}(?:\.{part}){{0,2}}", table):
            raise TableError(
                f"{table[:80]!r} is no name of a table; write it as in SQL, as schema.table, or as "
                f"{self.quote('odd name')}"
            )
        return table

    def name_beside(self, table: str) -> str:
        """Return the name of a table's quarantine, if no other is given."""
        end = self.quoted[-1]
        name = f"{table[:-1]}{_SUFFIX}{end}" if table.endswith(end) else f"{table}{_SUFFIX}"
        # Longer ones are cut by PostgreSQL, to what may well be the table's own.
        if len(name.rpartition(".")[2].encode()) > _MAX_NAME_BYTES:
            raise TableError(f"{table}: its name is too long for one with {_SUFFIX}; give quarantine_table=")
        return name


@dataclass(frozen=True)
class Table:
    """
    A table of posts, or of users.

    :param name: as it is written in SQL
    :param columns: by their names, without quotes
    :param shape: what its rows are
    :param quarantine: where rows go that have to be fetched again (default: its name and ``_quarantine``);
        without a unique id, because an edited post may come twice
    """

    name: str
    columns: Columns
    shape: Shape = "posts"
    quarantine: str | None = None

    @property
    def keys(self) -> dict[JobType, str]:
        """Job type → the column that holds the ids which its events are about."""
        if self.shape == "users":
            return {"users": self.columns.id}
        authors: dict[JobType, str] = {"users": self.columns.author} if self.columns.author else {}
        return {"tweets": self.columns.id, **authors}

    def require_key(self, job_type: JobType) -> None:
        """
        Refuse events that cannot be applied, instead of leaving them out.

        :raises TableError: if no column holds such ids
        """
        if job_type not in self.keys:
            remedy = "name it in columns=" if self.shape == "posts" else "give events of users alone"
            raise TableError(
                f"{self.name}: there are events of {job_type}, but no column holds such ids; {remedy}"
            )


ANSI = Dialect()

#: The name of a dialect, as common-sql has it → what is peculiar to it. Without statistics, PostgreSQL may
#: read all of a large table for a few events; and between two statements, it lets others change a row.
DIALECTS = {"postgresql": Dialect(statistics="ANALYZE {}", moves=True)}

DEFAULT_LIMITS = Limits()


def verified_events(landed: Landed, client: Any = None) -> Iterator[list[Event]]:
    """
    Read a result that was found to be whole once more, to apply it.

    :raises InvalidResultError: at the end, if it is not what it was
    :raises StorageError: if the store fails
    """
    with storage.open_source(landed.uri, client) as file:
        hashed = Hashed(file)
        yield from read_events(hashed, landed.result.name)
    if hashed.digest.sha256 != landed.sha256:
        raise InvalidResultError(
            f"{landed.result.name}: it was replaced while it was applied; nothing was written"
        )


def redact_table(
    connection: Any,
    table: Table,
    sources: Iterable[Source],
    *,
    policy: Policy = NO_POLICY,
    limits: Limits = DEFAULT_LIMITS,
    dry_run: bool = False,
    dialect: Dialect = ANSI,
    insert_rows: int = 1000,
) -> dict[str, Any]:
    """
    Apply events to a table.

    :param connection: to its database: of DB-API 2, not in autocommit mode; what is done is committed
    :param sources: the events of each result; none is read to its end before it is staged
    :param policy: what is done instead about some actions and reasons
    :param limits: of these, ``max_removal_ratio`` and ``max_change_ratio`` (of the table's rows) and
        ``max_removals`` are asked
    :param dry_run: count alone; nothing is written then
    :param insert_rows: how many events are staged with one statement
    :return: the report: see :class:`..operators.tables.RedactTableOperator`
    :raises TableError: if the table, the limits or the database say no
    :raises TableChangedError: if others wrote the same rows
    :raises DatabaseFailedError: if a statement failed, and another try may succeed
    """
    started = time.monotonic()
    database = _Database(connection, table.name, dialect)
    redaction = _Redaction(database, table, policy)
    for job_type, batches in sources:
        table.require_key(job_type)
        redaction.stage(job_type, batches, insert_rows)
    report = redaction.run(limits, dry_run)
    if dry_run:
        database.rollback()
    else:
        database.commit()
    return report | {"dry_run": dry_run, "seconds": round(time.monotonic() - started, 3)}


class _Database:
    """A connection, and what its driver and its database leave open."""

    def __init__(self, connection: Any, name: str, dialect: Dialect) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._name = name
        self.dialect = dialect

    def run(self, statement: str, parameters: Sequence[object] = (), why: str = "") -> int:
        """Return how many rows it wrote."""
        with self._failures(statement, why):
            # Without parameters, a percent sign in a name is nothing but that.
            self._cursor.execute(statement, *([parameters] if parameters else []))
            return int(self._cursor.rowcount)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return what it selects; connections may be set to return dicts."""
        with self._failures(statement):
            self._cursor.execute(statement)
            found = self._cursor.fetchall()
        return [tuple(row.values() if isinstance(row, Mapping) else row) for row in found]

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns, as they are."""
        statement = _nothing_of(table)
        with self._failures(statement):
            return self._columns(statement)

    def columns_if_any(self, table: str) -> list[str] | None:
        """Return the same; None if there is no such table. To be asked before anything is written."""
        statement = _nothing_of(table)
        with self._failures(statement, f"whether there is a table {table} is not certain; if not, make it"):
            try:
                return self._columns(statement)
            except Exception as error:
                # One that is locked, or must not be read, is there, and may hold what has to go.
                if not _is_missing(error):
                    raise
                log.info("%s: taken as missing: %s", table, _told(error))
        self.rollback()
        return None

    def _columns(self, statement: str) -> list[str]:
        self._cursor.execute(statement)
        return [column[0] for column in self._cursor.description]

    def commit(self) -> None:
        """Make what was written so far last."""
        with self._failures("COMMIT"):
            self._connection.commit()

    def rollback(self) -> None:
        """Take back what was written so far."""
        with self._failures("ROLLBACK"):
            self._connection.rollback()

    @contextmanager
    def _failures(self, statement: str, why: str = "") -> Iterator[None]:
        """Tell what no other try would change from what passes, in words that hold nothing of a row."""
        try:
            yield
        except Exception as error:
            names = {each.__name__ for each in type(error).__mro__}
            if "Error" not in names:
                raise
            what = f"{_told(error)}, at {shorten(statement, _SHOWN_STATEMENT, placeholder=' …')}"
            if _FINAL.isdisjoint(names):
                raise DatabaseFailedError(
                    f"{self._name}: the database failed: {what}; another try may succeed"
                ) from None
            raise TableError(
                f"{self._name}: {why or 'the database refuses'}: {what}; nothing was written"
            ) from None


def _nothing_of(table: str) -> str:
    # The name was required to be one.
    return f"SELECT * FROM {table} WHERE 1 = 0"  # noqa: S608


def _state(error: Exception) -> str | None:
    return next((str(state) for each in _STATES if (state := getattr(error, each, None))), None)


def _is_missing(error: Exception) -> bool:
    """Whether an error says that there is no such table, and nothing else."""
    return _state(error) in _NO_SUCH_TABLE or bool(_MISSING.match(str(next(iter(error.args), ""))))


def _told(error: Exception) -> str:
    """Tell what may be logged of an error: its kind, and names. Its message may quote a row."""
    state = _state(error) or ""
    kind = f"{type(error).__name__} ({state})" if state else type(error).__name__
    diagnosis = getattr(error, "diag", None)
    if getattr(diagnosis, "context", None):
        # A function of the database raised it, and what it says is its own affair.
        return kind
    if state.startswith(_ABOUT_NAMES):
        first_line = str(error).partition("\n")[0]
        return f"{kind}: {first_line}"
    name = getattr(diagnosis, "constraint_name", None) or getattr(diagnosis, "column_name", None)
    return f"{kind}: {name}" if name else kind


class _Target(NamedTuple):
    """
    A table that events are applied to.

    :param name: in SQL, like all that follows
    :param columns: all that it has
    :param keys: job type → the column with the ids
    :param geo: columns with locations
    """

    name: str
    columns: list[str]
    keys: dict[JobType, str]
    geo: list[str]

    @classmethod
    def of(cls, table: Table, name: str, names: Sequence[str], dialect: Dialect) -> _Target:
        """
        Find the columns among a table's.

        :raises TableError: if one is missing
        """

        def find(column: str) -> str:
            # As it is, or else as SQL takes names that are not quoted.
            found = [each for each in names if each == column] or [
                each for each in names if each.casefold() == column.casefold()
            ]
            if len(found) != 1:
                raise TableError(f"{name}: there is no column {column!r} among {', '.join(map(repr, names))}")
            return dialect.quote(found[0])

        return cls(
            name=name,
            columns=[dialect.quote(each) for each in names],
            keys={job_type: find(column) for job_type, column in table.keys.items()},
            geo=[find(column) for column in table.columns.geo],
        )

    def located(self, prefix: str = "") -> str:
        """The condition that a row has a location."""
        # Of a composite type, IS NOT NULL would ask for all of its fields.
        return " OR ".join(f"NOT ({prefix}{column} IS NULL)" for column in self.geo) or "1 = 0"


class _Plan:
    """
    How many rows of a table are affected.

    :param rows: of each effect and kind, how many
    """

    def __init__(self, rows: Mapping[tuple[Effect, str], int]) -> None:
        self.kinds: Counter[str] = Counter()
        self.effects: Counter[Effect] = Counter()
        for (effect, kind), number in rows.items():
            self.effects[effect] += number
            self.kinds[kind] += number

    @property
    def removed(self) -> int:
        return self.effects[Effect.REMOVE]

    @property
    def changed(self) -> int:
        return self.effects[Effect.FETCH_AGAIN] + self.effects[Effect.SCRUB_LOCATION]

    def log(self, name: str) -> None:
        log.info(
            "%s: rows to remove: %s, to quarantine: %s, to take the location from: %s",
            name,
            *(f"{self.effects[effect]:,}" for effect in sorted(_VERBS, reverse=True)),
        )
        for kind, number in sorted(self.kinds.items()):
            log.info("%s: %s rows because of %s", name, f"{number:,}", kind)


class _Redaction:
    """The statements that apply the events of some results to a table and to its quarantine."""

    def __init__(self, database: _Database, table: Table, policy: Policy) -> None:
        dialect = database.dialect
        name = dialect.require_name(table.name)
        quarantine = dialect.require_name(table.quarantine or dialect.name_beside(name))
        if quarantine.casefold() == name.casefold():
            raise TableError(f"{name}: it is no quarantine of itself; name another quarantine_table=")
        there = database.columns_if_any(quarantine)
        self._database = database
        self._policy = policy
        self._target = _Target.of(table, name, database.columns(name), dialect)
        self._quarantine = quarantine
        self._quarantined = _Target.of(table, quarantine, there, dialect) if there is not None else None
        # Nobody else has such tables, not even whoever had this connection before.
        self._prefix = f"xcompliance_{secrets.token_hex(4)}"
        self._stages: dict[JobType, str] = {}
        self._temporary: list[str] = []
        self._weights: dict[tuple[str, str], int] = {}
        self._kinds: list[str] = []
        self._unknown: Counter[str] = Counter()

    def stage(self, job_type: JobType, batches: Iterable[Sequence[Event]], insert_rows: int) -> None:
        """Write what is done about each id into a temporary table."""
        stage = self._stages.get(job_type) or self._make_stage(job_type)
        row = f"({self._database.dialect.placeholder}, {self._database.dialect.placeholder})"
        staged = 0
        for events in batches:
            rows = [(event.id, weight) for event in events if (weight := self._weight_of(event))]
            for start in range(0, len(rows), insert_rows):
                some = rows[start : start + insert_rows]
                values = ", ".join([row] * len(some))
                # Names of our own; ids are parameters.
                self._database.run(f"INSERT INTO {stage} (id, weight) VALUES {values}", [*chain(*some)])  # noqa: S608
            staged += len(rows)
        log.info("staged %s events of %s", f"{staged:,}", job_type)

    def run(self, limits: Limits, dry_run: bool) -> dict[str, Any]:
        """Count, judge and apply; then in the quarantine too, whose rows are stored posts like others."""
        decided = self._decide("1 = 1")
        plan = self._plan(self._target, decided)
        records = self._judge(plan, limits)
        if not dry_run:
            self._apply(self._target, decided, plan)
        in_quarantine = self._run_in_quarantine(dry_run)
        for name in reversed(self._temporary):
            self._database.run(f"DROP TABLE {name}")
        moved = plan.effects[Effect.FETCH_AGAIN]
        return {
            "records": records,
            "removed": plan.removed,
            "quarantined": moved,
            "scrubbed": plan.effects[Effect.SCRUB_LOCATION],
            "kept": None if records is None else records - plan.removed - moved,
            "kinds": dict(sorted(plan.kinds.items())),
            "unknown": dict(sorted(self._unknown.items())),
            "quarantine": {
                "table": self._quarantine,
                "removed": in_quarantine.removed,
                "scrubbed": in_quarantine.effects[Effect.SCRUB_LOCATION],
            },
            "refetch": self._quarantine if moved else None,
        }

    def _run_in_quarantine(self, dry_run: bool) -> _Plan:
        if self._quarantined is None:
            return _Plan({})
        # What has to be fetched again is there already.
        again, remove = _EFFECT * Effect.FETCH_AGAIN, _EFFECT * Effect.REMOVE
        decided = self._decide(f"weight < {again} OR weight >= {remove}")
        plan = self._plan(self._quarantined, decided)
        if not dry_run:
            self._apply(self._quarantined, decided, plan)
        return plan

    def _weight_of(self, event: Event) -> int:
        if not event.action:
            return 0
        kind = (event.action, str(event.reason))
        if kind not in self._weights:
            self._kinds.append("/".join(kind))
            self._weights[kind] = _EFFECT * effect_of(*kind, self._policy)
            self._weights[kind] += len(self._kinds) - 1 if self._weights[kind] else 0
        if event.action not in EFFECTS and "/".join(kind) not in self._policy:
            self._unknown["/".join(kind)] += 1
        return self._weights[kind]

    def _create(self, name: str, select: str) -> str:
        self._database.run(f"CREATE TEMPORARY TABLE {name} AS {select}")
        self._temporary.append(name)
        return name

    def _make_stage(self, job_type: JobType) -> str:
        column = self._target.keys[job_type]
        stage = self._create(
            f"{self._prefix}_{job_type}",
            f"SELECT {column} AS id, 0 AS weight FROM {self._target.name} WHERE 1 = 0",  # noqa: S608
        )
        why = f"its column {column} cannot hold each id of X exactly, up to {MAX_ID}"
        placeholder = self._database.dialect.placeholder
        insert = f"INSERT INTO {stage} (id, weight) VALUES ({placeholder}, 0)"  # noqa: S608
        self._database.run(insert, [str(MAX_ID)], why)
        ((largest,),) = self._database.rows(f"SELECT id FROM {stage}")  # noqa: S608
        if not _is_exact(largest):
            raise TableError(f"{self._target.name}: {why}; make it bigint or text")
        self._database.run(f"DELETE FROM {stage}")  # noqa: S608
        self._stages[job_type] = stage
        return stage

    def _decide(self, condition: str) -> dict[JobType, str]:
        """Make tables of each id once, with its heaviest event."""
        decided = {}
        for job_type, stage in self._stages.items():
            name = self._create(
                f"{stage}_{len(self._temporary)}",
                f"SELECT id, MAX(weight) AS weight FROM {stage} WHERE {condition} GROUP BY id",  # noqa: S608
            )
            if self._database.dialect.statistics:
                self._database.run(self._database.dialect.statistics.format(name))
            decided[job_type] = name
        return decided

    def _plan(self, target: _Target, decided: Mapping[JobType, str]) -> _Plan:
        rows: Counter[tuple[Effect, str]] = Counter()
        left = 0
        if decided:
            # Some drivers return decimals.
            for weight, number, located in (
                map(int, row) for row in self._database.rows(_plan_of(target, decided))
            ):
                effect = Effect(weight // _EFFECT)
                affected = located if effect is Effect.SCRUB_LOCATION else number
                if affected:
                    rows[effect, self._kinds[weight % _EFFECT]] += affected
                left += number if effect is Effect.SCRUB_LOCATION and not target.geo else 0
        if left:
            log.warning(
                "%s: the location of %s rows has to go, but nothing is done, because columns= names none of "
                "geo; name them, or say keep in policy=",
                target.name,
                f"{left:,}",
            )
        plan = _Plan(rows)
        plan.log(target.name)
        return plan

    def _judge(self, plan: _Plan, limits: Limits) -> int | None:
        """
        Stop before anything is written, if too much would go.

        :return: how many rows the table has; None if nobody has to know
        """
        name = self._target.name
        if limits.max_removals is not None and plan.removed > limits.max_removals:
            raise TableError(
                f"No go, nothing was written: {name}: {plan.removed:,} rows to remove are more than "
                f"max_removals={limits.max_removals}; if that is right, raise it"
            )
        shares = [
            (plan.removed, "remove", "max_removal_ratio", limits.max_removal_ratio),
            (plan.changed, "move or scrub", "max_change_ratio", limits.max_change_ratio),
        ]
        if not any(number and limit is not None for number, _, _, limit in shares):
            return None
        ((records,),) = self._database.rows(f"SELECT COUNT(*) FROM {name}")  # noqa: S608
        for number, what, called, limit in shares:
            share = number / max(records, 1)
            if limit is not None and share > limit:
                raise TableError(
                    f"No go, nothing was written: {name}: {number:,} rows to {what} of {records:,} are "
                    f"{share:.4%}, more than {called}={limit}; if that is right, as it can be on a first "
                    "run, raise it, or give None"
                )
        return int(records)

    def _apply(self, target: _Target, decided: Mapping[JobType, str], plan: _Plan) -> None:
        """Strongest first: what is gone then needs no condition in the statements for the weaker ones."""
        for effect in sorted(_VERBS, reverse=True):
            if not (planned := plan.effects[effect]):
                continue
            for written, expected in self._written(effect, target, decided, planned):
                if written < 0:
                    raise TableError(
                        f"{target.name}: its driver does not tell how many rows a statement writes, so "
                        "nothing proves that they are the ones that were judged; nothing was written"
                    )
                if written != expected:
                    raise TableChangedError(
                        f"{target.name}: {planned:,} rows were to be {_VERBS[effect]}, but it became "
                        f"{planned - expected + written:,}: somebody else writes them at the same time; "
                        "nothing was written"
                    )
            log.info("%s: %s rows %s", target.name, f"{planned:,}", _VERBS[effect])

    def _written(
        self, effect: Effect, target: _Target, decided: Mapping[JobType, str], planned: int
    ) -> Iterator[tuple[int, int]]:
        """Write, and return how many rows each of the steps has written, and how many it should have."""
        conditions = [
            f"{target.keys[job_type]} IN (SELECT id FROM {name} WHERE weight >= {_EFFECT * effect})"  # noqa: S608
            for job_type, name in decided.items()
        ]
        totals: Counter[tuple[int, int]] = Counter()
        for condition in conditions:
            for step, (statement, share) in enumerate(self._statements(effect, target, condition).items()):
                totals[step, share] += self._database.run(statement)
        yield from ((written, share * planned) for (_, share), written in totals.items())

    def _statements(self, effect: Effect, target: _Target, condition: str) -> dict[str, int]:
        """Return the statements, and whether each has to write all of the rows (1), or none (0)."""
        delete = f"DELETE FROM {target.name} WHERE {condition}"  # noqa: S608
        if effect is Effect.REMOVE:
            return {delete: 1}
        if effect is Effect.FETCH_AGAIN:
            columns = ", ".join(target.columns)
            into = f"INSERT INTO {self._require_quarantine(target)} ({columns}) SELECT {columns} FROM"
            if not self._database.dialect.moves:
                return {f"{into} {target.name} WHERE {condition}": 1, delete: 1}
            moved = f"{self._prefix}_moved"
            # What is still there then, is new; or the quarantine is the table by another name.
            return {f"WITH {moved} AS ({delete} RETURNING {columns}) {into} {moved}": 1, delete: 0}
        emptied = ", ".join(f"{column} = NULL" for column in target.geo)
        return {f"UPDATE {target.name} SET {emptied} WHERE {condition} AND ({target.located()})": 1}  # noqa: S608

    def _require_quarantine(self, target: _Target) -> str:
        if self._quarantined is None:
            self._make_quarantine(target)
            self._quarantined = target._replace(name=self._quarantine)
        return self._quarantine

    def _make_quarantine(self, target: _Target) -> None:
        try:
            self._database.run(f"CREATE TABLE {self._quarantine} AS SELECT * FROM {target.name} WHERE 1 = 0")  # noqa: S608
        except Exception:
            self._database.rollback()
            if self._database.columns_if_any(self._quarantine) is None:
                raise
            raise TableChangedError(
                f"{self._quarantine}: somebody else made it meanwhile; nothing was written"
            ) from None


#: What is done with rows, as the log and errors call it.
_VERBS = {
    Effect.REMOVE: "removed",
    Effect.FETCH_AGAIN: "quarantined",
    Effect.SCRUB_LOCATION: "relieved of their location",
}


def _is_exact(largest: object) -> bool:
    try:
        return Decimal(str(largest)) == MAX_ID
    except InvalidOperation:
        return False


def _plan_of(target: _Target, decided: Mapping[JobType, str]) -> str:
    """
    Count the rows that events are about by their heaviest one, and those of them that have a location.

    Each table of events is joined by itself, so that an index on its column can serve.
    """
    located = f"CASE WHEN {target.located('t.')} THEN 1 ELSE 0 END AS located"
    on = [(name, f"t.{target.keys[job_type]} = ") for job_type, name in decided.items()]
    (first, is_first), *others = on
    start = f"FROM {target.name} t JOIN"
    hits = [f"SELECT a.weight AS weight, {located} {start} {first} a ON {is_first}a.id"]
    for other, is_other in others:
        heavier = "CASE WHEN b.weight > a.weight THEN b.weight ELSE a.weight END AS weight"
        hits = [
            f"SELECT {heavier}, {located} {start} {first} a ON {is_first}a.id "
            f"LEFT JOIN {other} b ON {is_other}b.id",
            f"SELECT b.weight AS weight, {located} {start} {other} b ON {is_other}b.id "
            f"LEFT JOIN {first} a ON {is_first}a.id WHERE a.id IS NULL",
        ]
    return f"SELECT weight, COUNT(*), SUM(located) FROM ({' UNION ALL '.join(hits)}) hits GROUP BY weight"  # noqa: S608
