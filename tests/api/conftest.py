"""A client of the stand-in, and a server that answers with whatever bytes a test wants."""

import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from airflow_provider_xcompliance.api.client import DownloadedResult, XComplianceClient
from airflow_provider_xcompliance.api.errors import XComplianceError
from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.api.transport import Credentials, Transport
from airflow_provider_xcompliance.api.urls import UrlPolicy
from airflow_provider_xcompliance.emulator.server import EmulatorServer

SECRETS = {
    "bearer_token": "AAAAbearer%2Ftoken-of-the-app",
    "api_key": "consumer-key-of-the-app",
    "api_secret": "consumer/secret+of the app",
}
IDS = b"".join(b"%d\n" % (1265324480517361664 + number * 4194305) for number in range(200))


@dataclass
class Session:
    """A client of the stand-in that notes how long it would sleep."""

    emulator: EmulatorServer
    directory: Path
    sleeps: list[float] = field(default_factory=list)
    credentials: Credentials = field(default_factory=lambda: Credentials(SECRETS["bearer_token"]))
    on_sleep: Callable[[], Any] = lambda: None
    ids: bytes = IDS

    def __post_init__(self) -> None:
        self.client = self.new_client()

    def new_client(self, timeout_seconds: float = 20, **options: Any) -> XComplianceClient:
        policy = UrlPolicy(self.emulator.url)
        transport = Transport(policy, self.credentials, timeout_seconds=timeout_seconds)
        return XComplianceClient(transport, policy, sleep=self._sleep, **options)

    def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.on_sleep()

    def create(self, *, resumable: bool | None = None) -> Job:
        """Create a job, as a signed resumable upload if asked for."""
        return self.client.create_job("tweets", "nightly", resumable)

    def upload(self, job: Job, body: bytes | None = None, client: XComplianceClient | None = None) -> None:
        path, body = self.directory / "ids", body or self.ids
        path.write_bytes(body)
        (client or self.client).upload(job, path, google_crc32c.value(body))

    def complete(self, result: bytes) -> Job:
        """Return a job that is complete and has just these bytes as its result."""
        job = self.create()
        self.emulator.set_result(job.id, result)
        self.emulator.set_job(job.id, "complete")
        return self.client.get_job(job.id)

    def download(self, job: Job, client: XComplianceClient | None = None) -> tuple[DownloadedResult, bytes]:
        path = self.directory / "result"
        path.touch()
        result = (client or self.client).download(job, path)
        return result, path.read_bytes()


@pytest.fixture(scope="session")
def running() -> Iterator[EmulatorServer]:
    """One server for all tests."""
    with EmulatorServer(**SECRETS) as emulator:
        yield emulator


@pytest.fixture
def session(emulator: EmulatorServer, tmp_path: Path) -> Session:
    """A client of the stand-in."""
    return Session(emulator, tmp_path)


@pytest.fixture
def session_with_key(emulator: EmulatorServer, tmp_path: Path) -> Session:
    """A client that has API key and secret instead of a bearer."""
    credentials = Credentials(api_key=SECRETS["api_key"], api_secret=SECRETS["api_secret"])
    return Session(emulator, tmp_path, credentials=credentials)


class RawServer:
    """
    Answer each connection with given bytes, and close it.

    :param replies: in turn, the last one for all that follow; None closes without an answer
    """

    def __init__(self, replies: tuple[bytes | None, ...], context: ssl.SSLContext | None = None) -> None:
        self._replies = list(replies)
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.requests: list[bytes] = []
        scheme = "https" if context else "http"
        self.port = self._listener.getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self._answer(connection)
                except OSError:
                    continue

    def _answer(self, plain: socket.socket) -> None:
        connection = self._context.wrap_socket(plain, server_side=True) if self._context else plain
        with connection, connection.makefile("rb") as stream:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += stream.readline() or b"\r\n\r\n"
            length = next(
                (
                    int(line[15:])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ),
                0,
            )
            self.requests.append(head + stream.read(length))
            reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
            if reply is not None:
                # Said beforehand, or the client could send its next request into the closing connection.
                connection.sendall(reply.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    """Start servers that end with the test."""
    servers: list[RawServer] = []

    def start(*replies: bytes | None, context: ssl.SSLContext | None = None) -> RawServer:
        servers.append(RawServer(replies, context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def assert_no_secret() -> Callable[..., None]:
    """Assert that nothing reachable from an error, and nothing that a log would show of it, is secret."""

    def check(error: BaseException, *secrets: str) -> None:
        forbidden = [*SECRETS.values(), *secrets]
        shown = ["".join(traceback.format_exception(error))]
        pending: list[Any] = [error]
        while pending:
            link = pending.pop()
            if isinstance(link, BaseException):
                assert isinstance(link, XComplianceError), f"{link!r} can be reached from {error!r}"
                pending += [link.__cause__, link.__context__, *link.args, *vars(link).values()]
            shown.append(repr(link))
        for secret in forbidden:
            assert not any(secret in text for text in shown)
        assert not any(f"{name}=" in text for name in ("token", "Signature", "upload_id") for text in shown)

    return check
