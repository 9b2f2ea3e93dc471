"""What X may say that is not so: nobody believes it, and nothing behind the guard is written."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xcompliance.api.errors import IntegrityError
from airflow_provider_xcompliance.archive.events import (
    ForeignEventsError,
    InvalidEventsError,
    MissingControlsError,
)
from airflow_provider_xcompliance.emulator.server import EmulatorServer
from airflow_provider_xcompliance.hooks import compliance
from airflow_provider_xcompliance.hooks.compliance import XComplianceHook
from airflow_provider_xcompliance.operators.archives import GuardEventsOperator
from airflow_provider_xcompliance.operators.jobs import (
    CreateJobOperator,
    DownloadOperator,
    RunJobOperator,
    UploadOperator,
)

pytestmark = [pytest.mark.row("the lying API"), pytest.mark.usefixtures("x_connection")]

#: Any 5 of them are exactly the share that may be removed.
IDS = [str(1_300_000_000_000_000_000 + n * 4_194_305) for n in range(100)]
CONTROLS = ["20", "21"]
FIRST, SECOND, *_, LAST = IDS


def event(number: Any, action: Any = "delete", reason: Any = "deleted", **more: Any) -> dict[str, Any]:
    return {"id": number, "action": action, "reason": reason, "created_at": "2026-01-02T03:04:05.000Z"} | more


def error(number: str) -> dict[str, Any]:
    return {"id": number, "error": "invalid_id"}


def without(key: str, record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != key}


def said(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def removals(number: int, ids: Iterable[str] = IDS) -> list[dict[str, Any]]:
    return [event(each) for each in list(ids)[:number]]


HONEST = removals(3)
GONE = [event(each) for each in CONTROLS]


@dataclass(frozen=True)
class Lie:
    """
    What X says, and how it is refused.

    :param says: the result
    :param words: of the refusal
    :param refusal: what a download raises; None: the guard refuses
    :param control_ids: what is submitted besides
    """

    says: bytes
    words: str
    refusal: type[Exception] | None = None
    control_ids: list[str] = field(default_factory=list)


def broken(says: bytes) -> Lie:
    return Lie(says, r"^results of job \d+:\d+: .*nothing of", InvalidEventsError)


def foreign(*records: dict[str, Any]) -> Lie:
    return Lie(said(*HONEST, *records), "not submitted", ForeignEventsError)


def uncontrolled(*records: dict[str, Any]) -> Lie:
    return Lie(said(*records), "control ids have no event", MissingControlsError, CONTROLS)


def unknown(*records: dict[str, Any]) -> Lie:
    return Lie(said(*HONEST, *records), "of kinds that this version does not know")


def repeated(*records: dict[str, Any]) -> Lie:
    return Lie(said(*HONEST, *records), "1 ids have several events")


#: What no download lets pass: nothing lands.
NOT_LANDED = {
    "events of another job": foreign(*removals(3, ["777", "778", "779"])),
    "one event of another job": foreign(event("777")),
    "users' events for a job of tweets": foreign(event("44196397", reason="suspended")),
    "an error about an id of others": foreign(error("777")),
    "an error about what no id is": foreign(error("not_a_valid_id")),
    "empty, without its controls": uncontrolled(),
    "cut at the end of a record, before all controls": uncontrolled(*HONEST),
    "cut at the end of a record, before one control": uncontrolled(*HONEST, GONE[0]),
    "controls that X could not read": uncontrolled(*HONEST, GONE[0], error(CONTROLS[1])),
    "cut inside a record": broken(said(*HONEST)[:-20]),
    "cut before the last brace": broken(said(*HONEST)[:-2]),
    "a tail of zero bytes": broken(said(*HONEST) + bytes(512)),
    "compressed": broken(b"\x1f\x8b\x08\x00" + bytes(64)),
    "a byte order mark": broken(b"\xef\xbb\xbf" + said(*HONEST)),
    "a page of HTML": broken(b"<html><body>busy</body></html>"),
    "a problem instead of records": broken(said({"title": "Busy", "type": "about:blank", "status": 503})),
    "the old form of an error": broken(said({"errors": [{"code": 88, "message": "Rate limit exceeded"}]})),
    "one array of all records": broken(json.dumps(HONEST).encode()),
    "one object around all records": broken(said({"data": HONEST})),
    "two records on a line": broken(said(*HONEST).replace(b"\n", b"", 1)),
    "CSV": broken(b"id,action,reason\n" + FIRST.encode() + b",delete,deleted\n"),
    "an id as a number": broken(said(*HONEST, event(int(LAST)))),
    "an id as a rounded number": broken(said(*HONEST, event("1.3E+18"))),
    "an id as null": broken(said(*HONEST, event(None))),
    "an id with a blank": broken(said(*HONEST, event(f"{LAST} "))),
    "an id with a leading zero": broken(said(*HONEST, event(f"0{LAST}"))),
    "an id with full-width digits": broken(said(*HONEST, event("\uff11\uff12"))),
    "an id beyond 2^63": broken(said(*HONEST, event(str(2**63)))),
    "no id": broken(said(*HONEST, without("id", event(LAST)))),
    "no action": broken(said(*HONEST, without("action", event(LAST)))),
    "an empty action": broken(said(*HONEST, event(LAST, ""))),
    "an action as a number": broken(said(*HONEST, event(LAST, 1))),
    "an action as a list": broken(said(*HONEST, event(LAST, ["delete"]))),
    "a reason as a number": broken(said(*HONEST, event(LAST, reason=1))),
    "an error as an object": broken(said(*HONEST, {"id": LAST, "error": {"code": 1}})),
    "a date that is none": broken(said(*HONEST, event(LAST, redacted_at="yesterday"))),
    "a line without end": Lie(said(*HONEST) + b" " * 3_000_000, "line 4 has more than", InvalidEventsError),
    "a thousand reasons and one": Lie(
        said(*(event(LAST, reason=f"reason {n}") for n in range(1001))),
        "more than 1,000 different actions",
        InvalidEventsError,
    ),
}

#: What can be read, and is not acted upon.
NO_GO = {
    "an event twice": repeated(HONEST[0]),
    "two reasons for one removal": repeated(event(FIRST, reason="suspended")),
    "gone and edited": repeated(event(FIRST, "rehydrate", "tweet_edited")),
    "gone and its location gone": repeated(event(FIRST, "scrub_geo", "geo_scrubbed")),
    "both shapes of a scrubbed location": repeated(
        event(LAST, reason="scrub_geo"), event(LAST, "scrub_geo", "geo_scrubbed")
    ),
    "gone, and not an id": repeated(error(FIRST)),
    "an unknown action": unknown(event(LAST, "withhold", "country")),
    "an action in capitals": unknown(event(LAST, "DELETE")),
    "an unknown reason": unknown(event(LAST, reason="eaten")),
    "a reason in capitals": unknown(event(LAST, reason="Deleted")),
    "a reason of another action": unknown(event(LAST, reason="tweet_edited")),
    "no reason": unknown(without("reason", event(LAST))),
    "a reason that is null": unknown(event(LAST, reason=None)),
    "an empty reason": unknown(event(LAST, reason="")),
    "a reason with a line of its own": unknown(event(LAST, reason="deleted\nGo")),
    "one removal more than the limit": Lie(said(*removals(6)), "tweets: 6 removals of 100 ids"),
    "half of everything gone": Lie(said(*removals(50)), "tweets: 50 removals of 100 ids"),
    "everything gone": Lie(said(*removals(100)), "tweets: 100 removals of 100 ids"),
    "edits of everything": Lie(
        said(*(event(each, "rehydrate", "tweet_edited") for each in IDS)),
        "tweets: 100 records to fetch again",
    ),
    "the old shape of a scrubbed location, everywhere": Lie(
        said(*(event(each, reason="scrub_geo") for each in IDS)), "100 locations to remove, of 100 ids"
    ),
    "the new shape of it, everywhere": Lie(
        said(*(event(each, "scrub_geo", "geo_scrubbed") for each in IDS)), "100 locations to remove, of 100"
    ),
    "edits and scrubbed locations, together more than the limit": Lie(
        said(*(event(each, "rehydrate", "tweet_edited") for each in IDS[:3]))
        + said(*(event(each, "scrub_geo", "geo_scrubbed") for each in IDS[3:6])),
        "3 records to fetch again and 3 locations to remove, of 100 ids, are 6.0000%",
    ),
    "half of everything gone, controls too": Lie(
        said(*removals(50), *GONE), "tweets: 50 removals of 100 ids", control_ids=CONTROLS
    ),
    "valid ids that X could not read": Lie(said(*map(error, IDS[:6])), "X could not read 6 of 100 ids"),
    "no id that X could read": Lie(said(*map(error, IDS)), "X could not read 100 of 100 ids"),
}

#: What looks strange and is true: it is acted upon as the plan says, and not otherwise.
BELIEVED = {
    "no event for a few ids": (said(), {}),
    "blank lines": (b"\n" + b"\n\n".join(said(each) for each in HONEST) + b"\n", {"removals": 3}),
    "fields that nobody knows": (said(event(FIRST, country="DE", more={"a": [1]})), {"removals": 1}),
    "a missing date": (said(without("created_at", event(FIRST))), {"removals": 1}),
    "the old shape of a scrubbed location": (
        said(*(event(each, reason="scrub_geo") for each in IDS[:5])),
        {"scrubs": 5},
    ),
    "the new shape of it": (
        said(*(event(each, "scrub_geo", "geo_scrubbed") for each in IDS[:5])),
        {"scrubs": 5},
    ),
    "both shapes, for different ids": (
        said(event(FIRST, reason="scrub_geo"), event(LAST, "scrub_geo", "geo_scrubbed")),
        {"scrubs": 2},
    ),
    "edits exactly at the limit": (
        said(*(event(each, "rehydrate", "tweet_edited") for each in IDS[:5])),
        {"fetches": 5},
    ),
    "removals exactly at the limit": (said(*removals(5)), {"removals": 5}),
    "few ids that X could not read": (said(*map(error, IDS[:5])), {"errors": 5}),
}


@dataclass
class Night:
    """One night: jobs, their results, the guard, and what stands behind it."""

    emulator: EmulatorServer
    path: Path
    job_type: str = "tweets"
    control_ids: list[str] = field(default_factory=list)

    @property
    def ids(self) -> Path:
        return self.path / f"{self.job_type}.txt"

    @property
    def events(self) -> Path:
        return self.path / "landed" / f"{self.job_type}.ndjson"

    @property
    def manifest(self) -> Path:
        return Path(f"{self.events}.manifest.json")

    @property
    def applied(self) -> Path:
        return self.path / "applied"

    def ask(self, says: bytes, ids: Iterable[str] = IDS) -> str:
        """Take ids to a job that is complete when it is looked at next; return its id."""
        if not self.ids.exists():
            self.ids.write_text("".join(f"{each}\n" for each in ids))
        job_id = self._run(CreateJobOperator, job_type=self.job_type)
        self._run(UploadOperator, job_id=job_id, source=str(self.ids), control_ids=self.control_ids)
        self.emulator.set_result(job_id, says)
        return job_id

    def land(self, job_id: str, **options: Any) -> dict[str, Any]:
        options = {"submitted": str(self.ids), "control_ids": self.control_ids} | options
        return self._run(DownloadOperator, job_id=job_id, destination=str(self.events), **options)

    def run_job(self) -> list[dict[str, Any]]:
        self.ids.write_text("".join(f"{each}\n" for each in IDS))
        return self._run(
            RunJobOperator,
            job_type=self.job_type,
            source=str(self.ids),
            destination=str(self.events),
            control_ids=self.control_ids,
            poll_interval=0,
        )

    def judge_and_apply(self, *results: Any, **limits: Any) -> dict[str, Any]:
        plan = self._run(GuardEventsOperator, events=list(results), **limits)
        self.applied.write_text(json.dumps(plan))
        return plan

    def _run(self, operator: Any, **options: Any) -> Any:
        task_id = f"{operator.__name__}-{self.job_type}"
        ti = SimpleNamespace(dag_id="night", task_id=task_id, run_id="run", map_index=-1, try_number=1)
        task = operator(task_id=task_id, **options)
        if operator is not GuardEventsOperator:
            # What is repeated after a pause is repeated in vain here.
            task.hook = XComplianceHook(max_tries=1)
        return task.execute({"ti": ti, "outlet_events": {}})


@pytest.fixture(autouse=True)
def _nothing_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each job's tokens make Airflow's pattern of secrets longer, for all the cells that follow.
    monkeypatch.setattr(compliance, "mask_secret", lambda secret: None)


@pytest.fixture
def night(emulator: EmulatorServer, tmp_path: Path) -> Night:
    return Night(emulator, tmp_path)


def refuse(night: Night, words: str, *results: Any, **limits: Any) -> None:
    """The guard says no, in words, and nothing behind it happens."""
    with pytest.raises(AirflowFailException, match=f"No go, nothing may be applied:(.|\n)*{words}"):
        night.judge_and_apply(*results, **limits)
    assert not night.applied.exists()


@pytest.mark.quick
@pytest.mark.parametrize("lie", NOT_LANDED.values(), ids=NOT_LANDED)
def test_it_does_not_land(night: Night, lie: Lie) -> None:
    night.control_ids = lie.control_ids
    job_id = night.ask(lie.says)

    with pytest.raises(lie.refusal, match=lie.words):
        night.land(job_id)

    assert not night.events.parent.exists()
    refuse(night, "has no manifest", str(night.events))


@pytest.mark.parametrize("flow", ["current"], indirect=True)
@pytest.mark.parametrize("lie", NOT_LANDED.values(), ids=NOT_LANDED)
def test_it_does_not_land_by_a_whole_run(night: Night, lie: Lie) -> None:
    night.control_ids = lie.control_ids
    night.emulator.add_fault(
        "status",
        endpoint="download",
        times=0,
        status=200,
        body=lie.says.decode("latin-1"),
        content_type="application/octet-stream; charset=latin-1",
    )

    with pytest.raises(lie.refusal, match=lie.words):
        night.run_job()

    assert not night.events.parent.exists()


@pytest.mark.quick
@pytest.mark.parametrize("lie", NO_GO.values(), ids=NO_GO)
def test_it_lands_and_is_a_no_go(night: Night, lie: Lie) -> None:
    night.control_ids = lie.control_ids

    receipt = night.land(night.ask(lie.says))

    refuse(night, lie.words, receipt)


@pytest.mark.quick
@pytest.mark.parametrize(("says", "does"), BELIEVED.values(), ids=BELIEVED)
def test_it_is_believed_for_what_it_is(night: Night, says: bytes, does: dict[str, int]) -> None:
    plan = night.judge_and_apply(night.land(night.ask(says)))

    nothing = dict.fromkeys(("removals", "scrubs", "fetches", "errors", "unknown", "repeated"), 0)
    assert {name: plan[name] for name in nothing} == nothing | does
    assert plan["submitted"] == 100
    assert night.applied.exists()


@pytest.mark.quick
def test_a_cut_that_length_and_framing_deny_is_told_by_the_control_ids(night: Night) -> None:
    night.control_ids = CONTROLS
    job_id = night.ask(said(*HONEST, *GONE))
    night.emulator.add_fault("truncate", endpoint="download", at=len(said(*HONEST)), times=0)

    # The legacy flow states a checksum.
    with pytest.raises((MissingControlsError, IntegrityError)):
        night.land(job_id)

    assert not night.events.parent.exists()


@pytest.mark.quick
@pytest.mark.parametrize("flow", ["legacy"], indirect=True)
def test_a_cut_that_length_and_framing_deny_is_told_by_the_checksum(night: Night) -> None:
    job_id = night.ask(said(*HONEST))
    night.emulator.add_fault("truncate", endpoint="download", at=len(said(HONEST[0])), times=0)

    with pytest.raises(IntegrityError, match="crc32c differs"):
        night.land(job_id)

    assert not night.events.parent.exists()


@pytest.mark.quick
@pytest.mark.parametrize("flow", ["current"], indirect=True)
class TestAnOpenEnd:
    """Neither length nor framing nor checksum: where the connection ends is where the result ends."""

    def land(self, night: Night, *records: dict[str, Any]) -> dict[str, Any]:
        night.emulator.configure(download_framing="close")
        whole = said(*records)
        job_id = night.ask(whole + said(event(LAST)))
        night.emulator.add_fault("truncate", endpoint="download", at=len(whole), times=0)
        return night.land(job_id)

    def test_without_control_ids_it_is_a_no_go(self, night: Night) -> None:
        receipt = self.land(night, *HONEST)

        refuse(night, "nothing proves that its end is not cut off", receipt)
        assert night.judge_and_apply(receipt, allow_unverified_length=True)["removals"] == 3

    def test_with_control_ids_that_came_back_it_is_a_go(self, night: Night) -> None:
        night.control_ids = CONTROLS

        plan = night.judge_and_apply(self.land(night, *HONEST, *GONE), control_ids=CONTROLS)

        assert (plan["removals"], plan["submitted"]) == (3, 100)

    def test_with_control_ids_that_were_cut_off_nothing_lands(self, night: Night) -> None:
        night.control_ids = CONTROLS

        with pytest.raises(MissingControlsError):
            self.land(night, *HONEST, GONE[0])
        assert not night.events.parent.exists()


@pytest.mark.quick
def test_control_ids_that_nobody_sent_are_missed(night: Night) -> None:
    receipt = night.land(night.ask(said(*HONEST)))

    refuse(night, "2 control ids were not submitted with it", receipt, control_ids=CONTROLS)


@pytest.mark.quick
def test_a_mass_removal_of_users_does_not_hide_behind_many_posts(night: Night, tmp_path: Path) -> None:
    users = Night(night.emulator, tmp_path, job_type="users")
    many = [str(10**18 + n) for n in range(20_000)]
    posts = night.land(night.ask(said(*removals(3, many)), many))

    receipt = users.land(users.ask(said(*removals(50))))

    refuse(night, "users: 50 removals of 100 ids are 50.0000%", posts, receipt)


@pytest.mark.quick
@pytest.mark.parametrize("flow", ["current"], indirect=True)
def test_a_result_that_was_not_compared_with_its_ids_is_a_no_go(night: Night) -> None:
    receipt = night.land(night.ask(said(event("777"))), submitted=None)

    refuse(night, "it was not compared with the ids that were submitted", receipt)


@pytest.fixture(scope="session")
def million_ids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A million ids, made once."""
    path = tmp_path_factory.mktemp("million") / "ids.txt"
    path.write_text("".join(f"{number}\n" for number in range(10**18, 10**18 + 10**6)))
    return path


