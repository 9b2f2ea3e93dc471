"""Places for files, one for each kind of store, all of which can do the same."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.storage import open_source, stat
from tests.storage.helpers import put

#: Kind of store → the fixture of its server, and its scheme.
SERVERS = {
    "s3": ("versioned_s3", "s3"),
    "moto": ("moto_s3", "s3"),
    "swift": ("swift_s3", "s3"),
    "gs": ("gcs", "gs"),
    "azure": ("azurite", "azure"),
}

KINDS = ("local", "file", *SERVERS)


@dataclass(frozen=True)
class Shelf:
    """
    A place of its own on a store.

    :param base: what the URIs of files there begin with, without a slash at its end
    """

    kind: str
    base: str
    client: Any
    spool: Path

    def uri(self, name: str) -> str:
        """Return the URI of a file."""
        return f"{self.base}/{name}"

    def write(self, name: str, content: bytes) -> str:
        """Let a file stand there, whatever stood there before; return its URI."""
        self.spool.write_bytes(content)
        put(self.spool, self.uri(name), self.client, replace=True)
        return self.uri(name)

    def read(self, name: str) -> bytes:
        """Return what stands there."""
        with open_source(self.uri(name), self.client) as file:
            return file.read()

    def version(self, name: str) -> str:
        """Return the version of what stands there."""
        return stat(self.uri(name), self.client).version


def shelf_on(kind: str, request: pytest.FixtureRequest, directory: Path) -> Shelf:
    """Return a shelf that no other test has."""
    spool = directory / f"spool-{uuid.uuid4().hex}"
    if kind in ("local", "file"):
        base = f"{'file://' if kind == 'file' else ''}{directory}/shelf"
        (directory / "shelf").mkdir()
        return Shelf(kind, base, None, spool)
    fixture, scheme = SERVERS[kind]
    server = request.getfixturevalue(fixture)
    return Shelf(kind, f"{scheme}://{server.bucket()}", server.client(), spool)


@contextmanager
def before(client: Any, operation: str, action: Any) -> Iterator[None]:
    """Do something right before an S3 client sends a request of this kind."""

    def act(**_: object) -> None:
        action()

    client.meta.events.register(f"before-send.s3.{operation}", act)
    yield
    client.meta.events.unregister(f"before-send.s3.{operation}", act)
