"""The steps of a compliance job, one task each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator, Context

from airflow_provider_xcompliance.hooks.compliance import XComplianceHook


class _ComplianceOperator(BaseOperator):
    """
    What the operators share: the connection.

    They take a job's id as text even where it is a number, which is what Jinja makes of it under
    ``render_template_as_native_obj``.
    """

    ui_color = "#e8f5fd"

    def __init__(
        self, *, xcompliance_conn_id: str = XComplianceHook.default_conn_name, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.xcompliance_conn_id = xcompliance_conn_id

    @cached_property
    def hook(self) -> XComplianceHook:
        """The hook for the connection."""
        return XComplianceHook(self.xcompliance_conn_id)


class CreateJobOperator(_ComplianceOperator):
    """
    Create a compliance job; its ids must be uploaded within 15 minutes.

    Every job is paid for, and X allows one active job per type.

    :param job_type: ``tweets`` or ``users``
    :param job_name: what X shall call the job, at most 64 characters (default: no name)
    :param resumable: True asks for a resumable upload, which only the legacy flow has (default: no)
    :param xcompliance_conn_id: the connection (default: ``xcompliance_default``)
    :return: the job's id, as XCom
    """

    template_fields: Sequence[str] = ("job_type", "job_name", "xcompliance_conn_id")

    def __init__(
        self, *, job_type: str, job_name: str | None = None, resumable: bool | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.job_type = job_type
        self.job_name = job_name
        self.resumable = resumable

    def execute(self, context: Context) -> str:
        """Create the job."""
        job = self.hook.create_job(self.job_type, self.job_name, self.resumable)
        self.log.info("Created job %s for %s; upload until %s", job.id, job.type, job.upload_expires_at)
        return job.id


class UploadOperator(_ComplianceOperator):
    """
    Validate a file of ids and send it to a job that was created for it.

    :param job_id: the job
    :param source: URI or path of the file, one decimal id per line
    :param source_conn_id: connection of its store (default: the store library's own credentials)
    :param xcompliance_conn_id: the connection (default: ``xcompliance_default``)
    :return: the receipt, as XCom: number of ids, bytes, digests, what was cleaned away
    """

    template_fields: Sequence[str] = ("job_id", "source", "source_conn_id", "xcompliance_conn_id")

    def __init__(self, *, job_id: str, source: str, source_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.source = source
        self.source_conn_id = source_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Upload the ids."""
        return self.hook.upload(str(self.job_id), self.source, self.source_conn_id)


class DownloadOperator(_ComplianceOperator):
    """
    Verify the results of a complete job and land them with their manifest.

    With outlets, each asset event carries the counts.

    :param job_id: the job
    :param destination: URI or path of the events; the manifest is ``<destination>.manifest.json``
    :param destination_conn_id: connection of its store (default: the store library's own credentials)
    :param submitted: URI or path of the ids that were uploaded: no other id may occur in the results
        (default: not checked)
    :param source_conn_id: connection of the store of ``submitted`` (default: the library's own credentials)
    :param if_exists: ``verify`` (default: only the same content may stand at the destination) or ``replace``
    :param xcompliance_conn_id: the connection (default: ``xcompliance_default``)
    :return: the receipt, as XCom: counts per action and reason, bytes, digests, where the manifest is
    """

    template_fields: Sequence[str] = (
        "job_id",
        "destination",
        "destination_conn_id",
        "submitted",
        "source_conn_id",
        "if_exists",
        "xcompliance_conn_id",
    )

    def __init__(
        self,
        *,
        job_id: str,
        destination: str,
        destination_conn_id: str | None = None,
        submitted: str | None = None,
        source_conn_id: str | None = None,
        if_exists: str = "verify",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.destination = destination
        self.destination_conn_id = destination_conn_id
        self.submitted = submitted
        self.source_conn_id = source_conn_id
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        """Download the results."""
        receipt = self.hook.download(
            str(self.job_id),
            self.destination,
            self.destination_conn_id,
            submitted=self.submitted,
            source_conn_id=self.source_conn_id,
            if_exists=self.if_exists,
        )
        for outlet in self.outlets:
            # Other things than assets may be outlets too, and have no event.
            with suppress(TypeError):
                context["outlet_events"][outlet].extra = receipt
        return receipt


class CancelJobOperator(_ComplianceOperator):
    """
    Cancel a job that has not ended, so that the next one of its type can be created.

    A job that has ended is left as it is. X cancels only jobs of the current flow.

    :param job_id: the job
    :param xcompliance_conn_id: the connection (default: ``xcompliance_default``)
    :return: the job without its URLs, as XCom
    """

    template_fields: Sequence[str] = ("job_id", "xcompliance_conn_id")

    def __init__(self, *, job_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Cancel the job."""
        job = self.hook.get_job(str(self.job_id))
        if job.is_terminal:
            self.log.info("Job %s is %s already: there is nothing to cancel", job.id, job.status)
        else:
            job = self.hook.cancel_job(job.id)
            self.log.info("Cancelled job %s; it is %s now", job.id, job.status)
        return job.to_dict()
