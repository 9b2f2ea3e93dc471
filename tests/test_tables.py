import hashlib
import json
import multiprocessing
import random
import signal
import sqlite3
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
import pytest

from airflow_provider_xcompliance.archive.events import Effect, Event, effect_of, parse_policy
from airflow_provider_xcompliance.archive.formats import Columns
from airflow_provider_xcompliance.archive.guards import Limits
from airflow_provider_xcompliance.archive.ids import MAX_ID
from airflow_provider_xcompliance.results import InvalidResultError, Reference, read_landed
from airflow_provider_xcompliance.retries import is_final
from airflow_provider_xcompliance.tables import (
    ANSI,
    DIALECTS,
    DatabaseFailedError,
    Dialect,
    Table,
    TableChangedError,
    TableError,
    redact_table,
    verified_events,
)
from tests.servers.postgres import Postgres, postgres_server

POSTS = Table("posts", Columns("id", "author", ("geo", "place")))
NO_LIMITS = Limits(max_removal_ratio=None, max_change_ratio=None)

GONE, SUSPENDED = ("delete", "deleted"), ("delete", "suspended")
EDITED, SCRUBBED = ("rehydrate", "tweet_edited"), ("scrub_geo", "geo_scrubbed")
UNKNOWN = ("eat", "hungry")

MAKE_POSTS = "CREATE TABLE posts (id {ids}, author {ids}, text text, geo text, place text)"


@dataclass(frozen=True)
class Database:
    """An empty database, and a driver for it."""

    connect: Callable[[], Any]
    dialect: Dialect = ANSI

    def run(self, *statements: str) -> None:
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    def rows(self, select: str) -> list[tuple[Any, ...]]:
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(select)
            return cursor.fetchall()

    def make_posts(self, *rows: tuple[Any, ...], ids: str = "bigint") -> None:
        """Make the table of posts; what a row leaves out at its end is NULL."""
        mark = self.dialect.placeholder
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(MAKE_POSTS.format(ids=ids))
            insert = f"INSERT INTO posts VALUES ({', '.join([mark] * 5)})"
            for row in rows:
                cursor.execute(insert, [*row, *[None] * (5 - len(row))])
            connection.commit()

    def posts(self, table: str = "posts") -> list[tuple[Any, ...]]:
        return sorted(self.rows(f"SELECT * FROM {table}"), key=repr)

    def redact(self, *sources: Any, table: Table = POSTS, **options: Any) -> dict[str, Any]:
        with closing(self.connect()) as connection:
            return redact_table(
                connection, table, sources, **{"limits": NO_LIMITS, "dialect": self.dialect} | options
            )


def events(job_type: str, kind: tuple[str, str], *ids: Any) -> tuple[str, list[list[Event]]]:
    """A source: one batch of events, all of the same kind."""
    return job_type, [[Event(str(each), *kind) for each in ids]]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def postgres(server: Postgres) -> Database:
    address = server.schema()
    return Database(lambda: psycopg.connect(**address), DIALECTS["postgresql"])


@pytest.fixture
def postgres_of_old(server: Postgres) -> Database:
    address = server.schema()
    return Database(lambda: psycopg2.connect(**address))


@pytest.fixture
def sqlite(tmp_path: Path) -> Database:
    return Database(lambda: sqlite3.connect(tmp_path / "database.sqlite"), Dialect("?"))


#: Runs a test that takes a database with both drivers of PostgreSQL alone.
either_driver = pytest.mark.parametrize("database", ["postgres", "postgres_of_old"], indirect=True)


@pytest.fixture(params=["postgres", "postgres_of_old", "sqlite"])
def database(request: pytest.FixtureRequest) -> Database:
    """Run the test with each database and driver."""
    return request.getfixturevalue(request.param)


class Error(Exception):
    """What PEP 249 calls all errors, of a driver that has no SQLSTATE."""


class StatelessOperationalError(Error):
    """Of a driver of MySQL, say, which gives a number and words; or of ODBC, which begins with a state."""


class ProgrammingError(Error):
    pass


class StatelessProgrammingError(ProgrammingError):
    """The same."""


