"""Night after night, with kills and other writers: the archive is what the oracle says, and nothing leaks."""

import gzip
import io
import json
import logging
import os
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from random import Random
from signal import SIGKILL
from typing import Any

import pytest
import zstandard

from airflow_provider_xcompliance.emulator.server import EmulatorServer
from tests.archive import oracle
from tests.archive.agreement import compare_content, hold, judge, quarantined_in
from tests.archive.generated import File
from tests.archive.oracle import Rules
from tests.nights import worker
from tests.nights.worker import CONN_ID, Addition, Call, pack
from tests.nights.world import (
    COLUMNS,
    CONTROLS,
    JOB_TYPES,
    SHAPES,
    Producer,
    Stored,
    Tombstones,
    X,
    marks_in,
)
from tests.reliability.worker import Spot
from tests.servers.versioned_s3 import VersionedS3, versioned_s3

#: How many nights: the ordinary tests take a few.
NIGHTS = int(os.environ.get("NIGHTS", "4"))
SEED = int(os.environ.get("SEED", "20261122"))

DAY = 86_400.0
FIRST_FILES, FILES_A_NIGHT, LINES = 9, 2, 18
JOBS_PER_RUN = 2
IDS_PER_JOB = 40
#: How often a night's worker is killed at most.
KILLS = 3

STORAGE = "airflow_provider_xcompliance.storage"
CLIENT = "airflow_provider_xcompliance.api.client:XComplianceClient"
#: Where a worker may be killed, and how often it comes there in a night.
SPOTS = (
    *((f"{STORAGE}:replace", when, 8) for when in ("before", "after")),
    *((f"{STORAGE}:purge_old_versions", when, 8) for when in ("before", "after")),
    *((f"{STORAGE}:land", when, 20) for when in ("before", "after")),
    *((f"{STORAGE}.s3:put", when, 20) for when in ("before", "after")),
    (f"{STORAGE}:checksum_of", "before", 8),
    (f"{STORAGE}:stat", "after", 30),
    ("airflow_provider_xcompliance.redaction:Redaction._rewrite", "after", 8),
    ("airflow_provider_xcompliance.archive.index:IndexWriter.finish", "before", 6),
    *((f"{CLIENT}.upload", when, 4) for when in ("before", "after")),
    *((f"{CLIENT}.download", when, 4) for when in ("before", "after")),
    ("shutil:copyfileobj", "halfway", 20),
    ("tests.nights.worker:tell", "before", 12),
)


log = logging.getLogger(__name__)


@dataclass
class Tally:
    """
    What happened over all nights.

    :param additions: how often somebody wrote to a file in the moment before it was replaced
    :param due: files of ids, each for one job
    :param came_back: removed posts that a backfill brought again
    :param oldest_check: for how many nights an id was unchecked, at most
    :param versions: of objects that the store holds, old ones too
    """

    kills: int = 0
    additions: int = 0
    jobs: int = 0
    due: int = 0
    removed: int = 0
    quarantined: int = 0
    scrubbed: int = 0
    came_back: int = 0
    oldest_check: int = 0
    versions: int = 0


@dataclass
class Rounds:
    """
    How long an id waits at most until X is asked about it again.

    :param ranges: how many there were, night by night
    :param begun: how many had begun to be until then
    """

    ranges: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    _beginnings: set[int] = field(default_factory=set)

    def add(self, beginnings: set[int]) -> None:
        """Let a night pass; a range is told by its first id."""
        self.ranges.append(len(beginnings))
        self.begun.append(len(beginnings - self._beginnings) + (self.begun[-1] if self.begun else 0))
        self._beginnings = beginnings

    def promised(self, since: int) -> int:
        """Return how many nights it takes to ask about all ranges that were there then or came since."""
        then = max(since, 1) - 1
        return ceil((self.ranges[then] + self.begun[-1] - self.begun[then]) / JOBS_PER_RUN)


