"""The other users of a soaked feed's client and server: a hostile publisher, a busy neighbour, two viewers of
the app."""

import asyncio
import contextlib
import json
import random
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import nats.errors
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from bench.viewer import Viewer
from nats_client import Client, Feed, LookbackError, NamedFeed, Services
from tests.answers import BAD
from tests.cluster import Cluster
from tests.nats import NatsPy
from tests.publisher import Publisher
from tests.running import App
from tests.service import service

HOSTILE, BIG, PLAIN, HONEST = "HOSTILE", "BIG", "plain.live", "honest"
TOLERANCE = 10.0
"""Seconds by which live data may be older than reported. They cover the time to notice a lost connection (3.5
s), to make another one, and to read what was stored meanwhile."""
NO_REFRESH = 60.0
"""Seconds without a refresh after which a viewer's page counts as dead. A run may have to wait for a server
that is being restarted."""
MANY = 200_000
"""The number of messages in the neighbour's stream."""
NEXT_TO = {
    "stops.py": '"""Stops."""\nimport streamlit as st\nfrom components import live\n'
    'rows = live("S", "s.live", look_back="PT1H")\n'
    'st.markdown("n=%d" % rows.snapshot.numbers("n")[-1])\nst.stop()\n',
    "goes_on.py": '"""Goes on."""\nimport streamlit as st\nfrom time import time\n'
    "from components import live, newest_rows\nfrom components.data.live import read_view\n# more\n"
    'rows = live("S", "s.live", look_back="PT1H")\nnewest_rows(rows)\n'
    'st.markdown("n=%d" % rows.snapshot.numbers("n")[-1])\n',
}
"""The pages of the two viewers; each shows the number of its newest row."""
RAW = [
    b'HPUB hostile.a 4 11\r\n\r\n\r\n{"n":1}\r\n',  # a header block without a version
    b"HPUB hostile.a 2 2\r\n\r\n\r\n",
    b"HPUB hostile.a 8 10\r\nNATS/1.0{}\r\n",
    b"HPUB hostile.a 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    b"HPUB hostile.a 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",  # a status, as in the server's own messages
    b"HPUB hostile.a 29 31\r\nNATS/1.0\r\nno colon in here\r\n\r\n{}\r\n",
    b"HPUB hostile.a 20 22\r\nNATS/1.0\r\n\xff\xfe: \xff\r\n\r\n{}\r\n",
    b"HPUB hostile.a 27 29\r\nNATS/1.0\r\nNats-TTL: bad\r\n\r\n{}\r\n",
]
BODIES = [
    b"",
    b"\xff\xfe\x00",
    b"{",
    b"null",
    b"[[[[",
    b'{"n":"text"}',
    b'{"n":1e999}',
    b'{"n":{"n":[1]}}',
    b'{"":1}',
]
SUBJECTS = [
    "hostile.a",
    "hostile.<b>x</b>",
    "hostile.$",
    "hostile.%7C",
    "hostile.\u00e4\u00f6",
    "hostile.\\",
    "hostile." + "x" * 800,
]


RUBBISH = {
    verb: [
        b"\xff",
        b"[]",
        b'{"name":1,"id":[],"version":null}',
        b"",
        *(each if isinstance(each, bytes) else json.dumps(each).encode() for each in bad),
    ]
    for verb, bad in BAD.items()
}
"""Replies to discovery requests, by verb."""


