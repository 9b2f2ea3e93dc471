"""
What one JSON record of an archive holds, and what is done to it: exact, one line at a time.

A line is a post or a user as either version of the API gives them, a page: an answer of version 2 that has
many of them, or holds nothing: an answer that has none, or a notice of a stream. What it means is what
``json.loads`` says. What has to go is then cut out of the text, so that the rest stays byte for byte.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypeVar

from airflow_provider_xcompliance.archive.cuts import JsonPath, values, without
from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.ids import MAX_ID, is_id

# Members of a post that hold users, those of them that hold its author, and members that hold posts.
_USERS = ("user", "author", "in_reply_to_user")
_AUTHORS = ("user", "author")
_RETWEETED_STATUS = "retweeted_status"
_POSTS = (_RETWEETED_STATUS, "quoted_status")
# Members of a user that hold posts.
_POSTS_OF_USER = ("status", "pinned_tweet")
# In version 2, posts that a post refers to, the type of one that it retweets, and users that it mentions.
_REFERENCES = "referenced_tweets"
_RETWEETED = "retweeted"
_ENTITIES, _MENTIONS = "entities", "mentions"
# Their members that are no content.
_REFERENCE = frozenset({"type", "id"})
_MENTION = frozenset({"start", "end", "username", "id", "tag"})
_BARE: dict[JsonPath, frozenset[str]] = {(_REFERENCES,): _REFERENCE, (_MENTIONS,): _MENTION}
# In version 1.1, members of a post that have media, one that has them too, and where media hold their owner.
_WITH_MEDIA = (_ENTITIES, "extended_entities")
_EXTENDED = "extended_tweet"
_MEDIA, _MEDIA_INFO, _OWNERS = "media", "additional_media_info", ("source_user",)

# What users have and posts have not, and the other way round.
_OF_USERS = {"username", "screen_name"}
_OF_POSTS = {"text", "full_text", "author_id", "user"}

#: What streams of version 1.1 say between posts.
NOTICES = frozenset(
    ("delete", "scrub_geo", "limit", "status_withheld", "user_withheld", "disconnect", "warning", "control")
)
# What may come along with it.
_OF_NOTICES = {"timestamp_ms"}

# What answers of version 2 have, and what may come along with it where nothing was found.
_OF_ANSWERS = {"errors", "meta"}
_OF_EMPTY_ANSWERS = _OF_ANSWERS | {"title", "detail", "type", "status", "__twarc"}

_TOO_DEEP = "nested too deeply"

# Text that is no UTF-8 stays as it is too, and saves no record.
_ERRORS = "surrogateescape"


class BadRecordError(ValueError):
    """A line is no record: not JSON, no object, or without an id of its own."""


class Decision(NamedTuple):
    """
    What is done about an id.

    :param effect: the strongest of its events
    :param kind: ``action/reason`` of that event; empty if there is none
    :param otherwise: of a post to be fetched again: that of an event that takes its location; or empty
    """

    effect: Effect
    kind: str
    otherwise: str = ""

    @property
    def without_fetching(self) -> Decision:
        """What is done where nothing is fetched again."""
        if self.effect != Effect.FETCH_AGAIN:
            return self
        return Decision(Effect.SCRUB_LOCATION, self.otherwise) if self.otherwise else NO_DECISION


#: What is decided about an id that has no event.
NO_DECISION = Decision(Effect.NOTHING, "")


class Decisions(Protocol):
    """The events of a night, as records ask for them."""

    def of_post(self, post: int, /) -> Decision:
        """Return what is done about a post."""

    def of_user(self, user: int, /) -> Decision:
        """Return what is done about a user; it carries over to the user's posts."""


@dataclass
class Counts:
    """
    What was done to records.

    :param removed: records that went
    :param quarantined: records that went to quarantine
    :param scrubbed: records that lost a location and stayed
    :param stripped: records that lost an embedded object and stayed
    :param kinds: ``action/reason`` of the event that decided → how often something went because of it
    """

    removed: int = 0
    quarantined: int = 0
    scrubbed: int = 0
    stripped: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        """Add what was done to other records."""
        self.removed += other.removed
        self.quarantined += other.quarantined
        self.scrubbed += other.scrubbed
        self.stripped += other.stripped
        self.kinds.update(other.kinds)


