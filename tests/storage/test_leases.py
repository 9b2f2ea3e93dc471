"""A local file is replaced while a producer is at work on it."""

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.storage import ChangedError, StorageError, leases, replace, stat
from tests.storage.helpers import spool

#: Each time it is told to, appends numbered lines a little later, opening the file for each, and counts them.
APPENDER = """
import random, sys
path, number = sys.argv[1], 0
random.seed(4)
print("ready", flush=True)
for _ in sys.stdin:
    for _ in range(random.randrange(400_000)):
        pass
    for _ in range(5):
        with open(path, "ab") as file:
            file.write(b"new %d\\n" % number)
        number += 1
    print(number, flush=True)
"""

#: Opens a file for appending when it is told to, writes, and closes it or keeps it until it is told to end.
OPENER = """
import sys
path, keeps = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
file = open(path, "ab", buffering=0)
print("open", flush=True)
file.write(b"late\\n")
if keeps == "closes":
    file.close()
print("written", flush=True)
sys.stdin.readline()
"""


@contextmanager
def producer(code: str, *arguments: str) -> Iterator[Any]:
    """Run a producer that is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def tell(process: Any) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    path.write_bytes(b"old 1\nold 2\n")
    return path


def test_who_appends_while_it_is_replaced_loses_nothing(path: Path) -> None:
    expected = [b"old 1\n", b"old 2\n"]

    def remove_the_first_line(while_at_it: Callable[[], None]) -> None:
        version, content = stat(str(path)).version, path.read_bytes()
        while_at_it()
        first, *kept = content.splitlines(keepends=True)
        with contextlib.suppress(ChangedError):
            replace(spool(path.parent, b"".join(kept)), str(path), None, version)
            expected.remove(first)

    with producer(APPENDER, str(path)) as process:
        for _ in range(60):
            remove_the_first_line(lambda: tell(process))
            done = int(process.stdout.readline())
            expected += [b"new %d\n" % number for number in range(done - 5, done)]
            assert sorted(path.read_bytes().splitlines(keepends=True)) == sorted(expected)

    before = len(expected)
    remove_the_first_line(lambda: None)
    assert sorted(path.read_bytes().splitlines(keepends=True)) == sorted(expected)
    assert len(expected) == before - 1


def test_a_file_that_is_kept_open_for_writing_is_left_alone(
    path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_PATIENCE_SECONDS", 0.05)
    with path.open("ab"), pytest.raises(ChangedError, match="another process has it open for writing"):
        replace(source, str(path), None, stat(str(path)).version)

    assert path.read_bytes() == b"old 1\nold 2\n"


def test_who_reads_the_file_does_not_matter(path: Path, source: Path) -> None:
    with path.open("rb") as reader:
        replace(source, str(path), None, stat(str(path)).version)
        assert reader.read() == b"old 1\nold 2\n"


def test_a_file_that_is_closed_in_time_is_replaced(
    path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, handle, pause = stat(str(path)).version, path.open("ab"), leases.time.sleep

    def close_meanwhile(seconds: float) -> None:
        handle.close()
        pause(seconds)

    monkeypatch.setattr(leases.time, "sleep", close_meanwhile)

    replace(source, str(path), None, version)

    assert path.read_bytes() == source.read_bytes()


@contextmanager
def opening_right_before_the_replacement(
    path: Path, monkeypatch: pytest.MonkeyPatch, keeps: str
) -> Iterator[Any]:
    """
    Let a producer find the old file while nobody may open it, and write to it afterwards.

    The lease tells when it has found it: it is no longer that of a reader, but about to be broken.
    """
    lease, rename, handles = leases._lease, Path.replace, []

    def lease_and_note(handle: int) -> bool:
        handles.append(handle)
        return lease(handle)

    def rename_later(part: Path, target: Path) -> Path:
        tell(process)
        while fcntl.fcntl(handles[-1], fcntl.F_GETLEASE) != fcntl.F_UNLCK:
            os.sched_yield()
        return rename(part, target)

    with producer(OPENER, str(path), keeps) as process:
        monkeypatch.setattr(leases, "_lease", lease_and_note)
        monkeypatch.setattr(Path, "replace", rename_later)
        yield process


def test_what_is_appended_to_the_old_file_is_taken_over(
    path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = stat(str(path)).version

    with opening_right_before_the_replacement(path, monkeypatch, "closes"):
        found = replace(source, str(path), None, version)

    assert path.read_bytes() == source.read_bytes() + b"late\n"
    # What was taken over has been seen by nobody yet: the file is found changed.
    assert found.bytes == len(source.read_bytes())
    assert found.version != stat(str(path)).version


def test_who_does_not_close_the_old_file_is_reported(
    path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = stat(str(path)).version
    monkeypatch.setattr(leases, "_PATIENCE_SECONDS", 1.0)

    with (
        opening_right_before_the_replacement(path, monkeypatch, "keeps"),
        pytest.raises(
            StorageError, match="it is done, but another process had just opened the old file"
        ) as caught,
    ):
        replace(source, str(path), None, version)

    assert not isinstance(caught.value, ChangedError)
    assert path.read_bytes() == source.read_bytes() + b"late\n"


def test_where_there_are_no_leases_a_file_is_replaced_too(
    path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, rename, old = fcntl.fcntl, Path.replace, path.open("ab")

    def refuse(handle: int, command: int, *arguments: Any) -> Any:
        if command == fcntl.F_SETLEASE:
            raise OSError(22, "Invalid argument")
        return control(handle, command, *arguments)

    def append_and_rename(part: Path, target: Path) -> Path:
        with old:
            old.write(b"late\n")
        return rename(part, target)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(Path, "replace", append_and_rename)

    replace(source, str(path), None, stat(str(path)).version)

    assert path.read_bytes() == source.read_bytes() + b"late\n"


def test_a_lease_does_not_end_the_process_when_others_wait_for_it(path: Path, tmp_path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    waiting = threading.Thread(target=lambda: path.open("ab").close())
    try:
        with leases.held_still(handle, "it"):
            waiting.start()
            while fcntl.fcntl(handle, fcntl.F_GETLEASE) != fcntl.F_UNLCK:
                os.sched_yield()
        waiting.join(10)
        assert not waiting.is_alive()
    finally:
        os.close(handle)
