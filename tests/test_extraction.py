import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_provider_xcompliance import extraction
from airflow_provider_xcompliance.archive.formats import Columns
from airflow_provider_xcompliance.catalogue import Archive, BadArchiveError
from airflow_provider_xcompliance.extraction import Extract, extract, record_checks
from airflow_provider_xcompliance.storage import MissingError

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BASE = 1_500_000_000_000_000_000


def post(number: int, author: int = 7) -> str:
    return json.dumps({"id": str(BASE + number), "author_id": str(author), "text": f"about {BASE - number}"})


@dataclass
class Nights:
    """An archive on local files, of which ids are extracted night after night."""

    root: Path
    options: dict = field(default_factory=dict)
    night: int = 0

    @property
    def archive(self) -> Archive:
        place = f"{self.root}/"
        told = {"sources": [place]} | self.options
        return Archive(client=None, root=place, state=f"{place}_xcompliance", state_client=None, **told)

    def write(self, name: str, *lines: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def extract(self, job_type="tweets", **options) -> Extract:
        self.night += 1
        return extract(
            self.archive,
            job_type,
            str(self.root / "_xcompliance/ids"),
            now=NOW + timedelta(days=self.night),
            **options,
        )

    def check(self, found: Extract) -> None:
        checked = [(uri, NOW + timedelta(days=self.night)) for uri in found.due]
        record_checks(self.archive, "tweets", checked, self.root)
        (self.root / "checks-tweets").unlink(missing_ok=True)


@pytest.fixture
def nights(tmp_path) -> Nights:
    (tmp_path / "archive").mkdir()
    return Nights(tmp_path / "archive")


def kill(*_) -> None:
    raise KeyboardInterrupt


def ids_in(found: Extract) -> list[list[int]]:
    """The ids of each file that is due, less what all have in common."""
    return [[int(line) - BASE for line in Path(uri).read_text().split()] for uri in found.due]


class TestIds:
    def test_they_are_unique_and_in_order_whatever_file_they_are_in(self, nights):
        nights.write("b.ndjson", post(5), post(1))
        nights.write("deep/er/a.jsonl", post(3), post(1))

        found = nights.extract()

        assert ids_in(found) == [[1, 3, 5]]
        assert (found.ids, found.due_ids, found.records, found.files, found.files_read) == (3, 3, 4, 2, 2)

    def test_users_are_the_authors(self, nights):
        nights.write("a.ndjson", post(1, author=9), post(2, author=4), post(3, author=9))

        (uri,) = nights.extract("users").due

        assert Path(uri).read_text() == "4\n9\n"

    def test_files_hold_no_more_than_one_job_takes(self, nights):
        nights.write("a.ndjson", *map(post, range(1, 8)))

        assert ids_in(nights.extract(max_ids=3)) == [[1, 2, 3], [4, 5, 6], [7]]

    def test_the_state_of_an_archive_is_no_part_of_it_but_the_quarantine_is(self, nights):
        nights.write("a.ndjson", post(1))
        nights.write("_xcompliance/other/a.ndjson", post(2))
        nights.write("_xcompliance/quarantine/key/deep/a.ndjson", post(3))

        assert ids_in(nights.extract()) == [[1, 3]]

    def test_what_is_told_of_files_holds_in_the_quarantine_too(self, nights):
        nights.options = {"shapes": {"old/*.txt": "tweet_ids"}, "columns": {"*.csv": Columns("key")}}
        nights.write("old/ids.txt", str(BASE + 1))
        nights.write("_xcompliance/quarantine/key/new/table.csv", "key", str(BASE + 2))

        assert ids_in(nights.extract()) == [[1, 2]]

    def test_a_state_of_any_name_is_no_part_of_it(self, nights):
        nights.write("a.ndjson", post(1))
        nights.write("kept/tombstones/tweets.ndjson", json.dumps({"id": str(BASE + 2), "action": "delete"}))
        place = f"{nights.root}/"

        found = extract(replace(nights.archive, state=f"{place}kept"), "tweets", f"{place}kept/ids", now=NOW)

        assert (found.files, ids_in(found)) == (1, [[1]])

    def test_two_archives_of_one_folder_have_checks_of_their_own(self, nights):
        nights.write("a.ndjson", post(1))
        nights.write("b.jsonl", post(2))
        one, two = (
            replace(nights.archive, sources=[f"{nights.root}/*.{end}"]) for end in ("ndjson", "jsonl")
        )
        found = extract(one, "tweets", f"{nights.root}/_xcompliance/ids", now=NOW)
        record_checks(one, "tweets", [(uri, NOW) for uri in found.due], nights.root.parent)

        other = extract(two, "tweets", f"{nights.root}/_xcompliance/ids", now=NOW + timedelta(days=3))
        again = extract(one, "tweets", f"{nights.root}/_xcompliance/ids", now=NOW + timedelta(days=3))

        assert [ids_in(each) for each in (other, again)] == [[[2]], [[1]]]
        assert again.oldest_check == timedelta(days=3)

    def test_checks_are_those_of_the_choice_that_the_ids_are_of(self, nights):
        nights.write("a.ndjson", post(1))
        nights.write("b.jsonl", post(2))
        ids = f"{nights.root}/_xcompliance/ids"
        posts = replace(nights.archive, sources=[f"{nights.root}/*.ndjson"])
        checked = extract(posts, "tweets", ids, now=NOW).due
        extract(nights.archive, "tweets", ids, now=NOW)

        record_checks(nights.archive, "tweets", [(checked[0], NOW + timedelta(days=2))], nights.root.parent)

        later = NOW + timedelta(days=3)
        assert extract(posts, "tweets", ids, now=later).oldest_check == timedelta(days=1)
        assert extract(nights.archive, "tweets", ids, now=later).oldest_check == timedelta(days=3)

    def test_checks_of_posts_are_none_of_users(self, nights):
        nights.write("a.ndjson", post(1))
        found = nights.extract("users")

        record_checks(
            nights.archive,
            "tweets",
            [(uri, NOW + timedelta(days=9)) for uri in found.due],
            nights.root.parent,
        )

        assert not (nights.root / "_xcompliance/checks").exists()

    def test_a_list_of_ones_own_is_no_range(self, nights):
        nights.write("a.ndjson", post(1))

        lists = ["/data/urgent.txt", f"/data/my-tweets-{'0' * 16}-{1:019}-{2:019}.txt"]
        record_checks(nights.archive, "tweets", [(each, NOW) for each in lists], nights.root.parent)

        assert not (nights.root / "_xcompliance/checks").exists()
        assert nights.extract().due

    def test_no_file_is_an_error(self, nights):
        with pytest.raises(MissingError, match="there is no such file"):
            nights.extract()

    def test_no_id_is_an_error(self, nights):
        nights.write("a.ndjson", '{"id": "7", "username": "a"}')

        with pytest.raises(BadArchiveError, match="no ids of tweets"):
            nights.extract()


class TestNights:
    def test_only_files_that_changed_are_read_again(self, nights):
        nights.write("a.ndjson", post(1))
        nights.write("b.ndjson", post(2))
        nights.extract()
        nights.write("b.ndjson", post(2), post(3))

        found = nights.extract()

        assert (found.files, found.files_read) == (2, 1)
        assert ids_in(found) == [[1, 2, 3]]

    def test_posts_and_users_share_the_index(self, nights):
        nights.write("a.ndjson", post(1))
        nights.extract("tweets")

        assert nights.extract("users").files_read == 0

    def test_an_index_that_is_damaged_is_made_anew(self, nights):
        nights.write("a.ndjson", post(1))
        nights.extract()
        (index,) = (nights.root / "_xcompliance/index").glob("a.ndjson.*")
        content = index.read_bytes()
        index.write_bytes(content.replace((BASE + 1).to_bytes(8, "little"), bytes(8)))
        assert index.read_bytes() != content

        found = nights.extract()

        assert ids_in(found) == [[1]]
        assert index.read_bytes() == content

    def test_indexes_of_old_versions_are_removed(self, nights):
        nights.write("a.ndjson", post(1))
        nights.extract()
        nights.write("a.ndjson", post(1), post(2))
        nights.extract()
        nights.extract()

        assert len(list(nights.root.glob("_xcompliance/index/*"))) == 1

    def test_those_of_files_that_are_gone_are_removed_but_not_of_another_choice(self, nights):
        for name in ("a.ndjson", "b.ndjson", "c.jsonl", "_xcompliance/quarantine/key/d.ndjson"):
            nights.write(name, post(1))
        nights.extract()
        for name in ("b.ndjson", "c.jsonl", "_xcompliance/quarantine/key/d.ndjson"):
            (nights.root / name).unlink()

        nights.options = {"sources": [f"{nights.root}/*.ndjson"]}
        nights.extract()

        left = [path.name.split(".")[0] for path in nights.root.glob("_xcompliance/index/**/*.zip")]
        assert sorted(left) == ["a", "c"]

    def test_files_of_ids_that_stay_the_same_are_not_written_again(self, nights):
        nights.write("a.ndjson", *map(post, range(1, 5)))
        first, second = map(Path, nights.extract(max_ids=3).due)
        before = first.stat(), second.stat()
        nights.write("b.ndjson", post(9))

        assert nights.extract(max_ids=3).due == [str(first), str(second)]
        assert first.stat().st_mtime_ns == before[0].st_mtime_ns
        assert second.read_text().split() == [str(BASE + 4), str(BASE + 9)]

    def test_a_backfill_goes_into_the_range_that_it_belongs_to(self, nights):
        nights.write("a.ndjson", *map(post, (10, 20, 30, 40, 50, 60)))
        nights.extract(max_ids=3)
        nights.write("b.ndjson", post(15), post(16))

        assert ids_in(nights.extract(max_ids=3)) == [[10, 15, 16], [20, 30], [40, 50, 60]]

    def test_a_file_of_ids_that_somebody_removed_is_written_again(self, nights):
        nights.write("a.ndjson", post(1))
        (uri,) = nights.extract().due
        Path(uri).unlink()

        assert ids_in(nights.extract()) == [[1]]

    def test_ids_that_a_killed_night_left_are_not_taken_for_those_of_the_next(self, nights, monkeypatch):
        nights.write("a.ndjson", post(1))
        moved = nights.write("b.ndjson", post(2))
        nights.extract()
        content = moved.read_bytes()
        moved.unlink()
        with monkeypatch.context() as patch:
            patch.setattr(extraction._State, "remember", kill)
            with pytest.raises(KeyboardInterrupt):
                nights.extract()
        moved.write_bytes(content)

        assert ids_in(nights.extract()) == [[1, 2]]


class TestDue:
    def test_what_was_unchecked_for_longest_comes_first(self, nights):
        nights.write("a.ndjson", *map(post, range(1, 7)))
        seen = []
        for _ in range(6):
            found = nights.extract(max_ids=2, max_jobs=1)
            seen += ids_in(found)
            nights.check(found)

        assert seen == [[1, 2], [3, 4], [5, 6]] * 2
        assert found.oldest_check == timedelta(days=3)

    def test_what_was_not_recorded_as_checked_stays_due(self, nights):
        nights.write("a.ndjson", *map(post, range(1, 5)))

        assert ids_in(nights.extract(max_ids=2, max_jobs=1)) == [[1, 2]]
        assert ids_in(nights.extract(max_ids=2, max_jobs=1)) == [[1, 2]]

    def test_ids_are_checked_within_a_round_however_many_come_in(self, nights):
        checked = set()
        for night in range(12):
            nights.write(f"{night}.ndjson", post(2 * night + 1), post(2 * night + 2))
            found = nights.extract(max_ids=2, max_jobs=2)
            checked.update(number for ids in ids_in(found) for number in ids)
            nights.check(found)

        # A round over the 12 ranges takes 6 nights.
        assert checked >= set(range(1, 13))

    def test_the_report_tells_the_age_in_seconds(self, nights):
        nights.write("a.ndjson", post(1))
        nights.extract()

        assert nights.extract().to_dict()["oldest_check_age_seconds"] == 86_400


class TestBadRecords:
    def test_a_few_are_counted_and_reported_with_file_and_line(self, nights):
        nights.write("a.ndjson", *map(post, range(150)), "{broken")

        found = nights.extract()

        assert (found.bad, found.records) == (1, 150)
        assert found.bad_lines[0].startswith(f"{nights.root}/a.ndjson:151: ")

    def test_they_are_reported_again_while_the_file_stays_the_same(self, nights):
        nights.write("a.ndjson", *map(post, range(150)), "{broken")
        nights.extract()

        assert nights.extract().bad == 1

    def test_too_many_stop_the_task(self, nights):
        nights.write("a.ndjson", post(1), "{broken")

        with pytest.raises(
            BadArchiveError, match=r"1 bad records of 2 are more than max_bad_ratio=0.01 .*a.ndjson:2"
        ):
            nights.extract()

        assert nights.extract(max_bad_ratio=0.5).ids == 1
        assert nights.extract(max_bad_ratio=None).ids == 1

    @pytest.mark.parametrize("indent", [None, 2], ids=["on one line", "pretty-printed"])
    def test_a_file_that_holds_no_record_stops_it_however_few_its_lines(self, nights, indent, caplog):
        nights.write("a.ndjson", *map(post, range(10_000)))
        nights.write("b/c.json", json.dumps([{"id": str(number)} for number in range(10_000)], indent=indent))

        for job_type in ("tweets", "users"):
            with pytest.raises(
                BadArchiveError, match=r"not one record.* 1 \(/.*/b/c\.json:1: .*leave them out"
            ):
                nights.extract(job_type)

        assert nights.extract(max_bad_ratio=None).ids == 10_000
        assert caplog.messages[-1].startswith("files that hold not one record")

    def test_what_is_left_where_all_else_went_does_not(self, nights):
        nights.write("a.ndjson", *map(post, range(1000)))
        nights.write("b.ndjson", '{"cut": "off')

        assert (nights.extract().ids, nights.extract().bad) == (1000, 1)

    def test_a_file_of_nothing_does_not(self, nights):
        nights.options = {"columns": {"*": Columns("id", "author")}}
        nights.write("a.ndjson", post(1))
        for name in ("b.ndjson", "b.csv", "b.tsv"):
            nights.write(name)

        assert nights.extract().files == 4

    def test_users_of_a_table_without_author_are_refused(self, nights):
        nights.options = {"columns": {"*": Columns("id")}}
        nights.write("a.csv", "id,text", f"{BASE},x")
        nights.write("b.ndjson", *map(post, range(500)))

        with pytest.raises(BadArchiveError, match=r"a\.csv: it does not tell who wrote its posts.*author="):
            nights.extract("users")

    def test_posts_without_author_count_as_bad_for_users(self, nights):
        nights.write("a.ndjson", *map(post, range(150)), json.dumps({"id": "1", "text": "x"}))

        found = nights.extract("users")

        assert (found.bad, found.authorless) == (0, 1)
        with pytest.raises(BadArchiveError, match="1 posts without author"):
            nights.extract("users", max_bad_ratio=0)
