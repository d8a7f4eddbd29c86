"""urllib3, a pool of one connection that calls wait for."""

import urllib3
from places import WEB

pool = urllib3.PoolManager(maxsize=1, block=False)


def work(n):
    return pool.request("GET", f"{WEB}/{n}").json()["n"]
