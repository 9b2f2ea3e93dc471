"""
Archives as they may be found: every format and shape, with all that is odd in them, and events that hit some.

Everything is drawn from a :class:`random.Random`: a seeded one is fast, and hypothesis's own shrinks.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.archive.oracle import Events, Table

Json = Any
Object = dict[str, Json]

#: Few, so that they meet; alike at the beginning, at the end, and as doubles; of every length; the largest.
POST_IDS = (
    *(7, 70, 700_000, 123_456_789_012_345, 1_234_567_890_123_456, 12_345_678_901_234_567),
    *(1_417_860_000_000_000_000, 1_417_860_000_000_000_001, 1_417_860_000_000_000_511),
    *(2**53 - 1, 2**53, 2**53 + 1, 2**62, 2**63 - 2, 2**63 - 1, 0),
    *range(1_300_000_000_000_000_000, 1_300_000_000_000_000_000 + 40 * 4_194_305, 4_194_305),
)
#: Some of them are ids of posts too.
USER_IDS = (12, 783_214, 903_718_461, 2**31, 2**53 + 1, 2**63 - 1, *POST_IDS[-6:])

TABLE = Table("tweet id", "author", ("geo", "place, or so"))
COLUMNS = ("text", "tweet id", "geo", "author", "likes", "place, or so")
USER_TABLE = Table("user", None, ("location",))
USER_COLUMNS = ("user", "name", "location")

KINDS = (
    *(("tweets", "delete", reason) for reason in ("deleted", "protected", "suspended", "bounced", "new")),
    ("tweets", "delete", "scrub_geo"),
    *(("tweets", "scrub_geo", "geo_scrubbed"),) * 3,
    *(("tweets", "rehydrate", "tweet_edited"),) * 2,
    ("tweets", "hide", "unknown"),
    *(("users", "delete", reason) for reason in ("suspended", "deactivated")),
    *(("users", "scrub_geo", "geo_scrubbed"),) * 2,
    ("users", "delete", "scrub_geo"),
    ("users", "rehydrate", "tweet_edited"),
)
POLICIES: tuple[Mapping[str, str], ...] = (
    {},
    {},
    {"rehydrate/tweet_edited": "keep"},
    {"rehydrate/tweet_edited": "remove", "delete/suspended": "quarantine"},
    {"delete/scrub_geo": "remove", "delete/protected": "keep", "hide/unknown": "scrub"},
)

WORDS = (
    "so",
    "héllo",
    "日本",
    "😀",
    "a\tb",
    "\u2028",
    "\x85",
    "q\"'\\/",
    "\u0000",
    "{}[],:",
    "\x7f",
    "é" * 40,
)
BLANKS = ("", "", "", " ", "  ", "\t", "\r", " \t ")
# What is no UTF-8, be it half a character.
BROKEN = (b"\xff", b"\xe9", b"\xed\xa0\x80", b"\xc0\x80", b"\xe6\x97")


@dataclass
class File:
    """
    A file of an archive.

    :param name: as :func:`.formats.format_of` takes it
    :param content: plain
    """

    name: str
    content: bytes
    shape: str | None = None
    table: Table | None = None


@dataclass
class Style:
    """How JSON is written in a file: how often it is odd."""

    random: Random
    blanks: float = 0.0
    escapes: float = 0.0
    ascii_only: bool = False
    doubles: float = 0.0

    @classmethod
    def of(cls, random: Random) -> "Style":
        plain = random.random() < 0.3
        return cls(
            random,
            blanks=0.0 if plain else random.choice((0.0, 0.05, 0.5)),
            escapes=0.0 if plain else random.choice((0.0, 0.05)),
            ascii_only=random.random() < 0.5,
            doubles=0.0 if plain else random.choice((0.0, 0.01)),
        )

    def write(self, value: Json) -> str:
        if isinstance(value, dict):
            members = [
                f"{self._key(key)}{self._gap()}:{self._item(item)}" for key, item in self._members(value)
            ]
            return f"{{{self._gap()}{','.join(self._gap() + member for member in members)}{self._gap()}}}"
        if isinstance(value, list):
            return f"[{self._gap()}{','.join(map(self._item, value))}]"
        if isinstance(value, Raw):
            return str(value)
        return self._text(value) if isinstance(value, str) else json.dumps(value)

    def _members(self, value: Object) -> Iterator[tuple[str, Json]]:
        for key, item in value.items():
            if self.doubles and self.random.random() < self.doubles:
                # Of two members of the same name, the later one counts.
                yield key, self._other(item)
            yield key, item

    def _other(self, item: Json) -> Json:
        return self.random.choice((item, item if isinstance(item, dict | list) else "another"))

    def _item(self, value: Json) -> str:
        return f"{self._gap()}{self.write(value)}{self._gap()}"

    def _gap(self) -> str:
        return self.random.choice(BLANKS) if self.blanks and self.random.random() < self.blanks else ""

    def _key(self, key: str) -> str:
        return self._text(key)

    def _text(self, text: str) -> str:
        written = json.dumps(text, ensure_ascii=self.ascii_only)
        if self.escapes and self.random.random() < self.escapes and text:
            return self._escaped(text)
        return written

    def _escaped(self, text: str) -> str:
        odd = self.random.randrange(len(text))
        pieces = [json.dumps(character)[1:-1] for character in text]
        if ord(text[odd]) < 0x10000:
            pieces[odd] = f"\\u{ord(text[odd]):04{self.random.choice('xX')}}"
        if text[odd] == "/":
            pieces[odd] = "\\/"
        return f'"{"".join(pieces)}"'


class Raw(str):
    """A number as it is to be written."""


@dataclass
class Maker:
    """Makes records."""

    random: Random
    posts: Sequence[int] = POST_IDS
    users: Sequence[int] = USER_IDS
    location_rate: float = 0.5
    pinned_rate: float = 0.05
    author_rate: float = 0.9
    profile_rate: float = 0.5
    tags: Callable[[], str] = field(default=str)

    @classmethod
    def of(cls, random: Random) -> "Maker":
        """Often of so few ids that a page holds a post several times."""
        few = random.choice((None, 4, 12))
        return cls(
            random,
            posts=random.sample(POST_IDS, few or len(POST_IDS)),
            users=USER_IDS[:few],
            profile_rate=random.choice((0.0, 0.2, 0.5)),
        )

    def maybe(self, chance: float) -> bool:
        return self.random.random() < chance

    def post_id(self) -> int:
        return self.random.choice(self.posts)

    def user_id(self) -> int:
        return self.random.choice(self.users)

    def text(self) -> str:
        """Text that now and then looks like a record."""
        words = [self.random.choice(WORDS) for _ in range(self.random.randrange(4))]
        if self.maybe(0.2):
            words.append(
                self.random.choice(('"id":"%d"', '{"id_str":"%d"}', "%d", '\\"id\\":%d')) % self.post_id()
            )
        return " ".join(words) + self.tags()

    def shuffled(self, record: Object) -> Object:
        """Members in another order, sometimes."""
        if self.maybe(0.4):
            members = list(record.items())
            self.random.shuffle(members)
            return dict(members)
        return record

    def geo_v2(self) -> Json:
        place = self.random.choice(("p1", "p2", "p3"))
        return self.random.choice(
            (None, {}, {"place_id": place}, {"place_id": place, "coordinates": {"coordinates": [1.50, -2e3]}})
        )

    # API v2

    def v2(self, references: Sequence[Object] | None = None) -> Object:  # noqa: C901 - a list of oddities
        number = self.post_id()
        post: Object = {"id": str(number), "text": self.text(), "edit_history_tweet_ids": [str(number)]}
        if self.maybe(self.author_rate):
            post["author_id"] = str(self.user_id())
        if self.maybe(self.location_rate):
            post["geo"] = self.geo_v2()
        if self.maybe(0.4):
            post["attachments"] = self.attachments()
        if self.maybe(0.3):
            post["entities"] = {"mentions": [self.mention() for _ in range(self.random.randrange(3))]}
            post["context_annotations"] = [{"domain": {"id": str(self.post_id()), "name": "n"}}]
        if self.maybe(0.3):
            post["conversation_id"] = str(self.post_id())
            post["in_reply_to_user_id"] = str(self.user_id())
        if references is None:
            references = [self.bare_reference() for _ in range(self.random.choice((0, 0, 1, 1, 2)))]
        if references or self.maybe(0.1):
            post["referenced_tweets"] = list(references)
        if self.maybe(0.1):
            post["public_metrics"] = {
                "like_count": self.random.randrange(10**6),
                "ratio": Raw(self.random.choice(("1.250", "NaN", "-Infinity"))),
            }
        if self.maybe(0.05):
            post["id"] = number
        return self.shuffled(post)

    def bare_reference(self, kinds: Sequence[str] = ("retweeted", "quoted", "replied_to")) -> Object:
        reference: Object = {"type": self.random.choice(kinds), "id": str(self.post_id())}
        if self.maybe(0.05):
            reference["id"] = self.random.choice(("0123", "", None, 12.5, "\uff11\uff12"))
        return self.shuffled(reference)

    def mention(self) -> Object:
        """A mention, which twarc makes a whole user."""
        mention: Object = {"start": 0, "end": 4, "username": "she", "id": str(self.user_id())}
        if self.maybe(self.profile_rate):
            mention |= {**self.user_v2(), "id": mention["id"]}
        return self.shuffled(mention)

    def attachments(self) -> Object:
        keys = [self.random.choice(("3_1", "3_2", "7_3")) for _ in range(self.random.randrange(3))]
        return {"media_keys": keys, "poll_ids": [self.random.choice(("11", "12"))]}

    def flat(self, depth: int = 0) -> Object:
        """As twarc flattens: authors, places and referenced posts in the place of their ids."""
        kinds = ("retweeted", "quoted", "replied_to") if depth == 0 else ("quoted", "replied_to")
        references = []
        for _ in range(self.random.choice((0, 1, 1, 2)) if depth < 2 else 0):
            reference = self.bare_reference(kinds)
            if self.maybe(0.8):
                reference = {**self.flat(depth + 1), **reference}
                reference["id"] = self.odd_id(reference["id"])
                if not is_plain_id(reference["id"]):
                    # What is in a post without an id is nobody's.
                    reference = {"type": reference["type"], "id": reference["id"], "text": self.text()}
            references.append(self.shuffled(reference))
        post = self.v2(references)
        if "author_id" in post and self.maybe(0.8):
            post["author"] = self.user_v2(int(post["author_id"]))
            if self.maybe(0.2):
                del post["author_id"]
        if self.maybe(0.3):
            post["in_reply_to_user"] = self.user_v2()
        if post.get("geo"):
            post["geo"] = {
                **post["geo"],
                "full_name": "Springfield" + self.tags(),
                "geo": {"type": "Feature", "bbox": [1, 2]},
            }
        return self.shuffled(post)

    def odd_id(self, number: Json) -> Json:
        return int(number) if self.maybe(0.1) and is_plain_id(number) else number

    def user_v2(self, number: int | None = None) -> Object:
        user: Object = {
            "id": str(self.user_id() if number is None else number),
            "username": "some_one",
            "name": self.text(),
        }
        if self.maybe(self.location_rate):
            user["location"] = self.random.choice(("Here" + self.tags(), None, ""))
        if self.maybe(0.2):
            user["pinned_tweet_id"] = str(self.post_id())
        if self.maybe(self.pinned_rate):
            user["pinned_tweet"] = self.v2([self.bare_reference()] if self.maybe(0.3) else [])
        return self.shuffled(user)

    def page(self) -> Object:
        of_users = self.maybe(0.15)
        items = [
            self.user_v2() if of_users else self.v2() for _ in range(self.random.choice((0, 1, 2, 2, 3)))
        ]
        page: Object = {"data": items[0] if len(items) == 1 and self.maybe(0.5) else items}
        if self.maybe(0.9):
            page["includes"] = self.includes()
        if self.maybe(0.5):
            page["meta"] = {"newest_id": str(self.post_id()), "result_count": len(items)}
        if self.maybe(0.2):
            page["errors"] = [{"resource_id": str(self.post_id()), "id": str(self.post_id())}]
        if self.maybe(0.3):
            page["__twarc"] = {"url": "https://x/?ids=" + str(self.post_id())}
        return self.shuffled(page)

    def includes(self) -> Object:
        includes: Object = {}
        if self.maybe(0.7):
            kinds = ("quoted", "replied_to")
            includes["tweets"] = [
                self.v2([self.bare_reference(kinds)] if self.maybe(0.3) else [])
                for _ in range(self.random.randrange(4))
            ]
        if self.maybe(0.7):
            includes["users"] = [self.user_v2() for _ in range(self.random.randrange(4))]
        if self.maybe(0.7):
            includes["places"] = [
                {"id": f"p{n}", "full_name": "Somewhere"} for n in (1, 2, 3) if self.maybe(0.7)
            ]
        if self.maybe(0.5):
            includes["media"] = [
                {"media_key": key, "url": "u"} for key in ("3_1", "3_2", "7_3") if self.maybe(0.7)
            ]
        if self.maybe(0.5):
            includes["polls"] = [
                {"id": key, "options": [{"label": self.text()}]} for key in ("11", "12", "13")
            ]
        return self.shuffled(includes)

    # API v1.1

    def v1(self, depth: int = 0) -> Object:  # noqa: C901 - a list of oddities
        number = self.post_id()
        post: Object = {"created_at": "Wed Oct 10 20:19:24 +0000 2018", "id": number, "id_str": str(number)}
        post["full_text" if self.maybe(0.5) else "text"] = self.text()
        if self.maybe(self.author_rate):
            post["user"] = self.user_v1()
        for member in ("geo", "coordinates", "place"):
            if self.maybe(0.6):
                post[member] = self.random.choice(
                    (
                        None,
                        None,
                        {"type": "Point", "coordinates": [Raw("40.0"), -7]},
                        {"id": "abc", "name": "P" + self.tags()},
                    )
                )
        if self.maybe(0.3):
            post["extended_tweet"] = {"full_text": self.text(), "entities": {"id": self.post_id()}}
            post["entities"] = {"user_mentions": [{"id": self.user_id(), "id_str": str(self.user_id())}]}
        if self.maybe(0.3):
            holder = post.get("extended_tweet", post) if self.maybe(0.5) else post
            name = self.random.choice(("entities", "extended_entities"))
            holder[name] = {**holder.get(name, {}), **self.media_v1()}
        if self.maybe(0.3):
            post["in_reply_to_status_id_str"] = str(self.post_id())
            post["quoted_status_id_str"] = str(self.post_id())
        if depth < 3 and self.maybe(0.35):
            post["quoted_status"] = self.random.choice((None, self.v1(depth + 1), self.v1(depth + 1)))
        if depth == 0 and self.maybe(0.3):
            post["retweeted_status"] = self.v1(1)
        if depth and self.maybe(0.04):
            post = {"id_str": self.random.choice(("", "012", None, 1.5)), "text": self.text()}
        elif self.maybe(0.1):
            # Programs that read numbers as doubles round this one, which is why there is the other.
            post["id"] = self.random.choice((number ^ 1, Raw("1.41786E+18"), None))
        elif self.maybe(0.1):
            del post["id_str"]
        elif self.maybe(0.05):
            post["id_str"] = self.random.choice(("", None, 1.5, f"0{number}"))
        return self.shuffled(post)

    def media_v1(self) -> Object:
        """Photos and films, of which some tell who made them."""
        media: list[Json] = []
        for _ in range(self.random.randrange(3)):
            info: Object = {"title": self.text(), "monetizable": False}
            if self.maybe(self.profile_rate):
                user = self.random.choice((self.user_v1(), self.user_v1(), {"id_str": "", "name": "n"}, None))
                info["source_user"] = user
            media.append({"id": self.post_id(), "additional_media_info": self.shuffled(info)})
        return self.shuffled({"media": [*media, *(None,) * self.maybe(0.05)]})

    def user_v1(self) -> Object:
        number = self.user_id()
        user: Object = {"id": number, "id_str": str(number), "screen_name": "some_one", "name": self.text()}
        for member in ("location", "profile_location", "derived"):
            if self.maybe(self.location_rate):
                user[member] = self.random.choice(
                    (None, "Here" + self.tags(), {"locations": [{"country": "x"}]})
                )
        if self.maybe(self.pinned_rate):
            user["status"] = self.v1(3)
        return self.shuffled(user)

    # Lines of files

    def malformed(self) -> bytes:
        """A line that is no record, however much it looks like one."""
        number = self.post_id()
        whole = json.dumps({"id": str(number), "author_id": "12", "text": "é", "n": {"a": [1, 2]}}).encode()
        page = {
            "data": [{"id": str(number), "text": ""}],
            "includes": {"users": [{"id": "12", "username": "a"}]},
        }
        broken = self.random.choice(
            (
                ("data", [{"id": str(number)}, {"id": None}]),
                ("data", [{"id": str(number)}, 7]),
                ("data", {"text": "no id"}),
                ("includes", {"tweets": [{"id": "0" + str(number)}]}),
                ("includes", {"users": [{"username": "none"}]}),
            )
        )
        return self.random.choice(
            (
                whole[: self.random.randrange(1, len(whole))],
                whole + b",",
                whole + whole,
                whole + b" " + whole,
                b"[" + whole + b"]",
                whole.replace(b'"text"', b"text"),
                whole.replace(b'"text":', b'"text"'),
                whole.replace(b", ", b",, ", 1),
                whole.replace(b"[1, 2]", b"[1, 2,]"),
                whole.replace(b"[1, 2]", b"01"),
                whole.replace(b"[1, 2]", b"nan"),
                whole.replace(b"[1, 2]", b"+1"),
                whole.replace(b"[1, 2]", b"1."),
                whole.replace(b"[1, 2]", b"tru"),
                whole.replace(b"[1, 2]", b"'a'"),
                whole.replace(b"\\u00e9", b"\x00"),
                whole.replace(b"\\u00e9", b"\t"),
                whole.replace(b"\\u00e9", b"\\x41"),
                whole.replace(b"\\u00e9", b"\\u00"),
                whole.replace(b"}}", b"}"),
                whole.replace(b"}}", b"]}"),
                b"\x0c" + whole,
                b"\xc2\xa0" + whole,
                *(f'{{"id":{bad},"text":"t","author_id":"12"}}'.encode() for bad in self.bad_ids(number)),
                *(f'{{"id":1.5,"id_str":{bad},"text":"t"}}'.encode() for bad in ('""', '"0x1"', "1.5")),
                json.dumps({**page, broken[0]: broken[1]}).encode(),
                *(
                    b"{}",
                    b"[]",
                    b"null",
                    b'"7"',
                    b"7",
                    b'{"data":null}',
                    b'{"meta":{"result_count":0},"text":"t"}',
                    b'{"errors":[],"user":{"id":"12"}}',
                    b"\xff",
                ),
                b'{"text":"\\"id\\":\\"%d\\""}' % number,
                b'{"user":{"id":"%d"}}' % number,
            )
        )

    def bad_ids(self, number: int) -> tuple[str, ...]:
        return (
            *(
                f"{number}.0",
                f"-{number + 1}",
                f"{number}e0",
                "1.41786E+18",
                "true",
                "null",
                "[]",
                "{}",
                str(2**63),
            ),
            *(
                f'"0{number}"',
                f'" {number}"',
                f'"{number}\\n"',
                '""',
                '"\uff11\uff12"',
                '"\u00b2"',
                '"+1"',
                '"1_0"',
                f'"{2**63}"',
            ),
            *(f'"{2**64 + number}"', f'["{number}"]', f'{{"id":"{number}"}}', str(10**30), '"-1"', '"abc"'),
        )

    def notice(self) -> bytes:
        """What X's streams say between posts, and what it answers where it found none."""
        number = self.post_id()
        return self.random.choice(
            (
                b'{"delete":{"status":{"id":%d,"id_str":"%d","user_id":12}}}' % (number, number),
                b'{"limit":{"track":5},"timestamp_ms":"%d"}' % number,
                b'{"scrub_geo":{"user_id":12,"up_to_status_id":%d}}' % number,
                b'{"meta":{"result_count":0,"newest_id":"%d"},"__twarc":{"version":"2"}}' % number,
                b'{"errors":[{"value":"%d","resource_type":"tweet"}],"title":"Not Found Error"}' % number,
            )
        )

    def blank(self) -> bytes:
        return self.random.choice((b"", b"", b" ", b"\t \r"))


