"""Local files: a part beside the target, then a link or a replacement."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import stat as modes
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from airflow_provider_xcompliance.storage import leases
from airflow_provider_xcompliance.storage.addresses import display, local_path
from airflow_provider_xcompliance.storage.errors import (
    CHANGED,
    RIVAL,
    AddressError,
    ChangedError,
    StorageError,
    TakenError,
)
from airflow_provider_xcompliance.storage.found import Found, crc32c_of
from airflow_provider_xcompliance.storage.globs import Glob

_log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20
_PART_PREFIX, _PART_SUFFIX = ".xcompliance-", ".part"

# A landing that is at work holds a lock on its part, from right after it was made.
_ORPHAN_AGE = timedelta(minutes=1)

LISTING_NEEDS = PURGING_NEEDS = "nothing"


def require_name(uri: str) -> None:
    """
    Refuse what names no file, or has a name that no document about it could hold.

    :raises AddressError: if it is so
    """
    local_path(uri)
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise AddressError(
            f"{display(uri)!r} has a name that is no UTF-8; rename it, or leave it out"
        ) from None


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
    try:
        with _part(target.parent) as (part, to), source.open("rb") as file:
            shutil.copyfileobj(file, to, _BLOCK_BYTES)
            to.flush()
            os.fsync(to.fileno())
            if replace:
                part.replace(target)
            else:
                target.hardlink_to(part)
    except FileExistsError:
        raise TakenError from None
    _sync_directory(target.parent)


def swap(source: Path, uri: str, _client: Any, version: str) -> tuple[Found, bool]:
    """
    Replace a file by another that has its permissions, owner and extended attributes.

    A link is followed, because what it leads to is what was read.

    :raises ChangedError: if it is of another version, or another process writes it anew
    :raises StorageError: if another process does not stop writing to it
    :raises OSError: if it cannot be written
    """
    what = f"cannot replace {uri}"
    target = local_path(uri).resolve(strict=True)
    _remove_old_parts(target.parent)
    with target.open("rb") as standing, _part(target.parent) as (part, to):
        with source.open("rb") as file:
            _fill(to, file, standing, what)
        found = _found(uri, os.fstat(to.fileno()))
        if crc32c_of(part) != crc32c_of(source):
            raise StorageError(f"{what}: the disk does not hold what was written to it")
        with leases.held_still(standing.fileno(), what):
            status = os.fstat(standing.fileno())
            if _version(status) != version or not os.path.samestat(status, target.stat()):
                raise ChangedError(f"{what}: {CHANGED}")
            end = leases.end_of(standing.fileno(), status.st_size)
            if leases.is_awaited(standing.fileno()):
                raise ChangedError(f"{what}: {RIVAL}")
            part.replace(target)
        _sync_directory(target.parent)
        _take_over(standing, end, to, target, what)
    if status.st_nlink > 1:
        _log.warning("%s has other names (hard links), under which its former content still stands", uri)
    return found, True


def stat(uri: str, _client: Any) -> Found:
    """
    Return what is known of a file.

    :raises OSError: if there is none
    """
    status = local_path(uri).stat()
    if not modes.S_ISREG(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return _found(uri, status)


def listing(glob: Glob, _client: Any) -> Iterator[Found]:
    """Yield the files that may be meant, in order of name; links are followed."""
    scheme = "file://" if glob.fixed.startswith("file://") else ""
    folder = glob.fixed.removeprefix(scheme).rpartition("/")[0] + "/"
    for path in _walk(folder, lambda each: glob.may_hold(scheme + each), ()):
        uri = scheme + path
        # A file may be gone by now; and what is no file, but a pipe, is not meant.
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            if glob.matches(uri):
                yield stat(uri, None)


def reader(uri: str, _client: Any, version: str | None) -> IO[bytes] | _OneVersion:
    """
    Open a file for reading; with a version, reading it to its end fails if it was changed by then.

    :raises ChangedError: if it is of another version
    :raises OSError: if it cannot be opened
    """
    return _OneVersion(uri, version) if version else local_path(uri).open("rb")


def remove(uri: str, _client: Any, version: str | None) -> None:
    """
    Remove a file.

    :raises ChangedError: if it is of another version
    :raises OSError: if it cannot be removed
    """
    path = local_path(uri)
    if version and _version(path.stat()) != version:
        raise ChangedError(f"cannot remove {uri}: {CHANGED}")
    path.unlink()
    _sync_directory(path.parent)


def old_versions(_uri: str, _client: Any) -> int:
    """Return 0: a file system keeps nothing, as far as can be seen from here."""
    return 0


def purge(_uri: str, _client: Any) -> int:
    """Return 0: there is nothing to remove."""
    return 0


class _OneVersion:
    """A file that is not changed while it is read."""

    def __init__(self, uri: str, version: str) -> None:
        self._what = f"cannot read {uri}"
        self._version = version
        self._file = local_path(uri).open("rb")
        try:
            self._check()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> _OneVersion:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1, /) -> bytes:
        block = self._file.read(size)
        if len(block) < size or size < 0:
            self._check()
        return block

    def _check(self) -> None:
        if _version(os.fstat(self._file.fileno())) != self._version:
            raise ChangedError(f"{self._what}: {CHANGED}")


def _walk(folder: str, may_hold: Callable[[str], bool], above: tuple[os.stat_result, ...]) -> Iterator[str]:
    """
    Yield all paths below a folder, in order of their text: a slash stands between ``.`` and ``0``.

    :param above: the folders on the way there, which a link could lead back to
    """
    try:
        status = Path(folder).stat()
        with os.scandir(folder) as entries:
            names = sorted(entry.name + "/" * entry.is_dir() for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    if any(os.path.samestat(status, each) for each in above):
        return
    for name in names:
        path = folder + name
        if not name.endswith("/"):
            yield path
        elif may_hold(path):
            yield from _walk(path, may_hold, (*above, status))


def _found(uri: str, status: os.stat_result) -> Found:
    return Found(uri, status.st_size, _version(status))


def _version(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"


def _fill(to: IO[bytes], content: IO[bytes], like: IO[bytes], what: str) -> None:
    """Write a file to the disk that has the attributes of another."""
    shutil.copyfileobj(content, to, _BLOCK_BYTES)
    _copy_attributes(like.fileno(), to.fileno(), what)
    to.flush()
    os.fsync(to.fileno())


def _take_over(old: IO[bytes], end: leases.End, new: IO[bytes], target: Path, what: str) -> None:
    """
    Take over what others still write to a file that has just lost its name to another.

    What they append is appended there; but what they write anew, as a whole, gets the name back.

    :raises ChangedError: if they wrote it anew
    :raises StorageError: if they do not close it
    """
    is_let_go = leases.is_let_go(old.fileno())
    is_appended = leases.carry_over(old.fileno(), end, new.fileno())
    # Who has emptied it and not written yet would leave nothing at all.
    if not is_appended and (is_let_go or os.fstat(old.fileno()).st_size):
        _give_back(old, new, target, what)
    if not is_let_go:
        raise StorageError(
            f"{what}: {'it is done, but ' * is_appended}another process had just opened the old file and "
            "keeps it open; what it writes from now on is lost; let that process open the file anew"
        )
    if not is_appended:
        raise ChangedError(f"{what}: {RIVAL}")


def _give_back(old: IO[bytes], new: IO[bytes], target: Path, what: str) -> None:
    """Let the content of a file have the name again that it lost to another."""
    with target.open("rb") as standing, _part(target.parent) as (part, to):
        status = os.fstat(new.fileno())
        if not os.path.samestat(status, os.fstat(standing.fileno())):
            # By now a third file has the name, which whoever put it there meant to last.
            return
        end = leases.end_of(standing.fileno(), new.tell())
        _fill(to, old, old, what)
        part.replace(target)
        # Open till now, so that no other landing took it away; from now on it would not look let go.
        new.close()
        _sync_directory(target.parent)
        _take_over(standing, end, to, target, what)


def _copy_attributes(handle: int, to: int, what: str) -> None:
    status, own = os.fstat(handle), os.fstat(to)
    if (status.st_uid, status.st_gid) != (own.st_uid, own.st_gid):
        try:
            os.fchown(to, status.st_uid, status.st_gid)
        except PermissionError:
            raise StorageError(f"{what}: its owner would change; run as its owner, or as root") from None
    os.fchmod(to, modes.S_IMODE(status.st_mode))
    for name in _attributes(handle):
        value = os.getxattr(handle, name)
        # Labels of the system are there already, and not everybody may set them.
        if name not in _attributes(to) or os.getxattr(to, name) != value:
            os.setxattr(to, name, value)


def _attributes(handle: int) -> list[str]:
    with contextlib.suppress(AttributeError, OSError):
        return os.listxattr(handle)
    return []


@contextmanager
def _part(directory: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """Make a file beside the target that is gone afterwards, unless it has got the target's name."""
    # Created 0600, exclusively, and without following a link.
    handle, name = tempfile.mkstemp(dir=directory, prefix=_PART_PREFIX, suffix=_PART_SUFFIX)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as to:
            fcntl.flock(to, fcntl.LOCK_EX)
            yield part, to
    finally:
        # A part that cannot be removed is removed by a later landing, and fails none.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


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
