"""Kill -9 of the worker at every point of the protocol, and what a user sees of it: nothing."""

import hashlib
import json
import os
import re
import signal
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance import storage
from airflow_provider_xcompliance.emulator.server import EmulatorServer
from tests.reliability.worker import (
    STYLES,
    DagRun,
    End,
    Spot,
    destination_of,
    manifest_of,
    source_of,
    wait_until,
    whole_job,
    write_ids,
)

pytestmark = pytest.mark.row("kill -9")

BEARER_TOKEN = "canary-bearer-3f9d1c"
BOTH = ("current", "legacy")
#: What each wire asks of X; the resumable upload is the legacy flow's.
WIRES: Mapping[str, dict[str, Any]] = {
    "current": {"flow": "current"},
    "legacy": {"flow": "legacy"},
    "resumable": {"flow": "legacy"},
}
#: A byte that only an undisturbed run can tell.
LAST = -1

CLIENT = "airflow_provider_xcompliance.api.client:XComplianceClient"
TRANSFER = "airflow_provider_xcompliance.transfer"
LAND = "airflow_provider_xcompliance.storage:land"
RETURN = "tests.reliability.worker:hand_over"


@dataclass(frozen=True)
class Point:
    """
    Where a worker dies.

    :param task: the task that it runs
    :param by: what kills it: a fault of the stand-in, or the worker itself
    :param leaves: what stands at the destination then: ``events``, ``manifest``; ``part``: a part of one
    """

    task: str
    name: str
    by: dict[str, Any] | Spot
    leaves: str = ""
    wires: tuple[str, ...] = BOTH
    quick: bool = False

    @property
    def title(self) -> str:
        return f"{self.task}: {self.name}"


def _asked(task: str, endpoint: str, nth: int = 1, **more: Any) -> tuple[Point, ...]:
    """Before a request has its effect, and after it, when only the answer is missing."""
    fault = {"action": "kill", "endpoint": endpoint, "nth": nth}
    which = f"{endpoint} {nth}" if nth > 1 else endpoint
    return (
        Point(task, f"{which} before", fault, **more),
        Point(task, f"{which} after", {**fault, "after_effect": True}, **more),
    )


def _answered(task: str, endpoint: str, at: int, nth: int = 1, **more: Any) -> Point:
    """In the middle of an answer."""
    fault = {"action": "kill", "endpoint": endpoint, "nth": nth, "at": at}
    where = "the last byte" if at == LAST else f"byte {at}"
    return Point(task, f"{endpoint} {nth} answered up to {where}", fault, **more)


def _sent(task: str, endpoint: str, at: int, **more: Any) -> Point:
    """In the middle of the body of a request."""
    fault = {"action": "cut_upload", "endpoint": endpoint, "at": at}
    return Point(
        task, f"{endpoint} sent up to {'the last byte' if at == LAST else f'byte {at}'}", fault, **more
    )


def _creation(task: str) -> Iterator[Point]:
    yield from _asked(task, "list")
    yield _answered(task, "list", 9)
    yield from _asked(task, "create", quick=task == "run")
    yield _answered(task, "create", 40)


def _upload(task: str) -> Iterator[Point]:
    yield Point(task, "ids read", Spot(f"{TRANSFER}:drop_repeated", "before"))
    yield Point(task, "upload about to begin", Spot(f"{CLIENT}.upload", "before"))
    yield from _asked(task, "upload", quick=task == "upload")
    for at in (0, 7777, LAST):
        yield _sent(task, "upload", at, quick=task == "run" and at == 7777)
    yield _answered(task, "upload", 10, wires=("current",))
    yield Point(task, "upload answered", Spot(f"{CLIENT}.upload", "after"))


def _resumable_upload(task: str) -> Iterator[Point]:
    wires = ("resumable",)
    yield from _asked(task, "resumable_start", wires=wires)
    yield from _asked(task, "resumable_put", wires=wires)
    for at in (7777, LAST):
        yield _sent(task, "resumable_put", at, wires=wires)


def _status(task: str) -> Iterator[Point]:
    yield from _asked(task, "get")
    yield _answered(task, "get", 60)


def _download(task: str) -> Iterator[Point]:
    yield from _asked(task, "download")
    for at in (0, 4321, LAST):
        yield _answered(task, "download", at, quick=task == "run" and at == 4321)
    yield Point(task, "download whole", Spot(f"{CLIENT}.download", "after"))