class Thread:
    """A context manager that calls `_run` in its own thread until the end of the block."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        """The faults found."""
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._guarded)

    def __enter__(self) -> "Any":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._thread.join()

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.tell(f"{type(self).__name__} ended: {error!r}")

    def tell(self, fault: str) -> None:
        """Record a fault, and print it."""
        print(fault, flush=True)
        self.faults.append(fault)

    def _run(self) -> None:
        raise NotImplementedError


class Hostile(Thread):
    """Publishes to HOSTILE everything that a client may send, as raw bytes, and answers discovery requests
    beside an honest service. Two feeds of the client read it: one of the stream, one of the plain
    subjects."""

    def __init__(self, cluster: Cluster, client: Client, seed: int) -> None:
        super().__init__()
        self._cluster = cluster
        self._client = client
        self._urls = cluster.urls
        self._random = random.Random(seed)
        self._honest = service(",".join(cluster.urls), HONEST)
        config = {
            "name": HOSTILE,
            "subjects": ["hostile.>"],
            "num_replicas": 3,
            "storage": "file",
            "retention": "limits",
            "max_bytes": 64_000_000,
            "allow_msg_ttl": True,
        }
        body = json.dumps(config).encode()
        cluster.run(lambda nc: nc.request(f"$JS.API.STREAM.CREATE.{HOSTILE}", body, timeout=10))
        cluster.settle(HOSTILE)
        self.feeds = [client.feed(HOSTILE, look_back="PT10M"), client.feed(None, "hostile.>")]
        self._marks = 0

    def __enter__(self) -> "Any":
        self._honest.__enter__()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._honest.__exit__(None, None, None)

    def check(self, seconds: float) -> None:
        """Wait until both feeds are live and have a new message of an honest publisher, and until the list of
        services contains only the honest one, as it describes itself, with the invalid replies counted."""
        self._check_services(seconds)
        self._marks += 1
        subject = f"hostile.honest.{self._marks}"
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(nats.errors.Error, TimeoutError):  # published again until it arrives
                self._cluster.run(lambda nc: nc.jetstream(timeout=5).publish(subject, b'{"honest":1}'))
            time.sleep(0.5)
            late = [feed for feed in self.feeds if not self._has(feed, subject)]
            if not late:
                return
            if time.monotonic() > deadline:
                for feed in late:
                    self.tell(f"beside a hostile publisher {feed.key.name}: {feed.health}")
                return

    def _check_services(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                wrong = _wrong_with(self._client.services())
            except LookbackError as error:
                wrong = str(error)
            if not wrong:
                return
            if time.monotonic() > deadline:
                self.tell(f"beside a hostile responder the services are wrong: {wrong}")
                return
            time.sleep(0.5)

    def _has(self, feed: Feed | NamedFeed, subject: str) -> bool:
        found = any(message.subject == subject for message in feed.newest())
        return found and feed.health.phase == "following"

    def _run(self) -> None:
        while not self.ended.is_set():
            host, port = self._random.choice(self._urls).removeprefix("nats://").split(":")
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 2) as wire:
                wire.settimeout(0.05)
                wire.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB $SRV.> 1\r\n')
                for _ in range(200):
                    if self.ended.wait(0.05):
                        return
                    for feed in self.feeds:
                        feed.newest()  # without a reader, a feed would be closed
                    wire.sendall(self._something())
                    self._answer(wire)

    def _something(self) -> bytes:
        draw = self._random.random()
        if draw < 0.4:
            return self._random.choice(RAW)
        if draw < 0.45:
            headers = b"NATS/1.0\r\nNats-TTL: 1s\r\n\r\n"
            return b"HPUB hostile.short %d %d\r\n%s{}\r\n" % (len(headers), len(headers) + 2, headers)
        body = self._random.choice(BODIES)
        if draw > 0.98:
            body = b'{"huge":"%s"}' % (b"x" * 900_000)
        elif draw > 0.9:
            body = json.dumps({f"f{self._random.randrange(10**6)}": 1 for _ in range(50)}).encode()
        elif draw > 0.8:
            body = json.dumps(
                {"v": self._random.choice([1, "one", None, True, [1], {"v": 1}, 1e308])}
            ).encode()
        subject = self._random.choice(SUBJECTS).encode()
        return b"PUB %s %d\r\n%s\r\n" % (subject, len(body), body)

    def _answer(self, wire: socket.socket) -> None:
        """Send invalid replies to discovery requests, and a PONG to the server's PING."""
        try:
            received = wire.recv(65536)
        except TimeoutError:
            return
        if not received:
            raise ConnectionResetError
        if b"PING\r\n" in received:
            wire.sendall(b"PONG\r\n")
        for verb, reply in re.findall(rb"MSG \$SRV\.(\w+)\S* 1 (\S+) ", received):
            for body in RUBBISH.get(verb.decode(), ()):
                wire.sendall(b"PUB %s %d\r\n%s\r\n" % (reply, len(body), body))


