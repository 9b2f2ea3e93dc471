"""A retry policy for Airflow 3.3 and newer, to be given to tasks as ``retry_policy``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import RetryDecision, RetryPolicy

from airflow_provider_xcompliance.api.client import reset_wait
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
        if not isinstance(exception, RateLimitedError) or exception.wait_seconds is None:
            return RetryDecision.retry(reason=retry.why)
        return RetryDecision.retry(timedelta(seconds=reset_wait(exception.wait_seconds)), retry.why)