class StatefulProgrammingError(ProgrammingError):
    """Of a driver of Snowflake, or MySQL's own."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class TestRules:
    @pytest.mark.parametrize(
        ("sources", "left"),
        [
            ([], [1, 2, 3]),
            ([events("tweets", GONE, 1)], [2, 3]),
            ([events("tweets", GONE, 1), events("tweets", SUSPENDED, 2, 99)], [3]),
            ([events("users", SUSPENDED, 10)], [3]),
            ([events("users", SUSPENDED, 1)], [1, 2, 3]),
            ([events("tweets", GONE, 10)], [1, 2, 3]),
            ([events("tweets", GONE, 3), events("users", SUSPENDED, 10)], []),
            ([events("tweets", EDITED, 1)], [2, 3]),
            ([events("tweets", ("delete", "never_heard_of"), 1)], [2, 3]),
            ([events("tweets", ("delete", "scrub_geo"), 1)], [1, 2, 3]),
        ],
    )
    def test_a_row_goes_with_its_post_or_with_its_author(self, database, sources, left):
        database.make_posts((1, 10), (2, 10), (3, 30))

        database.redact(*sources)

        assert [row[0] for row in database.posts()] == left

    def test_locations_go_with_the_post_s_event_or_the_author_s(self, database):
        database.make_posts(
            (1, 10, "a", "geo", "place"),
            (2, 20, "b", None, "place"),
            (3, 30, "c", "geo", None),
            (4, 10, "d", None, None),
        )

        report = database.redact(events("tweets", SCRUBBED, 2), events("users", SCRUBBED, 10))

        assert database.posts() == [
            (1, 10, "a", None, None),
            (2, 20, "b", None, None),
            (3, 30, "c", "geo", None),
            (4, 10, "d", None, None),
        ]
        assert (report["scrubbed"], report["kinds"]) == (2, {"scrub_geo/geo_scrubbed": 2})

    def test_a_location_of_several_fields_goes_even_if_some_are_empty(self, postgres):
        postgres.run(
            "CREATE TYPE place AS (name text, country text, latitude float8)",
            "CREATE TABLE posts (id bigint, place place)",
            "INSERT INTO posts VALUES (1, ('Berlin', NULL, 52.5)), (2, ('Bonn', 'DE', 50.7)), (3, NULL)",
        )

        report = postgres.redact(
            events("tweets", SCRUBBED, 1, 2, 3), table=Table("posts", Columns("id", geo=("place",)))
        )

        assert (report["scrubbed"], postgres.posts()) == (2, [(1, None), (2, None), (3, None)])

    WITHOUT_GEO = Table("posts", Columns("id", "author"))

    def test_without_columns_of_locations_nothing_is_scrubbed_and_the_log_warns(self, database, caplog):
        database.make_posts((1, 10, "a", "geo"), (2, 20), (3, 20), (4, 40))

        report = database.redact(
            events("tweets", SCRUBBED, 1, 99), events("users", SCRUBBED, 20), table=self.WITHOUT_GEO
        )

        assert (report["scrubbed"], database.posts()[0]) == (0, (1, 10, "a", "geo", None))
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
            "posts: the location of 3 rows has to go, but nothing is done, because columns= names none of "
            "geo; name them, or say keep in policy="
        ]

    @pytest.mark.parametrize(
        ("table", "ids", "policy"),
        [
            (POSTS, [1], {}),
            (WITHOUT_GEO, [99], {}),
            (WITHOUT_GEO, [1], {"scrub_geo/geo_scrubbed": "keep"}),
        ],
    )
    def test_of_locations_that_need_no_column_the_log_does_not_warn(
        self, database, caplog, table, ids, policy
    ):
        database.make_posts((1, 10, "a"))

        database.redact(events("tweets", SCRUBBED, *ids), table=table, policy=parse_policy(policy))

        assert [record for record in caplog.records if record.levelname == "WARNING"] == []

    def test_what_has_to_be_fetched_again_moves_to_the_quarantine_as_it_was(self, database):
        database.make_posts((1, 10, "old text", "geo"), (2, 20))

        report = database.redact(events("tweets", EDITED, 1))

        assert database.posts("posts_quarantine") == [(1, 10, "old text", "geo", None)]
        assert database.posts() == [(2, 20, None, None, None)]
        assert (report["quarantined"], report["refetch"]) == (1, "posts_quarantine")

    def test_the_strongest_of_several_events_counts_and_the_row_is_counted_once(self, database):
        database.make_posts((1, 10, "a", "geo"), (2, 20, "b", "geo"), (3, 30, "c", "geo"))

        report = database.redact(
            events("tweets", SCRUBBED, 1, 2, 3),
            events("tweets", EDITED, 1, 2),
            events("tweets", GONE, 2),
            events("users", SUSPENDED, 10),
        )

        assert (report["removed"], report["quarantined"], report["scrubbed"]) == (2, 0, 1)
        assert report["kinds"] == {"delete/deleted": 1, "delete/suspended": 1, "scrub_geo/geo_scrubbed": 1}
        assert report["refetch"] is None

    def test_a_policy_says_otherwise(self, database):
        database.make_posts((1, 10, "a", "geo"), (2, 20), (3, 30, "c", "geo"), (4, 40))
        policy = parse_policy(
            {
                "rehydrate/tweet_edited": "remove",
                "delete/deleted": "quarantine",
                "eat/hungry": "scrub",
                "delete/suspended": "keep",
            }
        )

        report = database.redact(
            events("tweets", EDITED, 1),
            events("tweets", GONE, 2),
            events("tweets", UNKNOWN, 3),
            events("users", SUSPENDED, 40),
            policy=policy,
        )

        assert [row[0] for row in database.posts("posts_quarantine")] == [2]
        assert database.posts() == [(3, 30, "c", None, None), (4, 40, None, None, None)]
        assert report["unknown"] == {}

    def test_users_whom_the_policy_quarantines_take_their_posts_with_them(self, database):
        database.make_posts((1, 10), (2, 20))

        database.redact(
            events("users", SUSPENDED, 10), policy=parse_policy({"delete/suspended": "quarantine"})
        )

        assert [row[0] for row in database.posts("posts_quarantine")] == [1]

    def test_unknown_actions_change_nothing_and_are_told_of(self, database):
        database.make_posts((1, 10), (2, 20))

        report = database.redact(events("tweets", UNKNOWN, 1, 3), events("tweets", GONE, 2))

        assert [row[0] for row in database.posts()] == [1]
        assert report["unknown"] == {"eat/hungry": 2}

    def test_records_of_errors_change_nothing(self, database):
        database.make_posts((1, 10))

        report = database.redact(("tweets", [[Event("1", error="invalid_id")]]))

        assert (report["unknown"], len(database.posts())) == ({}, 1)

    def test_a_table_of_users_takes_events_of_users(self, database):
        database.run(
            "CREATE TABLE users (id text, location text)",
            "INSERT INTO users VALUES ('1', 'here'), ('2', 'there'), ('3', NULL)",
        )
        users = Table("users", Columns("id", geo=("location",)), "users")

        database.redact(events("users", SUSPENDED, 1), events("users", SCRUBBED, 2), table=users)

        assert sorted(database.rows("SELECT * FROM users")) == [("2", None), ("3", None)]

    @pytest.mark.parametrize(
        ("table", "job_type"),
        [
            (Table("posts", Columns("id")), "users"),
            (Table("posts", Columns("author"), "users"), "tweets"),
        ],
    )
    def test_events_that_no_column_is_there_for_are_refused(self, sqlite, table, job_type):
        sqlite.make_posts((1, 10))

        with pytest.raises(TableError, match=f"events of {job_type}, but no column"):
            sqlite.redact(
                events("tweets" if job_type == "users" else "users", GONE, 1), (job_type, []), table=table
            )

        assert len(sqlite.posts()) == 1


class TestAgainstAnOracle:
    """Random tables and events, and an implementation that is slow and obvious."""

    KINDS = (GONE, SUSPENDED, EDITED, SCRUBBED, UNKNOWN, ("delete", "scrub_geo"))

    @staticmethod
    def strongest(found: list[Effect]) -> Effect:
        return max(found, default=Effect.NOTHING)

    def expected(self, rows: list[tuple[Any, ...]], sources: list[Any]) -> tuple[list[Any], list[Any]]:
        effects: dict[tuple[str, int], list[Effect]] = {}
        for job_type, [batch] in sources:
            for event in batch:
                effects.setdefault((job_type, int(event.id)), []).append(
                    effect_of(event.action, event.reason)
                )
        left, quarantined = [], []
        for row in rows:
            post, author, text, *_ = row
            effect = self.strongest(effects.get(("tweets", post), []) + effects.get(("users", author), []))
            # What moves to the quarantine is a stored post there, whose location goes like any other's.
            again = [each for each in effects.get(("tweets", post), []) if each is not Effect.FETCH_AGAIN]
            scrubbed = Effect.SCRUB_LOCATION in again + effects.get(("users", author), [])
            bare = (post, author, text, None, None) if scrubbed else row
            if effect is Effect.FETCH_AGAIN:
                quarantined.append(bare)
            elif effect is not Effect.REMOVE:
                left.append(bare)
        return left, quarantined

    @pytest.mark.parametrize("seed", range(25))
    def test_they_agree_on_every_row(self, database, seed):
        chance = random.Random(seed)
        some_id = [None, *range(1, 30), MAX_ID, 2**53, 2**53 + 1]
        rows = [
            (
                chance.choice(some_id),
                chance.choice(some_id),
                f"text {number}",
                chance.choice([None, "geo"]),
                chance.choice([None, "place"]),
            )
            for number in range(60)
        ]
        sources = [
            events(
                chance.choice(["tweets", "users"]),
                chance.choice(self.KINDS),
                *chance.sample(some_id[1:], chance.randrange(6)),
            )
            for _ in range(chance.randrange(8))
        ]
        database.make_posts(*rows)

        report = database.redact(*sources, insert_rows=chance.randrange(1, 5))

        left, quarantined = self.expected(rows, sources)
        assert database.posts() == sorted(left, key=repr)
        if quarantined:
            assert database.posts("posts_quarantine") == sorted(quarantined, key=repr)
        assert report["removed"] == len(rows) - len(left) - len(quarantined)
        assert report["quarantined"] == len(quarantined)
        changed = sum(1 for row in left if row not in rows)
        assert report["scrubbed"] == changed
        assert sum(report["kinds"].values()) == report["removed"] + report["quarantined"] + changed
        before = database.posts()
        again = database.redact(*sources)
        assert database.posts() == before
        assert (again["removed"], again["quarantined"], again["scrubbed"]) == (0, 0, 0)
        assert again["quarantine"] | {"table": ""} == {"table": "", "removed": 0, "scrubbed": 0}


class TestIds:
    EDGES = (2**53 - 1, 2**53, 2**53 + 1, 1_300_000_000_000_000_001, MAX_ID - 1, MAX_ID)

    @pytest.mark.parametrize("ids", ["bigint", "text", "varchar(19)", "numeric(19)", "numeric(30)"])
    @pytest.mark.parametrize("gone", EDGES)
    def test_they_stay_exact(self, postgres, ids, gone):
        postgres.make_posts(*((str(each), "1") for each in self.EDGES), ids=ids)

        postgres.redact(events("tweets", GONE, gone))

        assert {int(row[0]) for row in postgres.posts()} == {*self.EDGES} - {gone}

    @pytest.mark.parametrize("ids", ["bigint", "text"])
    def test_they_stay_exact_in_sqlite(self, sqlite, ids):
        sqlite.make_posts(*((str(each), "1") for each in self.EDGES), ids=ids)

        sqlite.redact(events("tweets", GONE, *self.EDGES[::2]))

        assert {int(row[0]) for row in sqlite.posts()} == {*self.EDGES[1::2]}

    @pytest.mark.parametrize(
        "ids", ["double precision", "real", "integer", "smallint", "boolean", "varchar(10)", "uuid"]
    )
    def test_a_column_that_cannot_hold_them_is_refused(self, postgres, ids):
        postgres.run(f"CREATE TABLE posts (id {ids}, author {ids}, geo text, place text)")

        with pytest.raises(TableError, match='its column "id" cannot hold each id of X exactly'):
            postgres.redact(events("tweets", GONE, 1))

    def test_a_column_of_doubles_is_refused_in_sqlite(self, sqlite):
        sqlite.make_posts((1.0, 10), ids="double")

        with pytest.raises(TableError, match="cannot hold each id of X exactly"):
            sqlite.redact(events("tweets", GONE, 1))


class TestNames:
    @pytest.mark.parametrize(
        ("name", "quarantine"),
        [
            ("POSTS", "posts_quarantine"),
            ('"Odd ""name"" 100%s; here"', '"Odd ""name"" 100%s; here_quarantine"'),
            ("archive.posts", "archive.posts_quarantine"),
            ('"Archive 1"."user"', '"Archive 1"."user_quarantine"'),
            ('"Größe"', '"Größe_quarantine"'),
        ],
    )
    def test_they_are_written_as_in_sql(self, postgres, name, quarantine):
        postgres.run("CREATE SCHEMA IF NOT EXISTS archive", 'CREATE SCHEMA IF NOT EXISTS "Archive 1"')
        postgres.make_posts((1, 10), (2, 20), (3, 30))
        if name != "POSTS":
            postgres.run(f"CREATE TABLE {name} AS SELECT * FROM posts")

        postgres.redact(
            events("tweets", GONE, 1), events("tweets", EDITED, 2), table=Table(name, POSTS.columns)
        )

        assert [row[0] for row in postgres.posts(name)] == [3]
        assert [row[0] for row in postgres.posts(quarantine)] == [2]

    def test_columns_are_found_whatever_they_are_called(self, postgres):
        names = ("user", "Order", 'a "quoted" %s column', "Straße")
        id_, author, geo, place = ('"{}"'.format(name.replace('"', '""')) for name in names)
        postgres.run(
            f"CREATE TABLE posts ({id_} text, {author} text, {geo} text, {place} text)",
            "INSERT INTO posts VALUES ('1', '10', 'geo', 'place'), ('2', '20', 'geo', 'place')",
            "INSERT INTO posts VALUES ('3', '30')",
        )

        postgres.redact(
            events("tweets", EDITED, 3),
            events("users", GONE, 10),
            events("tweets", SCRUBBED, 2),
            table=Table("posts", Columns(names[0], names[1], names[2:])),
        )

        assert postgres.posts() == [("2", "20", None, None)]

    def test_columns_are_found_in_either_case(self, postgres):
        postgres.make_posts((1, 10))

        assert postgres.redact(events("users", GONE, 10), table=Table("posts", Columns("ID", "Author")))[
            "removed"
        ]

    def test_a_column_that_is_not_there_is_told_of_with_those_that_are(self, database):
        database.make_posts((1, 10))

        with pytest.raises(TableError, match=r"posts: there is no column 'tweet_id' among 'id', 'author', "):
            database.redact(events("tweets", GONE, 1), table=Table("posts", Columns("tweet_id")))

    NO_NAMES = (
        "posts; DROP TABLE victims",
        "posts WHERE 1 = 1; --",
        "posts--",
        "posts, victims",
        "(SELECT * FROM victims) x",
        '"posts"; DROP TABLE victims; --"',
        '"posts',
        '"posts\\"',
        "posts\n",
        "a.b.c.d",
        "`posts`",
        "1posts",
        "posts.",
        "generate_series(1, 2)",
    )

    # An empty name of a quarantine is none given.
    @pytest.mark.parametrize(("field", "name"), [*product(("name", "quarantine"), NO_NAMES), ("name", "")])
    def test_what_is_no_name_of_a_table_is_refused(self, database, field, name):
        database.make_posts((1, 10))
        database.run("CREATE TABLE victims (id bigint)")
        table = Table(**{"name": "posts", "columns": POSTS.columns, field: name})

        with pytest.raises(TableError, match="is no name of a table"):
            database.redact(events("tweets", EDITED, 1), table=table)

        assert database.rows("SELECT * FROM victims") == []
        assert len(database.posts()) == 1

    @pytest.mark.parametrize(
        "column", ['id" = "id', 'id"; DROP TABLE victims; --', "id, author", "1 = 1 OR id"]
    )
    def test_what_is_no_column_is_none(self, database, column):
        database.make_posts((1, 10))
        database.run("CREATE TABLE victims (id bigint)")

        for columns in (Columns(column), Columns("id", column), Columns("id", None, (column,))):
            with pytest.raises(TableError, match="there is no column"):
                database.redact(events("tweets", GONE, 1), table=Table("posts", columns))

        assert database.rows("SELECT * FROM victims") == []

    @pytest.mark.parametrize("identifier", ["1 OR 1 = 1", "1'); DROP TABLE posts; --"])
    def test_ids_are_parameters(self, database, identifier):
        database.make_posts(("1", "10"), ids="text")

        database.redact(events("tweets", GONE, identifier))

        assert len(database.posts()) == 1

    def test_a_table_that_is_not_there_is_told_of(self, postgres):
        with pytest.raises(TableError) as caught:
            postgres.redact(events("tweets", GONE, 1))

        assert str(caught.value) == (
            'posts: the database refuses: UndefinedTable (42P01): relation "posts" does not exist, at '
            "SELECT * FROM posts WHERE 1 = 0; nothing was written"
        )


class TestQuarantine:
    def test_it_may_have_another_name_and_columns_of_its_own(self, database):
        database.make_posts((1, 10, "a"), (2, 20))
        database.run(
            "CREATE TABLE elsewhere (note text DEFAULT 'edited', id bigint, author bigint, text text, "
            "geo text, place text)"
        )

        report = database.redact(
            events("tweets", EDITED, 1), table=Table("posts", POSTS.columns, quarantine="elsewhere")
        )

        assert database.posts("elsewhere") == [("edited", 1, 10, "a", None, None)]
        assert report["refetch"] == "elsewhere"

    def test_one_that_lacks_a_column_stops_it_all(self, postgres):
        postgres.make_posts((1, 10), (2, 20))
        postgres.run("CREATE TABLE posts_quarantine (id bigint, author bigint, geo text, place text)")

        with pytest.raises(TableError, match='column "text" of relation "posts_quarantine" does not exist'):
            postgres.redact(events("tweets", EDITED, 1), events("tweets", GONE, 2))

        assert len(postgres.posts()) == 2

    def test_it_is_redacted_with_the_table(self, database):
        database.make_posts((1, 10, "a", "geo"), (2, 20, "b", "geo"), (3, 30, "c", "geo"), (4, 40))
        database.redact(events("tweets", EDITED, 1, 2, 3))

        report = database.redact(
            events("tweets", GONE, 1), events("users", SCRUBBED, 20), events("tweets", EDITED, 3)
        )

        assert database.posts("posts_quarantine") == [(2, 20, "b", None, None), (3, 30, "c", "geo", None)]
        assert report["quarantine"] == {"table": "posts_quarantine", "removed": 1, "scrubbed": 1}
        assert (report["removed"], report["quarantined"], report["scrubbed"]) == (0, 0, 0)

    @either_driver
    @pytest.mark.parametrize("timeout", ["lock_timeout", "statement_timeout"])
    def test_one_that_is_locked_is_not_taken_as_missing(self, database, timeout):
        database.make_posts((1, 10), (2, 20))
        database.redact(events("tweets", EDITED, 1))

        with closing(database.connect()) as other, closing(database.connect()) as connection:
            # As VACUUM FULL does, ALTER TABLE, TRUNCATE.
            other.cursor().execute("LOCK TABLE posts_quarantine")
            connection.cursor().execute(f"SET {timeout} = '50ms'")
            connection.commit()

            with pytest.raises(DatabaseFailedError, match=r"at SELECT \* FROM posts_quarantine"):
                redact_table(connection, POSTS, [events("tweets", GONE, 1, 2)], limits=NO_LIMITS)

        assert len(database.posts()) == 1
        assert database.redact(events("tweets", GONE, 1, 2))["quarantine"]["removed"] == 1

    @either_driver
    def test_one_that_must_not_be_read_is_not_taken_as_missing(self, database):
        database.make_posts((1, 10), (2, 20))
        database.redact(events("tweets", EDITED, 1))
        ((schema,),) = database.rows("SELECT current_schema()")
        worker = f"worker_of_{schema}"
        database.run(
            f"CREATE ROLE {worker}",
            f"GRANT USAGE ON SCHEMA {schema} TO {worker}",
            f"GRANT SELECT, UPDATE, DELETE ON posts TO {worker}",
        )

        with closing(database.connect()) as connection:
            connection.cursor().execute(f"SET ROLE {worker}")
            connection.commit()

            with pytest.raises(TableError, match="permission denied for table posts_quarantine"):
                redact_table(connection, POSTS, [events("tweets", GONE, 1, 2)], limits=NO_LIMITS)

        assert len(database.posts()) == 1

    def test_one_that_is_locked_for_an_instant_is_not_taken_as_missing_in_sqlite(self, sqlite):
        sqlite.make_posts((1, 10), (2, 20))
        sqlite.redact(events("tweets", EDITED, 1))

        with closing(sqlite.connect()) as other, closing(sqlite.connect()) as connection:
            connection.execute("PRAGMA busy_timeout = 0")

            def lock(_: Any, statement: str) -> None:
                if statement.startswith("SELECT * FROM posts_quarantine"):
                    other.execute("BEGIN EXCLUSIVE")
                else:
                    other.rollback()

            with pytest.raises(DatabaseFailedError, match="SQLITE_BUSY"):
                redact_table(
                    Spied(connection, lock),
                    POSTS,
                    [events("tweets", GONE, 1)],
                    limits=NO_LIMITS,
                    dialect=sqlite.dialect,
                )

    @staticmethod
    def redact_despite(error: Exception, database: Database) -> None:
        """Redact while the quarantine's driver answers with an error."""

        def refuse(_: Any, statement: str) -> None:
            if statement.startswith("SELECT * FROM posts_quarantine"):
                raise error

        with closing(database.connect()) as connection:
            redact_table(
                Spied(connection, refuse),
                POSTS,
                [events("tweets", GONE, 1)],
                limits=NO_LIMITS,
                dialect=database.dialect,
            )

    @pytest.mark.parametrize(
        "error",
        [
            StatelessProgrammingError(1146, "Table 'db.posts_quarantine' doesn't exist"),
            StatelessProgrammingError("42S02", "[42S02] [vendor] no such table"),
            StatefulProgrammingError("002003 (42S02): it does not exist or not authorized", "42S02"),
            StatefulProgrammingError("002003 (02000): it does not exist or not authorized", "02000"),
            StatefulProgrammingError("1146 (42S02): Table 'db.posts_quarantine' doesn't exist", "42S02"),
        ],
    )
    def test_it_is_missing_where_a_driver_says_so(self, sqlite, caplog, error):
        sqlite.make_posts((1, 10), (2, 20))

        with caplog.at_level("INFO"):
            self.redact_despite(error, sqlite)

        assert len(sqlite.posts()) == 1
        assert "posts_quarantine: taken as missing" in caplog.text

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (StatelessOperationalError(1142, "SELECT command denied to user"), DatabaseFailedError),
            (StatelessOperationalError(1205, "Lock wait timeout exceeded"), DatabaseFailedError),
            (StatelessOperationalError("HYT00", "[HYT00] Timeout expired (0)"), DatabaseFailedError),
            (StatelessOperationalError(), DatabaseFailedError),
            (StatelessOperationalError("disk I/O error 1146"), DatabaseFailedError),
            (StatelessProgrammingError("Tabelle nicht gefunden"), TableError),
            (StatelessProgrammingError("11465"), TableError),
            (StatefulProgrammingError("003001 (42501): Insufficient privileges", "42501"), TableError),
        ],
    )
    def test_it_is_not_taken_as_missing_where_a_driver_says_something_else(self, sqlite, error, kind):
        sqlite.make_posts((1, 10), (2, 20))

        with pytest.raises(kind, match=r"at SELECT \* FROM posts_quarantine"):
            self.redact_despite(error, sqlite)

        assert len(sqlite.posts()) == 2

    def test_where_it_is_not_certain_whether_it_is_missing_the_remedy_is_told(self, sqlite):
        sqlite.make_posts((1, 10))

        with pytest.raises(TableError) as caught:
            self.redact_despite(StatelessProgrammingError("Tabelle nicht gefunden"), sqlite)

        assert str(caught.value) == (
            "posts: whether there is a table posts_quarantine is not certain; if not, make it: "
            "StatelessProgrammingError, at SELECT * FROM posts_quarantine WHERE 1 = 0; nothing was written"
        )

    def test_what_sqlite_calls_an_error_of_another_kind_is_not_taken_as_missing(self, sqlite):
        sqlite.make_posts((1, 10), (2, 20))
        sqlite.run("CREATE VIEW posts_quarantine AS SELECT posts.id, no_such_column FROM posts")

        with pytest.raises(DatabaseFailedError, match="SQLITE_ERROR"):
            sqlite.redact(events("tweets", GONE, 1))

        assert len(sqlite.posts()) == 2

    def test_no_table_is_its_own(self, database):
        database.make_posts((1, 10))

        with pytest.raises(TableError, match="it is no quarantine of itself"):
            database.redact(
                events("tweets", EDITED, 1), table=Table("posts", POSTS.columns, quarantine="Posts")
            )

    @pytest.mark.parametrize("quarantine", ["{}.posts", '"posts"'])
    def test_not_even_in_disguise(self, postgres, quarantine):
        postgres.make_posts((1, 10))
        ((schema,),) = postgres.rows("SELECT current_schema()")
        quarantine = quarantine.format(schema)

        with pytest.raises(TableChangedError):
            postgres.redact(
                events("tweets", EDITED, 1), table=Table("posts", POSTS.columns, quarantine=quarantine)
            )

        assert len(postgres.posts()) == 1

    def test_a_name_that_the_database_would_cut_is_refused(self, sqlite):
        with pytest.raises(TableError, match="too long for one with _quarantine"):
            sqlite.redact(table=Table("p" * 63, POSTS.columns))


