"""
A second process that reads blocks of lines beside this one.

No thread would help: reading makes Python's objects, which Python lets one thread make at a time. Nor is it a
child by ``multiprocessing``, which a worker that is such a child itself may not have.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Self

from airflow_provider_xcompliance.archive.ndjson_blocks import Block, BlockReader, Found

log = logging.getLogger(__name__)

# To read less takes no longer than to start.
_WORTH_STARTING_BYTES = 16 << 20
# One block is read while another waits.
_SLOTS = 2
# A block with longer lines is larger, and is not given away.
_SLOT_BYTES = (1 << 20) + mmap.PAGESIZE

_NEVER = sys.maxsize
_GONE = (EOFError, BrokenPipeError, ConnectionResetError)


class HelperError(RuntimeError):
    """The second process ended in the middle of its work."""


class Helper:
    """
    The second process; it starts once there is much to read, if there is a second processor.

    :param worth_starting: how many bytes are much
    """

    def __init__(self, worth_starting: int = _WORTH_STARTING_BYTES) -> None:
        self._left = worth_starting if _processors() > 1 else _NEVER
        self._process: _Process | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.end()

    def take(self, block: Block, shape: str | None) -> Promise | None:
        """
        Read a block meanwhile; None if there is no time for it now.

        :raises HelperError: if it was killed
        """
        self._left -= block.size
        if self._left > 0 or block.end > _SLOT_BYTES:
            return None
        try:
            self._process = self._process or _Process()
            return self._process.take(block, shape)
        except _CannotStartError as error:
            log.warning("no second process helps to read: %s", error)
            self._left = _NEVER
            return None


class Promise:
    """What a block holds, some time."""

    def __init__(self, process: _Process) -> None:
        self._process = process
        self.found: Found | None = None

    @property
    def is_kept(self) -> bool:
        """Whether nobody has to wait for it."""
        self._process.receive_all()
        return self.found is not None

    def wait(self) -> Found:
        """
        Return what the block holds.

        :raises HelperError: if the process that reads it was killed
        """
        while self.found is None:
            self._process.receive()
        return self.found


class _CannotStartError(Exception):
    """It ended before it had begun, or did not even start."""


class _Process:
    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        with theirs, tempfile.TemporaryFile() as file:
            file.truncate(_SLOTS * _SLOT_BYTES)
            self._slots = mmap.mmap(file.fileno(), 0)
            inherited = theirs.fileno(), file.fileno()
            try:
                self._child = subprocess.Popen(  # noqa: S603 - this module
                    [sys.executable, "-P", "-m", __name__, *map(str, inherited)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=inherited,
                )
            except OSError as error:
                raise _CannotStartError(error) from None
        self._is_ready = False
        self._given = 0
        self._promises: deque[Promise] = deque()

    def take(self, block: Block, shape: str | None) -> Promise | None:
        self.receive_all()
        if len(self._promises) == _SLOTS or not self._gets_ready():
            return None
        slot = self._given % _SLOTS * _SLOT_BYTES
        with memoryview(block.buffer) as content:
            self._slots[slot : slot + block.end] = content[: block.end]
        try:
            self._pipe.send((slot, block.start, block.end, shape))
        except _GONE:
            raise self._gone() from None
        self._given += 1
        self._promises.append(Promise(self))
        return self._promises[-1]

    def receive_all(self) -> None:
        """Receive what is there."""
        while self._promises and self._pipe.poll():
            self.receive()

    def receive(self) -> None:
        """Wait for the oldest promise to be kept."""
        try:
            self._promises[0].found = self._pipe.recv()
        except _GONE:
            raise self._gone() from None
        self._promises.popleft()

    def end(self) -> None:
        # It has nothing to tidy up.
        self._child.kill()
        self._child.wait()
        self._pipe.close()
        self._slots.close()

    def _gets_ready(self) -> bool:
        # Its first word is that it is; until then nothing waits for it.
        if not self._is_ready and self._pipe.poll():
            try:
                self._is_ready = self._pipe.recv()
            except _GONE:
                raise _CannotStartError(f"it ended with exit code {self._child.wait()}") from None
        return self._is_ready

    def _gone(self) -> HelperError:
        return HelperError(
            f"the process that helps to read ended with exit code {self._child.wait()}; -9 is what it ends "
            "with where there is too little memory"
        )


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _help(pipe: Connection, slots: mmap.mmap) -> None:
    """Read what comes, until whoever sends it is gone."""
    readers: dict[str | None, BlockReader] = {}
    buffer = bytearray(_SLOT_BYTES)
    copy, content = memoryview(buffer), memoryview(slots)
    pipe.send(True)
    while True:
        slot, start, end, shape = pipe.recv()
        copy[:end] = content[slot : slot + end]
        reader = readers.setdefault(shape, BlockReader(shape))
        pipe.send(reader.read(Block(0, buffer, start, end, end)))


if __name__ == "__main__":
    # Whoever is interrupted together with it ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(*_GONE):
        _help(Connection(int(sys.argv[1])), mmap.mmap(int(sys.argv[2]), 0))
