"""
A slow and obvious reading of the rules: what a file holds, and what events leave of it.

One record at a time, with the standard library alone (pyarrow for Parquet). Nothing here knows how the
package does it; where both agree, it is right, or both have read the rules wrongly in the same way.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import chain
from typing import Any, NamedTuple

MAX_ID = 2**63 - 1

Json = Any
Object = dict[str, Json]
#: ``("tweets" or "users", id)`` → what X says about it: action and reason.
Events = Mapping[tuple[str, int], Sequence[tuple[str, str]]]
#: ``action/reason`` → ``remove``, ``quarantine``, ``scrub`` or ``keep``.
Policy = Mapping[str, str]

POST_LOCATION = ("geo", "coordinates", "place")
USER_LOCATION = ("location", "profile_location", "derived")
#: Where users hold posts of their own.
POSTS_OF_USERS = ("status", "pinned_tweet")
#: What a mention is made of; one that has more is a profile.
MENTION = ("start", "end", "username", "id", "tag")
#: Where posts of version 1.1 hold media, which hold the profile of who made them.
MEDIA = ("entities", "extended_entities")
#: What X's streams say between posts.
NOTICES = (
    *("delete", "scrub_geo", "limit", "status_withheld", "user_withheld", "disconnect", "warning", "control"),
)
#: What a page keeps beside its posts: the list in ``includes``, its key, and where a post names it.
SHARED = (
    ("places", "id", ("geo", "place_id")),
    ("media", "media_key", ("attachments", "media_keys")),
    ("polls", "id", ("attachments", "poll_ids")),
)


class BadError(ValueError):
    """A line is no record: it is kept as it is, and reported."""


class Fate(IntEnum):
    """What an event does to a post; of several, the greatest."""

    KEEP = 0
    SCRUB = 1
    QUARANTINE = 2
    REMOVE = 3


CHOICES = {"keep": Fate.KEEP, "scrub": Fate.SCRUB, "quarantine": Fate.QUARANTINE, "remove": Fate.REMOVE}


def fate_of_event(action: str, reason: str, policy: Policy) -> Fate:
    if f"{action}/{reason}" in policy:
        return CHOICES[policy[f"{action}/{reason}"]]
    if action == "delete":
        return Fate.SCRUB if reason == "scrub_geo" else Fate.REMOVE
    return {"scrub_geo": Fate.SCRUB, "rehydrate": Fate.QUARANTINE}.get(action, Fate.KEEP)


class Ruling(NamedTuple):
    """
    What is done about a post or user.

    :param kinds: the events that say so, as ``action/reason``; one of them is told as the reason
    """

    fate: Fate
    kinds: frozenset[str]


NOTHING = Ruling(Fate.KEEP, frozenset())


def strongest(rulings: Iterable[Ruling]) -> Ruling:
    rulings = list(rulings)
    fate = max((ruling.fate for ruling in rulings), default=Fate.KEEP)
    return Ruling(fate, frozenset(chain.from_iterable(r.kinds for r in rulings if r.fate == fate)))


@dataclass(frozen=True)
class Rules:
    """
    The events of a night.

    :param quarantine: whether there is a quarantine; without one, nothing is fetched again
    """

    events: Events
    policy: Policy = field(default_factory=dict)
    quarantine: bool = True

    def of_user(self, number: int | None) -> Ruling:
        return strongest(ruling for ruling in self._of("users", number) if ruling.fate != Fate.QUARANTINE)

    def of_post(self, number: int | None, author: int | None) -> Ruling:
        own = self._of("tweets", number)
        done = [ruling for ruling in own if self.quarantine or ruling.fate != Fate.QUARANTINE]
        return strongest([*done, self.of_user(author)])

    def _of(self, job_type: str, number: int | None) -> list[Ruling]:
        if number is None:
            return []
        return [
            Ruling(fate_of_event(action, reason, self.policy), frozenset({f"{action}/{reason}"}))
            for action, reason in self.events.get((job_type, number), ())
        ]


# What a record is


def as_id(value: Json) -> int | None:
    """Return an id, if this is one: text or an integer, of 1 to 19 digits without leading zeros."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    if not 1 <= len(text) <= 19 or not set(text) <= set("0123456789") or (text[0] == "0" and text != "0"):
        return None
    return int(text) if int(text) <= MAX_ID else None


def id_of(record: Json) -> int | None:
    if not isinstance(record, dict):
        return None
    text = as_id(record.get("id_str"))
    return as_id(record.get("id")) if text is None else text


