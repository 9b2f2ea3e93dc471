import io
import json
import tracemalloc
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive import ndjson, ndjson_blocks
from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.formats import Format
from airflow_provider_xcompliance.archive.index import BadIndexError, Entries, Facts
from airflow_provider_xcompliance.archive.lines import LineTooLongError
from airflow_provider_xcompliance.archive.ndjson import read, rewrite
from airflow_provider_xcompliance.archive.records import (
    NO_DECISION,
    NOTICES,
    BadRecordError,
    Counts,
    Decision,
    ids_of,
    redact,
)
from tests.archive import generated

BOM = b"\xef\xbb\xbf"
NAME = "posts.ndjson"

#: Posts and users, each with the position of its record, and what else is told.
What = tuple[set[tuple[int, int]], set[tuple[int, int]], Facts]

#: Lines as they commonly are: what the shape of their file is, and what they are.
COMMON = {
    "v2": (
        b'{"id":"21","author_id":"7","text":"\xe6\x97\xa5\\ud83d\\ude42 \\"id\\":\\"5\\"","entities":'
        b'{"mentions":[{"id":"6","username":"a"}]},"referenced_tweets":[{"type":"quoted","id":"4"}]}',
        b'{"referenced_tweets":[{"type":"retweeted","id":"20"},{"id":"3","type":"replied_to"}],"id":"22"}',
    ),
    "v1.1": (
        b'{"id":23.0,"id_str":"23","user":{"id_str":"8","screen_name":"a"},"quoted_status":null}',
        b'{"id":24,"id_str":"24","user":{"id_str":"8"},"retweeted_status":{"id_str":"25","user":{"id_str":"9"},'
        b'"quoted_status":{"id_str":"26","user":{"id_str":"8"}}}}',
    ),
    "flattened": (
        b'{"id":"27","author_id":"7","author":{"id":"7","username":"a"},"in_reply_to_user":{"id":"10"},'
        b'"referenced_tweets":[{"type":"quoted","id":"28","author_id":"11","text":""},{"type":"replied_to",'
        b'"id":"2"},{"id":"29","type":"retweeted"}]}',
        b'{"id":"41","author_id":"7","author":{"id":"7","pinned_tweet":{"id":"42","text":""}},"entities":'
        b'{"mentions":[{"start":0,"end":2,"username":"a","id":"6"},{"start":3,"id":"17","name":"b",'
        b'"pinned_tweet":{"id":"43","author_id":"17"}}]}}',
    ),
    "numbers": (b'{"id":30,"author_id":8999999999999999999}', b'{"id":8999999999999999999}'),
    "pages": (
        b'{"data":[{"id":"31","author_id":"7"},{"id":"32"}],"includes":{"tweets":[{"id":"33","author_id":"12"}],'
        b'"users":[{"id":"12","username":"a"},{"id":"13"}],"places":[{"id":"1"}]},"meta":{"newest_id":"1"}}',
        b'{"data":{"id":"34","author_id":"7"}}',
        b'{"data":[]}',
    ),
    "users": (
        b'{"id":"14","username":"a","location":"x","pinned_tweet":{"id":"44","author_id":"14"}}',
        b'{"id_str":"15","id":15,"screen_name":"b","status":{"id_str":"45","id":45}}',
    ),
    "pages of users": (b'{"data":[{"id":"16","username":"a"}],"includes":{"tweets":[{"id":"35"}]}}',),
}

# Lines that a decoder of types may take for something else than json.loads does: ids of posts,
IDS = b"""
    "0" 0 -0 -1 1.0 1e3 "1e3" "1.0" "-5" "+5" "05" "" "null" null true [] {"id":"1"} "5\\n" "5\\n6"
    "\\u0035" "9223372036854775807" "9223372036854775808" 9223372036854775808 "18446744073709551617"
    "99999999999999999999" "\xef\xbc\x91" "\xd9\xa1" "1\\u0000" NaN "\xff" 999999999999999999999999999999
""".split()

