"""What is done to a row of a table, whatever format the table has."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.records import NO_DECISION, Decision, Decisions


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
            if decision.effect == Effect.SCRUB_LOCATION and not scrubbed.effect:
                scrubbed = decision
            # Only posts are fetched again.
            if decision.effect == Effect.FETCH_AGAIN and quarantine and not number and shape != "users":
                leaves = decision
        return Fate(leaves, scrubbed)

    return fate