class TestGuard:
    @pytest.mark.parametrize(
        ("limits", "objection"),
        [
            (Limits(), "3 rows to remove of 20 are 15.0000%, more than max_removal_ratio=0.05"),
            (Limits(max_removal_ratio=0.149), "more than max_removal_ratio=0.149"),
            (Limits(max_removal_ratio=None, max_removals=2), "3 rows to remove are more than max_removals=2"),
            (
                Limits(max_removal_ratio=None, max_change_ratio=0.09),
                "2 rows to move or scrub of 20 are 10.0000%, more than max_change_ratio=0.09",
            ),
        ],
    )
    def test_nothing_is_written_if_too_much_would_go(self, database, limits, objection):
        database.make_posts(*((number, number, "a", "geo") for number in range(20)))

        with pytest.raises(TableError, match="No go, nothing was written: posts: ") as caught:
            database.redact(
                events("tweets", GONE, 1, 2, 3),
                events("tweets", EDITED, 4),
                events("tweets", SCRUBBED, 5),
                limits=limits,
            )

        assert objection in str(caught.value)
        assert len(database.posts()) == 20

    @pytest.mark.parametrize("kind", [EDITED, SCRUBBED])
    def test_a_table_in_which_much_would_change_is_left(self, database, kind):
        database.make_posts(*((number, number, "a", "geo") for number in range(20)))
        before = database.posts()

        with pytest.raises(TableError, match=r"20 rows to move or scrub of 20 are 100\.0000%"):
            database.redact(events("tweets", kind, *range(20)), limits=Limits(max_removals=0))

        assert database.posts() == before

    @pytest.mark.parametrize(
        "limits",
        [
            Limits(max_removal_ratio=0.15),
            Limits(max_removal_ratio=1, max_removals=3),
            Limits(max_removal_ratio=None),
        ],
    )
    def test_the_limit_itself_is_a_go(self, database, limits):
        database.make_posts(*((number, number) for number in range(20)))

        report = database.redact(events("tweets", GONE, 1, 2, 3), events("tweets", EDITED, 4), limits=limits)

        assert (report["records"], report["removed"], report["kept"]) == (20, 3, 16)

    def test_events_of_rows_that_are_not_there_do_not_count(self, database):
        database.make_posts((1, 10))

        assert (
            database.redact(events("tweets", GONE, *range(2, 50)), limits=Limits(max_removals=0))["removed"]
            == 0
        )

    @pytest.mark.parametrize(
        ("source", "limits"),
        [
            (events("tweets", GONE, 1), NO_LIMITS),
            (events("tweets", SCRUBBED, 1), Limits(max_change_ratio=None)),
        ],
    )
    def test_rows_are_not_counted_where_nobody_asks(self, database, source, limits):
        database.make_posts((1, 10, "a", "geo"))

        report = database.redact(source, limits=limits)

        assert (report["records"], report["kept"]) == (None, None)


