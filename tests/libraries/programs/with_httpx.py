"""httpx, a client made when it is imported."""

import httpx
from places import WEB

client = httpx.Client()


def work(n):
    return client.get(f"{WEB}/{n}", timeout=10).json()["n"]
