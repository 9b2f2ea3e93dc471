"""Failures, as Airflow has to be told of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xcompliance.retries import is_final


@contextmanager
def failing_at_once() -> Iterator[None]:
    """Keep Airflow from repeating what cannot succeed: see :mod:`.retries`."""
    try:
        yield
    except Exception as error:
        if is_final(error):
            raise AirflowFailException(str(error)) from error
        raise
