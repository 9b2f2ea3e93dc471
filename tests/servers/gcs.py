"""A stand-in for Google Cloud Storage's JSON API, as google-cloud-storage speaks it.

Why of our own: of the emulators in package registries none honours preconditions on all ways to upload, and
those are what landing rests on. Here ``ifGenerationMatch`` is judged as Google does: at once for an upload in
one request, and both at the start and at the end of a resumable one. Checksums that the client states are
verified. Buckets keep noncurrent generations if they are told to (``versioning``), and what is gone, for ever
(``softDeletePolicy``).

Usage: ``python gcs.py PORT``. PORT 0 takes a free one. Once ready it prints
``listening on http://127.0.0.1:PORT``. Everything is in memory. A bucket need not be made.
"""

import base64
import hashlib
import json
import re
import socket
import sys
import uuid
from dataclasses import dataclass, field
from email import message_from_bytes
from itertools import count

import google_crc32c
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

HOST = "127.0.0.1"


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status, message):
        self.status = status
        self.message = message


#: What a client may say about an object, and gets back.
WRITABLE = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "kmsKeyName",
    "metadata",
    "storageClass",
)
PAGE = 1000
DELETED = "2026-01-01T00:00:00Z"


@dataclass
class Blob:
    """An object of one generation."""

    bucket: str
    name: str
    content: bytes
    generation: int
    metadata: dict

    @property
    def content_type(self):
        """Return its type."""
        return self.metadata.get("contentType", "application/octet-stream")

    def resource(self):
        """Return what Google says about it."""
        return {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "bucket": self.bucket,
            "name": self.name,
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": self.content_type,
            "storageClass": "STANDARD",
            "size": str(len(self.content)),
            "crc32c": crc32c(self.content),
            "md5Hash": md5(self.content),
            "etag": str(self.generation),
        } | self.metadata


@dataclass
class Session:
    """A resumable upload."""

    bucket: str
    name: str
    metadata: dict
    conditions: dict
    content: bytearray = field(default_factory=bytearray)
    finished: Blob | None = None


def crc32c(content):
    """Return a checksum as Google writes it."""
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


def md5(content):
    """Return a checksum as Google writes it."""
    return base64.b64encode(hashlib.md5(content).digest()).decode()


class Store:
    """All objects and unfinished uploads."""

    def __init__(self):
        self.blobs: dict[tuple[str, str], Blob] = {}
        self.noncurrent: list[Blob] = []
        self.soft_deleted: list[Blob] = []
        self.buckets: dict[str, dict] = {}
        self.sessions: dict[str, Session] = {}
        self.generations = count(1_700_000_000_000_001)

    def check(self, bucket, name, conditions):
        """Refuse a write whose precondition does not hold; generation 0 is that of no object."""
        wanted = conditions.get("ifGenerationMatch")
        standing = self.blobs.get((bucket, name))
        if wanted is not None and int(wanted) != (standing.generation if standing else 0):
            raise RefusedError(412, "At least one of the pre-conditions you specified did not hold.")

    def put(self, bucket, name, content, metadata, conditions):
        """Make an object appear, whole."""
        self.check(bucket, name, conditions)
        for key, digest in (("crc32c", crc32c), ("md5Hash", md5)):
            if metadata.get(key) not in (None, digest(content)):
                raise RefusedError(400, f"Provided {key} does not match the content.")
        kept = {key: metadata[key] for key in WRITABLE if metadata.get(key)}
        if key := conditions.get("kmsKeyName"):
            kept["kmsKeyName"] = f"{key}/cryptoKeyVersions/1"
        self.retire(bucket, name)
        blob = Blob(bucket, name, content, next(self.generations), kept)
        self.blobs[bucket, name] = blob
        return blob

    def get(self, request: Request):
        """Return the object that a request names."""
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        generation = request.query_params.get("generation")
        for blob in self.of(bucket, versions=generation is not None):
            if blob.name == name and generation in (None, str(blob.generation)):
                return blob
        raise RefusedError(404, "No such object")

    def of(self, bucket, versions):
        """Return the objects of a bucket, in order."""
        found = [*self.blobs.values(), *(self.noncurrent if versions else [])]
        return sorted((blob for blob in found if blob.bucket == bucket), key=order)

    def retire(self, bucket, name):
        """Let nothing stand at a name any more."""
        blob = self.blobs.pop((bucket, name), None)
        if blob and self.buckets.get(bucket, {}).get("versioning", {}).get("enabled"):
            blob.metadata["timeDeleted"] = DELETED
            self.noncurrent.append(blob)
        elif blob:
            self.bury(blob)

    def bury(self, blob):
        """Let an object be gone, as far as its bucket allows that."""
        if self.keeps_deleted(blob.bucket):
            blob.metadata["softDeleteTime"] = DELETED
            self.soft_deleted.append(blob)

    def keeps_deleted(self, bucket):
        """Return whether what is gone from a bucket is kept for a while."""
        policy = self.buckets.get(bucket, {}).get("softDeletePolicy", {})
        return int(policy.get("retentionDurationSeconds", 0)) > 0


