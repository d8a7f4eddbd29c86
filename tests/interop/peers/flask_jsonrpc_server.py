"""A server of flask-jsonrpc, as its README shows one, on werkzeug."""

from flask import Flask
from flask_jsonrpc import JSONRPC
from flask_jsonrpc.exceptions import JSONRPCError
from offered import METHODS
from werkzeug.serving import make_server

app = Flask("peer")
jsonrpc = JSONRPC(app, "/api")

for method in METHODS:
    jsonrpc.method(method.__name__)(method)


@jsonrpc.method("fail")
def fail() -> None:
    raise JSONRPCError(message="Out of stock", code=1001, data={"left": 0})


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}/api", flush=True)
    server.serve_forever()
