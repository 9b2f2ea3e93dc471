"""What a night leaves behind: what was checked, what X said, and what was done."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_provider_xcompliance import __version__, storage
from airflow_provider_xcompliance.archive.guards import plan_of
from airflow_provider_xcompliance.archive.ids import MAX_SHOWN
from airflow_provider_xcompliance.catalogue import Archive
from airflow_provider_xcompliance.documents import land_json
from airflow_provider_xcompliance.extraction import record_checks
from airflow_provider_xcompliance.night import Night
from airflow_provider_xcompliance.spools import spool_directory

log = logging.getLogger(__name__)


def record(archive: Archive, night: Night, reports: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """
    Remember that the ids of a night were checked, if what X said was done, and land its evidence.

    :param reports: of what was done to the archive, in parts
    :param name: of the task and its run; each has its own evidence
    :return: the evidence, without the list of results
    """
    done = total_of(reports)
    evidence = {
        "run": name,
        "checked_at": night.at.isoformat(),
        "plan": plan_of([landed.result for landed in night.results], night.policy).to_dict(),
        "done": done,
        "provider_version": __version__,
    }
    results = [
        {
            "job_id": landed.result.job_id,
            "job_type": landed.result.job_type,
            "events": storage.display(landed.uri),
            "sha256": landed.sha256,
            "source": landed.source,
            "source_sha256": landed.source_sha256,
            "job_created_at": landed.created_at.isoformat() if landed.created_at else None,
        }
        for landed in night.results
    ]
    uri = archive.state_uri("reports", f"{_file_name(name)}.json")
    with spool_directory() as directory:
        land_json(directory / "evidence", evidence | {"results": results}, uri, archive.state_client)
        # Last: what is not remembered is only checked again.
        if what := _undone(done):
            level = logging.INFO if done.get("dry_run") else logging.WARNING
            log.log(level, "nothing of this night counts as checked, and X is asked again: %s", what)
        else:
            _record_checks(archive, night, directory)
    return evidence | {"evidence": storage.display(uri)}


def _undone(done: Mapping[str, Any]) -> str:
    """Say why the events cannot count as applied to all of the archive; nothing if they can."""
    if not done:
        return "there is no report, so nothing was applied"
    if done.get("dry_run"):
        return "it was a dry run"
    if gone := done.get("files_gone"):
        return f"others moved or removed {gone:,} of the files meanwhile"
    return ""


def _record_checks(archive: Archive, night: Night, directory: Path) -> None:
    for job_type, landed in night.by_type().items():
        checked = ((each.source, each.created_at or night.at) for each in landed if each.source)
        record_checks(archive, job_type, checked, directory)


def total_of(reports: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the reports of parts of an archive."""
    total: dict[str, Any] = {}
    for report in reports:
        for key, value in report.items():
            total[key] = _sum(total[key], value) if key in total else value
    return total


def _sum(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return None
    if isinstance(one, bool):
        return one or other
    if isinstance(one, Mapping):
        return dict(sorted((Counter(one) + Counter(other)).items()))
    if isinstance(one, list):
        return [*one, *other][:MAX_SHOWN]
    return one + other


def _file_name(run: str) -> str:
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in run)
