"""Landing while the store, the network, the disk or another writer gets in its way."""

import contextlib
import errno
import functools
import gc
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xcompliance.storage import StorageError, azure, digest_of, gs, land, local, s3
from tests.servers.clients import AZURE_KEY, CLIENTS, PART_BYTES
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.stores import azurite, gcs  # noqa: F401 - fixtures

pytestmark = pytest.mark.row("landing faults")

OLD = b"what stood there before\n"
# Three parts on every store.
NEW = bytes(range(256)) * (11 << 12)
OTHER = bytes(reversed(range(256))) * (11 << 12)

LAND_ONCE = Path(__file__).parents[1] / "servers" / "land_once.py"
SECRETS = (AZURE_KEY, "Signature", "sig=", "http://", "uploadId", "upload_id", "\n")


@dataclass(frozen=True)
class Protocol:
    """
    How a store is spoken to.

    :param part: the request that brings a part of the object; the second is the one that fails
    :param commit: the request that makes the object appear
    :param full: how the store says that it is full
    """

    fixture: str
    scheme: str
    part: str
    commit: str
    full: tuple[int, dict[str, str], bytes]
    part_nth: int = 1
    commit_nth: int = 1


_XML = {"Content-Type": "application/xml"}
_S3 = {
    "scheme": "s3",
    "part": r"^PUT .*partNumber=2",
    "commit": r"^POST .*uploadId=",
    "full": (507, _XML, b"<Error><Code>InsufficientStorage</Code><Message>full</Message></Error>"),
}
PROTOCOLS = {
    "swift": Protocol("swift_s3", **_S3),
    "moto": Protocol("moto_one_at_a_time", **_S3),
    "gs": Protocol(
        "gcs",
        "gs",
        part=r"^PUT .*upload_id=",
        part_nth=2,
        commit=r"^PUT .*upload_id=",
        commit_nth=3,
        full=(
            403,
            {"Content-Type": "application/json"},
            b'{"error": {"code": 403, "message": "over quota"}}',
        ),
    ),
    "azure": Protocol(
        "azurite",
        "azure",
        part=r"^PUT .*comp=block(&|$)",
        part_nth=2,
        commit=r"^PUT .*comp=blocklist",
        full=(
            409,
            {**_XML, "x-ms-error-code": "AccountQuotaExceeded"},
            b"<Error><Code>AccountQuotaExceeded</Code><Message>full</Message></Error>",
        ),
    ),
}
STORES = ("file", *PROTOCOLS)
MODES = ("create", "replace")

#: Fault → what the call comes to: it fails, or it finds that the commit took effect.
FAULTS = {
    "dies half way": "fails",
    "dies at the commit": "fails",
    "commit and abort fail": "fails",
    "answer of the commit lost": "lands",
    "answer of the commit lost, then no network": "fails, having landed",
    "full": "fails",
    "killed half way": "killed",
}
CELLS = [(fault, store, mode) for fault in FAULTS for store in STORES for mode in MODES]
RIVALS = [(content, store, mode) for content in ("different", "equal") for store in STORES for mode in MODES]
QUICK = {
    ("dies half way", "moto", "create"),
    ("commit and abort fail", "swift", "create"),
    ("commit and abort fail", "gs", "replace"),
    ("answer of the commit lost", "azure", "create"),
    ("answer of the commit lost", "moto", "replace"),
    ("full", "file", "replace"),
    ("killed half way", "file", "create"),
    ("different", "azure", "create"),
    ("different", "file", "create"),
    ("equal", "moto", "create"),
}

assert {*CELLS, *RIVALS} >= QUICK


def cells(table: list[tuple[str, str, str]]) -> Any:
    """Return a table as parameters, the quick ones marked."""
    return pytest.mark.parametrize(
        "cell",
        [
            pytest.param(cell, id="-".join(cell), marks=[pytest.mark.quick] if cell in QUICK else [])
            for cell in table
        ],
    )


@dataclass
class Place:
    """
    One destination on one store.

    :param version: what changes whenever another content stands there; None: nothing does
    :param read: the whole content
    :param leftovers: whatever there is besides the destination
    """

    kind: str
    uri: str
    endpoint: str
    version: Callable[[], Any]
    read: Callable[[], bytes]
    write: Callable[[bytes], Any]
    leftovers: Callable[[], list[str]]


