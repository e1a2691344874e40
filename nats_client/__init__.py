"""NATS to pandas: streams replayed and followed in a background thread, read as DataFrames from any thread.

    from nats_client import Client, Settings

    with Client(Settings(url="nats://127.0.0.1:4222")) as client:
        feed = client.feed("METRICS", "metrics.cpu.*", look_back="PT5M")
        feed.wait(10)
        print(feed.frame())

Knows nothing of Streamlit: it works the same in a script or a notebook.
"""

from .chunks import Query
from .client import Client
from .connection import ConnectionState
from .duration import format_duration, iso_duration, parse_duration
from .errors import LookbackError
from .events import Event
from .feed import Feed, Health, NamedFeed
from .gaps import Gap
from .requests import Reply
from .services import Endpoint, ServiceInstance, Services
from .settings import Settings
from .streams import StreamInfo
from .tokens import Rights
from .values import BucketInfo, Entry, Values, Watch, WatchHealth, entries_frame
from .window import Snapshot, Window

__all__ = [
    "BucketInfo",
    "Client",
    "ConnectionState",
    "Endpoint",
    "Entry",
    "Event",
    "Feed",
    "Gap",
    "Health",
    "LookbackError",
    "NamedFeed",
    "Query",
    "Reply",
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
