"""
Write a sample archive, the same each time: ``python -m demo.sample.archive DIRECTORY``.

Posts and users are invented; their ids are those of the samples beside this file. It has what an archive
has after some years: several shapes and formats, posts inside of posts, and lines that are no records.
"""

import csv
import gzip
import json
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

HERE = Path(__file__).parent
SEED = 2010
EPOCH = datetime(2010, 11, 4, 1, 42, 54, 657_000, tzinfo=UTC)
FIRST_SNOWFLAKE = 1 << 32
PAGE_SIZE = 50
ROW_GROUP_SIZE = 500

#: How many posts are, on average, a retweet of, a quote of, or a reply to another one, and have a place.
REFERENCES = {"retweeted": 0.12, "quoted": 0.08, "replied_to": 0.10}
PLACED = 0.3

#: What stands between the records, as in archives that were written by streams, and by programs that were
#: killed: it is to be kept, and reported.
CUT_LINE = '{"id":"1450000000000000001","author_id":"2244994945","text":"cut in the mid'
NOTICE = '{"limit":{"track":42,"timestamp_ms":"1546300800000"}}'

PLACES = {
    "Berlin": ("Germany", 13.405, 52.52),
    "Nairobi": ("Kenya", 36.8219, -1.2921),
    "São Paulo": ("Brazil", -46.6333, -23.5505),
    "東京": ("日本", 139.6917, 35.6895),
    "Halifax": ("Canada", -63.5752, 44.6488),
    "Chennai": ("India", 80.2707, 13.0827),
}
OPENINGS = (
    "Good morning",
    "Breaking:",
    "I think",
    "Look at this",
    "Reminder:",
    "¿Quién sabe?",
    "今日は",
    "LOL",
)
MIDDLES = (
    "the train is late",
    "we shipped it",
    'she said "never again"',
    "rain, again",
    "5 < 6 & 7 > 6",
    "a/b",
)
ENDINGS = (
    "",
    "🚆",
    "#DataScience",
    "https://t.co/abc123XYZ",
    "\nmore below",
    "— see 1212092628029698048",
    "👩‍💻",
)
NAMES = ("Ada", "Björn", "Chidi", "Dana", "Eun-ji", "Fátima", "George", "花子")


@dataclass(frozen=True)
class User:
    """Somebody who posts."""

    id: str
    name: str
    username: str
    location: str | None
    since: datetime


@dataclass(frozen=True)
class Post:
    """
    A post.

    :param place: a key of :data:`PLACES`
    :param reference: how it refers to the other one
    """

    id: str
    author: User
    text: str
    at: datetime
    place: str | None
    reference: str | None
    other: "Post | None"


class World:
    """All posts and users, in a fixed random order."""

    def __init__(self) -> None:
        self._random = random.Random(SEED)
        self.users = [self._user(line) for line in _ids("users.txt")]
        self.posts: list[Post] = []
        ids = _ids("tweets.txt")
        self._random.shuffle(ids)
        for post_id in ids:
            self.posts.append(self._post(post_id))

    def _user(self, user_id: str) -> User:
        name = self._random.choice(NAMES)
        username = f"{name.encode('ascii', 'ignore').decode() or 'user'}_{user_id[-6:]}"
        location = self._random.choice([*PLACES, None])
        return User(user_id, name, username, location, _moment(user_id))

    def _post(self, post_id: str) -> Post:
        author, at = self._random.choice(self.users), _moment(post_id)
        text = " ".join(self._random.choice(words) for words in (OPENINGS, MIDDLES, ENDINGS)).strip()
        place = self._random.choice([*PLACES]) if self._random.random() < PLACED else None
        weights = [*REFERENCES.values(), 1 - sum(REFERENCES.values())]
        (reference,) = self._random.choices([*REFERENCES, None], weights)
        if not reference or not self.posts:
            return Post(post_id, author, text, at, place, None, None)
        other = self._random.choice(self.posts)
        if reference != "retweeted":
            return Post(post_id, author, text, at, place, reference, other)
        # Who repeats a retweet repeats what it repeats.
        if other.reference == "retweeted" and other.other:
            other = other.other
        text = f"RT @{other.author.username}: {other.text}"
        return Post(post_id, author, text, at, None, reference, other)


