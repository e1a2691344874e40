"""The machine that a dashboard runs on: asleep for a while, or with a clock that is wrong.

Slow, because a sleeper has to sleep until the server has given it up, and rows have to grow old.
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
    """A nats-server that soon gives up who does not answer, with a stream S."""
    with running_server(tmp_path, 'ping_interval: "1s"\nping_max: 2') as server:
        server.add_stream("S", ["s.>"])
        yield server


def test_asleep(server: NatsServer) -> None:
    """A machine that sleeps for longer than the server waits for its consumer goes on where it was."""
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
    """The look-back is counted from the server's clock: the same rows as with a clock that is right."""
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
    """What was still to come and is purged is not waited for."""

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
