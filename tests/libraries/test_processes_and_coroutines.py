"""Libraries that start processes or run coroutines, in methods that overlap."""

import importlib.util
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.machine import absent

#: What a method does; three at once, beside a method that tells whether it sees their loop.
METHODS = {
    "joblib": """
import joblib
def method():
    return joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-n) for n in range(4))
""",
    "joblib_multiprocessing": """
import joblib
def method():
    work = (joblib.delayed(abs)(-n) for n in range(4))
    return joblib.Parallel(n_jobs=2, backend="multiprocessing")(work)
""",
    "anyio": """
import anyio
async def main():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.01)
    return await anyio.to_thread.run_sync(lambda: 5)
def method():
    return anyio.run(main)
""",
    "asgiref": """
import asyncio
from asgiref.sync import async_to_sync, sync_to_async
async def main():
    await asyncio.sleep(0.01)
    return await sync_to_async(lambda: 6)()
def method():
    return async_to_sync(main)()
""",
    "nest_asyncio": """
import asyncio, nest_asyncio
async def inner():
    await asyncio.sleep(0.01)
    return 7
def method():
    loop = asyncio.new_event_loop()
    nest_asyncio.apply(loop)
    async def outer():
        return loop.run_until_complete(inner())
    try:
        return loop.run_until_complete(outer())
    finally:
        loop.close()
""",
    "aiohttp": """
import asyncio, aiohttp
async def main():
    url = service.url.replace("127.0.0.1", "localhost")
    async with aiohttp.ClientSession() as session, session.post(url, json=PING) as response:
        return (await response.json())["result"]
def method():
    return asyncio.run(main())
""",
    "httpx": """
import asyncio, httpx
async def main():
    async with httpx.AsyncClient() as client:
        return (await client.post(service.url, json=PING)).json()["result"]
def method():
    return gemstone_sync.run_async(main())
""",
    "uvloop": """
import uvloop
async def main():
    return 8
def method():
    try:
        coroutine = main()
        return uvloop.run(coroutine)
    except RuntimeError as error:
        coroutine.close()
        return str(error).partition(":")[0]
""",
    "trio": """
import trio
async def main():
    return 9
def method():
    try:
        return trio.run(main)
    except RuntimeError as error:
        return str(error).partition(":")[0]
""",
}

ANSWERS = {
    "joblib": [0, 1, 2, 3],
    "joblib_multiprocessing": [0, 1, 2, 3],
    "anyio": 5,
    "asgiref": 6,
    "nest_asyncio": 7,
    "aiohttp": "pong",
    "httpx": "pong",
    "uvloop": "uvloop waits in C, where every other call of this process waits too",
    "trio": "trio does not run in a process that gevent has patched",
}

SERVICE = """
import asyncio, json, sys, threading

import gemstone_sync

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}

METHOD

class Service(gemstone_sync.MicroService):
    name = "libraries"
    host, port = "127.0.0.1", 0
    skip_configuration = True

    @gemstone_sync.exposed_method()
    def ping(self):
        return "pong"

    @gemstone_sync.exposed_method()
    def work(self):
        return method()

    @gemstone_sync.exposed_method()
    def sees_a_loop(self):
        return asyncio._get_running_loop() is not None

service = Service()
if __name__ == "__main__":
    service.start(block=False)
    client = gemstone_sync.RemoteService(service.url, timeout=40, total_timeout=40)
    calls = [client.call_method_async("work") for _ in range(3)]
    seen = set()
    while not all(call.finished() for call in calls):
        seen.add(client.methods.sees_a_loop())
    print(json.dumps([[call.result() for call in calls], list(seen)]))
    service.stop()
"""


@pytest.mark.slow  # needs the libraries
@pytest.mark.parametrize("name", METHODS)
def test_three_calls_at_once(run_python: Callable[..., Any], name: str) -> None:
    library = name.removesuffix("_multiprocessing")
    if importlib.util.find_spec(library) is None:
        absent(f"{library} is not installed")
    ended = run_python(SERVICE.replace("METHOD", METHODS[name]))
    assert (ended.stderr, ended.returncode) == ("", 0)
    assert json.loads(ended.stdout) == [[ANSWERS[name]] * 3, [False]]
