from collections import Counter

from demo.check import Answers, check, read
from demo.sample.archive import KINDS, write_archive

ANSWERS = Answers.of_stand_in("current")


def test_the_sample_archive_is_the_same_each_time(tmp_path):
    for name in ("one", "other"):
        write_archive(tmp_path / name)
    for name in KINDS:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_the_sample_archive_has_something_of_each_kind_to_do(tmp_path):
    write_archive(tmp_path)
    files = check(tmp_path, tmp_path, ANSWERS)
    assert {file.name for file in files} == set(KINDS)
    assert sum(file.records[0] for file in files) == 12_000
    assert all(file.problems and file.fates["remove"] and file.fates["scrub"] for file in files)
    assert sum((file.fates for file in files), Counter())["fetch again"]
    assert sum(item.record is None for item in read(tmp_path / "posts/stream.ndjson")) == 2
