import io
import tracemalloc
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive import events, lines, repetitions
from airflow_provider_xcompliance.archive.events import (
    Effect,
    Event,
    EventCounts,
    ForeignEventsError,
    InvalidEventsError,
    MissingControlsError,
    count_events,
    effect_of,
    read_events,
    require_controls,
    require_submitted,
)

# As they stand in X's documentation and in recorded exchanges.
DOCUMENTED = b"""\
{"id":"1265324480517361664","action":"delete","created_at":"2019-10-29T17:02:47.000Z","redacted_at":"2020-07-29T17:02:47.000Z","reason":"deleted"}
{"id":"903718461","action":"delete","created_at":"2019-03-02T03:37:59+00:00","redacted_at":null,"reason":"suspended"}

{"id":"1263926741774581761","action":"rehydrate","created_at":"2026-10-29T17:02:47.000Z","redacted_at":"2026-10-30T01:00:00.000Z","reason":"tweet_edited"}
{"id":"1265324480517361669","action":"scrub_geo","created_at":"2026-10-29T17:02:47.000Z","redacted_at":null,"reason":"geo_scrubbed"}
{"id":"not_a_valid_id","error":"invalid_id"}
"""
RECORD = b'{"id":"12","action":"delete","reason":"deleted"}'


def read(content: bytes) -> list[Event]:
    return [event for block in read_events(io.BytesIO(content), "result") for event in block]


def count(content: bytes) -> dict[str, int]:
    counts = count_events(io.BytesIO(content), "result").to_dict()
    return {"events": counts["events"], "errors": sum(counts["errors"].values())}


READERS = (read, count)


def counted(content: bytes) -> EventCounts:
    counts = EventCounts()
    counts.add(read(content))
    assert count_events(io.BytesIO(content), "result").to_dict() == counts.to_dict()
    return counts


def test_the_documented_records_are_understood() -> None:
    first, second, *_, last = read(DOCUMENTED)

    assert first.created_at == datetime(2019, 10, 29, 17, 2, 47, tzinfo=UTC)
    assert second.created_at == datetime(2019, 3, 2, 3, 37, 59, tzinfo=UTC)
    assert second.redacted_at is None
    assert (last.id, last.action, last.error) == ("not_a_valid_id", None, "invalid_id")
    assert counted(DOCUMENTED).to_dict() == {
        "events": 4,
        "actions": {
            "delete": {"deleted": 1, "suspended": 1},
            "rehydrate": {"tweet_edited": 1},
            "scrub_geo": {"geo_scrubbed": 1},
        },
        "errors": {"invalid_id": 1},
        "unknown": [],
    }


@pytest.mark.parametrize(
    ("action", "reason", "name"),
    [
        ("delete", "eaten", "delete/eaten"),
        ("freeze", "deleted", "freeze/deleted"),
        ("delete", "tweet_edited", "delete/tweet_edited"),
        ("delete", None, "delete/None"),
    ],
)
def test_what_is_unknown_is_counted_under_its_name(action: str, reason: str | None, name: str) -> None:
    record = msgspec.json.encode({"id": "12", "action": action, "reason": reason})

    counts = counted(record).to_dict()

    assert counts["unknown"] == [name]
    assert counts["actions"] == {action: {str(reason): 1}}


def test_every_known_pair_is_known() -> None:
    counts = EventCounts()

    counts.add(Event("1", action, reason) for action, reasons in events.EFFECTS.items() for reason in reasons)

    assert counts.to_dict()["events"] == 9
    assert counts.unknown == []


@pytest.mark.parametrize("reasons", events.EFFECTS.items(), ids=lambda item: item[0])
def test_events_of_every_known_pair_are_counted_under_it(reasons: tuple[str, dict[str, Effect]]) -> None:
    action, known = reasons
    content = b"\n".join(
        msgspec.json.encode({"id": "12", "action": action, "reason": reason})
        for number, reason in enumerate(known, start=1)
        for _ in range(number)
    )

    assert counted(content).to_dict()["actions"] == {
        action: {reason: number for number, reason in enumerate(known, start=1)}
    }


@pytest.mark.parametrize(
    ("action", "reason", "effect"),
    [
        ("delete", "suspended", Effect.REMOVE),
        ("delete", "scrub_geo", Effect.SCRUB_LOCATION),
        ("delete", "eaten", Effect.REMOVE),
        ("delete", "None", Effect.REMOVE),
        ("rehydrate", "tweet_edited", Effect.FETCH_AGAIN),
        ("rehydrate", "moved", Effect.FETCH_AGAIN),
        ("scrub_geo", "geo_scrubbed", Effect.SCRUB_LOCATION),
        ("scrub_geo", "moved", Effect.SCRUB_LOCATION),
        ("freeze", "deleted", Effect.NOTHING),
    ],
)
def test_what_is_done_about_an_event_is_one_table(action: str, reason: str, effect: Effect) -> None:
    assert effect_of(action, reason) is effect


