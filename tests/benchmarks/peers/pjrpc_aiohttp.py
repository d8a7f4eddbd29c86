"""pjrpc on aiohttp, as its README shows it, without an access log. Port from BENCH_PORT."""

import os

import pjrpc.server
from aiohttp import web
from pjrpc.server.integration import aiohttp

methods = pjrpc.server.MethodRegistry()


@methods.add()
async def add(a: int, b: int) -> int:
    return a + b


if __name__ == "__main__":
    application = aiohttp.Application("/api")
    application.add_methods(methods)
    port = int(os.environ["BENCH_PORT"])
    web.run_app(application.http_app, host="127.0.0.1", port=port, access_log=None, print=None)
