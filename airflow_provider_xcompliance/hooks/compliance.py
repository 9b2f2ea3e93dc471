"""An Airflow connection, made into a ready client of X's batch compliance API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseHook, Connection, conf, mask_secret
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_xcompliance import transfer
from airflow_provider_xcompliance.api.client import (
    DEFAULT_MAX_RATE_LIMIT_WAIT,
    MAX_TRIES,
    XComplianceClient,
)
from airflow_provider_xcompliance.api.errors import (
    AccessDeniedError,
    AuthenticationError,
    CertificateError,
    NetworkError,
    RateLimitedError,
    UrlRefusedError,
    UsageCappedError,
    XComplianceError,
)
from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.api.ownership import Step, job_name
from airflow_provider_xcompliance.api.transport import Credentials, Transport
from airflow_provider_xcompliance.api.urls import DEFAULT_BASE_URL, UrlPolicy
from airflow_provider_xcompliance.get_provider_info import CONNECTION_TYPE
from airflow_provider_xcompliance.hooks.object_storage import get_storage_client
from airflow_provider_xcompliance.runs import JobRun, parts_of

#: What ``test_connection`` says of a failure; the first class that fits counts.
_TEST_FAILURES: tuple[tuple[type[XComplianceError], str], ...] = (
    (
        AuthenticationError,
        "The token (or the API key and secret) is wrong or revoked: X does not accept it.",
    ),
    (AccessDeniedError, "The token is good, but its App has no access to batch compliance."),
    (UsageCappedError, "The token is good, but the usage of the App's plan is spent."),
    (UrlRefusedError, "The API base URL is not acceptable: give https://host, without path or user name."),
    (CertificateError, "The server's certificate is not trusted: check 'ca_bundle' in the extra."),
    (NetworkError, "No answer: check the API base URL, and that this machine may reach it."),
    (XComplianceError, "Something answers, but not as X's API does: check the API base URL."),
)


class XComplianceHook(BaseHook):
    """
    X's batch compliance endpoints.

    :param xcompliance_conn_id: the connection of type ``xcompliance``
    :param max_tries: how often a request that fails for a passing reason is sent in all
    :param max_rate_limit_wait: the most seconds to sleep for one reset of a rate limit; longer ones raise
    """

    conn_name_attr = "xcompliance_conn_id"
    default_conn_name = "xcompliance_default"
    conn_type = CONNECTION_TYPE["connection-type"]
    hook_name = CONNECTION_TYPE["hook-name"]

    def __init__(
        self,
        xcompliance_conn_id: str = default_conn_name,
        *,
        max_tries: int = MAX_TRIES,
        max_rate_limit_wait: float = DEFAULT_MAX_RATE_LIMIT_WAIT,
    ) -> None:
        super().__init__()
        self.xcompliance_conn_id = xcompliance_conn_id
        self.max_tries = max_tries
        self.max_rate_limit_wait = max_rate_limit_wait

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Tell Airflow before 3.2 how the connection form looks."""
        behaviour = CONNECTION_TYPE["ui-field-behaviour"]
        return {key.replace("-", "_"): value for key, value in behaviour.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Tell Airflow before 3.2 which fields the connection form has besides the usual ones."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import IntegerField, StringField
        from wtforms.validators import Optional

        fields = {"string": StringField, "integer": IntegerField}
        return {
            name: fields[field["schema"]["type"][0]](
                field["label"],
                description=field["description"],
                widget=BS3TextFieldWidget(),
                validators=[Optional()],
            )
            for name, field in CONNECTION_TYPE["conn-fields"].items()
        }

    @cached_property
    def client(self) -> XComplianceClient:
        """The client that the connection describes."""
        connection = self.get_connection(self.xcompliance_conn_id)
        return self.client_for(connection, connection.extra_dejson)

    def client_for(self, connection: Connection, extra: dict[str, Any]) -> XComplianceClient:
        """
        Make a client of a connection that was looked up already, as a trigger has to.

        :param extra: the connection's extra
        :raises ValueError: if the connection holds no credentials
        :raises UrlRefusedError: if its host is not acceptable
        """
        policy = UrlPolicy(_base_url(connection), _hosts(extra.get("allowed_hosts")))
        transport = Transport(
            policy,
            _credentials(connection),
            timeout_seconds=float(extra.get("timeout_seconds") or 60),
            ca_bundle=extra.get("ca_bundle") or None,
            on_secret=mask_secret,
        )
        return XComplianceClient(
            transport,
            policy,
            upload_content_type=extra.get("upload_content_type") or "text/plain",
            max_tries=self.max_tries,
            max_rate_limit_wait=self.max_rate_limit_wait,
        )

    def get_conn(self) -> XComplianceClient:
        """Return the client that the connection describes."""
        return self.client

    def create_job(self, job_type: str, name: str | None = None, resumable: bool | None = None) -> Job:
        """
        Create a job. It is paid for, and its upload window of 15 minutes begins now.

        :param job_type: ``tweets`` or ``users``
        :param name: at most 64 characters
        :param resumable: True asks for a resumable upload, which only the legacy flow has
        """
        return self.client.create_job(job_type, name, resumable)

    def get_job(self, job_id: str) -> Job:
        """Look at one job."""
        return self.client.get_job(job_id)

    def list_jobs(self, job_type: str, status: str | None = None) -> list[Job]:
        """
        Look at the jobs of a type.

        :param status: created, in_progress, failed or complete; None for all
        """
        return self.client.list_jobs(job_type, status)

    def cancel_job(self, job_id: str) -> Job:
        """Cancel a job that has not ended; X cancels only jobs of the current flow."""
        return self.client.cancel_job(job_id)

    @cached_property
    def owner(self) -> str:
        """Who shares the App under this name: the connection's ``owner``, or else Airflow's own address."""
        connection = self.get_connection(self.xcompliance_conn_id)
        if owner := str(connection.extra_dejson.get("owner") or "").strip():
            return owner
        address = conf.get("api" if AIRFLOW_V_3_0_PLUS else "webserver", "base_url", fallback=None) or ""
        if urlsplit(address).hostname in (None, "localhost", "127.0.0.1"):
            self.log.warning(
                "The connection names no 'owner', and Airflow's address, %r, may be that of others too; if "
                "another deployment shares this App, give each an 'owner' in the connection's extra",
                address,
            )
        return address

    def job_name(self, label: str, *identity: str) -> str:
        """
        Return the name by which a job of this deployment is known again.

        :param label: the readable part
        :param identity: what makes the job another one than its neighbours: DAG, task, run, input
        """
        return job_name(label, self.owner, *identity)

    def claim_job(self, job_type: str, name: str, *, resumable: bool | None = None) -> tuple[Step, Job]:
        """
        Find the job of a name that still waits for its ids, or create it where there is none.

        :param job_type: ``tweets`` or ``users``
        :param name: see :meth:`job_name`
        :return: the job, and whether to adopt it or to wait for its end, because it is in the way
        """
        return self.client.claim_job(job_type, name, reuse_within=None, resumable=resumable)

    def job_run(
        self,
        job_type: str,
        source: str | Sequence[str],
        destination: str,
        source_conn_id: str | None = None,
        destination_conn_id: str | None = None,
        *,
        name_of: Callable[[str], str],
        reuse_within: timedelta,
        control_ids: Sequence[str] = (),
        resumable: bool | None = None,
        allow_rounded_ids: bool = False,
        if_exists: str = "replace",
    ) -> JobRun:
        """
        Return whole jobs, ready to be advanced; see :class:`airflow_provider_xcompliance.runs.JobRun`.

        :param source: URI or path of a file of ids, or a list of such
        :param destination: URI or path of the events; for a list their folder
        :param source_conn_id: Airflow connection of the store of ``source``
        :param destination_conn_id: Airflow connection of the store of ``destination``
        :param if_exists: ``replace`` other events, or ``verify`` that there are none
        """
        parts = parts_of(source, destination)
        if source_conn_id and len({urlsplit(part.source).scheme for part in parts}) > 1:
            raise ValueError("source: files that share a connection are in one store, and have one scheme")
        return JobRun(
            self.client,
            job_type,
            parts,
            name_of,
            reuse_within,
            source_client=get_storage_client(parts[0].source, source_conn_id),
            destination_client=get_storage_client(destination, destination_conn_id),
            control_ids=control_ids,
            resumable=resumable,
            allow_rounded=allow_rounded_ids,
            replace=_may_replace(if_exists),
        )

    def upload(
        self,
        job_id: str,
        source: str,
        source_conn_id: str | None = None,
        *,
        control_ids: Sequence[str] = (),
        allow_rounded_ids: bool = False,
    ) -> dict[str, Any]:
        """
        Send a file of ids to a job; see :func:`airflow_provider_xcompliance.transfer.upload`.

        :param source: URI or path of the file, one decimal id per line
        :param source_conn_id: Airflow connection of its store; None for the library's own credentials
        :param control_ids: ids that are known to be gone, sent with the others
        :param allow_rounded_ids: whether to take ids that look as if a program had rounded all of them
        :return: the receipt
        """
        return transfer.upload(
            self.client,
            job_id,
            source,
            get_storage_client(source, source_conn_id),
            control_ids=control_ids,
            allow_rounded=allow_rounded_ids,
        )

    def download(
        self,
        job_id: str,
        destination: str,
        destination_conn_id: str | None = None,
        submitted: str | None = None,
        source_conn_id: str | None = None,
        *,
        control_ids: Sequence[str] = (),
        if_exists: str = "verify",
    ) -> dict[str, Any]:
        """
        Land the verified results of a job; see :func:`airflow_provider_xcompliance.transfer.download`.

        :param destination: URI or path of the events
        :param destination_conn_id: Airflow connection of its store; None for the library's own credentials
        :param submitted: URI or path of the ids that the job was given; the results may be about no others
        :param source_conn_id: Airflow connection of the store of ``submitted``
        :param control_ids: ids that were sent besides, which are known to be gone: each must have an event
        :param if_exists: ``verify`` (only the same content may stand there) or ``replace``
        :return: the receipt
        :raises ValueError: if ``if_exists`` is something else
        """
        return transfer.download(
            self.client,
            job_id,
            destination,
            get_storage_client(destination, destination_conn_id),
            submitted=submitted,
            submitted_client=get_storage_client(submitted, source_conn_id) if submitted else None,
            control_ids=control_ids,
            replace=_may_replace(if_exists),
        )

    def test_connection(self) -> tuple[bool, str]:
        """Ask X for the list of jobs, which is one paid request, and say in plain words how that went."""
        impatient = XComplianceHook(self.xcompliance_conn_id, max_tries=1, max_rate_limit_wait=0)
        try:
            impatient.list_jobs("tweets")
        except RateLimitedError:
            return True, "X knows the App, and limits its rate just now."
        except XComplianceError as error:
            return False, next(words for kind, words in _TEST_FAILURES if isinstance(error, kind))
        except ValueError as error:
            return False, f"The connection cannot be used: {error}."
        return True, "X accepts the token, and lists the App's compliance jobs."


def _base_url(connection: Connection) -> str:
    host = connection.host or DEFAULT_BASE_URL
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    return f"{host}:{connection.port}" if connection.port else host


def _credentials(connection: Connection) -> Credentials:
    password = (connection.password or "").strip()
    if connection.login:
        return Credentials(api_key=connection.login.strip(), api_secret=password)
    return Credentials(bearer_token=password)


def _may_replace(if_exists: str) -> bool:
    if if_exists not in ("verify", "replace"):
        raise ValueError(f"if_exists must be 'verify' or 'replace', not {if_exists[:40]!r}")
    return if_exists == "replace"


def _hosts(setting: str | list[str] | None) -> tuple[str, ...]:
    hosts = setting.split(",") if isinstance(setting, str) else setting or []
    return tuple(host.strip() for host in hosts if host.strip())
