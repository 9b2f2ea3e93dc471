import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowOptionalProviderFeatureException,
)

from airflow_provider_xcompliance.archive.formats import Columns
from airflow_provider_xcompliance.operators.tables import RedactTableOperator
from airflow_provider_xcompliance.storage import StorageError
from tests.servers.postgres import Postgres, postgres_server

COLUMNS = {"id": "id", "author": "author", "geo": ["geo"]}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def rows(server: Postgres, connect: Callable[..., None]) -> Callable[[str], list[tuple[Any, ...]]]:
    """Make a table of a hundred posts, connect Airflow to it, and return a function that selects."""
    address = server.schema()
    database = psycopg.connect(**address, autocommit=True)
    database.execute("CREATE TABLE posts (id bigint, author bigint, text text, geo text)")
    database.execute("INSERT INTO posts SELECT g, g % 10, 'text', 'geo' FROM generate_series(1, 100) g")
    connect(
        "warehouse",
        conn_type="postgres",
        host=address["host"],
        login=address["user"],
        schema=address["dbname"],
        extra={"options": address["options"]},
    )
    yield lambda select: database.execute(select).fetchall()
    database.close()


@pytest.fixture
def land(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that lands a result and gives its receipt."""

    def put(
        name: str, numbers: Any, action: str = "delete", reason: str = "deleted", job_type: str = "tweets"
    ) -> dict[str, Any]:
        records = [{"id": str(number), "action": action, "reason": reason} for number in numbers]
        events = "".join(json.dumps(record) + "\n" for record in records).encode()
        path = tmp_path / f"{name}.ndjson"
        path.write_bytes(events)
        manifest = {
            "job_id": name,
            "job_type": job_type,
            "bytes": len(events),
            "sha256": hashlib.sha256(events).hexdigest(),
            "unverified_length": False,
            "actions": {action: {reason: len(records)}} if records else {},
            "errors": {},
            "repeated": 0,
            "submitted": {"ids": 1000},
            "control_ids": [],
            "destination": str(path),
        }
        Path(f"{path}.manifest.json").write_text(json.dumps(manifest))
        return manifest | {"manifest": f"{path}.manifest.json", "created": True}

    return put


def operator(events: Any, **arguments: Any) -> RedactTableOperator:
    defaults = {"task_id": "redact", "sql_conn_id": "warehouse", "table": "posts", "columns": COLUMNS}
    return RedactTableOperator(**defaults | {"events": events} | arguments)


def redact(events: Any, **arguments: Any) -> dict[str, Any]:
    return operator(events, **arguments).execute({})


def refusal(events: Any, **arguments: Any) -> str:
    with pytest.raises(AirflowFailException) as caught:
        redact(events, **arguments)
    return str(caught.value)


def test_events_of_posts_and_of_users_are_applied_and_reported(rows, land):
    events = [
        land("gone", [1, 2, 12345]),
        [
            land("edited", [3], "rehydrate", "tweet_edited"),
            land("moved", [4, 5], "scrub_geo", "geo_scrubbed"),
        ],
        land("users", [7], "delete", "suspended", "users")["destination"],
    ]

    report = redact(events, max_removal_ratio=0.12)

    assert report.pop("seconds") > 0
    assert json.loads(json.dumps(report)) == {
        "records": 100,
        "removed": 12,
        "quarantined": 1,
        "scrubbed": 2,
        "kept": 87,
        "kinds": {
            "delete/deleted": 2,
            "delete/suspended": 10,
            "rehydrate/tweet_edited": 1,
            "scrub_geo/geo_scrubbed": 2,
        },
        "unknown": {},
        "quarantine": {"table": "posts_quarantine", "removed": 0, "scrubbed": 0},
        "refetch": "posts_quarantine",
        "dry_run": False,
    }
    assert rows("SELECT count(*), count(geo) FROM posts") == [(87, 85)]
    assert rows("SELECT * FROM posts_quarantine") == [(3, 3, "text", "geo")]


def test_a_second_run_changes_nothing(rows, land):
    events = [land("gone", [1]), land("edited", [3], "rehydrate", "tweet_edited")]
    redact(events)
    before = rows("SELECT * FROM posts ORDER BY id")

    report = redact(events)

    assert (report["removed"], report["quarantined"], report["scrubbed"]) == (0, 0, 0)
    assert rows("SELECT * FROM posts ORDER BY id") == before


def test_columns_may_be_given_as_columns(rows, land):
    assert redact(land("gone", [1]), columns=Columns("id", "author", ("geo",)))["removed"] == 1


def test_a_result_without_events_changes_nothing(rows, land):
    assert redact(land("none", []))["removed"] == 0


def test_a_no_go_fails_at_once_and_says_what_to_do(rows, land):
    told = refusal(land("gone", range(1, 7)))

    assert told.startswith("No go, nothing was written: posts: 6 rows to remove of 100 are 6.0000%")
    assert "raise it, or give None" in told
    assert rows("SELECT count(*) FROM posts") == [(100,)]
    assert redact(land("gone", range(1, 7)), max_removal_ratio=None)["removed"] == 6


def test_many_edits_are_no_go(rows, land):
    told = refusal(land("edited", range(1, 101), "rehydrate", "tweet_edited"))

    assert "100 rows to move or scrub of 100 are 100.0000%, more than max_change_ratio=0.05" in told


def test_none_as_text_is_no_limit(rows, land):
    given = {"max_removal_ratio": "None", "max_removals": "None", "quarantine_table": "None"}

    assert redact(land("gone", range(1, 7)), policy="None", **given)["removed"] == 6


def test_an_empty_text_is_not_taken_for_no_limit(rows, land):
    assert refusal(land("gone", [1]), max_removal_ratio="").startswith("max_removal_ratio: Expected `float")


def test_a_dry_run_writes_nothing(rows, land):
    report = redact([land("gone", [1]), land("edited", [3], "rehydrate", "tweet_edited")], dry_run=True)

    assert (report["removed"], report["quarantined"], report["dry_run"]) == (1, 1, True)
    assert rows("SELECT count(*) FROM posts") == [(100,)]
    assert rows("SELECT to_regclass('posts_quarantine')") == [(None,)]


def test_unknown_actions_fail_the_task_after_the_others_are_applied(rows, land):
    events = [land("gone", [1]), land("odd", [2, 3], "eat", "hungry")]

    assert "(eat/hungry), about which nothing was done; the others are applied" in refusal(events)
    assert rows("SELECT count(*) FROM posts") == [(99,)]
    assert "the others are counted" in refusal(events, dry_run=True)


def test_the_policy_makes_unknown_actions_known(rows, land):
    report = redact(land("odd", [2, 3], "eat", "hungry"), policy={"eat/hungry": "remove"})

    assert (report["removed"], report["unknown"]) == (2, {})


def test_a_result_that_is_not_what_was_landed_changes_nothing(rows, land):
    good, bad = land("gone", [1]), land("other", [2])
    Path(bad["destination"]).write_text(
        json.dumps({"id": "3", "action": "delete", "reason": "deleted"}) + "\n"
    )

    assert "it was replaced or damaged" in refusal([good, bad])
    assert rows("SELECT count(*) FROM posts") == [(100,)]


def test_a_store_that_fails_may_be_tried_again(rows, land):
    events = land("gone", [1])["destination"]
    Path(events).unlink()
    Path(events).mkdir()

    with pytest.raises(StorageError):
        redact(events)


def test_a_database_that_is_down_may_be_tried_again(land, connect, tmp_path):
    connect("warehouse", conn_type="postgres", host=str(tmp_path), schema="postgres")

    with pytest.raises(Exception, match="connection") as caught:
        redact(land("gone", [1]))

    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"table": "posts; DROP TABLE posts"}, "is no name of a table"),
        ({"table": "nowhere"}, 'relation "nowhere" does not exist'),
        ({"columns": {"id": "tweet_id"}}, "there is no column 'tweet_id'"),
        ({"columns": {"id": "id", "autor": "author"}}, "autor"),
        ({"columns": {}}, "id"),
        ({"columns": {"id": "id", "geo": "geo"}}, "geo"),
        ({"shape": "users"}, "events of tweets"),
        ({"shape": "people"}, "people"),
        ({"policy": {"delete/deleted": "forget"}}, "remove, quarantine, scrub, keep"),
        ({"max_removal_ratio": 5}, "max_removal_ratio"),
        ({"insert_rows": 0}, "insert_rows"),
        ({"dry_run": "perhaps"}, "dry_run: Expected `bool`"),
        ({"events": [[]]}, "nothing was checked"),
        ({"events": None}, "neither a URI nor the receipt"),
    ],
)
def test_what_cannot_be_done_fails_at_once(rows, land, arguments, words):
    assert words in refusal(**{"events": land("gone", [1])} | arguments)
    assert rows("SELECT count(*) FROM posts") == [(100,)]


def test_users_of_a_table_without_authors_are_refused_before_the_database_is_asked(land, connect):
    connect("warehouse", conn_type="postgres", host="nowhere.invalid")

    told = refusal(land("users", [7], job_type="users"), columns={"id": "id"})

    assert told == "posts: there are events of users, but no column holds such ids; name it in columns="


def test_a_connection_of_something_else_is_refused(land, connect):
    connect("warehouse", conn_type="aws")

    assert refusal(land("gone", [1])) == "connection 'warehouse' is none of a SQL database"


def test_without_common_sql_the_extra_is_named(land, monkeypatch):
    monkeypatch.setitem(sys.modules, "airflow.providers.common.sql.hooks.sql", None)

    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"airflow-provider-xcompliance\[sql\]"):
        redact(land("gone", [1]))


def test_what_is_planned_and_done_is_logged_without_a_row_s_text(rows, land, caplog):
    with caplog.at_level("INFO", logger="airflow_provider_xcompliance.tables"):
        redact(land("gone", [1, 2]))

    assert "posts: rows to remove: 2, to quarantine: 0, to take the location from: 0" in caplog.messages
    assert "posts: 2 rows because of delete/deleted" in caplog.messages
    assert "posts: 2 rows removed" in caplog.messages


class TestInAirflow:
    def test_every_parameter_is_a_template(self, rows, land):
        values = {
            "sql_conn_id": "{{ 'warehouse' }}",
            "table": "{{ 'posts' }}",
            "columns": {"id": "{{ 'id' }}", "author": "author", "geo": ["{{ 'geo' }}"]},
            "events": "{{ path }}",
            "events_conn_id": "{{ 'store' }}",
            "shape": "{{ 'posts' }}",
            "policy": {"delete/deleted": "{{ 'quarantine' }}"},
            "dry_run": "{{ False }}",
            "max_removal_ratio": "{{ 0.5 }}",
            "max_removals": "{{ 3 }}",
            "max_change_ratio": "{{ None }}",
            "quarantine_table": "{{ 'elsewhere' }}",
            "insert_rows": "{{ 2 }}",
        }
        assert {"is_dry_run" if name == "dry_run" else name for name in values} == {
            *RedactTableOperator.template_fields
        }
        task = RedactTableOperator(task_id="redact", **values)

        task.render_template_fields({"path": land("gone", [1, 2, 3])["destination"]})

        assert task.execute({})["refetch"] == "elsewhere"
        assert rows("SELECT count(*) FROM elsewhere") == [(3,)]

    def test_it_can_be_mapped_over_and_serialized(self):
        from airflow.serialization import serialized_objects

        with DAG("mapping", schedule=None) as dag:
            operator("/events", task_id="single", columns=Columns("id", "author", ("geo",)))
            RedactTableOperator.partial(
                task_id="mapped", sql_conn_id="warehouse", columns=Columns("id"), dry_run=True
            ).expand_kwargs([{"table": "a", "events": "/a"}, {"table": "b", "events": "/b"}])

        # Its name since 3.2, and before.
        serializer = getattr(serialized_objects, "DagSerialization", serialized_objects.SerializedDAG)
        text = json.dumps(serializer.to_dict(dag))

        assert [text.count(f'"task_id": "{name}"') for name in ("single", "mapped")] == [1, 1]
