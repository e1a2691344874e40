"""What the app does with the embedded server: prints its URL, and ends at the end of its input."""

import asyncio
import sys

from services.embedded import embedded


async def main() -> None:
    async with embedded() as logins:
        print(logins["dashboard"]["url"], flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
