"""Decisions about a few ids, for formats that ask about them."""

from collections.abc import Mapping

import numpy as np

from airflow_provider_xcompliance.archive.events import Effect
from airflow_provider_xcompliance.archive.records import NO_DECISION, Decision

REMOVE = Decision(Effect.REMOVE, "delete/deleted")
FETCH = Decision(Effect.FETCH_AGAIN, "rehydrate/tweet_edited")
SCRUB = Decision(Effect.SCRUB_LOCATION, "scrub_geo/geo_scrubbed")


class Known:
    """Decisions about posts and users."""

    def __init__(
        self, posts: Mapping[int, Decision] | None = None, users: Mapping[int, Decision] | None = None
    ) -> None:
        self._posts, self._users = posts or {}, users or {}
        self.posts = np.array(sorted(self._posts), np.int64)
        self.users = np.array(sorted(self._users), np.int64)

    def of_post(self, post: int) -> Decision:
        return self._posts.get(post, NO_DECISION)

    def of_user(self, user: int) -> Decision:
        return self._users.get(user, NO_DECISION)
