"""Ids of posts or users: one decimal number per line, text from end to end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_provider_xcompliance.archive.lines import line_blocks

if TYPE_CHECKING:
    from _typeshed import SupportsRead

#: The largest id that X can give: ids are signed 64-bit numbers.
MAX_ID = 2**63 - 1

#: Bad lines that an error tells word by word.
MAX_SHOWN = 10

_BOM = b"\xef\xbb\xbf"

# Whole blocks of lines that need no second look; possessive, so that a bad line costs no backtracking.
# Nineteen digits that begin with 9 may exceed MAX_ID, so they take the slow way.
_CLEAN_LINES = re.compile(rb"(?:(?:[1-8][0-9]{0,18}|9[0-9]{0,17})\n)*+")
_ID = re.compile(rb"[0-9]{1,19}")

#: What a bad line looks like → what probably happened to it.
_HINTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"[0-9.,]+[eE]\+?[0-9]+"), "a spreadsheet rounded it; export the column as text"),
    (re.compile(rb"[0-9]+\.[0-9]*"), "it went through a decimal number; export the column as text"),
    (re.compile(rb"0[0-9]+"), "leading zeros; an id has none"),
    (re.compile(rb"[0-9]{19,}"), "larger than any id of X, which ends at 2^63-1"),
    (re.compile(rb"""(["']).*\1"""), "remove the quotes"),
    (re.compile(rb".*[,;\t].*"), "more than one column; give a file with the ids alone"),
    (re.compile(rb".*\x00.*", re.DOTALL), "zero bytes; save the file as UTF-8"),
    (re.compile(rb"(?i)(tweet_?|post_?|user_?|author_?)?ids?"), "a column title; leave it out"),
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
    """

    def __init__(self, source: SupportsRead[bytes], name: str) -> None:
        self._source = source
        self._name = name
        self._bad_lines: list[str] = []
        self._bad = 0
        self._line = 0
        #: How many ids were read so far.
        self.ids = 0
        #: What was cleaned away, by its name.
        self.cleaned: Counter[str] = Counter()

    def __iter__(self) -> Iterator[bytes]:
        """
        Go through the file once; an error comes after the last block, so that it can count all bad lines.

        :raises InvalidIdsError: if a line is no id, or if there is none at all
        :raises LineTooLongError: if this cannot be a file of ids
        """
        for block in line_blocks(self._source, self._name):
            if not self._line and block.startswith(_BOM):
                self.cleaned["byte_order_mark"] += 1
                block = block.removeprefix(_BOM)
            clean = block if _CLEAN_LINES.fullmatch(block) else self._cleaned(block)
            self._line += block.count(b"\n")
            self.ids += clean.count(b"\n")
            yield clean
        self._raise_if_bad()

    def _cleaned(self, block: bytes) -> bytes:
        unixed = block.replace(b"\r\n", b"\n")
        if len(unixed) != len(block):
            self.cleaned["crlf"] += len(block) - len(unixed)
            if _CLEAN_LINES.fullmatch(unixed):
                return unixed
        lines = unixed.split(b"\n")[:-1]
        return b"".join(self._clean_line(line, self._line + n) for n, line in enumerate(lines, start=1))

    def _clean_line(self, line: bytes, number: int) -> bytes:
        bare = line.strip(b" \t\r")
        if not bare:
            self.cleaned["blank_lines"] += 1
            return b""
        if not _is_id(bare):
            self._note_bad(bare, number)
            return b""
        if bare != line:
            self.cleaned["surrounding_blanks"] += 1
        return bare + b"\n"

    def _note_bad(self, line: bytes, number: int) -> None:
        self._bad += 1
        if len(self._bad_lines) < MAX_SHOWN:
            hint = next((f" ({hint})" for pattern, hint in _HINTS if pattern.fullmatch(line)), "")
            shown = line[:40].decode("utf-8", "backslashreplace")
            self._bad_lines.append(f"{self._name}:{number}: not a decimal id: {shown!r}{hint}")

    def _raise_if_bad(self) -> None:
        if self._bad:
            more = f"; {self._bad - 1} more bad lines" if self._bad > 1 else ""
            raise InvalidIdsError(self._bad_lines[0] + more, tuple(self._bad_lines))
        if not self.ids:
            raise InvalidIdsError(f"{self._name}: holds no ids")


def _is_id(line: bytes) -> bool:
    if not _ID.fullmatch(line) or (line[:1] == b"0" and len(line) > 1):
        return False
    return int(line) <= MAX_ID
