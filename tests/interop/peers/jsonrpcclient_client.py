"""A client of jsonrpcclient and requests, as its README shows one; prints what it got as JSON."""

import json
import sys

import requests
from jsonrpcclient import Error, Ok, notification, parse, request
from questions import answers


def post(message, **headers):
    return requests.post(sys.argv[1], json=message, headers=headers, timeout=20)


def call(method, params=None, **headers):
    return told(parse(post(request(method, params), **headers).json()))


def told(response):
    if isinstance(response, Ok):
        return {"result": response.result}
    assert isinstance(response, Error)
    return {"code": response.code, "message": response.message, "data": response.data}


def notify(message):
    response = post(message)
    assert (response.status_code, response.text) == (204, "")


seen = answers(call)
notify(notification("note", ("jsonrpcclient",)))
notify(notification("unknown", (1,)))
notify([notification("note", ("jsonrpcclient, nothing else",))])
batch = [
    request("subtract", (5, 3)),
    notification("note", ("jsonrpcclient in a batch",)),
    request("unknown"),
    request("subtract", {"minuend": 1, "subtrahend": 2}),
    request("fail"),
]
seen["batch"] = [told(item) for item in parse(post(batch).json())]
seen["private with a token"] = call("secret", **{"X-Api-Token": "right"})
print(json.dumps(seen))
