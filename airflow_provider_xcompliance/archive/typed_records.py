"""
What many lines hold, found out at once: either exactly what :func:`.records.ids_of` says of each, or nothing.

The decoder makes typed objects of the few members that count. Each type also names those that would give a
line another meaning, so that decoding fails there, and the next type is tried.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from airflow_provider_xcompliance.archive.extras import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Member = Callable[[Any], Any]
else:
    np = require("numpy", "archive", "reading archives")

_T = TypeVar("_T")

_ZERO, _NINE = b"09"

# Where recursion comes to its end is not for the decoder to say.
_MAX_LEVELS = 10

# json.loads refuses numbers of more than 4,300 digits, of which each sample shows one.
_SAMPLE_STRIDE, _SAMPLES_IN_NUMBER = 512, 8


class UncommonError(ValueError):
    """Some of the lines have to be looked at one by one."""


class Held(NamedTuple):
    """
    Whose content lines hold; an id may come several times.

    :param posts: ids of posts
    :param post_lines: of each, in which line it is, counted from 0
    :param users: ids of users
    :param user_lines: of each, in which line it is
    :param records: how many posts and users of their own they have
    :param authorless: posts of their own of which no author is known
    """

    posts: NDArray[np.int64]
    post_lines: NDArray[np.int64]
    users: NDArray[np.int64]
    user_lines: NDArray[np.int64]
    records: int
    authorless: int


class TypedReader:
    """
    Reads lines as they commonly are.

    :param shape: ``posts`` or ``users``; by default, found out
    """

    def __init__(self, shape: str | None = None) -> None:
        # That of the last lines comes first.
        self._types = [*_TYPES[shape]]

    def held(self, content: memoryview, lines: int) -> Held:
        """
        Tell whose content lines hold.

        :param content: lines, each of which begins and ends as an object does, or is empty
        :param lines: how many there are, without empty ones
        :raises UncommonError: if they have to be looked at one by one
        """
        if _has_long_number(content):
            raise UncommonError
        for place, each in enumerate(self._types):
            try:
                found = each.read(content, lines)
            except _UNCOMMON:
                continue
            self._types.insert(0, self._types.pop(place))
            return found
        raise UncommonError


# ValueError: ids that are no UTF-8, and numbers that are too long for int().
_UNCOMMON = (msgspec.MsgspecError, RecursionError, ValueError)


def _has_long_number(content: memoryview) -> bool:
    samples = np.frombuffer(content, np.uint8)[::_SAMPLE_STRIDE]
    is_digit = (samples >= _ZERO) & (samples <= _NINE)
    return b"\1" * _SAMPLES_IN_NUMBER in is_digit.tobytes()


class _Ids:
    """Ids as lines hold them, and of each the number of the line."""

    def __init__(self) -> None:
        self._ids: list[Any] = []
        self._lines: list[NDArray[np.int64]] = [np.empty(0, np.int64)]

    def add(self, ids: list[Any], lines: Sequence[int]) -> None:
        self._ids += ids
        # Most are a range, of which numpy need not ask for each number.
        is_range = isinstance(lines, range)
        self._lines.append(np.arange(len(lines)) if is_range else np.fromiter(lines, np.int64, len(lines)))

    @property
    def lines(self) -> NDArray[np.int64]:
        return np.concatenate(self._lines)

    @property
    def numbers(self) -> NDArray[np.int64]:
        try:
            return np.array(array("q", self._ids))
        except (TypeError, OverflowError):
            raise UncommonError from None


class _Found:
    """Collects what lines hold."""

    def __init__(self) -> None:
        self.posts = _Ids()
        self.users = _Ids()
        self.records = 0
        self.authorless = 0

    def held(self) -> Held:
        return Held(
            self.posts.numbers,
            self.posts.lines,
            self.users.numbers,
            self.users.lines,
            self.records,
            self.authorless,
        )


def _nothing(*_: object) -> None:
    """Of a type that has none."""


class _Look(NamedTuple):
    """
    Where posts of a type have their ids, and what else.

    :param own: its id
    :param of_user: the id of a user in it
    :param author_ids: ids of its authors
    :param authors: its authors
    :param users: other users in it
    :param posts: other posts in it
    :param posts_of_user: posts in a user
    :param references: adds the posts that it refers to
    :param mentions: adds the users that it mentions
    """

    own: Member
    of_user: Member
    author_ids: tuple[Member, ...] = ()
    authors: tuple[Member, ...] = ()
    users: tuple[Member, ...] = ()
    posts: tuple[Member, ...] = ()
    posts_of_user: tuple[Member, ...] = ()
    references: Callable[[_Found, list[Any], Sequence[int], int], None] = _nothing
    mentions: Callable[[_Found, list[Any], Sequence[int], int], None] = _nothing


# Numbers, as text or not; one with a point or an exponent is a float, and no id. 0 is hardly ever one, and is
# no member that lacks either.
_Id = Annotated[int, Meta(ge=1)] | Annotated[float, Meta(gt=0)]
# What fails whatever text there is: the member must not be there.
_Absent = Annotated[str, Meta(min_length=1, max_length=0)]
_NoContainer = str | int | float | bool | None


class _User(Struct, gc=False):
    id_str: _Id | None = None
    id: _Id | None = None
    status: _Post | None = None
    pinned_tweet: _Post | None = None


class _UserV1(Struct, gc=False):
    id_str: _Id
    status: None = None
    pinned_tweet: None = None


class _Mention(Struct, gc=False, forbid_unknown_fields=True):
    """A mention that is no profile, whatever its members are."""

    start: Any = None
    end: Any = None
    username: Any = None
    id: Any = None
    tag: Any = None


class _MediaInfo(Struct, gc=False):
    source_user: None = None


class _Medium(Struct, gc=False):
    """A photo or a film, without its owner's profile."""

    additional_media_info: _MediaInfo | None = None


