"""Publishes simulated series for the Comparison page, and reports on a browser's connection: the NATS service
`comparison`.

    python -m services.comparison nats://127.0.0.1:4222 http://127.0.0.1:8222 [publisher.creds]

It publishes into the stream COMPARISON only while a page is open: the page repeats its request each second,
and publishing stops 30 s after the last one. The second argument is the server's monitoring URL. The login
for requests comes from NATS_CREDS, … as everywhere. The third argument is the publisher's credentials file,
if that is in another account. Ends on SIGTERM.

    comparison.run      {"rate": 100, "series": 10, "look_back": 60, "changed": 1764090000.5, "connection": …}
    comparison.token    {}

`run` requests `rate` messages per second in total, over `series` series. If several pages are open, the
request with the newest `changed` (seconds since the epoch) decides. The reply has what is published, the
sequence at which a `look_back` of that many seconds starts, and what the server reports about the connection
named `connection`. `token` returns a user JWT that may read this stream from a web page.
"""

import asyncio
import contextlib
import json
import logging
import math
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import nats.errors
import nats.micro
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError, NotFoundError
from nats.micro.request import Request, ServiceError

from nats_client.connection.role_jwt import SUBJECT as TOKENS
from nats_client.connection.settings import Settings
from nats_client.errors import LookbackError, one_of
from services import monitoring
from services.accounts.claims import Key
from services.comparison.sockets import bytes_sent
from services.program import connect, until_signal

NAME = "comparison"
VERSION = "1.0.0"
ROLE = "comparison"
"""The role of the tokens that web pages get."""
STREAM = StreamConfig(
    name="COMPARISON",
    description="Lookback's comparison: simulated series, published while the page is open",
    subjects=["simulated.>"],
    storage=StorageType.FILE,
    discard=DiscardPolicy.OLD,
    max_age=15 * 60,  # longer than an unread feed stays open
    max_bytes=256 * 1024 * 1024,
    allow_direct=True,
)
STREAM_NAME_IN_USE = 10058  # the server's error code: in use with another configuration
MOST_RATE = 5000  # messages a second
MOST_SERIES = 100
MOST_LOOK_BACK = 3600  # seconds
MOST_ASKED = 1024  # bytes of a request
STOP_AFTER = 30.0  # seconds without a request
TICK = 0.01  # minimum seconds between two batches of messages
MOST_LATE = 1.0  # seconds to catch up after a pause of the machine; older messages are skipped
REQUEST_TIMEOUT = 2.0  # seconds
HTTP_TIMEOUT = 1.0  # seconds
CLOSE_TIMEOUT = 1.0  # seconds

log = logging.getLogger("services.comparison")


@dataclass(frozen=True)
class Wish:
    """One page's request for what is published."""

    rate: int
    series: int
    look_back: float
    changed: float
    connection: str | None

    @classmethod
    def read(cls, data: bytes) -> "Wish":
        """Raises ServiceError with code 400 and the reason."""
        if len(data) > MOST_ASKED:
            raise ServiceError("400", f"The request has {len(data):,} bytes; {MOST_ASKED:,} are allowed.")
        try:
            asked = json.loads(data)
        except (ValueError, RecursionError):
            raise ServiceError("400", "The request is not JSON.") from None
        if not isinstance(asked, dict):
            raise ServiceError("400", "The request must be a JSON object.")
        known = tuple(cls.__dataclass_fields__)
        if unknown := asked.keys() - set(known):
            raise ServiceError("400", one_of(min(unknown), known, what="key"))
        connection = asked.get("connection")
        if connection is not None and not isinstance(connection, str):
            raise ServiceError("400", "'connection' must be a text.")
        return cls(
            int(_number(asked, "rate", 1, MOST_RATE)),
            int(_number(asked, "series", 1, MOST_SERIES)),
            _number(asked, "look_back", 1, MOST_LOOK_BACK),
            _number(asked, "changed", 0, time.time() + 5),
            connection,
        )


def _number(asked: Mapping[str, Any], name: str, least: float, most: float) -> float:
    value = asked.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ServiceError("400", f"{name!r} is {value!r}; it must be a number from {least:g} to {most:g}.")
    return value


def value_at(series: int, seconds: float) -> float:
    """The value of series 0, 1, … at a time: a slow wave and a little noise."""
    wave = math.sin(seconds / (6 + series % 7) + 2.1 * series)
    return 10 * (series + 1) + 3.5 * wave + random.gauss(0, 0.35)


