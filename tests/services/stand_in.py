"""A stand-in for the app's use of the embedded server: prints its URL, and ends at the end of its input. Its
arguments are the origins of its pages."""

import asyncio
import sys

from services.embedded import embedded


async def main() -> None:
    async with embedded(sys.argv[1:]) as logins:
        print(logins["dashboard"]["url"], flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
