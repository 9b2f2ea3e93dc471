"""
Ids of posts and users out of newline-delimited JSON: ours beside ``json.loads`` of every line, and jq.

As starting counts, what runs in a child imports no harness.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.harness import Row

#: What is raced: kind of archive, megabytes, rival, gate. Version 1.1 has none: merely to skip such posts,
#: without a look at any member, takes a ninth of what json.loads takes for them.
RACES = (
    ("v2", 1_000, "json_loads", 5.0),
    ("v2", 1_000, "jq", 10.0),
    ("v1", 200, "json_loads", None),
    ("v1", 200, "jq", None),
)

MOST_MB = 100

#: All posts whose content is there, or is retweeted, and their authors, marked with a u.
JQ = r"""
def posts: ., (.retweeted_status, .quoted_status | select(. != null) | posts);
posts
| (.id_str // .id), "u" + (.author_id // .user.id_str),
  (.referenced_tweets // [] | .[] | select(.type == "retweeted") | .id)
"""


def ours(source: Path) -> None:
    import numpy as np

    from airflow_provider_xcompliance.archive.formats import format_of
    from airflow_provider_xcompliance.archive.guards import JOB_TYPES
    from airflow_provider_xcompliance.archive.index import FileIndex, IndexWriter
    from airflow_provider_xcompliance.archive.ndjson import read
    from airflow_provider_xcompliance.archive.ndjson_helper import Helper
    from airflow_provider_xcompliance.archive.sorted_ids import unique_in_place

    with TemporaryDirectory(dir=source.parent) as directory:
        path = Path(directory, "index")
        with source.open("rb", buffering=0) as file, IndexWriter(path) as index, Helper() as helper:
            read(file, format_of(source.name), source.name, index, helper=helper)
        for job_type in JOB_TYPES:
            ids = np.concatenate([*FileIndex(path).ids(job_type)])
            ids.sort()
            ids = unique_in_place(ids)
            print(len(ids), ids.sum(dtype=np.uint64))


def json_loads(source: Path) -> None:
    posts, users = set[int](), set[int]()
    with source.open() as file:
        for line in file:
            for post in _posts(json.loads(line)):
                posts.add(int(post["id_str"] if "id_str" in post else post["id"]))
                users.add(int(post["author_id"] if "author_id" in post else post["user"]["id_str"]))
                for reference in post.get("referenced_tweets", ()):
                    if reference["type"] == "retweeted":
                        posts.add(int(reference["id"]))
    _print(posts, users)


def jq(source: Path) -> None:
    posts, users = set[int](), set[int]()
    with subprocess.Popen(["jq", "-r", JQ, source], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("u"):
                users.add(int(line[1:]))
            else:
                posts.add(int(line))
    _print(posts, users)


def _posts(post: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield post
    for name in ("retweeted_status", "quoted_status"):
        if name in post:
            yield from _posts(post[name])


def _print(*sets: set[int]) -> None:
    for ids in sets:
        print(len(ids), sum(ids) % 2**64)


def measure() -> list[Row]:
    return [_race(*each) for each in RACES]


def _race(kind: str, megabytes: int, rival: str, gate: float | None) -> Row:
    from benchmarks.archives import archive
    from benchmarks.harness import megabytes_of, python, race

    source, _ = archive(kind, megabytes)
    commands = [python("extract", side, source) for side in ("ours", rival)]
    what = f"ids out of NDJSON ({kind}): {rival.replace('_', '.')}"
    row = race(what, megabytes_of(source), *commands, gate=gate)
    if gate is None:
        return row
    met = bool(row.met) and row.peak_mb <= MOST_MB
    return dataclasses.replace(row, gate=f"{row.gate}, ≤ {MOST_MB} MB", met=met)


if __name__ == "__main__":
    {"ours": ours, "json_loads": json_loads, "jq": jq}[sys.argv[1]](Path(sys.argv[2]))
