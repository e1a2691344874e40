"""A million messages at full speed, while thirty viewers refresh.

Slow, because the promise is a million messages.
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import psutil

from bench.viewer import Audience
from tests.nats import connect_nats, running_server
from tests.running import app

MESSAGES = 1_000_000
VIEWERS = 30
CEILING = 512 * 1024 * 1024
"""The default ceiling of a feed, in bytes."""
PAGE = '''"""Burst."""
import json, pathlib
from components import line_chart, live, newest_rows

rows = live("S", "s.>", look_back="PT1H")
line_chart(rows, y="n", by="_subject")
newest_rows(rows)
seq, health = rows.snapshot.seq, rows.health
unbroken = bool((seq[1:] == seq[:-1] + 1).all())
result = [len(seq), int(seq[0]), int(seq[-1]), unbroken, health.dropped, health.bytes]
pathlib.Path({file!r}).write_text(json.dumps(result))
'''


async def publish(url: str) -> None:
    """Publish at full speed: only every thousandth message waits for its acknowledgement."""
    nc = await connect_nats(url)
    js = nc.jetstream(timeout=30)
    for n in range(MESSAGES):
        subject, payload = f"s.{n % 10}", b'{"n": %d}' % (n % 1000)
        if n % 1000 == 999:
            await js.publish(subject, payload)
        else:
            await nc.publish(subject, payload)
    await nc.close()


def test_burst(tmp_path: Path) -> None:
    """Every message becomes a row, in order, and memory stays below its ceiling. Every viewer gets refreshes
    throughout."""
    file = tmp_path / "told.json"
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "burst.py").write_text(PAGE.format(file=str(file)))
    with running_server(tmp_path / "nats") as server:
        server.add_stream("S", ["s.>"])
        server.publish("s.0", b'{"n": 0}')
        with app(tmp_path, NATS_URL=server.url, LOOKBACK_PAGES=str(tmp_path / "pages")) as running:
            process = psutil.Process(running.process.pid)

            async def watched() -> tuple[Audience, list[int], float, list[Any]]:
                sizes = []
                async with Audience(running.url, VIEWERS) as audience:
                    before = process.memory_info().rss
                    began = time.monotonic()
                    publishing = asyncio.create_task(asyncio.to_thread(asyncio.run, publish(server.url)))
                    # `page` keeps the first complete result: a slow viewer may write an older one later.
                    while not publishing.done() or (page := _result(file))[0] < MESSAGES + 1:
                        assert time.monotonic() - began < 240, _result(file)
                        sizes.append(process.memory_info().rss - before)
                        audience.check()
                        await asyncio.sleep(0.2)
                    await publishing
                    return audience, sizes, time.monotonic() - began, page

            audience, sizes, took, page = asyncio.run(watched())
    rows, first, last, unbroken, dropped, held = page
    assert (rows, first, last, unbroken, dropped) == (MESSAGES + 1, 1, MESSAGES + 1, True, 0)
    assert held < CEILING
    assert max(sizes) < CEILING
    assert all(len(viewer.refreshes) >= took // 2 for viewer in audience.viewers)


def _result(file: Path) -> list[Any]:
    """The result that the page wrote last; `[0]` if it is just being written."""
    try:
        return list(json.loads(file.read_text()))
    except ValueError:
        return [0]
