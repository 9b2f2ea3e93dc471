"""
JSON without some of its members and items: these are cut out of the text, the rest stays byte for byte.

The text has to be one that ``json.loads`` takes.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple, TypeAlias

#: How to get to a value: names of members and numbers of items.
JsonPath: TypeAlias = tuple[str | int, ...]

# The same to several: a tree that ends in None.
_Plan: TypeAlias = "dict[str | int, _Plan | None]"
_NO_PLAN: _Plan = {}

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


def without(text: str, paths: list[JsonPath]) -> str:
    """Return JSON without the members and items at some paths, and otherwise as it was."""
    kept, at = [], 0
    for cut in _cuts(text, paths):
        kept.append(text[at : cut.start])
        at = cut.end
    return "".join([*kept, text[at:]])


def values(text: str, paths: list[JsonPath]) -> list[str]:
    """Return what is at some paths, which come in the order of the text, as it is written."""
    if () in paths:
        return [text]
    # Of several members with one name, the last is the one that was read.
    last = _cuts(text, paths)[-len(paths) :]
    return [text[cut.value : cut.value_end] for cut in last]


def _cuts(text: str, paths: list[JsonPath]) -> list[_Cut]:
    cuts: list[_Cut] = []
    if paths:
        _scan(text, text.index("{"), _plan(paths), cuts)
    return sorted(cuts)


def _plan(paths: Iterable[JsonPath]) -> _Plan:
    branches = defaultdict[str | int, list[JsonPath]](list)
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