class TestDryRun:
    SOURCES = (
        events("tweets", GONE, 1),
        events("tweets", EDITED, 2),
        events("users", SCRUBBED, 30),
    )
    ROWS = ((1, 10), (2, 20), (3, 30, "c", "geo"), (4, 40))

    def test_it_reports_what_a_run_would_do_and_writes_nothing(self, database):
        database.make_posts(*self.ROWS)
        before = database.posts()

        dry = database.redact(*self.SOURCES, dry_run=True)

        assert database.posts() == before
        with pytest.raises((sqlite3.Error, psycopg.Error, psycopg2.Error)):
            database.rows("SELECT * FROM posts_quarantine")
        wet = database.redact(*self.SOURCES)
        different = {"seconds": 0, "dry_run": None}
        assert dry | different == wet | different
        assert (dry["dry_run"], wet["dry_run"]) == (True, False)

    def test_it_asks_the_guard_too(self, database):
        database.make_posts(*self.ROWS)

        with pytest.raises(TableError, match="No go"):
            database.redact(*self.SOURCES, dry_run=True, limits=Limits())


class Spied:
    """A connection that calls somebody before each of its statements, and before the commit."""

    def __init__(self, connection: Any, before: Callable[[Any, str], None]) -> None:
        self._connection = connection
        self._before = before
        self.rollback = connection.rollback

    def cursor(self) -> Any:
        return SpiedCursor(self._connection, self._before)

    def commit(self) -> None:
        self._before(self._connection, "COMMIT")
        self._connection.commit()


