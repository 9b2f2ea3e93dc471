import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xcompliance.api.jobs import Job
from airflow_provider_xcompliance.api.ownership import Decision, Step, decide, job_name

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NAME = "nightly.check-0123456789abcdef"
REUSE = timedelta(hours=6)
MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("minutes", "hours", "days"))
WINDOW = 15 * MINUTE


def job(status: str, age: timedelta = MINUTE, *, job_id: str = "1", name: str | None = NAME) -> Job:
    created = NOW - age
    return Job(
        id=job_id,
        type="tweets",
        status=status,
        name=name,
        created_at=created,
        upload_expires_at=created + WINDOW,
        download_expires_at=created + 7 * DAY,
        observed_at=NOW,
    )


def foreign(status: str, age: timedelta = MINUTE, *, job_id: str = "9") -> Job:
    return job(status, age, job_id=job_id, name="another.task-fedcba9876543210")


def without(described: Job, *fields: str) -> Job:
    return msgspec.structs.replace(described, **dict.fromkeys(fields))


class Row(NamedTuple):
    """What X lists, and what to do about it where the input is not in the name, and where it is."""

    found: str
    jobs: list[Job]
    create: tuple[Step, str | None]
    run: tuple[Step, str | None]


CREATE = (Step.CREATE, None)


def adopt(job_id: str = "1") -> tuple[Step, str]:
    return Step.ADOPT, job_id


def cancel(job_id: str = "1") -> tuple[Step, str]:
    return Step.CANCEL, job_id


def wait(job_id: str = "1") -> tuple[Step, str]:
    return Step.WAIT, job_id


SECOND = timedelta(seconds=1)
TABLE = [
    Row("nothing", [], CREATE, CREATE),
    # The table of the architecture.
    Row("created, window left", [job("created")], adopt(), adopt()),
    Row("created, window nearly gone", [job("created", 13 * MINUTE)], cancel(), cancel()),
    Row("in progress", [job("in_progress", HOUR)], wait(), adopt()),
    Row("complete, fresh", [job("complete", HOUR)], CREATE, adopt()),
    Row("complete, older", [job("complete", 7 * HOUR)], CREATE, CREATE),
    Row("failed", [job("failed")], CREATE, CREATE),
    Row("expired", [job("expired", HOUR)], CREATE, CREATE),
    Row("a foreign job is created", [foreign("created")], wait("9"), wait("9")),
    Row("a foreign job is in progress", [foreign("in_progress", DAY)], wait("9"), wait("9")),
    # Where two lines of it meet.
    Row("just enough window", [job("created", 12 * MINUTE - SECOND)], adopt(), adopt()),
    Row("just too little window", [job("created", 12 * MINUTE)], cancel(), cancel()),
    Row("created, but long over", [job("created", HOUR)], cancel(), cancel()),
    Row("just fresh", [job("complete", REUSE - SECOND)], CREATE, adopt()),
    Row("just not fresh", [job("complete", REUSE)], CREATE, CREATE),
    # What is missing or not known.
    Row("no window told", [without(job("created", DAY), "upload_expires_at")], adopt(), adopt()),
    Row("no age told, active", [without(job("in_progress"), "created_at")], wait(), adopt()),
    Row("no age told, complete", [without(job("complete"), "created_at")], CREATE, CREATE),
    Row("no clock told, complete", [without(job("complete"), "observed_at")], CREATE, CREATE),
    Row("no clock told, created", [without(job("created", DAY), "observed_at")], adopt(), adopt()),
    Row("own, of a status that is not known", [job("reviewing", HOUR)], wait(), adopt()),
    Row("foreign, of a status that is not known", [foreign("archived", DAY)], CREATE, CREATE),
    Row("a job without a name is foreign", [job("in_progress", name=None)], wait(), wait()),
    # Several.
    Row("foreign jobs that ended", [foreign("complete"), foreign("failed")], CREATE, CREATE),
    Row(
        "own ended, foreign active",
        [job("expired", HOUR), foreign("in_progress")],
        wait("9"),
        wait("9"),
    ),
    Row("own fresh result, foreign active", [foreign("created"), job("complete", HOUR)], wait("9"), adopt()),
    Row("the newest result", [job("complete", HOUR), job("complete", job_id="2")], CREATE, adopt("2")),
    Row("a result under a failure", [job("failed", job_id="2"), job("complete", HOUR)], CREATE, adopt()),
    Row(
        "an active job over a result",
        [job("complete", HOUR), job("created", job_id="2")],
        adopt("2"),
        adopt("2"),
    ),
    Row(
        "an active job under a failure",
        [job("failed", MINUTE, job_id="2"), job("in_progress", HOUR)],
        wait(),
        adopt(),
    ),
    Row("an own one over a foreign one", [foreign("in_progress"), job("created")], adopt(), adopt()),
]
by_found = pytest.mark.parametrize("row", TABLE, ids=[row.found for row in TABLE])


