"""The steps between the results of compliance jobs and what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator, Context

from airflow_provider_xcompliance.archive.guards import JOB_TYPES, Limits, Result, judge, plan_of
from airflow_provider_xcompliance.hooks.object_storage import get_storage_client
from airflow_provider_xcompliance.results import InvalidResultError, Reference, find_results, read_result

_NO_GO = "No go, nothing may be applied:"


class GuardEventsOperator(BaseOperator):
    """
    Decide once for a night, over all its results, whether they may be applied: go, or no go.

    Each result must be the one that was landed, have been compared with the ids that were submitted, and
    hold nothing that is unknown or contradicts itself; together they must stay within the limits. Shares are
    taken of each job type by itself, so that a mass removal of users does not hide behind many posts. Events
    of control ids count nowhere. What would be done is logged either way.

    A no go fails the task at once, with every objection: trying again changes nothing. A store that fails is
    no objection, and may be tried again.

    :param events: URIs or paths of the events, or what DownloadOperator and RunJobOperator return, which
        tells too whether a result was replaced since; or lists of either
    :param events_conn_id: connection of their store (default: the store library's own credentials)
    :param max_removal_ratio: the most removals ÷ submitted ids, of each job type (default: 0.05; None: no
        limit, for a first run)
    :param max_removals: the most removals, over all results (default: no limit)
    :param max_error_ratio: the most ids that X could not read, and so did not check, ÷ submitted ids, of each
        job type (default: 0.05; None: no limit)
    :param min_events: the fewest events, over all results. A million ids or more of one result, or of one job
        type, without any event are a no go too, unless 0 is given (default: that alone)
    :param control_ids: the ids that must have been submitted as control ids with each result, and have come
        back; or a dict of them by job type (default: none)
    :param allow_unknown: ``action/reason`` of undocumented events that are accepted (default: none)
    :param allow_repeated: whether ids may have several events (default: no)
    :param allow_unverified_length: whether a result without control ids may be one whose end nothing proves,
        because X stated neither length nor digest (default: no)
    :return: the plan, as XCom: results, submitted, events, removals, scrubs, fetches, errors, unknown,
        repeated, removal_ratio, and the same by ``job_types``
    """

    template_fields: Sequence[str] = (
        "events",
        "events_conn_id",
        "max_removal_ratio",
        "max_removals",
        "max_error_ratio",
        "min_events",
        "control_ids",
        "allow_unknown",
        "allow_repeated",
        "allow_unverified_length",
    )
    ui_color = "#e8f5fd"

    def __init__(
        self,
        *,
        events: Any,
        events_conn_id: str | None = None,
        max_removal_ratio: float | None = 0.05,
        max_removals: int | None = None,
        max_error_ratio: float | None = 0.05,
        min_events: int | None = None,
        control_ids: Iterable[str] | Mapping[str, Iterable[str]] | None = None,
        allow_unknown: Iterable[str] = (),
        allow_repeated: bool = False,
        allow_unverified_length: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.events = events
        self.events_conn_id = events_conn_id
        self.max_removal_ratio = max_removal_ratio
        self.max_removals = max_removals
        self.max_error_ratio = max_error_ratio
        self.min_events = min_events
        self.control_ids = control_ids
        self.allow_unknown = allow_unknown
        self.allow_repeated = allow_repeated
        self.allow_unverified_length = allow_unverified_length

    def execute(self, context: Context) -> dict[str, Any]:
        """Judge the results."""
        try:
            limits = self._limits()
            references = list(find_results(self.events))
        except (msgspec.ValidationError, InvalidResultError) as error:
            raise AirflowFailException(f"{_NO_GO} {error}") from None
        results, objections = self._read(references)
        plan = plan_of(results)
        for line in plan.lines():
            self.log.info(line)
        objections += judge(results, limits)
        if objections:
            raise AirflowFailException("\n".join((_NO_GO, *objections)))
        self.log.info("Go")
        return plan.to_dict()

    def _limits(self) -> Limits:
        control_ids = self.control_ids or {}
        if not isinstance(control_ids, Mapping):
            control_ids = dict.fromkeys(JOB_TYPES, control_ids)
        limits = {name: getattr(self, name) for name in Limits.__struct_fields__}
        # Not strict, because what was rendered is text.
        return msgspec.convert(limits | {"control_ids": control_ids}, Limits, strict=False)

    def _read(self, references: list[Reference]) -> tuple[list[Result], list[str]]:
        """Return the results that can be believed, and what is wrong with the others."""
        results, objections = [], []
        for reference in references:
            try:
                results.append(read_result(reference, get_storage_client(reference.uri, self.events_conn_id)))
            except InvalidResultError as error:
                objections.append(str(error))
        return results, objections
