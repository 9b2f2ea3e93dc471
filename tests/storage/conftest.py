from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.storage import azure, gs, s3
from tests.servers.stores import azurite, gcs  # noqa: F401 - fixtures
from tests.storage.helpers import LARGE, PART_BYTES, SMALL, spool


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return spool(tmp_path, SMALL)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_PART_BYTES", PART_BYTES)
    monkeypatch.setattr(gs, "_CHUNK_BYTES", PART_BYTES)
    monkeypatch.setattr(gs, "_RETRY_SECONDS", 0)
    monkeypatch.setattr(azure, "_BLOCK_BYTES", PART_BYTES)


@pytest.fixture(params=[b"", SMALL, LARGE], ids=["empty", "one request", "three parts"])
def content(request: Any) -> bytes:
    return request.param
