"""Local scratch space for what is on its way: seen by nobody else, and gone with whoever made it."""

from __future__ import annotations

import errno
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

#: What writing to a file that is open already fails with, and then names none.
_DISK_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


@contextmanager
def spool_directory() -> Iterator[Path]:
    """
    Make a directory in ``TMPDIR``, or where the system keeps such files, and remove it at the end.

    What fails at another file while it is in use is told by the name of that file.

    :raises StorageError: if its disk fails or is full, or a file that is not in it cannot be used
    """
    directory: Path | None = None
    try:
        _remove_orphans()
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, _held(Path(name, _LOCK)):
            directory = Path(name)
            yield directory
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if directory and not _is_about(directory, error):
            if error.filename is None:
                raise
            raise StorageError(f"cannot use {os.fsdecode(error.filename)!r}: {reason}") from error
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


def _is_about(directory: Path, error: OSError) -> bool:
    """Whether an error of whoever uses a spool is one of the spool's own disk."""
    if error.filename is None:
        return error.errno in _DISK_FAILURES
    names = (error.filename, error.filename2 or error.filename)
    return any(Path(os.fsdecode(name)).is_relative_to(directory) for name in names)


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
