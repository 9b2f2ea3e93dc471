"""Landing on local files: a part beside the target, then a link or a replacement."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_xcompliance.storage.addresses import local_path
from airflow_provider_xcompliance.storage.errors import TakenError

_BLOCK_BYTES = 1 << 20
_PART_PREFIX, _PART_SUFFIX = ".xcompliance-", ".part"

# A landing that is at work holds a lock on its part, from right after it was made.
_ORPHAN_AGE = timedelta(minutes=1)

require_name = local_path


def is_plain_file(uri: str) -> bool:
    """Return whether a file stands there: no link, which may lead anywhere, and no pipe, which may block."""
    path = local_path(uri)
    return path.is_file() and not path.is_symlink()


def put(source: Path, uri: str, _client: Any, replace: bool) -> None:
    """
    Write a file, readable by its owner alone.

    :raises TakenError: if something stands there that may not be replaced
    :raises OSError: if it cannot be written
    """
    target = local_path(uri)
    _make_directory(target.parent)
    _remove_old_parts(target.parent)
    # Created 0600, exclusively, and without following a link.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=_PART_PREFIX, suffix=_PART_SUFFIX)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as to, source.open("rb") as file:
            fcntl.flock(to, fcntl.LOCK_EX)
            shutil.copyfileobj(file, to, _BLOCK_BYTES)
            to.flush()
            os.fsync(to.fileno())
            if replace:
                part.replace(target)
            else:
                target.hardlink_to(part)
    except FileExistsError:
        raise TakenError from None
    finally:
        # A part that cannot be removed is removed by a later landing, and fails none.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    _sync_directory(target.parent)


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_old_parts(directory: Path) -> None:
    """Remove what killed landings left."""
    oldest = (datetime.now(UTC) - _ORPHAN_AGE).timestamp()
    for part in directory.glob(f"{_PART_PREFIX}*{_PART_SUFFIX}"):
        with contextlib.suppress(OSError):
            if part.lstat().st_mtime < oldest and not part.is_symlink():
                with part.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    part.unlink()
