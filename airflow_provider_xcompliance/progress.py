"""How far something is, in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_SECONDS = 5.0


class Progress:
    """
    Log how far a transfer is, every few seconds.

    :param what: what is done
    :param total: how many bytes there are, if that is known
    :param clock: tells seconds
    """

    def __init__(
        self, what: str, total: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what = what
        self._total = total
        self._clock = clock
        self._done = 0
        self._started = self._logged = clock()

    def __call__(self, done: int, total: int | None) -> None:
        """
        Take note of how far it is.

        :param done: bytes so far
        :param total: how many there are, if that is known
        """
        now = self._clock()
        if now - self._logged < _SECONDS:
            return
        self._logged = now
        share = f" of {total:,} ({100 * done // total} %)" if total else ""
        rate = done / (now - self._started) / 1e6
        log.info("%s: %s%s bytes, %.1f MB/s", self._what, f"{done:,}", share, rate)

    def add(self, more: int) -> None:
        """Take note of some more bytes."""
        self._done += more
        self(self._done, self._total)