def _landing(task: str, commit: str, linked: str, manifest: int) -> Iterator[Point]:
    """
    Within the landing of the events and of the manifest.

    :param commit: what puts the events in their place
    :param linked: what is left after it
    :param manifest: which call of ``os.replace`` puts the manifest in its place
    """
    steps: tuple[tuple[str, Spot, str], ...] = (
        ("events verified", Spot(LAND, "before"), ""),
        ("part of the events begun", Spot("tempfile:mkstemp", "after"), "part"),
        ("part of the events half written", Spot("shutil:copyfileobj", "halfway"), "part"),
        ("part of the events not on disk", Spot("os:fsync", "before"), "part"),
        ("events not in place", Spot(commit, "before"), "part"),
        ("events in place", Spot(commit, "after"), linked),
        ("directory of the events not on disk", Spot("os:fsync", "before", 2), "events"),
        ("events landed", Spot(LAND, "after"), "events"),
        ("part of the manifest begun", Spot("tempfile:mkstemp", "after", 2), "events part"),
        ("part of the manifest half written", Spot("shutil:copyfileobj", "halfway", 2), "events part"),
        ("part of the manifest on disk", Spot("os:fsync", "after", 3), "events part"),
        ("manifest not in place", Spot("os:replace", "before", manifest), "events part"),
        ("manifest in place", Spot("os:replace", "after", manifest), "events manifest"),
        ("manifest landed", Spot(LAND, "after", 2), "events manifest"),
        ("result not told", Spot(RETURN, "before"), "events manifest"),
    )
    for name, spot, leaves in steps:
        yield Point(task, name, spot, leaves, quick=task == "run" and name == "events landed")


RUN_JOB = (
    *_creation("run"),
    *_upload("run"),
    *_resumable_upload("run"),
    *_status("run"),
    *_asked("run", "get", 2),
    *_download("run"),
    *_landing("run", "os:replace", "events", 2),
)
FOUR_STEPS = (
    *_creation("create"),
    Point("create", "id not told", Spot(RETURN, "before")),
    *_asked("upload", "get"),
    Point("upload", "record not landed", Spot(LAND, "before")),
    Point("upload", "record half written", Spot("shutil:copyfileobj", "halfway"), "part"),
    Point("upload", "record in place", Spot("os:replace", "after")),
    *_upload("upload"),
    *_resumable_upload("upload"),
    Point("upload", "receipt not told", Spot(RETURN, "before")),
    *_status("status"),
    Point("status", "status not told", Spot(RETURN, "before")),
    *_asked("download", "get"),
    *_download("download"),
    *_landing("download", "os:link", "events part", 1),
)
#: All points, by how the job is run, and by what they are called.
POINTS = {
    style: {point.title: point for point in points}
    for style, points in (("RunJob", RUN_JOB), ("four steps", FOUR_STEPS))
}
CELLS = [
    pytest.param(
        style,
        wire,
        point,
        id=f"{style}, {wire}, {point.title}",
        marks=[pytest.mark.quick] if point.quick else [],
    )
    for style, points in POINTS.items()
    for point in points.values()
    for wire in point.wires
]


#: Points that follow one another, each of which kills a worker of the same run.
ALL_ALONG: Mapping[str, tuple[str, ...]] = {
    "RunJob": (
        "run: list after",
        "run: create after",
        "run: upload sent up to byte 7777",
        "run: upload after",
        "run: download 1 answered up to byte 4321",
        "run: part of the events half written",
        "run: events landed",
        "run: manifest landed",
        "run: result not told",
    ),
    "four steps": (
        "create: create after",
        "create: id not told",
        "upload: record half written",
        "upload: upload sent up to byte 7777",
        "upload: upload after",
        "upload: receipt not told",
        "status: status not told",
        "download: download 1 answered up to byte 4321",
        "download: events in place",
        "download: manifest not in place",
        "download: result not told",
    ),
}
#: A result that a later job of the same ids does not give.
STALE = (
    b'{"id":"1300000000000000000","action":"delete","created_at":"2022-09-01T00:00:00Z","reason":"deleted"}\n'
)


def _after(**span: float) -> Callable[[Any, str], None]:
    return lambda world, _: world.x.advance(timedelta(**span).total_seconds())


def _failed(world: Any, job_id: str) -> None:
    world.x.set_job(job_id, "failed", "an error of X's own")
    world.x.configure(processing_seconds=0)


