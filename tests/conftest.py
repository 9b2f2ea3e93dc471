"""What the tests share: an Airflow of their own, the stand-in X API, and object stores."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLE_DAGS = Path(__file__).parents[1] / "example_dags"

# Airflow reads its settings when it is first imported, so they stand here, before every other import.
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="xcompliance-airflow-"))
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)
os.environ |= {
    "AIRFLOW_HOME": str(AIRFLOW_HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLE_DAGS),
}

import boto3
import hypothesis
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from airflow_provider_xcompliance.emulator.server import EmulatorServer

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# Nothing else looks like this, so that a search for it finds every place that a token got to.
BEARER_TOKEN = "canary-bearer-3f9d1c"

SWIFT_S3 = Path(__file__).parent / "servers" / "swift_s3.py"
READY = "listening on "


@dataclass(frozen=True)
class S3Server:
    """A running S3-compatible store and the credentials for it."""

    endpoint_url: str
    access_key: str
    secret_key: str

    def client(self, **config: Any) -> Any:
        """Return a boto3 client; ``config`` goes to :class:`botocore.config.Config`."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, **config),
        )

    def connection(self) -> dict[str, Any]:
        """Return the values of an Airflow connection to it."""
        return {
            "conn_type": "aws",
            "login": self.access_key,
            "password": self.secret_key,
            "extra": {"endpoint_url": self.endpoint_url, "region_name": "us-east-1"},
        }

    def bucket(self) -> str:
        """Make a bucket that no other test has, and return its name."""
        name = f"test-{uuid.uuid4().hex}"
        self.client().create_bucket(Bucket=name)
        return name


@pytest.fixture(scope="session")
def swift_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """OpenStack Swift with s3api: a real store, in its own process because eventlet patches all of it."""
    root = tmp_path_factory.mktemp("swift")
    log = root / "stderr.log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, str(SWIFT_S3), str(root), "0"], stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        try:
            ready = process.stdout.readline()
            assert ready.startswith(READY), f"swift did not start:\n{log.read_text()}"
            yield S3Server(ready.removeprefix(READY).strip(), access_key="test:tester", secret_key="testing")
        finally:
            process.kill()


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[S3Server]:
    """moto's server, on a thread of this process."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Server(f"http://{host}:{port}", access_key="test", secret_key="test")
    server.stop()


@pytest.fixture(params=["swift_s3", "moto_s3"])
def s3(request: pytest.FixtureRequest) -> S3Server:
    """Run the test against both stores."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def running() -> Iterator[EmulatorServer]:
    """The stand-in X API, one for many tests."""
    with EmulatorServer(bearer_token=BEARER_TOKEN) as server:
        yield server


@pytest.fixture
def emulator(running: EmulatorServer) -> EmulatorServer:
    """The stand-in X API as it was at its start."""
    running.reset()
    return running


@pytest.fixture(params=["current", "legacy"])
def flow(request: pytest.FixtureRequest, emulator: EmulatorServer) -> str:
    """Run the test in both wire flows."""
    emulator.configure(flow=request.param)
    return request.param


@pytest.fixture
def legacy(emulator: EmulatorServer) -> None:
    """Run the test in the legacy flow."""
    emulator.configure(flow="legacy")


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that gives an Airflow connection its values."""

    def set_connection(conn_id: str, **values: Any) -> None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(values))

    return set_connection


@pytest.fixture
def x_connection(emulator: EmulatorServer, flow: str, connect: Callable[..., None]) -> None:
    """Point the default connection at the stand-in, in both wire flows."""
    connect("xcompliance_default", conn_type="xcompliance", host=emulator.url, password=BEARER_TOKEN)


@pytest.fixture
def id_file(tmp_path: Path) -> Path:
    """A file of a thousand ids, each of which is that of a post or of a user."""
    path = tmp_path / "ids.txt"
    path.write_text("".join(f"{1_300_000_000_000_000_000 + n * 4_194_305}\n" for n in range(1000)))
    return path


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Make Airflow's database, once."""
    from airflow.utils.db import initdb

    initdb()
