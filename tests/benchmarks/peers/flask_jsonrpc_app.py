"""flask-jsonrpc, as its README shows it; gunicorn -k gevent loads `flask_jsonrpc_app:app`."""

from flask import Flask
from flask_jsonrpc import JSONRPC

app = Flask("benchmark")
jsonrpc = JSONRPC(app, "/api")


@jsonrpc.method("add")
def add(a: int, b: int) -> int:
    return a + b