def decided(jobs: list[Job], **options) -> tuple[Step, str | None]:
    step, about = decide(jobs, NAME, **options)
    return step, about and about.id


class TestTable:
    @by_found
    def test_where_the_input_is_not_in_the_name(self, row):
        assert decided(row.jobs, reuse_within=None) == row.create

    @by_found
    def test_where_the_input_is_in_the_name(self, row):
        assert decided(row.jobs, reuse_within=REUSE) == row.run

    @by_found
    def test_the_order_of_the_list_does_not_matter(self, row):
        assert decided(row.jobs[::-1], reuse_within=REUSE) == row.run

    @by_found
    @pytest.mark.parametrize("year", [1990, 2060])
    def test_only_the_servers_clock_counts(self, row, year):
        def moved(moment: datetime | None) -> datetime | None:
            return moment and moment.replace(year=year)

        times = ("created_at", "upload_expires_at", "download_expires_at", "observed_at")
        jobs = [
            msgspec.structs.replace(each, **{name: moved(getattr(each, name)) for name in times})
            for each in row.jobs
        ]

        assert decided(jobs, reuse_within=REUSE) == row.run


class TestFreshness:
    def test_with_nothing_to_be_reused_a_complete_job_is_never_the_answer(self):
        assert decided([job("complete", timedelta())], reuse_within=timedelta()) == CREATE

    def test_nor_is_one_that_is_younger_than_the_servers_clock_as_its_clocks_differ(self):
        assert decided([job("complete", -SECOND)], reuse_within=timedelta()) == CREATE

    def test_with_nothing_to_be_reused_a_job_at_work_is_still_adopted(self):
        assert decided([job("in_progress", DAY)], reuse_within=timedelta()) == adopt()

    def test_a_result_that_x_has_thrown_away_is_none_however_long_it_may_be_reused(self):
        assert decided([job("complete", 7 * DAY)], reuse_within=30 * DAY) == CREATE
        assert decided([job("complete", 7 * DAY - SECOND)], reuse_within=30 * DAY) == adopt()


class TestRefusal:
    def test_after_a_refusal_a_foreign_job_of_an_unknown_status_is_waited_for(self):
        jobs = [foreign("complete"), foreign("archived", job_id="8")]

        assert decided(jobs, reuse_within=REUSE) == CREATE
        assert decided(jobs, reuse_within=REUSE, refused=True) == wait("8")

    def test_a_refusal_changes_nothing_else(self):
        for row in TABLE:
            if "foreign, of a status" not in row.found:
                assert decided(row.jobs, reuse_within=REUSE, refused=True) == row.run


def test_a_decision_to_create_is_about_no_job():
    assert decide([], NAME, reuse_within=REUSE) == Decision(Step.CREATE, None)


IDENTITIES = st.lists(st.text(), max_size=6).map(tuple)


class TestName:
    @given(st.text(), IDENTITIES)
    def test_it_is_short_plain_and_always_the_same(self, label, identity):
        name = job_name(label, *identity)

        assert re.fullmatch(r"[A-Za-z0-9._-]{33,64}", name)
        assert job_name(label, *identity) == name

    @given(st.text(), IDENTITIES, IDENTITIES)
    def test_another_identity_is_another_name(self, label, one, other):
        assert (job_name(label, *one) == job_name(label, *other)) == (one == other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (("ab", "c"), ("a", "bc")),
            (("a", "b"), ("a", "b", "")),
            (('a","b',), ("a", "b")),
            (("a", "b"), ("b", "a")),
            (("run", "1"), ("run", "-1")),
            (("é",), ("e\u0301",)),
        ],
    )
    def test_no_two_identities_are_written_alike(self, one, other):
        assert job_name("label", *one) != job_name("label", *other)

    def test_two_ids_of_250_characters_that_differ_at_their_end_have_two_names(self):
        names = {job_name("d" * 250, "owner", "d" * 249 + end, "t" * 250) for end in "ab"}

        assert len(names) == 2
        assert {len(name) for name in names} == {64}

    def test_the_label_says_what_it_is_for(self):
        assert re.fullmatch(r"nightly\.check_posts-[0-9a-f]{32}", job_name("nightly.check_posts", "owner"))
        assert re.fullmatch(r"prüf-[0-9a-f]{32}".replace("ü", "-"), job_name("prüf", "owner"))

    def test_it_is_the_same_in_each_release(self):
        # Else a job of before an upgrade would be foreign to its own task.
        assert job_name("dag.task", "https://airflow", "dag", "task", "run", "-1") == (
            "dag.task-5d9db405007d3e912bfe2764bf2ae31b"
        )
