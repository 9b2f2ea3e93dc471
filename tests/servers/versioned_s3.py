"""A versioned S3 that honours If-Match: moto, and in front of it what moto lacks.

moto judges ``If-Match`` where an object is put or deleted, and ``If-None-Match`` everywhere, and it keeps
versions and delete markers. It ignores ``If-Match`` where an upload of several parts is completed, and its
threads share everything without a lock, so that two writers at once could both find their condition met. The
proxy judges what moto does not, and lets one request through at a time.

Usage: ``with versioned_s3() as store: store.client().put_object(Bucket=store.bucket(), …)``.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from moto.s3.models import FakeKey
from moto.server import ThreadedMotoServer

from tests.servers.clients import S3_KEYS, s3_client
from tests.servers.fault_proxy import FaultProxy, Message

_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>judged by the proxy</Message></Error>"
_ANSWERS = {404: "NoSuchKey", 412: "PreconditionFailed"}


class JudgingProxy(FaultProxy):
    """Refuses to complete an upload if another version stands there, as S3 does."""

    def _forward(self, request: Message) -> Message:
        # moto copies every version of everything to list some, and would remember the copies for ever.
        FakeKey.instances_tracked.clear()
        status = self._judge(request)
        if status == 200:
            return super()._forward(request)
        body = _ERROR.format(code=_ANSWERS[status]).encode()
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        return Message(f"HTTP/1.1 {status} Judged", [*headers, ("Connection", "close")], body)

    def _judge(self, request: Message) -> int:
        method, target, _ = request.start.split(" ")
        wanted = request.header("if-match")
        if not (method == "POST" and "uploadId=" in target and wanted):
            return 200
        store = HTTPConnection(*self._upstream)
        try:
            # moto asks for a signature, whatever it is of.
            headers = {"Authorization": request.header("authorization")}
            store.request("HEAD", target.partition("?")[0], headers=headers)
            answer = store.getresponse()
            etag = answer.getheader("ETag", "")
        finally:
            store.close()
        if answer.status != 200:
            return answer.status
        return 200 if etag.strip('"') == wanted.strip('"') else 412


@dataclass(frozen=True)
class VersionedS3:
    """
    The running store.

    :param proxy: what stands in front of it; ``plan`` makes requests fail
    """

    proxy: FaultProxy
    access_key: str = S3_KEYS["moto"][0]
    secret_key: str = S3_KEYS["moto"][1]

    @property
    def endpoint_url(self) -> str:
        """Return where it listens."""
        return self.proxy.url

    def client(self, **options: Any) -> Any:
        """Return a boto3 client, which tries everything once; ``options`` are those of ``boto3.client``."""
        return s3_client(self.endpoint_url, self.access_key, self.secret_key, **options)

    def connection(self) -> dict[str, Any]:
        """Return the values of an Airflow connection to it."""
        return {
            "conn_type": "aws",
            "login": self.access_key,
            "password": self.secret_key,
            "extra": {"endpoint_url": self.endpoint_url, "region_name": "us-east-1"},
        }

    def bucket(self, versioning: str = "Enabled") -> str:
        """
        Make a bucket that no other test has, and return its name.

        :param versioning: ``Enabled``, ``Suspended``, or nothing for a bucket that never had versions
        """
        name, client = f"test-{uuid.uuid4().hex}", self.client()
        client.create_bucket(Bucket=name)
        if versioning:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": versioning})
        return name

    def contents(self, bucket: str) -> list[bytes]:
        """Return the content of every version of every object, the current ones and all that came before."""
        client = self.client()
        pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket)
        versions = [version for page in pages for version in page.get("Versions", [])]
        return [
            client.get_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])["Body"].read()
            for each in versions
        ]


@contextmanager
def versioned_s3() -> Iterator[VersionedS3]:
    """Run the store for a while."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with JudgingProxy(f"http://{host}:{port}", one_at_a_time=True) as proxy:
            yield VersionedS3(proxy)
    finally:
        server.stop()
