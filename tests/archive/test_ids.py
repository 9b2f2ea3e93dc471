import io
from decimal import Decimal
from itertools import count

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive import ids, lines
from airflow_provider_xcompliance.archive.ids import MAX_BAD, MAX_SHOWN, IdReader, InvalidIdsError

ID = b"1265324480517361664"


def read(content: bytes, *, allow_rounded: bool = False) -> tuple[bytes, IdReader]:
    reader = IdReader(io.BytesIO(content), "ids.csv", allow_rounded=allow_rounded)
    return b"".join(reader), reader


def refusal(content: bytes) -> InvalidIdsError:
    with pytest.raises(InvalidIdsError) as caught:
        read(content)
    return caught.value


def obvious(content: bytes) -> tuple[list[bytes], list[int]]:
    """The rules as slowly and plainly as can be: ids, and numbers of bad lines."""
    good, bad = [], []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        while line and line[0] in b" \t\r":
            line = line[1:]
        while line and line[-1] in b" \t\r":
            line = line[:-1]
        if not line:
            continue
        digits = all(48 <= byte <= 57 for byte in line)
        if digits and int(line) < 2**63 and str(int(line)).encode() == line:
            good.append(line)
        else:
            bad.append(number)
    return good, bad


lines_of_a_file = st.one_of(
    st.integers(min_value=0, max_value=2**64).map(lambda number: str(number).encode()),
    st.integers(min_value=2**63 - 3, max_value=2**63 + 3).map(lambda number: str(number).encode()),
    st.sampled_from(
        [
            b"",
            b" ",
            b"\t",
            b"\r",
            b" 12",
            b"12 ",
            b"12\r",
            b"007",
            b"0",
            b"00",
            b"+5",
            b"-5",
            b"1_000",
            b"12.0",
            b"1.41786E+18",
            b'"12"',
            b"id",
            b"12,34",
            "\uff11\uff12".encode(),
            "\u0663".encode(),
            "\u00b2".encode(),
            b"\xef\xbb\xbf12",
        ]
    ),
    st.binary(max_size=6).filter(lambda line: b"\n" not in line),
)