class _Media(Struct, gc=False):
    media: list[_Medium] | None = None


class _EntitiesV2(Struct, gc=False):
    media: None = None


class _BareEntities(_EntitiesV2, gc=False):
    mentions: list[_Mention] | None = None


class _EntitiesV1(_Media, gc=False):
    mentions: None = None


class _Entities(_Media, gc=False):
    mentions: list[Raw] | None = None


class _Extended(Struct, gc=False):
    entities: _Media | None = None
    extended_entities: _Media | None = None


class _Reference(Struct, gc=False, forbid_unknown_fields=True):
    type: str | None = None
    id: _Id | None = None


class _PlainV2(Struct, gc=False):
    """A post of version 2, without others in it."""

    # It has an id, so that it is no page.
    id: _Id
    author_id: _Id | None = None
    referenced_tweets: list[_Reference] | None = None
    entities: _EntitiesV2 | None = None
    id_str: None = None
    user: None = None
    author: None = None
    in_reply_to_user: None = None
    retweeted_status: None = None
    quoted_status: None = None
    extended_entities: None = None
    extended_tweet: None = None
    username: _Absent = ""
    screen_name: _Absent = ""


class _PostV2(_PlainV2, gc=False, kw_only=True):
    """One of an author that is an id, so that there are no profiles in its mentions, whatever they are."""

    author_id: _Id


class _AuthorlessV2(_PlainV2, gc=False):
    """One without profiles in its mentions."""

    entities: _BareEntities | None = None


class _PostV1(Struct, gc=False):
    """A post of version 1.1."""

    id_str: _Id
    user: _UserV1 | None = None
    retweeted_status: _PostV1 | None = None
    quoted_status: _PostV1 | None = None
    entities: _EntitiesV1 | None = None
    extended_entities: _Media | None = None
    extended_tweet: _Extended | None = None
    author_id: None = None
    author: None = None
    in_reply_to_user: None = None
    referenced_tweets: None = None
    username: _Absent = ""
    screen_name: _Absent = ""


class _Post(Struct, gc=False):
    """A post with all that any has."""

    id_str: _Id | None = None
    id: _Id | None = None
    author_id: _Id | None = None
    user: _User | None = None
    author: _User | None = None
    in_reply_to_user: _User | None = None
    retweeted_status: _Post | None = None
    quoted_status: _Post | None = None
    entities: _Entities | None = None
    extended_entities: _Media | None = None
    extended_tweet: _Extended | None = None
    referenced_tweets: list[Raw] | None = None
    data: _NoContainer = None
    username: _Absent = ""
    screen_name: _Absent = ""


class _WholeReference(_Post, gc=False):
    type: str | None = None


