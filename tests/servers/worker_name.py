"""What the workers of an Airflow call themselves that all run on one machine: see ``hostname_callable``."""

import os

VARIABLE = "AIRFLOW_STACK_COMPONENT"


def worker_name() -> str:
    """Return the name that the process was started with."""
    return os.environ[VARIABLE]