@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 20])
@given(
    content=st.builds(
        lambda bom, parts, ends, end: bom + b"".join(map(bytes.__add__, parts, ends)) + end,
        st.sampled_from([b"", b"", b"\xef\xbb\xbf"]),
        st.lists(lines_of_a_file, max_size=30),
        st.lists(st.sampled_from([b"\n", b"\n", b"\r\n"]), min_size=30, max_size=30),
        st.sampled_from([b"", b"12"]),
    )
)
@example(content=b"\xef\xbb\xbf")
@example(content=b"\xef\xbb\xbfx\n1")
def test_the_reader_agrees_with_the_obvious_rules(block_bytes: int, content: bytes) -> None:
    good, bad = obvious(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK_BYTES", block_bytes)
        try:
            clean, reader = read(content, allow_rounded=True)
        except InvalidIdsError as error:
            numbers = [int(line.split(":")[1]) for line in error.lines]
            assert bad[:MAX_SHOWN] == numbers
            assert bad or not good
        else:
            assert not bad
            assert clean == b"".join(line + b"\n" for line in good)
            assert reader.ids == len(good) > 0


@pytest.mark.parametrize(
    ("content", "cleaned"),
    [
        (b"1\n22\n", {}),
        (b"1\n22", {}),
        (b"0\n22\n", {}),
        (b"1\r\n22\r\n", {"crlf": 2}),
        (b"\xef\xbb\xbf1\n22\n", {"byte_order_mark": 1}),
        (b"\xef\xbb\xbf1\r\n\r\n22\r\n", {"byte_order_mark": 1, "crlf": 3, "blank_lines": 1}),
        (b"\n1\n \t\n22\n\n", {"blank_lines": 3}),
        (b" 1\n22\t\n", {"surrounding_blanks": 2}),
    ],
)
def test_what_is_harmless_is_cleaned_away_and_counted(content: bytes, cleaned: dict[str, int]) -> None:
    clean, reader = read(content)

    assert clean in (b"1\n22\n", b"0\n22\n")
    assert reader.ids == 2
    assert dict(reader.cleaned) == cleaned


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"1.41786E+18", "'1.41786E+18' (a spreadsheet rounded it; export the column as text)"),
        (b"1,41786e18", "'1,41786e18' (a spreadsheet rounded it; export the column as text)"),
        (b"12.0", "'12.0' (it went through a decimal number; export the column as text)"),
        (b"0012", "'0012' (leading zeros; an id has none)"),
        (b"9223372036854775808", "'9223372036854775808' (larger than any id of X, which ends at 2^63-1)"),
        (b"12345678901234567890", "'12345678901234567890' (larger than any id of X, which ends at 2^63-1)"),
        (b'"12"', "'\"12\"' (remove the quotes)"),
        (b"12;34", "'12;34' (more than one column; give a file with the ids alone)"),
        (b"tweet_id", "'tweet_id' (a column title; leave it out)"),
        (b"1\x002\x00", "'1\\x002\\x00' (zero bytes; save the file as UTF-8)"),
        (b"1\r2\r3", "'1\\r2\\r3' (the lines end in CR alone; end them with LF)"),
        ("\uff11\uff12".encode(), "'\uff11\uff12' (not ASCII; an id has the digits 0 to 9 alone)"),
        (b"1_000", "'1_000'"),
        (b"+5", "'+5'"),
        (b"\x1b[31m", r"'\x1b[31m'"),
        (b"\x1f\x8b\x08\x00", "'\\x1f�\\x08\\x00' (gzip; let the file's name end in .gz)"),
        (b"PK\x03\x04", "'PK\\x03\\x04' (a spreadsheet or a zip archive; export the column as text)"),
        (b"\xef\xbb\xbf12", "'\\ufeff12' (a byte order mark inside the file; join files without theirs)"),
        (
            b"https://x.com/a/status/12",
            "'https://x.com/a/status/12' (a link; give the number at its end alone)",
        ),
        (b"@name", "'@name' (a user's name; give the number that is the user's id)"),
        (b"x" * 1000, repr("x" * 40)),
        (b"\x01" * 1000, repr("\x01" * 10)),
        (("é" * 1000).encode(), repr("é" * 40) + " (not ASCII; an id has the digits 0 to 9 alone)"),
    ],
)
def test_a_bad_line_is_told_with_its_number_and_a_hint(line: bytes, text: str) -> None:
    assert str(refusal(b"1\n" + line + b"\n2\n")) == f"ids.csv:2: not a decimal id: {text}"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_told_to_be_saved_otherwise(encoding: str) -> None:
    error = refusal("12\r\n34\r\n".encode(encoding))

    assert str(error).startswith("ids.csv:1: not a decimal id: ")
    assert "(zero bytes; save the file as UTF-8)" in str(error)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_lines_are_numbered_right_far_into_a_file(newline: bytes, bom: bytes) -> None:
    good = (ID + newline) * 99_999
    error = refusal(bom + good + b"x" + newline + good + b"y" + newline)

    assert error.lines == (
        "ids.csv:100000: not a decimal id: 'x'",
        "ids.csv:200000: not a decimal id: 'y'",
    )
    assert str(error) == f"{error.lines[0]}; further bad lines: 1"


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n \n", b"\xef\xbb\xbf"])
def test_a_file_without_ids_is_refused(content: bytes) -> None:
    assert str(refusal(content)) == "ids.csv: holds no ids"


def test_of_many_bad_lines_the_first_ten_are_told() -> None:
    error = refusal(b"x\n" * 25)

    assert [line.split(":")[1] for line in error.lines] == [str(number) for number in range(1, MAX_SHOWN + 1)]
    assert str(error).endswith("; further bad lines: 24")


class Endless:
    """A source without end."""

    def __init__(self, unit: bytes) -> None:
        self.unit = unit
        self.bytes = 0

    def read(self, size: int = -1) -> bytes:
        self.bytes += size
        return (self.unit * (size // len(self.unit) + 1))[:size]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (b"x\n", "and the rest was not read"),
        (bytes(range(256)), "not a decimal id"),
        (b"1", "ids.csv:1: a line of more than 1,048,576 bytes; this is no file of ids, one on a line"),
        (b"\x00", "ids.csv:1: a line of more than 1,048,576 bytes; this is no file of ids"),
    ],
)
def test_reading_what_is_no_file_of_ids_comes_to_an_end(unit: bytes, expected: str) -> None:
    source = Endless(unit)

    with pytest.raises(InvalidIdsError, match=expected):
        list(IdReader(source, "ids.csv"))

    assert source.bytes <= 2 * MAX_BAD * len(unit) + 3 * (1 << 20)


