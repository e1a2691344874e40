"""Random faults against a live feed: `make soak`, `make soak SEED=7 MINUTES=4`.

With `--long` (`make soak LONG=1`) the long forms come first, once each: all nodes down for 90 s, the
connected node frozen for three minutes, this machine asleep for two.

The run has a cluster of three, a replicated stream, a publisher of numbered messages, and one feed. The same
client also reads a hostile publisher's feeds and a busy neighbour's replays, and two viewers use an app that
reads them, too (tests/crowd.py; `--without hostile,neighbour,viewers` leaves some of them out). Each fault is
drawn from the seed that is printed first. After each fault, the feed's rows must equal the stream's messages,
by sequence and by payload, and the other users must be well. In between, rows must ascend, and no feed and no
page that reports live data may be older than it reports.

The last line counts lost and doubled rows (doubled ones are rows that appear twice, or that the stream does
not have), everything else that was wrong, the faults, and the feed's restarts. The exit code is 0 only if
nothing was wrong.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nats.errors

from nats_client import Client, Settings
from tests.backup import restore, snapshot
from tests.cluster import Cluster, running_cluster
from tests.crowd import TOLERANCE, Hostile, Judge, Neighbour, Viewers, pages
from tests.publisher import Publisher
from tests.running import app

STREAM = "S"
SETTLE = 60.0  # seconds within which a feed must equal its stream again
FROZEN = 8.0  # seconds that a node is frozen
ASLEEP = 13.0  # seconds that this process is frozen: longer than the server keeps a consumer for us
OTHERS = ("hostile", "neighbour", "viewers")
UNREAD, LONG_UNREAD = 60.0, 300.0  # seconds after which the client closes a feed without a reader
LONG_DOWN, LONG_FROZEN, LONG_ASLEEP = 90.0, 180.0, 120.0  # seconds, with --long


class Soak:
    """One run: the cluster, its publisher, the feed, and the counts."""

    def __init__(
        self,
        cluster: Cluster,
        publisher: Publisher,
        client: Client,
        seed: int,
        *,
        hostile: Hostile | None = None,
        neighbour: Neighbour | None = None,
        viewers: Viewers | None = None,
        judge: Judge,
    ) -> None:
        self.hostile, self.neighbour, self.viewers = hostile, neighbour, viewers
        self.judge = judge
        self.old = 0
        self.cluster = cluster
        self.publisher = publisher
        self.client = client
        self.feed = client.feed(STREAM, look_back="PT1H")
        self.random = random.Random(seed)
        self.lost = 0
        self.doubled = 0
        self.faults = 0
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._watcher.join()

    def _watch(self) -> None:
        """Check what must always hold: rows ascend, none appears twice, and live data is as new as
        reported."""
        awake = checked = time.monotonic()
        while not self._ended.wait(0.25):
            asked = time.monotonic()
            if asked - checked > 2:
                awake = asked  # we were asleep, and must first read the messages stored meanwhile
            checked = asked
            was = self.feed.health.phase
            rows = self.feed.snapshot()
            if wrong := int((rows.seq[1:] <= rows.seq[:-1]).sum()):
                print(f"{wrong} rows out of order", flush=True)
                self.doubled += wrong
            live = was == self.feed.health.phase == "following"
            if not (live and len(rows) and "n" in rows.columns and asked - awake > TOLERANCE):
                continue
            if fault := self.judge.too_old(int(rows.numbers("n")[-1]), 0.0, asked):
                print(f"the feed says following: {fault}", flush=True)
                self.old += 1

    def round(self, *faults: "Callable[[Soak], None]") -> None:
        """Bring about `faults`, and then check the feed and the other users."""
        for fault in faults:
            print(f"{self.faults + 1}. {fault.__name__}", flush=True)
            fault(self)
            self.faults += 1
            self.judge.forget()
        self.check()
        if self.hostile is not None:
            self.hostile.check(SETTLE)
        if self.neighbour is not None:
            self.neighbour.check()
        if self.viewers is not None:
            self.viewers.check(SETTLE)

    @property
    def wrong(self) -> int:
        """Faults besides lost and doubled rows: those of the other users, and live data that was too old."""
        others = (self.hostile, self.neighbour, self.viewers)
        return self.old + sum(len(each.faults) for each in others if each is not None)

    def check(self) -> None:
        """Wait until the feed equals the stream. If it never does, count the lost and the doubled rows."""
        self.publisher.pause()
        deadline = time.monotonic() + SETTLE
        while True:
            expected = self.cluster.run(_contents)
            rows = self.feed.snapshot()
            numbers = rows.numbers("n").astype(int).tolist() if "n" in rows.columns else []
            seen = Counter(zip(rows.seq.tolist(), numbers, strict=True))
            lost, extra = expected - seen, seen - expected
            live = self.feed.health.phase == "following"
            if live and not lost and not extra:
                break
            if time.monotonic() > deadline:
                print(
                    f"lost {sorted(lost)[:5]}, too many {sorted(extra)[:5]}, {self.feed.health}", flush=True
                )
                self.lost += lost.total() + (not live)
                self.doubled += extra.total()
                break
            time.sleep(0.5)
        self.publisher.resume()

    def node(self) -> str:
        """Any node."""
        return self.random.choice(list(self.cluster.nodes))

    def connected(self) -> str:
        """The node that the client is connected to, or was last."""
        return self.client.state.server_name or self.node()

    def js(self, work: Callable[[Any], Any]) -> Any:
        """The result of `work`, called with a JetStream context."""
        return self.cluster.run(lambda nc: work(nc.jetstream(timeout=10)))

    # -- the faults --------------------------------------------------------------------------------------

    def _down(self, *names: str, seconds: float | None = None) -> None:
        for name in names:
            self.cluster.nodes[name].kill()
        time.sleep(self.random.uniform(0.5, 5) if seconds is None else seconds)
        for name in names:
            self.cluster.nodes[name].start()
        self.cluster.settle(STREAM)

    def leader_killed(self) -> None:
        """The node that leads the stream is killed and comes back."""
        self._down(self.cluster.leader(STREAM))

    def connected_node_killed(self) -> None:
        """The node that we are connected to is killed and comes back."""
        self._down(self.connected())

    def two_killed(self) -> None:
        """Two of three nodes are killed and come back."""
        self._down(*self.random.sample(list(self.cluster.nodes), 2))

    def all_down_for_long(self) -> None:
        """All three nodes are killed, and come back much later."""
        self._down(*self.cluster.nodes, seconds=LONG_DOWN)

    def frozen(self, seconds: float = FROZEN) -> None:
        """The node that we are connected to is frozen for some seconds."""
        node = self.cluster.nodes[self.connected()]
        node.signal(signal.SIGSTOP)
        time.sleep(seconds)
        node.signal(signal.SIGCONT)
        self.cluster.settle(STREAM)

    def frozen_for_long(self) -> None:
        """The node that we are connected to is frozen for minutes."""
        self.frozen(LONG_FROZEN)

    def rolling_restart(self) -> None:
        """The nodes are restarted one after the other."""
        for node in self.cluster.nodes.values():
            node.stop()
            node.start()
            self.cluster.settle(STREAM)

    def asleep(self, seconds: float = ASLEEP) -> None:
        """This machine sleeps: this whole process is stopped."""
        subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"], start_new_session=True)
        os.kill(os.getpid(), signal.SIGSTOP)

    def asleep_for_long(self) -> None:
        """This machine sleeps for minutes."""
        self.asleep(LONG_ASLEEP)

    def consumer_deleted(self) -> None:
        """An administrator deletes all consumers of the stream."""

        async def delete(js: Any) -> None:
            for consumer in await js.consumers_info(STREAM):
                await js.delete_consumer(STREAM, consumer.name)

        self.js(delete)

    def purged(self) -> None:
        """The stream is emptied."""
        self.js(lambda js: js.purge_stream(STREAM))

    def partly_purged(self) -> None:
        """All messages of the stream but the newest are purged."""
        self.js(lambda js: js.purge_stream(STREAM, keep=self.random.randrange(1, 500)))

    def deleted(self) -> None:
        """Some of its newest messages are deleted one by one."""

        async def delete(js: Any) -> None:
            state = (await js.stream_info(STREAM)).state
            last = state.last_seq
            for seq in self.random.sample(range(max(1, last - 2000), last + 1), min(20, last)):
                try:
                    await js.delete_msg(STREAM, seq)
                except Exception as error:
                    if "no message found" not in str(error) and "sequence" not in str(error):
                        raise

        self.js(delete)

    def recreated(self) -> None:
        """The stream is deleted and created again."""
        self.judge.forget()
        self.js(lambda js: js.delete_stream(STREAM))
        create(self.cluster)

    def restored(self) -> None:
        """The stream is restored from a backup, after more messages were written to it."""
        backup = self.cluster.run(lambda nc: snapshot(nc, STREAM))
        time.sleep(2)
        self.js(lambda js: js.delete_stream(STREAM))
        self.cluster.run(lambda nc: restore(nc, STREAM, backup))
        self.cluster.settle(STREAM)

    def replicas_changed(self) -> None:
        """The stream goes from three replicas to one and back."""
        for _ in range(5):
            try:
                self._replicate(1)
                self.cluster.settle(STREAM, 20)
                self._replicate(3)
                self.cluster.settle(STREAM, 20)
                return
            except (AssertionError, nats.errors.TimeoutError):
                print("the cluster did not follow; asking again", flush=True)
        print("the cluster never took three replicas; making the stream anew", flush=True)
        self.recreated()

    def _replicate(self, count: int) -> None:
        self.js(lambda js: js.update_stream(name=STREAM, subjects=["s.>"], num_replicas=count))


LONG = [Soak.all_down_for_long, Soak.frozen_for_long, Soak.asleep_for_long]
FAULTS = [
    Soak.leader_killed,
    Soak.connected_node_killed,
    Soak.two_killed,
    Soak.frozen,
    Soak.rolling_restart,
    Soak.asleep,
    Soak.consumer_deleted,
    Soak.purged,
    Soak.partly_purged,
    Soak.deleted,
    Soak.recreated,
    Soak.restored,
    Soak.replicas_changed,
]


async def _contents(nc: Any) -> Counter[tuple[int, int]]:
    """The stream's contents: sequence and number of each message, read without our own code."""
    js = nc.jetstream(timeout=5)
    state = (await js.stream_info(STREAM)).state
    found: Counter[tuple[int, int]] = Counter()
    if not state.messages:
        return found
    reader = await js.subscribe("s.>", stream=STREAM, ordered_consumer=True)
    while found.total() < state.messages:
        message = await reader.next_msg(5)
        found[message.metadata.sequence.stream, json.loads(message.data)["n"]] += 1
    await reader.unsubscribe()
    return found


