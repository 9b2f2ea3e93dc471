import pytest

from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.records import NO_DECISION, Decision
from airflow_provider_xcompliance.archive.rows import Fate, fates

REMOVE = Decision(Effect.REMOVE, "delete/deleted")
SUSPENDED = Decision(Effect.REMOVE, "delete/suspended")
FETCH = Decision(Effect.FETCH_AGAIN, "rehydrate/tweet_edited")
SCRUB = Decision(Effect.SCRUB_LOCATION, "scrub_geo/geo_scrubbed")
BOTH = Decision(Effect.FETCH_AGAIN, "rehydrate/tweet_edited", "scrub_geo/geo_scrubbed")
OF_AUTHOR = Decision(Effect.SCRUB_LOCATION, "scrub_geo/scrub_geo")
NO = NO_DECISION


class Known:
    """An event of the post 1 and an event of the user 2."""

    def __init__(self, post: Decision, user: Decision) -> None:
        self.post, self.user = post, user

    def of_post(self, post):
        return self.post if post == 1 else NO

    def of_user(self, user):
        return self.user if user == 2 else NO


@pytest.mark.parametrize(
    ("post", "author", "expected"),
    [
        (NO, NO, Fate(NO, NO)),
        (REMOVE, NO, Fate(REMOVE, NO)),
        (NO, SUSPENDED, Fate(SUSPENDED, NO)),
        (REMOVE, SUSPENDED, Fate(REMOVE, NO)),
        (FETCH, SUSPENDED, Fate(SUSPENDED, NO)),
        (SCRUB, SUSPENDED, Fate(SUSPENDED, NO)),
        (FETCH, NO, Fate(FETCH, NO)),
        (FETCH, OF_AUTHOR, Fate(FETCH, OF_AUTHOR)),
        (BOTH, NO, Fate(BOTH, SCRUB)),
        (BOTH, OF_AUTHOR, Fate(BOTH, SCRUB)),
        (BOTH, SUSPENDED, Fate(SUSPENDED, NO)),
        (SCRUB, NO, Fate(NO, SCRUB)),
        (NO, OF_AUTHOR, Fate(NO, OF_AUTHOR)),
        (SCRUB, OF_AUTHOR, Fate(NO, SCRUB)),
        (NO, FETCH, Fate(NO, NO)),
    ],
)
def test_the_strongest_event_of_a_post_or_its_author_decides(post, author, expected):
    assert fates(Known(post, author), None, quarantine=True)(1, 2) == expected


def test_without_quarantine_what_is_to_be_fetched_again_stays_and_is_scrubbed():
    assert fates(Known(FETCH, OF_AUTHOR), None, quarantine=False)(1, 2) == Fate(NO, OF_AUTHOR)


def test_without_quarantine_what_is_to_be_fetched_again_loses_a_location_that_has_to_go():
    assert fates(Known(BOTH, NO), None, quarantine=False)(1, 2) == Fate(NO, SCRUB)


def test_users_are_not_fetched_again_but_scrubbed():
    assert fates(Known(NO, BOTH), "users", quarantine=True)(2, None) == Fate(NO, SCRUB)


def test_without_an_author_the_post_alone_decides():
    assert fates(Known(SCRUB, SUSPENDED), None, quarantine=True)(1, None) == Fate(NO, SCRUB)


def test_rows_of_users_are_asked_for_as_users():
    rules = fates(Known(REMOVE, SUSPENDED), "users", quarantine=True)

    assert rules(2, None) == Fate(SUSPENDED, NO)
    assert rules(1, None) == Fate(NO, NO)
    assert fates(Known(NO, FETCH), "users", quarantine=True)(2, None) == Fate(NO, NO)
