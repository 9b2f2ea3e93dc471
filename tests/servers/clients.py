"""Clients of the stores' libraries that try everything once, for stores on loopback."""

import base64
from typing import Any

# The least that S3 takes for a part, and a multiple of what Google takes.
PART_BYTES = 5 << 20

AZURE_ACCOUNT = "testaccount"
AZURE_KEY = base64.b64encode(b"canary-account-key-5d1e7a-of-azure").decode()
S3_KEYS = {"swift": ("test:tester", "testing"), "moto": ("test", "test")}


def s3_client(endpoint_url: str, access_key: str, secret_key: str, **options: Any) -> Any:
    """Return a boto3 client."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        **options,
    )


def gs_client(endpoint_url: str, credentials: Any = None) -> Any:
    """Return a client of google-cloud-storage; without credentials it is anonymous."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    return Client(
        project="test",
        credentials=credentials or AnonymousCredentials(),
        client_options={"api_endpoint": endpoint_url},
    )


def azure_client(endpoint_url: str, **options: Any) -> Any:
    """Return a client of azure-storage-blob; ``options`` are those of BlobServiceClient."""
    from azure.storage.blob import BlobServiceClient

    credential = {"account_name": AZURE_ACCOUNT, "account_key": AZURE_KEY}
    return BlobServiceClient(
        f"{endpoint_url}/{AZURE_ACCOUNT}", **({"credential": credential, "retry_total": 0} | options)
    )


#: Store → its client, given where it listens.
CLIENTS = {
    "file": lambda _: None,
    "swift": lambda url: s3_client(url, *S3_KEYS["swift"]),
    "moto": lambda url: s3_client(url, *S3_KEYS["moto"]),
    "gs": gs_client,
    "azure": azure_client,
}
