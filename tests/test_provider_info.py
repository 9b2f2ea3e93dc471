import importlib
import inspect
import json
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
import pytest

from airflow_provider_xcompliance.get_provider_info import get_provider_info

INFO = get_provider_info()
MODULES = [
    module
    for kind in ("hooks", "operators", "sensors", "triggers")
    for entry in INFO[kind]
    for module in entry["python-modules"]
]


def schema(name: str) -> dict:
    return json.loads((Path(airflow.__file__).parent / name).read_text())


def test_airflow_finds_it_by_its_entry_point():
    (entry_point,) = [
        each
        for each in entry_points(group="apache_airflow_provider")
        if each.dist and each.dist.name == "airflow-provider-xcompliance"
    ]

    assert entry_point.load()() == INFO


def test_it_is_valid_by_the_schema_that_airflow_loads_providers_with():
    jsonschema.validate(INFO, schema("provider_info.schema.json"))


@pytest.mark.skipif(
    airflow.__version__ < "3.2", reason="the metadata of connection forms came with Airflow 3.2"
)
def test_every_key_is_valid_by_the_strict_schema():
    strict = schema("provider.yaml.schema.json")

    jsonschema.validate(INFO, {**strict, "required": []})


@pytest.mark.parametrize("module", MODULES)
def test_every_module_that_it_names_has_a_public_class(module):
    classes = inspect.getmembers(importlib.import_module(module), inspect.isclass)

    assert [name for name, each in classes if each.__module__ == module and not name.startswith("_")]


def test_every_module_of_its_kind_is_named():
    package = Path(importlib.import_module("airflow_provider_xcompliance").__file__).parent
    kinds = {"operators": "*.py", "sensors": "*.py", "triggers": "*.py"}
    found = {
        f"airflow_provider_xcompliance.{kind}.{path.stem}"
        for kind, pattern in kinds.items()
        for path in (package / kind).glob(pattern)
        if path.stem != "__init__"
    }

    assert found == {module for module in MODULES if ".hooks." not in module}


def test_airflow_registers_the_connection_type_with_its_form():
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()

    assert manager.hooks["xcompliance"].hook_name == "X Batch Compliance"
    assert manager.field_behaviours["xcompliance"]["relabeling"]["password"] == "Bearer token, or API secret"
    fields = [name for name in manager.connection_form_widgets if "xcompliance" in name]
    assert len(fields) == len(INFO["connection-types"][0]["conn-fields"])