def rounded_by(way: str, first: int = 1_265_324_480_517_361_664) -> list[int]:
    numbers = [first + step * 7_919_111_333 for step in range(1, 31)]
    rounded = {
        "nothing": int,
        "double": lambda number: int(float(number)),
        "JavaScript": lambda number: int(Decimal(repr(float(number)))),
        "spreadsheet": lambda number: int(Decimal(f"{number:.14e}")),
    }[way]
    return [rounded(number) for number in numbers]


def text(numbers: list[int]) -> bytes:
    return b"".join(b"%d\n" % number for number in numbers)


OF_2014 = 450_000_000_000_000_003


@pytest.mark.parametrize(
    ("numbers", "mark"),
    [
        (rounded_by("double"), "are multiples of 256, as if a floating-point number"),
        (rounded_by("JavaScript"), "end in 00, as if JavaScript"),
        (rounded_by("spreadsheet"), "end in 000, as if a spreadsheet"),
        (rounded_by("double", OF_2014), "fit into a double, as if a floating-point number"),
        (rounded_by("JavaScript", OF_2014), "are as JavaScript writes a double, as if JavaScript"),
        (rounded_by("spreadsheet", OF_2014), "end in 000, as if a spreadsheet"),
        (
            rounded_by("double", OF_2014)[:15] + rounded_by("double")[:15],
            "fit into a double, as if a floating-",
        ),
    ],
)
def test_a_file_whose_large_ids_were_all_rounded_is_refused(numbers: list[int], mark: str) -> None:
    content = text([12, 34, *numbers, 9_007_199_254_740_991])
    error = refusal(content)

    assert str(error).startswith(f"ids.csv: all of its 30 ids above 2^53 {mark}")
    assert str(error).endswith(
        "had rounded them; then they are ids of others now: export the column as text. If they are as X gave "
        "them, set allow_rounded_ids=True"
    )
    assert read(content, allow_rounded=True)[0] == content


@pytest.mark.parametrize(
    "numbers",
    [
        rounded_by("nothing"),
        rounded_by("double")[:19],
        rounded_by("double")[:19] * 2,
        [*rounded_by("double"), 1_265_324_480_517_361_665],
        [number * 100 for number in range(1, 50)],
    ],
    ids=["genuine", "too few to tell", "too few, repeated", "one is not rounded", "small"],
)
def test_ids_that_may_be_genuine_are_accepted(numbers: list[int]) -> None:
    assert read(text(numbers))[0] == text(numbers)


def test_twenty_ids_are_enough_to_tell() -> None:
    assert "all of its 20 ids above" in str(refusal(text(rounded_by("double")[:20])))


def test_bad_lines_are_told_before_rounding() -> None:
    assert str(refusal(b"x\n" + text(rounded_by("double")))) == "ids.csv:1: not a decimal id: 'x'"


def test_clean_and_crlf_files_are_not_looked_at_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = count()
    monkeypatch.setattr(ids, "is_id", lambda line: bool(next(looked_at) + 1))

    read((ID + b"\n") * 1000)
    read((ID + b"\r\n") * 1000)

    assert next(looked_at) == 0


@st.composite
def lines_of_one_length(draw: st.DrawFn) -> bytes:
    """Ids, or almost."""
    digits = draw(st.integers(min_value=0, max_value=21))
    line = st.binary(min_size=digits, max_size=digits) | st.text(
        "0123456789", min_size=digits, max_size=digits
    ).map(str.encode)
    content = bytearray(b"".join(each + b"\n" for each in draw(st.lists(line, min_size=1, max_size=8))))
    for place in draw(st.lists(st.integers(min_value=0, max_value=len(content) - 1), max_size=2)):
        content[place] = draw(st.sampled_from(b"\n\r019 x"))
    return bytes(content)


@given(content=lines_of_one_length())
@example(content=b"8999999999999999999\n")
@example(content=b"9000000000000000000\n")
@example(content=b"900000000000000000\n")
@example(content=b"1\n12\n\n1\n")
@example(content=b"\n\n")
def test_lines_of_one_length_are_taken_as_all_others_are(content: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "_are_clean", lambda *_: False)
        expected = outcome(content)

    assert outcome(content) == expected


def outcome(content: bytes) -> tuple[object, ...]:
    try:
        clean, reader = read(content)
    except InvalidIdsError as error:
        return str(error), error.lines
    return clean, reader.ids, reader.cleaned


@pytest.mark.parametrize("digits", [1, 9, 18, 19])
def test_lines_of_one_length_are_not_matched_with_a_pattern(
    digits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_CLEAN_LINES", None)

    assert read((ID[:digits] + b"\n") * 3)[1].ids == 3
