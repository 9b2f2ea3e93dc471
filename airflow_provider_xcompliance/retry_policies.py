"""A retry policy for Airflow 3.3 and newer, to be given to tasks as ``retry_policy``."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from airflow.sdk import RetryDecision, RetryPolicy

from airflow_provider_xcompliance.api.client import retry_wait
from airflow_provider_xcompliance.api.errors import RateLimitedError
from airflow_provider_xcompliance.retries import retry_of


class XComplianceRetryPolicy(RetryPolicy):
    """
    Retry what another try may cure, and a rate limit right after its reset.

    With ``max_rate_limit_wait=0`` for the operator, no worker is held while a limit lasts.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Any = None
    ) -> RetryDecision:
        """Decide by the table of :mod:`.retries`; what is not in it follows the task's own settings."""
        retry = retry_of(exception)
        if retry is None:
            return RetryDecision.default()
        if not retry.by_task:
            return RetryDecision.fail(retry.why)
        if not isinstance(exception, RateLimitedError):
            return RetryDecision.retry(reason=retry.why)
        wait = retry_wait(exception, try_number, max_rate_limit_wait=math.inf) or 0
        return RetryDecision.retry(timedelta(seconds=wait), retry.why)

    def serialize(self) -> dict[str, Any]:
        """Return what Airflow keeps of the policy: nothing, since it has no settings."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> XComplianceRetryPolicy:
        """Make the policy of what was kept."""
        return cls()
