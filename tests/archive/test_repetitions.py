import tracemalloc
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.archive import lines, repetitions
from airflow_provider_xcompliance.archive.repetitions import IdShares, drop_repeated


def write(path: Path, ids: list[int]) -> Path:
    path.write_bytes(b"".join(b"%d\n" % number for number in ids))
    return path


@pytest.mark.parametrize("at_once", [1, 3, 100_000])
@given(
    ids=st.lists(
        st.one_of(
            st.integers(min_value=0, max_value=9), st.integers(min_value=2**63 - 5, max_value=2**63 - 1)
        ),
        min_size=1,
        max_size=60,
    )
)
def test_the_first_of_equal_ids_stays_and_so_does_the_order(
    at_once: int, ids: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("ids") / "ids", ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repetitions, "_IDS_AT_ONCE", at_once)
        dropped = drop_repeated(path)

    kept = list(dict.fromkeys(ids))
    assert path.read_text().split() == [str(number) for number in kept]
    assert dropped == len(ids) - len(kept)
    assert list(path.parent.iterdir()) == [path]


def test_equal_ids_meet_in_one_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repetitions, "_IDS_IN_MEMORY", 100)
    ids = [number * 7_919 for number in range(5_000)]
    with IdShares() as shares:
        for first in range(0, len(ids), 130):
            shares.add(ids[first : first + 130])
        shares.add(ids)

        found = [sorted(share) for share in shares]

    assert all(share[::2] == share[1::2] for share in found)
    assert sorted(chain.from_iterable(found)) == sorted(ids + ids)


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(repetitions, "_IDS_IN_MEMORY", 10_000)
    ids = [(number * 7_919_111_333 + 1) % 2**61 for number in range(60_000)]
    path = write(tmp_path / "ids", ids + ids[::100])
    tracemalloc.start()
    try:
        assert drop_repeated(path) == 600
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    # A set of these ids takes more than 4 MB.
    assert peak < 2e6
