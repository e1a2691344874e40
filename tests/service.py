"""A service made with nats-py's own `nats.micro`, in its own process: `python -m tests.service <urls>`.

Its endpoints: `echo` returns the payload, `count` the number of its requests, and `fail` a service error.
`slow` answers after the seconds in its payload. `most` answers after 0.2 s with the largest number of
requests it has had at once. `start` answers after two seconds with the key of a run, as a workflow does.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nats.micro import add_service
from nats.micro.request import Request, ServiceError

from tests.nats import connect_nats
from tests.running import ROOT


@contextmanager
def service(
    url: str, name: str = "tester", description: str = "Does as it is told"
) -> Iterator["subprocess.Popen[str]"]:
    """The service `name`, running and answering; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.service", url, name, description],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def _quiet(_: Exception) -> None:
    pass


async def main(url: str, name: str, description: str) -> None:
    """Serve until killed."""
    client = await connect_nats(url.split(","), max_reconnect_attempts=-1, error_cb=_quiet)
    counted = under_way = at_once = 0
    later: set[asyncio.Task[None]] = set()

    async def echo(request: Request) -> None:
        await request.respond(request.data, headers=request.headers or None)

    async def count(request: Request) -> None:
        nonlocal counted
        counted += 1
        await request.respond(str(counted).encode())

    async def most(request: Request) -> None:
        async def answer() -> None:
            nonlocal under_way
            await asyncio.sleep(0.2)
            under_way -= 1
            await request.respond(str(at_once).encode())

        nonlocal under_way, at_once
        under_way += 1
        at_once = max(at_once, under_way)
        later.add(asyncio.create_task(answer()))

    async def fail(_: Request) -> None:
        raise ServiceError("422", "the pump is not primed")

    async def slow(request: Request) -> None:
        await asyncio.sleep(float(request.data))
        await request.respond(b"at last")

    async def start(request: Request) -> None:
        await asyncio.sleep(2)
        await request.respond(b'{"key": "w.begun"}')

    running = await add_service(
        client, name=name, version="1.0.0", description=description, metadata={"site": "north"}
    )
    group = running.add_group(name=name)
    for handler in (echo, count, fail, slow, most, start):
        await group.add_endpoint(name=handler.__name__, handler=handler, metadata={"kind": handler.__name__})
    await client.flush()
    print("ready", flush=True)
    await running.stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
