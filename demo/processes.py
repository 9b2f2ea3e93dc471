"""Background processes that leave nothing behind."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

#: How long processes may take to end by themselves, in seconds.
GRACE_SECONDS = 10

ENDING_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def background(
    command: Sequence[str], env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a command in a session of its own, and end it with all its descendants on the way out.

    :param env: the whole environment
    :param log: where its output goes
    """
    with ExitStack() as stack:
        with log.open("wb") as output, _signals_held():
            process = subprocess.Popen(
                command,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the caller alone, which then ends everything in order.
                start_new_session=True,
                preexec_fn=_release_signals,
            )
            stack.callback(end_session, process)
        yield process


def end_session(leader: subprocess.Popen[bytes]) -> None:
    """Ask every process of a session to end, then force those that do not."""
    with _signals_held():
        members = session_members(leader.pid)
        for member in members:
            _end(member, force=False)
        psutil.wait_procs(members, timeout=GRACE_SECONDS)
        # Whoever was born while the others were told to end is found here too.
        while members := session_members(leader.pid):
            for member in members:
                _end(member, force=True)
            psutil.wait_procs(members, timeout=GRACE_SECONDS)
        leader.wait()


def session_members(session: int) -> list[psutil.Process]:
    """Return the living processes of a session, orphans included."""
    return [
        process
        for process in psutil.process_iter()
        if _session_of(process.pid) == session and _is_alive(process)
    ]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _end(process: psutil.Process, *, force: bool) -> None:
    with suppress(psutil.NoSuchProcess):
        if force:
            process.kill()
        else:
            process.terminate()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let Ctrl-C and its like wait: half way through a start or an end they would leave processes behind."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        _release_signals()


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
