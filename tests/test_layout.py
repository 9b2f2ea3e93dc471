"""Which part of the package may know which other."""

import ast
from pathlib import Path

import pytest

import airflow_provider_xcompliance

PACKAGE = Path(airflow_provider_xcompliance.__file__).parent
NAME = PACKAGE.name

#: Part → the parts that it may import, besides itself.
MAY_IMPORT = {
    "api": set(),
    "archive": set(),
    "storage": set(),
    "get_provider_info": set(),
    "arguments": set(),
    "progress": set(),
    "documents": {"storage"},
    "spools": {"storage"},
    "transfer": {"api", "archive", "documents", "progress", "spools", "storage"},
    "catalogue": {"archive", "progress", "spools", "storage"},
    "extraction": {"archive", "catalogue", "documents", "spools", "storage"},
    "night": {"archive", "catalogue", "documents", "results", "spools", "storage", "transfer"},
    "redaction": {"archive", "catalogue", "documents", "spools", "storage"},
    "evidence": {"archive", "catalogue", "documents", "extraction", "night", "spools", "storage"},
    "tables": {"archive", "results", "storage"},
    "results": {"archive", "documents", "storage"},
    "runs": {"api", "documents", "storage", "transfer"},
    "retries": {"api", "archive", "storage"},
    "retry_policies": {"api", "retries"},
    "failures": {"retries"},
    "hooks": {"api", "transfer", "runs", "get_provider_info"},
    "triggers": {"api", "hooks", "retries"},
    "sensors": {"api", "failures", "hooks", "triggers"},
    "operators": {
        "api",
        "archive",
        "arguments",
        "catalogue",
        "evidence",
        "extraction",
        "failures",
        "hooks",
        "night",
        "redaction",
        "results",
        "runs",
        "storage",
        "tables",
        "triggers",
    },
    "task_groups": {"archive", "operators"},
    "emulator": set(),
}
KNOW_AIRFLOW = {"hooks", "triggers", "sensors", "operators", "task_groups", "failures", "retry_policies"}
#: Libraries of the extras: whoever does without the extra does without them.
EXTRAS = {
    "starlette",
    "uvicorn",
    "cryptography",
    "boto3",
    "google",
    "azure",
    "isal",
    "numpy",
    "pyarrow",
    "zstandard",
}
#: Imports the libraries of all stores, which would hold up each parsing of a DAG.
HEAVY = EXTRAS | {"smart_open"}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path, *, nested: bool = True) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree) if nested else tree.body)
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    # "from package import part" names the part among the imported names.
    return plain | {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


MODULES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.stem != "__init__"
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
class TestImports:
    def test_they_point_one_way(self, path):
        imported = {name.split(".")[1] for name in imports_of(path) if name.startswith(f"{NAME}.")}

        assert imported - {part_of(path), "__version__"} <= MAY_IMPORT[part_of(path)]

    def test_only_the_outer_parts_know_airflow(self, path):
        knows_airflow = any(name.split(".")[0] == "airflow" for name in imports_of(path))

        assert not knows_airflow or part_of(path) in KNOW_AIRFLOW

    def test_no_heavy_library_is_needed_to_import_the_core(self, path):
        needed = {name.split(".")[0] for name in imports_of(path, nested=False)} & HEAVY

        assert not needed or part_of(path) == "emulator"