class Neighbour(Thread):
    """Replays a long stream on the client again and again, each time as another feed. A feed of plain
    subjects runs beside it, and must report a gap for each message it loses."""

    def __init__(self, cluster: Cluster, client: Client) -> None:
        super().__init__()
        self._cluster, self._client = cluster, client
        cluster.run(_fill)
        self.replays = 0
        self.plain = client.feed(None, PLAIN, look_back="PT1H")
        self._sent: list[tuple[int, int]] = []
        self._publisher = threading.Thread(target=lambda: asyncio.run(self._publish()))

    def _run(self) -> None:
        while self.plain.health.phase != "following":
            if self.ended.wait(0.1):
                return
        self._publisher.start()
        while not self.ended.is_set():
            self.replays += 1
            feed = self._client.feed(BIG, f"big.{{again{self.replays}}}", look_back="PT1H")
            for _ in range(100):
                self.plain.snapshot()  # without a reader, a feed would be closed
                if self.ended.wait(0.2) or len(feed.snapshot()) >= MANY:
                    break
        self._publisher.join()

    async def _publish(self) -> None:
        """Publish numbers to the plain subject, through the nodes in turn. A number is checked only if its
        node has confirmed it."""
        number = 0
        while not self.ended.is_set():
            connection = NatsPy()
            try:
                url = random.choice(self._cluster.urls)
                await connection.connect([url], allow_reconnect=False, connect_timeout=2, error_cb=_quiet)
                while not self.ended.is_set():
                    at, batch = time.time_ns(), range(number, number + 10)
                    number += 10
                    for each in batch:
                        await connection.publish(PLAIN, b'{"n":%d}' % each)
                    await connection.flush(2)
                    self._sent += [(each, at) for each in batch]
                    await asyncio.sleep(0.1)
            except (nats.errors.Error, TimeoutError, OSError):
                await asyncio.sleep(0.2)
            finally:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(connection.close(), 1)

    def check(self) -> None:
        """Record a fault if a missing number was not sent within a reported gap."""
        sent = [each for each in self._sent if each[1] < time.time_ns() - TOLERANCE * 1e9]
        rows = self.plain.snapshot()
        seen = set(rows.numbers("n").astype(int).tolist()) if "n" in rows.columns else set()
        slack = int(TOLERANCE * 1e9)
        gaps = [(gap.start - slack, gap.end + slack) for gap in self.plain.health.gaps]
        if self.plain.health.phase != "following":
            gaps.append((int(self.plain.health.since * 1e9) - slack, time.time_ns()))
        lost = [n for n, at in sent if n not in seen and not any(a <= at <= b for a, b in gaps)]
        if lost:
            self.tell(f"{len(lost)} plain messages lost outside of reported gaps, as {lost[:5]}; {gaps}")
        self._sent = [each for each in self._sent if each not in sent]


class Viewers(Thread):
    """Two viewers of the app on different pages, one of which calls `st.stop`. Each page must continue to
    refresh, and must not show Live while its data is older than reported."""

    def __init__(self, app: App, judge: "Judge") -> None:
        super().__init__()
        self._app = app
        self._judge = judge
        self.refreshes = {"stops": 0, "goes_on": 0}
        self.lives = 0

    def _run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        await asyncio.gather(*(self._watch(page) for page in self.refreshes))

    async def _watch(self, page: str) -> None:
        viewer = Reader(self._app.url, page)
        try:
            await viewer.open()
            while not self.ended.is_set():
                asked = time.monotonic()
                await asyncio.wait_for(viewer.refresh(), NO_REFRESH)
                self.refreshes[page] += 1
                if (shown := viewer.live_age) is not None and viewer.newest is not None:
                    self.lives += 1
                    if fault := self._judge.too_old(viewer.newest, shown, asked):
                        self.tell(f"the page {page} says Live: {fault}")
                await asyncio.sleep(0.5)
        except Exception as error:
            self.tell(f"the page {page} is not refreshed: {error!r}")
        finally:
            await viewer.close()

    def check(self, seconds: float) -> None:
        """Wait until each page has been refreshed twice."""
        before = dict(self.refreshes)
        deadline = time.monotonic() + seconds
        while any(self.refreshes[page] < before[page] + 2 for page in before):
            if time.monotonic() > deadline:
                self.tell(f"pages stand still: {before}, then {self.refreshes}")
                return
            time.sleep(0.2)

    def sum_up(self) -> None:
        """Record a fault if no page was ever live, because then nothing was checked."""
        if not self.lives:
            self.tell("no page was ever live")


