"""A server of flask-jsonrpc, as its README shows one, on werkzeug."""

from typing import Any

from flask import Flask
from flask_jsonrpc import JSONRPC
from flask_jsonrpc.exceptions import JSONRPCError
from werkzeug.serving import make_server

NOTED: list[str] = []

app = Flask("peer")
jsonrpc = JSONRPC(app, "/api")


@jsonrpc.method("subtract")
def subtract(minuend: int, subtrahend: int) -> int:
    return minuend - subtrahend


@jsonrpc.method("echo")
def echo(value: Any) -> Any:
    return value


@jsonrpc.method("nothing")
def nothing() -> None:
    return None


@jsonrpc.method("note")
def note(word: str) -> None:
    NOTED.append(word)


@jsonrpc.method("noted")
def noted() -> list[str]:
    return NOTED


@jsonrpc.method("fail")
def fail() -> None:
    raise JSONRPCError(message="Out of stock", code=1001, data={"left": 0})


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}/api", flush=True)
    server.serve_forever()