def author_of(post: Object) -> int | None:
    if (number := as_id(post.get("author_id"))) is not None:
        return number
    for member in ("author", "user"):
        if (number := id_of(post.get(member))) is not None:
            return number
    return None


def authors_of(post: Object) -> frozenset[int]:
    author = author_of(post)
    return frozenset() if author is None else frozenset({author})


def is_page(record: Object) -> bool:
    return isinstance(record.get("data"), dict | list) and "id" not in record and "id_str" not in record


def is_user(record: Object, shape: str | None) -> bool:
    if shape in ("posts", "users"):
        return shape == "users"
    if not {"username", "screen_name"} & set(record):
        return False
    return not {"text", "full_text", "author_id", "user"} & set(record)


def objects(value: Json) -> list[Object]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def flattened(post: Object) -> list[Object]:
    """The posts that stand whole in ``referenced_tweets``."""
    items = objects(post.get("referenced_tweets"))
    return [item for item in items if set(item) - {"id", "type"} and id_of(item) is not None]


def embedded(post: Object) -> list[Object]:
    """The posts that stand whole in a post."""
    members = [post.get(member) for member in ("retweeted_status", "quoted_status")]
    return [member for member in members if id_of(member) is not None] + flattened(post)


def mentioned(post: Object) -> list[Object]:
    """The users that stand whole in what a post mentions, which they do not if its author is a mere id."""
    if as_id(post.get("author_id")) is not None and not isinstance(post.get("author"), dict):
        return []
    entities = post.get("entities")
    mentions = objects(entities.get("mentions")) if isinstance(entities, dict) else []
    return [mention for mention in mentions if set(mention) - set(MENTION) and id_of(mention) is not None]


def media_makers(post: Object) -> list[Object]:
    """The users that stand whole in media of a post."""
    extended = post.get("extended_tweet")
    holders = [holder.get(name) for holder in (post, extended) if isinstance(holder, dict) for name in MEDIA]
    media = [item for holder in holders if isinstance(holder, dict) for item in objects(holder.get("media"))]
    infos = [item.get("additional_media_info") for item in media]
    users = [info.get("source_user") for info in infos if isinstance(info, dict)]
    return [user for user in users if id_of(user) is not None]


def profiles(post: Object) -> list[Object]:
    """The users that stand whole in a post."""
    members = [post.get(member) for member in ("user", "author", "in_reply_to_user")]
    users = [member for member in members if id_of(member) is not None]
    return users + mentioned(post) + media_makers(post)


def posts_of(user: Object) -> list[Object]:
    """The posts that stand whole in a user."""
    return [user[member] for member in POSTS_OF_USERS if id_of(user.get(member)) is not None]


class Retweeted(NamedTuple):
    """
    A post that another one merely repeats.

    :param authors: a page may hold a post several times, and name another author each time
    """

    id: int
    authors: frozenset[int]


#: Of the posts of a page.
Authors = Mapping[int, frozenset[int]]


def retweeted_by(post: Object, authors: Authors) -> list[Retweeted]:
    """
    Return what a post repeats.

    :param authors: of the other posts of a page
    """
    found = [
        (item, id_of(item))
        for item in objects(post.get("referenced_tweets"))
        if item.get("type") == "retweeted"
    ]
    found.append((post.get("retweeted_status"), id_of(post.get("retweeted_status"))))
    return [
        Retweeted(number, authors_of(item) or authors.get(number, frozenset()))
        for item, number in found
        if number is not None
    ]


def is_notice(record: Object) -> bool:
    return len(set(record) & set(NOTICES)) == 1 and set(record) <= {*NOTICES, "timestamp_ms"}


def is_empty_answer(record: Object) -> bool:
    """Whether it is what version 2 answers where it found nothing."""
    of_problems = {"title", "detail", "type", "status"}
    return ("errors" in record or "meta" in record) and set(record) <= {
        *of_problems,
        "errors",
        "meta",
        "__twarc",
    }


def holds_nothing(record: Object) -> bool:
    return is_notice(record) or is_empty_answer(record)


def items_of(page: Object) -> list[Json]:
    return page["data"] if isinstance(page["data"], list) else [page["data"]]


def included(page: Object, name: str) -> list[Json]:
    includes = page.get("includes")
    values = includes.get(name) if isinstance(includes, dict) else None
    return values if isinstance(values, list) else []


