"""A real Chromium over its DevTools protocol, for what only a browser can show.

The protocol is used directly, because the usual test drivers keep every tab "visible" and focused. One
question here is what a hidden tab does.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from bench.stage import running, until

FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-background-networking --no-first-run"


@dataclass
class Tab:
    """One tab, and the messages of its websockets: for each its time in seconds and its size in bytes."""

    socket: ClientConnection
    received: list[tuple[float, int]] = field(default_factory=list)
    sent: list[tuple[float, int]] = field(default_factory=list)
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def call(self, method: str, **arguments: object) -> dict[str, Any]:
        """Send a command of the DevTools protocol and wait up to 20 s for its answer."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send(json.dumps({"id": number, "method": method, "params": arguments}))
        async with asyncio.timeout(20):
            return await self._answers[number]

    async def value(self, expression: str) -> Any:
        """Evaluate JavaScript in the page and await the result if it is a promise."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = await self.call("Runtime.evaluate", **asked)
        return answer["result"].get("value")

    async def listen(self) -> None:
        """Receive answers and events until the browser ends."""
        async for text in self.socket:
            message = json.loads(text)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message.get("result", {}))
            elif message["method"] == "Network.webSocketFrameReceived":
                self._note(self.received, message["params"])
            elif message["method"] == "Network.webSocketFrameSent":
                self._note(self.sent, message["params"])

    @staticmethod
    def _note(messages: list[tuple[float, int]], event: dict[str, Any]) -> None:
        binary, data = event["response"]["opcode"] == 2, event["response"]["payloadData"]
        messages.append((event["timestamp"], len(base64.b64decode(data)) if binary else len(data)))


def find_chromium() -> str:
    """The browser on PATH."""
    return shutil.which("chromium") or shutil.which("google-chrome") or "chromium"


@contextlib.asynccontextmanager
async def chromium(binary: str | None = None, cores: set[int] | None = None) -> AsyncIterator[str]:
    """Run a headless Chromium with a fresh profile, on these cores; yields the address of its DevTools."""
    binary = binary or find_chromium()
    with tempfile.TemporaryDirectory(prefix="lookback-bench-", ignore_cleanup_errors=True) as profile:
        command = [binary, *FLAGS.split(), f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        log, port = Path(profile) / "chromium.log", Path(profile) / "DevToolsActivePort"
        with running([*command, "about:blank"], log=log, cores=cores):
            await until(
                lambda: port.exists() and port.read_text().count("\n") == 1, 20, lambda: log.read_text()
            )
            yield "ws://127.0.0.1:{}{}".format(*port.read_text().split())


@contextlib.asynccontextmanager
async def tab(devtools: str, url: str, *, window: bool = False, script: str = "") -> AsyncIterator[Tab]:
    """Open a tab in front of the other tabs, or in a `window` of its own, and go to `url`.

    Messages are counted from the first one on. `script` is JavaScript that runs in the page before anything
    else.
    """
    base = devtools.partition("/devtools/")[0]
    async with connect(devtools, max_size=None, compression=None) as browser:
        create = {
            "id": 0,
            "method": "Target.createTarget",
            "params": {"url": "about:blank", "newWindow": window},
        }
        await browser.send(json.dumps(create))
        target = json.loads(await browser.recv())["result"]["targetId"]
    async with connect(f"{base}/devtools/page/{target}", max_size=None, compression=None) as socket:
        found = Tab(socket)
        listening = asyncio.create_task(found.listen())
        try:
            await found.call("Network.enable")
            if script:
                await found.call("Page.enable")
                await found.call("Page.addScriptToEvaluateOnNewDocument", source=script)
            await found.call("Page.navigate", url=url)
            yield found
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await socket.send(json.dumps({"id": -1, "method": "Page.close"}))