def _stale(world: Any, job_id: str) -> None:
    world.x.set_result(job_id, STALE)
    world.x.advance(6 * 3600)


@dataclass(frozen=True)
class Lapse:
    """
    Why a second job is needed.

    :param point: where the first run dies
    :param meanwhile: what happens before the next one
    :param first: how the first job ends
    :param settings: of X, while the first run lives
    :param options: of the operator that creates the job
    :param cancels: how many requests to cancel a job there are
    :param says: what the task that cannot go on says, before its run is cleared
    """

    name: str
    style: str
    point: str
    meanwhile: Callable[[Any, str], None]
    first: str
    wires: tuple[str, ...] = BOTH
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    cancels: int = 0
    says: str | None = None


HELD = {"processing_seconds": 3600}
LAPSES = (
    Lapse("the window is over", "RunJob", "run: create after", _after(minutes=16), "expired"),
    Lapse("the window is over", "four steps", "create: create after", _after(minutes=16), "expired"),
    Lapse("the window is over in the upload", "RunJob", "run: upload before", _after(minutes=16), "expired"),
    Lapse(
        "the window is over in the upload",
        "four steps",
        "upload: upload before",
        _after(minutes=16),
        "expired",
        says="AirflowFailException: upload to job .* the 15 minutes for it ended",
    ),
    Lapse(
        "the window is nearly over",
        "RunJob",
        "run: create after",
        _after(minutes=13),
        "failed",
        wires=("current",),
        cancels=1,
    ),
    Lapse(
        "the window is nearly over",
        "four steps",
        "create: create after",
        _after(minutes=13),
        "failed",
        wires=("current",),
        cancels=1,
    ),
    Lapse("X failed", "RunJob", "run: get before", _failed, "failed", settings=HELD),
    Lapse(
        "X failed",
        "four steps",
        "status: get before",
        _failed,
        "failed",
        settings=HELD,
        says="AirflowFailException: job .* failed at X",
    ),
    Lapse("the result is too old", "RunJob", "run: upload after", _stale, "complete"),
    Lapse(
        "the result that was being fetched is too old", "RunJob", "run: download before", _stale, "complete"
    ),
    Lapse("what landed is too old", "RunJob", "run: result not told", _stale, "complete"),
    Lapse(
        "the result is gone",
        "RunJob",
        "run: download before",
        _after(days=8),
        "complete",
        options={"reuse_within": 30 * 24 * 3600},
    ),
)


class Reader(threading.Thread):
    """Looks at manifest and events every 5 ms, and remembers each different sight."""

    def __init__(self, directory: Path) -> None:
        super().__init__(name="reader", daemon=True)
        self._paths = (manifest_of(directory), destination_of(directory))
        self._over = threading.Event()
        self.sights: set[tuple[bytes | None, ...]] = set()
        self.looks = 0

    def look(self) -> None:
        # The manifest first: once it is there, so are the events.
        self.sights.add(tuple(_read(path) for path in self._paths))
        self.looks += 1

    def run(self) -> None:
        while not self._over.wait(0.005):
            self.look()

    def __enter__(self) -> "Reader":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        self.look()

    def assert_nothing_partial(self, *wholes: bytes) -> None:
        """Each sight was: nothing; events, whole; or both, which belong together."""
        for manifest, events in self.sights:
            assert events is None or events in wholes
            if manifest is not None:
                assert events is not None
                assert json.loads(manifest)["sha256"] == hashlib.sha256(events).hexdigest()