class _Profile(Struct, gc=False):
    """A user, by the look."""

    id_str: _Id | None = None
    id: _Id | None = None
    status: _Post | None = None
    pinned_tweet: _Post | None = None
    username: str | None = None
    screen_name: str | None = None
    text: _Absent = ""
    full_text: _Absent = ""
    author_id: _Absent = ""
    user: _Absent = ""
    data: _NoContainer = None


class _AnyProfile(_User, gc=False):
    """A user, by what is told."""

    data: _NoContainer = None


class _Includes(Struct, gc=False):
    tweets: list[_Post] | None = None
    users: list[_User] | None = None


class _PostPage(Struct, gc=False):
    data: list[_Post] | _Post
    includes: _Includes | None = None
    id_str: _Absent = ""
    id: _Absent = ""


class _ProfilePage(Struct, gc=False):
    data: list[_Profile] | _Profile
    includes: _Includes | None = None
    id_str: _Absent = ""
    id: _Absent = ""


class _AnyProfilePage(Struct, gc=False):
    data: list[_User] | _User
    includes: _Includes | None = None
    id_str: _Absent = ""
    id: _Absent = ""


def _id_of(value: Any) -> Any:
    return value.id_str or value.id


def _decoder(type_: type[_T]) -> msgspec.json.Decoder[_T]:
    # Not strict: text may be a number.
    return msgspec.json.Decoder(type_, strict=False)


_reference = _decoder(_Reference)
_whole_reference = _decoder(_WholeReference)
_mention = _decoder(_Mention)
_profile = _decoder(_User)


def _add_references(found: _Found, posts: list[Any], lines: Sequence[int], _: int) -> None:
    repeated = [
        (reference.id, line)
        for references, line in zip(map(_REFERENCES, posts), lines, strict=True)
        if references
        for reference in references
        if reference.type == "retweeted"
    ]
    found.posts.add([number for number, _ in repeated], [line for _, line in repeated])


def _add_whole_references(found: _Found, posts: list[Any], lines: Sequence[int], level: int) -> None:
    bare, whole = [], []
    for references, line in zip(map(_REFERENCES, posts), lines, strict=True):
        for raw in references or ():
            try:
                reference = _reference.decode(raw)
                if reference.type == "retweeted":
                    bare.append((reference.id, line))
            except msgspec.ValidationError:
                whole.append((_whole_reference.decode(raw), line))
    found.posts.add([number for number, _ in bare], [line for _, line in bare])
    _add_posts(found, [post for post, _ in whole], [line for _, line in whole], _ANY, level)


def _add_profiles(found: _Found, posts: list[Any], lines: Sequence[int], level: int) -> None:
    # Whose author is known by its id alone holds no whole users in its mentions.
    flattened = [
        (post, line) for post, line in zip(posts, lines, strict=True) if post.author or post.author_id is None
    ]
    entities, places = _present(_ENTITIES, [post for post, _ in flattened], [line for _, line in flattened])
    users = []
    for mentions, line in zip(*_present(_MENTIONS, entities, places), strict=True):
        for raw in mentions:
            try:
                _mention.decode(raw)
            except msgspec.ValidationError:
                users.append((_profile.decode(raw), line))
    _add_users(found, [user for user, _ in users], [line for _, line in users], _ANY, level)


_ENTITIES, _MENTIONS = attrgetter("entities"), attrgetter("mentions")
_REFERENCES = attrgetter("referenced_tweets")
_RETWEETED, _QUOTED = attrgetter("retweeted_status"), attrgetter("quoted_status")
_V2 = _Look(
    own=attrgetter("id"), of_user=_id_of, author_ids=(attrgetter("author_id"),), references=_add_references
)
_V1 = _Look(
    own=attrgetter("id_str"),
    of_user=attrgetter("id_str"),
    authors=(attrgetter("user"),),
    posts=(_RETWEETED, _QUOTED),
)
_ANY = _Look(
    own=_id_of,
    of_user=_id_of,
    author_ids=(attrgetter("author_id"),),
    authors=(attrgetter("user"), attrgetter("author")),
    users=(attrgetter("in_reply_to_user"),),
    posts=(_RETWEETED, _QUOTED),
    posts_of_user=(attrgetter("status"), attrgetter("pinned_tweet")),
    references=_add_whole_references,
    mentions=_add_profiles,
)