def test_of_several_effects_the_one_that_x_ranks_highest_is_the_greatest() -> None:
    assert max(Effect) is Effect.REMOVE
    assert Effect.REMOVE > Effect.FETCH_AGAIN > Effect.SCRUB_LOCATION > Effect.NOTHING


def test_more_kinds_than_a_result_has_are_refused() -> None:
    content = b"\n".join(RECORD.replace(b"deleted", b"r%d" % number) for number in range(1_001))

    with pytest.raises(InvalidEventsError, match="more than 1,000 different"):
        counted(content)


dates = st.datetimes(
    min_value=datetime(2006, 1, 1), max_value=datetime(2030, 1, 1), timezones=st.just(UTC)
).flatmap(
    lambda moment: st.sampled_from(
        [
            moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z",
            moment.isoformat("T", "seconds"),
        ]
    )
)
records = st.one_of(
    st.fixed_dictionaries(
        {
            "id": st.integers(min_value=0, max_value=2**63 - 1).map(str),
            "action": st.sampled_from(["delete", "rehydrate", "scrub_geo", "freeze"]),
            "reason": st.sampled_from(["deleted", "suspended", "geo_scrubbed", "}\n{", "ü"]),
        },
        optional={
            "created_at": dates,
            "redacted_at": st.one_of(st.none(), dates),
            "more": st.just({"a": [{}]}),
        },
    ),
    st.fixed_dictionaries({"id": st.text(max_size=5), "error": st.just("invalid_id")}),
)
blanks = st.sampled_from([b"", b"", b"", b"\n", b"\n\n", b" \n\t\n", b"\r\n"])
results = st.lists(st.tuples(records.map(msgspec.json.encode), blanks), max_size=12)


@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 20])
@given(result=results, final_newline=st.booleans())
def test_each_line_that_is_not_blank_is_one_record(
    block_bytes: int, result: list[tuple[bytes, bytes]], final_newline: bool
) -> None:
    content = b"\n".join(record + blank for record, blank in result) + b"\n" * final_newline
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "_BLOCK_BYTES", block_bytes)
        found = read(content)
        counts = count_events(io.BytesIO(content), "result").to_dict()

    assert [event.id for event in found] == [msgspec.json.decode(record)["id"] for record, _ in result]
    expected = EventCounts()
    expected.add(found)
    assert counts == expected.to_dict()


@given(result=results.filter(bool), data=st.data())
def test_a_result_that_is_cut_inside_a_record_is_refused(
    result: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    whole = [record for record, _ in result]
    last = whole.pop()
    cut = last[: data.draw(st.integers(min_value=1, max_value=len(last) - 1))]

    for take in READERS:
        with pytest.raises(InvalidEventsError, match=f"result:{len(whole) + 1}: "):
            take(b"\n".join([*whole, cut]))


@given(result=results.filter(bool), data=st.data())
def test_a_changed_byte_is_refused_or_leaves_as_many_records(
    result: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    content = bytearray(b"\n".join(record for record, _ in result))
    position = data.draw(st.integers(min_value=0, max_value=len(content) - 1))
    content[position] ^= data.draw(st.integers(min_value=1, max_value=255))
    try:
        found = read(bytes(content))
    except InvalidEventsError:
        with pytest.raises(InvalidEventsError):
            count(bytes(content))
        return

    assert len(found) == len(result)
    assert sum(count(bytes(content)).values()) == len(result)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (RECORD + RECORD, 1),
        (RECORD + b"\n" + RECORD + b" " + RECORD, 2),
        (RECORD[:20] + b"\n" + RECORD[20:] + RECORD, 1),
        (b'{"id":"12","x":{}\n,"action":"delete","reason":"deleted"}' + RECORD, 1),
        (RECORD + b"\n\n[]", 3),
        (RECORD + b"\n<html>", 2),
        (RECORD + b"\nnull", 2),
        (RECORD.replace(b'"12"', b"12"), 1),
        (RECORD.replace(b'"12"', b'"1.2E+18"'), 1),
        (RECORD.replace(b'"12"', b'"012"'), 1),
        (RECORD.replace(b'"12"', b'"1\\n2"'), 1),
        (RECORD.replace(b'"12"', b'""'), 1),
        (RECORD.replace(b'"12"', b'"9223372036854775808"'), 1),
        (RECORD.replace(b"deleted", b"dele\xffed"), 1),
        (RECORD.replace(b'"delete"', b"null"), 1),
        (RECORD + b"\n" + RECORD.replace(b'"delete"', b'""'), 2),
        (RECORD.replace(b"}", b',"created_at":"yesterday"}'), 1),
        (b'{"id":"12"}', 1),
        (b"\xef\xbb\xbf" + RECORD, 1),
        (RECORD + b"\n" + RECORD.replace(b"}", b',"x":"\xff"}'), 2),
        (RECORD + b"\n" + RECORD.replace(b"}", b',"\xff":1}'), 2),
        (RECORD + b"\n" + RECORD.replace(b"}", b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), 2),
    ],
)
def test_a_line_that_is_no_record_is_refused_with_its_number(content: bytes, line: int) -> None:
    for take in READERS:
        with pytest.raises(InvalidEventsError, match=rf"^result:{line}: "):
            take(content)


