"""What X said, done to archives on local files."""

import gzip
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from airflow_provider_xcompliance import redaction, storage
from airflow_provider_xcompliance.archive.event_sets import EventSet
from airflow_provider_xcompliance.archive.events import effect_of
from airflow_provider_xcompliance.archive.formats import Columns
from airflow_provider_xcompliance.archive.records import Decision
from airflow_provider_xcompliance.catalogue import Archive
from airflow_provider_xcompliance.redaction import Redaction, Report
from airflow_provider_xcompliance.retries import is_final
from airflow_provider_xcompliance.storage import AddressError, ChangedError, MissingError, StorageError

BASE = 1_500_000_000_000_000_000
DELETED, EDITED, SCRUBBED = "delete/deleted", "rehydrate/tweet_edited", "scrub_geo/geo_scrubbed"


def line_of(number: int, **members) -> str:
    return json.dumps({"id": str(BASE + number), "author_id": str(number % 10), "text": "x"} | members)


def event_set(posts: Mapping[int, str] = {}, users: Mapping[int, str] = {}, **unknown: int) -> EventSet:
    """Events by number of post, and by id of user."""
    ids: dict = {}
    for job_type, base, events in (("tweets", BASE, posts), ("users", 0, users)):
        for number, kind in events.items():
            decision = Decision(effect_of(*kind.split("/")), kind)
            ids.setdefault((job_type, decision), []).append(base + number)
    return EventSet({key: np.array(some) for key, some in ids.items()}, unknown)


