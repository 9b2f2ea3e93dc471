"""
Archives of posts, and a million events that meet one record in a hundred; the same every time.

Run as ``python -m benchmarks.archives KIND MEGABYTES FILE``; the events come into a file beside it. Some
thousand posts are drawn at random (texts, entities, which members there are, their order); the others repeat
them with other ids.
"""

from __future__ import annotations

import gzip
import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import WORK, python, run

FIRST_ID = 1_000_000_000_000_000_000
EVENT_IDS = 1_000_000
HIT_RATE = 0.01

# More of them than any compressor looks back on, so that none profits from the repetition.
_TEMPLATES = 6_000

# Stand for ids until a post is written: its own, its author's, those of the post it is about, and of others.
_PLACES = ("own", "author", "other", "other_author", "someone")
_OWN, _AUTHOR, _OTHER, _OTHER_AUTHOR, _SOMEONE = range(7_000_000_000_000_000_001, 7_000_000_000_000_000_006)

# In which letters posts are written: three in five in Latin ones.
_LATIN, _JAPANESE = "abcdefghijklmnoprstuvwz", "あいうえおかきくけこさしすせ"
_LETTERS = (*[_LATIN] * 6, *[_JAPANESE] * 2, "абвгдежзиклмно", "ابتجحخدذرز")


def _words(letters: str) -> list[str]:
    draw = random.Random(letters)
    return ["".join(draw.choices(letters, k=2 + n % 9)) for n in range(1_000)]


_WORDS = {letters: _words(letters) for letters in _LETTERS}
_LANGUAGES = ("en", "ja", "pt", "es", "und", "ru")
_SOURCES = ("Twitter for iPhone", "Twitter Web App", "Twitter for Android", "IFTTT")
_PLACE = {"full_name": "Manhattan, NY", "country": "United States", "country_code": "US", "name": "Manhattan"}

Post = dict[str, Any]


def archive(kind: str, megabytes: int, compression: str = "") -> tuple[Path, Path]:
    """
    Return an archive and its events, which are made once.

    :param kind: one of :data:`KINDS`
    :param compression: ``gz``, or nothing
    """
    path = WORK / f"{kind}-{megabytes}.ndjson"
    events = Path(f"{path}.events")
    if not events.exists():
        run(python("archives", kind, megabytes, path))
    if compression:
        packed = Path(f"{path}.gz")
        if not packed.exists():
            part = packed.with_suffix(".part")
            with path.open("rb") as plain, gzip.open(part, "wb", compresslevel=6) as file:
                shutil.copyfileobj(plain, file, 1 << 20)
            part.rename(packed)
        path = packed
    return path, events


def v2(draw: random.Random) -> Post:
    """A post of the API v2 as it comes from a stream, without its users: about 1.3 KB."""
    text = _text(draw)
    post: Post = {
        "id": str(_OWN),
        "text": text,
        "author_id": str(_AUTHOR),
        "created_at": _time(draw),
        "conversation_id": str(draw.choice((_OWN, _OTHER))),
        "edit_history_tweet_ids": [str(_OWN)],
        "edit_controls": {"edits_remaining": 5, "is_edit_eligible": False, "editable_until": _time(draw)},
        "lang": draw.choice(_LANGUAGES),
        "possibly_sensitive": False,
        "reply_settings": "everyone",
        "public_metrics": {
            f"{what}_count": int(10 ** (5 * draw.random()))
            for what in ("retweet", "reply", "like", "quote", "bookmark", "impression")
        },
        "entities": _entities_v2(draw, text),
    }
    if draw.random() < 0.5:
        post["context_annotations"] = [
            {
                "domain": {
                    "id": str(draw.randrange(30, 160)),
                    "name": _word(draw),
                    "description": _text(draw, 8),
                },
                "entity": {"id": str(draw.randrange(10**18)), "name": _word(draw)},
            }
            for _ in range(draw.randrange(1, 4))
        ]
    if draw.random() < 0.6:
        post["referenced_tweets"] = [
            {"type": draw.choice(("retweeted", "retweeted", "quoted", "replied_to")), "id": str(_OTHER)}
        ]
        post["in_reply_to_user_id"] = str(_OTHER_AUTHOR)
    if draw.random() < 0.2:
        post["attachments"] = {"media_keys": [f"3_{_OWN}"]}
    if draw.random() < 0.02:
        post["geo"] = {
            "place_id": "01a9a39529b27f36",
            "coordinates": {"type": "Point", "coordinates": [-73, 40]},
        }
    return _shuffled(draw, post)


