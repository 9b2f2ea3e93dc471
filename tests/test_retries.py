import importlib
import inspect
import pkgutil

import pytest

import airflow_provider_xcompliance
from airflow_provider_xcompliance import results
from airflow_provider_xcompliance.api import errors
from airflow_provider_xcompliance.archive.events import InvalidEventsError, MissingControlsError
from airflow_provider_xcompliance.archive.ids import InvalidIdsError
from airflow_provider_xcompliance.retries import RETRIES, is_final, retry_of
from airflow_provider_xcompliance.storage import DestinationExistsError, StorageError

#: Never raised themselves: a base of others, and what a store's module tells the one that lands.
NEVER_SEEN = {"XComplianceError", "TakenError"}


def errors_of(part: str) -> set[type[Exception]]:
    package = importlib.import_module(f"{airflow_provider_xcompliance.__name__}.{part}")
    names = [each.name for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return {
        each
        for name in names
        for _, each in inspect.getmembers(importlib.import_module(name), inspect.isclass)
        if issubclass(each, Exception) and each.__module__ == name
    }


ERRORS = sorted(
    {*errors_of("api"), *errors_of("archive"), *errors_of("storage"), results.InvalidResultError},
    key=lambda each: each.__name__,
)


def made(kind: type[Exception]) -> Exception:
    return kind("what went wrong")


class TestTable:
    @pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
    def test_it_knows_every_error_of_the_package(self, kind):
        assert (retry_of(made(kind)) is not None) == (kind.__name__ not in NEVER_SEEN)

    def test_it_is_worth_looking_through(self):
        assert {errors.RateLimitedError, InvalidIdsError, StorageError} <= set(ERRORS)

    @pytest.mark.parametrize("kind", [kind for retry in RETRIES for kind in retry.kinds])
    def test_no_line_hides_a_later_one(self, kind):
        retry = retry_of(made(kind))

        assert retry is not None
        assert kind in retry.kinds

    def test_what_the_client_repeats_is_what_it_calls_transient(self):
        repeated = {kind for retry in RETRIES if "repeats it" in retry.by_client for kind in retry.kinds}

        assert repeated == set(errors.TRANSIENT_ERRORS)

    @pytest.mark.parametrize("retry", RETRIES, ids=lambda retry: retry.kinds[0].__name__)
    def test_each_line_says_what_and_why(self, retry):
        assert retry.by_client
        assert retry.why
        assert not retry.why.endswith(".")


class Later(errors.ServerError):
    """An error of a later release."""


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (errors.NetworkError("x"), False),
        (errors.ServerError("x"), False),
        (Later("x"), False),
        (errors.RateLimitedError("x"), False),
        (errors.IntegrityError("x"), False),
        (errors.DeadlineError("x"), False),
        (errors.JobFailedError("x"), False),
        (errors.JobConflictError("x"), False),
        (errors.JobStateError("x"), True),
        (errors.UrlExpiredError("x"), True),
        (errors.UploadTooLargeError("x"), True),
        (errors.AuthenticationError("x"), True),
        (errors.AccessDeniedError("x"), True),
        (errors.UsageCappedError("x"), True),
        (errors.UrlRefusedError("x"), True),
        (errors.CertificateError("x"), True),
        (errors.JobNotFoundError("x"), True),
        (errors.InvalidRequestError("x"), True),
        (InvalidIdsError("x"), True),
        (InvalidEventsError("x"), False),
        (MissingControlsError("x"), False),
        (StorageError("x"), False),
        (DestinationExistsError("x"), True),
        (ValueError("x"), True),
        # What is not of this package follows the task's own settings.
        (RuntimeError("x"), False),
        (KeyError("x"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_no_other_try_can_cure_is_final(error, final):
    assert is_final(error) is final
