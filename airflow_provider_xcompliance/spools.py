"""Local scratch space for what is on its way: seen by nobody else, and gone with whoever made it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from airflow_provider_xcompliance.storage import StorageError

_PREFIX, _LOCK = "xcompliance-spool-", "lock"

# Making a directory and locking it takes milliseconds.
_LOCKED_WITHIN_SECONDS = 3600.0

# Where nobody can say how much will come.
_LEAVE_FREE_BYTES = 256 << 20


@contextmanager
def spool_directory() -> Iterator[Path]:
    """
    Make a directory in ``TMPDIR``, or where the system keeps such files, and remove it at the end.

    :raises StorageError: if the disk fails or is full
    """
    try:
        _remove_orphans()
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, _held(Path(name, _LOCK)):
            yield Path(name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(
            f"cannot spool in {tempfile.gettempdir()}: {reason}; free space there, or set TMPDIR"
        ) from None


def spool_file(directory: Path, name: str) -> Path:
    """Make an empty file that nobody else can read."""
    path = directory / name
    path.touch(mode=0o600, exist_ok=False)
    return path


def require_room(directory: Path, to_come: int | None) -> None:
    """
    Refuse what will not fit, instead of filling the disk first.

    :param to_come: how many bytes; None if that is not known
    :raises StorageError: if there is less room
    """
    free = shutil.disk_usage(directory).free
    if free < (_LEAVE_FREE_BYTES if to_come is None else to_come):
        what = "a result of unknown length does" if to_come is None else f"{to_come:,} bytes do"
        raise StorageError(
            f"{what} not fit into {tempfile.gettempdir()}, which has {free:,} bytes left; free space there, "
            "or set TMPDIR"
        )


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold a lock that the system takes away from a process that is killed."""
    # Under its own name only once it is held: till then, it would look like that of an orphan.
    unheld = lock.with_suffix(".new")
    with unheld.open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        unheld.rename(lock)
        yield


def _remove_orphans() -> None:
    """Remove what killed processes of this user left: ids and events are nothing to leave lying about."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Another process may be removing it too.
        with suppress(OSError):
            if directory.lstat().st_uid == os.getuid():
                _remove_orphan(directory)


def _remove_orphan(directory: Path) -> None:
    lock = directory / _LOCK
    if not lock.exists():
        # Killed before it had one; or just made, and about to have one.
        if directory.lstat().st_mtime < time.time() - _LOCKED_WITHIN_SECONDS:
            shutil.rmtree(directory)
        return
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory)
