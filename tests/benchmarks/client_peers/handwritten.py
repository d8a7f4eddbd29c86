"""JSON-RPC calls written by hand: what people write who use no client, from the barest up.

Each returns the result of a checked reply; the identifier counts up, as it must.
"""

import http.client
import itertools
import json
import socket
from urllib.parse import urlsplit

ids = itertools.count(1)
HEADERS = {"Content-Type": "application/json"}


def message(a, b, method="add"):
    return {"jsonrpc": "2.0", "method": method, "params": {"a": a, "b": b}, "id": next(ids)}


def raw_socket(url):
    """One connection, no HTTP parsed: the least that a call over a socket costs in Python."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    )

    def add(a, b):
        body = json.dumps(message(a, b))
        connection.sendall(f"{head}{len(body)}\r\n\r\n{body}".encode())
        return json.loads(connection.recv(65536).partition(b"\r\n\r\n")[2])["result"]

    return add


def http_client(url):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.connect()
    # Head and body are two sends; without this each call waits 40 ms for the first one's ACK.
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def add(a, b):
        connection.request("POST", parts.path, json.dumps(message(a, b)), HEADERS)
        return json.loads(connection.getresponse().read())["result"]

    return add


def urllib3_pool(url):
    import urllib3

    pool = urllib3.PoolManager(timeout=10)

    def add(a, b):
        body = json.dumps(message(a, b))
        return json.loads(pool.request("POST", url, body=body, headers=HEADERS).data)["result"]

    return add


def requests_post(url):
    """What the documentation of most JSON-RPC services shows."""
    import requests

    return lambda a, b: requests.post(url, json=message(a, b), timeout=10).json()["result"]


def requests_session(url):
    import requests

    session = requests.Session()
    return lambda a, b: session.post(url, json=message(a, b), timeout=10).json()["result"]


def many(url, method="add"):
    """A session in as many greenlets as there are calls, its pool as large."""
    import gevent
    import requests

    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=100))

    def call(a, b):
        return session.post(url, json=message(a, b, method), timeout=30).json()["result"]

    return lambda count: [g.get() for g in [gevent.spawn(call, 1, 2) for _ in range(count)]]


def naps(url):
    return many(url, "nap")
