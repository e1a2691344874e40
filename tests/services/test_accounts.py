"""The permissions of roles and users of the embedded server, tested against the real one."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from tests.embedded import login, vended_login
from tests.nats import connect_nats
from tests.services.stand_ins import App

API = "$JS.data.API"
TIMEOUT = 30.0
ORIGIN = "http://127.0.0.1:8501"
PAUSE = 0.4
"""Seconds within which a forbidden action must have no effect."""

MATRIX = """
                                      viewer  analyst  operator  dashboard  broker
list streams                            -       yes      yes       yes        -
look at METRICS                         yes     yes      yes       yes        -
replay METRICS                          yes     yes      yes       yes        -
get a message of METRICS                yes     yes      yes       yes        -
replay PRIVATE                          -       yes      yes       yes        -
watch thresholds                        yes     yes      yes       yes        -
history of a threshold                  yes     yes      yes       yes        -
watch the bucket private                -       yes      yes       yes        -
listen to metrics                       -       -        -         yes        -
find services                           -       yes      yes       yes        -
ask history                             -       yes      yes       yes        -
start a workflow                        -       -        yes       yes        -
ask for a token                         -       -        -         -          yes
put a threshold                         -       -        yes       -          -
put into the bucket host                -       -        -         -          -
publish to METRICS                      -       -        -         -          -
report as a workflow                    -       -        -         -          -
delete a message of METRICS             -       -        yes       -          -
purge METRICS                           -       -        yes       -          -
purge PRIVATE                           -       -        -         -          -
delete a stream                         -       -        -         -          -
make a stream                           -       -        -         -          -
read all inboxes                        -       -        -         -          -
read somebody's inbox                   -       -        -         -          -
subscribe to everything                 -       -        -         -          -
subscribe to buckets                    -       -        -         -          -
answer as history                       -       -        -         -          -
deliver to all of somebody's inboxes    -       -        -         -          -
deliver to a service                    -       -        -         -          -
deliver into a bucket                   -       -        -         -          -
have answers start a workflow           -       -        -         -          -
have answers put into a bucket          -       -        -         -          -
ask the system account                  -       -        -         -          -
ask JetStream in its own account        -       -        -         -          -
"""


class DeniedError(Exception):
    """The server has reported a permissions violation."""


class Person:
    """A connected user."""

    def __init__(self, client: Client, inbox: str, errors: "asyncio.Queue[str]", data_dir: Path) -> None:
        self.client = client
        self.inbox = inbox
        self.data_dir = data_dir
        self._errors = errors

    async def ask(self, subject: str, payload: Any = None) -> bytes:
        """The payload of the reply. Raises DeniedError."""
        body = (
            payload
            if isinstance(payload, bytes)
            else b""
            if payload is None
            else json.dumps(payload).encode()
        )
        return (await self._or_denied(self.client.request(subject, body, timeout=TIMEOUT))).data

    async def publish(self, subject: str, reply: str = "") -> None:
        """Publish. Raises DeniedError."""
        await self.client.publish(subject, b"{}", reply=reply)
        await self._checked()

    async def subscribe(self, subject: str) -> None:
        """Subscribe. Raises DeniedError."""
        await self.client.subscribe(subject)
        await self._checked()

    async def consume(self, stream: str, subject: str, deliver: str = "") -> Any:
        """The first message of a consumer that delivers to the user's own inbox. If it delivers elsewhere,
        the error code instead. Raises DeniedError."""
        own = f"{self.inbox}.consumer"
        listening = await self.client.subscribe(own)
        config = {
            "name": f"matrix{time.monotonic_ns()}",
            "deliver_subject": deliver or own,
            "deliver_policy": "all",
            "ack_policy": "none",
            "filter_subject": subject,
            "inactive_threshold": 2 * 10**9,
            "mem_storage": True,
        }
        create = f"{API}.CONSUMER.CREATE.{stream}.{config['name']}.{subject}"
        answer = json.loads(await self.ask(create, {"stream_name": stream, "config": config}))
        if deliver:
            return answer.get("error", {}).get("err_code")
        return await listening.next_msg(TIMEOUT)

    async def _checked(self) -> None:
        await self.client.flush()
        with contextlib.suppress(TimeoutError):  # nats-py reports errors a little later
            async with asyncio.timeout(PAUSE):
                raise DeniedError(await self._errors.get())

    async def _or_denied(self, work: Awaitable[Msg]) -> Msg:
        working = asyncio.ensure_future(work)
        denied = asyncio.ensure_future(self._errors.get())
        try:
            await asyncio.wait({working, denied}, return_when=asyncio.FIRST_COMPLETED)
            if denied.done():
                raise DeniedError(denied.result())
            return working.result()
        finally:
            for one in (working, denied):
                one.cancel()
            await asyncio.gather(working, denied, return_exceptions=True)


async def no_error(answer: Awaitable[bytes]) -> bool:
    """True if JetStream replies without an error. Raises AssertionError otherwise."""
    reply = json.loads(await answer)
    assert "error" not in reply, reply
    return True


async def listed(who: Person) -> bool:
    names = {one["config"]["name"] for one in json.loads(await who.ask(f"{API}.STREAM.LIST"))["streams"]}
    return {"METRICS", "PRIVATE", "KV_thresholds"} <= names


async def replayed(who: Person, stream: str, subject: str) -> bool:
    message = await who.consume(stream, subject)
    return len(message.data) > 0


async def received(who: Person, subject: str, work: Callable[[], Awaitable[Any]]) -> bool:
    """True if a subscriber at `subject` in SERVICES receives a message while `work` runs."""
    async with connected(login(who.data_dir, "services")) as service:
        listening = await service.client.subscribe(subject)
        await service.client.flush()
        await work()
        try:
            await listening.next_msg(PAUSE)
        except nats.errors.TimeoutError:
            return False
        return True


async def changed(who: Person, work: Callable[[], Awaitable[Any]]) -> bool:
    """True if `work` stores something in the bucket thresholds."""
    async with connected(login(who.data_dir)) as data:
        js = data.client.jetstream()
        before = (await js.stream_info("KV_thresholds")).state.last_seq
        await work()
        await asyncio.sleep(PAUSE)
        return (await js.stream_info("KV_thresholds")).state.last_seq != before


async def listened(who: Person) -> bool:
    await who.subscribe("metrics.>")
    return True


async def replies_to(who: Person, subject: str) -> None:
    """Send a request that every role may send, with `subject` as its reply subject."""
    with contextlib.suppress(DeniedError):
        await who.publish(f"{API}.STREAM.INFO.METRICS", reply=subject)


async def everywhere(who: Person) -> bool:
    """True if a consumer may deliver to all inboxes of another user whose name is known."""
    return await who.consume("METRICS", "metrics.cpu.total", "_INBOX_app.dashboard.>") is None


async def deleted(who: Person) -> bool:
    async with connected(login(who.data_dir)) as data:
        seq = (await data.client.jetstream().stream_info("METRICS")).state.last_seq
    return await no_error(who.ask(f"{API}.STREAM.MSG.DELETE.METRICS", {"seq": seq}))


async def done(work: Awaitable[Any]) -> bool:
    await work
    return True


NEW = {"name": "NEW", "subjects": ["new"]}
ACTIONS: dict[str, Callable[[Person], Awaitable[bool]]] = {
    "list streams": listed,
    "look at METRICS": lambda who: no_error(who.ask(f"{API}.STREAM.INFO.METRICS")),
    "replay METRICS": lambda who: replayed(who, "METRICS", "metrics.cpu.total"),
    "get a message of METRICS": lambda who: no_error(
        who.ask(f"{API}.STREAM.MSG.GET.METRICS", {"last_by_subj": "metrics.cpu.total"})
    ),
    "replay PRIVATE": lambda who: replayed(who, "PRIVATE", "private.>"),
    "watch thresholds": lambda who: replayed(who, "KV_thresholds", "$KV.thresholds.>"),
    "history of a threshold": lambda who: replayed(who, "KV_thresholds", "$KV.thresholds.memory"),
    "watch the bucket private": lambda who: replayed(who, "KV_private", "$KV.private.>"),
    "listen to metrics": listened,
    "find services": lambda who: done(who.ask("$SRV.PING.history")),
    "ask history": lambda who: done(who.ask("history.tables")),
    "start a workflow": lambda who: done(who.ask("workflow-start.matrix")),
    "ask for a token": lambda who: done(who.ask("tokens.mint")),
    "put a threshold": lambda who: no_error(who.ask("$KV.thresholds.cpu", b"91")),
    "put into the bucket host": lambda who: done(who.ask("$KV.host.cpu.model", b'"mine"')),
    "publish to METRICS": lambda who: done(who.publish("metrics.cpu.total")),
    "report as a workflow": lambda who: done(who.publish("workflow.mine.1.-.-.started")),
    "delete a message of METRICS": deleted,
    "purge METRICS": lambda who: no_error(who.ask(f"{API}.STREAM.PURGE.METRICS", {"filter": "metrics.x"})),
    "purge PRIVATE": lambda who: done(who.ask(f"{API}.STREAM.PURGE.PRIVATE")),
    "delete a stream": lambda who: done(who.ask(f"{API}.STREAM.DELETE.PRIVATE")),
    "make a stream": lambda who: done(who.ask(f"{API}.STREAM.CREATE.NEW", NEW)),
    "read all inboxes": lambda who: done(who.subscribe("_INBOX_app.>")),
    "read somebody's inbox": lambda who: done(who.subscribe("_INBOX_app.somebody.>")),
    "subscribe to everything": lambda who: done(who.subscribe(">")),
    "subscribe to buckets": lambda who: done(who.subscribe("$KV.>")),
    "answer as history": lambda who: done(who.subscribe("history.query")),
    "deliver to all of somebody's inboxes": everywhere,
    "deliver to a service": lambda who: received(
        who, "history.query", lambda: who.consume("METRICS", "metrics.cpu.total", "history.query")
    ),
    "deliver into a bucket": lambda who: changed(
        who, lambda: who.consume("METRICS", "metrics.cpu.total", "$KV.thresholds.cpu")
    ),
    "have answers start a workflow": lambda who: received(
        who, "workflow-start.matrix", lambda: replies_to(who, "workflow-start.matrix")
    ),
    "have answers put into a bucket": lambda who: changed(who, lambda: replies_to(who, "$KV.thresholds.cpu")),
    "ask the system account": lambda who: done(who.ask("$SYS.REQ.SERVER.PING")),
    "ask JetStream in its own account": lambda who: done(who.ask("$JS.API.STREAM.INFO.METRICS")),
}


def cells() -> Iterator[tuple[str, str, bool]]:
    """The cells of the matrix: action, role, and True if the role may do it."""
    head, *rows = MATRIX.strip("\n").split("\n")
    for row in rows:
        action, marks = row[:38].strip(), row[38:].split()
        for role, mark in zip(head.split(), marks, strict=True):
            assert mark in ("yes", "-")
            yield action, role, mark == "yes"


@asynccontextmanager
async def connected(options: dict[str, Any], data_dir: Path = Path()) -> AsyncIterator[Person]:
    """A user who logs in with the given arguments of nats.connect."""
    errors: asyncio.Queue[str] = asyncio.Queue()

    async def on_error(error: Exception) -> None:
        errors.put_nowait(str(error))

    client = await connect_nats(**options, allow_reconnect=False, error_cb=on_error)
    try:
        yield Person(client, options["inbox_prefix"], errors, data_dir)
    finally:
        await client.close()


def user(data_dir: Path, name: str) -> dict[str, Any]:
    """The login of a role's user, or of one of the app's own users."""
    return login(data_dir, name) if name in ("dashboard", "broker") else vended_login(data_dir, name)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a running embedded server, with a stream and a bucket that only administrators
    may read."""
    data_dir = tmp_path_factory.mktemp("accounts") / "data"
    app = App(data_dir, ORIGIN)
    try:
        app.url()
        asyncio.run(fill(data_dir))
        yield data_dir
    finally:
        app.kill()


