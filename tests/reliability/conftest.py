"""The reliability matrix: each test here is a cell of the scorecard, in the row that its marker names."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the matrix out of the ordinary run, and keep its cells honest: each belongs to a row."""
    for item in items:
        if "reliability" in item.path.parts:
            item.add_marker("matrix")
            if item.get_closest_marker("row") is None:
                raise pytest.UsageError(f"{item.nodeid} has no row(name) marker")
