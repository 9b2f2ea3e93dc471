"""The example DAGs, run by ``dag.test()``, and what they leave in Airflow's database."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_xcompliance.emulator.server import EmulatorServer

pytestmark = pytest.mark.usefixtures("airflow_database")

ROOT = Path(__file__).parents[1]
EXAMPLE_DAGS = ROOT / "example_dags"


def load(name: str):
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    bag = DagBag(EXAMPLE_DAGS)
    assert not bag.import_errors
    return bag.dags[name]


def run(dag, params: dict) -> dict[str, str]:
    """Run a DAG without retries, with frequent looks at jobs, and return the state of each task."""
    for task in dag.tasks:
        task.retries = 0
        if task.task_id.endswith("wait"):
            task.poke_interval = 0.2
        task.poll_interval = 0.2
    dag_run = dag.test(run_conf=params)
    # Of a mapped task all instances end in the same state, or the test has something to tell.
    return {instance.task_id: str(instance.state) for instance in dag_run.get_task_instances()}


@pytest.fixture
def params(id_file, tmp_path) -> dict:
    return {
        "ids": str(id_file),
        "tweet_ids": str(id_file),
        "user_ids": str(id_file),
        "destination": str(tmp_path / "events"),
        "gone_tweets": [],
        "gone_users": [],
        "max_removal_ratio": 0.1,
    }


@pytest.fixture
def archive(id_file, tmp_path) -> Path:
    """A folder of posts with the ids of the file, in two files."""
    folder = tmp_path / "archive"
    folder.mkdir()
    posts = [
        json.dumps({"id": number, "author_id": str(n), "text": "x"})
        for n, number in enumerate(id_file.read_text().split(), 1)
    ]
    (folder / "one.ndjson").write_text("".join(f"{post}\n" for post in posts[:600]))
    (folder / "two.jsonl").write_text("".join(f"{post}\n" for post in posts[600:]))
    return folder


@pytest.fixture
def secrets_in_database():
    """Return a function that finds secrets in the files of Airflow's database and in its logs."""

    def find(secrets: list[str]) -> list[str]:
        home = Path(os.environ["AIRFLOW_HOME"])
        files = [path for path in home.rglob("*") if path.is_file()]
        assert any(path.suffix == ".db" for path in files)
        return [
            f"{secret} in {path.name}"
            for path in files
            for secret in secrets
            if secret.encode() in path.read_bytes()
        ]

    return find


# The first run imports Airflow, whose own warnings are not the point; the second only this project.
IMPORT_TWICE = """
import runpy, sys, warnings
for action in ("default", "error"):
    warnings.simplefilter(action)
    for name in [name for name in sys.modules if name.startswith("airflow_provider_xcompliance")]:
        del sys.modules[name]
    for path in sys.argv[1:]:
        runpy.run_path(path)
"""


def test_they_import_with_warnings_as_errors():
    paths = [str(path) for path in EXAMPLE_DAGS.glob("*.py")]

    result = subprocess.run(
        [sys.executable, "-c", IMPORT_TWICE, *paths], capture_output=True, text=True, check=False
    )

    assert len(paths) == 4
    assert result.returncode == 0, result.stderr


def test_the_readmes_dag_is_the_four_steps():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict = {}

    exec(code, names)

    steps = names["job"].dag.topological_sort()
    assert [task.task_id for task in steps] == ["create", "upload", "wait", "download"]


@pytest.mark.usefixtures("x_connection")
class TestRuns:
    def test_one_job(self, params, tmp_path):
        states = run(load("xcompliance_job"), params)

        assert states == dict.fromkeys(["create", "upload", "wait", "download"], "success")
        (manifest,) = (tmp_path / "events").rglob("tweets.ndjson.manifest.json")
        assert json.loads(manifest.read_text())["submitted"]["ids"] == 1000

    def test_whole_jobs_and_their_guard(self, params, tmp_path):
        states = run(load("xcompliance_guarded"), params)

        assert states == dict.fromkeys(["run_tweets", "run_users", "guard"], "success")
        landed = {path.name for path in (tmp_path / "events").rglob("*.ndjson")}
        assert landed == {"tweets.ndjson", "users.ndjson"}

    def test_a_whole_archive_is_refreshed(self, archive, tmp_path, emulator):
        given = {"source": f"{archive}/", "events": str(tmp_path / "events"), "max_removal_ratio": None}

        states = run(load("xcompliance_refresh_archive"), given)

        tasks = [f"{step}_{kind}" for step in ("extract", "run") for kind in ("tweets", "users")]
        assert states == {
            f"refresh_archive.{task}": "success" for task in (*tasks, "guard", "plan", "apply", "record")
        }
        (report,) = (archive / "_xcompliance/reports").iterdir()
        done = json.loads(report.read_text())["done"]
        left = sum(len(path.read_text().splitlines()) for path in archive.glob("*.*"))
        assert (done["records"], done["files"], done["kept"]) == (1000, 2, left)
        assert 0 < done["removed"] < 200

    def test_the_guard_stops_a_night_of_too_many_removals(self, params):
        states = run(load("xcompliance_guarded"), params | {"max_removal_ratio": 0.001})

        assert states == {"run_tweets": "success", "run_users": "success", "guard": "failed"}

    def test_a_night_of_tweets_and_users(self, params, tmp_path):
        states = run(load("xcompliance_nightly"), params)

        steps = ["create", "upload", "wait", "download"]
        assert states == {f"{kind}.{step}": "success" for kind in ("tweets", "users") for step in steps}
        landed = {path.name for path in (tmp_path / "events").rglob("*.ndjson")}
        assert landed == {"tweets.ndjson", "users.ndjson"}

    @pytest.mark.parametrize(
        "waiting",
        [{"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True}],
        ids=lambda w: str(*w.values()),
    )
    @pytest.mark.parametrize("job_type", ["tweets", "users"])
    def test_the_chain_completes_however_it_waits(self, params, emulator, job_type, waiting):
        # The first look is the upload's, the second the sensor's: that one finds the job unfinished.
        unfinished = {"data": {"id": "1", "type": job_type, "status": "in_progress"}}
        emulator.add_fault("status", endpoint="get", nth=2, status=200, body=unfinished)
        dag = load("xcompliance_job")
        for name, value in waiting.items():
            setattr(dag.get_task("wait"), name, value)
        dag.get_task("create").job_type = job_type

        assert set(run(dag, params).values()) == {"success"}
        assert len(emulator.requests("get")) == 4
        assert [job["type"] for job in emulator.jobs()] == [job_type]

    def test_a_failed_job_fails_the_wait_and_nothing_lands(self, params, emulator: EmulatorServer, tmp_path):
        # It fails once it has its ids.
        emulator.configure(processing_seconds=3600)
        dag = load("xcompliance_job")
        dag.get_task("upload").on_success_callback = [
            lambda _: emulator.set_job(emulator.jobs()[0]["id"], "failed")
        ]

        states = run(dag, params)

        assert (states["wait"], states["download"]) == ("failed", "upstream_failed")
        assert not (tmp_path / "events").exists()

    def test_no_secret_stays_in_the_database_or_in_a_log(self, params, emulator, secrets_in_database):
        run(load("xcompliance_nightly"), params)

        assert secrets_in_database([emulator.bearer_token, "token=", "X-Goog-Signature", "upload_id="]) == []
