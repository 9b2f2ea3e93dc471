"""What events mean for a table of a SQL database, or warehouse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowOptionalProviderFeatureException,
    BaseHook,
    BaseOperator,
    Context,
)

from airflow_provider_xcompliance.archive.events import parse_policy
from airflow_provider_xcompliance.archive.formats import Columns
from airflow_provider_xcompliance.archive.guards import Limits
from airflow_provider_xcompliance.arguments import arguments_of
from airflow_provider_xcompliance.failures import failing_at_once
from airflow_provider_xcompliance.hooks.object_storage import get_storage_client
from airflow_provider_xcompliance.results import InvalidResultError, Landed, find_results, read_landed
from airflow_provider_xcompliance.tables import (
    ANSI,
    DIALECTS,
    Shape,
    Table,
    TableError,
    redact_table,
    verified_events,
)

# PostgreSQL takes 65,535 parameters, of which an event is two.
InsertRows = Annotated[int, msgspec.Meta(ge=1, le=32_767)]


class _Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    author: str | None = None
    geo: tuple[str, ...] = ()


class _Settings(msgspec.Struct, frozen=True):
    """What the operator was given, rendered and checked."""

    table: str
    columns: _Columns
    shape: Shape
    policy: dict[str, str] | None
    is_dry_run: bool
    quarantine_table: str | None
    insert_rows: InsertRows


class RedactTableOperator(BaseOperator):
    """
    Apply events to a table of a SQL database, in one transaction: all of them, or none.

    A post's row is removed if its id has to go, or its author; moved to the quarantine table if the post has
    to be fetched again; and loses what its columns of locations hold if that has to go. Of several, the
    strongest counts. The work is done by the database, by sets; its indexes on the columns of ids serve.
    Applying the same events again changes nothing.

    The quarantine table is made like the table, without its constraints, when the first row moves there. It
    holds what has to be fetched again, and is redacted with the table, as stored posts are everywhere; its
    rows do not count for the limits.

    Each result is read through first, and must be the one that was landed; what is applied must be what was
    read. The limits are asked of what is there, before anything is written. A no go, and all that another try
    would not change, fails the task at once.

    Events of an action that is not known change nothing. The others are applied and committed; then the task
    fails and names them, unless the policy does.

    It runs SQL that many databases have in common. They need transactions that take back the making of a
    table, ``CREATE TEMPORARY TABLE … AS`` and the right to it, and a driver that tells how many rows a
    statement wrote, and by SQLSTATE or MySQL's number that a table is missing; else make the quarantine table
    first. Snowflake does not tell a table that is missing from one that must not be read: give it the right.
    Tested are PostgreSQL with psycopg 2 and 3, and SQLite. What the database says of a failure may quote a
    row: but for missing names and rights, errors name its kind and the statement alone.

    Where others add or remove the same rows in the same seconds, nothing is written, and the task may be
    tried again. A row that others rewrite meanwhile goes, or moves, as they left it: in PostgreSQL copy and
    removal are one statement, and in SQLite others wait. In other databases they are two, and what is
    rewritten between them is lost, unless the isolation that is set there keeps others from it.

    :param sql_conn_id: connection of the database, of a type whose hook comes with common-sql
    :param table: its name as it is written in SQL: ``posts``, ``archive.posts``, ``"Odd name"``
    :param columns: ``Columns``, or a dict of ``id``, ``author`` (default: none) and ``geo`` (default: none),
        which may be empty (NULL): by their names, without quotes. Columns of ids may be integers of 64 bits
        or text, of a declared type. Ids in text have to be plain decimals, as X writes them: with a blank or
        a leading zero, they are never hit. Without ``author``, results of users are refused; without
        ``geo``, locations stay, and a warning tells of how many rows
    :param events: URIs or paths of the events, or what DownloadOperator and RunJobOperator return, of posts
        and of users; or lists of either
    :param events_conn_id: connection of their store (default: the store library's own credentials)
    :param shape: what a row is: ``posts``, or ``users``, which takes results of users alone (default: posts)
    :param policy: ``action/reason`` → ``remove``, ``quarantine``, ``scrub`` or ``keep``, whatever is done
        about it otherwise (default: none). Other than in files, ``quarantine`` serves for users too: all
        posts of theirs move, or in a table of users their own rows
    :param dry_run: count and judge alone; nothing is written (default: no)
    :param max_removal_ratio: the most rows to remove ÷ rows of the table (default: 0.05; None: no limit)
    :param max_removals: the most rows to remove (default: no limit)
    :param max_change_ratio: the most rows to move to the quarantine or to relieve of their location ÷ rows of
        the table (default: 0.05; None: no limit)
    :param quarantine_table: another name for the quarantine table (default: the table's, and
        ``_quarantine``). If you make it yourself, give it no unique id: a post that was edited, fetched again
        and edited once more comes a second time
    :param insert_rows: how many events one statement hands over (default: 1000)
    :return: the report, as XCom: records (None if nobody had to count them), removed, quarantined, scrubbed,
        kept, ``kinds`` (``action/reason`` → rows), ``unknown`` (``action/reason`` → events), what was done in
        the ``quarantine``, ``refetch`` (the table that holds the rows to fetch again, if there are new ones),
        seconds, dry_run
    """

    template_fields: Sequence[str] = (
        "sql_conn_id",
        "table",
        "columns",
        "events",
        "events_conn_id",
        "shape",
        "policy",
        "is_dry_run",
        "max_removal_ratio",
        "max_removals",
        "max_change_ratio",
        "quarantine_table",
        "insert_rows",
    )
    ui_color = "#e8f5fd"

    def __init__(
        self,
        *,
        sql_conn_id: str,
        table: str,
        columns: Columns | Mapping[str, Any],
        events: Any,
        events_conn_id: str | None = None,
        shape: Shape = "posts",
        policy: Mapping[str, str] | None = None,
        dry_run: bool = False,
        max_removal_ratio: float | None = 0.05,
        max_removals: int | None = None,
        max_change_ratio: float | None = 0.05,
        quarantine_table: str | None = None,
        insert_rows: int = 1000,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql_conn_id = sql_conn_id
        self.table = table
        self.columns = columns
        self.events = events
        self.events_conn_id = events_conn_id
        self.shape = shape
        self.policy = policy
        # Operators have a method of the parameter's name.
        self.is_dry_run = dry_run
        self.max_removal_ratio = max_removal_ratio
        self.max_removals = max_removals
        self.max_change_ratio = max_change_ratio
        self.quarantine_table = quarantine_table
        self.insert_rows = insert_rows

    def execute(self, context: Context) -> dict[str, Any]:
        """Verify the results, and apply them."""
        with failing_at_once():
            report = self._redact()
        self.log.info("%s: %s", self.table, report)
        if report["unknown"]:
            done = "counted" if report["dry_run"] else "applied"
            raise AirflowFailException(
                f"{self.table}: there are events of actions that this version does not know "
                f"({', '.join(report['unknown'])}), about which nothing was done; the others are {done}. "
                "Upgrade this package, or name them in policy="
            )
        return report

    def _read(self, table: Table) -> Iterator[tuple[Landed, Any]]:
        """Make sure of all results, and return the clients of their stores too."""
        for reference in find_results(self.events):
            client = get_storage_client(reference.uri, self.events_conn_id)
            landed = read_landed(reference, client)
            table.require_key(landed.result.job_type)
            yield landed, client

    def _redact(self) -> dict[str, Any]:
        settings, limits = arguments_of(self, _Settings), arguments_of(self, Limits)
        policy = parse_policy(settings.policy or {})
        columns = Columns(**msgspec.structs.asdict(settings.columns))
        table = Table(settings.table, columns, settings.shape, settings.quarantine_table)
        results = list(self._read(table))
        if not results:
            raise InvalidResultError("events: there are none; that nothing was checked is no result")
        hook = self._hook()
        with closing(hook.get_conn()) as connection:
            if hook.supports_autocommit:
                hook.set_autocommit(connection, False)
            return redact_table(
                connection,
                table,
                [(landed.result.job_type, verified_events(landed, client)) for landed, client in results],
                policy=policy,
                limits=limits,
                dry_run=settings.is_dry_run,
                dialect=replace(
                    DIALECTS.get(hook.dialect_name, ANSI),
                    placeholder=hook.placeholder,
                    quoted=hook.escape_word_format,
                ),
                insert_rows=settings.insert_rows,
            )

    def _hook(self) -> Any:
        """Return the hook of the database's connection."""
        try:
            from airflow.providers.common.sql.hooks.sql import DbApiHook
        except ImportError:
            raise AirflowOptionalProviderFeatureException(
                f"connection {self.sql_conn_id!r} needs Airflow's provider for SQL, and its database's: pip "
                "install 'airflow-provider-xcompliance[sql]'"
            ) from None
        hook = BaseHook.get_hook(self.sql_conn_id)
        if not isinstance(hook, DbApiHook):
            raise TableError(f"connection {self.sql_conn_id!r} is none of a SQL database")
        return hook