def record_of(line: bytes) -> Object:
    """
    Read a line.

    :raises BadError: if it is no record
    """

    try:
        # Text of numbers, so that none is equal to another by rounding. NaN is none of JSON's, but Python's.
        record = json.loads(line.decode(errors="surrogateescape"), parse_constant=Number, parse_float=Number)
    except (ValueError, RecursionError) as error:
        raise BadError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise BadError("no object")
    if is_page(record):
        own = [*items_of(record), *included(record, "tweets"), *included(record, "users")]
        if any(id_of(item) is None for item in own):
            raise BadError("an item without a valid id")
    elif id_of(record) is None and not holds_nothing(record):
        raise BadError("no valid id")
    return record


@dataclass(frozen=True)
class Number:
    """A number that is no integer, as it is written."""

    text: str


# What a record holds


@dataclass
class Held:
    """Which ids a file holds, and what it is made of."""

    posts: set[int] = field(default_factory=set)
    users: set[int] = field(default_factory=set)
    records: int = 0
    authorless: int = 0
    bad: list[int] = field(default_factory=list)

    def add_post(self, post: Object, by: int | None = None) -> None:
        """
        Add a post, and all that stands in it.

        :param by: who wrote it, where it does not tell
        """
        self.posts.add(id_of(post))
        self.posts |= {retweeted.id for retweeted in retweeted_by(post, {})}
        self.users |= {author for author in (author_of(post), by) if author is not None}
        for inner in embedded(post):
            self.add_post(inner)
        for user in profiles(post):
            self.add_user(user)

    def add_user(self, user: Object) -> None:
        self.users.add(id_of(user))
        for post in posts_of(user):
            self.add_post(post, by=id_of(user))

    def add_own(self, record: Object, shape: str | None) -> None:
        self.records += 1
        if is_user(record, shape):
            self.add_user(record)
        else:
            self.authorless += author_of(record) is None
            self.add_post(record)

    def add_line(self, record: Object, shape: str | None) -> None:
        if holds_nothing(record):
            return
        if not is_page(record):
            self.add_own(record, shape)
            return
        for item in items_of(record):
            self.add_own(item, shape)
        for post in included(record, "tweets"):
            self.add_post(post)
        for user in included(record, "users"):
            self.add_user(user)


# What is left of a record


@dataclass
class Left:
    """
    What events leave of a record.

    :param value: None: nothing
    :param quarantined: what goes to the quarantine instead
    :param kinds: for each record that went: the events that may be named as the reason
    """

    value: Json
    removed: int = 0
    quarantined: list[Json] = field(default_factory=list)
    scrubbed: int = 0
    stripped: int = 0
    kinds: list[frozenset[str]] = field(default_factory=list)


def without(record: Object, members: Iterable[str]) -> Object:
    """Return a record without those of its members that are not null."""
    return {key: value for key, value in record.items() if key not in members or value is None}