def _add_posts(found: _Found, posts: list[Any], lines: Sequence[int], look: _Look, level: int = 0) -> None:
    """Add posts and all that is in them."""
    if not posts:
        return
    if level > _MAX_LEVELS:
        raise UncommonError
    found.posts.add([*map(look.own, posts)], lines)
    for member in look.author_ids:
        found.users.add(*_present(member, posts, lines))
    for member in (*look.authors, *look.users):
        _add_users(found, *_present(member, posts, lines), look, level)
    for member in look.posts:
        _add_posts(found, *_present(member, posts, lines), look, level + 1)
    look.references(found, posts, lines, level + 1)
    look.mentions(found, posts, lines, level)


def _add_users(found: _Found, users: list[Any], lines: Sequence[int], look: _Look, level: int = 0) -> None:
    """Add users and all that is in them."""
    found.users.add([*map(look.of_user, users)], lines)
    for member in look.posts_of_user:
        _add_posts(found, *_present(member, users, lines), look, level + 1)


def _present(member: Member, posts: list[Any], lines: Sequence[int]) -> tuple[list[Any], Sequence[int]]:
    """Return what posts have as a member, and the lines of those that have it."""
    values = [*map(member, posts)]
    if all(values):
        return values, lines
    return [value for value in values if value], [
        line for value, line in zip(values, lines, strict=True) if value
    ]


class _Type(NamedTuple):
    """
    A type of lines.

    :param decoder: of one line
    :param add: adds what lines hold
    """

    decoder: msgspec.json.Decoder[Any]
    add: Callable[[_Found, list[Any], Sequence[int]], None]

    def read(self, content: memoryview, lines: int) -> Held:
        values = self.decoder.decode_lines(content)
        # As each line begins and ends as an object does, none goes on in the next: of as many as there are
        # lines, there is one on each.
        if len(values) != lines:
            raise UncommonError
        found = _Found()
        self.add(found, values, range(lines))
        return found.held()


def _add_own_posts(look: _Look, found: _Found, posts: list[Any], lines: Sequence[int]) -> None:
    _add_posts(found, posts, lines, look)
    found.records += len(posts)
    authors = [[*map(member, posts)] for member in (*look.author_ids, *look.authors)]
    if not any(map(all, authors)):
        found.authorless += [*map(any, zip(*authors, strict=True))].count(False)


def _add_own_users(found: _Found, users: list[Any], lines: Sequence[int]) -> None:
    found.records += len(users)
    _add_users(found, users, lines, _ANY)


def _add_profiles_by_look(found: _Found, users: list[Any], lines: Sequence[int]) -> None:
    if not all(user.username or user.screen_name for user in users):
        raise UncommonError
    _add_own_users(found, users, lines)


def _add_pages(
    add: Callable[[_Found, list[Any], Sequence[int]], None],
    found: _Found,
    pages: list[Any],
    lines: Sequence[int],
) -> None:
    data = [page.data if isinstance(page.data, list) else [page.data] for page in pages]
    add(found, *_flat(data, lines))
    posts = [page.includes.tweets or [] if page.includes else [] for page in pages]
    _add_posts(found, *_flat(posts, lines), _ANY)
    users = [page.includes.users or [] if page.includes else [] for page in pages]
    _add_users(found, *_flat(users, lines), _ANY)


def _flat(items: list[list[Any]], lines: Sequence[int]) -> tuple[list[Any], list[int]]:
    places = [line for some, line in zip(items, lines, strict=True) for _ in some]
    return [*chain.from_iterable(items)], places


_add_any_posts = partial(_add_own_posts, _ANY)
_POSTS = (
    _Type(_decoder(_PostV2), partial(_add_own_posts, _V2)),
    _Type(_decoder(_AuthorlessV2), partial(_add_own_posts, _V2)),
    _Type(_decoder(_PostV1), partial(_add_own_posts, _V1)),
    _Type(_decoder(_Post), _add_any_posts),
    _Type(_decoder(_PostPage), partial(_add_pages, _add_any_posts)),
)

#: What lines may be, if all that is told of them is this.
_TYPES: Mapping[str | None, tuple[_Type, ...]] = {
    None: (
        *_POSTS,
        _Type(_decoder(_Profile), _add_profiles_by_look),
        _Type(_decoder(_ProfilePage), partial(_add_pages, _add_profiles_by_look)),
    ),
    "posts": _POSTS,
    "users": (
        _Type(_decoder(_AnyProfile), _add_own_users),
        _Type(_decoder(_AnyProfilePage), partial(_add_pages, _add_own_users)),
    ),
}