def place_on(store: str, request: pytest.FixtureRequest, directory: Path) -> Place:
    """Return a destination that no other cell has."""
    if store == "file":
        return _on_file(directory / "landing")
    protocol = PROTOCOLS[store]
    server = request.getfixturevalue(protocol.fixture)
    bucket = server.bucket()
    make = {"s3": _on_s3, "gs": _on_gs, "azure": _on_azure}[protocol.scheme]
    return make(store, server.endpoint_url, bucket, CLIENTS[store](server.endpoint_url))


def _on_file(directory: Path) -> Place:
    directory.mkdir()
    path = directory / "events"

    def version() -> Any:
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            return found.st_ino, found.st_size, found.st_mtime_ns

    def leftovers() -> list[str]:
        return [each.name for each in directory.iterdir() if each != path]

    return Place("file", str(path), "-", version, path.read_bytes, path.write_bytes, leftovers)


def _on_s3(store: str, endpoint: str, bucket: str, client: Any) -> Place:
    name = {"Bucket": bucket, "Key": "events"}

    def version() -> Any:
        with contextlib.suppress(client.exceptions.ClientError):
            return client.head_object(**name)["ETag"]

    def leftovers() -> list[str]:
        keys = [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
        uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return [key for key in keys if key != "events"] + [f"upload of {each['Key']}" for each in uploads]

    return Place(
        store,
        f"s3://{bucket}/events",
        endpoint,
        version,
        lambda: client.get_object(**name)["Body"].read(),
        lambda content: client.put_object(**name, Body=content),
        leftovers,
    )


def _on_gs(store: str, endpoint: str, bucket: str, client: Any) -> Place:
    owner = client.bucket(bucket)

    def version() -> Any:
        found = owner.get_blob("events")
        return found and found.generation

    return Place(
        store,
        f"gs://{bucket}/events",
        endpoint,
        version,
        lambda: owner.blob("events").download_as_bytes(),
        lambda content: owner.blob("events").upload_from_string(content),
        # An upload that nobody finished goes by itself.
        lambda: [blob.name for blob in owner.list_blobs() if blob.name != "events"],
    )


def _on_azure(store: str, endpoint: str, bucket: str, client: Any) -> Place:
    container = client.get_container_client(bucket)
    blob = container.get_blob_client("events")

    def version() -> Any:
        return blob.get_blob_properties()["etag"] if blob.exists() else None

    def leftovers() -> list[str]:
        names = [each.name for each in container.list_blobs(include=["uncommittedblobs"])]
        _, blocks = blob.get_block_list("all")
        return [name for name in names if name != "events"] + [f"block {block.id}" for block in blocks]

    return Place(
        store,
        f"azure://{bucket}/events",
        endpoint,
        version,
        lambda: blob.download_blob().readall(),
        lambda content: blob.upload_blob(content, overwrite=True),
        leftovers,
    )


@dataclass
class Reader:
    """Looks at a destination every 5 ms, and keeps what it saw: no more than these contents may be."""

    place: Place
    seen: set[bytes | None] = field(default_factory=set)
    polls: int = 0
    failures: list[BaseException] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Reader":
        self._thread = threading.Thread(target=self._run, name="reader")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.look()

    def look(self) -> bytes | None:
        """Look once more; return what stands there."""
        content = self.place.read() if self.place.version() else None
        self.seen.add(content)
        return content

    def _run(self) -> None:
        known: Any = object()
        while not self._done.wait(0.005):
            self.polls += 1
            try:
                version = self.place.version()
                if version != known:
                    known = version
                    self.seen.add(self.place.read() if version else None)
            except Exception as error:  # noqa: BLE001 - each library has its own
                self.failures.append(error)


@pytest.fixture(scope="session")
def moto_one_at_a_time(moto_s3: Any) -> Iterator[Any]:
    """moto, whose threads share everything without a lock."""
    with FaultProxy(moto_s3.endpoint_url, one_at_a_time=True) as proxy:
        yield replace(moto_s3, endpoint_url=proxy.url)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Land in parts that are as small as they may be, and try everything once."""
    monkeypatch.setattr(s3, "_PART_BYTES", PART_BYTES)
    monkeypatch.setattr(gs, "_CHUNK_BYTES", PART_BYTES)
    monkeypatch.setattr(azure, "_BLOCK_BYTES", PART_BYTES)
    monkeypatch.setattr(gs, "_RETRY_SECONDS", 0)


@cells(CELLS)
def test_a_fault_leaves_nothing_half_done(
    cell: tuple[str, str, str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault, store, mode = cell
    place = place_on(store, request, tmp_path)
    before = OLD if mode == "replace" else None
    if before:
        place.write(before)
    source = tmp_path / "spool"
    source.write_bytes(NEW)
    fail = fail_on_file if store == "file" else fail_on_network

    with Reader(place) as reader:
        text = fail(fault, place, source, mode, monkeypatch)
        # What a finalizer might still send arrives now: the network is back.
        gc.collect()
        assert reader.look() == (NEW if FAULTS[fault] in ("lands", "fails, having landed") else before)
        check_text(text, place.uri, FAULTS[fault])

        # The task's retry, an hour later.
        for module in (local, s3):
            monkeypatch.setattr(module, "_ORPHAN_AGE", timedelta(hours=-1))
        land(source, digest_of(str(source)), place.uri, CLIENTS[store](place.endpoint), replace=bool(before))
        assert reader.look() == NEW
        assert place.leftovers() == []

    assert reader.failures == []
    assert reader.seen <= {before, NEW}
    assert reader.polls > 0


@cells(RIVALS)
def test_of_two_writers_at_once_one_wins_whole(
    cell: tuple[str, str, str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contents, store, mode = cell
    place = place_on(store, request, tmp_path)
    if mode == "replace":
        place.write(OLD)
    wanted = [NEW, OTHER if contents == "different" else NEW]

    with Reader(place) as reader, contextlib.ExitStack() as stack:
        results = race(place, wanted, mode, tmp_path, monkeypatch, stack)
        final = reader.look()
        assert final in wanted
        texts = [result for result in results if isinstance(result, str)]
        for text in texts:
            check_text(text, place.uri, "fails")
        # Whoever was told that it landed has landed, unless another was to replace it.
        if mode == "create":
            landed = [
                content for content, result in zip(wanted, results, strict=True) if result in (True, False)
            ]
            assert set(landed) == {final}
        if contents == "equal":
            assert texts == []

        # The task's retry of the writer that won changes nothing.
        source = tmp_path / "again"
        source.write_bytes(final)
        client = CLIENTS[store](place.endpoint)
        assert land(source, digest_of(str(source)), place.uri, client, replace=mode == "replace") is False
        assert place.leftovers() == []

    assert reader.failures == []
    assert reader.seen <= {OLD if mode == "replace" else None, *wanted}


def check_text(text: str, uri: str, outcome: str) -> None:
    """One clear line, or none."""
    if outcome in ("lands", "killed"):
        assert text == ""
        return
    assert uri in text
    assert not any(secret in text for secret in SECRETS)


def try_to_land(source: Path, uri: str, client: Any, replace: bool) -> bool | str:
    """Return what landing came to: its result, or the text of its error."""
    try:
        return land(source, digest_of(str(source)), uri, client, replace=replace)
    except StorageError as error:
        failure = error
    assert failure.__cause__ is None
    assert failure.__context__ is None
    return str(failure)


def text_of(result: bool | str) -> str:
    return result if isinstance(result, str) else ""


def land_in_child(
    place: Place, endpoint: str, source: Path, mode: str, *fault: str
) -> "subprocess.Popen[str]":
    """Start landing in a process of its own."""
    command = [sys.executable, str(LAND_ONCE), place.kind, endpoint, str(source), place.uri, mode, *fault]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def fail_on_network(
    fault: str, place: Place, source: Path, mode: str, _monkeypatch: pytest.MonkeyPatch
) -> str:
    """Land through a network that fails, and return the text of the error; afterwards it is mended."""
    protocol = PROTOCOLS[place.kind]
    part = functools.partial(Fault, protocol.part, nth=protocol.part_nth)
    commit = functools.partial(Fault, protocol.commit, nth=protocol.commit_nth)
    plans = {
        "dies half way": lambda: part(kind="cut", gone=True),
        "dies at the commit": lambda: commit(kind="refuse"),
        "commit and abort fail": lambda: commit(kind="status", answer=(500, {}, b""), gone=True),
        "answer of the commit lost": lambda: commit(kind="lose"),
        "answer of the commit lost, then no network": lambda: commit(kind="lose", gone=True),
        "full": lambda: part(kind="status", answer=protocol.full),
    }
    with FaultProxy(place.endpoint) as proxy:
        if fault == "killed half way":
            return kill_half_way(proxy, part, place, source, mode)
        plan = plans[fault]()
        proxy.plan(plan)
        result = try_to_land(source, place.uri, CLIENTS[place.kind](proxy.url), mode == "replace")
        proxy.heal()
        assert plan.hit
        gc.collect()
    return text_of(result)


def kill_half_way(
    proxy: FaultProxy, part: Callable[..., Fault], place: Place, source: Path, mode: str
) -> str:
    """Kill the writer while its second part is on the way."""
    killed = threading.Event()

    def kill() -> None:
        child.kill()
        killed.set()

    proxy.plan(part(kind="cut", before=kill))
    with land_in_child(place, proxy.url, source, mode) as child:
        assert child.wait(60) == -signal.SIGKILL
        assert killed.is_set()
        return child.stdout.read()


def fail_on_file(fault: str, place: Place, source: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Land on a disk that fails, and return the text of the error; afterwards it is mended."""
    if fault in ("full", "killed half way"):
        option = str(len(NEW) // 2) if fault == "full" else "die"
        with land_in_child(place, "-", source, mode, option) as child:
            output, code = child.stdout.read(), child.wait(60)
            assert code == (0 if fault == "full" else -signal.SIGKILL)
            return output.strip()
    with monkeypatch.context() as patch:
        for module, name, function in _BROKEN_CALLS[fault]:
            patch.setattr(module, name, function)
        result = try_to_land(source, place.uri, None, mode == "replace")
    return text_of(result)


def _broken(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _copy_half(source: Any, to: Any, _size: int) -> None:
    to.write(source.read(len(NEW) // 2))
    _broken()


def _after(call: Callable[..., Any]) -> Callable[..., Any]:
    def call_and_break(*arguments: Any, **options: Any) -> None:
        call(*arguments, **options)
        _broken()

    return call_and_break


_COMMITS = [(os, "link"), (os, "replace")]
_LOST = [(module, name, _after(getattr(module, name))) for module, name in _COMMITS]
_BROKEN_CALLS: dict[str, list[tuple[Any, str, Callable[..., Any]]]] = {
    "dies half way": [(shutil, "copyfileobj", _copy_half)],
    "dies at the commit": [(module, name, _broken) for module, name in _COMMITS],
    "commit and abort fail": [(module, name, _broken) for module, name in [*_COMMITS, (os, "unlink")]],
    "answer of the commit lost": _LOST,
    # The disk that is away can be read no more either.
    "answer of the commit lost, then no network": [*_LOST, (local, "is_plain_file", lambda _: False)],
}


def race(
    place: Place,
    contents: list[bytes],
    mode: str,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    stack: contextlib.ExitStack,
) -> list[bool | str]:
    """Land two contents so that all is written of both before either is committed."""
    barrier = threading.Barrier(len(contents), timeout=30)
    # moto dates every upload to 2010, so that one writer would take the other's for an orphan.
    monkeypatch.setattr(s3, "_ORPHAN_AGE", timedelta(days=36_500))
    endpoints = [place.endpoint] * len(contents)
    if place.kind == "file":
        monkeypatch.setattr(os, "fsync", _fsync_and(barrier.wait))
    else:
        protocol = PROTOCOLS[place.kind]
        proxies = [stack.enter_context(FaultProxy(place.endpoint)) for _ in contents]
        endpoints = [proxy.url for proxy in proxies]
        for proxy in proxies:
            proxy.plan(Fault(protocol.commit, "pass", nth=protocol.commit_nth, before=barrier.wait))
    sources = [directory / f"spool{number}" for number in range(len(contents))]
    for source, content in zip(sources, contents, strict=True):
        source.write_bytes(content)
    with ThreadPoolExecutor() as pool:
        writers = [
            pool.submit(try_to_land, source, place.uri, CLIENTS[place.kind](endpoint), mode == "replace")
            for source, endpoint in zip(sources, endpoints, strict=True)
        ]
        return [writer.result(60) for writer in writers]


def _fsync_and(wait: Callable[[], Any]) -> Callable[[int], None]:
    fsync = os.fsync

    def fsync_and_wait(handle: int) -> None:
        fsync(handle)
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            wait()

    return fsync_and_wait


@pytest.fixture(autouse=True)
def _threads_end() -> Iterator[None]:
    """No cell leaves a reader behind."""
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "reader"]