# what posts have besides,
MEMBERS = b"""
    "author_id":0 "author_id":"0" "author_id":null "author_id":"" "author_id":"x" "author_id":[1] "id":"2"
    "id":null "id_str":"3" "id_str":"" "id_str":null "user":null "user":{} "user":5 "user":{"id":5}
    "user":{"id_str":"x","id":6} "user":{"id":0} "author":{"id":"5"} "author":[]
    "in_reply_to_user":{"id":5} "username":"a" "username":null "username":"" "screen_name":[]
    "screen_name":"" "username":"a","text":"b" "username":"a","full_text":null
    "screen_name":"a","user":null "username":"a","author_id":"3" "username":"a","user":{"id":"3"}
    "data":{"id":"5"} "data":[] "data":null "data":[{"id":"5"}] "data":"x" "username":"a","data":{}
    "quoted_status":{"id":"5"} "quoted_status":{"id":"x","user":{"id":"4"}} "quoted_status":{"text":""}
    "retweeted_status":"5" "retweeted_status":{"id":0} "quoted_status":{"id":"5","username":"a"}
    "retweeted_status":{"id":"5","data":[1]} "referenced_tweets":null "referenced_tweets":{}
    "referenced_tweets":[null] "referenced_tweets":[{"type":"retweeted"}]
    "referenced_tweets":[{"type":"retweeted","id":"x"}] "referenced_tweets":[{"type":"retweeted","id":0}]
    "referenced_tweets":[{"type":5,"id":"6"}] "referenced_tweets":[{"type":"quoted","id":"6","x":1}]
    "referenced_tweets":[{"id":"6","x":1}] "referenced_tweets":[{"type":"quoted","id":"x"}]
    "referenced_tweets":[[]]
    "referenced_tweets":[{"type":"quoted","id":"6","referenced_tweets":[{"type":"retweeted","id":"7"}]}]
    "entities":null "entities":[] "entities":{} "entities":"null" "entities":{"mentions":null}
    "entities":{"mentions":{}} "entities":{"mentions":[]} "entities":{"mentions":[null]}
    "entities":{"mentions":"x"} "entities":{"mentions":[{"id":"5","x":1}]} "entities":{"mentions":[{}]}
    "entities":{"mentions":[{"id":5,"start":"0","end":1.5,"tag":[1],"username":{"id":"6"}}]}
    "entities":{"mentions":[{"id":"x","start":0}]} "entities":{"mentions":[{"id":"x","name":"a"}]}
    "entities":{"mentions":[{"id":"5","status":{"id":"6"}}]} "entities":{"mentions":[{"id":"5","id_str":"6"}]}
    "\\u0065ntities":{"\\u006dentions":[{"id":"5","\\u0069d_str":"6"}]}
    "mentions":[{"id":"5","x":1}] "entities":{"mentions":[{"x":1}]} "entities":{"mentions":[[{"id":"5"}]]}
    "user":{"id_str":"5","status":{"id_str":"6"}} "user":{"id_str":"5","status":null}
    "user":{"id":"5","pinned_tweet":{"id":"6","author_id":"7"}} "user":{"id_str":"5","status":"x"}
    "author":{"id":"5","status":{"id":"x"}} "user":{"id":"x","status":{"id":"6"}} "status":{"id":"6"}
    "in_reply_to_user":{"id":"5","status":{"id":"6","user":{"id":"7","status":{"id":"8"}}}}
    "username":"a","status":{"id":"6"} "username":"a","pinned_tweet":{"id":"6","user":{"id":"7"}}
    "username":"a","status":[] "username":"a","status":{"text":""}
    "username":"a","status":{"id":"6","data":{}}
    "x":"\xff" "x\xff":1 "x":"\xed\xa0\x80" "x":"\\ud800" "x":"\xc0\x80" "x":NaN "x":-Infinity "x":1e999
    "x":01 "x":"\\x" "x":"\xe6\x97" "x":"\x7f"
""".split()

