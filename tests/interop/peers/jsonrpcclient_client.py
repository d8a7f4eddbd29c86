"""A client of jsonrpcclient and requests, as its README shows one; prints what it got as JSON."""

import json
import sys

import requests
from jsonrpcclient import Error, Ok, notification, parse, request

URL = sys.argv[1]


def call(method, params=None, **headers):
    response = requests.post(URL, json=request(method, params), headers=headers, timeout=20)
    return told(parse(response.json()))


def told(response):
    if isinstance(response, Ok):
        return {"result": response.result}
    assert isinstance(response, Error)
    return {"code": response.code, "message": response.message, "data": response.data}


def notify(method, params):
    response = requests.post(URL, json=notification(method, params), timeout=20)
    return [response.status_code, response.text]


def batch(*items):
    response = requests.post(URL, json=list(items), timeout=20)
    return [told(item) for item in parse(response.json())] if response.text else None


VALUE = {"value": [None, True, 0, 2**70, 2.5, "h\u00e9 \U0001d11e", [], {}]}

seen = {
    "by position": call("subtract", (42, 23)),
    "by name": call("subtract", {"minuend": 42, "subtrahend": 23}),
    "value unchanged": call("echo", (VALUE,)) == {"result": VALUE},
    "nothing": call("nothing"),
    "unknown": call("unknown"),
    "too few": call("subtract", (1,)),
    "unknown name": call("subtract", {"minuend": 1, "subtrahend": 2, "other": 3}),
    "wrong type": call("subtract", ("a", "b")),
    "application error": call("fail"),
    "private": call("secret"),
    "private with a token": call("secret", **{"X-Api-Token": "right"}),
    "notification": notify("note", ("jsonrpcclient",)),
    "unknown notification": notify("unknown", (1,)),
    "batch": batch(
        request("subtract", (5, 3)),
        notification("note", ("jsonrpcclient in a batch",)),
        request("unknown"),
        request("subtract", {"minuend": 1, "subtrahend": 2}),
        request("fail"),
    ),
    "batch of notifications": batch(notification("note", ("jsonrpcclient, nothing else",))),
}
print(json.dumps(seen))