def is_plain_id(value: Json) -> bool:
    return (
        isinstance(value, str) and value.isascii() and value.isdigit() and (value == "0" or value[0] != "0")
    )


#: What the lines of a file of NDJSON are: the shape that is told of it, and what makes one.
RECORDS: Mapping[str, tuple[str | None, Callable[[Maker], Object]]] = {
    "v2": (None, Maker.v2),
    "flattened": (None, Maker.flat),
    "v1.1": (None, Maker.v1),
    "pages": (None, Maker.page),
    "users": (None, lambda maker: maker.random.choice((maker.user_v2, maker.user_v1))()),
    "posts, as told": ("posts", lambda maker: maker.random.choice((maker.v2, maker.v1, maker.flat))()),
    "users, as told": ("users", lambda maker: {**maker.user_v2(), "text": "odd"}),
    "mixed": (
        None,
        lambda maker: maker.random.choice(
            (maker.v2, maker.flat, maker.v1, maker.page, maker.user_v2, maker.user_v1)
        )(),
    ),
}


def ndjson(
    random: Random, records: str, lines: int, maker: Maker | None = None, style: Style | None = None
) -> File:
    """Make a file of records, and of what is none."""
    shape, make = RECORDS[records]
    maker, style = maker or Maker.of(random), style or Style.of(random)
    odd = random.choice((0.0, 0.1, 0.3))
    ends = random.choice((("\n",), ("\n",), ("\r\n",), ("\n", "\r\n", " \n")))
    content = bytearray()
    for _ in range(lines):
        if random.random() < odd:
            line = random.choice((maker.malformed, maker.malformed, maker.blank, maker.notice))()
        else:
            line = style.write(make(maker)).encode()
            if random.random() < odd:
                line = line.replace(b"so", random.choice(BROKEN))
        content += line + random.choice(ends).encode()
    if random.random() < 0.3:
        content = content.rstrip(b"\r\n")
    return File("posts.ndjson", bytes(content), shape)


