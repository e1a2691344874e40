"""The whole app on its own disk, which fills up and is then freed, in a real browser.

`unshare -Urm python -m tests.full_disk` runs it in its own namespace, whose mount is gone when the process
ends.
"""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect

from tests.browser import chromium
from tests.embedded import login
from tests.nats import connect_nats
from tests.running import app
from tests.waiting import until

SIZE = "64m"


def stored(data_dir: Path) -> int:
    """The last sequence of the demo's stream."""

    async def ask() -> int:
        client = await connect_nats(**login(data_dir))
        try:
            return int((await client.jetstream().stream_info("METRICS")).state.last_seq)
        finally:
            await client.close()

    with ThreadPoolExecutor(1) as thread:  # Playwright already runs a loop in this thread
        return thread.submit(lambda: asyncio.run(ask())).result()


@contextmanager
def small_disk() -> Iterator[tuple[Path, Path]]:
    """A folder, and the mount point of a small disk in it."""
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder) / "data"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", disk], check=True)
        try:
            yield Path(folder), disk
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)


def main(shots: Path | None) -> None:
    """Check that the page reports a full disk, and that figures are stored again once there is room."""
    with small_disk() as (folder, disk), app(folder) as running, chromium() as browser:
        page = browser.new_page()
        page.goto(running.url)
        word, full = page.locator(".lb-word"), page.get_by_text("the disk with the data")
        expect(word).to_have_text("Live", timeout=60_000)
        fill = disk / "fill"
        with fill.open("wb", buffering=0) as out:
            try:
                while True:
                    out.write(bytes(65536))
            except OSError:
                pass
        expect(full).to_be_visible(timeout=60_000)
        expect(word).to_have_text("Stale")
        if shots:
            page.screenshot(path=shots / "full-disk.png")
        fill.unlink()
        expect(full).to_be_hidden(timeout=60_000)
        expect(word).to_have_text("Live", timeout=60_000)
        before = stored(disk)
        until(lambda: stored(disk) > before)
        log = running.log.read_text()
        assert log.count("Nothing is stored any more") == 1
        assert log.count("stores messages again") == 1


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