class Redaction:
    """
    What rules do to one line.

    :param authors: of the posts that a page includes
    """

    def __init__(self, rules: Rules, authors: Authors) -> None:
        self._rules = rules
        self._authors = authors
        self.scrubbed = self.stripped = False

    def ruling(self, post: Object, by: int | None = None) -> Ruling:
        """
        What happens to a post as a whole: by its own event, its author's, or that of what it repeats.

        :param by: who wrote it, where it does not tell
        """
        own = self._own_ruling(post, by)
        repeated = [
            self._rules.of_post(retweeted.id, author)
            for retweeted in retweeted_by(post, self._authors)
            for author in retweeted.authors or [None]
        ]
        return strongest([own, *(ruling for ruling in repeated if ruling.fate >= Fate.QUARANTINE)])

    def _own_ruling(self, post: Object, by: int | None) -> Ruling:
        author = author_of(post)
        return self._rules.of_post(id_of(post), by if author is None else author)

    def clean_user(self, user: Object) -> Object:
        """Return what stays of a user that stays."""
        posts = {
            key: self._clean_embedded(user[key], by=id_of(user))
            for key in POSTS_OF_USERS
            if id_of(user.get(key)) is not None
        }
        clean = {key: value for key, value in {**user, **posts}.items() if value is not TAKEN}
        if self._rules.of_user(id_of(user)).fate == Fate.SCRUB:
            clean = without(clean, USER_LOCATION)
            self.scrubbed |= any(user.get(member) is not None for member in USER_LOCATION)
        return clean

    def clean_post(self, post: Object, by: int | None = None) -> Object:
        """Return what stays of a post that stays."""
        clean = {key: self._clean_member(key, value) for key, value in post.items()}
        if mentioned(post):
            mentions = [self._clean_mention(item) for item in post["entities"]["mentions"]]
            clean["entities"] = {**post["entities"], "mentions": mentions}
        if media_makers(post):
            clean = self._clean_media(clean)
            if isinstance(clean.get("extended_tweet"), dict):
                clean["extended_tweet"] = self._clean_media(clean["extended_tweet"])
        clean = {key: value for key, value in clean.items() if value is not TAKEN}
        if self._own_ruling(post, by).fate == Fate.SCRUB:
            clean = without(clean, POST_LOCATION)
            self.scrubbed |= any(post.get(member) is not None for member in POST_LOCATION)
        return clean

    def _clean_media(self, holder: Object) -> Object:
        holder = dict(holder)
        for name in MEDIA:
            entities = holder.get(name)
            if isinstance(entities, dict) and isinstance(entities.get("media"), list):
                holder[name] = {**entities, "media": [self._clean_medium(item) for item in entities["media"]]}
        return holder

    def _clean_medium(self, item: Json) -> Json:
        if not media_makers({"entities": {"media": [item]}}):
            return item
        info = dict(item["additional_media_info"])
        user = info["source_user"]
        if self._rules.of_user(id_of(user)).fate == Fate.REMOVE:
            self.stripped = True
            del info["source_user"]
        else:
            info["source_user"] = self.clean_user(user)
        return {**item, "additional_media_info": info}

    def _clean_member(self, key: str, value: Json) -> Json:
        if key in ("retweeted_status", "quoted_status") and id_of(value) is not None:
            return self._clean_embedded(value)
        if key == "referenced_tweets" and isinstance(value, list):
            return [self._clean_reference(item) for item in value]
        if key in ("user", "author") and id_of(value) is not None:
            return self.clean_user(value)
        if key == "in_reply_to_user" and id_of(value) is not None:
            if self._rules.of_user(id_of(value)).fate == Fate.REMOVE:
                self.stripped = True
                return TAKEN
            return self.clean_user(value)
        return value

    def _clean_embedded(self, post: Object, by: int | None = None) -> Json:
        if self.ruling(post, by).fate >= Fate.QUARANTINE:
            self.stripped = True
            return TAKEN
        return self.clean_post(post, by)

    def _clean_mention(self, item: Json) -> Json:
        if not mentioned({"entities": {"mentions": [item]}}):
            return item
        if self._rules.of_user(id_of(item)).fate == Fate.REMOVE:
            self.stripped = True
            return {key: item[key] for key in item if key in MENTION}
        return self.clean_user(item)

    def _clean_reference(self, item: Json) -> Json:
        if not flattened({"referenced_tweets": [item]}):
            return item
        clean = self._clean_embedded(item)
        return {key: item[key] for key in item if key in ("type", "id")} if clean is TAKEN else clean


TAKEN = object()


def redact(record: Object, rules: Rules, shape: str | None = None) -> Left:
    """Return what events leave of a line."""
    if holds_nothing(record):
        return Left(record)
    return redact_page(record, rules, shape) if is_page(record) else redact_own(record, rules, shape)


def redact_own(record: Object, rules: Rules, shape: str | None, authors: Authors | None = None) -> Left:
    redaction = Redaction(rules, authors or {})
    if is_user(record, shape):
        ruling, clean = rules.of_user(id_of(record)), redaction.clean_user
    else:
        ruling, clean = redaction.ruling(record), redaction.clean_post
    if ruling.fate == Fate.REMOVE:
        return Left(None, removed=1, kinds=[ruling.kinds])
    if ruling.fate == Fate.QUARANTINE:
        # What waits to be fetched again is as clean as if it had always been in the quarantine.
        aside = redact_own(record, replace(rules, quarantine=False), shape, authors)
        return Left(None, quarantined=[aside.value], kinds=[ruling.kinds])
    value = clean(record)
    return Left(value, scrubbed=int(redaction.scrubbed), stripped=int(redaction.stripped))


