"""The steps between an archive and compliance jobs: ids out of it, go or no go, and events applied to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    BaseOperator,
    Context,
    Stats,
)

from airflow_provider_xcompliance import storage
from airflow_provider_xcompliance.archive.events import parse_policy
from airflow_provider_xcompliance.archive.formats import Columns
from airflow_provider_xcompliance.archive.guards import JOB_TYPES, JobType, Limits, Result, judge, plan_of
from airflow_provider_xcompliance.arguments import arguments_of
from airflow_provider_xcompliance.failures import failing_at_once
from airflow_provider_xcompliance.hooks.object_storage import get_storage_client
from airflow_provider_xcompliance.operators.tables import RedactTableOperator
from airflow_provider_xcompliance.results import (
    InvalidResultError,
    Landed,
    Reference,
    find_results,
    read_landed,
)

if TYPE_CHECKING:
    from airflow_provider_xcompliance.catalogue import Archive
    from airflow_provider_xcompliance.night import Night

__all__ = [
    "Columns",
    "ExtractIdsOperator",
    "GuardEventsOperator",
    "PlanRedactionOperator",
    "RecordChecksOperator",
    "RedactArchiveOperator",
    "RedactTableOperator",
]

#: Where an archive is, and what its files hold: templated in all operators on archives.
_PLACE = ("source", "source_conn_id", "state", "state_conn_id", "shapes", "columns")

_NO_GO = "No go, nothing may be applied:"

_Number = Annotated[int, msgspec.Meta(ge=1)]
_Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Extraction(msgspec.Struct, frozen=True):
    """What ExtractIdsOperator was given, rendered and checked."""

    max_jobs_per_run: _Number | None
    max_ids_per_job: _Number | None
    max_bad_ratio: _Ratio | None


class _Planning(msgspec.Struct, frozen=True):
    """What PlanRedactionOperator was given."""

    max_tasks: _Number
    is_dry_run: bool


class _Redacting(msgspec.Struct, frozen=True):
    """What RedactArchiveOperator was given."""

    tombstones: bool
    is_dry_run: bool
    purge_versions: bool


class _ArchiveOperator(BaseOperator):
    """
    What the operators on archives share: where it is, and what its files hold.

    :param source: URI of a file, a glob (``s3://bucket/posts/**/*.ndjson.gz``), a folder (ending in ``/``),
        or a list of them; what lies under ``_xcompliance/`` is left out, but for the quarantine
    :param source_conn_id: connection of their store (default: the store library's own credentials)
    :param state: folder of what belongs to the archive: indexes, quarantine, tombstones, manifests (default:
        ``_xcompliance/`` in the folder that the sources have in common)
    :param state_conn_id: connection of its store (default: that of ``source``)
    :param shapes: what the records of files are, where that cannot be told by looking: ``posts``, ``users``,
        ``tweet_ids`` or ``user_ids``; or a dict of it by pattern of names. Plain lists of ids always need it
    :param columns: the columns of tables (CSV, TSV, Parquet): a Columns, a dict with ``id``, ``author`` and
        ``geo``, or a dict of either by pattern of names
    """

    ui_color = "#e8f5fd"

    def __init__(
        self,
        *,
        source: Any,
        source_conn_id: str | None = None,
        state: str | None = None,
        state_conn_id: str | None = None,
        shapes: str | Mapping[str, str] | None = None,
        columns: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.source_conn_id = source_conn_id
        self.state = state
        self.state_conn_id = state_conn_id
        self.shapes = shapes
        self.columns = columns

    @property
    def _state_conn_id(self) -> str | None:
        return self.state_conn_id or self.source_conn_id

    def _archive(self) -> Archive:
        from airflow_provider_xcompliance.catalogue import STATE_FOLDER, Archive, root_of

        sources = [self.source] if isinstance(self.source, str) else list(self.source)
        if not sources or not all(isinstance(source, str) and source for source in sources):
            raise ValueError(f"source: give a URI, a glob, or a list of them, not {str(self.source)[:80]!r}")
        sources = [storage.canonical(source) for source in sources]
        root = root_of(sources)
        if not (root or self.state):
            raise ValueError(
                "source: these have no folder in common; give state=, the URI of a folder for what belongs "
                "to this archive"
            )
        state = storage.canonical(self.state) if self.state else f"{root}{STATE_FOLDER}"
        return Archive(
            sources=sources,
            client=get_storage_client(sources[0], self.source_conn_id),
            root=root,
            state=state,
            state_client=get_storage_client(state, self._state_conn_id),
            shapes=_rules(self.shapes),
            columns={pattern: _columns(each) for pattern, each in _rules(self.columns).items()},
        )


def _rules(told: Any) -> dict[str, Any]:
    """Return what is told as a dict by pattern of names."""
    if not told:
        return {}
    is_for_all = isinstance(told, str | Columns) or "id" in told
    return {"*": told} if is_for_all else dict(told)


def _columns(told: Any) -> Columns:
    if isinstance(told, Columns):
        return told
    try:
        return msgspec.convert(told, Columns)
    except msgspec.ValidationError as error:
        raise AirflowFailException(
            f"columns: {error}; give 'id', and if there are 'author' and 'geo'"
        ) from None


class ExtractIdsOperator(_ArchiveOperator):
    """
    Take the ids that are due out of an archive: files of ids, each for one job.

    Of each file an index is kept, so that only new and changed files are read. The ids are cut into ranges,
    which stay the same from night to night as far as they can, and of which those are due that nobody has
    asked X about for longest.

    Logs what it found, sets the gauge ``xcompliance.oldest_check_age`` (seconds, tagged by ``job_type``), and
    pushes all numbers as XCom ``report``: ids, due_ids, ranges, files, files_read, records, bad, authorless,
    bad_lines, oldest_check_age_seconds.

    :param source: URI of a file, a glob (``s3://bucket/posts/**/*.ndjson.gz``), a folder (ending in ``/``),
        or a list of them; what lies under ``_xcompliance/`` is left out, but for the quarantine
    :param job_type: ``tweets``: posts, embedded ones included; or ``users``: authors, and embedded users
    :param destination: folder of the files of ids (default: ``ids/`` in the folder ``state``)
    :param source_conn_id: connection of the store of ``source`` (default: the library's own credentials)
    :param destination_conn_id: connection of the store of ``destination`` (default: that of ``state``)
    :param state: folder of what belongs to the archive (default: ``_xcompliance/`` in the folder that the
        sources have in common)
    :param state_conn_id: connection of its store (default: that of ``source``)
    :param shapes: what the records of files are, where that cannot be told by looking: ``posts``, ``users``,
        ``tweet_ids`` or ``user_ids``; or a dict of it by pattern of names. Plain lists of ids always need it
    :param columns: the columns of tables (CSV, TSV, Parquet): a Columns, a dict with ``id``, ``author`` and
        ``geo``, or a dict of either by pattern of names
    :param max_jobs_per_run: how many files of ids at most, as each is a paid job of up to an hour (default:
        all)
    :param max_ids_per_job: how many ids one file has at most (default: 6,399,000, which with a thousand
        control ids are the 128,000,000 bytes that X takes)
    :param max_bad_ratio: the most records that are malformed, or for ``users`` tell no author, and so are not
        checked, ÷ all records (default: 0.01; None: no limit)
    :return: URIs of the files of ids, those unchecked for longest first, as XCom
    """

    template_fields: Sequence[str] = (
        *_PLACE,
        "job_type",
        "destination",
        "destination_conn_id",
        "max_jobs_per_run",
        "max_ids_per_job",
        "max_bad_ratio",
    )

    def __init__(
        self,
        *,
        job_type: str,
        destination: str | None = None,
        destination_conn_id: str | None = None,
        max_jobs_per_run: int | None = None,
        max_ids_per_job: int | None = None,
        max_bad_ratio: float | None = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_type = job_type
        self.destination = destination
        self.destination_conn_id = destination_conn_id
        self.max_jobs_per_run = max_jobs_per_run
        self.max_ids_per_job = max_ids_per_job
        self.max_bad_ratio = max_bad_ratio

    def execute(self, context: Context) -> list[str]:
        """Take the ids out."""
        with failing_at_once():
            from airflow_provider_xcompliance.archive.rotation import MAX_IDS
            from airflow_provider_xcompliance.extraction import extract

            archive, settings = self._archive(), arguments_of(self, _Extraction)
            job_type = _job_type(self.job_type)
            destination = self.destination or archive.state_uri("ids", job_type)
            conn_id = self.destination_conn_id or self._state_conn_id
            found = extract(
                archive,
                job_type,
                destination,
                get_storage_client(destination, conn_id),
                max_jobs=settings.max_jobs_per_run,
                max_ids=settings.max_ids_per_job or MAX_IDS,
                max_bad_ratio=settings.max_bad_ratio,
            )
        report = found.to_dict()
        self.log.info(
            "%s %s, of which %s are due in %s of %s files; the oldest check is %s old",
            f"{found.ids:,}",
            job_type,
            f"{found.due_ids:,}",
            len(found.due),
            found.ranges,
            found.oldest_check,
        )
        Stats.gauge(
            "xcompliance.oldest_check_age",
            report["oldest_check_age_seconds"],
            tags={"job_type": job_type},
        )
        context["ti"].xcom_push(key="report", value=report)
        return found.due


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
    :param max_change_ratio: the most events that change what stays or move it into the quarantine (lost
        locations, edited posts) ÷ submitted ids, of each job type (default: 0.05; None: no limit)
    :param max_error_ratio: the most ids that X could not read, and so did not check, ÷ submitted ids, of each
        job type (default: 0.05; None: no limit)
    :param min_events: the fewest events, over all results. A million ids or more of one result, or of one job
        type, without any event are a no go too, unless 0 is given (default: that alone)
    :param control_ids: the ids that must have been submitted as control ids with each result, and have come
        back; or a dict of them by job type (default: none)
    :param policy: as RedactArchiveOperator has it, and the same: events count as what it does about them, and
        those that it names are not unknown (default: none)
    :param allow_unknown: ``action/reason`` of undocumented events that are accepted (default: none)
    :param allow_repeated: whether ids may have several events (default: no)
    :param allow_unverified_length: whether a result without control ids may be one whose end nothing proves,
        because X stated neither length nor digest (default: no)
    :return: the plan, as XCom: results, submitted, events, removals, scrubs, fetches, errors, unknown,
        repeated, removal_ratio, change_ratio, and the same by ``job_types``
    """

    template_fields: Sequence[str] = (
        "events",
        "events_conn_id",
        "max_removal_ratio",
        "max_removals",
        "max_change_ratio",
        "max_error_ratio",
        "min_events",
        "control_ids",
        "policy",
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
        max_change_ratio: float | None = 0.05,
        max_error_ratio: float | None = 0.05,
        min_events: int | None = None,
        control_ids: Iterable[str] | Mapping[str, Iterable[str]] | None = None,
        policy: Mapping[str, str] | None = None,
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
        self.max_change_ratio = max_change_ratio
        self.max_error_ratio = max_error_ratio
        self.min_events = min_events
        self.control_ids = control_ids
        self.policy = policy
        self.allow_unknown = allow_unknown
        self.allow_repeated = allow_repeated
        self.allow_unverified_length = allow_unverified_length

    def execute(self, context: Context) -> dict[str, Any]:
        """Judge the results."""
        try:
            limits, policy = self._limits(), parse_policy(self.policy or {})
            references = list(find_results(self.events))
        except ValueError as error:
            raise AirflowFailException(f"{_NO_GO} {error}") from None
        results, objections = self._read(references)
        plan = plan_of(results, policy)
        for line in plan.lines():
            self.log.info(line)
        objections += judge(results, limits, policy)
        if objections:
            raise AirflowFailException("\n".join((_NO_GO, *objections)))
        self.log.info("Go")
        return plan.to_dict()

    def _limits(self) -> Limits:
        control_ids = self.control_ids or {}
        if not isinstance(control_ids, Mapping):
            control_ids = dict.fromkeys(JOB_TYPES, control_ids)
        return arguments_of(self, Limits, control_ids=control_ids)

    def _read(self, references: list[Reference]) -> tuple[list[Result], list[str]]:
        """Return the results that can be believed, and what is wrong with the others."""
        results, objections = [], []
        for reference in references:
            try:
                client = get_storage_client(reference.uri, self.events_conn_id)
                results.append(read_landed(reference, client).result)
            except InvalidResultError as error:
                objections.append(str(error))
        return results, objections


class _EventsOperator(_ArchiveOperator):
    """
    What the operators share that apply events.

    :param events: what RunJobOperator and DownloadOperator return, or URIs or paths of landed events; or
        lists of either; of posts and users together
    :param events_conn_id: connection of their store (default: that of ``state``)
    :param ids_conn_id: connection of the store of the ids that were submitted (default: that of ``state``)
    :param policy: what is done instead about some events: a dict of ``action/reason`` → ``remove``,
        ``quarantine``, ``scrub`` or ``keep`` (default: see the table of what is done about an event)
    """

    def __init__(
        self,
        *,
        events: Any,
        events_conn_id: str | None = None,
        ids_conn_id: str | None = None,
        policy: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.events = events
        self.events_conn_id = events_conn_id
        self.ids_conn_id = ids_conn_id
        self.policy = policy

    def _landed(self) -> list[Landed]:
        conn_id = self.events_conn_id or self._state_conn_id
        return [
            read_landed(reference, get_storage_client(reference.uri, conn_id))
            for reference in find_results(self.events)
        ]

    def _night(self, *, reads_ids: bool = False) -> Night:
        from airflow_provider_xcompliance.night import Night

        ids_conn_id = self.ids_conn_id or self._state_conn_id
        results = self._landed()
        if not results:
            raise InvalidResultError("events: there are none; that nothing was checked is no result")
        return Night(
            results=results,
            client=get_storage_client(results[0].uri, self.events_conn_id or self._state_conn_id),
            policy=parse_policy(self.policy or {}),
            source_client=get_storage_client(results[0].source, ids_conn_id) if reads_ids else None,
        )


class PlanRedactionOperator(_EventsOperator):
    """
    Make ready what RedactArchiveOperator applies, so that it can be mapped over an archive.

    Brings the tombstones up to date, lists what has to be fetched again (``refetch/`` in the folder
    ``state``), and splits the files into groups of about as many bytes each.

    :param events: what RunJobOperator and DownloadOperator return, or URIs or paths of landed events; or
        lists of either; of posts and users together
    :param events_conn_id: connection of their store (default: that of ``state``)
    :param ids_conn_id: connection of the store of the ids that were submitted: ``destination_conn_id`` of
        ExtractIdsOperator (default: that of ``state``)
    :param policy: as RedactArchiveOperator has it
    :param max_tasks: how many groups at most (default: 64)
    :param dry_run: lay down the groups alone, for a RedactArchiveOperator that does so too (default: no)
    :param source: as ExtractIdsOperator has it; and so ``source_conn_id``, ``state``, ``state_conn_id``,
        ``shapes`` and ``columns``
    :return: a group for each task: give it to ``RedactArchiveOperator.partial(…).expand(group=…)``, as XCom
    """

    template_fields: Sequence[str] = (
        *_PLACE,
        "events",
        "events_conn_id",
        "ids_conn_id",
        "policy",
        "max_tasks",
        "is_dry_run",
    )

    def __init__(self, *, max_tasks: int = 64, dry_run: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_tasks = max_tasks
        # BaseOperator has a method of the plain name.
        self.is_dry_run = dry_run

    def execute(self, context: Context) -> list[str]:
        """Make it ready."""
        with failing_at_once():
            from airflow_provider_xcompliance.night import plan, prepare

            archive, settings = self._archive(), arguments_of(self, _Planning)
            night = self._night(reads_ids=True)
            # What nothing is done about must not be remembered as done either.
            if not settings.is_dry_run:
                prepare(archive, night)
            groups = plan(archive, night, settings.max_tasks)
        self.log.info("%s groups of files", len(groups))
        return groups


class RedactArchiveOperator(_EventsOperator):
    """
    Apply events to an archive: to all of it, or to one group of its files.

    What X said goes out of the files, and all else stays byte for byte. Each file is written anew as a whole
    and takes the place of exactly the version that was read; one in which no event meets an id is not opened.
    Killed and run again, it ends in the same bytes; run twice, the second time changes nothing.

    Posts and users that are gone, are removed, pure retweets of them as well, and embedded copies are taken
    out of what quotes them. Where a location has to go, it alone goes. Edited posts wait in the quarantine
    (``quarantine/`` in the folder ``state``) until they are fetched again. Events that nothing is known to do
    about fail the task after all others were applied, unless the policy names them.

    :param source: as ExtractIdsOperator has it
    :param events: what RunJobOperator and DownloadOperator return, or URIs or paths of landed events; or
        lists of either; of posts and users together. Whether to apply them is for GuardEventsOperator to say
    :param destination: folder of copies of all files, with what is gone left out (default: in place)
    :param destination_conn_id: connection of its store (default: that of ``source``)
    :param group: of PlanRedactionOperator: the files to do (default: all)
    :param events_conn_id: connection of the store of the events (default: that of ``state``)
    :param ids_conn_id: as PlanRedactionOperator has it; needed without ``group`` only
    :param policy: what is done instead about some events: a dict of ``action/reason`` → ``remove``,
        ``quarantine``, ``scrub`` or ``keep``
    :param tombstones: whether what X said earlier counts too, which keeps a backfill from bringing records
        back (default: yes)
    :param dry_run: find out what would be done, and write nothing (default: no)
    :param purge_versions: remove old versions that the store keeps of what is written anew; else the report
        tells how many there are (default: no)
    :param source_conn_id: connection of the store of ``source`` (default: the library's own credentials)
    :param state: folder of what belongs to the archive (default: ``_xcompliance/`` in the folder that the
        sources have in common)
    :param state_conn_id: connection of its store (default: that of ``source``)
    :param shapes: as ExtractIdsOperator has it
    :param columns: as ExtractIdsOperator has it
    :return: the report, as XCom: records, removed, quarantined, scrubbed, stripped, kept, bad, files,
        files_opened, files_changed, files_gone, bytes, old_versions, purged, kinds (``action/reason`` →
        number), bad_lines, unknown, seconds
    """

    template_fields: Sequence[str] = (
        *_PLACE,
        "events",
        "events_conn_id",
        "ids_conn_id",
        "policy",
        "destination",
        "destination_conn_id",
        "group",
        "tombstones",
        "is_dry_run",
        "purge_versions",
    )

    def __init__(
        self,
        *,
        destination: str | None = None,
        destination_conn_id: str | None = None,
        group: str | None = None,
        tombstones: bool = True,
        dry_run: bool = False,
        purge_versions: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.destination_conn_id = destination_conn_id
        self.group = group
        self.tombstones = tombstones
        # BaseOperator has a method of the plain name.
        self.is_dry_run = dry_run
        self.purge_versions = purge_versions

    def execute(self, context: Context) -> dict[str, Any]:
        """Apply the events."""
        with failing_at_once():
            report = self._apply()
        self.log.info("%s", _told(report))
        if report["unknown"]:
            raise AirflowFailException(
                f"all else is applied, but nothing is known to do about {report['unknown']}; name these in "
                "policy="
            )
        return report

    def _apply(self) -> dict[str, Any]:
        from airflow_provider_xcompliance.catalogue import key_of
        from airflow_provider_xcompliance.night import files_of_plan, prepare, tombstones_for
        from airflow_provider_xcompliance.redaction import Redaction

        archive, settings = self._archive(), arguments_of(self, _Redacting)
        is_prepared = bool(self.group) or settings.is_dry_run
        night = self._night(reads_ids=not is_prepared)
        if not is_prepared:
            prepare(archive, night)
        destination = archive.place_of_copies(self.destination) if self.destination else None
        is_in_place = destination is None
        earlier = tombstones_for(archive, night, in_place=is_in_place) if settings.tombstones else {}
        conn_id = self.destination_conn_id or self.source_conn_id
        redaction = Redaction(
            archive=archive,
            events=night.events(earlier),
            # Another try may be told otherwise, and has to do it then.
            key=key_of(night.key, settings.tombstones),
            destination=destination,
            destination_client=destination and get_storage_client(destination, conn_id),
            requires_authors="users" in night.by_type(),
            dry_run=settings.is_dry_run,
            purge=settings.purge_versions,
        )
        files = files_of_plan(archive, self.group) if self.group else [file.uri for file in archive.files()]
        night.require_elsewhere(files)
        return redaction.apply(files).to_dict()


class RecordChecksOperator(_EventsOperator):
    """
    Remember what was checked, after its events were applied: so it is due last from now on.

    Leaves the evidence of the night in ``reports/`` in the folder ``state``: what X was asked, what it said,
    and what was done.

    :param events: as RedactArchiveOperator has it
    :param reports: what RedactArchiveOperator returned, or a list of it, one for each mapped task
    :param policy: as RedactArchiveOperator has it
    :param source: as ExtractIdsOperator has it; and so ``source_conn_id``, ``state`` and ``state_conn_id``
    :return: the report of the night, over all of it, as XCom
    """

    template_fields: Sequence[str] = (*_PLACE, "events", "events_conn_id", "policy", "reports")

    def __init__(self, *, reports: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reports = reports

    def execute(self, context: Context) -> dict[str, Any]:
        """Remember it."""
        with failing_at_once():
            from airflow_provider_xcompliance.evidence import record

            reports = [self.reports] if isinstance(self.reports, Mapping) else list(self.reports)
            task = context["ti"]
            name = f"{task.dag_id}.{task.task_id}.{task.run_id}"
            night = record(self._archive(), self._night(), reports, name)
        self.log.info("%s; the evidence is at %s", _told(night["done"]), night["evidence"])
        return night


def _told(report: Mapping[str, Any]) -> str:
    """Tell a report in one line."""
    if not report:
        return "nothing was applied"
    done = ", ".join(f"{report[key]:,} {key}" for key in ("removed", "quarantined", "scrubbed", "stripped"))
    old = report["old_versions"]
    versions = "an unknown number of" if old is None else f"{old:,}"
    return (
        f"{'dry run: ' if report['dry_run'] else ''}of {report['records']:,} records {done}; "
        f"{report['files_changed']:,} of {report['files']:,} files written anew; {versions} old versions"
    )


def _job_type(job_type: str) -> JobType:
    if job_type not in JOB_TYPES:
        raise ValueError(f"job_type must be one of {', '.join(JOB_TYPES)}, not {job_type[:40]!r}")
    return "tweets" if job_type == "tweets" else "users"
