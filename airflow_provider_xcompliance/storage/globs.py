"""Patterns for the names of files: pure text, whatever the store."""

from __future__ import annotations

import re

from airflow_provider_xcompliance.storage.addresses import display
from airflow_provider_xcompliance.storage.errors import AddressError

_WILDCARD = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"\*+|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)

#: The text by which a pattern asks for files of our own → what they are called.
_OWN = {
    "/_xcompliance": re.compile(r"(?:^|/)_xcompliance/"),
    ".manifest.json": re.compile(r"\.manifest\.json\Z"),
    ".upload.json": re.compile(r"\.upload\.json\Z"),
    ".xcompliance-": re.compile(r"(?:^|/)\.xcompliance-[^/]*\.part\Z"),
}


def is_glob(pattern: str) -> bool:
    """Return whether a pattern stands for more than the one file of that name."""
    return pattern.endswith("/") or bool(_WILDCARD.search(pattern))


class Glob:
    """
    A pattern: ``*`` and ``?`` and ``[a-z]`` and ``[!a-z]`` within a folder, ``**`` for any depth.

    Names that begin with a dot are names like any other. What this package itself keeps beside archives is
    left out, unless the pattern names it. ``[*]`` stands for a ``*``.

    :param pattern: a whole URI; with a slash at its end, everything in that folder
    :raises AddressError: if ``**`` is not all that stands between two slashes
    :raises re.error: if a range in brackets is none
    """

    def __init__(self, pattern: str) -> None:
        pattern += "**" if pattern.endswith("/") else ""
        _require_depth_alone(pattern)
        wildcard = _WILDCARD.search(pattern)
        #: What all names begin with.
        self.fixed = pattern[: wildcard.start()] if wildcard else pattern
        self._parts = pattern.split("/")
        self._depth = self._parts.index("**") if "**" in self._parts else None
        *folders, name = self._parts
        start = "".join("(?:[^/]*/)*" if part == "**" else _regex_of(part) + "/" for part in folders)
        self._regex = re.compile(start + (".*" if name == "**" else _regex_of(name)), re.DOTALL)
        self._own = [own for asked, own in _OWN.items() if asked not in pattern]

    def matches(self, name: str) -> bool:
        """Return whether a file is meant."""
        return bool(self._regex.fullmatch(name)) and not self._is_own(name)

    def may_hold(self, folder: str) -> bool:
        """
        Return whether a folder is worth a look.

        :param folder: with a slash at its end
        """
        parts = folder.rstrip("/").split("/")
        if self._depth is None and len(parts) >= len(self._parts):
            return False
        wanted = self._parts[: len(parts)] if self._depth is None else self._parts[: self._depth]
        pairs = zip(wanted, parts, strict=False)
        return not self._is_own(folder) and all(re.fullmatch(_regex_of(each), part) for each, part in pairs)

    def _is_own(self, name: str) -> bool:
        return any(own.search(name) for own in self._own)


def _require_depth_alone(pattern: str) -> None:
    """Refuse what shells read as a single ``*``, and hardly anybody means so."""
    for part in pattern.split("/"):
        tokens = ["*" if match[0].startswith("**") else match[0] for match in _TOKEN.finditer(part)]
        if part != "**" and (single := "".join(tokens)) != part:
            raise AddressError(
                f"{display(pattern)!r} is no pattern: ** means any depth only where it stands alone between "
                f"slashes; write **/{single} instead of {part}, or {single} for one folder"
            )


def _regex_of(part: str) -> str:
    return "".join(_token(match[0]) for match in _TOKEN.finditer(part))


def _token(text: str) -> str:
    if text.startswith("*"):
        return "[^/]*"
    if text == "?":
        return "[^/]"
    if len(text) == 1:
        return re.escape(text)
    negated = text.startswith("[!")
    inner = re.sub(r"([\\\[\]^])", r"\\\1", text[1 + negated : -1])
    # A negated class would match the slash too.
    return f"(?!/)[{'^' * negated}{inner}]"
