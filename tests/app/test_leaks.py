"""After many sessions, edits and lost connections, the app holds no more than before.

Slow, because what one session, edit or lost connection leaves behind shows only after many.
"""

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from bench.viewer import Viewer
from tests.nats import NatsServer, running_server
from tests.running import App, app, free_port
from tests.waiting import until

SESSIONS = 1000
EDITS = 100
LOST = 10
AT_ONCE = 8
PAGE = '''"""Hands."""
import asyncio, gc, json, pathlib, threading, time
from components import downloads, latest_values, line_chart, live, newest_rows

rows = live("S", "s.>", look_back="PT1H")
line_chart(rows, y="n", by="_subject")
latest_values(rows, "n")
newest_rows(rows)
downloads(rows, "S")
looks = [0]
for _ in range(10 if {count} else 0):
    looks.append(sum(isinstance(each, asyncio.Task) and not each.done() for each in gc.get_objects()))
    time.sleep(0.2)
names = sorted(thread.name for thread in threading.enumerate())
# A request or an update under way is not in each look
pathlib.Path({file!r}).write_text(json.dumps([{number}, min(looks[1:] or looks), names]))
'''
SCRIPT = "ScriptRunner.scriptThread"
SETTINGS = "ThreadPoolExecutor-0_"
"""Threads with which Streamlit polls its settings files every 0.2 s (polling_path_watcher.py). The pool has
at most four threads and grows, by chance, when none is idle."""
SLOW = "push slow_"
"""Our own two threads for slow elements; each is started when an element is first slow, as on a busy
machine."""
POOLS = (SETTINGS, SLOW)


class Hands:
    """One app, its page, and measurements of the resources it holds."""

    def __init__(self, running: App, server: NatsServer, monitor: int, folder: Path) -> None:
        self.url = running.url
        self._server = server
        self._monitor = monitor
        self._page = folder / "pages" / "hands.py"
        self._report = folder / "told.json"
        self._process = psutil.Process(running.process.pid)
        self.number = 0

    def edit(self, *, count: bool = False) -> None:
        """Write the page anew. `count`: have it report its tasks and threads."""
        self.number += 1
        self._page.write_text(PAGE.format(count=count, file=str(self._report), number=self.number))

    async def look(self) -> None:
        """Open a session, refresh once, and leave."""
        viewer = Viewer(self.url)
        await viewer.open()
        await viewer.refresh()
        await viewer.close()

    async def sessions(self, count: int) -> None:
        """Open and close `count` sessions, up to AT_ONCE at a time."""
        door = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with door:
                await self.look()

        await asyncio.gather(*(one() for _ in range(count)))

    async def seen(self, viewer: Viewer) -> tuple[int, list[str]]:
        """Refresh until the page as last written has run; return its number of tasks and its threads'
        names."""
        async with asyncio.timeout(60):
            while True:
                await viewer.refresh()
                number, tasks, names = json.loads(self._report.read_text())
                if number == self.number:
                    return int(tasks), names

    async def _subscriptions(self) -> int:
        """The number of inbox subscriptions, for requests and consumers: the least of ten counts, because a
        client that has just ended is still in some of them."""
        looks = []
        for _ in range(10):
            looks.append(await asyncio.to_thread(self._subscriptions_now))
            await asyncio.sleep(0.2)
        return min(looks)

    def _subscriptions_now(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor}/subsz?subs=1&limit=5000") as answer:
            return sum("_INBOX" in s["subject"] for s in json.load(answer)["subscriptions_list"])

    async def _threads(self, names: list[str]) -> int:
        """The number of threads of the process, including those not started by Python, without those of POOLS
        in `names`. It is the least of ten counts, because threads that are about to end are still in some of
        them."""
        looks = []
        for _ in range(10):
            looks.append(int(self._process.num_threads()))
            await asyncio.sleep(0.2)
        return min(looks) - sum(name.startswith(POOLS) for name in names)

    async def held(self) -> dict[str, Any]:
        """The resources the app holds once all sessions but one have ended."""
        await asyncio.sleep(4)  # closed sessions are removed after a second
        viewer = Viewer(self.url)
        await viewer.open()
        self.edit(count=True)
        tasks, names = await self.seen(viewer)
        self.edit()
        await self.seen(viewer)
        await viewer.close()
        return {
            "threads": await self._threads(names),
            "names": [name for name in names if name != SCRIPT and not name.startswith(POOLS)],
            "files": self._process.num_fds(),
            "tasks": tasks,
            "consumers": len(self._server.run(lambda nc: nc.jetstream().consumers_info("S"))),
            "subscriptions": await self._subscriptions(),
            "memory": self._process.memory_info().rss,
        }


def test_nothing_leaks(tmp_path: Path) -> None:
    """After a thousand sessions, a hundred edits and ten lost connections, the app has no more threads,
    tasks, consumers, subscriptions or open files than before. Memory grows by less than 20 MB."""
    (tmp_path / "pages").mkdir()
    monitor = free_port()
    with running_server(tmp_path / "nats", f'http: "127.0.0.1:{monitor}"') as server:
        server.add_stream("S", ["s.>"])
        server.publish("s.a", *(b'{"n": %d}' % i for i in range(200)))
        env = {
            "NATS_URL": server.url,
            "LOOKBACK_PAGES": str(tmp_path / "pages"),
            "STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL": "1",
        }
        (tmp_path / "pages" / "hands.py").write_text('"""Hands."""')
        with app(tmp_path, **env) as running:
            asyncio.run(_use(Hands(running, server, monitor, tmp_path), server))


async def _use(hands: Hands, server: NatsServer) -> None:
    hands.edit()
    await hands.sessions(SESSIONS // 10)
    before = await hands.held()

    await hands.sessions(SESSIONS)
    viewer = Viewer(hands.url)
    await viewer.open()
    for _ in range(EDITS):
        hands.edit()
        await hands.seen(viewer)
    for number in range(LOST):
        server.kill()
        await viewer.refresh()
        server.start()
        server.publish("s.a", b'{"n": %d}' % number)
        until(lambda: server.run(lambda nc: nc.jetstream().consumers_info("S")))
        await viewer.refresh()
    await viewer.close()

    after = await hands.held()
    memory = after.pop("memory") - before.pop("memory")
    for name in ("tasks", "subscriptions"):
        assert after.pop(name) <= before.pop(name)  # the first sessions may still have been ending
    assert after == before
    assert memory < 20_000_000