class Held(NamedTuple):
    """
    Whose content a line holds.

    :param posts: ids of posts: its own, embedded ones, and those that they retweet; each once
    :param users: ids of their authors, and of the users whose profiles it holds; each once
    :param records: how many posts and users of its own it has: one, or as many as a page has
    :param authorless: posts of its own of which no author is known
    """

    posts: list[int]
    users: list[int]
    records: int
    authorless: int


class Redacted(NamedTuple):
    """
    A line after the events.

    :param line: what stays of it; None if it goes
    :param quarantined: lines for the quarantine; they lack what would go from there too
    :param counts: what was done
    """

    line: bytes | None
    quarantined: list[bytes]
    counts: Counts


def ids_of(line: bytes, shape: str | None = None) -> Held:
    """
    Tell whose content a line holds; what it only refers to is no content.

    :param line: the line, without its end
    :param shape: ``posts`` or ``users``; by default, found out record by record
    :raises BadRecordError: if it is no record
    """
    try:
        content = _read(_parsed(line)[1], shape)
        things = [inner for thing in content.things for inner in _with_all_inside(thing)]
    except RecursionError:
        raise BadRecordError(_TOO_DEEP) from None
    return Held(
        posts=[*dict.fromkeys(thing.id for thing in things if isinstance(thing, _Post))],
        users=[*dict.fromkeys(chain.from_iterable(thing.people for thing in things))],
        records=len(content.records),
        authorless=sum(not record.people for record in content.records),
    )


def redact(
    line: bytes, decisions: Decisions, shape: str | None = None, *, quarantine: bool = True
) -> Redacted:
    """
    Do what is decided about all whose content a line holds.

    :param line: the line, without its end
    :param shape: ``posts`` or ``users``; by default, found out record by record
    :param quarantine: whether posts that are to be fetched again go to quarantine; else they stay
    :raises BadRecordError: if it is no record
    """
    try:
        text, value = _parsed(line)
        # A line asks about the same ids again and again.
        rules = _Rules(cache(decisions.of_post), cache(decisions.of_user), quarantine)
        return _redacted(text, _read(value, shape), rules)
    except RecursionError:
        raise BadRecordError(_TOO_DEEP) from None


class _Rules(NamedTuple):
    """What is decided about ids, where posts that are to be fetched again may stay."""

    post: Callable[[int], Decision]
    user: Callable[[int], Decision]
    quarantine: bool

    def of_post(self, post: int) -> Decision:
        decision = self.post(post)
        return decision if self.quarantine else decision.without_fetching

    def of_user(self, user: int) -> Decision:
        # Only posts are fetched again.
        return self.user(user).without_fetching


@dataclass
class _Object:
    """
    A user or a post.

    :param inside: users and posts that are embedded
    """

    id: int
    path: JsonPath
    value: dict[str, Any]
    inside: list[_Thing]

    @property
    def content(self) -> list[JsonPath]:
        bare = _BARE.get(self.path[-2:-1])
        return (
            [self.path] if bare is None else [(*self.path, name) for name in self.value if name not in bare]
        )


@dataclass
class _User(_Object):
    location: ClassVar = ("location", "profile_location", "derived")

    @property
    def people(self) -> list[int]:
        return [self.id]

    def decision(self, rules: _Rules) -> Decision:
        return rules.of_user(self.id)


@dataclass
class _Post(_Object):
    """
    A post, or one that is retweeted and stands elsewhere.

    :param people: its authors
    :param retweeted: embedded posts that it is a pure retweet of
    """

    location: ClassVar = ("geo", "coordinates", "place")

    people: list[int]
    retweeted: list[_Post]

    def decision(self, rules: _Rules) -> Decision:
        decisions = [rules.of_post(self.id), *map(rules.of_user, self.people)]
        for post in self.retweeted:
            decision = post.decision(rules)
            if decision.effect >= Effect.FETCH_AGAIN:
                decisions.append(decision)
        return max(decisions, key=attrgetter("effect"))