def order(blob):
    """Return how objects are listed."""
    return blob.name.encode(), blob.generation


store = Store()


async def upload(request: Request):
    """Take a whole object, or start a resumable upload."""
    bucket, conditions = request.path_params["bucket"], dict(request.query_params)
    if conditions.get("uploadType") == "resumable":
        metadata = json.loads(await request.body() or "{}")
        name = conditions.get("name") or metadata["name"]
        store.check(bucket, name, conditions)
        key = uuid.uuid4().hex
        store.sessions[key] = Session(bucket, name, metadata, conditions)
        location = f"http://{request.headers['host']}{request.url.path}?uploadType=resumable&upload_id={key}"
        return Response(headers={"Location": location, "X-GUploader-UploadID": key})
    metadata, content = related(request.headers["content-type"], await request.body())
    return JSONResponse(store.put(bucket, metadata["name"], content, metadata, conditions).resource())


def related(content_type, body):
    """Split multipart/related into the metadata and the content."""
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    # The content is cut out by hand: the parser of mail would change its line ends.
    boundary = b"--" + message.get_boundary().encode()
    metadata, content = (part.split(b"\r\n\r\n", 1)[1] for part in body.split(boundary, 2)[1:])
    return json.loads(metadata), content[: content.rindex(b"\r\n" + boundary + b"--")]


async def chunk(request: Request):
    """Take a part of a resumable upload, or tell how far it is."""
    session = store.sessions.get(request.query_params["upload_id"])
    if session is None:
        raise RefusedError(404, "No such upload")
    body = await request.body()
    start, total = re.fullmatch(
        r"bytes (?:\*|(\d+)-\d+)/(\d+|\*)", request.headers.get("content-range", f"bytes 0-0/{len(body)}")
    ).groups()
    if session.finished:
        return JSONResponse(session.finished.resource())
    if start is not None:
        # What arrived before is kept.
        session.content += body[max(0, len(session.content) - int(start)) :]
    if total in ("*", None) or len(session.content) < int(total):
        last = len(session.content) - 1
        return Response(status_code=308, headers={"Range": f"bytes=0-{last}"} if last >= 0 else {})
    stated = dict(each.split("=", 1) for each in request.headers.get("x-goog-hash", "").split(",") if each)
    metadata = session.metadata | ({"crc32c": stated["crc32c"]} if "crc32c" in stated else {})
    session.finished = store.put(
        session.bucket, session.name, bytes(session.content), metadata, session.conditions
    )
    return JSONResponse(session.finished.resource())


async def cancel(request: Request):
    """Drop a resumable upload."""
    store.sessions.pop(request.query_params["upload_id"], None)
    return Response(status_code=499)