def create(cluster: Cluster) -> None:
    """Create the stream of the run."""
    cluster.run(lambda nc: nc.jetstream(timeout=5).add_stream(name=STREAM, subjects=["s.>"], num_replicas=3))
    cluster.settle(STREAM)


def main() -> int:
    """Run until the time is over. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Faults at random against a live feed.")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--long", action="store_true", help="the long forms first, once each")
    parser.add_argument("--without", default="", help=f"leave out some of {','.join(OTHERS)}")
    asked = parser.parse_args()
    without = set(filter(None, asked.without.split(",")))
    if unknown := without - set(OTHERS):
        parser.error(f"--without: there is no {', '.join(sorted(unknown))}, only {', '.join(OTHERS)}")
    print(f"seed {asked.seed}, {asked.minutes:g} minutes", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(running_cluster(folder))
        create(cluster)
        url = ",".join(cluster.urls)
        client = stack.enter_context(
            Client(Settings(url=url, idle_after=LONG_UNREAD if asked.long else UNREAD))
        )
        publisher = stack.enter_context(Publisher(cluster.urls, rate=200))
        judge = Judge(publisher)
        others: dict[str, Any] = {}
        if "hostile" not in without:
            others["hostile"] = stack.enter_context(Hostile(cluster, client, asked.seed))
        if "neighbour" not in without:
            others["neighbour"] = stack.enter_context(Neighbour(cluster, client))
        if "viewers" not in without:
            running = stack.enter_context(app(folder, NATS_URL=url, **pages(folder / "pages", set(others))))
            others["viewers"] = stack.enter_context(Viewers(running, judge))
        soak = Soak(cluster, publisher, client, asked.seed, judge=judge, **others)
        try:
            for fault in LONG if asked.long else []:
                soak.round(fault)
            end = time.monotonic() + asked.minutes * 60
            while time.monotonic() < end:
                soak.round(*soak.random.choices(FAULTS, k=soak.random.choice((1, 1, 2))))
        finally:
            soak.close()
        restarts = soak.feed.health.restarts
        if "neighbour" in others:
            print(f"replays beside it {others['neighbour'].replays}", flush=True)
        if "viewers" in others:
            others["viewers"].sum_up()
            print(f"refreshes {others['viewers'].refreshes}, live {others['viewers'].lives}", flush=True)
    counts = f"lost {soak.lost}, doubled {soak.doubled}, wrong {soak.wrong}, faults {soak.faults}"
    print(f"{counts}, restarts {restarts}", flush=True)
    return 1 if soak.lost or soak.doubled or soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
