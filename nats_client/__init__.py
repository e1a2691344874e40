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
from .duration import format_duration, parse_duration
from .errors import LookbackError
from .feed import Feed, Health
from .gaps import Gap
from .requests import Reply
from .services import Endpoint, ServiceInstance, Services
from .settings import Settings
from .streams import StreamInfo
from .window import Snapshot, Window

__all__ = [
    "Client",
    "ConnectionState",
    "Endpoint",
    "Feed",
    "Gap",
    "Health",
    "LookbackError",
    "Query",
    "Reply",
    "ServiceInstance",
    "Services",
    "Settings",
    "Snapshot",
    "StreamInfo",
    "Window",
    "format_duration",
    "parse_duration",
]
