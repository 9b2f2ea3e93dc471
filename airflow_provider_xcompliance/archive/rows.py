"""Rows of a table, whatever format it has: whose they are, and what is done to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.extras import require
from airflow_provider_xcompliance.archive.index import Entries, Facts, IndexWriter
from airflow_provider_xcompliance.archive.records import NO_DECISION, Decision, Decisions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = require("numpy", "archive", "reading archives")


class Rows(NamedTuple):
    """
    Whose some rows are.

    :param ids: of each row; -1 where there is none
    :param authors: of each, the id of its author; -1 where there is none
    :param at: the position of each
    """

    ids: NDArray[np.int64]
    authors: NDArray[np.int64]
    at: NDArray[np.int64]


def add_rows(rows: Rows, shape: str | None, index: IndexWriter, base: int, facts: Facts) -> NDArray[np.int64]:
    """
    Add rows to an index, and to what reading a file showed.

    :param shape: ``users`` if the rows are users
    :param base: what their positions count from
    :return: which of them have no id, and so are bad
    """
    is_good = rows.ids >= 0
    is_written = is_good & (rows.authors >= 0)
    own = Entries(rows.ids[is_good], rows.at[is_good])
    authors = Entries(rows.authors[is_written], rows.at[is_written])
    if shape == "users":
        index.add(Entries(own.ids[:0], own.at[:0]), own, base)
    else:
        index.add(own, authors, base)
        facts.authorless += len(own.ids) - len(authors.ids)
    bad = np.flatnonzero(~is_good)
    facts.records += len(own.ids)
    facts.bad += len(bad)
    return bad


class Fate(NamedTuple):
    """
    What is done to a row.

    :param leaves: why it goes, be it to quarantine; no decision: it stays
    :param scrubbed: why its location goes, wherever the row is then; no decision: it stays
    """

    leaves: Decision
    scrubbed: Decision


#: Id of a row and of its author, if known → what is done to the row.
Fates = Callable[[int, int | None], Fate]


def fates(decisions: Decisions, shape: str | None, *, quarantine: bool) -> Fates:
    """
    Return what asks the events about rows.

    :param shape: ``users`` if the rows are users
    :param quarantine: whether posts that are to be fetched again go to quarantine; else they stay
    """
    of_own = decisions.of_user if shape == "users" else decisions.of_post

    def fate(own: int, author: int | None) -> Fate:
        found = [of_own(own)] if author is None else [of_own(own), decisions.of_user(author)]
        leaves = scrubbed = NO_DECISION
        for number, decision in enumerate(found):
            if decision.effect == Effect.REMOVE:
                return Fate(decision, NO_DECISION)
            if not scrubbed.effect:
                scrubbed = decision.without_fetching
            # Only posts are fetched again.
            if decision.effect == Effect.FETCH_AGAIN and quarantine and not number and shape != "users":
                leaves = decision
        return Fate(leaves, scrubbed)

    return fate