def _read(path: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return None


@dataclass
class Undisturbed:
    """What comes of a run that nothing happens to."""

    events: bytes
    manifest: dict[str, Any]
    sizes: dict[str, int]


@dataclass
class World:
    """X, and where a run is at work."""

    x: EmulatorServer
    directory: Path
    environ: dict[str, str]

    def dag_run(self, style: str, wire: str = "current", **options: Any) -> DagRun:
        self.x.configure(**WIRES[wire])
        tasks = STYLES[style](self.directory, resumable=wire == "resumable" or None, **options)
        return DagRun(tasks, self.directory, self.environ)

    def strike(self, run: DagRun, point: Point, sizes: Mapping[str, int]) -> End:
        """Run the tasks up to the one that dies at a point."""
        names = [task.task_id for task in run.tasks]
        number = names.index(point.task)
        before, struck = [task for task in run.tasks[:number] if task in run.todo], run.tasks[number]
        if before:
            assert run.run(*before).error is None
        worker = run.start(struck, spot=point.by if isinstance(point.by, Spot) else None)
        if not isinstance(point.by, Spot):
            fault = dict(point.by)
            if fault.get("at") == LAST:
                fault["at"] = sizes[fault["endpoint"]] - 1
            self.x.add_fault(pid=worker.pid, **fault)
        worker.go()
        end = run.finish(worker)
        self.x.clear_faults()
        return end

    def count(self, endpoint: str) -> int:
        """Tell how many requests there were."""
        return len(self.x.requests(endpoint))

    def jobs(self) -> list[tuple[str, str]]:
        """Tell ids and statuses of all jobs, the oldest first."""
        return [(job["id"], job["status"]) for job in reversed(self.x.jobs())]

    def standing(self) -> set[str]:
        """Tell what stands at the destination, in the words of :class:`Point`."""
        found = {
            "events": destination_of(self.directory).exists(),
            "manifest": manifest_of(self.directory).exists(),
            "part": bool(self.parts()),
        }
        return {word for word, is_there in found.items() if is_there}

    def parts(self) -> list[Path]:
        return [path for path in self.directory.rglob(".*.part") if path.is_file()]

    def landed(self) -> tuple[bytes, dict[str, Any]]:
        events, manifest = destination_of(self.directory), manifest_of(self.directory)
        assert {stat.S_IMODE(path.stat().st_mode) for path in (events, manifest)} == {0o600}
        return events.read_bytes(), json.loads(manifest.read_bytes())

    def identity(self) -> list[tuple[int, ...]]:
        """Return what changes when a landed file is written again, even with the same content."""
        stats = [path(self.directory).stat() for path in (destination_of, manifest_of)]
        return [(found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size) for found in stats]


@pytest.fixture
def world(emulator: EmulatorServer, tmp_path: Path) -> World:
    return _world(emulator, tmp_path / "run")


def _world(emulator: EmulatorServer, directory: Path, **extra: Any) -> World:
    emulator.configure(event_rate=0.5, rate_limit=100_000)
    write_ids(directory)
    connection = {
        "conn_type": "xcompliance",
        "host": emulator.url,
        "password": BEARER_TOKEN,
        "extra": {"owner": "our deployment", **extra},
    }
    return World(emulator, directory, {"AIRFLOW_CONN_XCOMPLIANCE_DEFAULT": json.dumps(connection)})


@pytest.fixture(scope="module")
def _known() -> dict[tuple[str, str], Undisturbed]:
    return {}


@pytest.fixture
def undisturbed(
    world: World, tmp_path: Path, _known: dict[tuple[str, str], Undisturbed]
) -> Callable[[str, str], Undisturbed]:
    """Return a function that tells what comes of a run that nothing happens to."""

    def look_up(style: str, wire: str) -> Undisturbed:
        if (style, wire) not in _known:
            other = _world(world.x, tmp_path / "undisturbed")
            other.dag_run(style, wire).complete()
            events, manifest = other.landed()
            ids = source_of(other.directory).stat().st_size
            sizes = {"upload": ids, "resumable_put": ids, "download": len(events)}
            _known[style, wire] = Undisturbed(events, _lasting(manifest), sizes)
            world.x.reset()
            _world(world.x, world.directory)
        return _known[style, wire]

    return look_up


def _lasting(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what is the same whenever, and wherever to, the same ids are run."""
    kept = {key: manifest[key] for key in manifest.keys() - {"job_id", "job_created_at", "destination"}}
    return {**kept, "submitted": {**manifest["submitted"], "source": "ids"}}


@contextmanager
def nothing_sent(world: World, *but: str) -> Iterator[None]:
    """Allow no request but those to some endpoints."""
    before = len(world.x.requests())
    yield
    assert {request["endpoint"] for request in world.x.requests()[before:]} <= set(but)


def assert_nobody_else_can_read(scratch: Path) -> None:
    """What a worker spools, and leaves behind when it is killed."""
    assert {stat.S_IMODE(spool.stat().st_mode) for spool in scratch.iterdir()} <= {0o700}


def assert_like_undisturbed(world: World, whole: Undisturbed, reader: Reader) -> None:
    events, manifest = world.landed()
    assert events == whole.events
    assert _lasting(manifest) == whole.manifest
    reader.assert_nothing_partial(whole.events)


def assert_a_later_landing_removes_parts(world: World) -> None:
    """Once they are an hour old."""
    for part in world.parts():
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
        os.utime(part, (0, 0))
        storage.land(
            source_of(world.directory), storage.digest_of(str(source_of(world.directory))), f"{part.parent}/x"
        )
    assert world.parts() == []


@pytest.mark.parametrize(("style", "wire", "point"), CELLS)
def test_a_killed_worker_is_run_again_as_if_nothing_had_happened(
    world: World, undisturbed: Callable[[str, str], Undisturbed], style: str, wire: str, point: Point
) -> None:
    whole = undisturbed(style, wire)
    run = world.dag_run(style, wire)

    with Reader(world.directory) as reader:
        end = world.strike(run, point, whole.sizes)
        assert end.exitcode == -signal.SIGKILL, end
        assert_nobody_else_can_read(run.scratch)
        assert world.standing() == set(point.leaves.split())
        reader.look()
        run.complete()

    assert list(run.scratch.iterdir()) == []
    assert [status for _, status in world.jobs()] == ["complete"]
    assert world.count("cancel") == 0
    assert_like_undisturbed(world, whole, reader)

    before, run.xcom = world.identity(), {key: run.xcom[key] for key in run.xcom.keys() & {"create"}}
    # A DownloadOperator that is run again compares what stands there with what X has.
    with nothing_sent(world, "get", *(["download"] if style == "four steps" else [])):
        run.complete()
    assert world.identity() == before
    assert_a_later_landing_removes_parts(world)


@pytest.mark.parametrize("wire", BOTH)
@pytest.mark.parametrize("style", STYLES)
def test_a_run_that_is_killed_again_and_again_comes_to_the_same_end(
    world: World, undisturbed: Callable[[str, str], Undisturbed], style: str, wire: str
) -> None:
    whole = undisturbed(style, wire)
    run = world.dag_run(style, wire)

    with Reader(world.directory) as reader:
        for title in ALL_ALONG[style]:
            assert world.strike(run, POINTS[style][title], whole.sizes).exitcode == -signal.SIGKILL, title
            reader.look()
        run.complete()

    assert [status for _, status in world.jobs()] == ["complete"]
    assert_like_undisturbed(world, whole, reader)


@pytest.mark.parametrize(
    ("lapse", "wire"),
    [
        pytest.param(lapse, wire, id=f"{lapse.name}, {lapse.style}, {wire}")
        for lapse in LAPSES
        for wire in lapse.wires
    ],
)
def test_a_second_job_is_created_where_the_first_cannot_be_used_and_its_result_alone_lands(
    world: World, undisturbed: Callable[[str, str], Undisturbed], lapse: Lapse, wire: str
) -> None:
    whole = undisturbed(lapse.style, wire)
    run = world.dag_run(lapse.style, wire, **lapse.options)
    world.x.configure(**lapse.settings)

    with Reader(world.directory) as reader:
        end = world.strike(run, POINTS[lapse.style][lapse.point], whole.sizes)
        assert end.exitcode == -signal.SIGKILL, end
        ((first, _),) = world.jobs()
        lapse.meanwhile(world, first)
        if lapse.says:
            assert re.match(lapse.says, str(run.run(*run.todo).error))
            assert world.standing() == set()
            run.xcom.clear()
        run.complete()

    (_, of_first), (second, of_second) = world.jobs()
    assert (of_first, of_second) == (lapse.first, "complete")
    assert world.landed()[1]["job_id"] == second
    assert world.count("cancel") == lapse.cancels
    assert_like_undisturbed(world, whole, reader)


@pytest.mark.parametrize("style", STYLES)
def test_a_legacy_job_whose_window_is_nearly_over_is_waited_out(
    world: World, undisturbed: Callable[[str, str], Undisturbed], style: str
) -> None:
    whole = undisturbed(style, "legacy")
    run = world.dag_run(style, "legacy")
    end = world.strike(run, POINTS[style][f"{run.tasks[0].task_id}: create after"], whole.sizes)
    assert end.exitcode == -signal.SIGKILL
    ((first, _),) = world.jobs()
    world.x.advance(13 * 60)

    with Reader(world.directory) as reader:
        worker = run.start(*run.todo)
        worker.go()
        wait_until(lambda: world.count("get") > 2)
        assert world.jobs() == [(first, "created")]
        world.x.advance(3 * 60)
        end = run.finish(worker)

    assert not run.todo, end
    assert re.search(rf"job {first} .* is created and in the way; waiting for its end", end.log)
    assert [status for _, status in world.jobs()] == ["expired", "complete"]
    assert world.landed()[1]["job_id"] == world.jobs()[1][0]
    assert_like_undisturbed(world, whole, reader)


@pytest.mark.parametrize("wire", BOTH)
def test_a_job_that_fails_while_it_is_waited_for_fails_the_try_and_the_next_one_creates_another(
    world: World, undisturbed: Callable[[str, str], Undisturbed], wire: str
) -> None:
    whole = undisturbed("RunJob", wire)
    run = world.dag_run("RunJob", wire)
    world.x.configure(**HELD)
    worker = run.start(*run.todo)
    worker.go()
    wait_until(lambda: world.count("get") > 2)
    ((first, _),) = world.jobs()
    _failed(world, first)

    end = run.finish(worker)
    assert re.match(rf"JobFailedError: job {first} \(tweets\) failed at X \(an error of X's own\)", end.error)
    assert len(world.jobs()) == 1

    with Reader(world.directory) as reader:
        run.complete()
    assert [status for _, status in world.jobs()] == ["failed", "complete"]
    assert_like_undisturbed(world, whole, reader)


#: Where an upload dies once X has all ids, or has none of them.
ACCEPTED = {
    "upload: upload after": True,
    "upload: upload answered": True,
    "upload: receipt not told": True,
    "upload: record not landed": False,
    "upload: upload before": False,
    "upload: upload sent up to the last byte": False,
}


@pytest.mark.parametrize("wire", BOTH)
@pytest.mark.parametrize(("title", "is_accepted"), ACCEPTED.items(), ids=list(ACCEPTED))
def test_an_upload_that_is_run_again_says_whether_an_earlier_try_had_sent_the_ids(
    world: World, wire: str, title: str, is_accepted: bool
) -> None:
    run = world.dag_run("four steps", wire)
    sizes = {"upload": source_of(world.directory).stat().st_size}
    assert world.strike(run, POINTS["four steps"][title], sizes).exitcode == -signal.SIGKILL
    puts = world.count("upload")

    run.complete()

    assert run.xcom["upload"]["already_accepted"] is is_accepted
    assert world.count("upload") == (puts if is_accepted else puts + 1)


def _other_ids(directory: Path) -> None:
    write_ids(directory, first=1_400_000_000_000_000_000)


def _no_record(directory: Path) -> None:
    Path(f"{source_of(directory)}.upload.json").unlink()


@pytest.mark.parametrize("wire", BOTH)
@pytest.mark.parametrize(
    ("meanwhile", "says"),
    [(_other_ids, "other ids"), (_no_record, "ids that no record tells of")],
    ids=["other ids in the file", "record gone"],
)
def test_an_upload_that_is_run_again_fails_at_once_if_it_cannot_know_that_the_ids_are_the_same(
    world: World, wire: str, meanwhile: Callable[[Path], None], says: str
) -> None:
    run = world.dag_run("four steps", wire)
    assert world.strike(run, POINTS["four steps"]["upload: upload after"], {}).exitcode == -signal.SIGKILL
    meanwhile(world.directory)

    end = run.run(*run.todo)

    assert re.match(f"AirflowFailException: upload to job .* the job was given {says}", end.error)
    assert world.standing() == set()


#: A worker that is told to end, as it is when its pod is evicted, and is about to upload.
TOLD_BEFORE_UPLOAD = Spot(f"{CLIENT}.upload", "before", signal=signal.SIGTERM)


@pytest.mark.parametrize("wire", BOTH)
@pytest.mark.parametrize("is_killed", [True, False], ids=["killed then", "left alone then"])
def test_sigterm_cancels_a_job_that_has_no_ids_where_that_can_be_done(
    world: World, undisturbed: Callable[[str, str], Undisturbed], wire: str, is_killed: bool
) -> None:
    whole = undisturbed("RunJob", wire)
    run = world.dag_run("RunJob", wire)
    worker = run.start(*run.todo, spot=TOLD_BEFORE_UPLOAD)
    if is_killed:
        world.x.add_fault("kill", endpoint="upload", pid=worker.pid)
    worker.go()
    end = run.finish(worker)
    world.x.clear_faults()

    can_cancel = wire == "current"
    assert world.count("cancel") == 1
    if is_killed:
        assert end.exitcode == -signal.SIGKILL
        assert [status for _, status in world.jobs()] == ["failed" if can_cancel else "created"]
    elif can_cancel:
        assert re.match("JobFailedError: job .* or was cancelled", end.error)
    else:
        assert not run.todo

    with Reader(world.directory) as reader:
        run.xcom.clear()
        run.complete()
    assert [status for _, status in world.jobs()] == (["failed"] if can_cancel else []) + ["complete"]
    assert world.landed()[1]["job_id"] == world.jobs()[-1][0]
    assert_like_undisturbed(world, whole, reader)


@pytest.mark.parametrize("wire", BOTH)
def test_sigterm_leaves_a_job_alone_that_has_its_ids(
    world: World, undisturbed: Callable[[str, str], Undisturbed], wire: str
) -> None:
    whole = undisturbed("RunJob", wire)
    run = world.dag_run("RunJob", wire)
    world.x.configure(**HELD)
    worker = run.start(*run.todo)
    worker.go()
    wait_until(lambda: world.count("get") > 2)
    asked = world.count("get")
    worker.signal(signal.SIGTERM)
    wait_until(lambda: world.count("get") > asked + 2)
    worker.signal(signal.SIGKILL)
    assert run.finish(worker).exitcode == -signal.SIGKILL
    assert [status for _, status in world.jobs()] == ["in_progress"]
    world.x.advance(3600)

    with Reader(world.directory) as reader:
        run.complete()
    assert [status for _, status in world.jobs()] == ["complete"]
    assert world.count("cancel") == 0
    assert_like_undisturbed(world, whole, reader)


@pytest.mark.parametrize("wire", BOTH)
def test_sigterm_in_the_middle_of_the_landing_changes_nothing(
    world: World, undisturbed: Callable[[str, str], Undisturbed], wire: str
) -> None:
    whole = undisturbed("RunJob", wire)
    run = world.dag_run("RunJob", wire)
    with Reader(world.directory) as reader:
        run.run(*run.todo, spot=Spot("os:replace", "before", signal=signal.SIGTERM))
    assert not run.todo
    assert world.count("cancel") == 0
    assert_like_undisturbed(world, whole, reader)


def test_sigterm_cancels_nothing_if_it_may_not(world: World) -> None:
    run = world.dag_run("RunJob", cancel_on_kill=False)
    run.run(*run.todo, spot=TOLD_BEFORE_UPLOAD)
    assert not run.todo
    assert world.count("cancel") == 0


def test_a_task_that_is_told_to_end_when_it_has_just_created_its_job_fails_the_upload_with_the_reason(
    world: World, undisturbed: Callable[[str, str], Undisturbed]
) -> None:
    whole = undisturbed("four steps", "current")
    run = world.dag_run("four steps")
    run.run(run.tasks[0], spot=Spot(RETURN, "before", signal=signal.SIGTERM))
    assert [status for _, status in world.jobs()] == ["failed"]

    end = run.run(*run.todo)
    assert re.match("AirflowFailException: job .* or was cancelled; create a new job", end.error)
    assert world.count("upload") == 0

    run.xcom.clear()
    with Reader(world.directory) as reader:
        run.complete()
    assert world.landed()[1]["job_id"] == world.jobs()[-1][0]
    assert_like_undisturbed(world, whole, reader)


#: What a killed worker has spooled by then, and where.
SPOOLED = (
    ("ids", "RunJob", "run: upload about to begin"),
    ("events", "RunJob", "run: events verified"),
    ("manifest", "RunJob", "run: manifest not in place"),
    ("record", "four steps", "upload: record in place"),
)


@pytest.mark.parametrize(
    ("name", "style", "title"),
    SPOOLED,
    ids=[spooled[0] for spooled in SPOOLED],
)
def test_what_a_killed_worker_spooled_is_its_users_alone_and_goes_with_the_next_run(
    world: World, undisturbed: Callable[[str, str], Undisturbed], name: str, style: str, title: str
) -> None:
    whole = undisturbed(style, "current")
    run = world.dag_run(style)
    assert world.strike(run, POINTS[style][title], whole.sizes).exitcode == -signal.SIGKILL
    (left,) = run.scratch.glob(f"*/{name}")
    assert left.stat().st_size > 0
    assert stat.S_IMODE(left.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(left.stat().st_mode) == 0o600

    run.complete()
    assert list(run.scratch.iterdir()) == []


def test_a_worker_that_is_killed_when_it_has_just_made_its_spool_leaves_nothing_for_ever(
    world: World,
) -> None:
    run = world.dag_run("RunJob")
    end = run.run(*run.todo, spot=Spot("tempfile:mkdtemp", "after"))
    assert end.exitcode == -signal.SIGKILL
    (left,) = run.scratch.iterdir()
    os.utime(left, (0, 0))
    run.complete()
    assert list(run.scratch.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["xcompliance-emulator-a1b2c3", "xcompliance-airflow-a1b2c3", "xcompliance-backup"]
)
def test_what_only_looks_like_the_spool_of_a_killed_worker_is_left_alone(world: World, name: str) -> None:
    run = world.dag_run("RunJob")
    mine = run.scratch / name / "mine"
    mine.parent.mkdir()
    mine.write_text("still needed")
    for path in (mine, mine.parent):
        os.utime(path, (0, 0))
    run.complete()
    assert mine.read_text() == "still needed"


def test_a_worker_that_is_about_to_lock_its_spool_loses_it_to_no_other(world: World) -> None:
    run = world.dag_run("RunJob")
    slow = run.start(*run.todo, spot=Spot("fcntl:flock", "before", signal=signal.SIGSTOP))
    slow.go()
    wait_until(lambda: Path(f"/proc/{slow.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    elsewhere = world.directory / "elsewhere"
    write_ids(elsewhere)
    environ = {**world.environ, "TMPDIR": str(run.scratch)}
    DagRun(whole_job(elsewhere, "users"), elsewhere, environ).complete()
    slow.signal(signal.SIGCONT)
    end = run.finish(slow)
    assert not run.todo, end


#: Where a run of three parts dies.
IN_A_LIST: Mapping[str, dict[str, Any] | Spot] = {
    "before the first job": {"action": "kill", "endpoint": "create"},
    "after the second creation": {"action": "kill", "endpoint": "create", "nth": 2, "after_effect": True},
    "in the second upload": {"action": "cut_upload", "endpoint": "upload", "nth": 2, "at": 3333},
    "in the second download": {"action": "kill", "endpoint": "download", "nth": 2, "at": 4321},
    "between the second events and their manifest": Spot(LAND, "after", 3),
    "before the last manifest": Spot(LAND, "before", 6),
}


@pytest.mark.parametrize("wire", BOTH)
@pytest.mark.parametrize("by", IN_A_LIST.values(), ids=list(IN_A_LIST))
def test_a_list_of_files_goes_on_at_the_part_at_which_it_was_killed(
    world: World, wire: str, by: dict[str, Any] | Spot
) -> None:
    ids = source_of(world.directory).read_text().splitlines(keepends=True)
    sources = [world.directory / f"ids-{number}" for number in range(3)]
    for number, source in enumerate(sources):
        source.write_text("".join(ids[number::3] * 2))
    out = world.directory / "out"
    run = world.dag_run("RunJob", wire, source=[str(source) for source in sources], destination=str(out))
    world.x.configure(event_rate=1)

    end = world.strike(run, Point("run", "in a list", by), {})
    assert end.exitcode == -signal.SIGKILL
    run.complete()

    assert [status for _, status in world.jobs()] == ["complete"] * 3
    for number, (job_id, _) in enumerate(world.jobs()):
        events = (out / f"part-{number + 1:04}.ndjson").read_text().splitlines()
        assert {json.loads(line)["id"] for line in events if line} == {
            line.strip() for line in ids[number::3]
        }
        assert (
            json.loads((out / f"part-{number + 1:04}.ndjson.manifest.json").read_text())["job_id"] == job_id
        )

    run.xcom.clear()
    with nothing_sent(world, "get"):
        run.complete()


@pytest.mark.parametrize("wire", BOTH)
def test_a_reader_of_a_large_result_sees_no_part_of_it(
    world: World, wire: str, record_property: Callable[[str, str], None]
) -> None:
    write_ids(world.directory, 30_000)
    world.x.configure(event_rate=1)
    run = world.dag_run("RunJob", wire)
    halfway = POINTS["RunJob"]["run: part of the events half written"]

    with Reader(world.directory) as reader:
        assert world.strike(run, halfway, {}).exitcode == -signal.SIGKILL
        assert world.standing() == {"part"}
        reader.look()
        run.complete()

    events, manifest = world.landed()
    assert manifest["events"] == 30_000
    reader.assert_nothing_partial(events)
    record_property(
        "reader beside a large landing", f"{reader.looks} looks, {len(events) >> 20} MiB, 0 parts"
    )
