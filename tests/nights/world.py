"""A world of posts and users that changes every day, what X says of it, and who writes to the archive."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from random import Random

from tests.archive import generated
from tests.archive.generated import TABLE, File, Maker, Style
from tests.archive.oracle import Events

JOB_TYPES = ("tweets", "users")
Kind = tuple[str, str]

FIRST_POST = 1_300_000_000_000_000_000
#: Ids that programs get wrong, from the first night on.
EDGES = (700_000_001, 2**53 + 1, 2**62 + 1, 2**63 - 2, 2**63 - 1)
USERS = tuple(range(10_001, 10_121))
#: Known to be gone, so that X's answer without them is void.
GONE = ("delete", "deleted")
CONTROLS = {"tweets": 20, "users": 12}

#: What may become of a post, or a user, in a day: how likely it is, and what X says from then on.
CHANGES: Mapping[str, tuple[tuple[float, Kind], ...]] = {
    "tweets": (
        (0.012, ("delete", "deleted")),
        (0.02, ("rehydrate", "tweet_edited")),
        (0.008, ("scrub_geo", "geo_scrubbed")),
        (0.004, ("delete", "bounced")),
        (0.006, ("delete", "suspended")),
    ),
    "users": (
        (0.006, ("delete", "suspended")),
        (0.004, ("delete", "protected")),
        (0.003, ("delete", "deactivated")),
        (0.008, ("scrub_geo", "geo_scrubbed")),
    ),
}
#: What may pass, and how likely that is in a day.
PASSING = {"suspended": 0.25, "protected": 0.25, "deactivated": 0.15, "tweet_edited": 0.5}

_MARK = re.compile(rb"~[0-9a-f]+~")


def marks_in(content: bytes) -> set[bytes]:
    """Return the marks in a text; no two texts of the world have the same."""
    return set(_MARK.findall(content))


@dataclass
class X:
    """What X knows: what became of which post and user."""

    random: Random
    said: dict[tuple[str, int], Kind] = field(default_factory=dict)

    def pass_day(self, ids: Mapping[str, Iterable[int]]) -> None:
        """Let things happen."""
        for key, (_, reason) in sorted(self.said.items()):
            if self.random.random() < PASSING.get(reason, 0.0):
                del self.said[key]
        for job_type, some in ids.items():
            for number in sorted(some):
                self._change(job_type, number)

    def _change(self, job_type: str, number: int) -> None:
        chance = self.random.random()
        for likely, kind in CHANGES[job_type]:
            chance -= likely
            if chance < 0:
                self.said.setdefault((job_type, number), kind)
                return

    def answers(self, job_type: str, submitted: Iterable[int]) -> dict[tuple[str, int], Kind]:
        """Return what X says when it is asked about these."""
        asked = ((job_type, number) for number in submitted)
        controls = {key: GONE for key in CONTROLS.items() if key[0] == job_type}
        return {key: self.said[key] for key in asked if key in self.said} | controls

    def as_events(self) -> str:
        """Write all that it would say, as the stand-in takes it."""
        said = {**self.said, **dict.fromkeys(CONTROLS.items(), GONE)}
        return "".join(
            json.dumps({"id": str(number), "action": action, "reason": reason}) + "\n"
            for (_, number), (action, reason) in said.items()
        )


@dataclass
class Tombstones:
    """What X said earlier, as far as it still holds."""

    said: dict[tuple[str, int], Kind] = field(default_factory=dict)

    def renew(self, submitted: Mapping[str, Iterable[int]], answers: Mapping[tuple[str, int], Kind]) -> None:
        """Let what X says now take the place of what it said earlier."""
        for job_type, numbers in submitted.items():
            for number in numbers:
                if self.said.get((job_type, number), ("", ""))[1] in PASSING:
                    del self.said[job_type, number]
        self.said |= answers

    def may_have_passed(self, job_type: str) -> set[int]:
        """Return the ids of which somebody has to ask again, though they are gone from the archive."""
        return {
            number for (each, number), kind in self.said.items() if each == job_type and kind[1] in PASSING
        }

    def with_answers(self, answers: Mapping[tuple[str, int], Kind]) -> Events:
        """Return what is applied in a night: the answers, and removals of earlier nights."""
        events: dict[tuple[str, int], list[Kind]] = {key: [kind] for key, kind in answers.items()}
        for key, kind in self.said.items():
            if kind[0] == "delete":
                events.setdefault(key, []).append(kind)
        return events


@dataclass
class Stored:
    """
    A file of the archive.

    :param file: its name, what it holds, and its plain content
    :param packed: how it is compressed
    """

    file: File
    packed: str = ""


#: What arrives: how such a file ends, how it is compressed, and what makes it.
_Make = Callable[[Random, int, Maker, Style], File]
ARRIVALS: tuple[tuple[str, str, _Make], ...] = (
    ("v2.ndjson", "", lambda random, lines, *by: generated.ndjson(random, "v2", lines, *by)),
    ("flat.ndjson.gz", "gz", lambda random, lines, *by: generated.ndjson(random, "flattened", lines, *by)),
    ("v1.jsonl.zst", "zst", lambda random, lines, *by: generated.ndjson(random, "v1.1", lines, *by)),
    ("pages.jsonl", "", lambda random, lines, *by: generated.ndjson(random, "pages", lines, *by)),
    ("users.ndjson", "", lambda random, lines, *by: generated.ndjson(random, "users", lines, *by)),
    ("posts.csv", "", lambda random, lines, maker, _: generated.delimited(random, "csv", lines, maker)),
    ("posts.tsv.gz", "gz", lambda random, lines, maker, _: generated.delimited(random, "tsv", lines, maker)),
    ("posts.parquet", "", lambda random, lines, maker, _: generated.parquet(random, lines, maker)),
    ("ids.txt", "", lambda random, lines, maker, _: generated.id_list(random, lines, maker, "tweet_ids")),
)
#: How these files have to be described to the operators.
SHAPES = {"*.txt": "tweet_ids"}
COLUMNS = {"*": {"id": TABLE.id, "author": TABLE.author, "geo": list(TABLE.geo)}}


@dataclass
class Producer:
    """Whoever writes to the archive: new files every day, and more lines at the end of old ones."""

    random: Random
    marks: Iterator[int] = field(default_factory=count)
    posts: list[int] = field(default_factory=list)

    def arrivals(self, night: int, files: int, lines: int, gone: Iterable[int]) -> Iterator[Stored]:
        """
        Make the files of a day.

        :param gone: posts that were removed, some of which come back
        """
        new = [FIRST_POST + night * 10**12 + self.random.randrange(10**12) for _ in range(files * lines // 2)]
        back = self.random.sample(sorted(gone), min(4, len(list(gone))))
        maker = self._maker([*new, *new, *back, *self._some_old(files * lines // 12), *EDGES])
        self.posts += new
        for name, packed, make in self._chosen(files):
            style = Style(self.random, blanks=self.random.choice((0.0, 0.05)), ascii_only=True)
            file = make(self.random, lines, maker, style)
            yield Stored(File(f"{night:02}/{name}", file.content, file.shape, file.table), packed)

    def more_lines(self, stored: Stored) -> bytes:
        """Make lines for the end of a file."""
        maker = self._maker(self._some_old(30) or list(EDGES))
        _, _, make = next(each for each in ARRIVALS if stored.file.name.endswith(each[0]))
        made = make(self.random, 3, maker, Style(self.random)).content
        lines = made.split(b"\n", 1)[1] if stored.file.table else made
        return lines if stored.file.content.endswith(b"\n") or not stored.file.content else b"\n" + lines

    def may_append_to(self, stored: Stored) -> bool:
        """Whether lines can simply be added at the end."""
        return stored.file.name.endswith((".ndjson", ".jsonl", ".gz", ".zst")) and not stored.file.table

    def _chosen(self, files: int) -> list[tuple[str, str, _Make]]:
        return list(ARRIVALS) if files >= len(ARRIVALS) else self.random.sample(ARRIVALS, files)

    def _some_old(self, number: int) -> list[int]:
        return self.random.sample(self.posts, min(number, len(self.posts)))

    def _maker(self, posts: list[int]) -> Maker:
        return Maker(self.random, posts, USERS, tags=lambda: f"~{next(self.marks):x}~")
