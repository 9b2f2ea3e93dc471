"""Whatever stands in a file of ids, a result or an error's body: it is read right, or refused in one line."""

import io
import json
import logging
import os
import random
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_xcompliance import transfer
from airflow_provider_xcompliance.api.client import XComplianceClient
from airflow_provider_xcompliance.api.errors import XComplianceError
from airflow_provider_xcompliance.api.messages import Response, decode, refuse, says_expired, xml_code
from airflow_provider_xcompliance.api.transport import Credentials, Transport
from airflow_provider_xcompliance.api.urls import UrlPolicy
from airflow_provider_xcompliance.archive.events import Event, EventCounts, InvalidEventsError, read_events
from airflow_provider_xcompliance.archive.ids import MAX_BAD, MAX_SHOWN, IdReader, InvalidIdsError
from airflow_provider_xcompliance.emulator.server import EmulatorServer

pytestmark = pytest.mark.row("input")

ROOT = Path(__file__).parents[2]
ID = b"1265324480517361665"
BOM = b"\xef\xbb\xbf"

NOT_ASCII = "(not ASCII; an id has the digits 0 to 9 alone)"
COLUMNS = "(more than one column; give a file with the ids alone)"
ZEROS = "(zero bytes; save the file as UTF-8)"
LARGER = "(larger than any id of X, which ends at 2^63-1)"
ADVICE = (
    " had rounded them; then they are ids of others now: export the column as text. If they are as X gave "
    "them, set allow_rounded_ids=True"
)
BY_A_DOUBLE = f"ids above 2^53 are multiples of 256, as if a floating-point number{ADVICE}"
BY_JAVASCRIPT = f"ids above 2^53 end in 00, as if JavaScript{ADVICE}"
BY_A_SPREADSHEET = f"ids above 2^53 end in 000, as if a spreadsheet{ADVICE}"
BOM_INSIDE = "(a byte order mark inside the file; join files without theirs)"
TOO_LONG = "a line of more than 1,048,576 bytes; this is no file of ids, one on a line"


def text(numbers: Iterable[int]) -> bytes:
    return b"".join(b"%d\n" % number for number in numbers)


