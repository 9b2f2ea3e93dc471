"""Runs of DAGs, watched over the REST API."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from demo.airflow_standalone import FINAL_STATES, NotInTimeError, Standalone
from demo.report import Report

#: How a task may wait, and what that is called in the table.
WAIT_WORDS = {"up_for_reschedule": "rescheduled", "deferred": "deferred"}
#: A retry waits for a minute at least: the demo has failed by then.
FAILED_STATES = {"failed", "upstream_failed", "up_for_retry"}

NO_WAITS: Mapping[str, str] = {}
TITLE_WIDTH = 16
PARSE_SECONDS = 60
RUN_SECONDS = 150


@dataclass
class TaskHistory:
    """What was seen of one task instance."""

    states: list[str] = field(default_factory=list)
    try_number: int = 0
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def state(self) -> str:
        """The last one."""
        return self.states[-1] if self.states else "none"

    @property
    def seconds(self) -> float:
        """From the first start to the last end, waiting included."""
        return (self.ended - self.started).total_seconds() if self.started and self.ended else 0.0

    def note(self, instance: dict[str, Any]) -> bool:
        """Take down what the API says, and tell whether the state is new."""
        self.started = self.started or _moment(instance["start_date"])
        self.ended = _moment(instance["end_date"])
        self.try_number = instance["try_number"]
        state = instance["state"] or "none"
        is_new = state != self.state
        if is_new:
            self.states.append(state)
        return is_new


class Night:
    """
    One run of a DAG.

    :param title: what it is called in the report
    :param waits: in which state some tasks must have been seen
    """

    def __init__(
        self,
        title: str,
        airflow: Standalone,
        dag_id: str,
        run_id: str,
        report: Report,
        waits: Mapping[str, str],
    ) -> None:
        self.title = title
        self.dag_id = dag_id
        self.run_id = run_id
        self.state = "queued"
        self._airflow = airflow
        self._report = report
        self._waits = waits
        #: By task and, if it is mapped, its number.
        self._tasks: dict[tuple[str, int], TaskHistory] = {}
        # A copy of the database while a trigger is waiting; its row is gone afterwards.
        self._deferred_database = airflow.home / f"{run_id.replace(':', '')}-while-deferred.db"

    def watch(self) -> None:
        """Look once; report every state that matters to a reader."""
        if self.is_over:
            return
        self.state = self._airflow.api.run_state(self.dag_id, self.run_id)
        for instance in self._airflow.api.task_instances(self.dag_id, self.run_id):
            key = instance["task_id"], instance["map_index"]
            history = self._tasks.setdefault(key, TaskHistory())
            if history.note(instance) and history.state in {*WAIT_WORDS, *FINAL_STATES, *FAILED_STATES}:
                self._report.step(f"{self.title:{TITLE_WIDTH}}  {_name(key):15}  {history.state}")
        if not self._deferred_database.exists() and self._any_in({"deferred"}):
            copy_database(self._airflow.database, self._deferred_database)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or will not end well."""
        return self.state in FINAL_STATES or self._any_in(FAILED_STATES)

    @property
    def is_waiting(self) -> bool:
        """Whether each wait was seen that must be."""
        return all(state in self._states_of(task) for task, state in self._waits.items())

    def problems(self) -> list[str]:
        """Return what keeps this run from being a success."""
        if self.state != "success":
            tasks = [f"{_name(key)} is {self._tasks[key].state}" for key in self._unsuccessful()]
            return [f"{self.title}: {what}" for what in (f"the run is {self.state}", *tasks)]
        return [
            f"{task} was never seen {WAIT_WORDS[state]}"
            for task, state in self._waits.items()
            if state not in self._states_of(task)
        ]

    def task_rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Return the table of tasks, in the order in which they began."""
        yield "task", "state", "seconds", "waited"
        begun = {key: history for key, history in self._tasks.items() if history.started}
        for key, history in sorted(begun.items(), key=lambda item: str(item[1].started)):
            waits = [WAIT_WORDS[state] for state in dict.fromkeys(history.states) if state in WAIT_WORDS]
            yield _name(key), history.state, f"{history.seconds:7.1f}", ", ".join(waits)

    def show_unsuccessful_logs(self) -> None:
        """Print the ends of the logs of the tasks that began and did not succeed."""
        for key in self._unsuccessful():
            log = self._airflow.task_log(self.dag_id, self.run_id, *key, self._tasks[key].try_number)
            self._report.end_of_log(_name(key), log)

    def _states_of(self, task_id: str) -> list[str]:
        return self._tasks[task_id, -1].states if (task_id, -1) in self._tasks else []

    def _unsuccessful(self) -> list[tuple[str, int]]:
        begun = [key for key, history in self._tasks.items() if history.started]
        return [key for key in begun if self._tasks[key].state != "success"]

    def _any_in(self, states: set[str]) -> bool:
        return any(history.state in states for history in self._tasks.values())


class Nights:
    """
    Several runs, watched together.

    :param airflow: where they run
    """

    def __init__(self, airflow: Standalone, report: Report) -> None:
        self._airflow = airflow
        self._report = report
        self._known: list[Night] = []

    def __iter__(self) -> Iterator[Night]:
        return iter(self._known)

    def start(
        self, title: str, dag_id: str, params: Mapping[str, Any], waits: Mapping[str, str] = NO_WAITS
    ) -> Night:
        """
        Trigger a DAG.

        :raises NotInTimeError: if it does not become known
        """
        api = self._airflow.api
        self._airflow.wait_until(lambda: self._is_parsed(dag_id), f"{dag_id} is parsed", PARSE_SECONDS)
        # The last midnight is due once the DAG is unpaused; this run takes its place, or would have to wait.
        is_first = all(night.dag_id != dag_id for night in self)
        run_id = api.trigger(dag_id, params, api.next_logical_date(dag_id) if is_first else None)
        api.unpause(dag_id)
        self._report.step(f"{title:{TITLE_WIDTH}}  triggered {dag_id}: {run_id}")
        night = Night(title, self._airflow, dag_id, run_id, self._report, waits)
        self._known.append(night)
        return night

    def watch_until(self, condition: Callable[[], bool], what: str) -> None:
        """
        Watch all runs until the condition holds.

        :param what: names the condition, if it takes too long
        :raises NotInTimeError: if it does, or Airflow has ended
        """

        def is_reached() -> bool:
            for night in self:
                night.watch()
            return condition()

        self._airflow.wait_until(is_reached, what, RUN_SECONDS)

    def watch(self) -> None:
        """
        Watch all runs until they are over.

        :raises NotInTimeError: if it takes too long, or Airflow has ended
        """
        self.watch_until(lambda: all(night.is_over for night in self), "all runs are over")

    def _is_parsed(self, dag_id: str) -> bool:
        """
        Tell whether a DAG is known.

        :raises NotInTimeError: if it cannot be, because a file of the DAGs folder fails
        """
        if errors := self._airflow.api.import_errors():
            raise NotInTimeError(f"a DAG cannot be imported:\n{errors[0]}")
        return self._airflow.api.knows_dag(dag_id)


def copy_database(source: Path, copy: Path) -> None:
    """Copy a SQLite file that is in use."""
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(copy)) as target:
        live.backup(target)


def _name(key: tuple[str, int]) -> str:
    task_id, map_index = key
    name = task_id.removeprefix("refresh_archive.")
    return name if map_index < 0 else f"{name} {map_index + 1}"


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
