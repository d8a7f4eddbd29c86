"""asyncio.run in a method."""

import asyncio


async def slowly(n):
    await asyncio.sleep(0.3)
    return n


def work(n):
    return asyncio.run(slowly(n))