class SpiedCursor:
    def __init__(self, connection: Any, before: Callable[[Any, str], None]) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._before = before

    def execute(self, statement: str, *parameters: Any) -> None:
        self._before(self._connection, statement)
        self._cursor.execute(statement, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class TestTransaction:
    SOURCES = TestDryRun.SOURCES
    ROWS = TestDryRun.ROWS

    @pytest.mark.parametrize(
        "instant",
        [
            "CREATE TEMPORARY TABLE",
            "SELECT weight",
            "DELETE FROM posts",
            "CREATE TABLE posts_quarantine",
            "WITH",
            "INSERT INTO posts_quarantine",
            "UPDATE posts",
            "DROP TABLE",
            "COMMIT",
        ],
    )
    def test_killed_at_any_instant_it_has_written_nothing_and_a_second_run_does_all(self, postgres, instant):
        postgres.make_posts(*self.ROWS)
        before = postgres.posts()
        there, here = multiprocessing.Pipe()

        def pause(_: Any, statement: str) -> None:
            if statement.startswith(instant):
                there.send(statement)
                signal.pause()

        def run() -> None:
            # Others than PostgreSQL move rows by two statements.
            dialect = ANSI if instant.startswith("INSERT") else postgres.dialect
            redact_table(
                Spied(postgres.connect(), pause), POSTS, self.SOURCES, limits=NO_LIMITS, dialect=dialect
            )

        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        try:
            assert here.poll(30)
        finally:
            process.kill()
            process.join()

        assert postgres.posts() == before
        report = postgres.redact(*self.SOURCES)
        assert (report["removed"], report["quarantined"], report["scrubbed"]) == (1, 1, 1)
        assert [row[0] for row in postgres.posts()] == [3, 4]
        assert [row[0] for row in postgres.posts("posts_quarantine")] == [2]

    @pytest.mark.parametrize(
        ("statement", "instead"),
        [
            ("DELETE FROM posts", "INSERT INTO posts VALUES (1, 10)"),
            ("INSERT INTO posts_quarantine", "INSERT INTO posts VALUES (2, 20)"),
            ("UPDATE posts", "INSERT INTO posts VALUES (5, 30, 'e', 'geo')"),
            ("DELETE FROM posts", "DELETE FROM posts WHERE id = 1"),
        ],
    )
    def test_what_others_write_meanwhile_is_never_lost(self, postgres, statement, instead):
        postgres.make_posts(*self.ROWS)
        others = [instead]

        def interfere(_: Any, executed: str) -> None:
            if executed.startswith(statement) and others:
                postgres.run(others.pop())

        with (
            closing(postgres.connect()) as connection,
            pytest.raises(TableChangedError, match="somebody else"),
        ):
            redact_table(Spied(connection, interfere), POSTS, self.SOURCES, limits=NO_LIMITS)

        assert len(postgres.posts()) == (3 if instead.startswith("DELETE") else 5)
        postgres.redact(*self.SOURCES)
        assert [row[0] for row in postgres.posts() if row[3] is None] in ([3, 4], [3, 4, 5])

    def test_the_row_that_appears_before_it_moves_is_not_deleted_unmoved(self, postgres):
        postgres.make_posts(*self.ROWS)
        deletes = Counter[str]()

        def interfere(_: Any, executed: str) -> None:
            deletes[executed.split(" WHERE")[0]] += 1
            if executed.startswith("DELETE FROM posts") and deletes["DELETE FROM posts"] == 2:
                postgres.run("INSERT INTO posts VALUES (2, 20, 'fetched again')")

        with closing(postgres.connect()) as connection, pytest.raises(TableChangedError):
            redact_table(
                Spied(connection, interfere),
                POSTS,
                [events("tweets", GONE, 1), events("tweets", EDITED, 2)],
                limits=NO_LIMITS,
            )

        assert len(postgres.posts()) == 5

    @staticmethod
    def rewrite(database: Database, instant: str) -> Callable[[Any, str], None]:
        """Return a function that rewrites all posts just before a statement; it waits for nobody."""
        statements = ["SET lock_timeout = '50ms'", "UPDATE posts SET text = 'fetched again'"]

        def interfere(_: Any, executed: str) -> None:
            if executed.startswith(instant) and statements:
                database.run(*statements)
                statements.clear()

        return interfere

    @either_driver
    @pytest.mark.parametrize("instant", ["SELECT weight", "CREATE TABLE", "WITH"])
    def test_a_row_that_others_rewrite_before_it_moves_moves_as_they_left_it(self, database, instant):
        database.make_posts((2, 20, "old text"))

        with closing(database.connect()) as connection:
            report = redact_table(
                Spied(connection, self.rewrite(database, instant)),
                POSTS,
                self.SOURCES,
                limits=NO_LIMITS,
                dialect=DIALECTS["postgresql"],
            )

        assert report["quarantined"] == 1
        assert [row[2] for row in database.posts("posts_quarantine")] == ["fetched again"]
        assert database.posts() == []

    @pytest.mark.parametrize("instant", ["DELETE FROM posts", "DROP TABLE", "COMMIT"])
    def test_a_row_that_has_moved_cannot_be_rewritten_any_more(self, postgres, instant):
        postgres.make_posts((2, 20, "old text"))
        rewrite, refused = self.rewrite(postgres, instant), []

        def interfere(connection: Any, executed: str) -> None:
            try:
                rewrite(connection, executed)
            except psycopg.errors.LockNotAvailable as error:
                refused.append(error)

        with closing(postgres.connect()) as connection:
            redact_table(
                Spied(connection, interfere), POSTS, self.SOURCES, limits=NO_LIMITS, dialect=postgres.dialect
            )

        assert refused
        assert [row[2] for row in postgres.posts("posts_quarantine")] == ["old text"]

    def test_a_row_that_others_rewrite_meanwhile_is_waited_for_and_moves_as_they_leave_it(self, postgres):
        postgres.make_posts((2, 20, "old text"))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"

        with closing(postgres.connect()) as other, closing(postgres.connect()) as connection:
            other.execute("UPDATE posts SET text = 'fetched again'")

            def commit_when_awaited() -> None:
                looks = (other.execute(waiting).fetchone() for _ in range(20_000))
                assert any(waiters for (waiters,) in looks)
                other.commit()

            with ThreadPoolExecutor() as pool:
                ended = pool.submit(commit_when_awaited)
                report = redact_table(
                    connection, POSTS, self.SOURCES, limits=NO_LIMITS, dialect=postgres.dialect
                )
                ended.result()

        assert report["quarantined"] == 1
        assert [row[2] for row in postgres.posts("posts_quarantine")] == ["fetched again"]

    @pytest.mark.parametrize("instant", ["WITH", "DELETE FROM posts"])
    def test_a_row_that_others_add_while_it_moves_is_never_lost(self, postgres, instant):
        postgres.make_posts((2, 20, "old text"))

        def interfere(_: Any, executed: str) -> None:
            if executed.startswith(instant):
                postgres.run("INSERT INTO posts VALUES (2, 20, 'fetched again')")

        with (
            closing(postgres.connect()) as connection,
            pytest.raises(TableChangedError, match="1 rows were to be quarantined, but it became 2"),
        ):
            redact_table(
                Spied(connection, interfere),
                POSTS,
                [events("tweets", EDITED, 2)],
                limits=NO_LIMITS,
                dialect=postgres.dialect,
            )

        assert [row[2] for row in postgres.posts()] == ["fetched again", "old text"]

    def test_in_sqlite_nobody_else_writes_while_a_row_moves(self, sqlite):
        sqlite.make_posts((2, 20, "old text"))
        refused = []

        def interfere(_: Any, executed: str) -> None:
            if executed.startswith("DELETE FROM posts"):
                with closing(sqlite.connect()) as other:
                    other.execute("PRAGMA busy_timeout = 0")
                    with pytest.raises(sqlite3.OperationalError, match="locked") as caught:
                        other.execute("UPDATE posts SET text = 'fetched again'")
                    refused.append(caught)

        with closing(sqlite.connect()) as connection:
            redact_table(
                Spied(connection, interfere), POSTS, self.SOURCES, limits=NO_LIMITS, dialect=sqlite.dialect
            )

        assert refused
        assert [row[2] for row in sqlite.posts("posts_quarantine")] == ["old text"]

    def test_a_quarantine_that_others_make_at_the_same_time_is_used_by_the_next_try(self, postgres):
        postgres.make_posts(*self.ROWS)

        def interfere(_: Any, executed: str) -> None:
            if executed.startswith("CREATE TABLE"):
                postgres.run(executed)

        with (
            closing(postgres.connect()) as connection,
            pytest.raises(TableChangedError, match="made it meanwhile"),
        ):
            redact_table(Spied(connection, interfere), POSTS, self.SOURCES, limits=NO_LIMITS)

        assert len(postgres.posts()) == 4
        assert postgres.redact(*self.SOURCES)["quarantined"] == 1

    def test_a_quarantine_that_must_not_be_made_stops_it_all(self, postgres):
        postgres.make_posts(*self.ROWS)
        table = Table("posts", POSTS.columns, quarantine="no_such_schema.posts")

        with pytest.raises(TableError, match='schema "no_such_schema" does not exist'):
            postgres.redact(*self.SOURCES, table=table)

        assert len(postgres.posts()) == 4

    def test_a_driver_that_does_not_count_is_refused(self, sqlite):
        sqlite.make_posts(*self.ROWS)

        class Uncounted(sqlite3.Cursor):
            rowcount = -1

        class Connection(sqlite3.Connection):
            def cursor(self) -> sqlite3.Cursor:
                return super().cursor(Uncounted)

        ((_, _, path),) = sqlite.rows("PRAGMA database_list")
        with (
            closing(sqlite3.connect(path, factory=Connection)) as connection,
            pytest.raises(TableError, match="does not tell how many rows"),
        ):
            redact_table(connection, POSTS, self.SOURCES, limits=NO_LIMITS, dialect=sqlite.dialect)

        assert len(sqlite.posts()) == 4

    def test_a_location_that_must_not_be_null_stops_it_all_and_no_row_is_in_the_error(self, postgres):
        postgres.make_posts(*self.ROWS[2:3], (1, 10, "a", "secret place"))
        postgres.run("ALTER TABLE posts ALTER COLUMN geo SET NOT NULL")

        with pytest.raises(TableError) as caught:
            postgres.redact(*self.SOURCES)

        assert str(caught.value) == (
            'posts: the database refuses: NotNullViolation (23502): geo, at UPDATE posts SET "geo" = NULL, '
            '"place" = NULL WHERE "author" IN (SELECT id …; nothing was written'
        )
        assert len(postgres.posts()) == 2

    def test_rows_that_others_refer_to_stop_it_all(self, postgres):
        postgres.make_posts(*self.ROWS)
        postgres.run(
            "ALTER TABLE posts ADD PRIMARY KEY (id)",
            "CREATE TABLE likes (post bigint REFERENCES posts (id) DEFERRABLE INITIALLY DEFERRED)",
            "INSERT INTO likes VALUES (1)",
        )

        with pytest.raises(TableError, match=r"ForeignKeyViolation \(23503\): likes_post_fkey, at COMMIT"):
            postgres.redact(*self.SOURCES)

        assert len(postgres.posts()) == 4

    def test_what_passes_is_left_for_another_try(self, postgres):
        postgres.make_posts(*self.ROWS)
        with closing(postgres.connect()) as blocker, closing(postgres.connect()) as connection:
            blocker.execute("UPDATE posts SET text = 'x' WHERE id = 1")
            connection.execute("SET lock_timeout = '50ms'")
            connection.commit()

            with pytest.raises(DatabaseFailedError, match=r"LockNotAvailable \(55P03\), at DELETE") as caught:
                redact_table(connection, POSTS, self.SOURCES, limits=NO_LIMITS)

        assert not is_final(caught.value)

    @either_driver
    @pytest.mark.parametrize("state", ["P0001", "23514", "42501", "40001", "22P02"])
    def test_what_a_trigger_says_of_a_row_is_in_no_error_and_in_no_log(self, database, caplog, state):
        database.make_posts((1, 10, "secret text"))
        database.run(
            "CREATE FUNCTION object() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION USING MESSAGE = 'no delete of ' || old, ERRCODE = '{state}', "
            "CONSTRAINT = old.text, COLUMN = old.text; END $$",
            "CREATE TRIGGER objection BEFORE DELETE ON posts FOR EACH ROW EXECUTE FUNCTION object()",
        )

        with (
            caplog.at_level("DEBUG"),
            pytest.raises((TableError, DatabaseFailedError), match=rf"\({state}\), at DELETE") as caught,
        ):
            database.redact(events("tweets", GONE, 1))

        assert "secret" not in "".join(traceback.format_exception(caught.value)) + caplog.text

    def test_events_that_turn_out_to_be_damaged_leave_nothing_behind(self, database):
        database.make_posts(*self.ROWS)

        def damaged() -> Iterator[list[Event]]:
            yield [Event("1", *GONE)]
            raise InvalidResultError("damaged")

        with pytest.raises(InvalidResultError):
            database.redact(("tweets", damaged()))

        assert len(database.posts()) == 4

    def test_nothing_temporary_is_left_on_the_connection(self, postgres):
        postgres.make_posts(*self.ROWS)
        with closing(postgres.connect()) as connection:
            redact_table(connection, POSTS, self.SOURCES, limits=NO_LIMITS)

            left = connection.execute("SELECT relname FROM pg_class WHERE relpersistence = 't'").fetchall()

        assert left == []

    def test_connections_that_return_dicts_serve_too(self, postgres, postgres_of_old):
        from psycopg2.extras import RealDictCursor

        for database, options in (
            (postgres, {"row_factory": psycopg.rows.dict_row}),
            (postgres_of_old, {"cursor_factory": RealDictCursor}),
        ):
            database.make_posts(*self.ROWS)
            with closing(database.connect()) as connection:
                for name, value in options.items():
                    setattr(connection, name, value)
                report = redact_table(
                    connection,
                    POSTS,
                    self.SOURCES,
                    limits=Limits(max_removal_ratio=0.5, max_change_ratio=0.5),
                )

            assert (report["records"], report["removed"]) == (4, 1)


class TestScale:
    ROWS, EVENTS = 200_000, 20_000

    @staticmethod
    def id_of(number: int) -> int:
        return 1_300_000_000_000_000_000 + number * 4_194_305

    def fill(self, postgres: Database, ids: str) -> None:
        postgres.run(
            MAKE_POSTS.format(ids=ids),
            f"INSERT INTO posts SELECT {self.id_of(0)} + g * 4194305, g % 1000, 'text', 'geo' "
            f"FROM generate_series(0, {self.ROWS - 1}::bigint) g",
            "CREATE INDEX ON posts (id)",
            "CREATE INDEX ON posts (author)",
        )
        with closing(postgres.connect()) as connection:
            connection.autocommit = True
            connection.execute("ANALYZE posts")

    @pytest.mark.parametrize("ids", ["bigint", "text"])
    def test_a_large_table_in_bounded_memory(self, postgres, ids):
        self.fill(postgres, ids)
        step = self.ROWS // self.EVENTS

        def batches() -> Iterator[list[Event]]:
            kinds = (GONE, EDITED, SCRUBBED, SUSPENDED)
            for start in range(0, self.EVENTS, 2_000):
                yield [Event(str(self.id_of(n * step)), *kinds[n % 4]) for n in range(start, start + 2_000)]

        tracemalloc.start()
        report = postgres.redact(("tweets", batches()), limits=Limits())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert (report["records"], report["removed"]) == (200_000, 10_000)
        assert (report["quarantined"], report["scrubbed"]) == (5_000, 5_000)
        assert postgres.rows("SELECT count(*) FROM posts") == [(185_000,)]
        assert postgres.rows("SELECT count(*) FROM posts WHERE geo IS NULL") == [(5_000,)]
        # A few megabytes, where all events together would take eight.
        assert peak < 4e6

    @pytest.mark.parametrize("ids", ["bigint", "text"])
    def test_indexes_serve(self, postgres, ids):
        self.fill(postgres, ids)
        plans = {}

        def explain(connection: Any, statement: str) -> None:
            if statement.startswith(("SELECT weight", "DELETE FROM posts", "UPDATE", "WITH")):
                with connection.cursor() as cursor:
                    cursor.execute(f"EXPLAIN {statement}")
                    plans[statement] = "\n".join(line for (line,) in cursor)

        with closing(postgres.connect()) as connection:
            redact_table(
                Spied(connection, explain),
                POSTS,
                [
                    events("tweets", GONE, self.id_of(1)),
                    events("tweets", EDITED, self.id_of(2)),
                    events("tweets", SCRUBBED, self.id_of(3)),
                    events("users", SUSPENDED, 7),
                ],
                limits=NO_LIMITS,
                dialect=postgres.dialect,
            )

        assert len(plans) >= 5
        assert not [plan for plan in plans.values() if "Seq Scan on posts " in plan]


class TestVerifiedEvents:
    @pytest.fixture
    def result(self, tmp_path):
        """Land a result with an event of a control id, and return where it is."""
        records = [("1", "delete", "deleted"), ("2", "delete", "deleted"), ("9", "delete", "suspended")]
        path = tmp_path / "events.ndjson"
        self.write(path, records)
        content = path.read_bytes()
        manifest = {
            "job_id": "1",
            "job_type": "tweets",
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "unverified_length": False,
            "actions": {"delete": {"deleted": 2, "suspended": 1}},
            "errors": {},
            "submitted": {"ids": 10},
            "control_ids": ["9"],
        }
        Path(f"{path}.manifest.json").write_text(json.dumps(manifest))
        return path

    @staticmethod
    def write(path, records):
        names = ("id", "action", "reason")
        path.write_text("".join(json.dumps(dict(zip(names, each, strict=True))) + "\n" for each in records))

    def test_all_of_a_result_is_read(self, result):
        batches = verified_events(read_landed(Reference(str(result), {})))

        assert [event.id for batch in batches for event in batch] == ["1", "2", "9"]

    def test_one_that_was_replaced_since_is_refused_at_its_end(self, result):
        landed = read_landed(Reference(str(result), {}))
        self.write(
            result, [("1", "delete", "deleted"), ("3", "delete", "deleted"), ("9", "delete", "suspended")]
        )

        with pytest.raises(InvalidResultError, match="it was replaced while it was applied"):
            list(verified_events(landed))
