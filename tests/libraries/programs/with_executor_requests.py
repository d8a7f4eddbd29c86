"""requests in the service's executor."""

import requests
from places import WEB


def slowly(n):
    return requests.get(f"{WEB}/{n}", timeout=10).json()["n"]


def work(n, service):
    return service.get_executor().submit(slowly, n).result()
