import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time

import pytest

from airflow_provider_xcompliance.spools import require_room, spool_directory, spool_file
from airflow_provider_xcompliance.storage import StorageError

KILLED = """
import os, signal
from airflow_provider_xcompliance.spools import spool_directory, spool_file
with spool_directory() as directory:
    spool_file(directory, "ids").write_bytes(b"1\\n")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Where spools are."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_nobody_else_can_read_a_spool():
    with spool_directory() as directory:
        path = spool_file(directory, "ids")

        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_gone_at_the_end(scratch):
    with spool_directory() as directory:
        spool_file(directory, "ids")

    assert list(scratch.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(scratch):
    killed = subprocess.run([sys.executable, "-c", KILLED], check=False)
    left = list(scratch.iterdir())

    with spool_directory() as directory:
        assert list(scratch.iterdir()) == [directory]

    assert killed.returncode == -signal.SIGKILL
    assert len(left) == 1


def test_that_of_a_process_at_work_is_left_alone(scratch):
    with spool_directory() as first, spool_directory() as second:
        assert {first, second} == set(scratch.iterdir())


@pytest.mark.parametrize(("age", "is_left"), [(0, True), (3700, False)])
def test_one_without_a_lock_is_left_alone_for_an_hour(scratch, age, is_left):
    directory = scratch / "xcompliance-spool-just-made"
    directory.mkdir()
    os.utime(directory, times=(time.time() - age,) * 2)

    with spool_directory():
        pass

    assert directory.exists() == is_left


def test_a_link_leads_to_no_removal_elsewhere(scratch, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "lock").touch()
    (scratch / "xcompliance-spool-link").symlink_to(elsewhere)

    with spool_directory():
        pass

    assert (elsewhere / "lock").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO])
def test_a_full_or_failing_disk_is_said_with_the_remedy(scratch, number):
    with pytest.raises(StorageError) as caught, spool_directory():
        raise OSError(number, os.strerror(number))

    remedy = "free space there, or set TMPDIR"
    assert str(caught.value) == f"cannot spool in {scratch}: {os.strerror(number)}; {remedy}"


def test_a_file_of_the_spool_that_cannot_be_used_is_said_with_the_remedy(scratch):
    with (
        pytest.raises(StorageError, match=f"^cannot spool in {scratch}: File name too long; free"),
        spool_directory() as directory,
    ):
        spool_file(directory, "x" * 300)


def test_a_spool_that_cannot_be_made_is_said_with_the_remedy(scratch, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(scratch / "missing"))

    with pytest.raises(StorageError, match=r"^cannot spool in .*/missing: No such file"), spool_directory():
        pass


@pytest.mark.parametrize(
    ("name", "reason"), [("x" * 300, "File name too long"), ("file/index", "Not a directory")]
)
def test_what_fails_at_another_file_is_said_of_that_file(tmp_path_factory, name, reason):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "file").touch()
    path = elsewhere / name

    with pytest.raises(StorageError) as caught, spool_directory():
        path.write_bytes(b"")

    assert str(caught.value) == f"cannot use '{path}': {reason}"


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset by peer"), TimeoutError("too slow")])
def test_what_has_nothing_to_do_with_files_passes_as_it_is(error):
    with pytest.raises(type(error)) as caught, spool_directory():
        raise error

    assert caught.value is error


def test_what_will_not_fit_is_refused_beforehand(scratch):
    with pytest.raises(StorageError, match="bytes do not fit into"):
        require_room(scratch, 1 << 60)
