"""Rate limits: a fixed window per endpoint."""

from __future__ import annotations

import math

from airflow_provider_xcompliance.emulator.settings import Settings

RATE_WINDOW = 15 * 60
"""Seconds."""


def rate_headers(limit: int, remaining: int, reset: int) -> dict[str, str]:
    """Return what tells a client about its limit; there is no ``Retry-After``."""
    return {
        "x-rate-limit-limit": str(limit),
        "x-rate-limit-remaining": str(remaining),
        "x-rate-limit-reset": str(reset),
    }


class RateLimits:
    """Count requests per endpoint."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._windows: dict[str, tuple[int, int]] = {}

    def take(self, endpoint: str, now: float) -> tuple[bool, dict[str, str]]:
        """Count one request.

        :return: whether it is within the limit, and the headers that tell so.
        """
        reset, used = self._windows.get(endpoint, (0, 0))
        if now >= reset:
            reset, used = math.ceil(now) + RATE_WINDOW, 0
        limit = self._settings.rate_limit
        allowed = used < limit
        used += allowed
        self._windows[endpoint] = (reset, used)
        return allowed, rate_headers(limit, max(limit - used, 0), reset)

    def clear(self) -> None:
        """Forget all that was counted."""
        self._windows.clear()