# what pages have,
PAGES = b"""
    null 5 {} [] [[]] [null] [{"id":"1"},{"id":"x"}] [{"id":"1"},{}] {"id":"1"},"id":null
    {"id":"1"},"id_str":"2" [{"id":"1","username":"a"},{"id":"2"}] [{"id":"1","username":"a","text":""}]
    [{"id":"1"}],"includes":5 [{"id":"1"}],"includes":[] [{"id":"1"}],"includes":{"tweets":5}
    [{"id":"1"}],"includes":{"tweets":[5]} [{"id":"1"}],"includes":{"tweets":[{"id":""}]}
    [{"id":"1"}],"includes":{"users":[{}]} [],"includes":{"tweets":[{"id":"5","username":"a"}]}
    [],"includes":{"users":[{"id":"5"}]} [],"includes":{"users":[{"id":"5","pinned_tweet":{"id":"6"}}]}
    [{"id":"1"}],"includes":null
    [{"id":"1"}],"includes":{"users":null} {"id":0}
    [{"id":"1","referenced_tweets":[{"type":"retweeted","id":"6"}]}],"includes":{"tweets":[{"id":"6","author_id":"7"}]}
""".split()

# what is too long or too deep for the one or the other,
LONG = (
    *(b'"x":%s' % (b"1" * digits) for digits in (4_300, 4_301, 9_000)),
    b'"x":0.' + b"1" * 9_000,
    *(b'"x":' + b"[" * levels + b"]" * levels for levels in (200, 100_000)),
    *(b'"quoted_status":{"id":"2",' * levels + b'"x":1' + b"}" * levels for levels in (12, 600)),
)
# and others.
TRAPS = (
    *(b'{"id":%s,"author_id":"5"}' % number for number in (*IDS, b'" 5"')),
    *(b'{"id":"1",%s}' % member for member in (*MEMBERS, *LONG, b'"x":"\t"')),
    *(b'{"data":%s}' % data for data in PAGES),
    b"",
    b" \t",
    b"\r",
    b"null",
    b"7",
    b"[]",
    b"{}",
    b"{",
    b' {"id":"1"} ',
    b'\t{"id":"1"}',
    b'{"id":"1"}{"id":"2"}',
    b'{"id":"1"}\r{"id":"2"}',
    b'[{"id":"1"}]',
    b'{"id":"1"} x',
    b'\x0c{"id":"1"}',
    b'\xef\xbb\xbf{"id":"1"}',
    b'{"\\u0069d":"1"}',
    b'{"username":"a"}',
    b'{"delete":{"status":{"id":1,"user_id":5}}}',
    b'{"timestamp_ms":"1","limit":{"track":5}}',
    b'{"delete":{"status":{"id":1}},"limit":1}',
    b'{"delete":{"status":{"id":1}},"id":"5"}',
    b'{"delete":{"status":{"id":1}},"id":null}',
    b'{"delete":',
    b'{"delete"}',
    b'{"delete":1}}',
    b'{"control":null} {"id":"5"}',
    b'{"conversation_id":"1","id":"5"}',
    b'{ "warning":{}}',
    b'{"data":[{"delete":{}}]}',
    b'{"id":"5","id":"6","username":"a","username":null}',
)


class Collected:
    """Takes what an index would be written with."""

    def __init__(self) -> None:
        self.posts: list[tuple[int, int]] = []
        self.users: list[tuple[int, int]] = []
        self.facts: Facts | None = None

    def add(self, posts: Entries, users: Entries, base: int) -> None:
        assert self.facts is None
        for mine, new in ((self.posts, posts), (self.users, users)):
            mine += zip((new.at + base).tolist(), new.ids.tolist(), strict=True)

    def finish(self, facts: Facts) -> None:
        self.facts = facts


def found(
    content: bytes, shape: str | None = None
) -> tuple[set[tuple[int, int]], set[tuple[int, int]], Facts]:
    index: Any = Collected()
    facts = read(io.BytesIO(content), Format("ndjson", shape=shape), NAME, index)
    assert index.facts is facts
    return set(index.posts), set(index.users), facts


