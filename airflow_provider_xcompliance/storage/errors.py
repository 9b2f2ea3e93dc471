"""Whatever a store's library raises, as one sentence with nothing secret in it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


class StorageError(Exception):
    """A file could not be read or landed."""


class AddressError(StorageError):
    """A URI names no file, or one that cannot be reached in this way: trying again changes nothing."""


class MissingError(StorageError):
    """There is no such file."""


class ChangedError(StorageError):
    """A file is no longer the version that was named: read it again, and then write again."""


class DestinationExistsError(StorageError):
    """Another file stands at the destination, and replacing it was not asked for."""


class TakenError(Exception):
    """Something stands at the destination already; what, is not known here."""


CHANGED = "it has been changed in the meantime"
RIVAL = "another writer is at work on it"

_DENIED = "access is denied"
_ARCHIVED = "it lies in an archive tier, where it cannot be read; restore it, or leave it out"
_NO_BUCKET = "there is no such bucket"
_NO_OBJECT = "there is no such object"
_NO_LIBRARY = "its library is missing; install this package's extra for it"
_NO_CREDENTIALS = "no credentials for the store were found; set its connection"
_UNREACHABLE = "the store cannot be reached"
_CUT = "the connection to the store was cut"
_SILENT = "the store did not answer in time"
_BUSY = "the store failed or is overloaded; try again later"

#: What codes and classes of errors, which do not explain themselves, mean.
_REASONS = {
    # HTTP
    "401": "the credentials are not accepted",
    "403": _DENIED,
    "404": _NO_OBJECT,
    "412": CHANGED,
    "429": _BUSY,
    "500": _BUSY,
    "502": _BUSY,
    "503": _BUSY,
    "504": _BUSY,
    "507": "the store is full",
    # S3
    "AccessDenied": _DENIED,
    "ConditionalRequestConflict": RIVAL,
    "InternalError": _BUSY,
    "InvalidObjectState": _ARCHIVED,
    "NoCredentialsError": _NO_CREDENTIALS,
    "NoSuchBucket": _NO_BUCKET,
    "NoSuchKey": _NO_OBJECT,
    "NoSuchUpload": RIVAL,
    "NoSuchVersion": _NO_OBJECT,
    "PreconditionFailed": CHANGED,
    "SlowDown": _BUSY,
    # Google
    "DefaultCredentialsError": _NO_CREDENTIALS,
    # Azure
    "AuthenticationFailed": "the credentials are not accepted",
    "AuthorizationFailure": _DENIED,
    "AuthorizationPermissionMismatch": _DENIED,
    "BlobArchived": _ARCHIVED,
    "BlobImmutableDueToPolicy": "a policy of its container forbids to change it",
    "BlobNotFound": _NO_OBJECT,
    "ConditionNotMet": CHANGED,
    "ContainerNotFound": "there is no such container",
    "InvalidBlobOrBlock": "blocks that another program left unfinished are in the way for up to a week",
    "InvalidBlockList": RIVAL,
    "LeaseIdMissing": "another program holds a lease on it",
    "ServerBusy": _BUSY,
    # The network
    "ChunkedEncodingError": _CUT,
    "ConnectTimeout": _SILENT,
    "ConnectTimeoutError": _SILENT,
    "ConnectionClosedError": _CUT,
    "ConnectionError": "the connection to the store failed",
    "EndpointConnectionError": _UNREACHABLE,
    "IncompleteReadError": _CUT,
    "NewConnectionError": _UNREACHABLE,
    "ProtocolError": _CUT,
    "ReadTimeout": _SILENT,
    "ReadTimeoutError": _SILENT,
    "ResponseStreamingError": _CUT,
    "ServiceRequestError": _UNREACHABLE,
    "ServiceRequestTimeoutError": _SILENT,
    "ServiceResponseError": _CUT,
    "ServiceResponseTimeoutError": _SILENT,
    # Reading
    "BadGzipFile": "it is not compressed, although its name says so",
    "LZMAError": "it is not compressed, although its name says so",
    "ZstdError": "it is not compressed, although its name says so",
    "EOFError": "the compressed file is cut short",
    "ImportError": _NO_LIBRARY,
    "ModuleNotFoundError": _NO_LIBRARY,
    "NotImplementedError": "this kind of address is not known",
}

#: What is worth an error of its own.
_CLASSES = {
    CHANGED: ChangedError,
    RIVAL: ChangedError,
    _NO_OBJECT: MissingError,
    os.strerror(errno.ENOENT): MissingError,
}

# Where a store's library puts its code, or the status of the answer.
_CODE_ATTRIBUTES = ("error_code", "status_code", "code")
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def explained(what: str, action: Callable[[], T]) -> T:
    """
    Do something with a store, and fail with a :class:`StorageError` alone.

    :param what: what fails if it fails
    """
    try:
        return action()
    except (StorageError, TakenError):
        raise
    except Exception as error:  # noqa: BLE001 - each store's library has errors of its own
        reason = _reason(error)
        failure = _CLASSES.get(reason, StorageError)(f"{what}: {reason}")
    # Raised out here, so that not even its ``__context__`` leads to a URL, a header or a key.
    raise failure


def codes_of(error: BaseException) -> Iterator[str]:
    """Yield the codes of an error and of what caused it, which are often wrapped in one another."""
    link: BaseException | None = error
    while link is not None:
        response = getattr(link, "response", None)
        found = [response.get("Error", {}).get("Code")] if isinstance(response, dict) else []
        found += [getattr(link, name, None) for name in _CODE_ATTRIBUTES]
        # Enumerations of statuses and codes give their plain value.
        codes = (str(getattr(code, "value", code)) for code in found if code)
        yield from (code for code in codes if _CODE.fullmatch(code))
        link = link.__cause__


def _reason(error: BaseException) -> str:
    codes, names = list(codes_of(error)), list(_names_of(error))
    known = next((_REASONS[each] for each in (*codes, *names) if each in _REASONS), None)
    return known or getattr(error, "strerror", None) or next(iter((*codes, *names)))


def _names_of(error: BaseException) -> Iterator[str]:
    link: BaseException | None = error
    while link is not None:
        yield type(link).__name__
        link = link.__cause__
