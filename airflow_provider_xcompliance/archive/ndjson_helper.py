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
from functools import cache
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import IO, Self, TypeAlias

from airflow_provider_xcompliance.archive.ndjson_blocks import Block, BlockReader, Found

log = logging.getLogger(__name__)

# To read less takes no longer than to start.
_WORTH_STARTING_BYTES = 16 << 20
# One block is read while another waits.
_SLOTS = 2
# A block with longer lines is larger, and is not given away.
_SLOT_BYTES = (1 << 20) + mmap.PAGESIZE

_NEVER = sys.maxsize
# A block: where its slot begins, where it starts and ends from there on, and its shape.
_Task: TypeAlias = tuple[int, int, int, str | None]

# An answer that breaks off is an OSError.
_GONE = (EOFError, OSError)


class Helper:
    """
    The second process; it starts once there is much to read, if there is a second processor.

    Where none can start, or it is killed, nothing is lost: this one reads alone.

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
        """Read a block meanwhile; None if there is no time for it now."""
        self._left -= block.size
        if self._left > 0 or block.end > _SLOT_BYTES:
            return None
        try:
            self._process = self._process or _Process()
        except OSError as error:
            log.warning("no second process helps to read: %s", error)
            self._left = _NEVER
            return None
        return self._process.take(block, shape)


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
        """Return what the block holds."""
        while self.found is None:
            self._process.receive()
        return self.found


class _Process:
    """
    The process itself.

    :raises OSError: if it cannot start
    """

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        with theirs, tempfile.TemporaryFile() as file:
            _reserve(file, _SLOTS * _SLOT_BYTES)
            self._slots = mmap.mmap(file.fileno(), 0)
            inherited = theirs.fileno(), file.fileno()
            self._child = subprocess.Popen(  # noqa: S603 - this module
                [sys.executable, "-P", "-m", __name__, *map(str, inherited)],
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
            )
        self._is_ready = False
        self._is_gone = False
        self._given = 0
        self._promises: deque[tuple[Promise, _Task]] = deque()

    def take(self, block: Block, shape: str | None) -> Promise | None:
        self.receive_all()
        if len(self._promises) == _SLOTS or self._is_gone or not self._gets_ready():
            return None
        slot = self._given % _SLOTS * _SLOT_BYTES
        with memoryview(block.buffer) as content:
            self._slots[slot : slot + block.end] = content[: block.end]
        task = slot, block.start, block.end, shape
        try:
            self._pipe.send(task)
        except _GONE:
            self._go_on_alone()
            return None
        promise = Promise(self)
        self._promises.append((promise, task))
        self._given += 1
        return promise

    def receive_all(self) -> None:
        """Receive what is there."""
        while self._promises and self._pipe.poll():
            self.receive()

    def receive(self) -> None:
        """Wait for the oldest promise to be kept."""
        try:
            found = self._pipe.recv()
        except _GONE:
            self._go_on_alone()
            return
        promise, _ = self._promises.popleft()
        promise.found = found

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
                self._go_on_alone()
        return self._is_ready

    def _go_on_alone(self) -> None:
        """Read what it was given, which is still in the slots; it is given nothing any more."""
        log.warning(
            "no second process helps to read any more: it ended with exit code %d; -9 is what it ends with "
            "where there is too little memory",
            self._child.wait(),
        )
        self._is_gone = True
        while self._promises:
            promise, (slot, start, end, shape) = self._promises.popleft()
            buffer = bytearray(self._slots[slot : slot + end])
            promise.found = BlockReader(shape).read(Block(0, buffer, start, end, end))


def _reserve(file: IO[bytes], size: int) -> None:
    # Without room for a page of a mapped file, whoever writes to it is killed by SIGBUS.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.write(bytes(size))
        file.flush()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _help(pipe: Connection, slots: mmap.mmap) -> None:
    """Read what comes, until whoever sends it is gone."""
    reader = cache(BlockReader)
    buffer = bytearray(_SLOT_BYTES)
    copy, content = memoryview(buffer), memoryview(slots)
    pipe.send(True)
    while True:
        slot, start, end, shape = pipe.recv()
        copy[:end] = content[slot : slot + end]
        pipe.send(reader(shape).read(Block(0, buffer, start, end, end)))


if __name__ == "__main__":
    # Whoever is interrupted together with it ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    given = Connection(int(sys.argv[1])), mmap.mmap(int(sys.argv[2]), 0)
    with suppress(*_GONE):
        _help(*given)