def placed(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, position and bytes of each line."""
    at = len(BOM) if content.startswith(BOM) else 0
    for number, line in enumerate(content[at:].split(b"\n"), start=1):
        yield number, at, line
        at += len(line) + 1


def obvious(
    content: bytes, shape: str | None = None
) -> tuple[set[tuple[int, int]], set[tuple[int, int]], Facts]:
    """The same, line by line."""
    posts, users, facts = set[tuple[int, int]](), set[tuple[int, int]](), Facts(bytes=len(content))
    for number, at, line in placed(content):
        if not line.strip(b" \t\r"):
            continue
        try:
            held = ids_of(line.removesuffix(b"\r"), shape)
        except BadRecordError as error:
            facts.bad += 1
            facts.bad_lines = [*facts.bad_lines, f"{NAME}:{number}: {error}"][:10]
            continue
        facts.records += held.records
        facts.authorless += held.authorless
        posts |= {(at, post) for post in held.posts}
        users |= {(at, user) for user in held.users}
    return posts, users, facts


class TestReading:
    @pytest.mark.parametrize("line", TRAPS, ids=lambda line: repr(line[:60]))
    @pytest.mark.parametrize("shape", [None, "posts", "users"])
    def test_a_line_holds_what_it_holds_alone(self, line: bytes, shape: str | None) -> None:
        assert found(line, shape) == obvious(line, shape)

    @pytest.mark.parametrize("common", COMMON)
    def test_uncommon_lines_between_common_ones_are_seen(self, common: str) -> None:
        for line in TRAPS:
            content = b"\n".join([*COMMON[common] * 6, line, *COMMON[common] * 5])

            assert found(content) == obvious(content), line

    @given(
        records=st.sampled_from([*generated.RECORDS]),
        seed=st.integers(min_value=0, max_value=2**32),
        block=st.sampled_from([40, 300, 2_000, 1 << 20]),
    )
    def test_files_hold_what_their_lines_hold(self, records: str, seed: int, block: int) -> None:
        file = generated.ndjson(Random(seed), records, 12)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ndjson, "_BLOCK_BYTES", block)
            assert found(file.content, file.shape) == obvious(file.content, file.shape)

    @pytest.mark.parametrize("common", COMMON)
    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\r\n\r\n"], ids=repr)
    @pytest.mark.parametrize("start", [b"", BOM], ids=["", "byte order mark"])
    def test_common_lines_are_read_at_once(
        self, common: str, start: bytes, end: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines = start + end.join(COMMON[common] * 20)
        expected = [obvious(content) for content in (lines, lines + end)]
        monkeypatch.setattr(ndjson_blocks, "ids_of", None)

        assert [found(content) for content in (lines, lines + end)] == expected

    @pytest.mark.parametrize("common", COMMON)
    @pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=repr)
    def test_lines_between_notices_are_read_at_once(
        self, common: str, end: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        notices = [b'{"%s":{"id":1}}' % name.encode() for name in NOTICES]
        content = end.join([notices[0], *((*notices, *COMMON[common]) * 9), *notices])
        expected = obvious(content)
        seen: list[bytes] = []
        monkeypatch.setattr(
            ndjson_blocks, "ids_of", lambda line, shape: seen.append(line) or ids_of(line, shape)
        )

        assert found(content) == expected
        assert seen == [notices[0], *notices * 10]

    def test_notices_alone_are_no_records(self) -> None:
        content = b'{"limit":{"track":1}}\n' * 50

        assert found(content) == (set(), set(), Facts(bytes=len(content)))

    def test_pages_may_be_told(self) -> None:
        lines = b"\n".join([*COMMON["pages"], *COMMON["pages of users"]])

        assert found(lines, "pages") == obvious(lines)

    @pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", BOM, BOM + b"\n", b"\n\n \n"])
    def test_there_may_be_nothing(self, content: bytes) -> None:
        assert found(content) == (set(), set(), Facts(bytes=len(content)))

    def test_bad_lines_are_told_by_file_and_line(self) -> None:
        posts, _, facts = found(b'{"id":"1"}\n\n{"id":"x"}\n{"id":"2"}\n{"id":')

        assert posts == {(0, 1), (23, 2)}
        assert (facts.records, facts.bad) == (2, 2)
        assert facts.bad_lines == [
            f"{NAME}:3: no valid id",
            f"{NAME}:5: not JSON: Expecting value (character 7)",
        ]

    def test_progress_adds_up_to_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ndjson, "_BLOCK_BYTES", 50)
        told: list[int] = []
        content = b'{"id":"1"}\n' * 30 + b'{"id":"2"}'
        index: Any = Collected()
        read(io.BytesIO(content), Format("ndjson"), NAME, index, told.append)

        assert sum(told) == len(content)
        assert len(told) > 3

    def test_a_line_without_end_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ndjson, "_BLOCK_BYTES", 100)
        monkeypatch.setattr(ndjson, "MAX_RECORD_BYTES", 1_000)
        source = io.BytesIO(b'{"id":"1"}\n{"id":"' + b"3" * 1_000_000)

        with pytest.raises(LineTooLongError, match="begins at byte 11"):
            read(source, Format("ndjson"), NAME, Collected())  # type: ignore[arg-type]
        assert source.tell() < 5_000

    def test_memory_does_not_grow_with_the_file(self) -> None:
        class Endless(io.RawIOBase):
            line = json.dumps({"id": "1", "author_id": "2", "text": "x" * 1_000}).encode() + b"\n"
            left = 30

            def readinto(self, buffer: Any, /) -> int:
                self.left -= 1
                size = len(buffer) // len(self.line) * len(self.line) if self.left >= 0 else 0
                buffer[:size] = self.line * (size // len(self.line))
                return size

        class Nothing:
            def add(self, posts: Entries, users: Entries, base: int) -> None:
                """Forget it."""

            def finish(self, facts: Facts) -> None:
                assert facts.bytes > 15e6

        index: Any = Nothing()
        tracemalloc.start()
        try:
            read(Endless(), Format("ndjson"), NAME, index)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert peak < 6e6


class Events:
    """Decides by the last digit of an id, so that all kinds of decisions occur."""

    def __init__(self, posts: dict[int, Effect], users: dict[int, Effect]) -> None:
        self._posts, self._users = posts, users

    def of_post(self, post: int, /) -> Decision:
        return self._decision(self._posts, post)

    def of_user(self, user: int, /) -> Decision:
        return self._decision(self._users, user)

    def _decision(self, effects: dict[int, Effect], number: int) -> Decision:
        effect = effects.get(number % 10, Effect.NOTHING)
        return Decision(effect, f"of/{number % 10}") if effect else NO_DECISION

    def meets(self, content: bytes, shape: str | None) -> list[int]:
        """Positions of the records with an event."""
        posts, users, _ = obvious(content, shape)
        return sorted(
            {at for at, post in posts if self.of_post(post).effect}
            | {at for at, user in users if self.of_user(user).effect}
        )


def rewritten(
    content: bytes, hits: list[int], events: Events, shape: str | None = None, *, quarantine: bool = True
) -> tuple[bytes, bytes, Counts]:
    sink, apart = io.BytesIO(), io.BytesIO()
    counts = rewrite(
        io.BytesIO(content),
        sink,
        Format("ndjson", shape=shape),
        NAME,
        np.array(hits, np.int64),
        events,
        apart if quarantine else None,
    )
    return sink.getvalue(), apart.getvalue(), counts


def obviously_rewritten(
    content: bytes, hits: list[int], events: Events, shape: str | None, *, quarantine: bool
) -> tuple[bytes, bytes, Counts]:
    kept, apart, counts = (
        content[: len(content) - sum(len(line) + 1 for *_, line in placed(content)) + 1],
        b"",
        Counts(),
    )
    lines = [*placed(content)]
    for _, at, line in lines:
        end = b"" if at == lines[-1][1] else b"\n"
        if at in hits:
            record = line.removesuffix(b"\r")
            done = redact(record, events, shape, quarantine=quarantine)
            counts.add(done.counts)
            apart += b"".join(gone + b"\n" for gone in done.quarantined)
            kept += b"" if done.line is None else done.line + line[len(record) :] + end
        else:
            kept += line + end
    return kept, apart, counts


effects = st.dictionaries(st.integers(min_value=0, max_value=9), st.sampled_from(Effect), max_size=4)


class TestRewriting:
    @given(
        records=st.sampled_from([*generated.RECORDS]),
        seed=st.integers(min_value=0, max_value=2**32),
        block=st.sampled_from([40, 300, 2_000, 1 << 20]),
        posts=effects,
        users=effects,
        quarantine=st.booleans(),
        start=st.sampled_from([b"", BOM]),
    )
    def test_what_stays_is_that_of_each_line(
        self,
        records: str,
        seed: int,
        block: int,
        posts: dict[int, Effect],
        users: dict[int, Effect],
        quarantine: bool,
        start: bytes,
    ) -> None:
        file = generated.ndjson(Random(seed), records, 8)
        content, events = start + file.content, Events(posts, users)
        hits = events.meets(content, file.shape)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ndjson, "_BLOCK_BYTES", block)
            done = rewritten(content, hits, events, file.shape, quarantine=quarantine)

        assert done == obviously_rewritten(content, hits, events, file.shape, quarantine=quarantine)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\n",
            BOM,
            BOM + b'\r\n{"id":"1"}',
            b'{"id":"1"}\r\n\n\xff\n \t\n{"id":',
            b'{"id":"1"}\n' * 5_000,
        ],
        ids=lambda content: repr(content[:20]),
    )
    @pytest.mark.parametrize("block", [7, 1 << 20])
    def test_without_events_nothing_changes(
        self, content: bytes, block: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ndjson, "_BLOCK_BYTES", block)

        assert rewritten(content, [], Events({}, {})) == (content, b"", Counts())

    @pytest.mark.parametrize(
        ("content", "left"),
        [
            (b'{"id":"1"}\n{"id":"2"}\n', b'{"id":"2"}\n'),
            (b'{"id":"2"}\n{"id":"1"}', b'{"id":"2"}\n'),
            (b'{"id":"1"}', b""),
            (b'{"id":"2"}\r\n{"id":"1"}\r\n\r\n{"id":"3"}\r\n', b'{"id":"2"}\r\n\r\n{"id":"3"}\r\n'),
            (BOM + b'{"id":"1"}\n{"id":"2"}\n', BOM + b'{"id":"2"}\n'),
            (b'{"id":"3","geo":5}\r\n{"id":"3","geo":5}', b'{"id":"3"}\r\n{"id":"3"}'),
        ],
        ids=["first", "last, without end", "only one", "CRLF", "byte order mark", "edited"],
    )
    def test_a_line_goes_with_its_end(self, content: bytes, left: bytes) -> None:
        events = Events({1: Effect.REMOVE, 3: Effect.SCRUB_LOCATION}, {})

        assert rewritten(content, events.meets(content, None), events)[0] == left

    @pytest.mark.parametrize("hit", [1, 10, 12, 21, 22, 100], ids=lambda hit: f"at {hit}")
    def test_an_index_of_another_file_is_refused(self, hit: int) -> None:
        with pytest.raises(BadIndexError, match=f"no record begins at byte {hit}"):
            rewritten(b'{"id":"2"}\n{"id":"2"}', [0, hit], Events({}, {}))

    @pytest.mark.parametrize("hit", [0, 1, 2])
    def test_no_record_begins_with_the_byte_order_mark(self, hit: int) -> None:
        with pytest.raises(BadIndexError):
            rewritten(BOM + b'{"id":"2"}\n', [hit], Events({}, {}))

    @pytest.mark.parametrize("line", [b'{"id":"x"}', b"{", b""])
    def test_what_is_no_record_has_no_place_in_an_index(self, line: bytes) -> None:
        with pytest.raises(BadIndexError, match="no record begins at byte 11"):
            rewritten(b'{"id":"1"}\n' + line + b"\n", [0, 11], Events({1: Effect.REMOVE}, {}))
