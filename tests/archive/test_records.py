import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.records import (
    NO_DECISION,
    BadRecordError,
    Counts,
    Decision,
    Held,
    ids_of,
    redact,
)

NOTHING = Effect.NOTHING
EFFECTS = {"remove": Effect.REMOVE, "fetch": Effect.FETCH_AGAIN, "scrub": Effect.SCRUB_LOCATION}


class Night:
    """Events as text: ``p1:remove u7:scrub``; their kind names the id that they are about."""

    def __init__(self, events: str) -> None:
        choices: dict[str, list[str]] = {}
        for event in events.split():
            about, choice = event.split(":")
            choices.setdefault(about, []).append(choice)
        self._decisions = {about: self._decision(about, some) for about, some in choices.items()}

    @staticmethod
    def _decision(about: str, choices: list[str]) -> Decision:
        strongest = max(choices, key=EFFECTS.__getitem__)
        has_both = strongest == "fetch" and "scrub" in choices
        return Decision(EFFECTS[strongest], f"{strongest}/{about}", f"scrub/{about}" if has_both else "")

    def of_post(self, post: int, /) -> Decision:
        return self._decisions.get(f"p{post}", NO_DECISION)

    def of_user(self, user: int, /) -> Decision:
        return self._decisions.get(f"u{user}", NO_DECISION)


MEDIA = (
    '{"media":[{"id":5},{"additional_media_info":{"title":"t","source_user":'
    '{"id_str":"8","location":"Ulm"}}}]}'
)
MEMBERS_WITH_MEDIA = [
    f'"extended_entities":{MEDIA}',
    f'"entities":{MEDIA}',
    f'"extended_tweet":{{"full_text":"","extended_entities":{MEDIA}}}',
    f'"extended_tweet":{{"full_text":"","entities":{MEDIA}}}',
]


class TestIdsOf:
    @pytest.mark.parametrize(
        ("line", "posts", "users"),
        [
            pytest.param('{"id":"1","author_id":"7","text":""}', [1], [7], id="v2"),
            pytest.param('{"id_str":"1","user":{"id_str":"7"}}', [1], [7], id="v1.1"),
            pytest.param('{"id":"1","author":{"id":"7"}}', [1], [7], id="v2-flattened-author"),
            pytest.param('{"id":"1","author_id":"7","author":{}}', [1], [7], id="author-without-profile"),
            pytest.param('{"id":"1","author_id":"7","author":{"id":"8"}}', [1], [7, 8], id="two-authors"),
            pytest.param('{"id":"1","in_reply_to_user":{"id":"8"}}', [1], [8], id="profile-replied-to"),
            pytest.param(
                '{"id_str":"1","user":{"id_str":"7"},"retweeted_status":{"id_str":"2","user":{"id_str":"8"},'
                '"quoted_status":{"id_str":"3","user":{"id_str":"9"}}}}',
                [1, 2, 3],
                [7, 8, 9],
                id="v1.1-retweet-of-a-quote",
            ),
            pytest.param(
                '{"id_str":"1","quoted_status":{"id_str":"2","retweeted_status":{"id_str":"3"}}}',
                [1, 2, 3],
                [],
                id="v1.1-quote-of-a-retweet",
            ),
            pytest.param(
                '{"id":"1","referenced_tweets":[{"type":"retweeted","id":"2"},{"type":"quoted","id":"3"},'
                '{"type":"replied_to","id":"4"}]}',
                [1, 2],
                [],
                id="v2-only-the-retweeted-one-of-bare-references",
            ),
            pytest.param(
                '{"id":"1","referenced_tweets":[{"type":"quoted","id":"3","text":"x","author_id":"8",'
                '"author":{"id":"8"},"referenced_tweets":[{"type":"replied_to","id":"4","text":"y"}]}]}',
                [1, 3, 4],
                [8],
                id="v2-flattened-references",
            ),
            pytest.param('{"id":"7","username":"a"}', [], [7], id="v2-user"),
            pytest.param('{"id":7,"id_str":"7","screen_name":"a"}', [], [7], id="v1.1-user"),
            pytest.param('{"id":"1","username":"a","text":"x"}', [1], [], id="a-post-with-a-username"),
            pytest.param('{"id":"1"}', [1], [], id="only-an-id-is-a-post"),
            pytest.param(
                '{"data":[{"id":"1","author_id":"7"},{"id":"2","author_id":"7"}],"includes":{"tweets":'
                '[{"id":"3","author_id":"8"}],"users":[{"id":"7"},{"id":"9"}],"places":[{"id":"5"}]}}',
                [1, 2, 3],
                [7, 8, 9],
                id="page-of-posts",
            ),
            pytest.param('{"data":{"id":"1","text":""}}', [1], [], id="page-of-one-post"),
            pytest.param('{"data":[{"id":"7","username":"a"}]}', [], [7], id="page-of-users"),
            pytest.param(
                '{"data":{"id":"7","username":"a"},"includes":null}', [], [7], id="page-of-one-user"
            ),
            pytest.param('{"data":[],"includes":{"users":[{"id":"7"}]}}', [], [7], id="empty-page"),
            pytest.param('{"id":"1","data":[{"id":"2"}]}', [1], [], id="a-post-with-data-is-no-page"),
            pytest.param(
                '{"id":"1","conversation_id":"2","in_reply_to_user_id":"8","edit_history_tweet_ids":["3"],'
                '"in_reply_to_status_id_str":"4","quoted_status_id_str":"5","extended_tweet":{"full_text":""},'
                '"entities":{"mentions":[{"id":"9"}]},"text":"\\"id\\":\\"6\\""}',
                [1],
                [],
                id="what-is-only-referred-to",
            ),
            pytest.param(
                '{"id_str":"7","screen_name":"a","status":{"id_str":"1","retweeted_status":{"id_str":"2","user":'
                '{"id_str":"8","status":{"id_str":"3","user":{"id_str":"9"}}}}}}',
                [1, 2, 3],
                [7, 8, 9],
                id="v1.1-users-with-their-latest-posts",
            ),
            pytest.param(
                '{"id":"7","username":"a","pinned_tweet_id":"1","pinned_tweet":{"id":"1","author_id":"7"}}',
                [1],
                [7],
                id="v2-user-with-a-pinned-post",
            ),
            pytest.param(
                '{"id":"1","author":{"id":"7","pinned_tweet":{"id":"2"}},"in_reply_to_user":{"id":"8",'
                '"pinned_tweet":{"id":"3","author":{},"entities":{"mentions":[{"id":"9","x":1}]}}}}',
                [1, 2, 3],
                [7, 8, 9],
                id="pinned-posts-in-a-post",
            ),
            pytest.param(
                '{"id":"7","username":"a","status":{"id":"x"},"pinned_tweet":"5"}',
                [],
                [7],
                id="user-with-a-post-without-a-valid-id",
            ),
            pytest.param(
                '{"data":[],"includes":{"users":[{"id":"7","pinned_tweet":{"id":"1"}}]}}',
                [1],
                [7],
                id="page-with-a-pinned-post",
            ),
            pytest.param(
                '{"id":"1","author":{},"entities":{"mentions":[{"start":0,"end":2,"username":"a","id":"7"},'
                '{"id":"8","name":"b"},{"start":0,"id":"9","pinned_tweet":{"id":"2"}},{"id":"x","name":"c"},null]}}',
                [1, 2],
                [8, 9],
                id="profiles-in-mentions",
            ),
            pytest.param(
                '{"id":"1","entities":[{"mentions":[{"id":"8","name":"b"}]}],"mentions":[{"id":"9","name":"c"}],'
                '"quoted_status":{"id":"2","entities":{"mentions":{"id":"8","name":"b"}}}}',
                [1, 2],
                [],
                id="mentions-elsewhere",
            ),
            pytest.param(
                '{"id":"1","author_id":"7","entities":{"mentions":[{"id":"8","name":"b"}]}}',
                [1],
                [7],
                id="mentions-of-a-post-without-its-authors-profile",
            ),
            pytest.param(
                '{"id":"1","text":"","entities":{"mentions":[{"start":0,"id":"7"},{"id":"8","name":"b"}]},'
                '"referenced_tweets":[{"type":"quoted","id":"2","text":"","entities":{"mentions":[{"id":"9",'
                '"name":"c"}]}}]}',
                [1, 2],
                [8, 9],
                id="profiles-in-mentions-of-posts-of-which-no-author-is-known",
            ),
            pytest.param(
                '{"id":"1","author_id":"x","entities":{"mentions":[{"id":"8","name":"b"}]}}',
                [1],
                [8],
                id="profiles-in-mentions-of-a-post-whose-author-has-no-valid-id",
            ),
            *(
                pytest.param(
                    f'{{"id_str":"1","user":{{"id_str":"7"}},{member}}}',
                    [1],
                    [7, 8],
                    id=f"profiles-in-media-of-{member[1:25]}",
                )
                for member in MEMBERS_WITH_MEDIA
            ),
            pytest.param(
                f'{{"id_str":"1","quoted_status":{{"id_str":"2",{MEMBERS_WITH_MEDIA[0]}}},"user":{{"id_str":"7",'
                f'"status":{{"id_str":"3",{MEMBERS_WITH_MEDIA[2]}}}}}}}'.replace('"8"', '"9"', 1),
                [1, 3, 2],
                [7, 8, 9],
                id="profiles-in-media-of-embedded-posts",
            ),
            pytest.param(
                '{"id_str":"1","extended_tweet":[],"entities":null,"extended_entities":{"media":[null,{},7,'
                '{"additional_media_info":null},{"additional_media_info":{"source_user":null}},'
                '{"additional_media_info":{"source_user":{"id":"x"}}},{"source_user":{"id":"9"}}]}}',
                [1],
                [],
                id="media-without-profiles",
            ),
            pytest.param(
                '{"id":"1","text":"","quoted_status":{"id":"x","user":{"id":"7"}},"author":"7","user":null,'
                '"retweeted_status":[],"referenced_tweets":{"type":"retweeted","id":"2"}}',
                [1],
                [],
                id="what-is-embedded-without-a-valid-id",
            ),
        ],
    )
    def test_whose_content_a_line_holds_and_no_more(
        self, line: str, posts: list[int], users: list[int]
    ) -> None:
        held = ids_of(line.encode())

        assert (held.posts, held.users) == (posts, users)

    @pytest.mark.parametrize(
        ("member", "number"),
        [
            ('"id":"9007199254740993"', 2**53 + 1),
            ('"id":9007199254740993', 2**53 + 1),
            ('"id":"9223372036854775807"', 2**63 - 1),
            ('"id":9223372036854775807', 2**63 - 1),
            ('"id":9007199254740992,"id_str":"9007199254740993"', 2**53 + 1),
            ('"id_str":"9007199254740993","id":9007199254740992', 2**53 + 1),
            ('"id_str":null,"id":5', 5),
            ('"id_str":"","id":"5"', 5),
            ('"\\u0069d":"\\u0035"', 5),
            ('"id":"4","text":"","id":"5"', 5),
        ],
    )
    def test_an_id_is_exact_however_it_is_written(self, member: str, number: int) -> None:
        assert ids_of(f"{{{member}}}".encode()).posts == [number]

    @pytest.mark.parametrize(
        "written",
        [
            '"9223372036854775808"',
            "9223372036854775808",
            "12.0",
            "1.2E+18",
            '"1.2E+18"',
            '"012"',
            '" 12"',
            '"12\\n"',
            '"-12"',
            "-12",
            '"\\u0661"',
            '"\\ud800"',
            "true",
            "null",
            '""',
            '["12"]',
            "NaN",
        ],
    )
    def test_what_is_no_id_makes_no_record(self, written: str) -> None:
        with pytest.raises(BadRecordError, match=r"^no valid id$"):
            ids_of(f'{{"id":{written}}}'.encode())

    @pytest.mark.parametrize(
        ("line", "shape", "expected"),
        [
            ('{"id":"7"}', "users", Held([], [7], 1, 0)),
            ('{"id":"1","username":"a"}', "posts", Held([1], [], 1, 1)),
            ('{"data":[{"id":"7"}]}', "users", Held([], [7], 1, 0)),
            ('{"data":[{"id":"1"}],"includes":{"users":[{"id":"7"}]}}', "posts", Held([1], [7], 1, 1)),
        ],
    )
    def test_the_shape_can_be_given(self, line: str, shape: str, expected: Held) -> None:
        assert ids_of(line.encode(), shape) == expected

    @pytest.mark.parametrize(
        ("line", "records", "authorless"),
        [
            ('{"id":"1","author_id":"7"}', 1, 0),
            ('{"id":"1","author_id":"x","retweeted_status":{"id":"2"}}', 1, 1),
            ('{"id":"7","username":"a"}', 1, 0),
            ('{"data":[]}', 0, 0),
            ('{"data":[{"id":"1"},{"id":"2","author_id":"7"},{"id":"7","username":"a"}]}', 3, 1),
            ('{"data":[{"id":"1","author_id":"7"}],"includes":{"tweets":[{"id":"2"}]}}', 1, 0),
            ('{"id":"7","username":"a","pinned_tweet":{"id":"1"}}', 1, 0),
            ('{"id":"1","entities":{"mentions":[{"id":"8","name":"b"}]}}', 1, 1),
        ],
    )
    def test_records_of_its_own_are_counted_and_those_without_an_author(
        self, line: str, records: int, authorless: int
    ) -> None:
        held = ids_of(line.encode())

        assert (held.records, held.authorless) == (records, authorless)

    def test_each_id_comes_once(self) -> None:
        line = b'{"data":[{"id":"1","author_id":"7"},{"id":"1","author_id":"7"}]}'

        assert ids_of(line) == Held([1], [7], 2, 0)