@dataclass
class Simulation:
    """
    The nights of an archive.

    :param files: what the archive holds, by name; what is in the quarantine too
    """

    emulator: EmulatorServer
    store: VersionedS3
    directory: Path
    random: Random = field(default_factory=lambda: Random(SEED))
    files: dict[str, Stored] = field(default_factory=dict)
    tombstones: Tombstones = field(default_factory=Tombstones)
    tally: Tally = field(default_factory=Tally)
    night: int = 0

    def __post_init__(self) -> None:
        self.x, self.producer = X(self.random), Producer(self.random)
        self.bucket, self.s3 = self.store.bucket(), self.store.client()
        self.scratch, self.logs = self.directory / "scratch", self.directory / "logs"
        for directory in (self.scratch, self.logs):
            directory.mkdir()
        self._marks_of_version: dict[str, set[bytes]] = {}
        self._marks: set[bytes] = set()
        self._since: dict[tuple[str, int], int] = {}
        self._rounds = {job_type: Rounds() for job_type in JOB_TYPES}
        connections = {
            "AIRFLOW_CONN_XCOMPLIANCE_DEFAULT": {
                "conn_type": "xcompliance",
                "host": self.emulator.url,
                "password": self.emulator.bearer_token,
            },
            f"AIRFLOW_CONN_{CONN_ID.upper()}": self.store.connection(),
        }
        self._environ = {
            **{name: json.dumps(values) for name, values in connections.items()},
            "TMPDIR": str(self.scratch),
        }

    def pass_night(self) -> None:
        """Let a day and a night pass, and assert that all is right after it."""
        self._pass_day()
        before = dict(self.files)
        additions = {self._uri(name): name for name in self._appended_tonight()}
        extra = {name: self.producer.more_lines(self.files[name]) for name in additions.values()}
        done, added = self._run(
            tuple(Addition(uri, extra[name], self.files[name].packed) for uri, name in additions.items())
        )
        for uri in added:
            name = additions[uri]
            before[name] = _longer(before[name], extra[name])
        self.tally.additions += len(added)
        submitted = {job_type: self._submitted(done, job_type) for job_type in JOB_TYPES}
        self._assert_checked_in_time(submitted, done)
        self._assert_archive(before, self._events(submitted), done)
        self._assert_nothing_leaks()
        self._assert_jobs(done)
        log.info("night %s: %s", self.night, vars(self.tally))

    # What happens

    def _pass_day(self) -> None:
        self.night += 1
        self.emulator.advance(DAY)
        gone = {
            number
            for (job_type, number), kind in self.tombstones.said.items()
            if kind[0] == "delete" and job_type == "tweets"
        }
        for stored in self.producer.arrivals(
            self.night, FILES_A_NIGHT if self.night > 1 else FIRST_FILES, LINES, gone
        ):
            self.tally.came_back += len(hold(stored.file).posts & gone)
            self._put(stored)
        for name in self._some(self._appendable(), 2):
            self._put(_longer(self.files[name], self.producer.more_lines(self.files[name])))
        self.x.pass_day({job_type: self._held(job_type) for job_type in JOB_TYPES})
        self.emulator.set_events(self.x.as_events())

    def _appendable(self) -> list[str]:
        return sorted(
            name
            for name, stored in self.files.items()
            if self.producer.may_append_to(stored) and not name.startswith("_")
        )

    def _appended_tonight(self) -> list[str]:
        return self._some(self._appendable(), 12)

    def _some(self, names: list[str], number: int) -> list[str]:
        return self.random.sample(names, min(number, len(names)))

    def _put(self, stored: Stored) -> None:
        self.files[stored.file.name] = stored
        self._marks |= marks_of(stored.file)
        body = pack(stored.file.content, stored.packed)
        self.s3.put_object(Bucket=self.bucket, Key=f"archive/{stored.file.name}", Body=body)

    def _run(self, additions: tuple[Addition, ...]) -> tuple[dict[str, Any], set[str]]:
        """Do the night's tasks, with as many tries as it takes."""
        # Of its own, so that the world is the same whatever is killed.
        random = Random(f"{SEED} {self.night}")
        done: dict[str, Any] = {}
        added: set[str] = set()
        for number in range(KILLS + 1):
            end = worker.run(
                Call(
                    run_id=f"night {self.night}",
                    done=done,
                    place={
                        "source": self._uri(""),
                        "source_conn_id": CONN_ID,
                        "shapes": SHAPES,
                        "columns": COLUMNS,
                    },
                    events=f"s3://{self.bucket}/events/{self.night:02}",
                    ahead=self.night * DAY,
                    options=OPTIONS,
                    additions=tuple(addition for addition in additions if addition.uri not in added),
                    environ=self._environ,
                    log=self.logs / f"{self.night:02}-{number}.log",
                    spot=_spot(random) if number < KILLS else None,
                )
            )
            done, added = end.done, added | end.added
            assert end.error is None, end.error
            if not end.exitcode:
                return done, added
            assert end.exitcode == -SIGKILL
            self.tally.kills += 1
        raise AssertionError("the worker died without being killed")

    def _uri(self, name: str) -> str:
        return f"s3://{self.bucket}/archive/{name}"

    def _submitted(self, done: dict[str, Any], job_type: str) -> set[int]:
        lines = [line for uri in done[f"extract_{job_type}"] for line in self._read_uri(uri).split()]
        assert len(lines) == len(set(lines))
        return {int(line) for line in lines}

    def _read_uri(self, uri: str) -> bytes:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def _events(self, submitted: dict[str, set[int]]) -> oracle.Events:
        answers = {}
        for job_type, numbers in submitted.items():
            answers |= self.x.answers(job_type, numbers)
        self.tombstones.renew(submitted, answers)
        return self.tombstones.with_answers(answers)

    def _held(self, job_type: str) -> set[int]:
        held = [hold(stored.file) for stored in self.files.values()]
        return set().union(*(each.posts if job_type == "tweets" else each.users for each in held))

    # What must be

    def _assert_archive(self, before: dict[str, Stored], events: oracle.Events, done: dict[str, Any]) -> None:
        keys = set(self._keys("archive/"))
        quarantined: dict[str, set[str]] = defaultdict(set)
        after: dict[str, Stored] = {}
        total: Counter[str] = Counter()
        for name, stored in before.items():
            is_aside = name.startswith("_")
            wanted = judge(stored.file, Rules(events, quarantine=not is_aside))
            content = unpack(self._read_uri(self._uri(name)), stored.packed)
            try:
                compare_content(stored.file, content, wanted)
            except Exception as error:
                error.add_note(f"night {self.night}, {name}")
                raise
            after[name] = Stored(replace(stored.file, content=content), stored.packed)
            quarantined[name] |= set(map(canonical, wanted.quarantined))
            total += Counter(
                removed=wanted.removed,
                scrubbed=wanted.scrubbed,
                stripped=wanted.stripped,
                quarantined=len(wanted.quarantined),
            )
            self._marks |= marks_of(stored.file)
        report = done["record"]["done"]
        assert {key: report[key] for key in ("removed", "scrubbed", "stripped", "quarantined")} == {
            key: total[key] for key in ("removed", "scrubbed", "stripped", "quarantined")
        }
        self._add_quarantine(before, after, quarantined, keys)
        assert {key.removeprefix("archive/") for key in keys if "/_xcompliance/" not in key} == {
            name for name in after if not name.startswith("_")
        }
        self.files = after
        self.tally.removed += total["removed"]
        self.tally.quarantined += total["quarantined"]
        self.tally.scrubbed += total["scrubbed"]

    def _add_quarantine(
        self,
        before: dict[str, Stored],
        after: dict[str, Stored],
        wanted: dict[str, set[str]],
        keys: set[str],
    ) -> None:
        """Assert that what was to go to the quarantine is there, and nothing else."""
        found: dict[str, set[str]] = defaultdict(set)
        for key in sorted(keys):
            name = key.removeprefix("archive/")
            if name.startswith("_xcompliance/quarantine/") and name not in before:
                origin = name.split("/", 3)[3]
                stored = before[origin]
                content = unpack(self._read_uri(self._uri(name)), stored.packed)
                found[origin] |= set(map(canonical, quarantined_in(stored.file, content)))
                after[name] = Stored(replace(stored.file, name=name, content=content), stored.packed)
        assert {name: records for name, records in wanted.items() if records} == found

    def _assert_checked_in_time(self, submitted: dict[str, set[int]], done: dict[str, Any]) -> None:
        for job_type in JOB_TYPES:
            report = done[f"extract_{job_type}.report"]
            rounds = self._rounds[job_type]
            rounds.add(self._beginnings_of_ranges(job_type))
            assert len(done[f"extract_{job_type}"]) == min(JOBS_PER_RUN, report["ranges"])
            held = self._held(job_type)
            asked = held | self.tombstones.may_have_passed(job_type)
            assert submitted[job_type] <= asked
            assert report["ids"] == len(asked)
            for number in held:
                key = (job_type, number)
                since = self._since.setdefault(key, self.night - 1)
                assert self.night - since <= rounds.promised(since), (key, since, self.night)
                self.tally.oldest_check = max(self.tally.oldest_check, self.night - since)
                if number in submitted[job_type]:
                    self._since[key] = self.night
            for key in [key for key in self._since if key[0] == job_type and key[1] not in held]:
                del self._since[key]
            age = int(report["oldest_check_age_seconds"] // DAY)
            assert age <= rounds.promised(self.night - age)

    def _beginnings_of_ranges(self, job_type: str) -> set[int]:
        (key,) = [key for key in self._keys("archive/_xcompliance/ids/") if key.endswith(f"/{job_type}.json")]
        catalogue = json.loads(self._read_uri(f"s3://{self.bucket}/{key}"))
        return {each["first"] for each in catalogue["ranges"]}

    def _assert_nothing_leaks(self) -> None:
        """Assert that the text of what was removed stands nowhere."""
        right = set().union(*(marks_of(stored.file) for stored in self.files.values()))
        gone = self._marks - right
        for where, marks in self._everywhere():
            assert not marks & gone, f"{where} still holds {sorted(marks & gone)[:5]}"

    def _everywhere(self) -> Iterator[tuple[str, set[bytes]]]:
        for directory in (self.scratch, self.logs):
            for path in directory.rglob("*"):
                if path.is_file():
                    yield str(path), marks_in(path.read_bytes())
        yield "the requests to X", marks_in(json.dumps(self.emulator.requests()).encode())
        pages = self.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket)
        versions = [version for page in pages for version in page.get("Versions", [])]
        self.tally.versions = len(versions)
        for version in versions:
            key, number = version["Key"], version["VersionId"]
            if number not in self._marks_of_version:
                body = self.s3.get_object(Bucket=self.bucket, Key=key, VersionId=number)["Body"].read()
                self._marks_of_version[number] = marks_in(readable(key, body))
            yield (
                f"{key} ({'now' if version['IsLatest'] else 'an old version'})",
                self._marks_of_version[number],
            )

    def _assert_jobs(self, done: dict[str, Any]) -> None:
        self.tally.due += sum(len(done[f"extract_{job_type}"]) for job_type in JOB_TYPES)
        self.tally.jobs = len(self.emulator.jobs())
        assert self.tally.jobs == self.tally.due

    def _keys(self, prefix: str) -> Iterator[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            for each in page.get("Contents", []):
                yield each["Key"]


OPTIONS: dict[str, dict[str, Any]] = {
    "ExtractIdsOperator": {
        "max_jobs_per_run": JOBS_PER_RUN,
        "max_ids_per_job": IDS_PER_JOB,
        "max_bad_ratio": None,
    },
    "RunJobOperator": {"poll_interval": 0.02},
    "GuardEventsOperator": {
        "max_removal_ratio": None,
        "max_change_ratio": None,
        "control_ids": {job_type: [str(number)] for job_type, number in CONTROLS.items()},
    },
    "PlanRedactionOperator": {"max_tasks": 2},
    "RedactArchiveOperator": {"purge_versions": True},
    "RecordChecksOperator": {},
}


def _longer(stored: Stored, lines: bytes) -> Stored:
    return Stored(replace(stored.file, content=stored.file.content + lines), stored.packed)


def _spot(random: Random) -> Spot:
    function, when, often = random.choice(SPOTS)
    return Spot(function, when, random.randint(1, often))


def canonical(record: Any) -> str:
    return json.dumps(record, sort_keys=True, default=repr)


def unpack(content: bytes, packed: str) -> bytes:
    if packed == "gz":
        return gzip.decompress(content)
    if packed == "zst":
        with zstandard.ZstdDecompressor().stream_reader(
            io.BytesIO(content), read_across_frames=True
        ) as plain:
            return plain.read()
    return content


def marks_of(file: File) -> set[bytes]:
    return marks_in(readable(file.name, file.content) if file.name.endswith(".parquet") else file.content)


def readable(name: str, content: bytes) -> bytes:
    """Return all text that can be had out of bytes."""
    if name.endswith(".parquet"):
        return content + repr(oracle.parquet_rows(content)).encode()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            return b"".join(map(members.read, members.namelist()))
    return unpack(content, name.rpartition(".")[2])


@pytest.fixture
def simulation(tmp_path) -> Iterator[Simulation]:
    worker.prepare()
    with EmulatorServer(bearer_token="canary-bearer-nights") as emulator, versioned_s3() as store:
        emulator.configure(rate_limit=1_000_000)
        yield Simulation(emulator, store, tmp_path)


def test_the_archive_is_what_the_oracle_says_after_every_night(simulation, record_property):
    for _ in range(NIGHTS):
        simulation.pass_night()

    for name, number in vars(simulation.tally).items():
        record_property(name, number)
    assert simulation.tally.kills >= NIGHTS // 2
    assert simulation.tally.additions
    assert simulation.tally.removed
    assert simulation.tally.quarantined
    assert simulation.tally.scrubbed
