"""jsonrpcclient and requests: as its README shows it, and with a session."""

import requests
from jsonrpcclient import Ok, parse, request


def result_of(response):
    parsed = parse(response.json())
    assert isinstance(parsed, Ok), parsed
    return parsed.result


def readme(url):
    def add(a, b):
        return result_of(requests.post(url, json=request("add", {"a": a, "b": b}), timeout=10))

    return add


def session(url):
    kept = requests.Session()

    def add(a, b):
        return result_of(kept.post(url, json=request("add", {"a": a, "b": b}), timeout=10))

    return add