NOTICES = [
    '{"delete":{"status":{"id":1,"id_str":"1","user_id":7,"user_id_str":"7"},"timestamp_ms":"1"}}',
    '{"scrub_geo":{"user_id":7,"up_to_status_id":1}}',
    '{"limit":{"track":5,"timestamp_ms":"1"}}',
    '{ "timestamp_ms" : "1", "status_withheld":{"id":1,"user_id":7,"withheld_in_countries":["DE"]} }',
    '{"user_withheld":{"id":7,"withheld_in_countries":["DE"]},"timestamp_ms":"1"}',
    '{"disconnect":{"code":4,"stream_name":"","reason":""}}',
    '{"warning":{"code":"FALLING_BEHIND","percent_full":60}}',
    '{"control":{"control_uri":"/1.1/site/c/1"}}',
    '{"\\u0064elete":null}',
]
EMPTY_ANSWERS = [
    '{"errors":[{"value":"1","resource_id":"1","resource_type":"tweet"}],"__twarc":{"version":"2.14"}}',
    '{"meta":{"result_count":0,"newest_id":"1"},"__twarc":{}}',
    '{"title":"Not Found Error","errors":[{"id":"7"}],"meta":{}}',
]


class TestLinesThatHoldNothing:
    @pytest.mark.parametrize("line", NOTICES + EMPTY_ANSWERS)
    @pytest.mark.parametrize("shape", [None, "posts", "users"])
    def test_they_are_no_records_and_stay(self, line: str, shape: str | None) -> None:
        assert ids_of(line.encode(), shape) == Held([], [], 0, 0)
        done = redact(line.encode(), Night("p1:remove u7:remove"), shape)
        assert done == (line.encode(), [], Counts())

    @pytest.mark.parametrize(
        "line",
        [
            b'{"meta":{},"tweets":[{"id":"1","text":"x"}]}',
            b'{"errors":[],"tweet":{"id":"1","text":"x"}}',
            b'{"title":"Not Found Error"}',
        ],
    )
    def test_what_may_hold_something_is_no_empty_answer(self, line: bytes) -> None:
        with pytest.raises(BadRecordError):
            ids_of(line)

    def test_a_record_with_a_member_of_that_name_is_one(self) -> None:
        assert ids_of(b'{"id":"1","limit":{}}').posts == [1]


