"""Replay a whole stream into a DataFrame, one way or the other, in a process of its own.

    python -m bench.replay ours|filtered|theirs URL N

prints the seconds from the subscription to the DataFrame, with the connection made beforehand.
"""

import asyncio
import json
import sys
import time
from typing import Any

import nats
import pandas as pd
from nats.js.api import ConsumerConfig, DeliverPolicy

from bench.stage import SERIES, sample_at

STREAM, SUBJECTS = "REPLAY", "replay.>"


async def fill(url: str, count: int) -> None:
    """Create the stream with `count` messages, ten series in turn."""
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    await jetstream.add_stream(name=STREAM, subjects=[SUBJECTS])
    now = time.time()
    for n in range(count):
        await connection.publish(f"replay.s{n % SERIES}", sample_at(n % SERIES, now + n / 1000))
        # Plain publishing is fast but not acknowledged: let the server store what it has every so often.
        if n % 10_000 == 9_999:
            await jetstream.publish(f"replay.s{SERIES}", b"{}")
            await jetstream.purge_stream(STREAM, subject=f"replay.s{SERIES}")
    await jetstream.publish(f"replay.s{SERIES}", b"{}")  # stored after all before it
    await jetstream.purge_stream(STREAM, subject=f"replay.s{SERIES}")
    stored = (await jetstream.stream_info(STREAM)).state.messages
    await connection.close()
    if stored != count:
        raise RuntimeError(f"{stored:,} messages stored, {count:,} sent")


WHERE, COLUMNS = "value > 24.5", {"half": "value / 2"}
"""The filter of the filtered replay, which keeps about half of the messages, and its computed column."""


def ours(url: str, count: int, **filtered: Any) -> tuple[float, pd.DataFrame]:
    """Replay with this app's client: a feed, perhaps with `where` and `columns`. Returns the seconds and the
    rows."""
    from nats_client import Client, Settings  # here, so that the rival's process does not import it

    with Client(Settings(url=url)) as client:
        client.streams()  # returns once connected
        start = time.perf_counter()
        feed = client.feed(STREAM, SUBJECTS, look_back="PT1H", **filtered)
        if not feed.wait(120):
            raise TimeoutError(f"replay not done: {feed.health}")
        frame = feed.frame()
        return time.perf_counter() - start, frame


async def theirs(url: str, count: int) -> tuple[float, pd.DataFrame]:
    """Replay as the plain recipe does: an ordered consumer and a list of dicts. Returns the seconds and the
    rows."""
    connection = await nats.connect(url)
    start = time.perf_counter()
    everything = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
    subscription = await connection.jetstream().subscribe(SUBJECTS, ordered_consumer=True, config=everything)
    rows = []
    async for message in subscription.messages:
        rows.append({"subject": message.subject, **json.loads(message.data)})
        if len(rows) == count:
            break
    frame = pd.DataFrame(rows)
    spent = time.perf_counter() - start
    await connection.close()
    return spent, frame


def main() -> None:
    """Run one side, check its number of rows and print its seconds."""
    side, url, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if side == "filtered":
        spent, frame = ours(url, count, where=WHERE, columns=COLUMNS)
        if not 0.2 * count < len(frame) < 0.8 * count or (frame["half"] != frame["value"] / 2).any():
            raise RuntimeError(f"{len(frame):,} rows of {count:,} kept")
        print(spent)
        return
    spent, frame = ours(url, count) if side == "ours" else asyncio.run(theirs(url, count))
    if len(frame) != count or frame["value"].isna().any():
        raise RuntimeError(f"{len(frame):,} rows of {count:,} replayed")
    print(spent)


if __name__ == "__main__":
    main()