async def fill(data_dir: Path) -> None:
    """Create what only administrators may read, and wait for the demo's data and services."""
    async with connected(login(data_dir)) as data:
        js = data.client.jetstream()
        await js.add_stream(name="PRIVATE", subjects=["private.>"])
        await js.publish("private.a", b"{}")
        await (await js.create_key_value(bucket="private")).put("a", b"1")
        for wanted in (("METRICS", "metrics.cpu.total"), ("KV_thresholds", "$KV.thresholds.memory")):
            await comes(lambda wanted=wanted: has(js, *wanted))  # type: ignore[misc]
    async with connected(login(data_dir, "services")) as services:
        await comes(lambda: answers(services.client, "history.tables"))


async def comes(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not await true():  # noqa: ASYNC110 - the server tells of it in no other way
            await asyncio.sleep(0.1)


async def has(js: JetStreamContext, stream: str, subject: str) -> bool:
    try:
        return bool((await js.get_last_msg(stream, subject)).data)
    except nats.errors.Error:
        return False


async def answers(client: Client, subject: str) -> bool:
    try:
        return bool((await client.request(subject, timeout=TIMEOUT)).data)
    except nats.errors.NoRespondersError:
        return False


@asynccontextmanager
async def answering(data_dir: Path, *subjects: str) -> AsyncIterator[None]:
    """A subscriber in SERVICES that replies to requests at `subjects`."""

    async def answer(message: Msg) -> None:
        if message.reply:
            await message.respond(b"{}")

    async with connected(login(data_dir, "services")) as services:
        for subject in subjects:
            await services.client.subscribe(subject, cb=answer)
        await services.client.flush()
        yield


@pytest.mark.parametrize(("action", "role", "allowed"), list(cells()))
def test_matrix(running: Path, action: str, role: str, allowed: bool) -> None:
    """Each role may do exactly what the table lists; the server refuses anything else at once."""

    async def main() -> bool:
        async with (
            answering(running, "workflow-start.matrix", "tokens.mint"),
            connected(user(running, role), running) as who,
        ):
            try:
                return await ACTIONS[action](who)
            except DeniedError:
                return False

    assert asyncio.run(main()) is allowed


def test_matrix_is_whole() -> None:
    """Every action is in the table, with a mark for each role."""
    assert [action for action, role, _ in cells() if role == "viewer"] == list(ACTIONS)
