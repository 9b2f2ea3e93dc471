"""
Is an archive clean, and all else as it was? Looked at record by record, and not with this project's readers.

The stand-in is asked about every id that stands in the archive, whether it was ever submitted or not.
"""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import zstandard

from airflow_provider_xcompliance.emulator.results import Rules
from airflow_provider_xcompliance.emulator.settings import Settings

Record = dict[str, Any]

#: What may have to happen to a record; of several, the last.
FATES = ("keep", "scrub", "fetch again", "remove")
GOES = ("fetch again", "remove")

#: How many problems of a file are told of; the first says enough.
MAX_PROBLEMS = 3

POST_LOCATION = ("geo", "coordinates", "place")
USER_LOCATION = ("location",)
TABLE_LOCATION = ("place", "longitude", "latitude")


class Answers:
    """
    What X says about posts and users.

    :param about: returns the fate of an id by its event alone; it is given the job type and the id
    """

    def __init__(self, about: Callable[[str, str], str]) -> None:
        self._about = cache(about)

    @classmethod
    def of_stand_in(cls, flow: str) -> "Answers":
        """
        Return what the stand-in X API says, with its settings as they are at its start.

        :param flow: ``current`` or ``legacy``
        """
        settings = Settings()
        rules = {
            job_type: Rules(flow, job_type, seed=settings.seed, event_rate=settings.event_rate, events=None)
            for job_type in ("tweets", "users")
        }

        def about(job_type: str, an_id: str) -> str:
            return _worst(_fate(json.loads(event)) for event in rules[job_type].records(an_id.encode()))

        return cls(about)

    def of_user(self, user_id: str) -> str:
        """Return the fate of a user."""
        return self._about("users", user_id)

    def of_post(self, post_id: str, author_id: str | None) -> str:
        """Return the fate of a post, which its author's may be too."""
        return _worst([self._about("tweets", post_id), self.of_user(author_id) if author_id else "keep"])


def _fate(event: Record) -> str:
    if event["reason"] in ("geo_scrubbed", "scrub_geo"):
        return "scrub"
    return "fetch again" if event["action"] == "rehydrate" else "remove"


def _worst(fates: Iterable[str]) -> str:
    return max(fates, key=FATES.index, default="keep")


# What is to be left of a record


