"""Ids of posts or users: one decimal number per line, text from end to end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from airflow_provider_xcompliance.archive.lines import BOM, MAX_LINE_BYTES, LineTooLongError, line_blocks

if TYPE_CHECKING:
    from _typeshed import SupportsRead

#: The largest id that X can give: ids are signed 64-bit numbers.
MAX_ID = 2**63 - 1
MAX_ID_BYTES = len(str(MAX_ID))

#: Bad lines that an error tells word by word, and how many there may be before reading stops.
MAX_SHOWN = 10
MAX_BAD = 10_000

_SHOWN_CHARACTERS = 40

# With fewer large ids than this it may be chance: six in ten genuine posts are multiples of 4096, the first
# of their millisecond at their machine. So are 20 of 20 in one file of 10,000, which the override is for.
_MIN_ROUNDED = 20

_DIGITS = b"0123456789"
_FIRST_DIGITS = b"123456789"

# Whole blocks of lines that need no second look; possessive, so that a bad line costs no backtracking.
# Nineteen digits that begin with 9 may exceed MAX_ID, so they take the slow way.
_CLEAN_LINES = re.compile(rb"(?:(?:[1-8][0-9]{0,18}+|9[0-9]{0,17}+)\n)*+")
_ID = re.compile(rb"0|[1-9][0-9]{0,18}")
_SMALL_IDS = re.compile(rb"(?:[0-9]{1,15}\n)*+")
_LARGE_ID = re.compile(rb"[0-9]{16,}")

#: What a bad line looks like → what probably happened to it.
_HINTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\x1f\x8b.*"), "gzip; let the file's name end in .gz"),
    (re.compile(rb"PK\x03\x04.*"), "a spreadsheet or a zip archive; export the column as text"),
    (re.compile(rb".*\x00.*"), "zero bytes; save the file as UTF-8"),
    (re.compile(rb"[0-9]+\r.*"), "the lines end in CR alone; end them with LF"),
    (re.compile(rb"[0-9.,]+[eE]\+?[0-9]+"), "a spreadsheet rounded it; export the column as text"),
    (re.compile(rb"[0-9]+\.[0-9]*"), "it went through a decimal number; export the column as text"),
    (re.compile(rb"0[0-9]+"), "leading zeros; an id has none"),
    (re.compile(rb"[0-9]{19,}"), "larger than any id of X, which ends at 2^63-1"),
    (re.compile(rb"""(["']).*\1"""), "remove the quotes"),
    (re.compile(rb".*[,;\t].*"), "more than one column; give a file with the ids alone"),
    (re.compile(rb"(?i)((tweet|post|status|user|author)[ _-]?)?ids?(_str)?"), "a column title; leave it out"),
    (re.compile(rb".*\xef\xbb\xbf.*"), "a byte order mark inside the file; join files without theirs"),
    (re.compile(rb".*[^\x00-\x7f].*"), "not ASCII; an id has the digits 0 to 9 alone"),
    (re.compile(rb"(?i)(https?:/|www\.|x\.com|twitter\.com).*"), "a link; give the number at its end alone"),
    (re.compile(rb"@.*"), "a user's name; give the number that is the user's id"),
)

#: What all large ids of a file have in common → what rounded them. Those before 2015 need not end in 00.
_SIGNS: tuple[tuple[str, str, Callable[[int], bool]], ...] = (
    ("end in 000", "a spreadsheet", lambda number: number % 1000 == 0),
    ("end in 00", "JavaScript", lambda number: number % 100 == 0),
    ("are as JavaScript writes a double", "JavaScript", lambda number: number == _as_javascript(number)),
    ("are multiples of 256", "a floating-point number", lambda number: number % 256 == 0),
    ("fit into a double", "a floating-point number", lambda number: number == int(float(number))),
)


