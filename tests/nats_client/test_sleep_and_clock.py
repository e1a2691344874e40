"""The machine that runs a dashboard sleeps for a while, or its clock is wrong.

Slow, because a sleeping client has to be dropped by the server, and rows have to leave the look-back.
"""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nats import NatsServer, running_server
from tests.publisher import Publisher
from tests.reader import Reader
from tests.waiting import until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server that soon drops clients that do not answer, with a stream S."""
    with running_server(tmp_path, 'ping_interval: "1s"\nping_max: 2') as server:
        server.add_stream("S", ["s.>"])
        yield server


def test_asleep(server: NatsServer) -> None:
    """A machine that sleeps until the server has deleted its consumer continues where it was, and misses no
    message."""
    with Publisher([server.url]) as publisher, Reader(server.url, "S", "PT1H") as reader:
        until(lambda: len(reader.now["seqs"]) > 200)
        reader.process.send_signal(signal.SIGSTOP)
        until(lambda: not server.run(lambda nc: nc.jetstream().consumers_info("S")))
        before = publisher.count
        reader.process.send_signal(signal.SIGCONT)
        until(lambda: len(reader.now["seqs"]) > before)
        publisher.pause()
        until(lambda: reader.now["seqs"] == list(range(1, publisher.count + 1)))
        assert reader.now["restarts"] >= 1
        assert reader.now["phase"] == "following"


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_clock_is_an_hour_off(server: NatsServer, ahead: float) -> None:
    """The look-back is measured by the server's clock: a client whose own clock is an hour off has the right
    rows."""
    server.publish("s.a", *(json.dumps({"n": i}).encode() for i in range(100)))
    stored = time.monotonic()
    with Reader(server.url, "S", "PT5S", ahead, opens=False) as reader:
        until(lambda: reader.now["phase"] == "connected")
        time.sleep(max(0, stored + 6 - time.monotonic()))
        server.publish("s.a", *(json.dumps({"n": i}).encode() for i in range(50)))
        reader.open()  # a start of the process takes longer than the look-back, on a busy machine
        until(lambda: reader.now["phase"] == "following")
        seen = [state["seqs"] for state in reader.states if state["seqs"]]
        assert seen
        assert seen[0] == list(range(101, 151))
        until(lambda: reader.now["seqs"] == [])
        assert [state["seqs"][-1] for state in reader.states if state["seqs"]][-1] == 150


def test_purged_while_asleep_in_a_replay(server: NatsServer) -> None:
    """A replay does not wait for messages that were purged while the machine slept."""

    async def fill(nc: Any) -> None:
        for number in range(400_000):
            publish = nc.jetstream().publish if number % 1000 == 999 else nc.publish
            await publish("s.a", b'{"n": %d}' % number)

    server.run(fill)
    with Reader(server.url, "S", "PT1H") as reader:
        until(lambda: reader.now["phase"] == "replaying")
        reader.process.send_signal(signal.SIGSTOP)
        server.run(lambda nc: nc.jetstream().purge_stream("S"))
        reader.process.send_signal(signal.SIGCONT)
        until(lambda: reader.now["phase"] == "following")
        until(lambda: reader.now["seqs"] == [])
        assert max(len(state["seqs"]) for state in reader.states) < 400_000