class Night:
    """
    What one night should do to records; counts what it does.

    :param answers: what X says
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.fates: Counter[str] = Counter()
        self._scrubs = 0

    def left_of(self, record: Record) -> Record | None:
        """Return what should be left of a line or row; None: nothing."""
        if "data" in record:
            return self._page(record)
        if "tweet_id" in record:
            return self._own(record, self._answers.of_post(*_ids_of_row(record)), self._row)
        if "username" in record:
            return self._own(record, self._answers.of_user(record["id"]), self._user)
        return self._own(record, self._fate(record, {}), self._post)

    def _own(self, record: Record, fate: str, clean: Callable[[Record], Record]) -> Record | None:
        scrubs = self._scrubs
        left = None if fate in GOES else clean(record)
        if fate in GOES:
            self.fates[fate] += 1
        elif self._scrubs > scrubs:
            self.fates["scrub"] += 1
        return left

    def _fate(self, post: Record, authors: dict[str, str]) -> str:
        """A retweet shares the fate of what it repeats, unless that is about its location alone."""
        fates = [self._answers.of_post(_id(post), _author(post))]
        for other in _retweeted(post):
            fate = self._answers.of_post(_id(other), _author(other) or authors.get(_id(other)))
            fates.append(fate if fate in GOES else "keep")
        return _worst(fates)

    def _post(self, post: Record) -> Record:
        left = dict(post)
        if self._answers.of_post(_id(post), _author(post)) == "scrub":
            left = self._without(left, POST_LOCATION)
        for member in ("user", "author"):
            if member in left:
                left[member] = self._user(left[member])
        for member in {"retweeted_status", "quoted_status"} & set(post):
            other = left.pop(member)
            if self._fate(other, {}) not in GOES:
                left[member] = self._post(other)
        if "referenced_tweets" in left:
            left["referenced_tweets"] = [*map(self._reference, left["referenced_tweets"])]
        return left

    def _reference(self, other: Record) -> Record:
        if "text" not in other:
            return other
        is_gone = self._fate(other, {}) in GOES
        return {"type": other["type"], "id": other["id"]} if is_gone else self._post(other)

    def _user(self, user: Record) -> Record:
        scrub = self._answers.of_user(_id(user)) == "scrub"
        return self._without(user, USER_LOCATION) if scrub else user

    def _row(self, row: Record) -> Record:
        if self._answers.of_post(*_ids_of_row(row)) != "scrub":
            return row
        empty = "" if isinstance(row["tweet_id"], str) else None
        left = row | dict.fromkeys(TABLE_LOCATION, empty)
        self._scrubs += left != row
        return left

    def _without(self, record: Record, members: tuple[str, ...]) -> Record:
        left = {name: value for name, value in record.items() if name not in members or value is None}
        self._scrubs += left != record
        return left

    def _page(self, page: Record) -> Record | None:
        includes, scrubs, scrubbed = page["includes"], self._scrubs, self.fates["scrub"]
        authors = {post["id"]: post["author_id"] for post in [*page["data"], *includes["tweets"]]}
        own = [self._own(post, self._fate(post, authors), self._post) for post in page["data"]]
        data = [post for post in own if post]
        tweets = [self._post(post) for post in includes["tweets"] if self._fate(post, authors) not in GOES]
        users = [
            self._user(user) for user in includes["users"] if self._answers.of_user(user["id"]) != "remove"
        ]
        unused = _places([*page["data"], *includes["tweets"]]) - _places([*data, *tweets])
        places = [place for place in includes["places"] if place["id"] not in unused]
        # What a location is taken from beside the posts makes one record of the page.
        if data and self._scrubs > scrubs and self.fates["scrub"] == scrubbed:
            self.fates["scrub"] += 1
        left = {"users": users, "tweets": tweets, "places": places}
        return page | {"data": data, "includes": includes | left} if data else None


def _id(record: Record) -> str:
    found: str = record.get("id_str") or record["id"]
    return found


def _author(post: Record) -> str | None:
    found: str | None = post.get("author_id") or post.get("user", {}).get("id_str")
    return found


def _ids_of_row(row: Record) -> tuple[str, str]:
    return str(row["tweet_id"]), str(row["user_id"])


def _retweeted(post: Record) -> Iterator[Record]:
    if "retweeted_status" in post:
        yield post["retweeted_status"]
    yield from (other for other in post.get("referenced_tweets", ()) if other["type"] == "retweeted")


def _places(posts: list[Record]) -> set[str]:
    return {post["geo"]["place_id"] for post in posts if "geo" in post}


# Files


@dataclass(frozen=True)
class Item:
    """
    A line, or a row.

    :param raw: its bytes, where it has some of its own
    :param record: None: it is no record
    """

    raw: bytes
    record: Record | None

    @property
    def size(self) -> int:
        """How many records it counts for: a page is as many as it has posts."""
        return 0 if self.record is None else len(self.record.get("data", [0]))


def read(path: Path) -> list[Item]:
    """Read a file of the archive."""
    return [*_READERS[path.suffix](path)]


def _lines(content: bytes) -> Iterator[Item]:
    for line in content.splitlines(keepends=True):
        yield Item(line, _record(line))


def _record(line: bytes) -> Record | None:
    try:
        record: Record = json.loads(line)
    except ValueError:
        return None
    return record if {"id", "id_str", "data"} & set(record) else None


def _csv_rows(path: Path) -> Iterator[Item]:
    with path.open(encoding="utf-8", newline="") as file:
        lines = file.readlines()
    rows = csv.reader(lines)
    header, begin = next(rows), 1
    yield Item(lines[0].encode(), None)
    for row in rows:
        # A quoted field may go over several lines.
        raw, begin = "".join(lines[begin : rows.line_num]), rows.line_num
        yield Item(raw.encode(), dict(zip(header, row, strict=True)))


def _parquet_rows(path: Path) -> Iterator[Item]:
    for row in pq.read_table(path).to_pylist():
        yield Item(b"", row)


_READERS: dict[str, Callable[[Path], Iterator[Item]]] = {
    ".ndjson": lambda path: _lines(path.read_bytes()),
    ".jsonl": lambda path: _lines(path.read_bytes()),
    ".gz": lambda path: _lines(gzip.decompress(path.read_bytes())),
    ".zst": lambda path: _lines(zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())),
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}


@dataclass
class FileCheck:
    """
    A file before and after.

    :param name: its path inside the archive
    :param records: how many there were, and are
    :param no_records: how many lines are none
    :param sizes: bytes before and after
    :param fates: how many records should have gone, or have lost a location
    :param problems: what is not as it should be
    """

    name: str
    records: tuple[int, int]
    no_records: int
    sizes: tuple[int, int]
    fates: Counter[str]
    problems: list[str] = field(default_factory=list)


def check(before: Path, after: Path, answers: Answers) -> list[FileCheck]:
    """
    Compare an archive with what it was.

    :param before: a directory with a copy from before the night
    :param after: the archive's directory
    """
    files = sorted(path.relative_to(before) for path in before.rglob("*") if path.is_file())
    return [_check_file(before / name, after / name, str(name), answers) for name in files]


def _check_file(before: Path, after: Path, name: str, answers: Answers) -> FileCheck:
    night = Night(answers)
    old, new = read(before), read(after)
    left = [(item, night.left_of(item.record) if item.record else None) for item in old]
    expected = [(item, record) for item, record in left if record or not item.record]
    problems = [
        *_differences(expected, new),
        *(problem for item in new for problem in still_there(item.record, answers)),
    ]
    if before.suffix == ".parquet" and _parquet_facts(before) != _parquet_facts(after):
        problems.append("another schema, compression or metadata")
    return FileCheck(
        name=name,
        records=(sum(item.size for item in old), sum(item.size for item in new)),
        no_records=sum(item.record is None for item in new),
        sizes=(before.stat().st_size, after.stat().st_size),
        fates=night.fates,
        problems=[f"{name}: {problem}" for problem in problems[:MAX_PROBLEMS]],
    )


def _differences(expected: Sequence[tuple[Item, Record | None]], new: Sequence[Item]) -> Iterator[str]:
    if len(expected) != len(new):
        yield f"{len(new):,} lines or rows are left, not {len(expected):,}"
    for number, ((item, record), have) in enumerate(zip(expected, new, strict=False), start=1):
        # What nothing happens to keeps its bytes.
        if have != item if record == item.record else have.record != record:
            yield f"line or row {number:,} is not as it should be: {str(have.record or have.raw)[:200]}"
            return


def _parquet_facts(path: Path) -> Any:
    file = pq.ParquetFile(path)
    columns = range(file.metadata.num_columns)
    compressions = [file.metadata.row_group(0).column(column).compression for column in columns]
    return file.schema_arrow, file.schema_arrow.metadata, compressions


def still_there(record: Any, answers: Answers) -> Iterator[str]:
    """Look through a record, however deep, for what should be gone, however it came to be there."""
    for found in _objects(record):
        for kind, (members, location, fate_of) in _KINDS.items():
            if members & set(found):
                yield from _complaints(f"{kind} {_any_id(found)}", found, location, fate_of(found, answers))
                break


def _complaints(what: str, found: Record, location: tuple[str, ...], fate: str) -> Iterator[str]:
    if fate in GOES:
        yield f"{what} is still there, to {fate}"
    if fate == "scrub" and any(found.get(member) for member in location):
        yield f"{what} still has a location"


def _objects(value: Any) -> Iterator[Record]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _any_id(found: Record) -> Any:
    return found.get("tweet_id") or _id(found)


#: What gives a kind of object away, where its location is, and its fate; the first that fits counts.
_KINDS: dict[str, tuple[set[str], tuple[str, ...], Callable[[Record, Answers], str]]] = {
    "row": (
        {"tweet_id"},
        TABLE_LOCATION,
        lambda row, answers: answers.of_post(*_ids_of_row(row)),
    ),
    "user": (
        {"username", "screen_name"},
        USER_LOCATION,
        lambda user, answers: answers.of_user(_id(user)),
    ),
    "post": (
        {"text", "full_text"},
        POST_LOCATION,
        lambda post, answers: answers.of_post(_id(post), _author(post)),
    ),
}
