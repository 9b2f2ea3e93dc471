"""Background processes that leave nothing behind."""

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

#: How long processes may take to end by themselves, in seconds.
GRACE_SECONDS = 15


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def background(command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a command in a session of its own, and end it with all its descendants on the way out.

    :param log: where its output goes
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches the caller alone, which then ends everything in order.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end_session(process)


def end_session(leader: subprocess.Popen[bytes]) -> None:
    """Ask every process of a session to end, then force those that do not."""
    members = session_members(leader.pid)
    for member in members:
        _signal(member, force=False)
    _, stubborn = psutil.wait_procs(members, timeout=GRACE_SECONDS)
    # Whoever was born while the others were told to end is found here.
    for member in {*stubborn, *session_members(leader.pid)}:
        _signal(member, force=True)
    leader.wait()


def session_members(session: int) -> list[psutil.Process]:
    """Return the living processes of a session, orphans included."""
    return [process for process in psutil.process_iter() if _session_of(process.pid) == session]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _signal(process: psutil.Process, *, force: bool) -> None:
    try:
        process.kill() if force else process.terminate()
    except psutil.NoSuchProcess:
        pass
