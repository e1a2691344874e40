"""The feeds of a stretch that a viewer's page loads, and those whose loading the viewer has stopped."""

from typing import Any

import streamlit as st

from nats_client import Feed, NamedFeed, PlayedFeed
from nats_client.feeds.health import FeedKey

from ..choices.clock import Clock, clock

_KEPT = "_loading"


class Loading:
    """The feeds of one viewer's page that read the stretch, and which of them this viewer has stopped. Any
    thread may call it."""

    def __init__(self, when: Clock) -> None:
        self.of = when.end, when.length
        self.stopped: frozenset[FeedKey] = frozenset()
        """Feeds whose loading this viewer has stopped. Other viewers may still load them."""
        self._feeds: dict[FeedKey, Feed | NamedFeed | PlayedFeed] = {}
        self._reader = object()  # identifies the viewer to the feeds

    def begin(self) -> None:
        """Begin a run of the page. Feeds that this run does not read are no longer wanted."""
        self._feeds = {}

    def read(self, feed: Feed | NamedFeed | PlayedFeed) -> bool:
        """Record that the page reads a feed. Returns False if the viewer has stopped it."""
        if feed.key.end is not None:
            self._feeds[feed.key] = feed
            self._request(feed)
        return feed.key not in self.stopped

    def stop(self) -> None:
        """Stop loading for this viewer."""
        self.stopped |= {key for key, feed in list(self._feeds.items()) if feed.health.phase != "following"}
        self.repeat()

    def go_on(self) -> None:
        """Load the rest."""
        self.stopped = frozenset()
        self.repeat()

    def repeat(self) -> None:
        """Send the viewer's requests to the feeds again; call this every few seconds while the page is
        open."""
        for feed in list(self._feeds.values()):
            self._request(feed)

    def obey(self, said: Any) -> bool:
        """Stop loading on "stop", load the rest on "rest". `said` is untrusted. False for anything else."""
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
