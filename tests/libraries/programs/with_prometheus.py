"""prometheus_client: a counter, a histogram, and its own server."""

import time
from urllib.request import urlopen

from prometheus_client import Counter, Histogram, start_http_server

CALLS = Counter("calls", "Calls by number.", ["n"])
SECONDS = Histogram("seconds", "How long they took.")
server, _ = start_http_server(0, "127.0.0.1")


def work(n):
    with SECONDS.time():
        CALLS.labels(n).inc()
        time.sleep(0.3)
    with urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as reply:
        assert f'calls_total{{n="{n}"}} 1.0'.encode() in reply.read()
    return n