_Thing: TypeAlias = _User | _Post
_T = TypeVar("_T", _User, _Post)


@dataclass
class _Content:
    """
    What a line holds.

    :param records: its own posts and users
    :param included: posts and users that come along in a page
    :param includes: all that comes along in a page
    """

    records: list[_Thing]
    included: list[_Thing] = field(default_factory=list)
    includes: dict[str, Any] = field(default_factory=dict)

    @property
    def things(self) -> list[_Thing]:
        return self.records + self.included


def _parsed(line: bytes) -> tuple[str, Any]:
    try:
        text = line.decode(errors=_ERRORS)
        return text, json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRecordError(f"not JSON: {error.msg} (character {error.pos + 1:,})") from None
    except ValueError:
        raise BadRecordError("a number has too many digits") from None


def _read(value: Any, shape: str | None) -> _Content:
    if not isinstance(value, dict):
        raise BadRecordError("not a JSON object")
    if _is_notice(value) or _is_empty_answer(value):
        return _Content([])
    return _page(value, shape) if _is_page(value) else _Content([_record(value, (), shape)])


def _is_notice(value: dict[str, Any]) -> bool:
    names = value.keys() - _OF_NOTICES
    return len(names) == 1 and names <= NOTICES


def _is_empty_answer(value: dict[str, Any]) -> bool:
    return bool(value.keys() & _OF_ANSWERS) and value.keys() <= _OF_EMPTY_ANSWERS


def _is_page(value: dict[str, Any]) -> bool:
    return isinstance(value.get("data"), (dict, list)) and not value.keys() & {"id", "id_str"}


def _page(page: dict[str, Any], shape: str | None) -> _Content:
    data, includes = page["data"], page.get("includes")
    items = _numbered(data, ("data",)) if isinstance(data, list) else [(("data",), data)]
    content = _Content(
        records=[_record(item, path, shape) for path, item in items],
        includes=includes if isinstance(includes, dict) else {},
    )
    for name, kind in (("tweets", "posts"), ("users", "users")):
        items = _numbered(content.includes.get(name), ("includes", name))
        content.included += [_record(item, path, kind) for path, item in items]
    _introduce_authors(content.things)
    return content


def _introduce_authors(things: list[_Thing]) -> None:
    # Of a post that is retweeted, often by its id alone, the page tells elsewhere who wrote it.
    authors = defaultdict[int, list[int]](list)
    for post in things:
        if isinstance(post, _Post):
            authors[post.id] += post.people
    everything = chain.from_iterable(map(_with_all_inside, things))
    for repeated in chain.from_iterable(post.retweeted for post in everything if isinstance(post, _Post)):
        if not repeated.people:
            repeated.people = [*dict.fromkeys(authors[repeated.id])]


def _record(value: Any, path: JsonPath, shape: str | None) -> _Thing:
    thing = _READERS[shape or _look(value)](value, path)
    if thing is None:
        place = f"{'/'.join(map(str, path))} has " if path else ""
        raise BadRecordError(f"{place}no valid id")
    return thing


def _look(value: Any) -> str:
    is_user = isinstance(value, dict) and value.keys() & _OF_USERS and not value.keys() & _OF_POSTS
    return "users" if is_user else "posts"


def _user(value: Any, path: JsonPath) -> _User | None:
    number = _id_of(value)
    if number is None:
        return None
    posts = _found(_post, _members(value, path, _POSTS_OF_USER))
    for post in posts:
        # It is the user's own, which is why it seldom says so.
        post.people = post.people or [number]
    return _User(id=number, path=path, value=value, inside=[*posts])


def _post(value: Any, path: JsonPath) -> _Post | None:
    number = _id_of(value)
    if number is None:
        return None
    users = _found(_user, _members(value, path, _USERS))
    others = _found(_user, chain(_profiles(value, path), _owners_of_media(value, path)))
    posts = _found(_post, _members(value, path, _POSTS))
    posts += _found(_post, _references(value, path))
    authors = [_number(value.get("author_id")), *(user.id for user in users if user.path[-1] in _AUTHORS)]
    return _Post(
        id=number,
        path=path,
        value=value,
        people=[*dict.fromkeys(author for author in authors if author is not None)],
        inside=[*users, *others, *posts],
        retweeted=[post for post in posts if _is_retweeted(post)],
    )