def test_lines_are_numbered_right_far_into_a_result() -> None:
    with pytest.raises(InvalidEventsError, match=r"^result:100002: "):
        read((RECORD + b"\n") * 50_000 + b"\n" + (RECORD + b"\n") * 50_000 + RECORD[:-1])


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(InvalidEventsError, match="result: line 2 has more than 1,048,576 bytes"):
        read(RECORD + b"\n" + b"x" * 3_000_000)


def ids_of(*ids: int) -> io.BytesIO:
    return io.BytesIO(b"".join(b"%d\n" % number for number in ids))


def records_of(*ids: object) -> io.BytesIO:
    return io.BytesIO(
        b"".join(msgspec.json.encode({"id": str(each), "error": "invalid_id"}) + b"\n" for each in ids)
    )


@given(
    given_ids=st.sets(st.integers(min_value=0, max_value=400), max_size=30),
    mentioned=st.lists(st.integers(min_value=0, max_value=400), max_size=10),
)
def test_only_submitted_ids_may_be_mentioned(given_ids: set[int], mentioned: list[int]) -> None:
    submitted = ids_of(*given_ids)
    if given_ids.issuperset(mentioned):
        repeated = require_submitted(records_of(*mentioned), submitted, "result")
        assert repeated == sum(mentioned.count(number) > 1 for number in given_ids)
    else:
        with pytest.raises(ForeignEventsError):
            require_submitted(records_of(*mentioned), submitted, "result")


@pytest.mark.parametrize("strange", ["not_a_valid_id", "012", "1\n2", "", "12 ", "\uff11\uff12", 2**63])
def test_what_is_no_id_was_not_submitted(strange: object) -> None:
    with pytest.raises(ForeignEventsError, match=r"^result: there are records of an id not submitted"):
        require_submitted(records_of(1, strange), ids_of(1, 2, 12), "result")


def test_foreign_ids_are_named() -> None:
    with pytest.raises(ForeignEventsError) as caught:
        require_submitted(records_of(7), ids_of(1, 2), "result")

    assert str(caught.value) == (
        "result: there are records of at least 1 ids not submitted (7); this is not the result of that file, "
        "and nothing of it is kept"
    )


def test_ids_with_several_records_are_counted_whatever_the_records_are() -> None:
    records = (
        RECORD + b"\n" + RECORD.replace(b"delete", b"scrub_geo") + b'\n{"id":"12","error":"invalid_id"}\n'
        b'{"id":"1","error":"invalid_id"}\n'
    )

    assert require_submitted(io.BytesIO(records), ids_of(1, 2, 12), "result") == 1


class TestControls:
    def test_each_must_have_an_event(self) -> None:
        require_controls(io.BytesIO(DOCUMENTED), ["903718461", "1265324480517361669"], "result")

    def test_none_are_never_missing(self) -> None:
        require_controls(io.BytesIO(b""), [], "result")

    def test_those_that_are_missing_are_named(self) -> None:
        with pytest.raises(MissingControlsError) as caught:
            require_controls(io.BytesIO(DOCUMENTED), ["5", "903718461", "4", "3", "2", "2"], "result")

        assert str(caught.value) == (
            "result: 4 of 5 control ids have no event (5, 4, 3), though they are known to be gone; the "
            "result is void, and nothing of it is kept"
        )

    def test_an_error_record_is_no_event(self) -> None:
        with pytest.raises(MissingControlsError):
            require_controls(records_of(5), ["5"], "result")


def test_the_subset_check_takes_memory_that_does_not_grow_with_the_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (events, lines):
        monkeypatch.setattr(module, "_BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(repetitions, "_IDS_IN_MEMORY", 10_000)
    ids = range(10**18, 10**18 + 60_000)
    submitted, mentioned = ids_of(*ids), records_of(*ids)
    tracemalloc.start()
    try:
        require_submitted(mentioned, submitted, "result")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    # A set of these ids takes more than 4 MB.
    assert peak < 2e6
