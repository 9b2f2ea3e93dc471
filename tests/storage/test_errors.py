from http import HTTPStatus
from typing import Any

import pytest

from airflow_provider_xcompliance.storage import ChangedError, MissingError, StorageError
from airflow_provider_xcompliance.storage.errors import explained


def failure(name: str, cause: BaseException | None = None, **attributes: Any) -> Exception:
    """Return an error as a library would raise it, its text full of secrets."""
    error = type(name, (Exception,), attributes)("https://host/?sig=secret")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (failure("ClientError", response={"Error": {"Code": "AccessDenied"}}), "access is denied"),
        (failure("ClientError", response={"Error": {"Code": "XMinioStorageFull"}}), "XMinioStorageFull"),
        (failure("ClientError", response={"Error": {"Code": "\nsecret"}}), "ClientError"),
        (failure("ValueError", failure("Inner", code=404)), "there is no such object"),
        (failure("Forbidden", code=HTTPStatus.FORBIDDEN), "access is denied"),
        (
            failure("ServiceUnavailable", code=503),
            "the store failed or is overloaded; try again later",
        ),
        (
            failure("RetryError", failure("ConnectTimeout")),
            "the store did not answer in time",
        ),
        (
            failure("ResourceNotFoundError", error_code="ContainerNotFound", status_code=404),
            "there is no such container",
        ),
        (failure("HttpResponseError", error_code="InvalidBlockList"), "another writer is at work on it"),
        (failure("HttpResponseError", error_code="Unheard", status_code=418), "Unheard"),
        (failure("ServiceRequestError"), "the store cannot be reached"),
        (
            failure("DefaultCredentialsError"),
            "no credentials for the store were found; set its connection",
        ),
        (
            failure("ClientError", response={"Error": {"Code": "PreconditionFailed"}}),
            "it has been changed in the meantime",
        ),
        (
            failure("ResourceModifiedError", error_code="LeaseIdMissing", status_code=412),
            "another program holds a lease on it",
        ),
        (
            failure("ClientError", response={"Error": {"Code": "InvalidObjectState"}}),
            "it lies in an archive tier, where it cannot be read; restore it, or leave it out",
        ),
        (OSError(28, "No space left on device"), "No space left on device"),
        (failure("Whatever"), "Whatever"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_fails_is_said_in_one_line_that_leads_nowhere(error: Exception, reason: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(StorageError) as caught:
        explained("cannot write it", fail)

    assert str(caught.value) == f"cannot write it: {reason}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (failure("PreconditionFailed", code=412), ChangedError),
        (failure("ClientError", response={"Error": {"Code": "ConditionalRequestConflict"}}), ChangedError),
        (failure("NotFound", code=404), MissingError),
        (FileNotFoundError(2, "No such file or directory"), MissingError),
        (failure("Forbidden", code=403), StorageError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_is_worth_an_error_of_its_own_has_one(error: Exception, kind: type[Exception]) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(StorageError) as caught:
        explained("cannot write it", fail)

    assert type(caught.value) is kind
