"""Starts runs of the workflow "waiting" on request, each until it is ended: python serving.py URL."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from services.workflow import Workflow, serve


async def wait(workflow: Workflow) -> None:
    """One run."""
    with workflow.step("wait"):
        await asyncio.Event().wait()


async def main(url: str) -> None:
    """Serve until killed."""
    async with serve("waiting", wait, url=url):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
