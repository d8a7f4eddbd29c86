"""httpx's AsyncClient through asyncio.run."""

import asyncio

import httpx
from places import WEB


async def ask(n):
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{WEB}/{n}", timeout=10)).json()["n"]


def work(n):
    return asyncio.run(ask(n))
