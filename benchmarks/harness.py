"""
Whole processes, timed and weighed, ours and a rival's in turn.

This and all that a benchmark does outside its children keeps to the standard library: Linux counts what the
parent held at the fork into the child's peak.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

PAIRS = 5

_LOOK_SECONDS = 0.05
_PEAK = re.compile(r"VmHWM:\s*(\d+) kB")
_NOTHING = ("", "0")

WORK = Path(__file__).parent.parent / ".bench"


class ChildFailedError(Exception):
    """A measured process ended with an error."""


@dataclass(frozen=True)
class Run:
    """
    What one process took: wall-clock seconds from start to end, and its peak resident memory in MB.

    That of processes that it started is added, as if all were at their peaks at once.
    """

    seconds: float
    peak_mb: float
    output: str


@dataclass(frozen=True)
class Row:
    """
    One line of the table.

    :param ratios: ours beside the rival, pair by pair; above 1 we are faster
    :param met: None where there is no gate
    """

    what: str
    ours: str
    rival: str
    ratios: tuple[float, ...]
    gate: str
    met: bool | None
    peak_mb: float


def python(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of this package with the same interpreter."""
    return [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Run:
    """
    Run a process to its end.

    :param env: added to the environment
    :raises ChildFailedError: if it fails
    """
    with (WORK / "stdout").open("w+") as output, (WORK / "stderr").open("w+") as errors:
        start = time.perf_counter()
        child = subprocess.Popen(command, env={**os.environ, **(env or {})}, stdout=output, stderr=errors)
        with _peaks_of_children(child.pid) as others:
            # Unlike getrusage(RUSAGE_CHILDREN), this is about one child alone.
            _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if child.returncode:
            raise ChildFailedError(
                f"{' '.join(command)}: exit code {child.returncode}\n{errors.read()[-4000:]}"
            )
        return Run(seconds, (usage.ru_maxrss + sum(others.values())) * 1024 / 1e6, output.read())


@contextlib.contextmanager
def _peaks_of_children(pid: int) -> Iterator[dict[str, int]]:
    """Look now and then at the processes that a process has started: each one's peak, in KiB."""
    peaks: dict[str, int] = {}
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(_LOOK_SECONDS):
            # Either may end at any time.
            with contextlib.suppress(OSError):
                for other in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                    status = Path(f"/proc/{other}/status").read_text()
                    peaks[other] = int((_PEAK.search(status) or _NOTHING)[1])

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peaks
    finally:
        is_over.set()
        watcher.join()


def race(
    what: str,
    megabytes: float,
    ours: Sequence[str],
    rival: Sequence[str],
    *,
    gate: float | None = None,
    output: Path | None = None,
) -> Row:
    """
    Run both in turn, after one round that does not count; what they print must be the same.

    :param megabytes: what each run handles
    :param output: what each of them writes, gone before the next begins
    :param gate: the least median of the ratios; None: for information
    """
    rounds: list[tuple[Run, Run]] = []
    for _ in range(PAIRS + 1):
        pair = []
        for command in (ours, rival):
            if output:
                output.unlink(missing_ok=True)
            pair.append(run(command))
        if pair[0].output != pair[1].output:
            raise ChildFailedError(f"{what}: {pair[0].output!r} is not {pair[1].output!r}")
        rounds.append((pair[0], pair[1]))
    del rounds[0]
    ratios = tuple(theirs.seconds / our.seconds for our, theirs in rounds)
    return Row(
        what=what,
        ours=_rate(megabytes, [our for our, _ in rounds]),
        rival=_rate(megabytes, [theirs for _, theirs in rounds]),
        ratios=ratios,
        gate=f"≥ {gate:g}" if gate else "",
        met=median(ratios) >= gate if gate else None,
        peak_mb=max(our.peak_mb for our, _ in rounds),
    )


@contextlib.contextmanager
def scratch(megabytes: int) -> Iterator[Path]:
    """Name a file to write so much to, in memory where the machine has room, so that no disk is measured."""
    memory = Path("/dev/shm")
    fits = memory.is_dir() and shutil.disk_usage(memory).free > 2 * megabytes * 1_000_000
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=memory if fits else WORK) as directory:
        yield Path(directory, "scratch")


@contextlib.contextmanager
def server(command: Sequence[str]) -> Iterator[str]:
    """Run a server that says ``listening on URL``, and hand out the URL."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            said = child.stdout.readline()
            if not said.startswith("listening on "):
                raise ChildFailedError(f"{' '.join(command)}: did not start")
            yield said.removeprefix("listening on ").strip()
        finally:
            child.terminate()


def generated(kind: str, amount: int) -> Path:
    """Return a file of test data, which is made once: see :mod:`benchmarks.data`."""
    path = WORK / f"{kind}-{amount}"
    if not path.exists():
        part = path.with_suffix(".part")
        run(python("data", kind, amount, part))
        part.rename(path)
    return path


def sparse(megabytes: int) -> Path:
    """Return a file of zeros, which occupies no disk, and once read lies in memory like any other."""
    path = WORK / f"zeros-{megabytes}"
    with path.open("ab") as file:
        file.truncate(megabytes * 1_000_000)
    return path


def megabytes_of(path: Path) -> float:
    """Return a file's size."""
    return path.stat().st_size / 1e6


def _rate(megabytes: float, runs: Sequence[Run]) -> str:
    return f"{megabytes / median(each.seconds for each in runs):,.0f} MB/s"
