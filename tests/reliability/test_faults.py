"""Every fault at each step where it can happen: what :mod:`.matrix` lists is run here, a cell per test."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xcompliance.emulator.server import EmulatorServer
from tests.reliability.matrix import CELLS, Cell
from tests.reliability.world import Gate, World, assert_clear, in_a_world

pytestmark = pytest.mark.row("every fault, at each step")

BEARER_TOKEN = "canary-bearer-3f9d1c"
CREDENTIALS = {"key": {"login": "test-key", "password": "test-secret"}}


def _parameter(cell: Cell) -> Any:
    marks = [pytest.mark.quick] if cell.quick else []
    if cell.defect:
        marks.append(pytest.mark.xfail(reason=cell.defect, strict=True))
    return pytest.param(cell, id=str(cell), marks=marks)


@pytest.fixture
def world(
    cell: Cell,
    emulator: EmulatorServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    connect: Callable[..., None],
) -> Iterator[World]:
    """The world as the cell wants it to begin."""
    flow = "legacy" if cell.way in ("legacy", "resumable") else "current"
    emulator.configure(flow=flow, **cell.settings)
    world = World(
        emulator, tmp_path, cell.way == "resumable" or None, cell.limit, dict(cell.script), count=cell.ids
    )
    url = emulator.url
    if cell.refused_after is not None:
        world.gate, world.gate_opens_after = Gate(url), cell.refused_after
        world.script[cell.step, 1] = World.lose_network
        url = world.gate.url
    connection = {
        "password": BEARER_TOKEN,
        "extra": {"timeout_seconds": cell.patience, "owner": "the tests"},
        "host": url,
        **CREDENTIALS.get(cell.way, {}),
    }
    with in_a_world(world, monkeypatch, connect, **connection):
        yield world


@pytest.mark.parametrize("cell", map(_parameter, CELLS))
def test_a_fault_is_outlasted_or_told_clearly(cell: Cell, world: World) -> None:
    for deed in cell.before:
        deed(world)
    for fault in cell.inject:
        world.emulator.add_fault(**{"endpoint": cell.step, **fault})

    if cell.error is None:
        receipts = world.run()
        assert world.all_struck()
    else:
        _fails(cell, world)
        assert world.all_struck()
        assert not world.destination.exists()
        world.heal()
        receipts = world.run()

    world.assert_right(receipts)
    assert len(world.jobs()) == cell.jobs
    assert not [entry for job in world.jobs(foreign=True) for entry in _touching(world, job["id"])]
    _changes_nothing(world)


def _fails(cell: Cell, world: World) -> None:
    known = len(world.emulator.requests())
    with pytest.raises(Exception, match=cell.error.says) as caught:
        world.run()
    is_final = isinstance(caught.value, AirflowFailException)
    error = caught.value.__cause__ if is_final else caught.value
    assert (type(error), not is_final) == (cell.error.kind, cell.error.may_retry)
    assert_clear(caught.value)
    if cell.step == "source":
        assert len(world.emulator.requests()) == known


def _touching(world: World, job_id: str) -> list[dict[str, Any]]:
    """Return the requests that do something about a job, and not only look at it."""
    requests = [entry for entry in world.emulator.requests() if job_id in entry["path"]]
    return [entry for entry in requests if not re.fullmatch("get|list", entry["endpoint"])]


def _changes_nothing(world: World) -> None:
    world.heal()
    asked = len(world.emulator.requests())
    landed = world.destination.stat()
    (receipt,) = world.run()
    assert receipt["created"] is False
    assert {entry["endpoint"] for entry in world.emulator.requests()[asked:]} <= {"get", "oauth"}
    assert world.destination.stat() == landed