def redact_page(page: Object, rules: Rules, shape: str | None) -> Left:
    authors: dict[int, frozenset[int]] = {}
    for post in [*items_of(page), *included(page, "tweets")]:
        authors[id_of(post)] = authors.get(id_of(post), frozenset()) | authors_of(post)
    parts = [redact_own(item, rules, shape, authors) for item in items_of(page)]
    kept = [part.value for part in parts if part.value is not None]
    left = Left(
        page,
        removed=sum(part.removed for part in parts),
        quarantined=[{"data": [item]} for part in parts for item in part.quarantined],
        kinds=[kinds for part in parts for kinds in part.kinds],
    )
    if parts and not kept:
        left.value = None
        return left
    beside = Redaction(rules, authors)
    includes = dict(page["includes"]) if isinstance(page.get("includes"), dict) else {}
    if "tweets" in includes:
        includes["tweets"] = [
            beside.clean_post(post)
            for post in included(page, "tweets")
            if beside.ruling(post).fate < Fate.QUARANTINE
        ]
    if "users" in includes:
        includes["users"] = [
            beside.clean_user(user)
            for user in included(page, "users")
            if rules.of_user(id_of(user)).fate != Fate.REMOVE
        ]
    before = [*items_of(page), *included(page, "tweets")]
    after = [*kept, *includes.get("tweets", [])]
    for name, key, path in SHARED:
        if name in includes:
            dropped = named(before, path) - named(after, path)
            includes[name] = [
                item
                for item in included(page, name)
                if not (isinstance(item, dict) and item.get(key) in dropped)
            ]
    left.value = {**page, "data": kept if isinstance(page["data"], list) else kept[0]}
    if "includes" in page:
        left.value["includes"] = includes if isinstance(page["includes"], dict) else page["includes"]
    # What only lost something beside its posts counts as one.
    stripped = any(len(includes.get(name, [])) < len(included(page, name)) for name in ("tweets", "users"))
    left.scrubbed = max(sum(part.scrubbed for part in parts), beside.scrubbed)
    left.stripped = max(sum(part.stripped for part in parts), beside.stripped or stripped)
    return left


def named(posts: Iterable[Object], path: tuple[str, str]) -> set[str]:
    """What posts name at a path: one key, or a list of them."""
    outer, inner = path
    holders = [post.get(outer) for post in posts]
    values = [holder.get(inner) for holder in holders if isinstance(holder, dict)]
    return {
        key
        for value in values
        for key in (value if isinstance(value, list) else [value])
        if isinstance(key, str)
    }


# Files of lines


@dataclass
class Line:
    """
    A line of a file, or a row of a table that takes several, and what is left of it.

    :param at: where it begins
    :param left: None: it stays as it is
    """

    number: int
    at: int
    content: bytes
    left: Left | None = None

    @property
    def gone(self) -> bool:
        return self.left is not None and self.left.value is None


@dataclass
class Outcome:
    """A file after a night."""

    lines: list[Line] = field(default_factory=list)

    @property
    def removed(self) -> int:
        return sum(line.left.removed for line in self.lines if line.left)

    @property
    def quarantined(self) -> list[Json]:
        return [value for line in self.lines if line.left for value in line.left.quarantined]

    @property
    def scrubbed(self) -> int:
        return sum(line.left.scrubbed for line in self.lines if line.left)

    @property
    def stripped(self) -> int:
        return sum(line.left.stripped for line in self.lines if line.left)

    @property
    def hits(self) -> set[int]:
        """Where the lines begin that are not as they were."""
        return {line.at for line in self.lines if line.left}

    @property
    def kept(self) -> list[Line]:
        return [line for line in self.lines if not line.gone]

    @property
    def certain_kinds(self) -> Counter[str]:
        """``action/reason`` → how many records went for no other reason."""
        went = [kinds for line in self.lines if line.left for kinds in line.left.kinds]
        return Counter(next(iter(kinds)) for kinds in went if len(kinds) == 1)


def lines_of(content: bytes) -> Iterator[Line]:
    at = 0
    for number, line in enumerate(content.split(b"\n"), start=1):
        ended = content[at : at + len(line) + 1]
        if ended:
            yield Line(number, at, ended)
        at += len(ended)


def is_blank(line: bytes) -> bool:
    return not line.strip(b" \t\r\n")


def read_ndjson(content: bytes, shape: str | None = None) -> Held:
    held = Held()
    for line in lines_of(content):
        if not is_blank(line.content):
            try:
                held.add_line(record_of(line.content), shape)
            except BadError:
                held.bad.append(line.number)
    return held


def apply_ndjson(content: bytes, rules: Rules, shape: str | None = None) -> Outcome:
    outcome = Outcome(list(lines_of(content)))
    for line in outcome.lines:
        if not is_blank(line.content):
            try:
                record = record_of(line.content)
            except BadError:
                continue
            left = redact(record, rules, shape)
            if left.value != record or left.quarantined:
                line.left = left
    return outcome


# Lists of ids


