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
from tests.storage.helpers import SMALL, spool

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

#: Opens a file in a mode when it is told to, writes, and closes it or keeps it until it is told to end.
OPENER = """
import sys
path, keeps, mode, text = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
file = open(path, mode, buffering=0)
print("open", flush=True)
file.write(text.encode())
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


def await_opening_of(handle: int) -> None:
    """Wait until somebody waits in opening a file that is leased."""
    while fcntl.fcntl(handle, fcntl.F_GETLEASE) != fcntl.F_UNLCK:
        os.sched_yield()


@contextmanager
def opening_right_before_the_replacement(
    path: Path, monkeypatch: pytest.MonkeyPatch, keeps: str, mode: str = "ab", text: str = "late\n"
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
        monkeypatch.setattr(Path, "replace", rename)
        tell(process)
        await_opening_of(handles[-1])
        return rename(part, target)

    with producer(OPENER, str(path), keeps, mode, text) as process:
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


#: What another process writes anew, beside the old content of two lines of six bytes.
ANEW = ["new 1\nnew 2\nnew 3\n", "new 1\no", "new 1\nnew 2\n", "", "x"]


@pytest.mark.parametrize("text", ANEW, ids=["longer", "shorter", "as long", "emptied", "one byte"])
def test_what_is_written_anew_into_the_old_file_gets_the_name_back(
    path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path.chmod(0o640)
    version = stat(str(path)).version

    with (
        opening_right_before_the_replacement(path, monkeypatch, "closes", "wb", text),
        pytest.raises(ChangedError, match=r"another writer is at work on it$"),
    ):
        replace(source, str(path), None, version)

    assert path.read_text() == text
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(each.name for each in path.parent.iterdir()) == ["archive", "spool"]


def test_the_old_content_written_anew_with_more_behind_it_is_appended_to(
    path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, text = stat(str(path)).version, "old 1\nold 2\nlate\n"

    with opening_right_before_the_replacement(path, monkeypatch, "closes", "wb", text):
        replace(source, str(path), None, version)

    assert path.read_bytes() == source.read_bytes() + b"late\n"


def test_what_others_append_while_the_name_is_given_back_is_taken_over_too(
    path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, carry_over = stat(str(path)).version, leases.carry_over

    def append_and_carry_over(*arguments: Any) -> bool:
        with path.open("ab") as file:
            file.write(b"meanwhile\n")
        monkeypatch.setattr(leases, "carry_over", carry_over)
        return carry_over(*arguments)

    monkeypatch.setattr(leases, "carry_over", append_and_carry_over)

    with (
        opening_right_before_the_replacement(path, monkeypatch, "closes", "wb", "new\n"),
        pytest.raises(ChangedError),
    ):
        replace(source, str(path), None, version)

    assert path.read_bytes() == b"new\nmeanwhile\n"


def test_a_third_file_that_has_the_name_by_then_keeps_it(
    path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, carry_over = stat(str(path)).version, leases.carry_over

    def rename_and_carry_over(*arguments: Any) -> bool:
        third = path.with_name("third")
        third.write_bytes(b"third\n")
        third.rename(path)
        return carry_over(*arguments)

    monkeypatch.setattr(leases, "carry_over", rename_and_carry_over)

    with (
        opening_right_before_the_replacement(path, monkeypatch, "closes", "wb", "new\n"),
        pytest.raises(ChangedError),
    ):
        replace(source, str(path), None, version)

    assert path.read_bytes() == b"third\n"


@pytest.mark.parametrize(("text", "standing"), [("new\n", b"new\n"), ("", SMALL)])
def test_who_writes_the_old_file_anew_and_does_not_close_it_is_reported(
    path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, text: str, standing: bytes
) -> None:
    version = stat(str(path)).version
    monkeypatch.setattr(leases, "_PATIENCE_SECONDS", 1.0)

    with (
        opening_right_before_the_replacement(path, monkeypatch, "keeps", "wb", text),
        pytest.raises(StorageError, match=": another process had just opened the old file and") as caught,
    ):
        replace(source, str(path), None, version)

    # Retried at once it would find nothing wrong, and nobody would hear of the loss.
    assert not isinstance(caught.value, ChangedError)
    assert path.read_bytes() == standing


def test_a_file_that_somebody_waits_to_write_to_is_not_replaced(
    path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, held_still = stat(str(path)).version, leases.held_still

    @contextmanager
    def hold_until_awaited(handle: int, what: str) -> Iterator[None]:
        with held_still(handle, what):
            tell(process)
            await_opening_of(handle)
            yield

    monkeypatch.setattr(leases, "held_still", hold_until_awaited)

    inode = path.stat().st_ino
    with producer(OPENER, str(path), "keeps", "wb", "new\n") as process:
        with pytest.raises(ChangedError, match=r"another writer is at work on it$"):
            replace(source, str(path), None, version)
        assert [process.stdout.readline() for _ in range(2)] == ["open\n", "written\n"]

    assert path.read_text() == "new\n"
    assert path.stat().st_ino == inode


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
            await_opening_of(handle)
        waiting.join(10)
        assert not waiting.is_alive()
    finally:
        os.close(handle)