async def metadata(request: Request):
    """Tell about an object, or hand it out."""
    if request.query_params.get("alt") == "media":
        return await media(request)
    return JSONResponse(store.get(request).resource())


async def media(request: Request):
    """Hand out an object, or a range of it."""
    blob = store.get(request)
    headers = {
        "X-Goog-Hash": f"crc32c={crc32c(blob.content)},md5={md5(blob.content)}",
        "X-Goog-Generation": str(blob.generation),
        "Accept-Ranges": "bytes",
    }
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not wanted:
        return Response(blob.content, headers=headers, media_type=blob.content_type)
    start, size = int(wanted[1]), len(blob.content)
    end = min(int(wanted[2]) if wanted[2] else size - 1, size - 1)
    if start >= size:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Response(
        blob.content[start : end + 1], status_code=206, headers=headers, media_type=blob.content_type
    )


async def delete(request: Request):
    """Remove an object: what stands at the name, or for good, one generation."""
    blob = store.get(request)
    store.check(blob.bucket, blob.name, request.query_params)
    if "generation" not in request.query_params:
        store.retire(blob.bucket, blob.name)
        return Response(status_code=204)
    if blob in store.noncurrent:
        store.noncurrent.remove(blob)
    else:
        del store.blobs[blob.bucket, blob.name]
    store.bury(blob)
    return Response(status_code=204)


async def listing(request: Request):
    """List a bucket, page by page."""
    bucket, wanted = request.path_params["bucket"], request.query_params
    if wanted.get("softDeleted", "").lower() == "true":
        if not store.keeps_deleted(bucket):
            raise RefusedError(400, "Soft delete policy is required to list soft-deleted versions")
        found = sorted((blob for blob in store.soft_deleted if blob.bucket == bucket), key=order)
    else:
        found = store.of(bucket, versions=wanted.get("versions", "").lower() == "true")
    prefix, end = wanted.get("prefix", ""), wanted.get("endOffset")
    found = [blob for blob in found if blob.name.startswith(prefix) and (end is None or blob.name < end)]
    start = int(wanted.get("pageToken", 0))
    stop = start + min(PAGE, int(wanted.get("maxResults", PAGE)))
    page = {"kind": "storage#objects", "items": [blob.resource() for blob in found[start:stop]]}
    return JSONResponse(page | ({"nextPageToken": str(stop)} if stop < len(found) else {}))


async def bucket(request: Request):
    """Tell about a bucket, which the library asks for now and then, or change it."""
    name = request.path_params["bucket"]
    if request.method == "PATCH":
        store.buckets.setdefault(name, {}).update(await request.json())
    known = store.buckets.get(name, {})
    return JSONResponse(known | {"kind": "storage#bucket", "id": name, "name": name, "location": "US"})


async def refuse(_request: Request, refused: RefusedError):
    """Answer with an error as Google words it."""
    error = {"code": refused.status, "message": refused.message, "errors": [{"message": refused.message}]}
    return JSONResponse({"error": error}, status_code=refused.status)


app = Starlette(
    routes=[
        Route("/upload/storage/v1/b/{bucket}/o", upload, methods=["POST"]),
        Route("/upload/storage/v1/b/{bucket}/o", chunk, methods=["PUT"]),
        Route("/upload/storage/v1/b/{bucket}/o", cancel, methods=["DELETE"]),
        Route("/download/storage/v1/b/{bucket}/o/{name:path}", media),
        Route("/storage/v1/b/{bucket}", bucket, methods=["GET", "PATCH"]),
        Route("/storage/v1/b/{bucket}/o", listing),
        Route("/storage/v1/b/{bucket}/o/{name:path}", metadata, methods=["GET"]),
        Route("/storage/v1/b/{bucket}/o/{name:path}", delete, methods=["DELETE"]),
    ],
    exception_handlers={RefusedError: refuse},
)


if __name__ == "__main__":
    front = socket.create_server((HOST, int(sys.argv[1])))
    front.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(f"listening on http://{HOST}:{front.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run(sockets=[front])
