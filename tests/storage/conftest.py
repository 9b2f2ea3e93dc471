from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.storage import azure, gs, s3
from tests.servers import versioned_s3 as versioned
from tests.servers.stores import azurite, gcs  # noqa: F401 - fixtures
from tests.storage.helpers import LARGE, PART_BYTES, SMALL, spool
from tests.storage.shelves import KINDS, Shelf, shelf_on


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


@pytest.fixture(scope="session")
def versioned_s3() -> Iterator[versioned.VersionedS3]:
    """A versioned S3 that honours If-Match."""
    with versioned.versioned_s3() as store:
        yield store


@pytest.fixture(params=KINDS)
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """Run the test on every kind of store."""
    return shelf_on(request.param, request, tmp_path)
