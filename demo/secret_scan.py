"""Look for secrets where none may stand: in files, in every cell of a SQLite database, in text."""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

#: A secret that was cut off is still one: this many characters from either end give it away.
TELLING_LENGTH = 24

#: Shapes of secrets, for those that nobody named. What has been masked does not have them.
SHAPES = (
    re.compile(rb"X-Goog-Signature=[0-9a-fA-F]{16}"),
    re.compile(rb"/2/compliance/jobs/[0-9]+/(?:upload|download)\?token=[\w%.~-]{16}"),
    re.compile(rb"upload_id=[\w%.~-]{16}"),
)


def secrets_of_urls(urls: Iterable[str]) -> set[str]:
    """Return the values in the queries of signed URLs that give access: signatures and tokens."""
    secret_names = {"token", "X-Goog-Signature", "upload_id"}
    return {value for url in urls for name, value in parse_qsl(urlsplit(url).query) if name in secret_names}


class SecretScan:
    """
    Counts the places in which any of the secrets stands, whole or cut off, plain or percent-encoded.

    :param secrets: texts of at least :data:`TELLING_LENGTH` characters
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._needles = {needle for secret in secrets for needle in _telling_parts(secret)}
        self.found: list[str] = []
        self.places = 0

    def text(self, where: str, text: str | bytes) -> None:
        """Look into a text."""
        content = text.encode() if isinstance(text, str) else text
        self.places += 1
        if any(needle in content for needle in self._needles) or any(
            shape.search(content) for shape in SHAPES
        ):
            self.found.append(where)

    def files(self, directory: Path, leave_out: Iterable[Path] = ()) -> None:
        """Look into every file below a directory."""
        left_out = set(leave_out)
        for path in sorted(directory.rglob("*")):
            if path.is_file() and left_out.isdisjoint([path, *path.parents]):
                self.text(str(path), path.read_bytes())

    def database(self, path: Path) -> None:
        """Look into every row; in the file, a long value is cut into pages."""
        for table, row in database_rows(path):
            self.text(f"{path} table {table}", row)


def database_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Return every row of every table of a SQLite file as the name of the table and one text."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                yield table, "\n".join(_plain(cell) for cell in row)


def _plain(cell: object) -> str:
    return cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)


def _telling_parts(secret: str) -> Iterator[bytes]:
    if len(secret) < TELLING_LENGTH:
        raise ValueError(f"a secret of {len(secret)} characters is too short to be told from other text")
    for form in (secret, quote(secret, safe=""), unquote(secret)):
        yield form[:TELLING_LENGTH].encode()
        yield form[-TELLING_LENGTH:].encode()