def delimited(
    random: Random, kind: str, lines: int, maker: Maker | None = None, *, of_users: bool = False
) -> File:
    """Make a table with a header, in which values hold delimiters, quotes and ends of lines."""
    maker = maker or Maker.of(random)
    delimiter, columns = {"csv": ",", "tsv": "\t"}[kind], USER_COLUMNS if of_users else COLUMNS
    end = random.choice(("\n", "\n", "\r\n"))
    quoting = random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(columns)
    for _ in range(lines):
        writer.writerow(_values(maker, columns))
        if random.random() < 0.05:
            file.write(end)
    content = file.getvalue()
    if random.random() < 0.3:
        content = content.removesuffix(end)
    table = USER_TABLE if of_users else TABLE
    return File(f"posts.{kind}", content.encode(), "users" if of_users else None, table)


def _values(maker: Maker, columns: Iterable[str]) -> list[str]:
    number = maker.post_id()
    own = right = str(number)
    if maker.maybe(0.08):
        own = maker.random.choice(("", "1.4E+18", f"0{right}", f" {right}", "abc", str(2**63), f"{number}.0"))
    values = {
        "tweet id": own,
        "user": own if own != right else str(maker.user_id()),
        "author": str(maker.user_id()) if maker.maybe(maker.author_rate) else "",
        "text": maker.random.choice(
            ("plain", "a,b", "a\tb", 'he said "id"', "two\nlines", "é日本😀", "", str(number))
        ),
        "name": maker.random.choice(("plain", "a,b", "two\r\nlines")),
        "likes": str(maker.random.randrange(100)),
    }
    places = ("", "Springfield", "a, b", 'the "place"', "two\nlines")
    values |= {name: values[name] + maker.tags() for name in ("text", "name")}
    return [
        values[column] if column in values else maker.random.choice(places) + maker.tags()
        for column in columns
    ]


