"""
What one JSON record of an archive holds, and what is done to it: exact, one line at a time.

A line is a post or a user as either version of the API gives them, or a page: an answer of version 2 that has
many of them. What it means is what ``json.loads`` says. What has to go is then cut out of the text, so that
the rest stays byte for byte.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.ids import MAX_ID, MAX_SHOWN, is_id

# How to get to a value: names of members and numbers of items. And to several: a tree that ends in None.
_Path: TypeAlias = tuple[str | int, ...]
_Plan: TypeAlias = "dict[str | int, _Plan | None]"
_NO_PLAN: _Plan = {}

# Members of a post that hold users, those of them that hold its author, and members that hold posts.
_USERS = ("user", "author", "in_reply_to_user")
_AUTHORS = ("user", "author")
_RETWEETED_STATUS = "retweeted_status"
_POSTS = (_RETWEETED_STATUS, "quoted_status")
# In version 2, posts that a post refers to: the type of one that it retweets, and what is no content.
_REFERENCES = "referenced_tweets"
_RETWEETED = "retweeted"
_REFERENCE = frozenset({"type", "id"})

# What users have and posts have not, and the other way round.
_OF_USERS = {"username", "screen_name"}
_OF_POSTS = {"text", "full_text", "author_id", "user"}

_TOO_DEEP = "nested too deeply"

# What json.loads takes for white space. Members begin with their name, and items with their value; both after
# a comma, if they are not the first.
_BLANKS = r"[ \t\n\r]*+"
_PARTS = {
    "{": re.compile(rf'{_BLANKS},?{_BLANKS}("(?:[^"\\]++|\\.)*+"){_BLANKS}:{_BLANKS}'),
    "[": re.compile(rf"{_BLANKS},?{_BLANKS}()(?!\])"),
}
_COMMA = re.compile(rf"{_BLANKS},{_BLANKS}")
_CLOSING = {"{": "}", "[": "]"}
_value_at = json.JSONDecoder().raw_decode


class BadRecordError(ValueError):
    """A line is no record: not JSON, no object, or without an id of its own."""


class Decision(NamedTuple):
    """
    What is done about an id.

    :param effect: the strongest of its events
    :param kind: ``action/reason`` of that event; empty if there is none
    """

    effect: Effect
    kind: str


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
    :param bad_lines: the first lines that are no records, each as ``file:line: what``
    """

    removed: int = 0
    quarantined: int = 0
    scrubbed: int = 0
    stripped: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    bad_lines: list[str] = field(default_factory=list)

    def add(self, other: Counts) -> None:
        """Add what was done to other records."""
        self.removed += other.removed
        self.quarantined += other.quarantined
        self.scrubbed += other.scrubbed
        self.stripped += other.stripped
        self.kinds.update(other.kinds)
        self.bad_lines = (self.bad_lines + other.bad_lines)[:MAX_SHOWN]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, as reports show it."""
        return {
            "removed": self.removed,
            "quarantined": self.quarantined,
            "scrubbed": self.scrubbed,
            "stripped": self.stripped,
            "kinds": dict(sorted(self.kinds.items())),
            "bad_lines": self.bad_lines,
        }


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
        stays = decision.effect == Effect.FETCH_AGAIN and not self.quarantine
        return NO_DECISION if stays else decision

    def of_user(self, user: int) -> Decision:
        decision = self.user(user)
        # Only posts are fetched again.
        return NO_DECISION if decision.effect == Effect.FETCH_AGAIN else decision


@dataclass
class _User:
    location: ClassVar = ("location", "profile_location", "derived")
    inside: ClassVar[list[_Thing]] = []

    id: int
    path: _Path
    value: dict[str, Any]

    @property
    def people(self) -> list[int]:
        return [self.id]

    @property
    def content(self) -> list[_Path]:
        return [self.path]

    def decision(self, rules: _Rules) -> Decision:
        return rules.of_user(self.id)


@dataclass
class _Post:
    """
    A post, or one that is retweeted and stands elsewhere.

    :param people: its authors
    :param inside: users and posts that are embedded
    :param retweeted: those of them that it is a pure retweet of
    """

    location: ClassVar = ("geo", "coordinates", "place")

    id: int
    path: _Path
    value: dict[str, Any]
    people: list[int]
    inside: list[_Thing]
    retweeted: list[_Post]

    @property
    def is_reference(self) -> bool:
        return self.path[-2:-1] == (_REFERENCES,)

    @property
    def content(self) -> list[_Path]:
        if self.is_reference:
            return [(*self.path, name) for name in self.value if name not in _REFERENCE]
        return [self.path]

    def decision(self, rules: _Rules) -> Decision:
        decisions = [rules.of_post(self.id), *map(rules.of_user, self.people)]
        for post in self.retweeted:
            decision = post.decision(rules)
            if decision.effect >= Effect.FETCH_AGAIN:
                decisions.append(decision)
        return max(decisions, key=attrgetter("effect"))


_Thing: TypeAlias = _User | _Post


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
        text = line.decode()
        return text, json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRecordError(f"not JSON: {error.msg} (character {error.pos + 1:,})") from None
    except UnicodeDecodeError as error:
        raise BadRecordError(f"not UTF-8: {error.reason} (byte {error.start + 1:,})") from None
    except ValueError:
        raise BadRecordError("a number has too many digits") from None


def _read(value: Any, shape: str | None) -> _Content:
    if not isinstance(value, dict):
        raise BadRecordError("not a JSON object")
    return _page(value, shape) if _is_page(value) else _Content([_record(value, (), shape)])


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
    _introduce_authors([thing for thing in content.things if isinstance(thing, _Post)])
    return content


def _introduce_authors(posts: list[_Post]) -> None:
    # Of a post that is retweeted by its id alone, the page tells elsewhere who wrote it.
    authors = defaultdict[int, list[int]](list)
    for post in posts:
        authors[post.id] += post.people
    for repeated in chain.from_iterable(post.retweeted for post in posts):
        if repeated.value.keys() <= _REFERENCE:
            repeated.people = [*dict.fromkeys(authors[repeated.id])]


def _record(value: Any, path: _Path, shape: str | None) -> _Thing:
    thing = _READERS[shape or _look(value)](value, path)
    if thing is None:
        place = f"{'/'.join(map(str, path))} has " if path else ""
        raise BadRecordError(f"{place}no valid id")
    return thing


def _look(value: Any) -> str:
    is_user = isinstance(value, dict) and value.keys() & _OF_USERS and not value.keys() & _OF_POSTS
    return "users" if is_user else "posts"


def _user(value: Any, path: _Path) -> _User | None:
    number = _id_of(value)
    return None if number is None else _User(number, path, value)


def _post(value: Any, path: _Path) -> _Post | None:
    number = _id_of(value)
    if number is None:
        return None
    users = [user for name in _USERS if name in value and (user := _user(value[name], (*path, name)))]
    posts = [post for name in _POSTS if name in value and (post := _post(value[name], (*path, name)))]
    references = _numbered(value.get(_REFERENCES), (*path, _REFERENCES))
    posts += [post for place, item in references if _is_held(item) and (post := _post(item, place))]
    authors = [_number(value.get("author_id")), *(user.id for user in users if user.path[-1] in _AUTHORS)]
    return _Post(
        id=number,
        path=path,
        value=value,
        people=[*dict.fromkeys(author for author in authors if author is not None)],
        inside=[*users, *posts],
        retweeted=[post for post in posts if _is_retweeted(post)],
    )


_READERS: dict[str, Callable[[Any, _Path], _Thing | None]] = {"posts": _post, "users": _user}


def _is_held(reference: Any) -> bool:
    # A retweet goes with what it repeats, so that is held even if it is only an id.
    return isinstance(reference, dict) and (
        reference.get("type") == _RETWEETED or not reference.keys() <= _REFERENCE
    )


def _is_retweeted(post: _Post) -> bool:
    return post.value.get("type") == _RETWEETED if post.is_reference else post.path[-1] == _RETWEETED_STATUS


def _numbered(items: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
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

    paths: list[_Path] = field(default_factory=list)
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

    def _add(self, paths: list[_Path], kind: str) -> None:
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
    return Redacted(_without(text, paths).encode(), quarantined, counts)


def _quarantined(text: str, records: list[_Thing], rules: _Rules, counts: Counts) -> list[bytes]:
    lines = []
    for record, body in zip(records, _bodies(text, records), strict=True):
        edits = _edits([record], rules)
        counts.kinds.update(edits.kinds)
        rest = _without(body, [path[len(record.path) :] for path in edits.paths])
        lines.append((f'{{"data":[{rest}]}}' if record.path else rest).encode())
    return lines


def _edited(records: list[_Thing], included: list[_Thing], rules: _Rules, counts: Counts) -> list[_Path]:
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
def _orphans(content: _Content, rules: _Rules) -> list[_Path]:
    posts = [(thing, thing.decision(rules).effect) for thing in content.things if isinstance(thing, _Post)]
    paths: list[_Path] = []
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


class _Cut(NamedTuple):
    """
    A member or an item that goes.

    :param start: where the cut begins
    :param end: where it ends; it takes one comma along
    :param value: where the value alone begins
    :param value_end: where the value ends
    """

    start: int
    end: int
    value: int
    value_end: int


def _without(text: str, paths: list[_Path]) -> str:
    kept, at = [], 0
    for cut in _cuts(text, paths):
        kept.append(text[at : cut.start])
        at = cut.end
    return "".join([*kept, text[at:]])


def _bodies(text: str, records: list[_Thing]) -> list[str]:
    paths = [record.path for record in records]
    if () in paths:
        return [text]
    # Of several members "data", the last is the one that was read.
    last = _cuts(text, paths)[-len(paths) :]
    return [text[cut.value : cut.value_end] for cut in last]


def _cuts(text: str, paths: list[_Path]) -> list[_Cut]:
    cuts: list[_Cut] = []
    if paths:
        _scan(text, text.index("{"), _plan(paths), cuts)
    return sorted(cuts)


def _plan(paths: Iterable[_Path]) -> _Plan:
    branches = defaultdict[str | int, list[_Path]](list)
    for key, *rest in paths:
        branches[key].append(tuple(rest))
    return {key: None if () in rests else _plan(rests) for key, rests in branches.items()}


def _scan(text: str, at: int, plan: _Plan, cuts: list[_Cut]) -> int:
    """Add the cuts that the plan asks for in the value at a place, and return where the value ends."""
    pattern = _PARTS.get(text[at])
    if not pattern:
        return _value_at(text, at)[1]
    # Of members with one name, the last counts: its cuts replace those inside the others.
    inner: dict[str | int, list[_Cut]] = {}
    number, stays, end = 0, False, at + 1
    while found := pattern.match(text, end):
        before, value = end, found.end()
        key = _key(found[1], number)
        deeper = plan.get(key, _NO_PLAN)
        if deeper:
            inner[key] = []
            end = _scan(text, value, deeper, inner[key])
        else:
            end = _value_at(text, value)[1]
        if deeper is None:
            cuts.append(_cut(text, before if stays else None, found.start(1), value, end))
        stays |= deeper is not None
        number += 1
    cuts += chain.from_iterable(inner.values())
    return text.index(_CLOSING[text[at]], end) + 1


def _key(name: str, number: int) -> str | int:
    if "\\" in name:
        return str(json.loads(name))
    return name[1:-1] if name else number


def _cut(text: str, before: int | None, start: int, value: int, end: int) -> _Cut:
    # It takes the comma in front along, or the one behind as long as nothing before it stays.
    if before is not None:
        return _Cut(before, end, value, end)
    comma = _COMMA.match(text, end)
    return _Cut(start, comma.end() if comma else end, value, end)
