"""The state of this process: `/lookback/healthz`, `/lookback/readyz` and `/lookback/metrics`.

The first two give no detail, so anybody may request them. The metrics name streams and roles, so they need
the token of `LOOKBACK_METRICS_TOKEN`. Without that setting they are open if sign-in is off, and closed if it
is on. The format is Prometheus's: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import hmac
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version

import psutil
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from nats_client import Client, LookbackError
from nats_client.environment import METRICS_TOKEN
from nats_client.feeds.health import FeedKey
from nats_client.memory import PROCESS

from .. import launcher
from ..version import VERSION
from ..web.assets import PREFIX
from ..web.traffic import open_tabs

"""The token that a scraper sends as `Authorization: Bearer …`."""
MOST_FEEDS = 200
"""Feeds that get their own figures. Each becomes several series in Prometheus."""
PHASES = ("connecting", "replaying", "halted", "following", "reconnecting", "stopped")


def versions() -> dict[str, str]:
    """The versions of the app and of its main dependencies, by name."""
    packages = ("streamlit", "nats-py", "pandas", "plotly", "duckdb")
    return {"lookback": VERSION} | {name: version(name) for name in packages}


def readers(nats: Client) -> Counter[FeedKey]:
    """For each feed of `nats`, how many browser tabs show a page that reads it. Streamlit keeps the session
    of a closed tab for a while, so a tab counts only if its websocket is open or blocked."""
    tabs = [tab for tab in list(launcher.tabs.values()) if tab.channel is not None or tab.blocked]
    return Counter(key for tab in tabs if tab.reads_of is nats for key in tab.reads)


class Figures(Collector):
    """The app's figures about itself, collected on request."""

    def __init__(self, clients: dict[str, Client], viewers: int) -> None:
        """`clients`: by role; "" for the client without a role."""
        self._clients = clients
        self._viewers = viewers

    def collect(self) -> Iterable[Metric]:
        """Each figure with its labels."""
        yield InfoMetricFamily(
            "lookback", "Versions.", {name.replace("-", "_"): number for name, number in versions().items()}
        )
        yield GaugeMetricFamily("lookback_viewers", "Connected browser tabs.", self._viewers)
        yield GaugeMetricFamily("lookback_threads", "Threads of the process.", psutil.Process().num_threads())
        yield GaugeMetricFamily(
            "lookback_memory_held_bytes", "Bytes held by windows, buckets and charts.", PROCESS.total
        )
        yield GaugeMetricFamily(
            "lookback_memory_ceiling_bytes", "Their ceiling: the setting 'memory'.", PROCESS.ceiling
        )
        yield from self._of_clients()
        yield from self._of_feeds()

    def _of_clients(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily(
            "lookback_connected", "1 while there is a connection to NATS.", labels=["role"]
        )
        for role, client in self._clients.items():
            connected.add_metric([role], float(client.state.status == "connected"))
        yield connected

    def _of_feeds(self) -> Iterator[Metric]:
        names = ["role", "stream", "subject", "where"]
        help_of = {
            "rows": "Rows of a window.",
            "bytes": "Bytes of a window.",
            "age_seconds": "Age of the newest row, by the server's clock.",
            "readers": "Browser tabs whose page reads it.",
            "restarts": "How often the consumer was recreated.",
            "malformed": "Messages that could not be decoded.",
            "dropped": "Rows dropped at a ceiling, within the look-back.",
        }
        found = {
            name: GaugeMetricFamily(f"lookback_feed_{name}", text, labels=names)
            for name, text in help_of.items()
        }
        phases = GaugeMetricFamily(
            "lookback_feed_phase", "1 for the phase that a feed is in.", labels=[*names, "phase"]
        )
        readers_of = {role: readers(client) for role, client in self._clients.items()}
        feeds = [(role, feed) for role, client in self._clients.items() for feed in client.feeds()]
        for role, feed in feeds[:MOST_FEEDS]:
            health = feed.health
            labels = [role, health.stream or "", health.subject or ">", feed.key.where or ""]
            values: dict[str, float] = {
                "rows": health.rows,
                "bytes": health.bytes,
                "readers": readers_of[role][feed.key],
                "restarts": health.restarts,
                "malformed": health.malformed,
                "dropped": health.dropped,
            }
            if health.newest is not None:
                values["age_seconds"] = max(0.0, (feed.now() - health.newest) / 1e9)
            for name, value in values.items():
                found[name].add_metric(labels, value)
            for phase in PHASES:
                phases.add_metric([*labels, phase], float(phase == health.phase))
        yield from found.values()
        yield phases


def _metrics(request: Request) -> Response:
    if not _may_see_figures(request):
        return PlainTextResponse(
            f"Send the token of {METRICS_TOKEN.variable} as Authorization: Bearer.\n",
            401,
            {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"},
        )
    launcher.load_components()
    from ..data.connection import clients  # may have been reloaded
    from .page_runs import SECONDS

    registry = CollectorRegistry()
    registry.register(Figures(clients(), open_tabs()))
    registry.register(SECONDS)
    ProcessCollector(registry=registry)
    return Response(
        generate_latest(registry), media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"}
    )


def _may_see_figures(request: Request) -> bool:
    token = METRICS_TOKEN.read()
    if not token:
        return launcher.sign_ins is None
    sent = request.headers.get("authorization", "")
    return hmac.compare_digest(sent.encode(), f"Bearer {token}".encode())


async def _health(_: Request) -> Response:
    """Replies from the web server's loop, so any reply proves that the loop runs."""
    return _word("ok")


def _ready(_: Request) -> Response:
    """Reply "ok" if a new viewer would see live data, else with the status 503. Connected viewers keep their
    screens in any case. Runs in a thread, because the first call waits for the first connection."""
    launcher.load_components()
    from ..data.connection import client, clients  # may have been reloaded

    if launcher.trouble is not None:
        return _word("the embedded server stores nothing", 503)
    try:
        found = list(clients().values()) or ([client()] if launcher.sign_ins is None else [])
    except LookbackError:
        return _word("NATS is not configured", 503)
    if found and all(each.state.status != "connected" for each in found):
        return _word("no connection to NATS", 503)
    return _word("ok")


def _word(text: str, status: int = 200) -> Response:
    return PlainTextResponse(f"{text}\n", status, {"Cache-Control": "no-store"})


# The second route is for an app below a base path (server.baseUrlPath).
routes: list[BaseRoute] = [
    Route(f"{base}/{PREFIX}/{name}", answer)
    for base in ("", "/{base:path}")
    for name, answer in (("healthz", _health), ("readyz", _ready), ("metrics", _metrics))
]