def large(number: int, step: int = 1) -> list[int]:
    """So many ids of these years, all of them multiples of a step."""
    return [1_265_324_480_517_361_664 // step * step + n * step * 977 for n in range(number)]


#: What a file of one bad line holds → what is said of that line.
BAD_LINES: dict[str, tuple[bytes, str]] = {
    "underscore": (b"1_000", "'1_000'"),
    "plus": (b"+5", "'+5'"),
    "minus": (b"-5", "'-5'"),
    "minus zero": (b"-0", "'-0'"),
    "full-width digits": ("\uff11\uff12".encode(), f"'\uff11\uff12' {NOT_ASCII}"),
    "Arabic digits": ("\u0661\u0662".encode(), f"'\u0661\u0662' {NOT_ASCII}"),
    "Devanagari digits": ("\u0967\u0968".encode(), f"'\u0967\u0968' {NOT_ASCII}"),
    "mathematical digits": ("\U0001d7cf".encode(), f"'\U0001d7cf' {NOT_ASCII}"),
    "superscript": ("12\u00b2".encode(), f"'12\u00b2' {NOT_ASCII}"),
    "circled digit": ("\u2460".encode(), f"'\u2460' {NOT_ASCII}"),
    "fraction": ("\u00bd".encode(), f"'\u00bd' {NOT_ASCII}"),
    "Roman numeral": ("\u2167".encode(), f"'\u2167' {NOT_ASCII}"),
    "2^63": (b"9223372036854775808", f"'9223372036854775808' {LARGER}"),
    "20 digits": (b"12345678901234567890", f"'12345678901234567890' {LARGER}"),
    "5000 digits": (b"9" * 5000, f"'{'9' * 40}' {LARGER}"),
    "leading zeros": (b"007", "'007' (leading zeros; an id has none)"),
    "two zeros": (b"00", "'00' (leading zeros; an id has none)"),
    "hexadecimal": (b"0x1A", "'0x1A'"),
    "octal": (b"0o17", "'0o17'"),
    "decimal number": (b"12.0", "'12.0' (it went through a decimal number; export the column as text)"),
    "no whole part": (b".5", "'.5'"),
    "spreadsheet": (b"1.41786E+18", "'1.41786E+18' (a spreadsheet rounded it; export the column as text)"),
    "spreadsheet, comma": (
        b"1,41786e18",
        "'1,41786e18' (a spreadsheet rounded it; export the column as text)",
    ),
    "nan": (b"NaN", "'NaN'"),
    "null": (b"null", "'null'"),
    "double quotes": (b'"12"', "'\"12\"' (remove the quotes)"),
    "single quotes": (b"'12'", "\"'12'\" (remove the quotes)"),
    "curly quotes": ("\u201c12\u201d".encode(), f"'\u201c12\u201d' {NOT_ASCII}"),
    "quote of a spreadsheet": (b"'12", '"\'12"'),
    "row of a CSV": (b"12,a post,3", f"'12,a post,3' {COLUMNS}"),
    "semicolons": (b"12;34", f"'12;34' {COLUMNS}"),
    "tab between": (b"12\t34", f"'12\\t34' {COLUMNS}"),
    "blank between": (b"12 34", "'12 34'"),
    "title": (b"id", "'id' (a column title; leave it out)"),
    "title of two words": (b"Tweet ID", "'Tweet ID' (a column title; leave it out)"),
    "comment": (b"# 12", "'# 12'"),
    "form feed": (b"12\x0c", "'12\\x0c'"),
    "vertical tab": (b"\x0b12", "'\\x0b12'"),
    "no-break space": ("12\u00a0".encode(), f"'12\\xa0' {NOT_ASCII}"),
    "zero-width space": ("\u200b12".encode(), f"'\\u200b12' {NOT_ASCII}"),
    "soft hyphen": ("1\u00ad2".encode(), f"'1\\xad2' {NOT_ASCII}"),
    "line separator": ("12\u202834".encode(), f"'12\\u202834' {NOT_ASCII}"),
    "paragraph separator": ("12\u202934".encode(), f"'12\\u202934' {NOT_ASCII}"),
    "next line": ("12\u008534".encode(), f"'12\\x8534' {NOT_ASCII}"),
    "record separator": (b"12\x1e34", "'12\\x1e34'"),
    "end of a DOS file": (b"\x1a", "'\\x1a'"),
    "zero bytes": (b"12\x00", f"'12\\x00' {ZEROS}"),
    "a disk's zeros": (b"\x00" * 4096, rf"'\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00' {ZEROS}"),
    "invalid UTF-8": (b"12\xff", f"'12\ufffd' {NOT_ASCII}"),
    "lone surrogate": (b"\xed\xa0\x8012", f"'\ufffd\ufffd\ufffd12' {NOT_ASCII}"),
    "overlong digit": (b"\xc0\xb1", f"'\ufffd\ufffd' {NOT_ASCII}"),
    "ANSI escapes": (b"\x1b[2J\x1b[31m12", "'\\x1b[2J\\x1b[31m12'"),
    "bidi override": ("\u202e21".encode(), f"'\\u202e21' {NOT_ASCII}"),
    "invisible tags": (
        "\U000e0041".encode() * 90,
        rf"'\U000e0041\U000e0041\U000e0041\U000e0041' {NOT_ASCII}",
    ),
    "backspaces": (b"12\x08\x083", "'12\\x08\\x083'"),
    "JSON": (b'{"id":"12"}', '\'{"id":"12"}\''),
    "link to a post": (
        b"https://x.com/a/status/12",
        "'https://x.com/a/status/12' (a link; give the number at its end alone)",
    ),
    "name of a user": (b"@jack", "'@jack' (a user's name; give the number that is the user's id)"),
    "HTML": (b"<html>", "'<html>'"),
    "gzip": (b"\x1f\x8b\x08\x00", "'\\x1f\ufffd\\x08\\x00' (gzip; let the file's name end in .gz)"),
    "spreadsheet file": (
        b"PK\x03\x04\x14",
        "'PK\\x03\\x04\\x14' (a spreadsheet or a zip archive; export the column as text)",
    ),
    "path": (b"../../etc/passwd", "'../../etc/passwd'"),
    "format": (b"%s%n{0}", "'%s%n{0}'"),
    "long text": (b"x" * 1000, f"'{'x' * 40}'"),
    "long text, not ASCII": (("\u00e9" * 1000).encode(), f"'{chr(233) * 40}' {NOT_ASCII}"),
    "byte order mark inside": (
        BOM + b"12",
        f"'\\ufeff12' {BOM_INSIDE}",
    ),
}


class Poison(NamedTuple):
    """A whole file, and the ids that it is taken for; or what is said of it, after its name."""

    content: bytes
    ids: bytes | None = None
    refusal: str = ""


FILES: dict[str, Poison] = {
    **{
        f"line: {name}": Poison(b"1\n" + line + b"\n2\n", refusal=f":2: not a decimal id: {said}")
        for name, (line, said) in BAD_LINES.items()
    },
    "zero": Poison(b"0\n", b"0\n"),
    "2^63-1": Poison(b"9223372036854775807\n", b"9223372036854775807\n"),
    "no final newline": Poison(b"1\n2", b"1\n2\n"),
    "CRLF": Poison(b"1\r\n2\r\n", b"1\n2\n"),
    "mixed ends": Poison(b"1\r\n2\n3\r\r\n4\r", b"1\n2\n3\n4\n"),
    "surrounding blanks": Poison(b" 1\n2 \t\n\t3 \r\n", b"1\n2\n3\n"),
    "blank lines": Poison(b"\n\n1\n \t\n\r\n2\n\n", b"1\n2\n"),
    "byte order mark": Poison(BOM + b"1\r\n2\r\n", b"1\n2\n"),
    "duplicates": Poison(b"1\n1\n", b"1\n1\n"),
    "empty": Poison(b"", refusal=": holds no ids"),
    "only blank lines": Poison(b"\n \r\n\t\n" * 1000, refusal=": holds no ids"),
    "only a byte order mark": Poison(BOM, refusal=": holds no ids"),
    "byte order mark twice": Poison(
        BOM + BOM + b"1\n",
        refusal=f":1: not a decimal id: '\\ufeff1' {BOM_INSIDE}",
    ),
    "CR alone": Poison(
        b"1\r2\r3\r",
        refusal=":1: not a decimal id: '1\\r2\\r3' (the lines end in CR alone; end them with LF)",
    ),
    "UTF-16, little": Poison(
        "12\n".encode("utf-16"),
        refusal=f":1: not a decimal id: '\ufffd\ufffd1\\x002\\x00' {ZEROS}; further bad lines: 1",
    ),
    "UTF-16, big": Poison(
        b"\xfe\xff" + "12\n".encode("utf-16-be"),
        refusal=f":1: not a decimal id: '\ufffd\ufffd\\x001\\x002\\x00' {ZEROS}",
    ),
    "UTF-32": Poison(
        "1".encode("utf-32"),
        refusal=f":1: not a decimal id: '\ufffd\ufffd\\x00\\x001\\x00\\x00\\x00' {ZEROS}",
    ),
    "a line without end": Poison(b"1\n" + b"2" * (1 << 22), refusal=f":2: {TOO_LONG}"),
    "many bad lines": Poison(
        b"x\n" * (MAX_BAD // 2), refusal=f":1: not a decimal id: 'x'; further bad lines: {MAX_BAD // 2 - 1:,}"
    ),
    "rounded by a double": Poison(text(large(30, 256)), refusal=f": all of its 30 {BY_A_DOUBLE}"),
    "rounded by JavaScript": Poison(text(large(20, 100)), refusal=f": all of its 20 {BY_JAVASCRIPT}"),
    "rounded by a spreadsheet": Poison(
        text(large(99, 10_000)), refusal=f": all of its 99 {BY_A_SPREADSHEET}"
    ),
    "rounded, and small ones": Poison(
        text([12, 2**53, *large(20, 256), 3]), refusal=f": all of its 20 {BY_A_DOUBLE}"
    ),
    "rounded in 2014": Poison(
        text(450_000_000_000_000_000 // 64 * 64 + n * 64 * 977 for n in range(20)),
        refusal=f": all of its 20 ids above 2^53 fit into a double, as if a floating-point number{ADVICE}",
    ),
    "too few to seem rounded": Poison(text(large(19, 100)), text(large(19, 100))),
    "all but one rounded": Poison(text([*large(50, 256), int(ID)]), text([*large(50, 256), int(ID)])),
    "genuine": Poison(text(large(10_000)), text(large(10_000))),
}


class Trickle:
    """A source that gives little at a time, so that lines lie across the borders of blocks."""

    def __init__(self, content: bytes, size: int | Callable[[], int]) -> None:
        self._content = io.BytesIO(content)
        self._size = size

    def read(self, size: int = -1, /) -> bytes:
        return self._content.read(self._size if isinstance(self._size, int) else self._size())


def legible(error: BaseException) -> str:
    """Require of an error what a log needs, and return its text."""
    said = str(error)
    assert said.isprintable()
    assert len(said) < 400
    assert "Traceback" not in said
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    return said


def read_ids(source: Any, *, allow_rounded: bool = False) -> bytes | InvalidIdsError:
    """What comes of a file of ids; any other exception fails the cell."""
    try:
        return b"".join(IdReader(source, "ids.csv", allow_rounded=allow_rounded))
    except InvalidIdsError as error:
        for line in [legible(error), *error.lines]:
            assert line.isprintable()
            echo = re.match(
                r"ids\.csv:[0-9]+: not a decimal id: (.+?)(?: \([^()]+\))?(?:; further .*)?$", line
            )
            assert echo is None or len(echo[1]) <= len("''") + 40
        return error


@pytest.mark.quick
@pytest.mark.parametrize("name", FILES)
def test_a_class_of_files_of_ids(name: str) -> None:
    poison = FILES[name]
    for size in (1 << 20, 4096) if len(poison.content) > 10_000 else (1 << 20, 1, 3):
        outcome = read_ids(Trickle(poison.content, size))
        if poison.ids is not None:
            assert outcome == poison.ids
        else:
            assert str(outcome) == f"ids.csv{poison.refusal}"


@pytest.mark.quick
def test_no_class_of_bad_ids_makes_a_request(
    emulator: EmulatorServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    policy = UrlPolicy(emulator.url)
    client = XComplianceClient(Transport(policy, Credentials(emulator.bearer_token)), policy)
    path = tmp_path / "ids.csv"
    for poison in FILES.values():
        if poison.refusal:
            path.write_bytes(poison.content)
            with pytest.raises(InvalidIdsError) as caught:
                transfer.upload(client, "1", str(path))
            assert legible(caught.value) == f"{path}{poison.refusal}"
    assert emulator.requests() == []
    assert all(record.getMessage().isprintable() for record in caplog.records)


def genuine(rng: random.Random) -> int:
    """An id as X makes them: six in ten are the first of their millisecond at their machine."""
    sequence = 0 if rng.random() < 0.62 else rng.randrange(1, 16)
    return rng.randrange(1 << 38, 1 << 39) << 22 | rng.randrange(320, 384) << 12 | sequence


def test_genuine_files_of_twenty_ids_are_hardly_ever_taken_for_rounded(
    record_property: Callable[[str, object], None],
) -> None:
    rng = random.Random(11)
    files = 10_000
    contents = (text(genuine(rng) for _ in range(20)) for _ in range(files))
    refused = sum(not isinstance(read_ids(io.BytesIO(content)), bytes) for content in contents)
    record_property("files of 20 genuine ids refused as rounded", f"{refused} of {files:,}")
    assert refused < 10


# The grammar of a line, after what is harmless is stripped.
GRAMMAR = re.compile(rb"0|[1-9][0-9]{0,18}")


def by_the_grammar(content: bytes) -> tuple[bytes, list[int]]:
    """The ids of a file, and the numbers of its bad lines."""
    bare = [line.strip(b" \t\r") for line in content.removeprefix(BOM).split(b"\n")]
    good = [bool(GRAMMAR.fullmatch(line)) and int(line) <= 2**63 - 1 for line in bare]
    ids = b"".join(line + b"\n" for line, is_good in zip(bare, good, strict=True) if is_good)
    return ids, [
        number
        for number, (line, is_good) in enumerate(zip(bare, good, strict=True), 1)
        if line and not is_good
    ]


def require_as_the_grammar(content: bytes, source: Any) -> None:
    ids, bad = by_the_grammar(content)
    outcome = read_ids(source, allow_rounded=True)
    if bad:
        assert isinstance(outcome, InvalidIdsError), content
        assert [int(line.split(":")[1]) for line in outcome.lines] == bad[:MAX_SHOWN], content
        more = re.search(r"; further bad lines: ([0-9,]+)$", str(outcome))
        assert (int(more[1].replace(",", "")) if more else 0) == len(bad) - 1, content
    else:
        assert outcome == ids if ids else str(outcome) == "ids.csv: holds no ids", content


PIECES = [
    *(bytes([byte]) for byte in range(256) if byte != 10),
    *(line for line, _ in BAD_LINES.values() if len(line) < 20),
    *(
        character.encode()
        for character in "\u0660\u06f0\uff10\u00b2\u00a0\u2007\u2028\u202e\u200b\ufeff\U0001d7ce"
    ),
    *(b" ", b"\t", b"\r", b"0", b"00", b"_", b"+", b"-", b".0", b"e5", BOM) * 20,
]
EDGES = [number + off for number in (0, 10**18, 2**53, 2**63, 10**19, 2**64) for off in (-1, 0, 1)]


def generated_line(rng: random.Random) -> bytes:
    """A good id, or one with something put in; or something else."""
    kind = rng.random()
    if kind < 0.03:
        return rng.randbytes(rng.randrange(12)).replace(b"\n", b"")
    number = rng.choice(EDGES) if kind < 0.1 else rng.getrandbits(rng.randrange(1, 67))
    line = b"%d" % number
    while kind > 0.4:
        place = rng.choice((0, len(line), rng.randrange(len(line) + 1)))
        line = line[:place] + rng.choice(PIECES) + line[place:]
        kind -= 0.4
    return line


def generated_ids(seed: int, number: int) -> None:
    rng = random.Random(seed)
    lines = [generated_line(rng) for _ in range(number)]
    for line in lines:
        require_as_the_grammar(line, io.BytesIO(line))
    for start in range(0, number, 100):
        some = lines[start : start + 100]
        ends = rng.choices([b"\n", b"\n", b"\r\n"], k=100)
        whole = b"".join(map(bytes.__add__, some, ends))
        good = b"".join(line + b"\r\n" for line in some if not by_the_grammar(b"\n" + line)[1])
        for content in (whole, good):
            require_as_the_grammar(content, Trickle(content, lambda: rng.randrange(1, 200)))


@pytest.mark.quick
def test_twenty_thousand_generated_ids_are_taken_as_the_grammar_says() -> None:
    generated_ids(seed=0, number=20_000)


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_hundred_thousand_generated_ids_are_taken_as_the_grammar_says(seed: int) -> None:
    generated_ids(seed, number=100_000)


any_line = st.one_of(
    st.binary(max_size=30),
    st.text(max_size=10).map(lambda line: line.encode("utf-8", "surrogatepass")),
    st.integers(min_value=-1, max_value=2**65).map(lambda number: b"%d" % number),
    st.sampled_from([line for line, _ in BAD_LINES.values()]),
)


@pytest.mark.quick
@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(
    bom=st.sampled_from([b"", BOM]),
    parts=st.lists(st.tuples(any_line, st.sampled_from([b"\n", b"\r\n", b""])), max_size=20),
    size=st.integers(min_value=1, max_value=40),
)
def test_what_hypothesis_finds_is_taken_as_the_grammar_says(
    bom: bytes, parts: list[tuple[bytes, bytes]], size: int
) -> None:
    content = bom + b"".join(line + end for line, end in parts)
    require_as_the_grammar(content, Trickle(content, size))


# Results: read as json.loads reads them, one record on a line, or refused.


class Pairs(list[tuple[str, Any]]):
    """An object of JSON with all its pairs, also those of a key that occurs twice."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?"
)
_DATES = ("created_at", "redacted_at", "deleted_at")


def _date(value: object) -> datetime | None:
    if value is None:
        return None
    if not (isinstance(value, str) and _DATE.fullmatch(value)):
        raise ValueError(value)
    return datetime.fromisoformat(value.upper())


def _field(key: str, value: object) -> object:
    if key in _DATES:
        return _date(value)
    if not (isinstance(value, str) or (value is None and key != "id")):
        raise ValueError(value)
    return value


def by_json_loads(line: bytes) -> Event:
    """
    A line as the standard library reads it.

    :raises ValueError: if it is no record
    :raises RecursionError: if it is too deep
    """
    pairs = json.loads(
        line.decode(),
        object_pairs_hook=Pairs,
        parse_constant=_refuse_constant,
        parse_int=len,
        parse_float=len,
    )
    json.dumps(pairs, ensure_ascii=False).encode()
    if not isinstance(pairs, Pairs):
        raise ValueError(line)
    fields = {key: _field(key, value) for key, value in pairs if key in Event.__struct_fields__}
    if "id" not in fields:
        raise ValueError(line)
    event = Event(**fields)
    is_an_id = GRAMMAR.fullmatch(event.id.encode()) and int(event.id) <= 2**63 - 1
    if not (event.action or event.error) or (event.action and not is_an_id):
        raise ValueError(line)
    return event


def expected_events(content: bytes) -> list[Event] | None:
    try:
        return [by_json_loads(line) for line in content.split(b"\n") if line.strip()]
    except (ValueError, RecursionError):
        return None


def are_equal(one: Event, other: Event) -> bool:
    """Whether two readings are the same; a date may be cut or rounded to microseconds."""
    dates = [(getattr(one, key), getattr(other, key)) for key in _DATES]
    return (one.id, one.action, one.reason, one.error) == (
        other.id,
        other.action,
        other.reason,
        other.error,
    ) and all(a == b or abs(a - b) <= timedelta.resolution for a, b in dates)


def read_result(source: Any) -> tuple[list[Event], dict[str, Any]] | None:
    """What comes of a result; any exception but the one that is promised fails the cell."""
    events, counts = [], EventCounts()
    try:
        for block in read_events(source, "result"):
            counts.add(block)
            events += block
    except InvalidEventsError as error:
        refusal: Exception = error
    else:
        return events, counts.to_dict()
    assert legible(refusal).startswith("result:")
    return None


def require_as_json_loads(content: bytes, size: int | Callable[[], int] = 1 << 20) -> None:
    found = read_result(Trickle(content, size))
    expected = expected_events(content)
    assert (found is None) == (expected is None), content[:2000]
    if found and expected:
        events, told = found
        assert len(events) == len(expected), content[:2000]
        assert all(map(are_equal, events, expected)), content[:2000]
        actions = Counter((event.action, str(event.reason)) for event in expected if event.action)
        assert {(a, r): n for a, reasons in told["actions"].items() for r, n in reasons.items()} == actions
        assert told["errors"] == Counter(str(event.error) for event in expected if not event.action)


RECORD = b'{"id":"12","action":"delete","reason":"deleted"}'
RESULT = b"""\
{"id":"1265324480517361664","action":"delete","created_at":"2019-10-29T17:02:47.000Z","redacted_at":"2020-07-29T17:02:47.000Z","reason":"deleted"}
{"id":"903718461","action":"delete","created_at":"2019-03-02T03:37:59+00:00","redacted_at":null,"reason":"suspended"}

{"id":"1263926741774581761","action":"rehydrate","reason":"tweet_edited","more":{"a":[1,{"b":"\xc3\xa9\\u00e9\\ud83d\\ude00"}]}}
{"id":"not_a_valid_id","error":"invalid_id"}
"""


def with_field(field: bytes) -> bytes:
    return RECORD[:-1] + b"," + field + b"}\n"


#: Results, and whether they are one.
RESULTS: dict[str, tuple[bytes, bool]] = {
    "documented": (RESULT, True),
    "empty": (b"", True),
    "blank lines": (b"\n \n\r\n\t\n", True),
    "CRLF": (RESULT.replace(b"\n", b"\r\n"), True),
    "unknown fields": (with_field(b'"x":[{"y":null}]'), True),
    "key twice": (with_field(b'"reason":"suspended"'), True),
    "number of 5000 digits": (with_field(b'"x":' + b"9" * 5000), True),
    "number beyond a double": (with_field(b'"x":1e999999'), True),
    "pair of surrogates": (with_field(b'"reason":"\\ud83d\\ude00"'), True),
    "100 levels": (with_field(b'"x":' + b"[" * 100 + b"]" * 100), True),
    "100,000 levels": (with_field(b'"x":' + b"[" * 100_000 + b"]" * 100_000), False),
    "100,000 objects": (with_field(b'"x":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_000), False),
    "levels without end": (b"[" * 1_000_000, False),
    "byte order mark": (BOM + RESULT, False),
    "byte order mark inside": (RESULT + BOM + RECORD, False),
    "UTF-16": (RESULT.decode().encode("utf-16"), False),
    "zero bytes": (RESULT + b"\x00" * 512, False),
    "NaN": (with_field(b'"x":NaN'), False),
    "Infinity": (with_field(b'"x":-Infinity'), False),
    "lone surrogate in an id": (with_field(b'"id":"\\ud800"'), False),
    "lone surrogate in a reason": (with_field(b'"reason":"\\udfff"'), False),
    "lone surrogate in UTF-8": (with_field(b'"reason":"\xed\xa0\x80"'), False),
    "invalid UTF-8 in a reason": (with_field(b'"reason":"\xff"'), False),
    "invalid UTF-8 in an unknown field": (with_field(b'"x":"\xff"'), False),
    "invalid UTF-8 in a key": (with_field(b'"x\xff":1'), False),
    "ANSI escapes": (with_field(b'"reason":"\x1b[31m"'), False),
    "ANSI escapes for an id": (with_field(b'"id":"\\u001b[31m\\n"'), False),
    "id twice, once a number": (with_field(b'"id":13'), False),
    "leading zeros": (with_field(b'"id":"012"'), False),
    "2^63": (with_field(b'"id":"9223372036854775808"'), False),
    "no action": (with_field(b'"action":null'), False),
    "date that is none": (with_field(b'"created_at":"2019-02-30T00:00:00Z"'), False),
    "zero byte in a date": (with_field(b'"created_at":"2026-11-22T00:00:00\\u0000Z"'), False),
    "date in seconds": (with_field(b'"created_at":1572368567'), False),
    "comment": (RECORD[:-1] + b"/* */}\n", False),
    "single quotes": (RECORD.replace(b'"', b"'"), False),
    "two records on a line": (RECORD + RECORD, False),
    "a record on two lines": (RECORD[:20] + b"\n" + RECORD[20:], False),
    "an array": (b"[" + RECORD + b"]", False),
    "HTML": (b"<html><body>502</body></html>", False),
    "XML": (b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code></Error>", False),
    "a problem": (b'{"title":"Forbidden","status":403}', False),
    "line of 4 MB": (with_field(b'"x":"' + b"y" * (1 << 22) + b'"'), False),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", RESULTS)
def test_a_class_of_results(name: str) -> None:
    content, is_result = RESULTS[name]
    for size in (1 << 20, 4096) if len(content) > 10_000 else (1 << 20, 1, 50):
        found = read_result(Trickle(content, size))
        assert (found is not None) == is_result
        if found:
            require_as_json_loads(content, size)


@pytest.mark.quick
def test_a_result_cut_at_any_byte_is_taken_as_json_loads_does() -> None:
    for end in range(len(RESULT)):
        require_as_json_loads(RESULT[:end])
        require_as_json_loads(RESULT[end:])


POISON_TOKENS = [
    *(content for content, _ in RESULTS.values() if len(content) < 300),
    *(bytes([byte]) for byte in range(256)),
    *(
        b'"id":"13",',
        b'"action":"delete",',
        b'"reason":null,',
        b'"error":"x",',
        b'"created_at":"2026-01-01",',
    ),
    *(b"\n", b"\r\n", b"\n\n", b"}\n{", b",", b'"', b"\\", b"\\ud800", b"null", b"{}", b"[]") * 10,
    *(
        b"NaN",
        b"-0",
        b"1E400",
        b"9" * 400,
        b"[" * 50,
        b'{"a":' * 50,
        BOM,
        b"\xff\xfe",
        b"\xed\xb0\x80",
        b"\xf4\x90",
    ),
]


def _flip(rng: random.Random, content: bytes) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _insert(rng: random.Random, content: bytes) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + rng.choice(POISON_TOKENS) + content[place:]


def _insert_line(rng: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    lines.insert(rng.randrange(len(lines)), rng.choice(POISON_TOKENS))
    return b"\n".join(lines)


def _remove(rng: random.Random, content: bytes) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + content[place + rng.randrange(1, 40) :]


def _replace_value(rng: random.Random, content: bytes) -> bytes:
    values = [*re.finditer(rb'(?<=":)("[^"]*"|null)', content)]
    if not values:
        return content
    value = rng.choice(values)
    return content[: value.start()] + rng.choice(POISON_TOKENS) + content[value.end() :]


def _repeat_key(rng: random.Random, content: bytes) -> bytes:
    pairs = [*re.finditer(rb'"[a-z_]+":("[^"]*"|null)', content)]
    if not pairs:
        return content
    pair, place = rng.choice(pairs), rng.choice(pairs).start()
    return content[:place] + pair[0] + b"," + content[place:]


MUTATIONS = (_flip, _flip, _insert, _insert_line, _remove, _replace_value, _repeat_key)


def mutated_results(seed: int, number: int) -> int:
    rng = random.Random(seed)
    accepted = 0
    for _ in range(number):
        content = RESULT
        for _ in range(rng.choice((1, 1, 2, 3))):
            content = rng.choice(MUTATIONS)(rng, content) or RESULT
        require_as_json_loads(content, rng.choice((1 << 20, 1 << 20, 61)))
        accepted += expected_events(content) is not None
    return accepted


@pytest.mark.quick
def test_three_thousand_mutated_results_are_taken_as_json_loads_does() -> None:
    mutated_results(seed=0, number=3_000)


@pytest.mark.parametrize("seed", range(1, 6))
def test_thirty_thousand_mutated_results_are_taken_as_json_loads_does(
    seed: int, record_property: Callable[[str, object], None]
) -> None:
    number = 30_000
    accepted = mutated_results(seed, number)
    assert number / 10 < accepted < number
    if seed == 5:
        record_property(
            "mutated results still read", f"{accepted:,} of {number:,}, each as json.loads reads it"
        )


# Memory: in a process of its own, from sources that are made as they are read.

CHILD = r"""
import json, re, sys, time
from pathlib import Path
from airflow_provider_xcompliance.archive.events import EventCounts, read_events, require_submitted
from airflow_provider_xcompliance.archive.ids import IdReader
from airflow_provider_xcompliance.archive.repetitions import drop_repeated

class Source:
    def __init__(self, unit, size):
        self.unit, self.left, self.place = unit, size, 0
        self.block = unit * ((1 << 21) // len(unit) + 2)

    def read(self, size=-1):
        size = min(size, self.left)
        piece = self.block[self.place : self.place + size]
        self.place = (self.place + size) % len(self.unit)
        self.left -= size
        return piece

def numbers(count):
    return (n * 0x9E3779B97F4A7C15 % 2**59 + 10**18 for n in range(count))

def read_ids(unit, size):
    reader = IdReader(Source(unit, size), "ids.csv")
    return f"{sum(map(len, reader)):,} bytes of {reader.ids:,} ids"

def read_result(unit, size):
    counts = EventCounts()
    for events in read_events(Source(unit, size), "result"):
        counts.add(events)
    return f"{counts.to_dict()['events']:,} events"

def drop(path, count):
    with open(path, "wb") as file:
        file.writelines(b"%d\n" % n for n in numbers(count))
        file.writelines(b"%d\n" % n for n in numbers(count // 100))
    return f"{drop_repeated(Path(path)):,} dropped"

def compare(path, count):
    with open(path, "wb") as file:
        file.writelines(b'{"id":"%d","error":"x"}\n' % n for n in numbers(count // 8))
    with open(path + ".ids", "wb") as file:
        file.writelines(b"%d\n" % n for n in numbers(count))
    with open(path, "rb") as events, open(path + ".ids", "rb") as ids:
        require_submitted(events, ids, "result")
    return "all submitted"

try:
    said = eval(sys.argv[1])
except ValueError as error:
    said = f"{type(error).__name__}: {error}"
# getrusage would tell the size of the process that started this one, where that is larger.
peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps([said, peak]))
"""

#: What a process does → what it says in the end.
HEAVY: dict[str, tuple[str, str]] = {
    "ids: a gigabyte in a line": (
        "read_ids(b'1', 10**9)",
        f"InvalidIdsError: ids.csv:1: {TOO_LONG}",
    ),
    "ids: a gigabyte that ends in CR": (
        "read_ids(b'12\\r', 10**9)",
        f"InvalidIdsError: ids.csv:1: {TOO_LONG}",
    ),
    "ids: a million bad lines": (
        "read_ids(b'x\\n', 2 * 10**6)",
        "InvalidIdsError: ids.csv:1: not a decimal id: 'x'; further bad lines: 524,287, and the rest was not",
    ),
    "ids: a million long bad lines": (
        "read_ids(b'x' * 199 + b'\\n', 200 * 10**6)",
        f"InvalidIdsError: ids.csv:1: not a decimal id: '{'x' * 40}'; further bad lines: ",
    ),
    "ids: 128 MB good": (
        "read_ids(b''.join(b'%d\\n' % n for n in numbers(50_000)), 128 * 10**6)",
        "128,000,000 bytes of 6,4",
    ),
    "ids: 128 MB with CRLF": (
        "read_ids(b''.join(b'%d\\r\\n' % n for n in numbers(50_000)), 128 * 10**6)",
        "121,9",
    ),
    "ids: 32 MB rounded": (
        "read_ids(b''.join(b'%d\\n' % (n // 256 * 256) for n in numbers(50_000)), 32 * 10**6)",
        "InvalidIdsError: ids.csv: all of its 1,600,",
    ),
    "ids: ten million blank lines": ("read_ids(b'\\n', 10**7)", "InvalidIdsError: ids.csv: holds no ids"),
    "ids: 128 MB, one in 100 twice": ("drop(sys.argv[2], 6_400_000)", "64,000 dropped"),
    "result: a gigabyte in a line": (
        "read_result(b'[', 10**9)",
        "InvalidEventsError: result: line 1 has more than 1,048,576 bytes",
    ),
    "result: 128 MB": (
        """read_result(b'{"id":"12653244805","action":"delete","reason":"deleted"}\\n', 58 * 2_250_000)""",
        "2,250,000 events",
    ),
    "result: 800,000 records of 6.4 million ids": ("compare(sys.argv[2], 6_400_000)", "all submitted"),
}


@pytest.mark.parametrize("name", HEAVY)
def test_memory_stays_under_256_mb(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    call, expected = HEAVY[name]
    command = [sys.executable, "-c", CHILD, call, str(tmp_path / "file")]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert run.stderr == ""
    said, peak = json.loads(run.stdout)
    record_property("peak memory in MB, of 256", round(peak / 1e6))
    assert said.startswith(expected)
    assert peak < 256e6


# Errors of Google Cloud Storage: the code is read out of them, and nothing else.

LAUGHS = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">%b]><Error><Code>&z;</Code></Error>' % b"".join(
    b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(25)
)
EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"

#: Bodies, and the code that is read out of them.
BODIES: dict[str, tuple[bytes, str]] = {
    "expired": (b"<?xml version='1.0' encoding='UTF-8'?>" + EXPIRED, "ExpiredToken"),
    "byte order mark": (BOM + EXPIRED, "ExpiredToken"),
    "two codes": (EXPIRED + b"<Code>AccessDenied</Code>", "ExpiredToken"),
    "unclosed": (b"<Error><Code>ExpiredToken</Code><Message>", "ExpiredToken"),
    "not closed at all": (b"<Error><Code>ExpiredToken", ""),
    "empty": (b"", ""),
    "empty code": (b"<Code></Code>", ""),
    "a thousand million laughs": (LAUGHS, ""),
    "file as an entity": (
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Error><Code>&e;</Code></Error>',
        "",
    ),
    "address as an entity": (
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "http://127.0.0.1:9/x">]><Error><Code>&e;</Code></Error>',
        "",
    ),
    "document type elsewhere": (b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">' + EXPIRED, "ExpiredToken"),
    "inclusion": (b'<xi:include href="file:///etc/passwd"/><Code>x</Code>', "x"),
    "markup in the code": (b"<Code><b>ExpiredToken</b></Code>", ""),
    "script in the code": (b"<Code><script>alert(1)</script></Code>", ""),
    "CDATA": (b"<Code><![CDATA[ExpiredToken]]></Code>", ""),
    "entity in the code": (b"<Code>Expired&#84;oken</Code>", ""),
    "line end in the code": (b"<Code>Expired\nToken</Code>", ""),
    "ANSI escapes in the code": (b"<Code>\x1b[31mExpired</Code>", ""),
    "ANSI escapes in the message": (b"<Code>AccessDenied</Code><Message>\x1b[31m</Message>", "AccessDenied"),
    "secret in the details": (
        b"<Code>AccessDenied</Code><Details>X-Goog-Signature=canary</Details>",
        "AccessDenied",
    ),
    "code that is not ASCII": ("<Code>Expired\u0422oken</Code>".encode(), ""),
    "code of 65 letters": (b"<Code>" + b"x" * 65 + b"</Code>", ""),
    "code of a million letters": (b"<Code>" + b"x" * 1_000_000 + b"</Code>", ""),
    "a million unclosed codes": (b"<Code>" * 1_000_000, ""),
    "huge": (b"<" * 20_000_000 + EXPIRED, "ExpiredToken"),
    "UTF-16": (EXPIRED.decode().encode("utf-16"), ""),
    "UTF-7": (b"<?xml encoding='UTF-7'?>+ADw-Code+AD4-ExpiredToken", ""),
    "invalid UTF-8": (b"\xff\xfe\xed\xa0\x80" + EXPIRED, "ExpiredToken"),
    "zero bytes": (b"\x00" * 1000, ""),
    "HTML": (b"<html><title>502</title></html>", ""),
    "JSON, deep": (b"[" * 1_000_000, ""),
    "JSON with markup": (b'{"title":"<script>\\u001b[31m\\n\\u202e","detail":"canary"}', ""),
    "JSON of another shape": (b'{"title":5,"errors":[[]]}', ""),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", BODIES)
def test_a_class_of_error_bodies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_is_fetched(*_: object, **__: object) -> NoReturn:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(socket, "socket", nothing_is_fetched)
    monkeypatch.setattr("builtins.open", nothing_is_fetched)
    body, code = BODIES[name]
    for status in (302, 400, 403, 404, 429, 500, 503):
        answer = Response(status, {}, body, secrets=("canary",))
        assert xml_code(answer) == code
        assert says_expired(answer, None) == (code == "ExpiredToken")
        for read in (partial(refuse, answer), partial(decode, answer, dict[str, int])):
            with pytest.raises(XComplianceError) as caught:
                read("upload")
            said = legible(caught.value)
            assert said.startswith(f"upload: status {status}")
            assert "canary" not in said
            assert "<" not in said.replace("<script>", "", body.startswith(b"{"))


@pytest.mark.quick
def test_ten_thousand_mutated_error_bodies_are_refused_in_a_line() -> None:
    rng = random.Random(5)
    bodies = [body for body, _ in BODIES.values() if 0 < len(body) < 2_000]
    for _ in range(10_000):
        body = rng.choice((_flip, _insert, _remove))(rng, rng.choice(bodies))
        answer = Response(rng.choice((400, 403, 429, 500)), {}, body)
        assert re.fullmatch("[A-Za-z]{0,64}", xml_code(answer))
        with pytest.raises(XComplianceError) as caught:
            refuse(answer, "upload")
        legible(caught.value)