@pytest.mark.parametrize(
    ("flow", "says", "control_ids"),
    [
        pytest.param("current", b"", [], id="nothing at all"),
        pytest.param("legacy", b"", [], id="nothing at all, in the legacy flow"),
        pytest.param("current", b"\n\n", [], id="blank lines"),
        pytest.param("current", said(*GONE), CONTROLS, id="the controls alone"),
    ],
    indirect=["flow"],
)
def test_no_event_for_a_million_ids_is_a_no_go(
    night: Night, million_ids: Path, says: bytes, control_ids: list[str]
) -> None:
    night.control_ids = control_ids
    night.ids.symlink_to(million_ids)

    receipt = night.land(night.ask(says))

    refuse(night, "no event at all for 1,000,000 ids is suspicious", receipt)
    assert night.judge_and_apply(receipt, min_events=0)["events"] == 0


def edit(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def other_result(night: Night) -> None:
    """Another job's result, whole and with its manifest, where this one's was."""
    shutil.rmtree(night.events.parent)
    night.land(night.ask(said(*removals(1))))


def other_manifest(night: Night) -> None:
    mine = night.events.read_bytes()
    other_result(night)
    night.events.write_bytes(mine)


#: What happens to a result between its landing and the guard, and what the guard says of it.
TAMPERED: dict[str, tuple[Callable[[Night], object], str]] = {
    "a record gone": (
        lambda night: night.events.write_bytes(said(*HONEST[:2])),
        "not the file of its manifest",
    ),
    "all records gone": (lambda night: night.events.write_bytes(b""), "not the file of its manifest"),
    "a record more": (
        lambda night: night.events.write_bytes(said(*HONEST, event(LAST))),
        "not the file of its manifest",
    ),
    "one id is another": (
        lambda night: night.events.write_bytes(said(*HONEST).replace(FIRST.encode(), LAST.encode())),
        "not the file of its manifest",
    ),
    "something else": (lambda night: night.events.write_bytes(b"<html>"), "not the file of its manifest"),
    "the file gone": (lambda night: night.events.unlink(), "there is a manifest, but no events"),
    "the manifest gone": (lambda night: night.manifest.unlink(), "it has no manifest"),
    "the manifest cut": (
        lambda night: night.manifest.write_bytes(night.manifest.read_bytes()[:-30]),
        "its manifest cannot be understood",
    ),
    "the manifest of another file": (
        other_manifest,
        "differs from the manifest in|not the file of its manifest",
    ),
    "another job's result, whole": (other_result, "whose receipt differs from the manifest in"),
    "fewer removals said": (
        lambda night: edit(night.manifest, lambda said: said | {"actions": {"delete": {"deleted": 1}}}),
        "differs from the manifest in|counts other events",
    ),
    "more ids said to be submitted": (
        lambda night: edit(night.manifest, lambda said: said | {"submitted": {"ids": 10**9}}),
        "differs from the manifest in submitted",
    ),
    "controls said to have come back": (
        lambda night: edit(night.manifest, lambda said: said | {"control_ids": CONTROLS}),
        "differs from the manifest in|but 2 have none",
    ),
    "repetition denied": (
        lambda night: edit(night.manifest, lambda said: said | {"repeated": None}),
        "differs from the manifest in repeated|does not tell of repeated ids",
    ),
    "the type is another": (
        lambda night: edit(night.manifest, lambda said: said | {"job_type": "posts"}),
        "differs from the manifest in|its manifest is not one of ours",
    ),
}
#: What only a receipt of the download can tell.
NEED_THE_RECEIPT = {"another job's result, whole", "more ids said to be submitted"}


@pytest.mark.quick
@pytest.mark.parametrize("flow", ["current"], indirect=True)
@pytest.mark.parametrize(("tamper", "words"), TAMPERED.values(), ids=TAMPERED)
def test_a_result_that_was_changed_after_it_landed_is_a_no_go(
    night: Night, tamper: Callable[[Night], object], words: str
) -> None:
    receipt = night.land(night.ask(said(*HONEST)))
    tamper(night)

    refuse(night, words, receipt)


@pytest.mark.quick
@pytest.mark.parametrize("flow", ["current"], indirect=True)
@pytest.mark.parametrize("name", [name for name in TAMPERED if name not in NEED_THE_RECEIPT])
def test_a_result_that_was_changed_is_a_no_go_without_its_receipt_too(night: Night, name: str) -> None:
    tamper, words = TAMPERED[name]
    night.land(night.ask(said(*HONEST)))
    tamper(night)

    refuse(night, words, str(night.events))


@pytest.mark.quick
@pytest.mark.parametrize("flow", ["current"], indirect=True)
@pytest.mark.parametrize("results", [[], [[]], [None], [""], [{}]], ids=repr)
def test_no_results_are_no_all_clear(night: Night, results: list[Any]) -> None:
    refuse(night, "there is no result to judge|neither a URI nor the receipt of a download", *results)


@pytest.mark.quick
@pytest.mark.parametrize("flow", ["current"], indirect=True)
def test_one_result_given_twice_is_a_no_go(night: Night) -> None:
    receipt = night.land(night.ask(said(*HONEST)))
    copy = night.path / "copy.ndjson"
    shutil.copy(night.events, copy)
    shutil.copy(night.manifest, f"{copy}.manifest.json")

    refuse(night, "its result was given 2 times", receipt, str(night.events))
    refuse(night, "its result was given 2 times", receipt, str(copy))


@pytest.mark.quick
@pytest.mark.parametrize("flow", ["current"], indirect=True)
def test_one_bad_result_stops_all(night: Night, tmp_path: Path) -> None:
    users = Night(night.emulator, tmp_path, job_type="users")
    good, bad = night.land(night.ask(said(*HONEST))), users.land(users.ask(said(event(LAST, "withhold"))))

    refuse(night, "withhold/deleted", good, bad)


@pytest.mark.quick
@pytest.mark.parametrize("flow", ["current"], indirect=True)
def test_a_job_that_x_says_is_another_is_not_landed(night: Night) -> None:
    job_id = night.ask(said(*HONEST))
    other = {"id": "1", "type": "tweets", "status": "complete"}
    night.emulator.add_fault("status", endpoint="get", times=0, status=200, body={"data": other})

    with pytest.raises(Exception, match="X answered with another job"):
        night.land(job_id)
    assert not night.events.parent.exists()


@pytest.mark.quick
@pytest.mark.parametrize("flow", ["current"], indirect=True)
def test_posts_that_x_says_are_users_are_not_landed(night: Night) -> None:
    job = msgspec.to_builtins(XComplianceHook().get_job(night.ask(said(*HONEST))))
    lie = {"data": job | {"type": "users"}}
    night.emulator.add_fault("status", endpoint="get", times=0, status=200, body=lie)

    with pytest.raises(Exception, match="users"):
        night.land(job["id"])