class Publisher:
    """Publishes while a page requests it."""

    def __init__(self, client: Client) -> None:
        self.rate = self.series = 1
        self.published = 0
        """Messages so far."""
        self._client = client
        self._changed = 0.0
        self._until = -math.inf
        self._asked = asyncio.Event()
        self._next = 0

    @property
    def running(self) -> bool:
        """True until STOP_AFTER seconds after the last request."""
        return time.monotonic() < self._until

    def ask(self, wish: Wish) -> None:
        """Publish for STOP_AFTER more seconds, as in `wish` unless another page has changed that since."""
        if not self.running or wish.changed > self._changed:
            self.rate, self.series, self._changed = wish.rate, wish.series, wish.changed
            self._asked.set()
        self._until = time.monotonic() + STOP_AFTER

    async def run(self) -> None:
        """Publish on request, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self.running:
                try:
                    await self._keep_stream()
                    await self._publish()
                except (nats.errors.Error, TimeoutError) as error:
                    log.warning("Nothing is published: %s", error or type(error).__name__)
                    await asyncio.sleep(1)

    async def _publish(self) -> None:
        due = time.monotonic()
        while self.running:
            now = time.monotonic()
            due = max(due, now - MOST_LATE)
            while due <= now:
                if self._client.is_connected:  # nats-py would buffer them, and they would arrive late
                    await self._one()
                due += 1 / self.rate
            with contextlib.suppress(TimeoutError):  # a new rate takes effect at once
                pause = min(max(TICK, due - time.monotonic()), STOP_AFTER)
                await asyncio.wait_for(self._asked.wait(), pause)
                self._asked.clear()
                due = min(due, time.monotonic() + 1 / self.rate)
        log.info("No page is open any more: %d messages published.", self.published)

    async def _one(self) -> None:
        self._next = series = self._next % self.series
        now = time.time()
        payload = b'{"time":%.6f,"value":%.6f}' % (now, value_at(series, now))
        await self._client.publish(f"simulated.series-{series + 1}", payload)
        self._next += 1
        self.published += 1

    async def _keep_stream(self) -> None:
        js = self._client.jetstream(timeout=REQUEST_TIMEOUT)
        with contextlib.suppress(NotFoundError):
            state = (await js.stream_info(str(STREAM.name))).state
            if state.messages == 0 and state.last_seq:
                await js.delete_stream(
                    str(STREAM.name)
                )  # otherwise pages would report its old messages as lost
        try:
            await js.add_stream(STREAM)
        except BadRequestError as error:
            if error.err_code != STREAM_NAME_IN_USE:
                raise
            await js.update_stream(STREAM)

    async def start_of(self, look_back: float) -> int:
        """The sequence of the first message that is at most `look_back` seconds old; the next sequence if
        there is none.

        Uses direct get (ADR-31): a consumer that starts by time cannot be recreated by sequence.
        """
        since = datetime.fromtimestamp(time.time() - look_back, UTC).isoformat().replace("+00:00", "Z")
        asked = json.dumps({"batch": 1, "start_time": since, "next_by_subj": "simulated.>"}).encode()
        with contextlib.suppress(nats.errors.Error, TimeoutError, ValueError):
            found = await self._client.request(
                f"$JS.API.DIRECT.GET.{STREAM.name}", asked, timeout=REQUEST_TIMEOUT
            )
            if sequence := (found.headers or {}).get("Nats-Sequence"):
                return int(sequence)
            state = (await self._client.jetstream().stream_info(str(STREAM.name))).state
            return int(state.last_seq) + 1 if state.messages else 1
        return 1  # the stream does not exist yet


class Monitor:
    """The server's monitoring port."""

    def __init__(self, url: str) -> None:
        """`url` like http://127.0.0.1:8222."""
        self._url = url
        self._known: dict[str, int] = {}  # connection ids by name

    def server(self) -> dict[str, Any]:
        """CPU in percent of one core; port and compression of the websocket listener, or None."""
        varz = monitoring.read(self._url, "/varz", HTTP_TIMEOUT)
        websocket = varz.get("websocket") or {}
        return {
            "cpu": varz["cpu"],
            "port": websocket.get("port") or None,
            "compression": bool(websocket.get("compression")),
        }

    def connection(self, name: str, port: int) -> dict[str, Any] | None:
        """What the listener at `port` has sent to the web page whose connection is called `name`. Keys:
        `id` of the connection, `messages`, their `payload` in bytes before protocol and compression, and the
        bytes on the `wire` (None if the system cannot tell). None if there is no such connection."""
        found = self._find(name)
        if found is None:
            return None
        host = urlsplit(self._url).hostname or "127.0.0.1"
        return {
            "id": found["cid"],
            "messages": found["out_msgs"],
            "payload": found["out_bytes"],
            "wire": bytes_sent((host, port), (found["ip"], found["port"])),
        }

    def _find(self, name: str) -> dict[str, Any] | None:
        where = f"cid={self._known[name]}" if name in self._known else "limit=4096"
        for found in monitoring.read(self._url, f"/connz?{where}", HTTP_TIMEOUT)["connections"]:
            if found.get("name") == name and found.get("type") == "websocket":
                if len(self._known) > 1000:
                    self._known.clear()
                self._known[name] = found["cid"]
                return dict(found)
        self._known.pop(name, None)
        return None


