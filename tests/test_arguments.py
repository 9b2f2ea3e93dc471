import re
from typing import Annotated, Any

import msgspec
import pytest
from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_xcompliance.arguments import arguments_of


class Arguments(msgspec.Struct):
    limit: Annotated[float, msgspec.Meta(ge=0)] | None = 0.5
    is_dry_run: bool = False
    names: tuple[str, ...] = ()


def operator(**attributes: Any) -> BaseOperator:
    task = BaseOperator(task_id="task")
    for name, value in attributes.items():
        setattr(task, name, value)
    return task


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, Arguments()),
        ({"limit": 1}, Arguments(1)),
        ({"limit": "0.25", "is_dry_run": "True"}, Arguments(0.25, True)),
        ({"limit": None}, Arguments(None)),
        ({"limit": "None"}, Arguments(None)),
        ({"names": ["a"]}, Arguments(names=("a",))),
    ],
)
def test_what_jinja_made_text_of_is_what_it_was(given: dict[str, Any], meant: Arguments) -> None:
    assert arguments_of(operator(**given), Arguments) == meant


def test_values_may_count_instead_of_attributes() -> None:
    assert arguments_of(operator(limit=1), Arguments, limit="None", is_dry_run=True) == Arguments(None, True)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"limit": ""}, "limit: Expected `float | null`, got `str`"),
        ({"limit": "none"}, "limit: Expected `float | null`, got `str`"),
        ({"limit": -1}, "limit: Expected `float` >= 0.0"),
        ({"is_dry_run": "None"}, "dry_run: Expected `bool`, got `null`"),
        ({"names": "None"}, "names: Expected `array`, got `null`"),
        ({"names": ["a", 1]}, "names[1]: Expected `str`, got `int`"),
    ],
)
def test_what_does_not_fit_is_told_by_the_name_that_users_know(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
        arguments_of(operator(**given), Arguments)
