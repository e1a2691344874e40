"""Lists of streams in a cluster with a node that does not answer."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from nats_client import Client, Settings
from nats_client.errors import RequestFailed, RequestTimeout
from tests.cluster import running_cluster
from tests.waiting import until


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_one_silent_node_hides_no_stream(tmp_path: Path, number: int) -> None:
    """If a frozen or killed node holds the only replica of a stream, that stream is listed as away. The other
    streams and buckets are listed with their state, in less than half the time that the server itself takes,
    and can be read. The newest messages of many streams are requested at once, and streams that are away are
    reported."""
    with running_cluster(tmp_path) as cluster:

        async def make(nc: Any) -> None:
            js = nc.jetstream(timeout=5)
            for name in ("GOOD", "LOST"):
                await js.add_stream(
                    name=name, subjects=[f"{name}.>"], num_replicas=3 if name == "GOOD" else 1
                )
                await js.publish(f"{name}.a", b"1", headers={"Nats-Msg-Id": "1"})  # once, even if retried
            await js.create_key_value(bucket="settings", replicas=3)

        cluster.run(make)
        lost = cluster.leader("LOST")
        urls = [node.url for name, node in cluster.nodes.items() if name != lost]
        with Client(Settings(url=",".join(urls))) as client:
            assert client.wait(30)
            assert not any(stream.away for stream in client.streams())
            cluster.nodes[lost].signal(number)

            def away() -> list[str]:
                try:
                    return [stream.name for stream in client.streams() if stream.away]
                except RequestFailed:  # if the node led the cluster, until there is another leader
                    return []

            until(lambda: away() == ["LOST"], 60)
            began = time.monotonic()
            assert [(stream.name, stream.messages) for stream in client.streams()] == [
                ("GOOD", 1),
                ("LOST", 1),
            ]
            assert [bucket.name for bucket in client.buckets()] == ["settings"]
            assert time.monotonic() - began < 4  # the server waits 4 s for a node, for each list
            within, alone = 1.0, time.monotonic()
            found = client.newest_each(["LOST"], within=within)
            assert isinstance(found["LOST"], RequestTimeout)
            alone, began = time.monotonic() - alone, time.monotonic()
            found = client.newest_each([*["LOST"] * 8, "GOOD", "NONE"], within=within)
            assert time.monotonic() - began < 3 * max(alone, within)  # and not 8 times as long
            assert isinstance(found["LOST"], RequestTimeout)
            assert isinstance(found["GOOD"], tuple)
            assert (found["GOOD"][0], found["GOOD"][2], found["NONE"]) == ("GOOD.a", b"1", None)
            feed = client.feed("GOOD")
            assert feed.wait(30)
            assert len(feed.snapshot()) == 1
            if number == signal.SIGSTOP:
                cluster.nodes[lost].signal(signal.SIGCONT)