def v1(draw: random.Random) -> Post:
    """A post of the API v1.1: 3 to 6 KB, one in three a retweet, which holds another post in full."""
    post = _post_v1(draw, _OWN, _AUTHOR)
    chance = draw.random()
    if chance < 1 / 3:
        post["retweeted_status"] = _post_v1(draw, _OTHER, _OTHER_AUTHOR)
    elif chance < 0.4:
        post |= {"is_quote_status": True, "quoted_status_id": _OTHER, "quoted_status_id_str": str(_OTHER)}
        post["quoted_status"] = _post_v1(draw, _OTHER, _OTHER_AUTHOR)
    return post


KINDS: dict[str, Callable[[random.Random], Post]] = {"v2": v2, "v1": v1}


def make(kind: str, megabytes: int, path: Path) -> None:
    """Write an archive and its events."""
    draw = random.Random(1)
    templates = [_template(KINDS[kind](draw)) for _ in range(_TEMPLATES)]
    left, own, hit = megabytes * 1_000_000, FIRST_ID, []
    with path.open("wb", buffering=1 << 20) as file:
        while left > 0:
            # Ids in the archive are even, so that those of strangers can be odd.
            own += 2 + 2 * draw.randrange(50_000_000_000)
            other = own - 2 * draw.randrange(10**15)
            template, is_retweet = draw.choice(templates)
            line = template % {
                b"own": own,
                b"author": _user(draw),
                b"other": other,
                b"other_author": _user(draw),
                b"someone": _user(draw),
            }
            file.write(line)
            left -= len(line)
            if draw.random() < HIT_RATE:
                hit.append(other if is_retweet and draw.random() < 0.5 else own)
    ids = [*hit, *(FIRST_ID + 2 * draw.randrange(2**60) + 1 for _ in range(EVENT_IDS - len(hit)))]
    draw.shuffle(ids)
    events = Path(f"{path}.events")
    part = events.with_suffix(".part")
    with part.open("wb", buffering=1 << 20) as file:
        file.writelines(map(b'{"id":"%d","action":"delete","reason":"deleted"}\n'.__mod__, ids))
    part.rename(events)


def _template(post: Post) -> tuple[bytes, bool]:
    """A line with places for ids, and whether it is a retweet."""
    line = json.dumps(post, ensure_ascii="user" in post, separators=(",", ":")).encode()
    for number, place in zip(range(_OWN, _SOMEONE + 1), _PLACES, strict=True):
        line = line.replace(b"%d" % number, b"%%(%s)d" % place.encode())
    return line + b"\n", "retweeted_status" in post or b'"type":"retweeted"' in line


def _post_v1(draw: random.Random, own: int, author: int) -> Post:
    text = _text(draw, 35)
    place = draw.random() < 0.03
    return {
        "created_at": "Wed Oct 10 20:19:24 +0000 2018",
        "id": own,
        "id_str": str(own),
        "full_text": text,
        "truncated": False,
        "display_text_range": [0, len(text)],
        "entities": _entities_v1(draw),
        "extended_entities": {"media": _media_v1(draw)} if draw.random() < 0.15 else {},
        "source": f'<a href="http://twitter.com/download" rel="nofollow">{draw.choice(_SOURCES)}</a>',
        "in_reply_to_status_id": None,
        "in_reply_to_status_id_str": None,
        "in_reply_to_user_id": _SOMEONE,
        "in_reply_to_user_id_str": str(_SOMEONE),
        "in_reply_to_screen_name": _word(draw),
        "user": _user_v1(draw, author),
        "geo": None,
        "coordinates": {"type": "Point", "coordinates": [-73.9, 40.7]} if place else None,
        "place": {"id": "01a9a39529b27f36", **_PLACE} if place else None,
        "contributors": None,
        "is_quote_status": False,
        "retweet_count": draw.randrange(9_999),
        "favorite_count": draw.randrange(9_999),
        "favorited": False,
        "retweeted": False,
        "possibly_sensitive": False,
        "lang": draw.choice(_LANGUAGES),
    }