class Reader(Viewer):
    """A viewer of one page that reads its status line and the number of its newest row."""

    def __init__(self, url: str, page: str, **more: Any) -> None:
        super().__init__(url, page_name=page, **more)
        self._known: dict[str, str] = {}
        self._said: list[str] = []

    @property
    def live_age(self) -> float | None:
        """The greatest age, in seconds, that "newest message … ago" may mean; None if the page is not
        Live."""
        newest = self.status.get("newest")
        if self.status.get("mood") != "live" or not newest:
            return None
        text = "".join(piece if isinstance(piece, str) else piece[0] for piece in newest)
        found = re.search(r"newest message (?:under ([\d.]+) s|(.*?)) ago", text)
        assert found, text
        if found[1]:
            return float(found[1])
        units = {"s": 1, "min": 60, "h": 3600, "d": 86400}
        parts = re.findall(r"([\d.]+) ([a-z]+)", found[2])
        return 1.06 * sum(float(number) * units[unit] for number, unit in parts)  # the shown age is rounded

    @property
    def newest(self) -> int | None:
        """The number of the newest row on the page."""
        return next((int(each[2:]) for each in self._said if re.fullmatch(r"n=\d+", each)), None)

    async def refresh(self) -> None:
        """Run the page again, and read its new content."""
        self._said = []
        self.status = {}
        await super().refresh()

    def _receive(self, payload: bytes) -> bool:
        message = ForwardMsg.FromString(payload)
        kind = message.WhichOneof("type")
        if kind == "ref_hash" and message.ref_hash in self._known:
            self._said.append(self._known[message.ref_hash])
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            element = message.delta.new_element
            if body := element.markdown.body:
                self._said.append(body)
                self._known[message.hash] = body
        return super()._receive(payload)


class Judge:
    """Compares the reported age of live data with the time at which the publisher's messages were
    acknowledged."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._from = 0

    def forget(self) -> None:
        """Ignore everything published until now: it may no longer be in the stream."""
        self._from = self._publisher.count

    def too_old(self, newest: int, age: float, asked: float) -> str:
        """A sentence if `newest` was too old to be shown as at most `age` seconds old at the monotonic time
        `asked`; otherwise an empty text."""
        unseen = max(newest + 1, self._from)
        stored = self._publisher.acknowledged(unseen)
        if stored is None or asked - stored <= age + TOLERANCE:
            return ""
        return (
            f"message {unseen} was acknowledged {asked - stored:.1f} s before, at most {age:g} s are reported"
        )


def pages(folder: Path, others: set[str]) -> dict[str, str]:
    """The settings of an app with the pages of the two viewers, written into `folder`. One page also reads
    the streams of the hostile publisher and of the neighbour, if they are among `others`."""
    folder.mkdir()
    more = ""
    if "hostile" in others:
        more += f'read_view("{HOSTILE}", look_back="PT1M")\n'
        more += 'read_view(None, "hostile.>", look_back="PT1M")\n'
    if "neighbour" in others:
        more += f'read_view("{BIG}", f"big.{{{{again{{int(time() / 60)}}}}}}", look_back="PT1H")\n'
    for name, source in NEXT_TO.items():
        (folder / name).write_text(source.replace("# more\n", more))
    return {"LOOKBACK_PAGES": str(folder)}


def _wrong_with(found: Services) -> str:
    """The differences between the list of services and the one honest service; an empty text if there are
    none."""
    if found.names != [HONEST] or not found.malformed:
        return f"{found.names}, {found.malformed} malformed"
    alive = [each for each in found.instances if not each.gone]
    names = [sorted(each.name for each in one.endpoints) for one in alive]
    if names != [["count", "echo", "fail", "most", "slow", "start"]]:
        return f"{names}"
    asked = {each.requests for one in alive for each in one.endpoints}
    return "" if asked == {0} else f"requests {asked}"


async def _fill(nc: Any) -> None:
    stream = nc.jetstream(timeout=20)
    await stream.add_stream(name=BIG, subjects=["big.*"], num_replicas=3)
    for i in range(MANY):
        if i % 2000:
            await nc.publish("big.a", b'{"v":%d}' % i)
        else:
            await stream.publish("big.a", b'{"v":%d}' % i)
    await stream.publish("big.a", b'{"v":-1}')


async def _quiet(_: Exception) -> None:
    pass
