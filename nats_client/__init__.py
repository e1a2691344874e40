"""NATS to pandas: streams replayed and followed in a background thread, read as DataFrames from any thread.

    from nats_client import Client, Settings

    with Client(Settings(url="nats://127.0.0.1:4222")) as client:
        feed = client.feed("METRICS", "metrics.cpu.*", look_back="PT5M")
        feed.wait(10)
        print(feed.frame())

Does not depend on Streamlit: it works the same in a script or a notebook.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client
    from .connection.connection import ConnectionState
    from .connection.role_jwt import Rights
    from .connection.settings import Settings
    from .duration import Duration, format_duration, iso_duration, parse_duration
    from .errors import LookbackError
    from .events import Event
    from .feeds.feed import Feed
    from .feeds.gaps import Gap
    from .feeds.health import Health
    from .feeds.named_feed import NamedFeed
    from .feeds.playback import Playback
    from .feeds.played_feed import PlayedFeed
    from .kv.buckets import BucketInfo
    from .kv.past import PastBucket, PlayedBucket
    from .kv.values import Entry, Values, entries_frame
    from .kv.watch import Watch, WatchHealth
    from .requests.discovery import Endpoint, ServiceInstance, Services
    from .requests.query import Query
    from .requests.requests import Reply
    from .results.result import Result
    from .streams.consumer_list import ConsumerInfo, Consumers
    from .streams.stream_list import StreamInfo
    from .table.snapshot import Snapshot
    from .table.window import Window

_HOMES = {
    "BucketInfo": ".kv.buckets",
    "Client": ".client",
    "ConnectionState": ".connection.connection",
    "ConsumerInfo": ".streams.consumer_list",
    "Consumers": ".streams.consumer_list",
    "Endpoint": ".requests.discovery",
    "Entry": ".kv.values",
    "Event": ".events",
    "Feed": ".feeds.feed",
    "Gap": ".feeds.gaps",
    "Health": ".feeds.health",
    "LookbackError": ".errors",
    "NamedFeed": ".feeds.named_feed",
    "PastBucket": ".kv.past",
    "Playback": ".feeds.playback",
    "PlayedBucket": ".kv.past",
    "PlayedFeed": ".feeds.played_feed",
    "Query": ".requests.query",
    "Reply": ".requests.requests",
    "Result": ".results.result",
    "Rights": ".connection.role_jwt",
    "ServiceInstance": ".requests.discovery",
    "Services": ".requests.discovery",
    "Settings": ".connection.settings",
    "Snapshot": ".table.snapshot",
    "StreamInfo": ".streams.stream_list",
    "Values": ".kv.values",
    "Watch": ".kv.watch",
    "WatchHealth": ".kv.watch",
    "Window": ".table.window",
    "entries_frame": ".kv.values",
    "Duration": ".duration",
    "format_duration": ".duration",
    "iso_duration": ".duration",
    "parse_duration": ".duration",
}
"""The module of each name. Names are imported on first use, so that a program that only reports as a workflow
does not load pandas."""

__all__ = [
    "BucketInfo",
    "Client",
    "ConnectionState",
    "ConsumerInfo",
    "Consumers",
    "Duration",
    "Endpoint",
    "Entry",
    "Event",
    "Feed",
    "Gap",
    "Health",
    "LookbackError",
    "NamedFeed",
    "PastBucket",
    "Playback",
    "PlayedBucket",
    "PlayedFeed",
    "Query",
    "Reply",
    "Result",
    "Rights",
    "ServiceInstance",
    "Services",
    "Settings",
    "Snapshot",
    "StreamInfo",
    "Values",
    "Watch",
    "WatchHealth",
    "Window",
    "entries_frame",
    "format_duration",
    "iso_duration",
    "parse_duration",
]


def __getattr__(name: str) -> Any:
    """Import a name of the package on first use. Raises AttributeError if there is no such name."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home, __name__), name)
    return found


def __dir__() -> list[str]:
    """The names of the package, for completion."""
    return sorted({*globals(), *_HOMES})
