"""
Nobody writes to a local file while it is replaced, and what somebody writes at that moment is taken over.

Linux tells by a lease whether anybody has a file open for writing, and lets whoever opens it for that wait
while the lease is held. Whoever waited then gets the file that was found before, although its name leads to
another by now: hence the taking over. Where there are no leases (NFS, other systems, files of others without
CAP_LEASE), a moment's patience is all that is left, and a process that keeps the file open is not seen.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from airflow_provider_xcompliance.storage.errors import ChangedError

# A producer that opens the file for each of its records has closed it long before.
_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.01

# Between finding a file and having it open, a process spends microseconds; but it may be held up there.
_QUIET_LOOKS = 2

# Who writes a file anew does not write the same there again, unless it only appends in that way.
_TAIL_BYTES = 4096


class End(NamedTuple):
    """
    What tells whether a file was only appended to since.

    :param size: of the file
    :param tail: its last bytes
    """

    size: int
    tail: bytes


@contextmanager
def held_still(handle: int, what: str) -> Iterator[None]:
    """
    Let nobody else open a file for writing, or replace it in this way.

    :param handle: of the file, open for reading alone; what it locks is freed as it is closed
    :param what: what fails if it fails
    :raises ChangedError: if another process has it open for writing
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not (_lock(handle) and _lease(handle)):
        if time.monotonic() > deadline:
            raise ChangedError(
                f"{what}: another process has it open for writing; let it close the file, or leave it out"
            )
        time.sleep(_PAUSE_SECONDS)
    try:
        yield
    finally:
        _release(handle)


def is_awaited(handle: int) -> bool:
    """Whether somebody waits to write to a file that is held still."""
    return not _lease(handle)


def end_of(handle: int, size: int) -> End:
    """Return the end of a file that has, or had, so many bytes."""
    start = max(0, size - _TAIL_BYTES)
    return End(size, os.pread(handle, size - start, start))


def is_let_go(handle: int) -> bool:
    """
    Wait until nobody has a file open for writing; return whether that came in time.

    :param handle: of a file that has just lost its name to another; open for reading alone
    """
    deadline, quiet_looks = time.monotonic() + _PATIENCE_SECONDS, 0
    while quiet_looks < _QUIET_LOOKS and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
        quiet_looks = quiet_looks + 1 if _lease(handle) else 0
        _release(handle)
    return quiet_looks >= _QUIET_LOOKS


def carry_over(handle: int, end: End, to: int) -> bool:
    """
    Append to a file what others appended to the one that it replaced.

    :param handle: of the replaced file, open for reading alone
    :param end: which it had when it was replaced
    :param to: of the file in its place
    :return: whether they only appended; if not, nothing is done
    """
    if end_of(handle, end.size) != end:
        return False
    # All at once and at the end, wherever that is by now: others append to the new file already.
    if rest := os.pread(handle, max(0, os.fstat(handle).st_size - end.size), end.size):
        fcntl.fcntl(to, fcntl.F_SETFL, os.O_APPEND)
        with open(to, "ab", closefd=False) as file:
            file.write(rest)
        os.fsync(to)
    return True


def _lock(handle: int) -> bool:
    """Lock a file against others that replace it in this way; True too if it cannot be locked at all."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _lease(handle: int) -> bool:
    """Take a lease, unless somebody has the file open for writing; True too if that cannot be told."""
    try:
        # The usual signal to the holder of a lease would end this process; this one is ignored by default.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return False
    except (AttributeError, OSError):
        return True
    return True


def _release(handle: int) -> None:
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
