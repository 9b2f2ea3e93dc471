"""Servers that the tests share."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

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