def id_list(random: Random, lines: int, maker: Maker | None = None, shape: str | None = None) -> File:
    """Make a plain list of ids."""
    maker = maker or Maker.of(random)
    shape = shape or random.choice(("tweet_ids", "user_ids"))
    number = {"tweet_ids": maker.post_id, "user_ids": maker.user_id}[shape]
    bad = ("abc", "1.4E+18", "012", str(2**63), "-1", "1,2", '"12"')
    odd = random.choice((0.0, 0.1))
    end = random.choice(("\n", "\n", "\r\n"))
    content = ""
    for _ in range(lines):
        line = str(number())
        if random.random() < odd:
            line = random.choice((*bad, "", f" {line}", f"{line}\t"))
        content += line + end
    if random.random() < 0.3:
        content = content.removesuffix(end)
    return File("ids.txt", content.encode(), shape)


def parquet(random: Random, lines: int, maker: Maker | None = None) -> File:
    """Make a table of Parquet, with ids as numbers or as text, in several row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    maker = maker or Maker.of(random)
    as_text = random.random() < 0.5
    kind = (
        random.choice((pa.string(), pa.large_string()))
        if as_text
        else random.choice((pa.int64(), pa.uint64()))
    )

    def some(make: Callable[[], int], missing: float) -> list[Any]:
        found = [None if maker.maybe(missing) else make() for _ in range(lines)]
        return [str(value) if as_text and value is not None else value for value in found]

    places = ("Springfield" + maker.tags(), None, "", "a, b")
    table = pa.table(
        {
            "text": pa.array([maker.text() for _ in range(lines)]),
            TABLE.id: pa.array(some(maker.post_id, 0.03), kind),
            TABLE.geo[0]: pa.array([random.choice(places) for _ in range(lines)]),
            TABLE.author: pa.array(some(maker.user_id, 1 - maker.author_rate), kind),
            "tags": pa.array([[str(n)] * random.randrange(3) for n in range(lines)], pa.list_(pa.string())),
            TABLE.geo[1]: pa.array(
                [random.choice(({"lat": 1.5, "name": "P"}, None)) for _ in range(lines)],
                pa.struct([("lat", pa.float64()), ("name", pa.string())]),
            ),
        }
    ).replace_schema_metadata({"made by": "a test"})
    file = io.BytesIO()
    pq.write_table(
        table,
        file,
        compression=random.choice(("snappy", "zstd", "gzip", "none")),
        row_group_size=max(1, lines // random.choice((1, 2, 5))),
        use_dictionary=random.random() < 0.5,
    )
    return File("posts.parquet", file.getvalue(), None, TABLE)


#: What makes a file of about so many records, by what it is.
FILES: Mapping[str, Callable[[Random, int], File]] = {
    **{f"NDJSON of {name}": lambda random, lines, name=name: ndjson(random, name, lines) for name in RECORDS},
    "CSV": lambda random, lines: delimited(random, "csv", lines),
    "TSV": lambda random, lines: delimited(random, "tsv", lines),
    "CSV of users": lambda random, lines: delimited(random, "csv", lines, of_users=True),
    "ids": id_list,
    "Parquet": parquet,
}


def events(random: Random, posts: Sequence[int] = POST_IDS, users: Sequence[int] = USER_IDS) -> Events:
    """Make the events of a night: about some ids, and sometimes several about one."""
    share = random.choice((0.0, 0.02, 0.1, 0.3))
    found: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for job_type, ids in (("tweets", posts), ("users", users)):
        kinds = [(action, reason) for each, action, reason in KINDS if each == job_type]
        for number in ids:
            while random.random() < share and len(found.get((job_type, number), ())) < 3:
                found.setdefault((job_type, number), []).append(random.choice(kinds))
    return found


def as_result(events: Events, job_type: str) -> bytes:
    """Write events as X's result of a job of this type."""
    return b"".join(
        json.dumps({"id": str(number), "action": action, "reason": reason}).encode() + b"\n"
        for (each, number), some in events.items()
        if each == job_type
        for action, reason in some
    )


@dataclass(frozen=True)
class Night:
    """A file and the events that meet it."""

    file: File
    events: Events
    policy: Mapping[str, str]
    quarantine: bool


def night(random: Random, kind: str, lines: int) -> Night:
    """Make a file, and the events of a night."""
    file = FILES[kind](random, lines)
    return Night(file, events(random), random.choice(POLICIES), random.random() < 0.85)


def nights(kind: str, max_lines: int = 3) -> st.SearchStrategy[Night]:
    """Let hypothesis make small files, and find the smallest that fails."""
    randoms = st.randoms(use_true_random=False)
    return st.builds(lambda random, lines: night(random, kind, lines), randoms, st.integers(1, max_lines))
