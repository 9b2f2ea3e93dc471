"""A second process reads as the first one does, and nothing hangs on it, or is lost with it."""

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psutil
import pytest

from airflow_provider_xcompliance.archive import ndjson
from airflow_provider_xcompliance.archive.formats import format_of
from airflow_provider_xcompliance.archive.index import Facts, IndexWriter
from airflow_provider_xcompliance.archive.ndjson import read
from airflow_provider_xcompliance.archive.ndjson_blocks import Block
from airflow_provider_xcompliance.archive.ndjson_helper import Helper
from tests.archive import generated

NDJSON = format_of("posts.ndjson")
LINE = bytearray(b'{"id":"1","author_id":"2"}\n')
BLOCK = Block(0, LINE, 0, len(LINE), len(LINE))


@pytest.fixture
def helper() -> Iterator[Helper]:
    """One that has started."""
    with Helper(worth_starting=0) as helper:
        while not helper.take(BLOCK, None):
            pass
        yield helper


@pytest.fixture(scope="module")
def content() -> bytes:
    """Lines, some of which are bad."""
    return generated.FILES["NDJSON of mixed"](Random("helped"), 4_000).content


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(ndjson, "_BLOCK_BYTES", 50_000)


@pytest.fixture(autouse=True)
def two_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


@pytest.fixture
def one_processor(two_processors, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})


def read_content(content: bytes, path: Path, helper: Helper | None = None) -> tuple[Facts, bytes]:
    with IndexWriter(path / "index") as index:
        facts = read(io.BytesIO(content), NDJSON, "posts.ndjson", index, helper=helper)
    return facts, (path / "index").read_bytes()


def children() -> list[psutil.Process]:
    return psutil.Process().children()


class Broken(io.BytesIO):
    """Content that ends in an error after some blocks."""

    def readinto(self, buffer) -> int:
        if self.tell() > 1_000_000:
            raise OSError("the store is gone")
        return super().readinto(buffer)


def test_what_is_found_is_the_same_to_the_byte(content, helper, tmp_path):
    wanted = read_content(content, tmp_path)
    assert wanted[0].bad_lines

    assert read_content(content, tmp_path, helper) == wanted


def test_it_reads_some_of_the_blocks(helper):
    promise = helper.take(BLOCK, None)

    found = promise.wait()

    assert (found.posts.ids.tolist(), found.users.ids.tolist(), found.lines) == ([1], [2], 1)
    assert promise.is_kept


def test_it_takes_no_more_than_it_has_room_for(helper):
    os.kill(children()[0].pid, signal.SIGSTOP)

    taken = [helper.take(BLOCK, None) is not None for _ in range(4)]

    assert taken[-1] is False


def test_it_takes_no_block_that_is_larger_than_most(helper):
    large = bytearray(2 << 20)

    assert helper.take(Block(0, large, 0, len(large), len(large)), None) is None


def test_the_shape_that_is_told_holds_there_too(helper):
    assert helper.take(BLOCK, "users").wait().users.ids.tolist() == [1]


def test_a_read_that_broke_off_leaves_nothing_to_the_next(content, helper, tmp_path):
    with pytest.raises(OSError, match="the store is gone"), IndexWriter(tmp_path / "index") as index:
        read(Broken(content), NDJSON, "posts.ndjson", index, helper=helper)

    assert read_content(content, tmp_path, helper) == read_content(content, tmp_path)


def test_nothing_starts_for_little(content, tmp_path):
    with Helper() as helper:
        read_content(content, tmp_path, helper)

        assert not children()


@pytest.mark.usefixtures("one_processor")
def test_nothing_starts_without_a_second_processor(content, tmp_path):
    with Helper(worth_starting=0) as helper:
        read_content(content, tmp_path, helper)

        assert not children()


def test_it_is_gone_afterwards(helper):
    assert children()

    with helper:
        pass

    assert not children()


def test_one_that_is_killed_is_told_once_and_the_first_one_reads_on_alone(content, helper, tmp_path, caplog):
    children()[0].kill()

    found = [read_content(content, tmp_path, helper) for _ in range(2)]

    assert found == [read_content(content, tmp_path)] * 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "exit code -9" in caplog.text


def test_the_blocks_that_it_was_given_are_not_lost_with_it(helper):
    child = children()[0]
    helper.take(BLOCK, "users").wait()
    child.suspend()
    promises = [helper.take(BLOCK, "users"), helper.take(BLOCK, None)]
    child.kill()

    found = [promise.wait() for promise in promises]

    assert [each.users.ids.tolist() for each in found] == [[1], [2]]
    assert all(promise.is_kept for promise in promises)


def test_nor_is_one_of_which_it_has_answered_half(helper):
    # What it holds is more than a pipe takes before somebody reads it.
    lines = bytearray(LINE * 30_000)
    large = Block(0, lines, 0, len(lines), len(lines))
    helper.take(BLOCK, None).wait()
    promise = helper.take(large, None)
    assert helper._process._pipe.poll(timeout=60)
    children()[0].kill()

    assert promise.wait().users.ids.tolist() == [2] * 30_000


@pytest.mark.parametrize("executable", ["/nowhere/python", "/bin/false"])
def test_where_none_can_start_the_first_one_reads_alone(content, tmp_path, monkeypatch, caplog, executable):
    monkeypatch.setattr(sys, "executable", executable)

    with Helper(worth_starting=0) as helper:
        while "no second process helps" not in caplog.text:
            found = read_content(content, tmp_path, helper)

    assert found == read_content(content, tmp_path)


def test_where_the_disk_is_full_too(content, tmp_path, monkeypatch, caplog):
    def no_room(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)

    with Helper(worth_starting=0) as helper:
        found = read_content(content, tmp_path, helper)

        assert not children()
    assert found == read_content(content, tmp_path)
    assert caplog.text.count("No space left on device") == 1


def test_it_ends_with_the_process_that_it_helps():
    script = (
        "from tests.archive.test_ndjson_helper import *\n"
        "os.sched_getaffinity = lambda _: {0, 1}\n"
        "helper = Helper(worth_starting=0)\n"
        "while not helper.take(BLOCK, None): pass\n"
        "print(children()[0].pid, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as first:
        second = psutil.Process(int(first.stdout.readline()))
        first.kill()

    psutil.wait_procs([second], timeout=30)

    assert not second.is_running()