class Comparison:
    """The service."""

    def __init__(self, client: Client, publisher: Publisher, monitor: Monitor) -> None:
        self._client = client
        self._publisher = publisher
        self._monitor = monitor

    async def serve(self) -> None:
        """Register the endpoints and return. They answer requests while the connection lives."""
        service = await nats.micro.add_service(
            self._client,
            name=NAME,
            version=VERSION,
            description="Simulated series for the websocket comparison",
        )
        for name, handler in (("run", self._run), ("token", self._token)):
            await service.add_endpoint(name=name, subject=f"{NAME}.{name}", handler=_answering(handler))

    async def _run(self, data: bytes) -> dict[str, Any]:
        wish = Wish.read(data)
        self._publisher.ask(wish)
        start, (server, connection) = await asyncio.gather(
            self._publisher.start_of(wish.look_back), asyncio.to_thread(self._look, wish.connection)
        )
        return {
            "rate": self._publisher.rate,
            "series": self._publisher.series,
            "published": self._publisher.published,
            "start": start,
            "server": server,
            "connection": connection,
        }

    def _look(self, name: str | None) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """What the server reports about itself and about a connection."""
        try:
            server = self._monitor.server()
            port = server["port"]
            return server, self._monitor.connection(name, port) if name and port else None
        except (*monitoring.FAILURES, LookupError, TypeError) as error:
            log.warning("The server's monitoring port does not answer: %s", error)
            return None, None

    async def _token(self, _: bytes) -> dict[str, Any]:
        # A bearer token needs no signature, so the seed is not kept.
        asked = json.dumps({"role": ROLE, "key": Key.new("user").public}).encode()
        try:
            reply = await self._client.request(TOKENS, asked, timeout=REQUEST_TIMEOUT)
        except (nats.errors.Error, TimeoutError):
            raise ServiceError("503", f"No token service answers at {TOKENS!r}.") from None
        headers = reply.headers or {}
        if code := headers.get("Nats-Service-Error-Code"):
            raise ServiceError(code, headers.get("Nats-Service-Error", ""))
        server, _found = await asyncio.to_thread(self._look, None)
        if server is None or server["port"] is None:
            raise ServiceError("503", "The NATS server has no websocket listener.")
        minted = json.loads(reply.data)
        token = {name: minted[name] for name in ("jwt", "inbox_prefix", "lives")}
        return {**token, "port": server["port"]}


def _answering(work: Callable[[bytes], Awaitable[dict[str, Any]]]) -> Callable[[Request], Awaitable[None]]:
    async def handler(request: Request) -> None:
        try:
            answer = await work(request.data)
        except ServiceError:
            raise
        except Exception:
            log.exception("a request failed")
            raise ServiceError("500", "The comparison service failed; its log says why.") from None
        await request.respond(json.dumps(answer).encode())

    return handler


async def serve(settings: Settings, monitoring_url: str, publishing: Settings) -> None:
    """Answer and publish until cancelled; `publishing` is the publisher's login. Raises ConnectionError if a
    login has ended for good."""
    ended = asyncio.Event()
    client = await connect(settings, f"lookback-{NAME}", log, ended=ended.set)
    data = (
        client
        if publishing == settings
        else await connect(publishing, f"lookback-{NAME}", log, ended=ended.set)
    )
    publisher = Publisher(data)
    running = asyncio.create_task(publisher.run())
    try:
        await Comparison(client, publisher, Monitor(monitoring_url)).serve()
        await ended.wait()
        raise ConnectionError(f"A connection to {settings.shown} has ended.")
    finally:
        running.cancel()
        for each in {client, data}:
            with contextlib.suppress(Exception):  # shutting down: nobody can act on an error
                await asyncio.wait_for(each.close(), CLOSE_TIMEOUT)


async def _main(url: str, monitoring_url: str, publisher: str | None) -> None:
    settings = replace(Settings.load(), url=url)
    publishing = Settings(url=url, credentials=publisher) if publisher else settings
    await until_signal(serve(settings, monitoring_url, publishing))


def main() -> None:
    """The command."""
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    log.setLevel(logging.INFO)
    try:
        asyncio.run(_main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) == 4 else None))
    except (LookbackError, ConnectionError) as error:
        sys.exit(str(error))
