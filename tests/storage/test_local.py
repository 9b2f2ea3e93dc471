import errno
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_provider_xcompliance.storage import DestinationExistsError, Digest, StorageError, land
from tests.storage.helpers import SMALL, put


def listing(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let writing fail past so many bytes of a file, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_file_lands_readable_by_its_owner_alone(tmp_path: Path, source: Path, form: str) -> None:
    target = tmp_path / "new" / "directory" / "events"

    assert put(source, form.format(target)) is True

    assert target.read_bytes() == SMALL
    assert target.stat().st_mode & 0o777 == 0o600
    assert listing(target.parent) == ["events"]


@pytest.mark.parametrize("name", ["x" * 255, "job:1", "a b?c#d", "events.gz"])
def test_any_name_will_do(tmp_path: Path, source: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert put(source, name)
    assert (tmp_path / name).read_bytes() == SMALL


def test_a_tilde_is_the_home_directory(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    put(source, "~/events")

    assert (tmp_path / "events").read_bytes() == SMALL


@pytest.mark.parametrize("replace", [False, True])
def test_the_same_content_is_not_written_again(tmp_path: Path, source: Path, replace: bool) -> None:
    target = tmp_path / "events"
    put(source, str(target))
    before = target.stat()

    assert put(source, str(target), replace=replace) is False
    assert target.stat() == before


def test_other_content_is_replaced_only_when_asked(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "events"
    target.write_bytes(b"other")

    with pytest.raises(DestinationExistsError, match="exists with other content"):
        put(source, str(target))
    assert target.read_bytes() == b"other"

    assert put(source, str(target), replace=True) is True
    assert target.read_bytes() == SMALL
    assert listing(tmp_path) == ["events", "spool"]


@pytest.mark.parametrize("content", [SMALL, b"other", None])
def test_a_link_is_not_followed(tmp_path: Path, source: Path, content: bytes | None) -> None:
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "events"
    target.symlink_to(elsewhere)
    if content is not None:
        elsewhere.write_bytes(content)

    with pytest.raises(DestinationExistsError):
        put(source, str(target))
    assert put(source, str(target), replace=True) is True

    assert not target.is_symlink()
    assert target.read_bytes() == SMALL
    assert (elsewhere.read_bytes() if elsewhere.exists() else None) == content


@pytest.mark.parametrize("replace", [False, True])
def test_a_directory_is_not_replaced(tmp_path: Path, source: Path, replace: bool) -> None:
    (tmp_path / "events").mkdir()

    with pytest.raises(StorageError):
        put(source, str(tmp_path / "events"), replace=replace)

    assert listing(tmp_path) == ["events", "spool"]


def test_a_pipe_does_not_block(tmp_path: Path, source: Path) -> None:
    os.mkfifo(tmp_path / "events")

    with pytest.raises(DestinationExistsError):
        put(source, str(tmp_path / "events"))


@pytest.mark.parametrize("replace", [False, True])
def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path, source: Path, replace: bool) -> None:
    target = tmp_path / "events"
    if replace:
        target.write_bytes(b"other")
    before = listing(tmp_path)

    with largest_file(len(SMALL) // 2), pytest.raises(StorageError) as caught:
        put(source, str(target), replace=replace)

    assert str(caught.value) == f"cannot write {target}: File too large"
    assert listing(tmp_path) == before
    assert not replace or target.read_bytes() == b"other"


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_failure_before_the_commit_leaves_nothing(
    tmp_path: Path, source: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)

    with pytest.raises(StorageError, match="No space left on device"):
        put(source, str(tmp_path / "events"))

    assert listing(tmp_path) == ["spool"]


def test_a_file_that_appears_in_the_meantime_is_not_overwritten(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "events"
    monkeypatch.setattr(os, "fsync", lambda _: target.write_bytes(b"other"))

    with pytest.raises(DestinationExistsError):
        put(source, str(target))

    assert target.read_bytes() == b"other"


def test_the_same_file_appearing_in_the_meantime_is_success(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "events"
    monkeypatch.setattr(os, "fsync", lambda _: target.write_bytes(SMALL))

    assert put(source, str(target)) is False


def test_a_store_that_holds_something_else_afterwards_is_found_out(tmp_path: Path, source: Path) -> None:
    with pytest.raises(StorageError, match="does not hold what was written to it"):
        land(source, Digest(3, "0" * 64), str(tmp_path / "events"))


def test_what_a_killed_landing_left_is_removed_when_it_is_old(tmp_path: Path, source: Path) -> None:
    old, recent, foreign = (
        tmp_path / name for name in (".xcompliance-a.part", ".xcompliance-b.part", ".other.part")
    )
    for path in (old, recent, foreign):
        path.touch()
    for path in (old, foreign):
        os.utime(path, (0, 0))

    put(source, str(tmp_path / "events"))

    assert [path.exists() for path in (old, recent, foreign)] == [False, True, True]


def test_a_link_in_place_of_the_part_is_not_followed(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / ".xcompliance-guessed.part").symlink_to(elsewhere)
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: iter(["guessed", "other"]))

    assert put(source, str(tmp_path / "events")) is True

    assert not elsewhere.exists()
    assert (tmp_path / "events").read_bytes() == SMALL
    assert (tmp_path / "events").stat().st_mode & 0o777 == 0o600


def test_a_file_in_place_of_the_directory_is_said(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=r"file/events: Not a directory$"):
        put(source, str(tmp_path / "file" / "events"))


def test_a_part_that_cannot_be_removed_fails_no_landing(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "unlink", fail)

    assert put(source, str(tmp_path / "events")) is True
