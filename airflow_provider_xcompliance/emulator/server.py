"""Running the stand-in: in the foreground, or in a thread for tests."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_xcompliance.emulator.app import build
from airflow_provider_xcompliance.emulator.control import Control
from airflow_provider_xcompliance.emulator.results import parse_events
from airflow_provider_xcompliance.emulator.settings import Settings
from airflow_provider_xcompliance.emulator.state import State

LOOPBACK = "127.0.0.1"


class OpenProtocol(H11Protocol):
    """A connection that requests can lay hands on, as ``scope["state"]["protocol"]``."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app_state = {**self.app_state, "protocol": self}
        # It is on wherever the root logger has a handler, whatever is set, and its lines hold the tokens.
        self.access_log = False


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # uvicorn's own way raises the signal again, which would not be a clean end.
        yield


class Emulator:
    """The stand-in bound to a port of the loopback interface, but not yet serving.

    :param port: 0 takes a free one.
    :param state_dir: where bodies and results are kept; None: a directory that goes with the server.
    :param events: NDJSON; each line is the event of the id in it.
    :raises ValueError: if an event cannot be read.
    :raises OSError: if the port is taken, or the directory cannot be made.
    """

    def __init__(
        self, settings: Settings, port: int = 0, state_dir: Path | None = None, events: bytes | None = None
    ) -> None:
        parsed = None if events is None else parse_events(events)
        with contextlib.ExitStack() as stack:
            if state_dir is None:
                temporary = tempfile.TemporaryDirectory(
                    prefix="xcompliance-emulator-", ignore_cleanup_errors=True
                )
                state_dir = Path(stack.enter_context(temporary))
            state_dir.mkdir(parents=True, exist_ok=True)
            self._socket = stack.enter_context(socket.create_server((LOOPBACK, port)))
            self._cleanup = stack.pop_all()
        # asyncio does this only for sockets that name their protocol; without it each answer waits 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://{LOOPBACK}:{self._socket.getsockname()[1]}"
        self.state = State(settings, state_dir, parsed)
        self.control = Control(self.state)
        self.server: _Server | None = None

    async def serve(self, on_start: Callable[[], None]) -> None:
        """Serve until :meth:`stop`."""
        config = uvicorn.Config(
            build(self.state, self.control),
            http=OpenProtocol,
            ws="none",
            lifespan="off",
            date_header=False,
            server_header=False,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self.server = _Server(config, on_start)
        with self._cleanup:
            await self.server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """End serving; to be called in the server's loop."""
        self.state.closing = True
        self.state.faults.release()
        if self.server:
            self.server.should_exit = True


async def run(emulator: Emulator) -> None:
    """Serve in the foreground until SIGTERM or SIGINT; says on stdout when it is ready."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, emulator.stop)
    await emulator.serve(lambda: print(f"listening on {emulator.url}", flush=True))


class EmulatorServer:
    """The stand-in in a thread, on a free port of the loopback interface.

    What can be done to it are the functions of
    :class:`~airflow_provider_xcompliance.emulator.control.Control`: ``advance(60)``, ``add_fault("reset")``,
    ``requests()``, ``jobs()``, ``configure(flow="legacy")`` and so on.

    :param events: NDJSON; each line is the event of the id in it.
    :param settings: see :class:`~airflow_provider_xcompliance.emulator.settings.Settings`.
    """

    def __init__(
        self, *, events: str | bytes | None = None, state_dir: Path | None = None, **settings: Any
    ) -> None:
        raw = events.encode() if isinstance(events, str) else events
        self._settings = msgspec.convert(settings, Settings)
        self._emulator = Emulator(self._settings, state_dir=state_dir, events=raw)
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="x-api-stand-in", daemon=True)
        self.url = self._emulator.url

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._emulator.serve(self._started.set))
            self._loop.run_until_complete(self._loop.shutdown_default_executor())

    def __enter__(self) -> EmulatorServer:
        self._thread.start()
        if not self._started.wait(30):
            raise TimeoutError("the stand-in X API did not start within 30 s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._emulator.stop)
        self._thread.join()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function of :class:`~airflow_provider_xcompliance.emulator.control.Control`."""
        function = getattr(self._emulator.control, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            return function(*arguments, **options)

        def call_in_loop(*arguments: Any, **options: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(call(*arguments, **options), self._loop).result(30)

        return call_in_loop

    @property
    def bearer_token(self) -> str:
        """The bearer that is accepted."""
        return self._settings.bearer_token

    @property
    def api_key(self) -> str:
        """The API key that is accepted."""
        return self._settings.api_key

    @property
    def api_secret(self) -> str:
        """The API secret that is accepted."""
        return self._settings.api_secret