def _ids(name: str) -> list[str]:
    return (HERE / name).read_text().split()


def _moment(an_id: str) -> datetime:
    number = int(an_id)
    if number < FIRST_SNOWFLAKE * 8:
        return EPOCH - timedelta(days=1600) + timedelta(milliseconds=number)
    return EPOCH + timedelta(milliseconds=number >> 22)


# The shapes


def flat(post: Post, *, whole: bool = False) -> dict[str, Any]:
    """
    Return a post as API v2 has it.

    :param whole: with author and referenced posts inside, as ``twarc2 flatten`` leaves them
    """
    record: dict[str, Any] = {
        "id": post.id,
        "text": post.text,
        "author_id": post.author.id,
        "created_at": _iso(post.at),
        "edit_history_tweet_ids": [post.id],
        "public_metrics": {"like_count": int(post.id[-2:]), "retweet_count": int(post.id[-1])},
    }
    if post.place:
        longitude, latitude = PLACES[post.place][1:]
        point = {"type": "Point", "coordinates": [longitude, latitude]}
        record["geo"] = {"place_id": _place_id(post.place), "coordinates": point}
    if post.other:
        inside = flat(post.other, whole=whole) if whole and post.reference != "replied_to" else {}
        record["referenced_tweets"] = [{"type": post.reference, "id": post.other.id, **inside}]
    if post.reference == "replied_to" and post.other:
        record["in_reply_to_user_id"] = post.other.author.id
    if whole:
        record["author"] = profile(post.author)
    return record


def profile(user: User) -> dict[str, Any]:
    """Return a user as API v2 has it."""
    record = {"id": user.id, "name": user.name, "username": user.username, "created_at": _iso(user.since)}
    return record | ({"location": user.location} if user.location else {})


def classic(post: Post) -> dict[str, Any]:
    """Return a post as API v1.1 has it, with the posts that it retweets or quotes inside."""
    record: dict[str, Any] = {
        "created_at": _classic_time(post.at),
        "id": int(post.id),
        "id_str": post.id,
        "full_text": post.text,
        "user": {
            "id": int(post.author.id),
            "id_str": post.author.id,
            "name": post.author.name,
            "screen_name": post.author.username,
            "location": post.author.location,
            "created_at": _classic_time(post.author.since),
        },
        "geo": None,
        "coordinates": None,
        "place": None,
        "lang": "en",
    }
    if post.place:
        country, longitude, latitude = PLACES[post.place]
        record["geo"] = {"type": "Point", "coordinates": [latitude, longitude]}
        record["coordinates"] = {"type": "Point", "coordinates": [longitude, latitude]}
        record["place"] = {"id": _place_id(post.place), "full_name": post.place, "country": country}
    match post.reference, post.other:
        case "retweeted", Post() as other:
            record["retweeted_status"] = classic(other)
        case "quoted", Post() as other:
            record |= {"quoted_status_id_str": other.id, "quoted_status": classic(other)}
        case "replied_to", Post() as other:
            record |= {
                "in_reply_to_status_id_str": other.id,
                "in_reply_to_user_id_str": other.author.id,
            }
    return record


def page(posts: Sequence[Post]) -> dict[str, Any]:
    """Return a response of API v2 as ``twarc2 search`` writes it: posts, and beside them what they name."""
    others = _unique(post.other for post in posts if post.other)
    authors = {post.author.id: post.author for post in (*posts, *others)}
    places = sorted({post.place for post in (*posts, *others) if post.place})
    return {
        "data": [flat(post) for post in posts],
        "includes": {
            "users": [profile(author) for author in authors.values()],
            "tweets": [flat(other) for other in others],
            "places": [
                {"id": _place_id(place), "full_name": place, "country": PLACES[place][0]} for place in places
            ],
        },
        "meta": {"result_count": len(posts), "newest_id": max((p.id for p in posts), key=int)},
        "__twarc": {"url": "https://api.x.com/2/tweets/search/all", "version": "2.14.0"},
    }


