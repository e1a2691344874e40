"""What of a stretch in the past the viewer's page loads, and what the viewer has stopped."""

from typing import Any

import streamlit as st

from nats_client import Feed, NamedFeed, PlayedFeed
from nats_client.feeds.health import FeedKey

from ..choices.clock import Clock, clock

_KEPT = "_loading"


class Loading:
    """The feeds of one viewer's page that read the stretch, and which of them load no more for this viewer.
    Any thread may call it."""

    def __init__(self, when: Clock) -> None:
        self.of = when.end, when.length
        self.stopped: frozenset[FeedKey] = frozenset()
        """Feeds whose loading this viewer has stopped. Other viewers may still load them."""
        self._feeds: dict[FeedKey, Feed | NamedFeed | PlayedFeed] = {}
        self._reader = object()  # what the feeds know the viewer by

    def begin(self) -> None:
        """Begin a run of the page. Feeds that this run does not read are no longer wanted."""
        self._feeds = {}

    def read(self, feed: Feed | NamedFeed | PlayedFeed) -> bool:
        """The page reads a feed. False if the viewer has stopped it."""
        if feed.key.end is not None:
            self._feeds[feed.key] = feed
            self._request(feed)
        return feed.key not in self.stopped

    def stop(self) -> None:
        """Load no more for this viewer."""
        self.stopped |= {key for key, feed in list(self._feeds.items()) if feed.health.phase != "following"}
        self.repeat()

    def go_on(self) -> None:
        """Load the rest."""
        self.stopped = frozenset()
        self.repeat()

    def repeat(self) -> None:
        """Tell the feeds what the viewer wants; again every few seconds while somebody is there to see it."""
        for feed in list(self._feeds.values()):
            self._request(feed)

    def obey(self, said: Any) -> bool:
        """Do what the viewer has asked for; `said` is untrusted. False if it is nothing."""
        if said == "stop":
            self.stop()
        elif said == "rest":
            self.go_on()
        else:
            return False
        return True

    def _request(self, feed: Feed | NamedFeed | PlayedFeed) -> None:
        (feed.stop if feed.key in self.stopped else feed.want)(self._reader)


def loading() -> Loading:
    """The Loading of this viewer. A new one is created when the viewer chooses another stretch, so a stop
    counts for one stretch only."""
    when = clock()
    kept: Loading | None = st.session_state.get(_KEPT)
    if kept is None or kept.of != (when.end, when.length):
        kept = st.session_state[_KEPT] = Loading(when)
    return kept
