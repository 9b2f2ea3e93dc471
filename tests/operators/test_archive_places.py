"""How the operators on archives are told where an archive is, and what it holds."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xcompliance import redaction
from airflow_provider_xcompliance.archive.formats import Columns
from airflow_provider_xcompliance.operators.archives import (
    ExtractIdsOperator,
    PlanRedactionOperator,
    RecordChecksOperator,
    RedactArchiveOperator,
)
from airflow_provider_xcompliance.redaction import Report

CONTEXT = {"ti": SimpleNamespace(run_id="run", xcom_push=lambda **_: None)}


def archive_of(source, **options):
    return ExtractIdsOperator(task_id="extract", job_type="tweets", source=source, **options)._archive()


class TestPlaces:
    @pytest.mark.parametrize(
        ("source", "root"),
        [
            ("/data/posts/2020.ndjson", "/data/posts/"),
            ("/data/posts/", "/data/posts/"),
            ("/data/posts/**/*.ndjson.gz", "/data/posts/"),
            ("/data/posts-*/x.csv", "/data/"),
            ("s3://bucket/*.parquet", "s3://bucket/"),
            (["s3://bucket/a/b/*.csv", "s3://bucket/a/c.csv"], "s3://bucket/a/"),
            (["file:///data/a/x.csv", "/data/b/x.csv"], "/data/"),
        ],
    )
    def test_what_belongs_to_an_archive_is_kept_in_the_folder_of_its_files(self, source, root):
        archive = archive_of(source)

        assert (archive.root, archive.state) == (root, f"{root}_xcompliance")

    def test_bare_paths_are_whole_as_those_that_are_found(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)

        archive = archive_of("posts/", state="state")

        assert (archive.sources, archive.state) == ([f"{tmp_path}/posts/"], f"{tmp_path}/state")

    def test_files_without_a_folder_in_common_need_to_be_told_one(self):
        sources = ["s3://one/a.csv", "s3://two/a.csv"]

        with pytest.raises(ValueError, match="no folder in common; give state="):
            archive_of(sources)
        assert archive_of(sources, state="s3://one/state").state == "s3://one/state"

    @pytest.mark.parametrize("source", [[], "", [None], ["a", 7]])
    def test_what_is_no_address_is_refused(self, source):
        with pytest.raises((ValueError, TypeError)):
            archive_of(source)


class TestWhatItHolds:
    @pytest.mark.parametrize(
        ("told", "columns"),
        [
            (Columns("id"), {"*": Columns("id")}),
            ({"id": "key", "author": "by", "geo": ["at"]}, {"*": Columns("key", "by", ("at",))}),
            ({"*.csv": {"id": "key"}, "*": Columns("id")}, {"*.csv": Columns("key"), "*": Columns("id")}),
            (None, {}),
        ],
    )
    def test_columns_are_told_for_all_files_or_by_pattern(self, told, columns):
        assert archive_of("/data/", columns=told).columns == columns

    def test_columns_that_cannot_be_understood_are_refused(self):
        with pytest.raises(AirflowFailException, match=r"columns: .*give 'id'"):
            archive_of("/data/", columns={"*.csv": {"key": "id"}})

    def test_shapes_are_told_for_all_files_or_by_pattern(self):
        assert archive_of("/data/", shapes="users").shapes == {"*": "users"}
        assert archive_of("/data/", shapes={"a/*": "posts"}).shapes == {"a/*": "posts"}

    def test_a_file_whose_content_cannot_be_told_fails_the_task_at_once(self, tmp_path):
        (tmp_path / "table.csv").write_text("id\n1\n")

        with pytest.raises(AirflowFailException, match=r"table\.csv: .*columns=Columns"):
            ExtractIdsOperator(task_id="extract", job_type="tweets", source=f"{tmp_path}/").execute(CONTEXT)

    def test_an_unknown_job_type_is_refused(self, tmp_path):
        with pytest.raises(AirflowFailException, match="job_type must be one of tweets, users"):
            ExtractIdsOperator(task_id="extract", job_type="posts", source=f"{tmp_path}/").execute(CONTEXT)

    @pytest.mark.parametrize("state", ["/data/kept [x]", "/data/*", "/data", "/data/posts"])
    def test_a_state_that_is_no_folder_of_its_own_is_refused(self, state):
        with pytest.raises(ValueError, match=r"state: .* a folder of its own"):
            archive_of("/data/posts/*.ndjson", state=state)

    @pytest.mark.parametrize(
        ("destination", "copies"),
        [
            ("/data/posts", None),
            ("file:///data/posts/", None),
            ("posts/", None),
            ("/clean/", "/clean"),
            ("file:///clean", "/clean"),
            ("../clean", "/data/../clean"),
        ],
    )
    def test_copies_in_the_folder_of_the_files_are_none(self, monkeypatch, destination, copies):
        monkeypatch.setattr(Path, "absolute", lambda self: Path("/data") / self)

        assert archive_of("/data/posts/").place_of_copies(destination) == copies

    def test_a_pattern_is_no_place_for_copies(self):
        with pytest.raises(ValueError, match=r"destination: .* is a pattern"):
            archive_of("/data/*.ndjson").place_of_copies("/data/*.ndjson")


class TestRendering:
    @pytest.mark.parametrize(
        ("option", "value"),
        [("max_jobs_per_run", -1), ("max_ids_per_job", "0"), ("max_bad_ratio", 5), ("max_bad_ratio", "x")],
    )
    def test_what_is_no_such_number_is_refused_by_name(self, tmp_path, option, value):
        with pytest.raises(AirflowFailException, match=f"^{option}: Expected"):
            ExtractIdsOperator(
                task_id="extract", job_type="tweets", source=f"{tmp_path}/", **{option: value}
            ).execute(CONTEXT)

    def test_words_that_were_false_are_false_again(self, tmp_path, landed_events, monkeypatch):
        (tmp_path / "archive").mkdir()
        (tmp_path / "archive/a.ndjson").write_text('{"id":"1"}\n')
        seen = []
        monkeypatch.setattr(redaction.Redaction, "apply", lambda self, files: seen.append(self) or Report())

        for text in ("False", "True"):
            RedactArchiveOperator(
                task_id="apply",
                source=f"{tmp_path}/archive/",
                events=landed_events,
                dry_run=text,
                purge_versions=text,
            ).execute(CONTEXT)

        assert [(each.dry_run, each.purge) for each in seen] == [(False, False), (True, True)]

    def test_numbers_that_became_text_are_numbers_again(self, tmp_path):
        (tmp_path / "a.ndjson").write_text('{"id":"1","text":"x"}\n{"id":"2","text":"x"}\n')
        options = {"max_jobs_per_run": "1", "max_ids_per_job": "1", "max_bad_ratio": "None"}

        due = ExtractIdsOperator(
            task_id="extract", job_type="tweets", source=f"{tmp_path}/", **options
        ).execute(CONTEXT)

        assert len(due) == 1

    @pytest.mark.parametrize(
        "operator", [ExtractIdsOperator, PlanRedactionOperator, RedactArchiveOperator, RecordChecksOperator]
    )
    def test_whatever_tells_where_an_archive_is_can_be_templated(self, operator):
        place = {"source", "source_conn_id", "state", "state_conn_id", "shapes", "columns"}

        assert place <= set(operator.template_fields)


class TestEvents:
    def test_none_at_all_are_no_night(self, tmp_path):
        with pytest.raises(AirflowFailException, match="nothing was checked"):
            RedactArchiveOperator(task_id="apply", source=f"{tmp_path}/", events=[]).execute(CONTEXT)

    def test_a_policy_that_cannot_be_understood_is_refused(self, tmp_path, landed_events):
        with pytest.raises(AirflowFailException, match=r"policy: .*remove, quarantine, scrub, keep"):
            RedactArchiveOperator(
                task_id="apply", source=f"{tmp_path}/", events=landed_events, policy={"delete": "never"}
            ).execute(CONTEXT)


@pytest.fixture
def landed_events(tmp_path) -> str:
    """A result without events, and its manifest."""
    import hashlib
    import json

    path = tmp_path / "events" / "part.ndjson"
    path.parent.mkdir()
    path.write_bytes(b"")
    manifest = {
        "job_id": "1",
        "job_type": "tweets",
        "bytes": 0,
        "sha256": hashlib.sha256(b"").hexdigest(),
        "unverified_length": False,
        "actions": {},
        "errors": {},
        "submitted": {"ids": 1},
        "repeated": 0,
    }
    path.with_name("part.ndjson.manifest.json").write_text(json.dumps(manifest))
    return str(path)


class TestExtras:
    def test_dags_are_parsed_without_them(self):
        # Airflow's own libraries use some of them where they are installed.
        code = (
            "import sys\n"
            "import airflow_provider_xcompliance.task_groups\n"
            "heavy = {'index', 'sorted_ids', 'compression', 'ndjson', 'parquet', 'catalogue'}\n"
            "found = [name for name in sys.modules if name.startswith('airflow_provider_xcompliance.')]\n"
            "print([name for name in found if name.rpartition('.')[2] in heavy])"
        )

        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False
        )

        assert result.stdout == "[]\n", result.stderr

    def test_one_that_is_missing_is_named_with_its_remedy(self, tmp_path, monkeypatch):
        for name in [name for name in sys.modules if name.startswith("airflow_provider_xcompliance.")]:
            if name.rpartition(".")[2] in {"catalogue", "extraction", "index", "sorted_ids"}:
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "numpy", None)

        with pytest.raises(AirflowFailException, match=r"needs numpy: pip install '.*\[archive\]'"):
            ExtractIdsOperator(task_id="extract", job_type="tweets", source=f"{tmp_path}/").execute(CONTEXT)