_READERS: dict[str, Callable[[Any, JsonPath], _Thing | None]] = {"posts": _post, "users": _user}


def _found(read: Callable[[Any, JsonPath], _T | None], items: Iterable[tuple[JsonPath, Any]]) -> list[_T]:
    return [thing for path, item in items if (thing := read(item, path))]


def _members(value: Any, path: JsonPath, names: Iterable[str]) -> Iterator[tuple[JsonPath, Any]]:
    found = value if isinstance(value, dict) else {}
    return (((*path, name), found[name]) for name in names if name in found)


def _profiles(post: dict[str, Any], path: JsonPath) -> Iterator[tuple[JsonPath, Any]]:
    # Who puts whole users into mentions puts the author in place of its id as well, if there is one.
    if _number(post.get("author_id")) is None or isinstance(post.get("author"), dict):
        for place, item in _listed(post.get(_ENTITIES), (*path, _ENTITIES), _MENTIONS):
            if not item.keys() <= _MENTION:
                yield place, item


def _owners_of_media(post: dict[str, Any], path: JsonPath) -> Iterator[tuple[JsonPath, Any]]:
    for holder, at in ((post, path), (post.get(_EXTENDED), (*path, _EXTENDED))):
        for place, entities in _members(holder, at, _WITH_MEDIA):
            for medium, item in _listed(entities, place, _MEDIA):
                yield from _members(item.get(_MEDIA_INFO), (*medium, _MEDIA_INFO), _OWNERS)


def _references(post: dict[str, Any], path: JsonPath) -> Iterator[tuple[JsonPath, Any]]:
    for place, item in _listed(post, path, _REFERENCES):
        # A retweet goes with what it repeats, so that is held even if it is only an id.
        if item.get("type") == _RETWEETED or not item.keys() <= _REFERENCE:
            yield place, item


def _is_retweeted(post: _Post) -> bool:
    if post.path[-1] == _RETWEETED_STATUS:
        return True
    return post.path[-2:-1] == (_REFERENCES,) and post.value.get("type") == _RETWEETED


def _listed(value: Any, path: JsonPath, name: str) -> Iterator[tuple[JsonPath, dict[str, Any]]]:
    items = value.get(name) if isinstance(value, dict) else None
    return ((place, item) for place, item in _numbered(items, (*path, name)) if isinstance(item, dict))


def _numbered(items: Any, path: JsonPath) -> Iterator[tuple[JsonPath, Any]]:
    if isinstance(items, list):
        for number, item in enumerate(items):
            yield (*path, number), item


def _id_of(value: Any) -> int | None:
    if not isinstance(value, dict):
        return None
    number = _number(value.get("id_str"))
    return _number(value.get("id")) if number is None else number


