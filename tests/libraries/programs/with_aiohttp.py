"""aiohttp through asyncio.run."""

import asyncio

import aiohttp
from places import WEB


async def ask(n):
    async with aiohttp.ClientSession() as session, session.get(f"{WEB}/{n}") as reply:
        return (await reply.json())["n"]


def work(n):
    return asyncio.run(ask(n))