BAD_LINES = [
    (b"", "not JSON: Expecting value (character 1)"),
    (b'{"id":"1"', "not JSON: Expecting ',' delimiter (character 10)"),
    (b'{"id":"1"}{"id":"2"}', "not JSON: Extra data (character 11)"),
    (b'{"id":"1","text":"\t"}', "not JSON: Invalid control character at (character 19)"),
    (b'\xef\xbb\xbf{"id":"1"}', "not JSON: Unexpected UTF-8 BOM (decode using utf-8-sig) (character 1)"),
    (b'{"id":"1"}\xff', "not JSON: Extra data (character 11)"),
    (b'["1"]', "not a JSON object"),
    (b"1", "not a JSON object"),
    (b'{"id":' + b"1" * 5000 + b"}", "a number has too many digits"),
    (b'{"id":"1","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    (b'{"text":"x"}', "no valid id"),
    (b'{"delete":{"status":{"id":1}},"limit":{}}', "no valid id"),
    (b'{"delete":{"status":{"id":1}},"text":"x"}', "no valid id"),
    (b'{"id":null,"delete":{"status":{"id":1}}}', "no valid id"),
    (b'{"timestamp_ms":"1"}', "no valid id"),
    *(
        (b'{"errors":[],"meta":{},"%s":null}' % member, "no valid id")
        for member in (b"id", b"id_str", b"data", b"includes", b"text", b"user", b"username")
    ),
    (b'{"__twarc":{}}', "no valid id"),
    (b'{"friends":[1]}', "no valid id"),
    (b'{"data":[{"delete":{}}]}', "data/0 has no valid id"),
    (b'{"data":null}', "no valid id"),
    (b'{"data":[{"id":"1"},{"id":""}]}', "data/1 has no valid id"),
    (b'{"data":["1"]}', "data/0 has no valid id"),
    (b'{"data":{"text":"x"}}', "data has no valid id"),
    (b'{"data":[],"includes":{"tweets":[{}]}}', "includes/tweets/0 has no valid id"),
    (b'{"data":[],"includes":{"users":[null]}}', "includes/users/0 has no valid id"),
]


class TestBadRecords:
    @pytest.mark.parametrize(("line", "what"), BAD_LINES, ids=[what for _, what in BAD_LINES])
    def test_they_are_told_apart_in_words_without_content(self, line: bytes, what: str) -> None:
        with pytest.raises(BadRecordError) as raised:
            ids_of(line)
        with pytest.raises(BadRecordError) as raised_again:
            redact(line, Night("p1:remove"))

        assert str(raised.value) == str(raised_again.value) == what


@dataclass
class Case:
    """What becomes of a line; ``after`` None: it goes."""

    name: str
    line: str
    events: str
    after: str | None
    counts: str = ""
    quarantined: tuple[str, ...] = ()
    quarantine: bool = True


def counts_of(text: str) -> Counts:
    """Read ``removed=1 remove/p1=1``; what has a slash is a kind."""
    counts = Counts()
    for part in text.split():
        name, number = part.split("=")
        if "/" in name:
            counts.kinds[name] = int(number)
        else:
            setattr(counts, name, int(number))
    return counts


RT = '{"id_str":"1","user":{"id_str":"7"},"retweeted_status":{"id_str":"2","user":{"id_str":"8"}}}'
RT_OF_QUOTE = (
    '{"id_str":"1","retweeted_status":{"id_str":"2","text":"a","quoted_status":{"id_str":"3","user":'
    '{"id_str":"9"}},"lang":"de"},"quoted_status":{"id_str":"3","text":"b"}}'
)
V1_LOCATED = (
    '{"id_str":"1","geo":{"c":1},"coordinates":{"c":1},"place":{"p":1},"user":{"id_str":"7","location":"Ulm",'
    '"profile_location":{"p":1},"derived":{"locations":[1]},"lang":null},"quoted_status":{"id_str":"2","user":'
    '{"id_str":"8","location":""},"place":{"p":2},"geo":null}}'
)
FLAT_REPLY = (
    '{"id":"1","author_id":"7","referenced_tweets":[{"type":"replied_to","text":"x","id":"2","author":'
    '{"id":"8"}},{"id":"3","type":"quoted"}],"in_reply_to_user":{"id":"8","location":"Ulm"},"text":"a"}'
)
V1_PROFILE = (
    '{"id_str":"7","screen_name":"a","location":"Ulm","status":{"id_str":"1","geo":{"c":1},"retweeted_status":'
    '{"id_str":"2","user":{"id_str":"8"},"place":{"p":1}}},"lang":null}'
)
V2_PROFILE = (
    '{"id":"7","pinned_tweet_id":"1","pinned_tweet":{"id":"1","author_id":"7","geo":{"p":1},"text":"x"},'
    '"username":"a"}'
)
MENTIONED = (
    '{"id":"1","author":{"id":"7"},"entities":{"mentions":[{"start":0,"end":2,"username":"a","id":"8"},{"location":'
    '"Ulm","start":3,"pinned_tweet":{"id":"2","geo":{"p":1}},"end":5,"name":"b","username":"b","id":"9"}]}}'
)
FLAT_RT = (
    '{"id":"1","referenced_tweets":[{"type":"retweeted","id":"2","text":"x","author":{"id":"8"},'
    '"geo":{"a":1}}]}'
)

RECORDS = [
    Case("nothing-known", RT, "p9:remove u9:remove", RT),
    Case("own-post-removed", '{"id":"1"}', "p1:remove", None, "removed=1 remove/p1=1"),
    Case("v1.1-author-removed", RT, "u7:remove", None, "removed=1 remove/u7=1"),
    Case("v2-author-removed", '{"id":"1","author_id":"7"}', "u7:remove", None, "removed=1 remove/u7=1"),
    Case(
        "author-object-removed",
        '{"id":"1","author":{"id":"7"}}',
        "u7:remove",
        None,
        "removed=1 remove/u7=1",
    ),
    Case("the-post-decides-before-its-author", RT, "u7:remove p1:remove", None, "removed=1 remove/p1=1"),
    Case("the-stronger-decides", RT, "u7:remove p1:fetch", None, "removed=1 remove/u7=1"),
    Case(
        "fetched-again", ' {"id" : "1"}\r', "p1:fetch", None, "quarantined=1 fetch/p1=1", (' {"id" : "1"}\r',)
    ),
    Case("not-from-quarantine", '{"id":"1"}', "p1:fetch", '{"id":"1"}', quarantine=False),
    Case(
        "scrubbed-where-nothing-is-fetched",
        V1_LOCATED,
        "p2:fetch p2:scrub",
        V1_LOCATED.replace(',"place":{"p":2}', ""),
        "scrubbed=1 scrub/p2=1",
        quarantine=False,
    ),
    Case(
        "fetched-again-without-its-location",
        '{"id":"1","geo":{"p":1},"text":"x"}',
        "p1:fetch p1:scrub",
        None,
        "quarantined=1 fetch/p1=1 scrub/p1=1",
        ('{"id":"1","text":"x"}',),
    ),
    Case(
        "retweet-fetched-again-without-the-location-of-what-it-repeats",
        '{"id":"1","geo":1,"retweeted_status":{"id":"2","geo":2}}',
        "p2:fetch p2:scrub",
        None,
        "quarantined=1 fetch/p2=1 scrub/p2=1",
        ('{"id":"1","geo":1,"retweeted_status":{"id":"2"}}',),
    ),
    Case(
        "users-are-scrubbed-as-they-are-not-fetched",
        '{"id":"7","username":"a","location":"Ulm"}',
        "u7:fetch u7:scrub",
        '{"id":"7","username":"a"}',
        "scrubbed=1 scrub/u7=1",
    ),
    *(
        Case(
            f"profile-in-media-removed-from-{member[1:25]}",
            f'{{"id_str":"1",{member}}}',
            "u8:remove",
            f'{{"id_str":"1",{member}}}'.replace(',"source_user":{"id_str":"8","location":"Ulm"}', ""),
            "stripped=1 remove/u8=1",
        )
        for member in MEMBERS_WITH_MEDIA
    ),
    Case(
        "profile-in-media-of-an-embedded-post-scrubbed",
        f'{{"id_str":"1","quoted_status":{{"id_str":"2","extended_entities":{MEDIA}}}}}',
        "u8:scrub",
        f'{{"id_str":"1","quoted_status":{{"id_str":"2","extended_entities":{MEDIA}}}}}'.replace(
            ',"location":"Ulm"', ""
        ),
        "scrubbed=1 scrub/u8=1",
    ),
    Case(
        "mentioned-profile-removed-though-no-author-is-known",
        '{"id":"1","entities":{"mentions":[{"start":0,"id":"9","description":"x"}]}}',
        "u9:remove",
        '{"id":"1","entities":{"mentions":[{"start":0,"id":"9"}]}}',
        "stripped=1 remove/u9=1",
    ),
    Case("no-fetching-of-users", '{"id":"7","username":"a"}', "u7:fetch", '{"id":"7","username":"a"}'),
    Case("no-fetching-of-authors", RT, "u7:fetch u8:fetch", RT),
    Case("v1.1-retweeted-removed", RT, "p2:remove", None, "removed=1 remove/p2=1"),
    Case("v1.1-retweeted-author-removed", RT, "u8:remove", None, "removed=1 remove/u8=1"),
    Case("v1.1-retweeted-fetched", RT, "p2:fetch", None, "quarantined=1 fetch/p2=1", (RT,)),
    Case("retweet-removed-though-retweeted-fetched", RT, "p2:fetch p1:remove", None, "removed=1 remove/p1=1"),
    Case("retweet-fetched-retweeted-removed", RT, "p1:fetch p2:remove", None, "removed=1 remove/p2=1"),
    Case("v1.1-retweeted-in-quarantine", RT, "p2:fetch", RT, quarantine=False),
    Case(
        "v2-retweeted-removed",
        '{"id":"1","referenced_tweets":[{"type":"retweeted","id":"2"}]}',
        "p2:remove",
        None,
        "removed=1 remove/p2=1",
    ),
    Case("flattened-retweeted-author-removed", FLAT_RT, "u8:remove", None, "removed=1 remove/u8=1"),
    Case("flattened-retweeted-fetched", FLAT_RT, "p2:fetch", None, "quarantined=1 fetch/p2=1", (FLAT_RT,)),
    Case(
        "flattened-retweeted-scrubbed",
        FLAT_RT,
        "p2:scrub",
        '{"id":"1","referenced_tweets":[{"type":"retweeted","id":"2","text":"x","author":{"id":"8"}}]}',
        "scrubbed=1 scrub/p2=1",
    ),
    Case(
        "quoted-removed-at-any-level",
        RT_OF_QUOTE,
        "p3:remove",
        '{"id_str":"1","retweeted_status":{"id_str":"2","text":"a","lang":"de"}}',
        "stripped=1 remove/p3=2",
    ),
    Case(
        "quoted-fetched-at-any-level",
        RT_OF_QUOTE,
        "p3:fetch",
        '{"id_str":"1","retweeted_status":{"id_str":"2","text":"a","lang":"de"}}',
        "stripped=1 fetch/p3=2",
    ),
    Case("quoted-in-quarantine", RT_OF_QUOTE, "p3:fetch", RT_OF_QUOTE, quarantine=False),
    Case(
        "quoted-author-removed",
        RT_OF_QUOTE,
        "u9:remove",
        '{"id_str":"1","retweeted_status":{"id_str":"2","text":"a","lang":"de"},'
        '"quoted_status":{"id_str":"3","text":"b"}}',
        "stripped=1 remove/u9=1",
    ),
    Case(
        "a-retweet-keeps-its-own-location",
        '{"id":"1","place":{"p":1},"retweeted_status":{"id":"2","place":{"p":2}}}',
        "p2:scrub",
        '{"id":"1","place":{"p":1},"retweeted_status":{"id":"2"}}',
        "scrubbed=1 scrub/p2=1",
    ),
    Case("retweet-of-quote-goes-with-the-retweeted", RT_OF_QUOTE, "p2:remove", None, "removed=1 remove/p2=1"),
    Case(
        "quoted-retweet-goes-with-what-it-repeats",
        '{"id":"1","quoted_status":{"id":"2","retweeted_status":{"id":"3"}},"text":"a"}',
        "p3:remove",
        '{"id":"1","text":"a"}',
        "stripped=1 remove/p3=1",
    ),
    Case(
        "what-goes-to-quarantine-lacks-what-would-go-there",
        V1_LOCATED,
        "p1:fetch p2:remove u7:scrub",
        None,
        "quarantined=1 fetch/p1=1 remove/p2=1 scrub/u7=2",
        ('{"id_str":"1","user":{"id_str":"7","lang":null}}',),
    ),
    Case(
        "flattened-reply-removed",
        FLAT_REPLY,
        "p2:remove",
        '{"id":"1","author_id":"7","referenced_tweets":[{"type":"replied_to","id":"2"},'
        '{"id":"3","type":"quoted"}],"in_reply_to_user":{"id":"8","location":"Ulm"},"text":"a"}',
        "stripped=1 remove/p2=1",
    ),
    Case(
        "flattened-reply-author-removed",
        FLAT_REPLY,
        "u8:remove",
        '{"id":"1","author_id":"7","referenced_tweets":[{"type":"replied_to","id":"2"},'
        '{"id":"3","type":"quoted"}],"text":"a"}',
        "stripped=1 remove/u8=2",
    ),
    Case(
        "flattened-profile-scrubbed",
        FLAT_REPLY,
        "u8:scrub",
        FLAT_REPLY.replace(',"location":"Ulm"', ""),
        "scrubbed=1 scrub/u8=1",
    ),
    Case("bare-references-stay", FLAT_REPLY, "p3:remove", FLAT_REPLY),
    Case(
        "post-scrubbed",
        V1_LOCATED,
        "p1:scrub",
        V1_LOCATED.replace('"geo":{"c":1},"coordinates":{"c":1},"place":{"p":1},', ""),
        "scrubbed=1 scrub/p1=1",
    ),
    Case(
        "embedded-copy-scrubbed",
        V1_LOCATED,
        "p2:scrub",
        V1_LOCATED.replace(',"place":{"p":2}', ""),
        "scrubbed=1 scrub/p2=1",
    ),
    Case(
        "author-scrubbed",
        V1_LOCATED,
        "u7:scrub",
        '{"id_str":"1","user":{"id_str":"7","lang":null},"quoted_status":{"id_str":"2","user":{"id_str":"8",'
        '"location":""},"place":{"p":2},"geo":null}}',
        "scrubbed=1 scrub/u7=2",
    ),
    Case(
        "embedded-author-scrubbed",
        V1_LOCATED,
        "u8:scrub",
        V1_LOCATED.replace(',"location":""', "").replace(',"place":{"p":2}', ""),
        "scrubbed=1 scrub/u8=2",
    ),
    Case(
        "scrubbed-and-stripped",
        V1_LOCATED,
        "p1:scrub p2:remove",
        '{"id_str":"1","user":{"id_str":"7","location":"Ulm","profile_location":{"p":1},"derived":'
        '{"locations":[1]},"lang":null}}',
        "scrubbed=1 stripped=1 scrub/p1=1 remove/p2=1",
    ),
    Case(
        "v2-scrubbed",
        '{"geo":{"place_id":"a"},"id":"1","text":"x"}',
        "p1:scrub",
        '{"id":"1","text":"x"}',
        "scrubbed=1 scrub/p1=1",
    ),
    Case("no-location-to-scrub", '{"id":"1","geo":null}', "p1:scrub", '{"id":"1","geo":null}'),
    Case(
        "latest-post-removed",
        V1_PROFILE,
        "p1:remove",
        '{"id_str":"7","screen_name":"a","location":"Ulm","lang":null}',
        "stripped=1 remove/p1=1",
    ),
    Case(
        "latest-post-fetched",
        V1_PROFILE,
        "p1:fetch",
        '{"id_str":"7","screen_name":"a","location":"Ulm","lang":null}',
        "stripped=1 fetch/p1=1",
    ),
    Case("latest-post-in-quarantine", V1_PROFILE, "p1:fetch p2:fetch", V1_PROFILE, quarantine=False),
    Case(
        "latest-post-retweets-what-was-removed",
        V1_PROFILE,
        "u8:remove",
        '{"id_str":"7","screen_name":"a","location":"Ulm","lang":null}',
        "stripped=1 remove/u8=1",
    ),
    Case(
        "latest-post-scrubbed",
        V1_PROFILE,
        "p1:scrub p2:scrub",
        V1_PROFILE.replace('"geo":{"c":1},', "").replace(',"place":{"p":1}', ""),
        "scrubbed=1 scrub/p1=1 scrub/p2=1",
    ),
    Case(
        "user-scrubbed-with-the-latest-post",
        V1_PROFILE,
        "u7:scrub",
        V1_PROFILE.replace('"geo":{"c":1},', "").replace('"location":"Ulm",', ""),
        "scrubbed=1 scrub/u7=2",
    ),
    Case("user-removed-with-the-latest-post", V1_PROFILE, "u7:remove", None, "removed=1 remove/u7=1"),
    Case(
        "latest-post-of-another",
        '{"id":"7","username":"a","status":{"id":"1","user":{"id":"8"},"geo":{}}}',
        "u7:scrub",
        '{"id":"7","username":"a","status":{"id":"1","user":{"id":"8"},"geo":{}}}',
    ),
    Case(
        "latest-post-of-a-removed-other",
        '{"id":"7","username":"a","status":{"id":"1","user":{"id":"8"},"geo":{}}}',
        "u8:remove",
        '{"id":"7","username":"a"}',
        "stripped=1 remove/u8=1",
    ),
    Case(
        "latest-post-of-an-author-removed",
        '{"id":"5","user":{"id":"7","status":{"id":"1"}},"retweeted_status":{"id":"6","user":{"id":"8",'
        '"status":{"id":"1"}}}}',
        "p1:remove",
        '{"id":"5","user":{"id":"7"},"retweeted_status":{"id":"6","user":{"id":"8"}}}',
        "stripped=1 remove/p1=2",
    ),
    Case(
        "pinned-post-removed",
        V2_PROFILE,
        "p1:remove",
        '{"id":"7","pinned_tweet_id":"1","username":"a"}',
        "stripped=1 remove/p1=1",
    ),
    Case(
        "pinned-post-scrubbed",
        V2_PROFILE,
        "p1:scrub",
        V2_PROFILE.replace('"geo":{"p":1},', ""),
        "scrubbed=1 scrub/p1=1",
    ),
    Case(
        "mentioned-profile-removed",
        MENTIONED,
        "u9:remove",
        '{"id":"1","author":{"id":"7"},"entities":{"mentions":[{"start":0,"end":2,"username":"a","id":"8"},{'
        '"start":3,"end":5,"username":"b","id":"9"}]}}',
        "stripped=1 remove/u9=1",
    ),
    Case(
        "mentioned-profile-scrubbed",
        MENTIONED,
        "u9:scrub",
        MENTIONED.replace('"location":"Ulm",', "").replace(',"geo":{"p":1}', ""),
        "scrubbed=1 scrub/u9=2",
    ),
    Case(
        "pinned-post-of-a-mentioned-profile-removed",
        MENTIONED,
        "p2:remove",
        MENTIONED.replace('"pinned_tweet":{"id":"2","geo":{"p":1}},', ""),
        "stripped=1 remove/p2=1",
    ),
    Case("bare-mentions-stay", MENTIONED, "u8:remove", MENTIONED),
    Case("user-removed", '{"id":"7","username":"a"}', "u7:remove", None, "removed=1 remove/u7=1"),
    Case("post-event-of-a-users-id", '{"id":"7","username":"a"}', "p7:remove", '{"id":"7","username":"a"}'),
    Case("user-event-of-a-posts-id", '{"id":"1","text":"a"}', "u1:remove", '{"id":"1","text":"a"}'),
    Case(
        "user-scrubbed",
        '{"id":"7","username":"a","location":"Ulm","geo":1}',
        "u7:scrub",
        '{"id":"7","username":"a","geo":1}',
        "scrubbed=1 scrub/u7=1",
    ),
    Case(
        "embedded-without-a-valid-id",
        '{"id":"1","quoted_status":{"id":null,"user":{"id":"7"}}}',
        "u7:remove",
        '{"id":"1","quoted_status":{"id":null,"user":{"id":"7"}}}',
    ),
]


def page(data: str, **includes: str) -> str:
    lists = ",".join(f'"{name}":[{items}]' for name, items in includes.items())
    return f'{{"data":[{data}],"includes":{{{lists}}},"meta":{{"n":1}}}}'


A = '{"id":"1","author_id":"7","text":"a"}'
B = '{"id":"2","author_id":"8","text":"b"}'
C = '{"id":"3","author_id":"9","text":"c"}'
RETWEET = '{"id":"4","author_id":"6","referenced_tweets":[{"type":"retweeted","id":"3"}]}'
QUOTE = '{"id":"5","author_id":"6","referenced_tweets":[{"type":"quoted","id":"3"}]}'
U7 = '{"id":"7","username":"g","location":"Ulm"}'
U8 = '{"id":"8","username":"h"}'
AT_ULM = '{"id":"1","author_id":"7","geo":{"place_id":"ulm"},"lang":"de"}'
AT_ULM_TOO = '{"id":"2","author_id":"8","geo":{"place_id":"ulm"}}'
ULM, ROME = '{"id":"ulm"}', '{"id":"rome"}'
SHOWN = '{"id":"1","attachments":{"media_keys":["m1","m2"],"poll_ids":["5"]}}'
SHOWN_TOO = '{"id":"2","attachments":{"media_keys":["m2"]}}'
M1, M2, POLL = '{"media_key":"m1"}', '{"media_key":"m2"}', '{"id":"5"}'

PAGES = [
    Case("nothing-known", page(A, users=U7), "p9:remove", page(A, users=U7)),
    Case("first-item", page(f"{A},{B},{C}"), "p1:remove", page(f"{B},{C}"), "removed=1 remove/p1=1"),
    Case("middle-item", page(f"{A},{B},{C}"), "p2:remove", page(f"{A},{C}"), "removed=1 remove/p2=1"),
    Case("last-item", page(f"{A},{B},{C}"), "u9:remove", page(f"{A},{B}"), "removed=1 remove/u9=1"),
    Case(
        "first-items",
        page(f"{A},{B},{C}"),
        "p1:remove p2:remove",
        page(C),
        "removed=2 remove/p1=1 remove/p2=1",
    ),
    Case(
        "outer-items",
        page(f"{A},{B},{C}"),
        "p1:remove p3:remove",
        page(B),
        "removed=2 remove/p1=1 remove/p3=1",
    ),
    Case("all-items", page(f"{A},{A}", users=U7), "u7:remove", None, "removed=2 remove/u7=2"),
    Case("data-object", f'{{"data":{A},"meta":{{}}}}', "p1:remove", None, "removed=1 remove/p1=1"),
    Case(
        "data-object-fetched",
        f'{{ "data" : {A} , "meta":{{}}}}',
        "p1:fetch",
        None,
        "quarantined=1 fetch/p1=1",
        (f'{{"data":[{A}]}}',),
    ),
    Case("empty-data", page("", users=U7), "u7:remove", page("", users=""), "stripped=1 remove/u7=1"),
    Case(
        "fetched",
        page(f"{A}, {B} ,{C}"),
        "p2:fetch p3:fetch",
        page(A),
        "quarantined=2 fetch/p2=1 fetch/p3=1",
        (f'{{"data":[{B}]}}', f'{{"data":[{C}]}}'),
    ),
    Case(
        "fetched-and-removed",
        page(f"{A},{B}"),
        "p1:remove p2:fetch",
        None,
        "removed=1 quarantined=1 remove/p1=1 fetch/p2=1",
        (f'{{"data":[{B}]}}',),
    ),
    Case(
        "fetched-and-its-author-scrubbed",
        page(f"{AT_ULM},{B}", places=ULM),
        "p1:fetch u7:scrub",
        page(B, places=""),
        "quarantined=1 fetch/p1=1 scrub/u7=1",
        ('{"data":[{"id":"1","author_id":"7","lang":"de"}]}',),
    ),
    Case("not-from-quarantine", page(f"{A},{B}"), "p1:fetch", page(f"{A},{B}"), quarantine=False),
    Case("user-item", page(f"{U7},{U8}"), "u7:remove", page(U8), "removed=1 remove/u7=1"),
    Case(
        "user-item-scrubbed",
        page(f"{U7},{U8}"),
        "u7:scrub",
        page(f'{{"id":"7","username":"g"}},{U8}'),
        "scrubbed=1 scrub/u7=1",
    ),
    Case(
        "user-goes-everywhere",
        page(f"{A},{B}", users=f"{U7},{U8}"),
        "u7:remove",
        page(B, users=U8),
        "removed=1 stripped=1 remove/u7=2",
    ),
    Case(
        "user-scrubbed-everywhere",
        page(f"{AT_ULM},{B}", users=f"{U7},{U8}", places=ULM),
        "u7:scrub",
        page(
            f'{{"id":"1","author_id":"7","lang":"de"}},{B}',
            users=f'{{"id":"7","username":"g"}},{U8}',
            places="",
        ),
        "scrubbed=1 scrub/u7=2",
    ),
    Case(
        "only-what-comes-along-is-scrubbed",
        page(f"{A},{B}", users=U7),
        "u7:scrub",
        page(f"{A},{B}", users='{"id":"7","username":"g"}'),
        "scrubbed=1 scrub/u7=1",
    ),
    Case(
        "retweet-of-a-removed-post",
        page(f"{A},{RETWEET}", tweets=C),
        "p3:remove",
        page(A, tweets=""),
        "removed=1 stripped=1 remove/p3=2",
    ),
    Case(
        "retweet-of-a-removed-author",
        page(f"{A},{RETWEET}", tweets=C),
        "u9:remove",
        page(A, tweets=""),
        "removed=1 stripped=1 remove/u9=2",
    ),
    Case(
        "retweet-of-a-removed-author-in-the-same-data",
        page(f"{C},{RETWEET},{A}"),
        "u9:remove",
        page(A),
        "removed=2 remove/u9=2",
    ),
    Case(
        "retweet-of-a-post-that-is-there-by-several-authors",
        page(f"{A},{RETWEET}", tweets=f'{C},{{"id":"3","author_id":"8"}}'),
        "u9:remove",
        page(A, tweets='{"id":"3","author_id":"8"}'),
        "removed=1 stripped=1 remove/u9=2",
    ),
    Case(
        "retweet-with-text-but-no-author",
        page(
            f'{A},{{"id":"4","referenced_tweets":[{{"type":"retweeted","id":"3","text":"c"}}]}}',
            tweets=C,
        ),
        "u9:remove",
        page(A, tweets=""),
        "removed=1 stripped=1 remove/u9=2",
    ),
    Case(
        "retweet-of-a-fetched-post",
        page(f"{A},{RETWEET}", tweets=C),
        "p3:fetch",
        page(A, tweets=""),
        "quarantined=1 stripped=1 fetch/p3=2",
        (f'{{"data":[{RETWEET}]}}',),
    ),
    Case(
        "quote-of-a-removed-post",
        page(QUOTE, tweets=f"{B},{C}"),
        "p3:remove",
        page(QUOTE, tweets=B),
        "stripped=1 remove/p3=1",
    ),
    Case(
        "quote-of-a-fetched-post",
        page(QUOTE, tweets=f"{C},{B}"),
        "p3:fetch",
        page(QUOTE, tweets=B),
        "stripped=1 fetch/p3=1",
    ),
    Case("quote-in-quarantine", page(QUOTE, tweets=C), "p3:fetch", page(QUOTE, tweets=C), quarantine=False),
    Case(
        "pinned-post-of-a-user-that-comes-along",
        page(A, users=f'{{"id":"8","pinned_tweet":{C}}},{U7}'),
        "p3:remove",
        page(A, users=f'{{"id":"8"}},{U7}'),
        "stripped=1 remove/p3=1",
    ),
    Case(
        "pinned-retweet-of-a-removed-author",
        page(A, tweets=C, users=f'{{"id":"8","pinned_tweet":{RETWEET}}}'),
        "u9:remove",
        page(A, tweets="", users='{"id":"8"}'),
        "stripped=1 remove/u9=2",
    ),
    Case(
        "place-of-a-removed-post",
        page(f"{AT_ULM},{B}", places=f"{ROME},{ULM}"),
        "p1:remove",
        page(B, places=ROME),
        "removed=1 remove/p1=1",
    ),
    Case(
        "place-shared-with-what-stays",
        page(f"{AT_ULM},{AT_ULM_TOO}", places=ULM),
        "p1:remove",
        page(AT_ULM_TOO, places=ULM),
        "removed=1 remove/p1=1",
    ),
    Case(
        "place-shared-with-what-comes-along",
        page(f"{AT_ULM},{B}", tweets=AT_ULM_TOO, places=ULM),
        "p1:scrub",
        page(f'{{"id":"1","author_id":"7","lang":"de"}},{B}', tweets=AT_ULM_TOO, places=ULM),
        "scrubbed=1 scrub/p1=1",
    ),
    Case(
        "place-shared-among-what-goes",
        page(f"{AT_ULM},{B}", tweets=AT_ULM_TOO.replace("2", "3"), places=ULM),
        "p1:scrub p3:remove",
        page(f'{{"id":"1","author_id":"7","lang":"de"}},{B}', tweets="", places=""),
        "scrubbed=1 stripped=1 scrub/p1=1 remove/p3=1",
    ),
    Case(
        "place-that-nothing-refers-to",
        page(f"{A},{B}", places=ULM),
        "p1:remove",
        page(B, places=ULM),
        "removed=1 remove/p1=1",
    ),
    Case(
        "media-and-polls-of-a-removed-post",
        page(f"{SHOWN},{SHOWN_TOO}", media=f"{M1},{M2}", polls=POLL),
        "p1:remove",
        page(SHOWN_TOO, media=M2, polls=""),
        "removed=1 remove/p1=1",
    ),
    Case(
        "media-and-polls-of-a-fetched-post",
        page(f"{SHOWN},{B}", media=f"{M1},{M2}", polls=POLL),
        "p1:fetch",
        page(B, media="", polls=""),
        "quarantined=1 fetch/p1=1",
        (f'{{"data":[{SHOWN}]}}',),
    ),
    Case(
        "media-of-a-scrubbed-post-stay",
        page(SHOWN, media=f"{M1},{M2}", polls=POLL),
        "p1:scrub",
        page(SHOWN, media=f"{M1},{M2}", polls=POLL),
    ),
    Case(
        "media-of-a-post-that-came-along",
        page(B, tweets=SHOWN, media=f"{M1},{M2}", polls=POLL),
        "p1:remove",
        page(B, tweets="", media="", polls=""),
        "stripped=1 remove/p1=1",
    ),
]

# How it is written. The user 7 loses the location, and the post 1 what it quotes.
WRITTEN = [
    Case("first", '{"location":"x","id":"7","username":"a"}', "u7:scrub", '{"id":"7","username":"a"}'),
    Case("middle", '{"id":"7","location":"x","username":"a"}', "u7:scrub", '{"id":"7","username":"a"}'),
    Case("last", '{"id":"7","username":"a","location":"x"}', "u7:scrub", '{"id":"7","username":"a"}'),
    Case(
        "several-in-front",
        '{"derived":{},"location":"x","id":"7","username":"a","profile_location":1}',
        "u7:scrub",
        '{"id":"7","username":"a"}',
    ),
    Case(
        "only",
        '{"id":"1","referenced_tweets":[ {"text":"x","id_str":"3"} ]}',
        "p3:remove",
        '{"id":"1","referenced_tweets":[ {} ]}',
    ),
    Case(
        "blanks-stay-with-what-stays",
        '\t{ "id" : "7" ,  "username"\r:"a" ,\t"location" : "x"  }  ',
        "u7:scrub",
        '\t{ "id" : "7" ,  "username"\r:"a"  }  ',
    ),
    Case(
        "blanks-in-front",
        '{  "location"  :  "x"  ,  "id":"7","username":"a"}',
        "u7:scrub",
        '{  "id":"7","username":"a"}',
    ),
    Case(
        "escaped-name",
        '{"id":"7","username":"a","\\u006coc\\u0061tion":"x"}',
        "u7:scrub",
        '{"id":"7","username":"a"}',
    ),
    Case(
        "what-looks-like-syntax-in-a-text",
        '{"id":"7","username":"a\\",\\\\","location":"}]\\"{[,"}',
        "u7:scrub",
        '{"id":"7","username":"a\\",\\\\"}',
    ),
    Case(
        "what-stays-is-not-written-anew",
        '{"id":7,"username":"\\u00fc\\/ü\U0001f600\\ud83d\\ude00\\ud800","n":1.50E+2,"big":1e999,"nan":NaN,'
        '"location":"x","e":[ ]}',
        "u7:scrub",
        '{"id":7,"username":"\\u00fc\\/ü\U0001f600\\ud83d\\ude00\\ud800","n":1.50E+2,"big":1e999,"nan":NaN,'
        '"e":[ ]}',
    ),
    Case(
        "all-of-one-name-go",
        '{"location":"w","id":"7","location":null,"username":"a","location":"x"}',
        "u7:scrub",
        '{"id":"7","username":"a"}',
    ),
    Case(
        "of-one-name-the-last-counts",
        '{"location":"w","id":"7","username":"a","location":null}',
        "u7:scrub",
        '{"location":"w","id":"7","username":"a","location":null}',
    ),
    Case(
        "inside-of-one-name-the-last-counts",
        '{"id":"1","user":{"id":"7","location":"w"},"user":{"id":"7","location":"x"}}',
        "u7:scrub",
        '{"id":"1","user":{"id":"7","location":"w"},"user":{"id":"7"}}',
    ),
    Case(
        "one-name-for-a-list-and-an-object",
        '{"id":"1","user":[{"location":"w"}],"user":"u","user":{"id":"7","location":"x"}}',
        "u7:scrub",
        '{"id":"1","user":[{"location":"w"}],"user":"u","user":{"id":"7"}}',
    ),
    Case(
        "of-pages-in-one-line-the-last-counts",
        '{"data":{"id":"2"},"data":{"id":"1"},"data" : {"id":"1","n":3}}',
        "p1:fetch",
        None,
        quarantined=('{"data":[{"id":"1","n":3}]}',),
    ),
    Case(
        "ids-written-differently",
        '{"id":1,"quoted_status":{"id":9007199254740992,"id_str":"9007199254740993"},"x":[]}',
        "p9007199254740993:remove",
        '{"id":1,"x":[]}',
    ),
    Case(
        "the-neighbour-of-an-id",
        '{"id":1,"quoted_status":{"id":9007199254740993}}',
        "p9007199254740992:remove",
        '{"id":1,"quoted_status":{"id":9007199254740993}}',
    ),
]


def named(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


class TestRedact:
    def check(self, case: Case) -> Counts:
        result = redact(case.line.encode(), Night(case.events), quarantine=case.quarantine)

        assert result.line == (None if case.after is None else case.after.encode())
        assert result.quarantined == [line.encode() for line in case.quarantined]
        return result.counts

    @named(RECORDS)
    def test_what_is_done_to_a_record(self, case: Case) -> None:
        assert self.check(case) == counts_of(case.counts)

    @named(PAGES)
    def test_what_is_done_to_a_page(self, case: Case) -> None:
        assert self.check(case) == counts_of(case.counts)

    @named(WRITTEN)
    def test_however_it_is_written(self, case: Case) -> None:
        self.check(case)

    @named(RECORDS + PAGES + WRITTEN)
    def test_applying_twice_changes_nothing(self, case: Case) -> None:
        night = Night(case.events)
        once = redact(case.line.encode(), night, quarantine=case.quarantine)

        if once.line is not None:
            assert redact(once.line, night, quarantine=case.quarantine) == (once.line, [], Counts())
        for line in once.quarantined:
            assert redact(line, night, quarantine=False) == (line, [], Counts())

    @pytest.mark.parametrize(("shape", "after"), [("users", None), ("posts", b'{"id":"7"}')])
    def test_the_shape_can_be_given(self, shape: str, after: bytes | None) -> None:
        assert redact(b'{"id":"7"}', Night("u7:remove"), shape).line == after

    @pytest.mark.parametrize("text", [b"\xff", b"\xe6\x97", b"\xed\xa0\x80", b"\xc0\x80"])
    def test_text_that_is_no_utf8_saves_no_record_and_stays_as_it_is(self, text: bytes) -> None:
        line = b'{"id":"1","text":"%s","geo":"%s","%s":{"id":"2"}}' % (text, text, text)
        page = b'{"data":[%s,{"id":"3"}]}' % line

        assert ids_of(line) == Held([1], [], 1, 1)
        assert redact(line, Night("p1:remove")).line is None
        assert redact(line, Night("p1:scrub")).line == line.replace(b',"geo":"%s"' % text, b"")
        assert redact(page, Night("p1:fetch")).quarantined == [b'{"data":[%s]}' % line]

    @pytest.mark.parametrize("name", ["retweeted_status", "quoted_status"])
    def test_what_is_shallow_enough_to_be_read_is_shallow_enough_to_be_redacted(self, name: str) -> None:
        night = Night("p1:scrub")
        for depth in (100, 250, 400):
            line = f'{{"id":1,"geo":1,"{name}":' * depth + '{"id":2}' + "}" * depth
            try:
                ids_of(line.encode())
            except BadRecordError:
                break
            result = redact(line.encode(), night)
            assert result.line == line.replace('"geo":1,', "").encode()
        assert depth > 100

    def test_a_decision_is_asked_for_once_per_line(self) -> None:
        asked = Counter[str]()

        class Listening(Night):
            def of_post(self, post: int, /) -> Decision:
                asked[f"p{post}"] += 1
                return super().of_post(post)

            def of_user(self, user: int, /) -> Decision:
                asked[f"u{user}"] += 1
                return super().of_user(user)

        redact(page(f"{A},{RETWEET}", tweets=C, users=U7).encode(), Listening("p1:fetch u9:scrub"))

        assert set(asked.values()) == {1}


class TestCounts:
    def test_they_add_up(self) -> None:
        total = Counts(removed=1, kinds=Counter({"delete/deleted": 1}))

        total.add(
            Counts(
                removed=1,
                quarantined=2,
                scrubbed=3,
                stripped=4,
                kinds=Counter({"delete/deleted": 1, "delete/bounced": 2}),
            )
        )

        assert total == Counts(
            removed=2,
            quarantined=2,
            scrubbed=3,
            stripped=4,
            kinds=Counter({"delete/bounced": 2, "delete/deleted": 2}),
        )


def number_of(value: Any) -> int | None:
    found = [value.get(name) for name in ("id_str", "id")] if isinstance(value, dict) else []
    return next((int(number) for number in found if str(number).isdecimal()), None)


MENTION = {"start", "end", "username", "id", "tag"}


class Obvious:
    """The same done to what json.loads returns, one rule after the other."""

    def __init__(self, night: Night, quarantine: bool) -> None:
        self.night = night
        self.quarantine = quarantine
        self.authors: dict[int | None, list[int]] = {}

    def fate_of_user(self, user: Any) -> Effect:
        number = number_of(user)
        return NOTHING if number is None else self.here(self.night.of_user(number))

    def here(self, decision: Decision) -> Effect:
        """Tell what is done where nothing is fetched again."""
        without = Effect.SCRUB_LOCATION if decision.otherwise else NOTHING
        return without if decision.effect is Effect.FETCH_AGAIN else decision.effect

    def authors_of(self, post: dict[str, Any]) -> list[int]:
        people = [{"id": post.get("author_id")}, post.get("author"), post.get("user")]
        return [number for person in people if (number := number_of(person)) is not None]

    def retweeted(self, post: dict[str, Any]) -> list[Any]:
        references = [ref for ref in post.get("referenced_tweets", []) if ref["type"] == "retweeted"]
        return [post.get("retweeted_status"), *references]

    def fate(self, post: Any, owner: int | None = None) -> Effect:
        number = number_of(post)
        if number is None:
            return NOTHING
        decision = self.night.of_post(number)
        own = decision.effect if self.quarantine else self.here(decision)
        elsewhere = self.authors.get(number, []) if set(post) == {"type", "id"} else []
        people = self.authors_of(post) + elsewhere or [owner] * (owner is not None)
        effects = [own, *(self.fate_of_user({"id": person}) for person in people)]
        for repeated in self.retweeted(post):
            effect = self.fate(repeated)
            effects.append(effect if effect >= Effect.FETCH_AGAIN else NOTHING)
        return max(effects)

    def drop(self, value: dict[str, Any], *names: str) -> None:
        for name in names:
            if value.get(name) is not None:
                del value[name]

    def clean_user(self, user: Any) -> None:
        if self.fate_of_user(user) is Effect.SCRUB_LOCATION:
            self.drop(user, "location", "profile_location", "derived")
        owner = number_of(user)
        for name in ("status", "pinned_tweet") if owner is not None else ():
            if self.fate(user.get(name), owner) >= Effect.FETCH_AGAIN:
                del user[name]
            elif number_of(user.get(name)) is not None:
                self.clean(user[name], owner)

    def clean_mentions(self, post: dict[str, Any]) -> None:
        is_mere_id = "author_id" in post and "author" not in post
        mentions = post["entities"]["mentions"] if "entities" in post and not is_mere_id else []
        for number, mention in enumerate(mentions):
            if set(mention) <= MENTION:
                continue
            if self.fate_of_user(mention) is Effect.REMOVE:
                mentions[number] = {name: mention[name] for name in mention if name in MENTION}
            else:
                self.clean_user(mention)

    def clean(self, post: dict[str, Any], owner: int | None = None) -> None:
        if self.fate(post, owner) is Effect.SCRUB_LOCATION:
            self.drop(post, "geo", "coordinates", "place")
        self.clean_mentions(post)
        for name in ("user", "author", "in_reply_to_user"):
            self.clean_user(post.get(name))
        if self.fate_of_user(post.get("in_reply_to_user")) is Effect.REMOVE:
            del post["in_reply_to_user"]
        self.clean_statuses(post)
        self.clean_references(post)

    def clean_statuses(self, post: dict[str, Any]) -> None:
        for name in ("retweeted_status", "quoted_status"):
            if self.fate(post.get(name)) >= Effect.FETCH_AGAIN:
                del post[name]
            elif number_of(post.get(name)) is not None:
                self.clean(post[name])

    def clean_references(self, post: dict[str, Any]) -> None:
        for number, reference in enumerate(post.get("referenced_tweets", [])):
            if set(reference) == {"type", "id"}:
                continue
            if self.fate(reference) >= Effect.FETCH_AGAIN:
                post["referenced_tweets"][number] = {"type": reference["type"], "id": reference["id"]}
            elif number_of(reference) is not None:
                self.clean(reference)

    def is_user(self, value: dict[str, Any]) -> bool:
        return "username" in value and "text" not in value

    def redact(self, value: Any) -> Any:
        """Return what is left, or None."""
        if "data" in value:
            return self.redact_page(value)
        if self.is_user(value):
            self.clean_user(value)
            return None if self.fate_of_user(value) is Effect.REMOVE else value
        if self.fate(value) >= Effect.FETCH_AGAIN:
            return None
        self.clean(value)
        return value

    def redact_page(self, value: Any) -> Any:
        includes = value["includes"]
        posts = [item for item in value["data"] + includes["tweets"] if not self.is_user(item)]
        for post in posts:
            self.authors.setdefault(number_of(post), []).extend(self.authors_of(post))
        referring = [(post.get("geo"), self.fate(post)) for post in posts]
        places = {
            effect: {geo["place_id"] for geo, fate in referring if geo and fate is effect}
            for effect in Effect
        }
        lost = set.union(*(places[effect] for effect in Effect if effect is not NOTHING)) - places[NOTHING]
        left = [item for item in map(self.redact, value["data"]) if item]
        if value["data"] and not left:
            return None
        value["data"] = left
        for name in ("tweets", "users"):
            includes[name] = [item for item in map(self.redact, includes[name]) if item]
        includes["places"] = [place for place in includes["places"] if place["id"] not in lost]
        return value


NUMBERS = st.integers(1, 6)
ID = st.one_of(
    NUMBERS.map(lambda number: {"id": number}),
    NUMBERS.map(lambda number: {"id": str(number)}),
    NUMBERS.map(lambda number: {"id_str": str(number), "id": number * 1000}),
)
NO_ID = st.sampled_from([{}, {"id": ""}, {"id": None}, {"id": 1.5}])
LOCATION = st.one_of(st.none(), st.sampled_from(["ulm", "rome"]).map(lambda name: {"place_id": name}))
TEXT = st.text(st.sampled_from('ü"\\,{}[]: \U0001f600x'), max_size=6)


def with_id(members: st.SearchStrategy[Any], ids: st.SearchStrategy[Any] = ID) -> st.SearchStrategy[Any]:
    shuffled = st.tuples(ids, members).flatmap(lambda two: st.permutations([*(two[0] | two[1]).items()]))
    return shuffled.map(dict)


def users(ids: st.SearchStrategy[Any] = ID, *, with_posts: bool = False) -> st.SearchStrategy[Any]:
    location = st.one_of(st.none(), TEXT)
    optional = {"location": location, "derived": LOCATION, "profile_location": LOCATION, "url": TEXT}
    if with_posts:
        optional |= dict.fromkeys(("status", "pinned_tweet"), st.one_of(posts(1), posts(0, NO_ID), st.none()))
    return with_id(st.fixed_dictionaries({"username": TEXT}, optional=optional), ids)


def posts(depth: int, ids: st.SearchStrategy[Any] = ID) -> st.SearchStrategy[Any]:
    optional = dict.fromkeys(("user", "author", "in_reply_to_user"), st.one_of(users(), users(NO_ID)))
    optional |= dict.fromkeys(("geo", "coordinates", "place"), LOCATION)
    optional |= {"author_id": NUMBERS.map(str), "lang": TEXT}
    mention = st.fixed_dictionaries({"start": NUMBERS, "id": NUMBERS.map(str)}, optional={"username": TEXT})
    profile = users(st.one_of(ID, NO_ID), with_posts=depth > 1)
    optional["entities"] = st.fixed_dictionaries({"mentions": st.lists(mention | profile, max_size=2)})
    if depth:
        inner = st.one_of(posts(depth - 1), posts(depth - 1, NO_ID), st.none())
        optional |= {"retweeted_status": inner, "quoted_status": inner}
        optional["referenced_tweets"] = st.lists(references(depth - 1), max_size=2)
    return with_id(st.fixed_dictionaries({"text": TEXT}, optional=optional), ids)


def references(depth: int) -> st.SearchStrategy[Any]:
    kind = st.sampled_from(["retweeted", "quoted", "replied_to"])
    bare = st.builds(lambda kind, number: {"type": kind, "id": str(number)}, kind, NUMBERS)
    return st.one_of(bare, st.builds(lambda ref, post: ref | post | {"id": ref["id"]}, bare, posts(depth)))


PAGE = st.fixed_dictionaries(
    {
        "data": st.lists(st.one_of(posts(1), posts(0), users()), max_size=3),
        "includes": st.fixed_dictionaries(
            {
                "tweets": st.lists(posts(1), max_size=2),
                "users": st.lists(users(with_posts=True), max_size=2),
                "places": st.lists(st.sampled_from([{"id": "ulm"}, {"id": "rome"}]), max_size=2),
            }
        ),
    }
)
EVENTS = st.lists(
    st.builds("{}{}:{}".format, st.sampled_from("pu"), NUMBERS, st.sampled_from([*EFFECTS])),
    max_size=4,
).map(" ".join)


class Writer:
    """Write JSON as nobody does: odd blanks, escaped names, and members twice, of which the last counts."""

    def __init__(self, random: Any) -> None:
        self.random = random

    def blank(self) -> str:
        return self.random.choice(["", "", "", " ", "\t\r", "  "])

    def name(self, name: str) -> str:
        escaped = f"\\u{ord(name[0]):04x}{name[1:]}"
        return f'"{self.random.choice([name, name, name, escaped])}"'

    def write(self, value: Any) -> str:
        if isinstance(value, dict):
            members = [(name, self.write(member)) for name, member in value.items()]
            twice = [(name, self.random.choice(["null", "[{}]", '{"location":"x"}'])) for name, _ in members]
            members[:0] = [member for member in twice if not self.random.randrange(12)]
            return self.joined("{}", [f"{self.name(n)}{self.blank()}:{self.blank()}{v}" for n, v in members])
        if isinstance(value, list):
            return self.joined("[]", [self.write(item) for item in value])
        return json.dumps(value, ensure_ascii=self.random.choice([True, False]))

    def joined(self, brackets: str, parts: list[str]) -> str:
        inner = f"{self.blank()},{self.blank()}".join(parts)
        return f"{brackets[0]}{self.blank()}{inner}{self.blank()}{brackets[1]}"


def is_cut_from(rest: bytes, line: bytes) -> bool:
    """Whether one becomes the other by leaving out bytes."""
    remaining = iter(line)
    return all(byte in remaining for byte in rest)


LINES = st.builds(
    lambda value, random: Writer(random).write(value),
    st.one_of(posts(2), PAGE, users(with_posts=True)),
    st.randoms(use_true_random=False),
)


class TestAnyLine:
    @settings(max_examples=100, deadline=None)
    @given(LINES, EVENTS, st.booleans())
    def test_what_is_left_is_what_the_obvious_way_leaves(
        self, text: str, events: str, quarantine: bool
    ) -> None:
        line, night = text.encode(), Night(events)

        result = redact(line, night, quarantine=quarantine)

        expected = Obvious(night, quarantine).redact(json.loads(text))
        assert (None if result.line is None else json.loads(result.line)) == expected
        assert is_cut_from(result.line or b"", line)
        assert (result.counts == Counts()) == (result.line == line)

    @settings(max_examples=100, deadline=None)
    @given(LINES, EVENTS)
    def test_nothing_is_left_of_what_goes_and_nothing_to_do(self, text: str, events: str) -> None:
        night = Night(events)
        result = redact(text.encode(), night)

        for line in [result.line] * (result.line is not None):
            held = ids_of(line)
            assert (
                max((night.of_post(post).effect for post in held.posts), default=NOTHING) < Effect.FETCH_AGAIN
            )
            assert Effect.REMOVE not in [night.of_user(user).effect for user in held.users]
            assert redact(line, night) == (line, [], Counts())

    @settings(max_examples=100, deadline=None)
    @given(LINES, EVENTS)
    def test_what_is_quarantined_is_as_it_is_there(self, text: str, events: str) -> None:
        night = Night(events)
        result = redact(text.encode(), night)

        assert len(result.quarantined) == result.counts.quarantined
        for line in result.quarantined:
            assert redact(line, night, quarantine=False) == (line, [], Counts())
            assert redact(line, night).counts.quarantined == 1
