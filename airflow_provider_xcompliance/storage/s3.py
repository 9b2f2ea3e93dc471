"""Landing on S3: an object appears when its upload is completed."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from airflow_provider_xcompliance.storage.addresses import object_name
from airflow_provider_xcompliance.storage.errors import TakenError, codes_of

# Sets the memory that a landing takes, and with 10,000 parts the largest object: 160 GB.
_PART_BYTES = 16 << 20

# S3 keeps, and bills, the parts of an upload that nobody completes; those of an older landing are removed.
_ORPHAN_AGE = timedelta(hours=1)

_TAKEN = {"PreconditionFailed", "412"}

require_name = object_name


def put(source: Path, uri: str, client: Any, replace: bool) -> None:
    """
    Write an object.

    :raises TakenError: if something stands there that may not be replaced
    :raises Exception: whatever boto3 raises
    """
    bucket, key = object_name(uri)
    name, s3 = {"Bucket": bucket, "Key": key}, client or _default_client()
    condition = {} if replace else {"IfNoneMatch": "*"}
    try:
        with source.open("rb") as file:
            if source.stat().st_size <= _PART_BYTES:
                s3.put_object(**name, Body=file, **condition)
            else:
                _put_parts(s3, name, file, condition)
    except Exception as error:
        if _TAKEN.intersection(codes_of(error)):
            raise TakenError from None
        raise


def _put_parts(s3: Any, name: dict[str, str], file: IO[bytes], condition: dict[str, str]) -> None:
    # Not by smart_open: where the network fails while its writer is closed, the garbage collector closes that
    # writer again, and completes an upload that lacks its end.
    _abort_old_uploads(s3, name)
    upload = name | {"UploadId": s3.create_multipart_upload(**name)["UploadId"]}
    try:
        parts: list[dict[str, Any]] = []
        while block := file.read(_PART_BYTES):
            number = len(parts) + 1
            stored = s3.upload_part(**upload, PartNumber=number, Body=block)
            parts.append({"PartNumber": number, "ETag": stored["ETag"]})
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
    except BaseException:
        with contextlib.suppress(Exception):
            s3.abort_multipart_upload(**upload)
        raise


def _abort_old_uploads(s3: Any, name: dict[str, str]) -> None:
    """Abort what killed landings of this object left; to be allowed to is not needed for landing."""
    oldest = datetime.now(UTC) - _ORPHAN_AGE
    with contextlib.suppress(Exception):
        found = s3.list_multipart_uploads(Bucket=name["Bucket"], Prefix=name["Key"]).get("Uploads", [])
        for upload in found:
            if upload["Key"] == name["Key"] and upload["Initiated"] < oldest:
                s3.abort_multipart_upload(**name, UploadId=upload["UploadId"])


def _default_client() -> Any:
    import boto3  # type: ignore[import-untyped]

    return boto3.client("s3")
