"""A worker that applies events dies, at every instant at which it changes a file, and another one goes on."""

import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from airflow_provider_xcompliance.archive.event_sets import EventSet
from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.records import Decision
from airflow_provider_xcompliance.catalogue import Archive
from airflow_provider_xcompliance.redaction import Redaction, Report

EVENTS = EventSet(
    {
        ("tweets", Decision(Effect.REMOVE, "delete/deleted")): np.array([10, 40]),
        ("tweets", Decision(Effect.FETCH_AGAIN, "rehydrate/tweet_edited")): np.array([20]),
        ("users", Decision(Effect.REMOVE, "delete/suspended")): np.array([7]),
    }
)
FILES = {
    "a.ndjson": '{"id":"10","text":"x"}\n{"id":"20","text":"y"}\n{"id":"30","text":"z"}\n',
    "deep/b.jsonl": '{"id":"40","author_id":"6"}\n{broken\n{"id":"50","author_id":"7"}\n',
    "d.ndjson": '{"id":"70","text":"nothing of it meets an event"}\n',
}
#: What the interpreter tells of before files change, or begin to.
INSTANTS = {"open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}


def apply(root: Path) -> Report:
    place = f"{root}/"
    archive = Archive(
        sources=[place],
        client=None,
        root=place,
        state=f"{place}_xcompliance",
        state_client=None,
    )
    # As the plan of the night has it, to which what comes into quarantine meanwhile does not belong.
    return Redaction(archive=archive, events=EVENTS, key="night").apply(f"{root}/{name}" for name in FILES)


def apply_until(root: Path, instant: int) -> bool:
    """Apply in a child that is killed at the instant of this number; whether there was none."""
    child = os.fork()
    if not child:
        left = instant

        def count(event: str, arguments: tuple) -> None:
            nonlocal left
            if event in INSTANTS and not (event == "open" and arguments[1] == "r"):
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            apply(root)
        except BaseException:  # noqa: BLE001 - it may not come back into the test
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code == 0


def contents(root: Path) -> dict[str, bytes]:
    """The archive and its quarantine, without parts that nobody takes for files."""
    paths = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    return {
        str(path): (root / path).read_bytes()
        for path in paths
        if path.parts[:2] == ("_xcompliance", "quarantine") or path.parts[0] != "_xcompliance"
        if not path.name.startswith(".")
    }


@pytest.fixture
def fresh(tmp_path):
    """Return a function that makes the archive anew."""

    def make() -> Path:
        root = tmp_path / "archive"
        shutil.rmtree(root, ignore_errors=True)
        for name, content in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
            # The name of what is in quarantine depends on it.
            os.utime(root / name, (0, 0))
        return root

    return make


def by_name(files: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out the key of the night in the quarantine: it tells which version of a file was read."""
    return {
        name.replace(name.split("/")[2], "key") if name.startswith("_") else name: content
        for name, content in files.items()
    }


def test_whoever_goes_on_ends_in_the_same_bytes(fresh):
    before = contents(fresh())
    root = fresh()
    report = apply(root).to_dict() | {"seconds": 0, "bytes": 0}
    after = by_name(contents(root))
    assert set(after) == {*FILES, "_xcompliance/quarantine/key/a.ndjson"}

    instant, ended = 0, False
    while not ended:
        instant += 1
        root = fresh()
        ended = apply_until(root, instant)

        between = {name: content for name, content in contents(root).items() if name in FILES}
        assert all(content in (before[name], after[name]) for name, content in between.items())
        again = apply(root).to_dict() | {"seconds": 0, "bytes": 0}
        assert by_name(contents(root)) == after
        assert ended or again == report

    # Enough of them to be sure that they were counted.
    assert instant > 30
