"""A server of pjrpc on aiohttp, as its README shows one."""

import socket

import pjrpc.server
from aiohttp import web
from offered import METHODS
from pjrpc.server.exceptions import JsonRpcError
from pjrpc.server.integration import aiohttp

methods = pjrpc.server.MethodRegistry()
for method in METHODS:
    methods.add()(method)


@methods.add()
async def fail():
    raise JsonRpcError(code=1001, message="Out of stock", data={"left": 0})


if __name__ == "__main__":
    application = aiohttp.Application("/api")
    application.add_methods(methods)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/api", flush=True)
    web.run_app(application.http_app, sock=listener, access_log=None, print=None)
