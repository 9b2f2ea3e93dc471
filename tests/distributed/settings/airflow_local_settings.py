"""The policy of the Airflow under test: what is done again, is done again soon."""

from datetime import timedelta
from typing import Any


def task_policy(task: Any) -> None:
    """Change each task of each DAG."""
    task.retry_delay = timedelta(seconds=1)