def _user_v1(draw: random.Random, number: int) -> Post:
    images = f"http://pbs.twimg.com/profile_images/{draw.randrange(10**18)}/{_key(draw)}"
    return {
        "id": number,
        "id_str": str(number),
        "name": _text(draw, 2),
        "screen_name": _word(draw),
        "location": _text(draw, 2),
        "description": _text(draw, 18),
        "url": f"https://t.co/{_key(draw)}",
        "entities": {"url": {"urls": [_url(draw)]}, "description": {"urls": []}},
        "protected": False,
        "followers_count": draw.randrange(99_999),
        "friends_count": draw.randrange(9_999),
        "listed_count": draw.randrange(99),
        "created_at": "Fri May 12 03:11:00 +0000 2017",
        "favourites_count": draw.randrange(99_999),
        "utc_offset": None,
        "time_zone": None,
        "geo_enabled": True,
        "verified": False,
        "statuses_count": draw.randrange(99_999),
        "lang": None,
        "contributors_enabled": False,
        "is_translator": False,
        "is_translation_enabled": False,
        "profile_background_color": f"{draw.randrange(16**6):06X}",
        "profile_background_image_url": "http://abs.twimg.com/images/themes/theme1/bg.png",
        "profile_background_image_url_https": "https://abs.twimg.com/images/themes/theme1/bg.png",
        "profile_background_tile": False,
        "profile_image_url": f"{images}_normal.jpg",
        "profile_image_url_https": f"{images}_normal.jpg",
        "profile_banner_url": f"https://pbs.twimg.com/profile_banners/{number}/{draw.randrange(10**10)}",
        "profile_link_color": f"{draw.randrange(16**6):06X}",
        "profile_sidebar_border_color": "000000",
        "profile_sidebar_fill_color": "000000",
        "profile_text_color": "000000",
        "profile_use_background_image": False,
        "has_extended_profile": True,
        "default_profile": False,
        "default_profile_image": False,
        "following": None,
        "follow_request_sent": None,
        "notifications": None,
        "translator_type": "none",
    }


def _entities_v1(draw: random.Random) -> Post:
    mentions = [
        {
            "screen_name": _word(draw),
            "name": _text(draw, 2),
            "id": _SOMEONE,
            "id_str": str(_SOMEONE),
            "indices": [3, 15],
        }
        for _ in range(draw.randrange(3))
    ]
    urls = [_url(draw) for _ in range(draw.randrange(2))]
    return {"hashtags": _tags(draw, "text"), "symbols": [], "user_mentions": mentions, "urls": urls}


def _media_v1(draw: random.Random) -> list[Post]:
    sizes = ("thumb", "small", "medium", "large")
    return [
        {
            **_url(draw),
            "id": _SOMEONE,
            "id_str": str(_SOMEONE),
            "media_url_https": f"https://pbs.twimg.com/media/{_key(draw)}.jpg",
            "type": "photo",
            "sizes": {size: {"w": draw.randrange(2_000), "h": 150, "resize": "fit"} for size in sizes},
        }
    ]


def _entities_v2(draw: random.Random, text: str) -> Post:
    start = draw.randrange(len(text))
    return {
        "hashtags": _tags(draw, "tag"),
        "mentions": [
            {"start": start, "end": start + 9, "username": _word(draw), "id": str(_SOMEONE)}
            for _ in range(draw.randrange(3))
        ],
        "urls": [
            {"start": start, "end": start + 23, **_url(draw), "media_key": f"3_{_SOMEONE}"}
            for _ in range(draw.randrange(3))
        ],
        "annotations": [
            {
                "start": start,
                "end": start + 9,
                "probability": 0.8431,
                "type": "Person",
                "normalized_text": _word(draw),
            }
            for _ in range(draw.randrange(3))
        ],
    }


def _tags(draw: random.Random, name: str) -> list[Post]:
    return [{name: _word(draw), "start": 9 * n, "end": 9 * n + 8} for n in range(draw.randrange(3))]


def _url(draw: random.Random) -> Post:
    address = f"example.org/{_word(draw)}/{_key(draw)}"
    return {"url": f"https://t.co/{_key(draw)}", "expanded_url": f"https://{address}", "display_url": address}


def _shuffled(draw: random.Random, post: Post) -> Post:
    return dict(draw.sample([*post.items()], len(post)))


def _text(draw: random.Random, words: int = 25) -> str:
    known = _WORDS[draw.choice(_LETTERS)]
    text = " ".join(draw.choice(known) for _ in range(draw.randrange(1, words + 1)))
    return text + draw.choice((".", ".", "", "\n", ' "!"', " 🙂👍"))


def _word(draw: random.Random) -> str:
    return draw.choice(_WORDS[_LATIN])


def _key(draw: random.Random) -> str:
    return f"{draw.randrange(36**10):010x}"


def _time(draw: random.Random) -> str:
    return f"2021-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}T10:11:{draw.randrange(60):02}.000Z"


def _user(draw: random.Random) -> int:
    # Of all lengths that ids of users have.
    return int(10 ** (5 + 13.9 * draw.random()))


if __name__ == "__main__":
    make(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
