"""jsonrpcclient and requests: as its README shows it, and with a session."""

import requests
from jsonrpcclient import Ok, parse, request


def readme(url, requests=requests):
    def add(a, b):
        response = requests.post(url, json=request("add", {"a": a, "b": b}), timeout=10)
        parsed = parse(response.json())
        assert isinstance(parsed, Ok), parsed
        return parsed.result

    return add


def session(url):
    return readme(url, requests.Session())