def read_ids(content: bytes, shape: str) -> Held:
    held = Held()
    for line in lines_of(content):
        text = line.content.strip(b" \t\r\n").decode(errors="replace")
        number = as_id(text)
        if number is not None:
            held.records += 1
            # Of a post that is only listed, nobody knows the author.
            held.authorless += shape == "tweet_ids"
            (held.users if shape == "user_ids" else held.posts).add(number)
        elif text:
            held.bad.append(line.number)
    return held


def apply_ids(content: bytes, rules: Rules, shape: str) -> Outcome:
    outcome = Outcome(list(lines_of(content)))
    for line in outcome.lines:
        number = as_id(line.content.strip(b" \t\r\n").decode(errors="replace"))
        ruling = rules.of_user(number) if shape == "user_ids" else rules.of_post(number, None)
        if ruling.fate == Fate.REMOVE:
            line.left = Left(None, removed=1, kinds=[ruling.kinds])
    return outcome


# Tables


class Table(NamedTuple):
    """
    Which columns hold what.

    :param geo: what a location is in
    """

    id: str
    author: str | None = None
    geo: tuple[str, ...] = ()


class Row(NamedTuple):
    """What a row says, by the names of its columns; a value that is missing is None."""

    line: Line
    values: dict[str, Json]


def csv_rows(content: bytes, delimiter: str) -> Iterator[Row]:
    """Yield the header, and then each row, with the lines that it takes."""
    lines = list(lines_of(content))
    texts = (line.content.decode("utf-8", "surrogateescape") for line in lines)
    reader = csv.reader(texts, delimiter=delimiter)
    header: list[str] = []
    first = 0
    for fields in reader:
        taken, first = lines[first : reader.line_num], reader.line_num
        row = Line(taken[0].number, taken[0].at, b"".join(line.content for line in taken))
        header = header or fields
        yield Row(row, dict(zip(header, fields, strict=False)))


def judge_row(
    values: Mapping[str, Json], table: Table, rules: Rules, nothing: Json, shape: str | None
) -> Left | None:
    """
    Return what is left of a row; None: it stays as it is.

    :param nothing: how the format says that a value is missing
    """
    number = as_id(values.get(table.id))
    if number is None:
        return None
    author = as_id(values.get(table.author)) if table.author else None
    ruling = rules.of_user(number) if shape == "users" else rules.of_post(number, author)
    if ruling.fate == Fate.REMOVE:
        return Left(None, removed=1, kinds=[ruling.kinds])
    if ruling.fate == Fate.QUARANTINE:
        aside = judge_row(values, table, replace(rules, quarantine=False), nothing, shape)
        return Left(None, quarantined=[aside.value if aside else dict(values)], kinds=[ruling.kinds])
    located = [column for column in table.geo if values.get(column, nothing) != nothing]
    if ruling.fate == Fate.SCRUB and located:
        return Left({**values, **dict.fromkeys(located, nothing)}, scrubbed=1)
    return None


def hold_row(held: Held, number: int, values: Mapping[str, Json], table: Table, shape: str | None) -> None:
    own = as_id(values.get(table.id))
    if own is None:
        held.bad.append(number)
        return
    held.records += 1
    if shape == "users":
        held.users.add(own)
        return
    held.posts.add(own)
    author = as_id(values.get(table.author)) if table.author else None
    held.authorless += author is None
    held.users |= {author} - {None}


def read_csv(content: bytes, table: Table, delimiter: str, shape: str | None = None) -> Held:
    held = Held()
    _, *rows = csv_rows(content, delimiter)
    for row in rows:
        if not is_blank(row.line.content):
            hold_row(held, row.line.number, row.values, table, shape)
    return held


def apply_csv(
    content: bytes, rules: Rules, table: Table, delimiter: str, shape: str | None = None
) -> Outcome:
    outcome = Outcome()
    for number, row in enumerate(csv_rows(content, delimiter)):
        outcome.lines.append(row.line)
        if number:
            row.line.left = judge_row(row.values, table, rules, "", shape)
    return outcome


def parquet_rows(content: bytes) -> list[dict[str, Json]]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()


def read_parquet(content: bytes, table: Table) -> Held:
    held = Held()
    for number, values in enumerate(parquet_rows(content), start=1):
        hold_row(held, number, values, table, None)
    return held


def apply_parquet(content: bytes, rules: Rules, table: Table) -> Outcome:
    outcome = Outcome()
    for number, values in enumerate(parquet_rows(content)):
        left = judge_row(values, table, rules, None, None)
        outcome.lines.append(Line(number + 1, number, b"", left))
    return outcome