@dataclass
class World:
    """An archive on local files, and what is done to it."""

    root: Path
    options: dict = field(default_factory=dict)
    kept: str = "_xcompliance"

    @property
    def archive(self) -> Archive:
        place = f"{self.root}/"
        told = {"sources": [place]} | self.options
        return Archive(client=None, root=place, state=f"{place}{self.kept}", state_client=None, **told)

    def write(self, name: str, *lines: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = "".join(f"{line}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    def apply(self, events: EventSet, key: str = "night", **options) -> Report:
        archive = self.archive
        files = [file.uri for file in archive.files()]
        return Redaction(archive=archive, events=events, key=key, **options).apply(files)

    def state(self, pattern: str) -> list[Path]:
        return sorted((self.root / self.kept).glob(pattern))


@pytest.fixture
def world(tmp_path) -> World:
    (tmp_path / "archive").mkdir()
    return World(tmp_path / "archive")


def numbers_in(path: Path) -> list[int]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [int(json.loads(line)["id"]) - BASE for line in content.splitlines()]


class TestInPlace:
    def test_records_that_are_gone_go_and_all_else_stays_byte_for_byte(self, world):
        odd = f' {{"id" : "{BASE + 2}","text":"caf\\u00e9" }}  '
        path = world.write("a.ndjson", line_of(1), odd, "{broken", "", line_of(3))

        report = world.apply(event_set({1: DELETED}))

        assert path.read_text() == f"{odd}\n{{broken\n\n{line_of(3)}\n"
        assert (report.records, report.removed, report.kept, report.bad) == (3, 1, 2, 1)
        assert report.kinds == {DELETED: 1}

    def test_all_formats_and_compressions_are_written_as_they_were(self, world):
        world.options = {"columns": {"*": Columns("id")}, "shapes": {"*": "tweet_ids"}}
        packed = world.write("a.ndjson.gz", line_of(1), line_of(2))
        table = world.write("b.csv", "id,text", f"{BASE + 1},x", f'{BASE + 2},"a, b"')
        ids = world.write("c.txt", str(BASE + 1), str(BASE + 2))

        report = world.apply(event_set({1: DELETED}))

        assert numbers_in(packed) == [2]
        assert table.read_text() == f'id,text\n{BASE + 2},"a, b"\n'
        assert ids.read_text() == f"{BASE + 2}\n"
        assert (report.removed, report.files_changed) == (3, 3)

    def test_events_of_users_are_applied_to_their_posts(self, world):
        path = world.write("a.ndjson", line_of(1), line_of(11), line_of(2))

        world.apply(event_set(users={1: "delete/suspended"}))

        assert numbers_in(path) == [2]

    def test_a_file_that_no_event_meets_is_not_opened(self, world, monkeypatch):
        untouched = world.write("a.ndjson", line_of(1))
        world.write("b.ndjson", line_of(2))
        world.apply(event_set())
        opened = []
        plain = Archive.open_plain
        monkeypatch.setattr(
            Archive, "open_plain", lambda self, file, _: opened.append(file.name) or plain(self, file, _)
        )

        report = world.apply(event_set({2: DELETED}))

        assert opened == ["b.ndjson"]
        assert (report.files, report.files_opened, report.files_changed) == (2, 1, 1)
        assert untouched.read_text() == f"{line_of(1)}\n"

    def test_a_file_in_which_nothing_changes_is_not_written(self, world):
        path = world.write("a.ndjson", line_of(1))
        before = path.stat()

        report = world.apply(event_set({1: SCRUBBED}))

        assert (report.files_opened, report.files_changed, report.scrubbed) == (1, 0, 0)
        assert path.stat().st_ino == before.st_ino

    def test_applying_twice_changes_nothing(self, world):
        path = world.write("a.ndjson", line_of(1), line_of(2, geo={"place_id": "7"}), line_of(3))
        events = event_set({1: DELETED, 2: SCRUBBED, 3: EDITED})
        world.apply(events)
        before = path.stat(), world.state("quarantine/**/*")

        world.apply(events, key="another night")

        assert (path.stat(), world.state("quarantine/**/*")) == before

    def test_permissions_stay(self, world):
        path = world.write("a.ndjson", line_of(1), line_of(2))
        path.chmod(0o640)

        world.apply(event_set({1: DELETED}))

        assert path.stat().st_mode & 0o777 == 0o640


class TestQuarantine:
    def test_edited_posts_wait_there_until_they_are_fetched_again(self, world):
        path = world.write("deep/a.ndjson.gz", line_of(1), line_of(2))

        report = world.apply(event_set({1: EDITED}))

        (aside,) = world.state("quarantine/*/deep/a.ndjson.gz")
        assert (numbers_in(path), numbers_in(aside)) == ([2], [1])
        assert (report.quarantined, report.removed, report.kept) == (1, 0, 1)

    def test_it_is_redacted_like_the_archive_itself(self, world):
        world.write("a.ndjson", line_of(1), line_of(2), line_of(3))
        world.apply(event_set({1: EDITED, 2: EDITED}))

        report = world.apply(event_set({1: DELETED, 2: EDITED}), key="next night")

        (aside,) = world.state("quarantine/*/a.ndjson")
        assert numbers_in(aside) == [2]
        assert (report.removed, report.quarantined) == (1, 0)

    def test_it_is_whole_before_the_archive_changes(self, world, monkeypatch):
        path = world.write("a.ndjson", line_of(1), line_of(2))

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(redaction.storage, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            world.apply(event_set({1: EDITED}))

        (aside,) = world.state("quarantine/*/a.ndjson")
        assert (numbers_in(path), numbers_in(aside)) == ([1, 2], [1])

    def test_what_another_choice_of_files_left_there_is_left_to_it(self, world, caplog):
        table = {"sources": [f"{world.root}/*.csv"], "columns": {"*": Columns("id")}}
        posts = {"sources": [f"{world.root}/*.ndjson"]}
        world.options = table
        world.write("a.csv", "id,text", f"{BASE + 1},x", f"{BASE + 2},y")
        path = world.write("b.ndjson", line_of(1), line_of(2))
        world.apply(event_set({1: EDITED}))

        world.options = posts
        world.apply(event_set({1: DELETED}))

        assert numbers_in(path) == [2]
        assert "a.csv: " in caplog.text
        assert "it is left out" in caplog.text
        world.options = table
        assert world.apply(event_set({1: DELETED}), key="its own night").removed == 1


class TestBeside:
    def test_all_files_are_copied_and_the_archive_stays_as_it_is(self, world, tmp_path):
        changed = world.write("a.ndjson", line_of(1), line_of(2))
        world.write("deep/b.ndjson.gz", line_of(3))

        report = world.apply(event_set({1: DELETED}), destination=str(tmp_path / "clean"))

        assert numbers_in(changed) == [1, 2]
        assert numbers_in(tmp_path / "clean/a.ndjson") == [2]
        copy = (tmp_path / "clean/deep/b.ndjson.gz").read_bytes()
        assert copy == (world.root / "deep/b.ndjson.gz").read_bytes()
        assert (report.files, report.files_changed) == (2, 1)

    def test_what_was_copied_already_is_not_copied_again(self, world, tmp_path, monkeypatch):
        world.write("a.ndjson", line_of(1), line_of(2))
        events = event_set({1: DELETED})
        first = world.apply(events, destination=str(tmp_path / "clean"))
        monkeypatch.setattr(Archive, "open_plain", None)

        again = world.apply(events, destination=str(tmp_path / "clean"))

        assert (again.removed, again.records) == (first.removed, first.records) == (1, 2)

    def test_a_copy_that_somebody_changed_is_made_again(self, world, tmp_path):
        world.write("a.ndjson", line_of(1), line_of(2))
        events = event_set({1: DELETED})
        world.apply(events, destination=str(tmp_path / "clean"))
        (tmp_path / "clean/a.ndjson").write_text("x")

        world.apply(events, destination=str(tmp_path / "clean"))

        assert numbers_in(tmp_path / "clean/a.ndjson") == [2]

    def test_the_quarantine_is_redacted_where_it_is(self, world, tmp_path):
        world.write("a.ndjson", line_of(1), line_of(2))
        clean = {"destination": str(tmp_path / "clean")}
        world.apply(event_set({1: EDITED}), **clean)

        world.apply(event_set({1: DELETED}), key="next night", **clean)

        (aside,) = world.state("quarantine/*/a.ndjson")
        assert aside.read_text() == ""
        assert sorted(path.name for path in (tmp_path / "clean").rglob("*")) == [
            "a.ndjson",
            "a.ndjson.manifest.json",
        ]

    def test_it_is_no_folder_that_the_sources_reach(self, world):
        path = world.write("a.ndjson", line_of(1))

        with pytest.raises(ValueError, match=r"clean/a\.ndjson would be a file of the archive itself"):
            world.apply(event_set({1: DELETED}), destination=f"{world.root}/clean")

        assert numbers_in(path) == [1]
        assert not (world.root / "clean").exists()

    def test_what_waits_to_be_fetched_again_waits_once_however_many_nights_pass(self, world, tmp_path):
        world.write("a.ndjson", line_of(1), line_of(2))

        for key in ("night", "next night"):
            world.apply(event_set({1: EDITED}), key=key, destination=str(tmp_path / "clean"))

        (aside,) = world.state("quarantine/*/a.ndjson")
        assert numbers_in(aside) == [1]


class TestOldVersions:
    @pytest.fixture
    def kept(self, monkeypatch) -> dict[str, int]:
        """Old versions that a store keeps, by URI."""
        kept: dict[str, int] = Counter()

        def replace(spool, uri, *arguments):
            kept[uri] += 1
            return storage.replace(spool, uri, *arguments)

        def land(spool, checksum, uri, *arguments, **options):
            kept[uri] += Path(uri).exists()
            return storage.land(spool, checksum, uri, *arguments, **options)

        store = SimpleNamespace(
            **{name: getattr(storage, name) for name in storage.__all__}
            | {
                "replace": replace,
                "land": land,
                "old_versions": lambda uri, client: kept[uri],
                "purge_old_versions": lambda uri, client: kept.pop(uri, 0),
            }
        )
        monkeypatch.setattr(redaction, "storage", store)
        return kept

    def test_they_are_counted_or_purged(self, world, kept):
        path = world.write("a.ndjson", line_of(1), line_of(2))

        report = world.apply(event_set({1: DELETED}))
        purged = world.apply(event_set({2: DELETED}), key="next night", purge=True)

        assert (report.old_versions, report.purged) == (1, 0)
        assert (purged.old_versions, purged.purged) == (0, 2)
        assert not kept[str(path)]

    def test_those_of_earlier_nights_are_seen_to_until_none_is_left(self, world, kept):
        world.write("a.ndjson", line_of(1), line_of(2))
        world.apply(event_set({1: DELETED}))

        nights = [world.apply(event_set(), key=f"night {number}", purge=number > 2) for number in (2, 3, 4)]

        assert [night.old_versions for night in nights] == [1, 0, 0]
        assert [night.purged for night in nights] == [0, 1, 0]
        assert world.state("applied/*/*") == []

    def test_a_try_that_was_killed_before_the_purge_leaves_none_whoever_wrote_since(
        self, world, kept, monkeypatch
    ):
        path = world.write("a.ndjson", line_of(1), line_of(2))
        with monkeypatch.context() as patch:
            patch.setattr(redaction.storage, "purge_old_versions", None)
            with pytest.raises(TypeError):
                world.apply(event_set({1: DELETED}), purge=True)
        world.write("a.ndjson", line_of(2), line_of(3))

        world.apply(event_set({1: DELETED}), purge=True)

        assert not kept[str(path)]

    @pytest.mark.parametrize("name", ["_xcompliance", "kept"])
    def test_those_of_the_quarantine_are_seen_to_wherever_it_is(self, world, kept, name, monkeypatch):
        world.kept = name
        world.write("a.ndjson", line_of(1), line_of(2))
        world.apply(event_set({1: EDITED}))
        (aside,) = world.state("quarantine/*/a.ndjson")
        with monkeypatch.context() as patch:
            patch.setattr(redaction.storage, "purge_old_versions", None)
            with pytest.raises(TypeError):
                world.apply(event_set({1: DELETED}), key="next night", purge=True)

        report = world.apply(event_set({1: DELETED}), key="next night", purge=True)

        assert not kept[str(aside)]
        assert report.removed == 1

    def test_those_of_the_quarantine_of_copies_are_seen_to(self, world, kept, tmp_path):
        world.write("a.ndjson", line_of(1), line_of(2))
        clean = {"destination": str(tmp_path / "clean")}
        world.apply(event_set({1: EDITED}), **clean)
        (aside,) = world.state("quarantine/*/a.ndjson")

        world.apply(event_set({1: DELETED, 2: EDITED}), key="next night", purge=True, **clean)

        assert numbers_in(aside) == [2]
        assert not kept[str(aside)]

    def test_copies_have_them_too(self, world, kept, tmp_path):
        world.write("a.ndjson", line_of(1), line_of(2))
        clean = {"destination": str(tmp_path / "clean")}
        world.apply(event_set(), **clean)

        report = world.apply(event_set({1: DELETED}), key="next night", **clean)
        purged = world.apply(event_set({1: DELETED}), key="third night", purge=True, **clean)

        assert (report.old_versions, purged.purged) == (1, 2)


class TestDryRun:
    def test_it_tells_the_same_and_writes_nothing(self, world):
        path = world.write("a.ndjson", line_of(1), line_of(2), line_of(3))
        events = event_set({1: DELETED, 2: EDITED})
        before = path.stat()

        dry = world.apply(events, dry_run=True)

        assert path.stat() == before
        assert {each.parts[-2] for each in world.state("**/*") if each.is_file()} == {"index"}
        wet = world.apply(events)
        assert (dry.dry_run, wet.dry_run) == (True, False)
        assert dry.to_dict() | {"seconds": 0, "dry_run": 0} == wet.to_dict() | {"seconds": 0, "dry_run": 0}


class TestOtherWriters:
    def test_what_is_added_before_the_replacement_is_not_lost(self, world, monkeypatch):
        path = world.write("a.ndjson", line_of(1), line_of(2))
        replace = storage.replace

        def after_an_append(*arguments):
            if numbers_in(path) == [1, 2]:
                with path.open("a") as file:
                    file.write(f"{line_of(3)}\n")
            return replace(*arguments)

        monkeypatch.setattr(redaction.storage, "replace", after_an_append)
        report = world.apply(event_set({1: DELETED}))

        assert numbers_in(path) == [2, 3]
        assert (report.records, report.removed) == (3, 1)

    def test_a_file_that_never_rests_is_left_as_it_is(self, world, monkeypatch):
        path = world.write("a.ndjson", line_of(1))
        other = world.write("b.ndjson", line_of(1), line_of(2))
        replace = storage.replace
        numbers = iter(range(2, 9))

        def after_an_append(spool, uri, *arguments):
            if uri == str(path):
                with path.open("a") as file:
                    file.write(f"{line_of(next(numbers))}\n")
            return replace(spool, uri, *arguments)

        monkeypatch.setattr(redaction.storage, "replace", after_an_append)
        with pytest.raises(ChangedError, match=r"1 files are left for another try: .*a\.ndjson"):
            world.apply(event_set({1: DELETED}))

        assert numbers_in(path) == [1, 2, 3, 4]
        assert numbers_in(other) == [2]
        assert [each.name for each in world.state("applied/**/*.json")] == ["b.ndjson.json"]

    def test_a_file_that_is_gone_is_no_error(self, world):
        world.write("a.ndjson", line_of(1))
        archive = world.archive
        files = [file.uri for file in archive.files()]
        (world.root / "a.ndjson").unlink()

        report = Redaction(archive=archive, events=event_set({1: DELETED}), key="night").apply(files)

        assert (report.files, report.files_gone) == (0, 1)


class TestAfterAKill:
    def test_the_report_is_that_of_all_tries(self, world, monkeypatch):
        """The first try was killed between the replacement of the file and its report."""
        world.write("a.ndjson", line_of(1), line_of(2))
        events = event_set({1: DELETED})
        first = world.apply(events)

        again = world.apply(events)

        assert again.to_dict() | {"seconds": 0, "bytes": 0} == first.to_dict() | {"seconds": 0, "bytes": 0}

    def test_a_try_that_is_told_of_other_locations_looks_again(self, world):
        path = world.write("a.csv", "id,author,here,there", f"{BASE + 1},7,Ulm,Rome")
        events = event_set({1: SCRUBBED})
        for columns in (Columns("id", "author", ("here",)), Columns("id", "author", ("here", "there"))):
            world.options = {"columns": {"*": columns}}
            world.apply(events)

        assert path.read_text().splitlines()[1] == f"{BASE + 1},7,,"

    def test_what_was_laid_down_but_not_done_does_not_count(self, world, monkeypatch):
        path = world.write("a.ndjson", line_of(1), line_of(2))

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(redaction.storage, "replace", die)
            with pytest.raises(KeyboardInterrupt):
                world.apply(event_set({1: DELETED}))

        assert world.apply(event_set({1: DELETED})).removed == 1
        assert numbers_in(path) == [2]


class TestWhatCannotBeDone:
    def test_a_file_that_cannot_be_read_keeps_no_other_from_being_redacted(self, world, monkeypatch):
        world.write("a.ndjson", line_of(1))
        other = world.write("b.ndjson", line_of(1), line_of(2))
        index = Archive.index

        def refuse(archive, file, *arguments):
            if file.name == "a.ndjson":
                raise StorageError("a.ndjson: it is in an archive tier")
            return index(archive, file, *arguments)

        monkeypatch.setattr(Archive, "index", refuse)

        with pytest.raises(StorageError, match=r"1 files are left for another try: a\.ndjson"):
            world.apply(event_set({1: DELETED}))

        assert numbers_in(other) == [2]

    def test_neither_do_many_that_other_writers_change(self, world, monkeypatch):
        for number in range(12):
            world.write(f"a{number:02}.ndjson", line_of(1))
        other = world.write("b.ndjson", line_of(1), line_of(2))
        replace = storage.replace

        def refuse(spool, uri, *arguments):
            if uri != str(other):
                raise ChangedError(f"{uri}: another process has it open")
            return replace(spool, uri, *arguments)

        monkeypatch.setattr(redaction.storage, "replace", refuse)

        with pytest.raises(ChangedError, match=r"12 files are left .*a00\.ndjson.*a01.*a02\.ndjson.*; …"):
            world.apply(event_set({1: DELETED}))

        assert numbers_in(other) == [2]

    def test_a_store_that_fails_all_the_time_is_not_asked_for_each_file(self, world, monkeypatch):
        for number in range(12):
            world.write(f"a{number:02}.ndjson", line_of(1))

        def refuse(*_):
            raise StorageError("the store is down")

        monkeypatch.setattr(Archive, "index", refuse)

        with pytest.raises(StorageError, match=r"^10 files are left"):
            world.apply(event_set({1: DELETED}))

    def test_another_try_is_made_if_one_of_several_failures_may_pass(self, world, monkeypatch):
        failures = {"a.ndjson": AddressError("no name"), "b.ndjson": ChangedError("changed")}
        for name in failures:
            world.write(name, line_of(1))

        def refuse(_, file, *__):
            raise failures[file.name]

        monkeypatch.setattr(Archive, "index", refuse)

        with pytest.raises(StorageError, match="no name; changed") as raised:
            world.apply(event_set({1: DELETED}))
        assert not is_final(raised.value)

    def test_a_file_whose_content_changed_behind_its_version_is_read_again(self, world):
        path = world.write("a.ndjson", line_of(1), line_of(2))
        world.apply(event_set())
        (index,) = world.state("index/a.ndjson.*.zip")
        earlier = index.read_bytes()
        path.write_text(f"{line_of(1)} \n{line_of(2)}\n")
        world.apply(event_set())
        (other,) = {*world.state("index/a.ndjson.*.zip")} - {index}
        other.write_bytes(earlier)

        world.apply(event_set({2: DELETED}))

        assert path.read_text() == f"{line_of(1)} \n"

    def test_events_of_users_are_not_left_out_of_a_table_without_authors(self, world):
        world.options = {"columns": {"*": Columns("id")}}
        world.write("a.csv", "id,text", f"{BASE + 1},x")

        with pytest.raises(ValueError, match=r"a\.csv: it does not tell who wrote its posts"):
            world.apply(event_set(users={7: "delete/suspended"}), requires_authors=True)

    def test_what_another_choice_of_files_left_about_users_stops_no_run_of_posts(self, world):
        world.options = {"columns": {"*": Columns("id")}}
        path = world.write("a.csv", "id,text", f"{BASE + 1},x")

        world.apply(event_set({1: DELETED}, users={7: "delete/suspended"}))

        assert path.read_text() == "id,text\n"

    def test_something_else_that_is_missing_is_no_file_that_is_gone(self, world, monkeypatch, tmp_path):
        world.write("a.ndjson", line_of(1))

        def land(*_, **__):
            raise MissingError("the bucket of the copies is not there")

        monkeypatch.setattr(redaction.storage, "land", land)

        with pytest.raises(MissingError, match="the bucket of the copies"):
            world.apply(event_set(), destination=str(tmp_path / "clean"))


def test_unknown_events_are_told():
    assert Report(unknown={"stir/shaken": 3}).to_dict()["unknown"] == {"stir/shaken": 3}
