"""What the documentation says in tables is what the code does."""

import re
from pathlib import Path

from airflow_provider_xcompliance.retries import RETRIES

DOCS = Path(__file__).parents[1] / "docs"


def test_the_table_of_retries_is_the_codes_own():
    (table,) = re.findall(
        r"<!-- retries -->\n(.*?)<!-- /retries -->", (DOCS / "reliability.md").read_text(), re.DOTALL
    )
    rows = [
        "| {} | {} | {} | {} |".format(
            ", ".join(f"`{kind.__name__}`" for kind in retry.kinds),
            retry.by_client,
            "is retried" if retry.by_task else "fails at once",
            retry.why,
        )
        for retry in RETRIES
    ]

    assert table.splitlines()[2:] == rows
