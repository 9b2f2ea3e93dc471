"""A PostgreSQL of its own, which takes a second to start."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg


@dataclass(frozen=True)
class Postgres:
    """A running server, and the directory of its socket."""

    directory: str

    def schema(self) -> dict[str, str]:
        """Make a schema that no other test has, and return how to connect to it."""
        name = f"test_{uuid.uuid4().hex}"
        address = {"host": self.directory, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**address, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return {**address, "options": f"-c search_path={name}"}


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Start it, and end it on the way out."""
    # There is none for Python 3.13 yet, where the other tests shall still be found.
    import pgserver

    # Its path is short enough for a socket.
    directory = tempfile.mkdtemp(prefix="postgres-")
    server = pgserver.get_server(directory, cleanup_mode="delete")
    try:
        # Nothing that it stores has to survive a power cut.
        server.psql("ALTER SYSTEM SET fsync = off;")
        server.psql("SELECT pg_reload_conf();")
        yield Postgres(directory)
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)
