"""Libraries that come with extras."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingExtraError(ImportError):
    """A library that comes with an extra is not installed."""


def require(library: str, extra: str, what: str) -> Any:
    """
    Import a library that comes with an extra.

    :param what: needs it, as errors call it
    :raises MissingExtraError: if it is not installed
    """
    try:
        return import_module(library)
    except ImportError:
        raise MissingExtraError(
            f"{what} needs {library.partition('.')[0]}: pip install 'airflow-provider-xcompliance[{extra}]'"
        ) from None
