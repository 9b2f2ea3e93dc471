from collections import Counter

import pytest

from demo.check import FileCheck
from demo.verdict import contradictions

FILES = [
    FileCheck("a", (9, 6), 0, (90, 60), Counter({"remove": 2, "fetch again": 1})),
    FileCheck("b", (9, 8), 1, (90, 80), Counter({"remove": 1, "scrub": 4})),
]
FIRST = {"removed": 3, "quarantined": 1, "scrubbed": 4, "files_changed": 2}
SECOND = {"removed": 0, "quarantined": 0, "scrubbed": 0, "files_changed": 0}


def test_nights_that_report_what_was_found_contradict_nothing():
    assert list(contradictions(FILES, [FIRST, SECOND])) == []


@pytest.mark.parametrize(
    ("nights", "problem"),
    [
        ([], "0 nights"),
        ([FIRST], "1 nights"),
        ([FIRST | {"removed": 4}, SECOND], "4 removed, and 3 had to be"),
        ([FIRST | {"quarantined": 0}, SECOND], "0 quarantined, and 1 had to be"),
        ([FIRST | {"scrubbed": 5}, SECOND], "5 scrubbed, and 4 had to be"),
        ([FIRST, SECOND | {"files_changed": 1}], "nothing to do"),
    ],
)
def test_nights_that_report_something_else_are_a_problem(nights, problem):
    (found,) = contradictions(FILES, nights)
    assert problem in found