def _number(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isascii() and is_id(value.encode()) else None
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and 0 <= value <= MAX_ID else None


def _with_all_inside(thing: _Thing) -> Iterator[_Thing]:
    yield thing
    for inner in thing.inside:
        yield from _with_all_inside(inner)


@dataclass
class _Edits:
    """What goes of a record, or of what comes along in a page."""

    paths: list[JsonPath] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    scrubbed: bool = False
    stripped: bool = False

    def collect(self, thing: _Thing, rules: _Rules) -> None:
        """Add what goes of something, be it all of it."""
        decision = thing.decision(rules)
        if decision.effect >= Effect.FETCH_AGAIN:
            self.stripped = True
            self._add(thing.content, decision.kind)
            return
        if decision.effect == Effect.SCRUB_LOCATION:
            told = [(*thing.path, name) for name in thing.location if thing.value.get(name) is not None]
            self.scrubbed |= bool(told)
            self._add(told, decision.kind)
        for inner in thing.inside:
            self.collect(inner, rules)

    def _add(self, paths: list[JsonPath], kind: str) -> None:
        if paths:
            self.paths += paths
            self.kinds[kind] += 1


def _edits(things: Iterable[_Thing], rules: _Rules) -> _Edits:
    edits = _Edits()
    for thing in things:
        edits.collect(thing, rules)
    return edits


def _redacted(text: str, content: _Content, rules: _Rules) -> Redacted:
    counts = Counts()
    fates = defaultdict[Effect, list[_Thing]](list)
    for record in content.records:
        decision = record.decision(rules)
        fates[decision.effect].append(record)
        if decision.effect >= Effect.FETCH_AGAIN:
            counts.kinds[decision.kind] += 1
    removed, fetched = fates[Effect.REMOVE], fates[Effect.FETCH_AGAIN]
    counts.removed, counts.quarantined = len(removed), len(fetched)
    quarantined = _quarantined(text, fetched, rules._replace(quarantine=False), counts)
    gone = [record.path for record in removed + fetched]
    if gone and len(gone) == len(content.records):
        return Redacted(None, quarantined, counts)
    staying = fates[Effect.NOTHING] + fates[Effect.SCRUB_LOCATION]
    paths = gone + _edited(staying, content.included, rules, counts) + _orphans(content, rules)
    return Redacted(without(text, paths).encode(errors=_ERRORS), quarantined, counts)


def _quarantined(text: str, records: list[_Thing], rules: _Rules, counts: Counts) -> list[bytes]:
    lines = []
    for record, body in zip(records, values(text, [record.path for record in records]), strict=True):
        edits = _edits([record], rules)
        counts.kinds.update(edits.kinds)
        rest = without(body, [path[len(record.path) :] for path in edits.paths])
        lines.append((f'{{"data":[{rest}]}}' if record.path else rest).encode(errors=_ERRORS))
    return lines


def _edited(records: list[_Thing], included: list[_Thing], rules: _Rules, counts: Counts) -> list[JsonPath]:
    own = [_edits([record], rules) for record in records]
    shared = _edits(included, rules)
    # What comes along belongs to no single record: it counts where no record lost something itself.
    counts.scrubbed = sum(edits.scrubbed for edits in own) or int(shared.scrubbed)
    counts.stripped = sum(edits.stripped for edits in own) or int(shared.stripped)
    for edits in (*own, shared):
        counts.kinds.update(edits.kinds)
    return [path for edits in (*own, shared) for path in edits.paths]


class _Shared(NamedTuple):
    """
    What posts of a page refer to, and may share.

    :param name: of its list in what comes along
    :param key: the member by which it is referred to
    :param reference: the members of a post that refer to it
    :param lost_by: the least that makes a post let go of it
    """

    name: str
    key: str
    reference: tuple[str, str]
    lost_by: Effect


_SHARED = (
    _Shared("places", "id", ("geo", "place_id"), Effect.SCRUB_LOCATION),
    _Shared("media", "media_key", ("attachments", "media_keys"), Effect.FETCH_AGAIN),
    _Shared("polls", "id", ("attachments", "poll_ids"), Effect.FETCH_AGAIN),
)


# What was lost, and is used by nothing that stays: content of what went, and a location of what was scrubbed.
def _orphans(content: _Content, rules: _Rules) -> list[JsonPath]:
    posts = [(thing, thing.decision(rules).effect) for thing in content.things if isinstance(thing, _Post)]
    paths: list[JsonPath] = []
    for shared in _SHARED if content.includes else ():
        lost, used = set[str](), set[str]()
        for post, effect in posts:
            (lost if effect >= shared.lost_by else used).update(_referred(post.value, shared.reference))
        items = _numbered(content.includes.get(shared.name), ("includes", shared.name))
        paths += [path for path, item in items if _referred(item, (shared.key,)) & (lost - used)]
    return paths


def _referred(value: Any, members: Iterable[str]) -> set[str]:
    for name in members:
        value = value.get(name) if isinstance(value, dict) else None
    return {key for key in (value if isinstance(value, list) else [value]) if isinstance(key, str)}
