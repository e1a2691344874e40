"""Back up and restore a stream over the JetStream API, as `nats stream backup` does.

The API is JSApiStreamSnapshot and JSApiStreamRestore of
https://github.com/nats-io/nats-server/blob/main/server/jetstream_api.go
"""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Backup:
    """The parts of a snapshot."""

    config: dict[str, Any]
    state: dict[str, Any]
    data: bytes


async def snapshot(nc: Any, stream: str) -> Backup:
    """The stream as it is now."""
    address = nc.new_inbox()
    chunks = await nc.subscribe(address)
    request = {"deliver_subject": address, "no_consumers": True}
    answer = await nc.request(f"$JS.API.STREAM.SNAPSHOT.{stream}", json.dumps(request).encode(), timeout=10)
    reply = json.loads(answer.data)
    assert "error" not in reply, reply
    data = []
    while True:
        chunk = await chunks.next_msg(10)
        if not chunk.data:
            break
        data.append(chunk.data)
        if chunk.reply:
            await chunk.respond(b"")
    await chunks.unsubscribe()
    return Backup(reply["config"], reply["state"], b"".join(data))


async def restore(nc: Any, stream: str, backup: Backup) -> None:
    """Restore the stream. There must be no stream of its name."""
    request = json.dumps({"config": backup.config, "state": backup.state}).encode()
    answer = json.loads((await nc.request(f"$JS.API.STREAM.RESTORE.{stream}", request, timeout=10)).data)
    assert "error" not in answer, answer
    for at in range(0, len(backup.data), 65536):
        await nc.request(answer["deliver_subject"], backup.data[at : at + 65536], timeout=10)
    last = await nc.request(answer["deliver_subject"], b"", timeout=10)
    assert "error" not in json.loads(last.data), last.data