def row(post: Post) -> dict[str, Any]:
    """Return a post as a row of a table."""
    longitude, latitude = PLACES[post.place][1:] if post.place else (None, None)
    return {
        "tweet_id": int(post.id),
        "user_id": int(post.author.id),
        "created_at": _iso(post.at),
        "text": post.text,
        "place": post.place,
        "longitude": longitude,
        "latitude": latitude,
    }


def _unique(posts: Iterable[Post]) -> list[Post]:
    return [*{post.id: post for post in posts}.values()]


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _classic_time(moment: datetime) -> str:
    return moment.strftime("%a %b %d %H:%M:%S +0000 %Y")


def _place_id(place: str) -> str:
    return f"{sum(place.encode()):016x}"


# The files

_compact = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))


def write_stream(path: Path, posts: Sequence[Post]) -> None:
    """Write posts of API v2; some have others inside. One line was cut when its writer was killed."""
    lines = [_compact(flat(post, whole=post.id.endswith("1"))) for post in posts]
    middle = len(lines) // 2
    path.write_bytes(_lines([*lines[:middle], CUT_LINE, "", *lines[middle:]]))


def write_timeline(path: Path, posts: Sequence[Post]) -> None:
    """Write posts of API v1.1, with white space and escapes, and a notice of the stream between them."""
    lines = [json.dumps(classic(post)) for post in posts]
    path.write_bytes(gzip.compress(_lines([*lines[:100], NOTICE, *lines[100:]]), mtime=0))


def write_pages(path: Path, posts: Sequence[Post]) -> None:
    """Write responses of API v2."""
    starts = range(0, len(posts), PAGE_SIZE)
    lines = [_compact(page(posts[start : start + PAGE_SIZE])) for start in starts]
    path.write_bytes(zstandard.compress(_lines(lines)))


def write_users(path: Path, users: Sequence[User]) -> None:
    """Write users of API v2."""
    path.write_bytes(_lines([_compact(profile(user)) for user in users]))


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def write_csv(path: Path, posts: Sequence[Post]) -> None:
    """Write a table with quoted fields, some of which go over several lines."""
    rows = [row(post) for post in posts]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, posts: Sequence[Post]) -> None:
    """Write a table in several row groups."""
    table = pa.Table.from_pylist([row(post) for post in posts])
    table = table.replace_schema_metadata({"written by": "a warehouse"})
    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP_SIZE)


@dataclass(frozen=True)
class Sample:
    """
    A file of posts.

    :param kind: what it holds, in words
    :param size: how many
    """

    name: str
    kind: str
    size: int
    write: Callable[[Path, Sequence[Post]], object]


SAMPLES = (
    Sample("posts/search.ndjson.zst", "v2 pages, zstd", 1_500, write_pages),
    Sample("posts/stream.ndjson", "v2 posts", 3_000, write_stream),
    Sample("posts/timeline.ndjson.gz", "v1.1, gzip", 2_500, write_timeline),
    Sample("tables/export.csv", "CSV", 1_500, write_csv),
    Sample("tables/warehouse.parquet", "Parquet", 1_500, write_parquet),
)
USERS = "users/profiles.jsonl"

#: What each file holds, in words.
KINDS = {sample.name: sample.kind for sample in SAMPLES} | {USERS: "v2 users"}


def write_archive(directory: Path) -> None:
    """
    Write the archive.

    :param directory: new or empty
    """
    world = World()
    posts = iter(world.posts)
    for sample in SAMPLES:
        sample.write(_new(directory / sample.name), [next(posts) for _ in range(sample.size)])
    write_users(_new(directory / USERS), world.users)


def _new(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    write_archive(Path(sys.argv[1]))
