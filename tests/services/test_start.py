"""The modules that a program beside the app loads at its start."""

import subprocess
import sys
from pathlib import Path

from tests.nats import running_server
from tests.running import ROOT, free_port

CONNECT = """
import asyncio, logging, sys
from services.program import connect
from nats_client import Settings

async def main(urls):
    for url in urls:
        client = await connect(Settings(url=url), "program", logging.getLogger())
        print("aiohttp.client" in sys.modules, client.is_connected)
        await client.close()

asyncio.run(main(sys.argv[1:]))
"""


def test_aiohttp_is_loaded_for_websockets_only(tmp_path: Path) -> None:
    """A program loads aiohttp, which takes longer than everything else, only when it connects to a ws://
    URL."""
    port = free_port()
    with running_server(tmp_path, f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}') as server:
        command = [sys.executable, "-c", CONNECT, server.url, f"ws://127.0.0.1:{port}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "False True\nTrue True\n", done.stdout + done.stderr