class InvalidIdsError(ValueError):
    """
    A file of ids holds something else, or nothing.

    :param lines: the first bad lines, each as ``file:line: what is wrong``
    """

    def __init__(self, message: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.lines = lines


class IdReader:
    """
    Read a file of ids in clean blocks: every line is one id, and ends with a newline.

    Blank lines, CRLF, a byte order mark and blanks around an id are harmless: they are left out and counted.

    :param source: the file, open for reading bytes
    :param name: what errors call it
    :param allow_rounded: whether to take ids all of which look as if a program had rounded them
    """

    def __init__(self, source: SupportsRead[bytes], name: str, *, allow_rounded: bool = False) -> None:
        self._source = source
        self._name = name
        self._allow_rounded = allow_rounded
        self._rounding = _Rounding()
        self._bad_lines: list[str] = []
        self._bad = 0
        self._line = 0
        #: How many ids were read so far.
        self.ids = 0
        #: What was cleaned away, by its name.
        self.cleaned: Counter[str] = Counter()

    def __iter__(self) -> Iterator[bytes]:
        """
        Go through the file once; an error comes after the last block, so that it can count the bad lines.

        :raises InvalidIdsError: if a line is no id, if there is none at all, or if all look rounded
        """
        try:
            for block in line_blocks(self._source):
                yield self._read(block)
                if self._bad > MAX_BAD:
                    break
        except LineTooLongError:
            what = f"a line of more than {MAX_LINE_BYTES:,} bytes; this is no file of ids, one on a line"
            self._note_bad(f"{self._name}:{self._line + 1}: {what}")
        self._raise_if_bad()

    def _read(self, block: bytes) -> bytes:
        if not self._line and block.startswith(BOM):
            self.cleaned["byte_order_mark"] += 1
            block = block.removeprefix(BOM)
        clean = block
        ids = lines = count_clean(block)
        if not ids:
            clean, lines = self._cleaned(block), block.count(b"\n")
            ids = clean.count(b"\n")
        self._line += lines
        self.ids += ids
        if not self._allow_rounded:
            self._rounding.look_at(clean)
        return clean

    def _cleaned(self, block: bytes) -> bytes:
        unixed = block.replace(b"\r\n", b"\n")
        if len(unixed) != len(block):
            self.cleaned["crlf"] += len(block) - len(unixed)
            if count_clean(unixed):
                return unixed
        lines = unixed.split(b"\n")[:-1]
        return b"".join(self._clean_line(line, self._line + n) for n, line in enumerate(lines, start=1))

    def _clean_line(self, line: bytes, number: int) -> bytes:
        bare = line.strip(b" \t\r")
        if not bare:
            self.cleaned["blank_lines"] += 1
            return b""
        if not is_id(bare):
            self._note_bad(f"{self._name}:{number}: not a decimal id: {_shown(bare)}", bare)
            return b""
        if bare != line:
            self.cleaned["surrounding_blanks"] += 1
        return bare + b"\n"

    def _note_bad(self, text: str, line: bytes = b"") -> None:
        self._bad += 1
        if len(self._bad_lines) < MAX_SHOWN:
            self._bad_lines.append(text + _hint(line))

    def _raise_if_bad(self) -> None:
        if self._bad:
            more = f"; further bad lines: {self._bad - 1:,}" if self._bad > 1 else ""
            stopped = ", and the rest was not read" if self._bad > MAX_BAD else ""
            raise InvalidIdsError(f"{self._bad_lines[0]}{more}{stopped}", tuple(self._bad_lines))
        if not self.ids:
            raise InvalidIdsError(f"{self._name}: holds no ids")
        if how := self._rounding.verdict():
            raise InvalidIdsError(
                f"{self._name}: {how}; then they are ids of others now: export the column as text. If they "
                "are as X gave them, set allow_rounded_ids=True"
            )


class _Rounding:
    """What only the whole file can show: that its ids went through a floating-point number."""

    def __init__(self) -> None:
        self._large = 0
        self._different: set[int] = set()
        self._signs = list(_SIGNS)

    def look_at(self, clean: bytes) -> None:
        """Take note of some more ids; done at the first genuine ones."""
        if not self._signs:
            return
        for found in _LARGE_ID.finditer(clean, _end_of_small_ids(clean)):
            number = int(found[0])
            if number > 2**53:
                self._large += 1
                if len(self._different) < _MIN_ROUNDED:
                    self._different.add(number)
                self._signs = [sign for sign in self._signs if sign[2](number)]
                if not self._signs:
                    return

    def verdict(self) -> str:
        """Say what is wrong with the ids, or nothing."""
        if len(self._different) < _MIN_ROUNDED or not self._signs:
            return ""
        mark, culprit, _ = self._signs[0]
        return f"all of its {self._large:,} ids above 2^53 {mark}, as if {culprit} had rounded them"


def count_clean(block: bytes) -> int:
    """
    Return how many ids there are in a block of lines; 0 if something else may be in it.

    Then :func:`is_id` decides about each line: zero, and the largest ids, are also something else here.
    """
    size = block.find(b"\n") + 1
    ids, rest = divmod(len(block), size)
    if not rest and _are_clean(block, size, b"\n" * ids):
        return ids
    return block.count(b"\n") if _CLEAN_LINES.fullmatch(block) else 0


def _are_clean(block: bytes, size: int, newlines: bytes) -> bool:
    """Whether all lines are ids of one length, as most are: several times faster than looking at each."""
    return (
        size - 1 <= MAX_ID_BYTES
        and block[size - 1 :: size] == newlines
        and block.translate(None, _DIGITS) == newlines
        and not block[::size].translate(None, _FIRST_DIGITS[: -1 if size - 1 == MAX_ID_BYTES else None])
    )


def _as_javascript(number: int) -> int:
    return int(Decimal(repr(float(number))))


def _end_of_small_ids(clean: bytes) -> int:
    small = _SMALL_IDS.match(clean)
    return small.end() if small else 0


def is_id(line: bytes) -> bool:
    """Whether these bytes are an id as X writes it: decimal, without leading zeros, at most 2^63-1."""
    return _ID.fullmatch(line) is not None and int(line) <= MAX_ID


def _shown(line: bytes) -> str:
    # Four bytes are the most that a character of UTF-8 takes; what cannot be printed is shown as several.
    text = line[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "replace")[:_SHOWN_CHARACTERS]
    while len(repr(text)) > _SHOWN_CHARACTERS + len("''"):
        text = text[:-1]
    return repr(text)


def _hint(line: bytes) -> str:
    return next((f" ({hint})" for pattern, hint in _HINTS if pattern.fullmatch(line)), "")
