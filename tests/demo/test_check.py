"""The check of the demo finds what is wrong with an archive; that it passes what is right, the demo shows."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demo.check import Answers, check

FATES = {
    ("tweets", "1"): "remove",
    ("tweets", "2"): "scrub",
    ("tweets", "3"): "fetch again",
    ("users", "10"): "remove",
    ("users", "20"): "scrub",
}
ANSWERS = Answers(lambda job_type, an_id: FATES.get((job_type, an_id), "keep"))


def post(number, author="90", **more):
    return {"id": str(number), "text": f"post {number}", "author_id": author, **more}


def old(number, author="90", **more):
    user = {"id_str": author, "screen_name": "someone", "location": "here"}
    return {"id_str": str(number), "full_text": f"post {number}", "user": user, **more}


def user(number, **more):
    return {"id": str(number), "username": f"user{number}", **more}


def page(data, tweets=(), users=(), places=()):
    includes = {"tweets": [*tweets], "users": [*users], "places": [*places]}
    return {"data": [*data], "includes": includes}


def lines(*records):
    return b"".join(
        each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in records
    )


def problems(tmp_path, before, after, name="a.ndjson"):
    for folder, content in (("before", before), ("after", after)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_bytes(content)
    (found,) = check(tmp_path / "before", tmp_path / "after", ANSWERS)
    return found.problems


HERE = {"geo": {"place_id": "p"}}
PLACE = {"id": "p", "full_name": "here"}
BAD = b'{"id":"1","text":"cut\n'

RIGHT = {
    "a post that was removed": ([post(1), post(7)], [post(7)]),
    "a post that waits to be fetched again": ([post(3), post(7)], [post(7)]),
    "a post of a user who was removed": ([post(7, "10"), post(8)], [post(8)]),
    "a location": ([post(2, **HERE)], [post(2)]),
    "a location of a user's post": ([post(7, "20", **HERE)], [post(7, "20")]),
    "a retweet": (
        [post(7, referenced_tweets=[{"type": "retweeted", "id": "1"}]), post(8)],
        [post(8)],
    ),
    "a quoted post of v1.1": ([old(7, quoted_status=old(1))], [old(7)]),
    "a quoted post of v2": (
        [post(7, referenced_tweets=[{"type": "quoted", **post(1)}])],
        [post(7, referenced_tweets=[{"type": "quoted", "id": "1"}])],
    ),
    "a user": ([user(10), user(20, location="here"), user(30)], [user(20), user(30)]),
    "a page": (
        [page([post(1, **HERE), post(7)], [post(8, "10")], [user(10), user(90)], [PLACE])],
        [page([post(7)], [], [user(90)], [])],
    ),
    "the last of a page": ([page([post(1)]), page([post(7)])], [page([post(7)])]),
    "nothing": ([post(7), BAD, b"\n"], [post(7), BAD, b"\n"]),
}


@pytest.mark.parametrize(("before", "after"), RIGHT.values(), ids=RIGHT)
def test_what_should_be_gone_and_is_gone_is_no_problem(tmp_path, before, after):
    assert problems(tmp_path, lines(*before), lines(*after)) == []


@pytest.mark.parametrize("before", [before for before, after in RIGHT.values() if before != after])
def test_what_should_be_gone_and_is_there_is_a_problem(tmp_path, before):
    assert problems(tmp_path, lines(*before), lines(*before)) != []


WRONG = {
    "a post is missing": ([post(7), post(8)], [post(8)]),
    "a line that is no record is missing": ([post(7), BAD], [post(7)]),
    "an empty line is missing": ([post(7), b"\n"], [post(7)]),
    "posts have changed places": ([post(7), post(8)], [post(8), post(7)]),
    "other white space": ([post(7)], [json.dumps(post(7), indent=0).replace("\n", "").encode() + b"\n"]),
    "the text went with the location": ([post(2, **HERE)], [{"id": "2", "author_id": "90"}]),
    "the post went with what it quotes": ([old(7, quoted_status=old(1)), old(8)], [old(8)]),
    "the page went with a post": ([page([post(1), post(7)]), page([post(8)])], [page([post(8)])]),
    "a place went that is needed": (
        [page([post(1, **HERE), post(7, **HERE)], places=[PLACE])],
        [page([post(7, **HERE)])],
    ),
}


@pytest.mark.parametrize(("before", "after"), WRONG.values(), ids=WRONG)
def test_what_should_be_there_and_is_gone_or_different_is_a_problem(tmp_path, before, after):
    assert problems(tmp_path, lines(*before), lines(*after)) != []


def row(number, author=90, place="here"):
    return {
        "tweet_id": number,
        "user_id": author,
        "text": "a\nb",
        "place": place,
        "longitude": 1.5,
        "latitude": 2.5,
    }


def csv_of(*rows):
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, [*row(1)])
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def parquet_of(*rows, compression="zstd"):
    file = io.BytesIO()
    schema = pa.Table.from_pylist([row(1)]).schema
    pq.write_table(pa.Table.from_pylist([*rows], schema), file, compression=compression)
    return file.getvalue()


SCRUBBED = row(2) | dict.fromkeys(("place", "longitude", "latitude"))
TABLES = {"a.csv": csv_of, "a.parquet": parquet_of}


@pytest.mark.parametrize("name", TABLES)
def test_tables_lose_rows_and_locations_and_nothing_else(tmp_path, name):
    table = TABLES[name]
    before = table(row(1), row(2), row(3), row(7, 10), row(8))
    assert problems(tmp_path / "right", before, table(SCRUBBED, row(8)), name) == []
    assert problems(tmp_path / "missing", before, table(SCRUBBED), name) != []
    assert problems(tmp_path / "location", before, table(row(2), row(8)), name) != []
    assert problems(tmp_path / "row", before, table(SCRUBBED, row(8, place="there")), name) != []


def test_another_compression_of_parquet_is_a_problem(tmp_path):
    assert problems(tmp_path, parquet_of(row(8)), parquet_of(row(8), compression="snappy"), "a.parquet") != []
