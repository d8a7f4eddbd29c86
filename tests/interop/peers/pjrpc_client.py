"""A client of pjrpc on requests, as its README shows one; prints what it got as JSON."""

import json
import sys

import pjrpc
import requests
from pjrpc.client.backend import requests as backend
from pjrpc.client.exceptions import JsonRpcError, MethodNotFoundError
from pjrpc.common import BatchRequest, Request

VALUE = {"value": [None, True, 0, 2**70, 2.5, "h\u00e9 \U0001d11e", [], {}]}


def told(call):
    try:
        return {"result": call()}
    except JsonRpcError as error:
        data = None if error.data is pjrpc.common.UNSET else error.data
        return {"code": error.code, "message": error.message, "data": data}


def told_of(response):
    return told(response.unwrap_result)


def is_not_found(client):
    try:
        client.proxy.unknown(1)
    except MethodNotFoundError:
        return True
    return False


def call_with_a_token(url):
    session = requests.Session()
    session.headers["X-Api-Token"] = "right"
    with session, backend.Client(url, session=session) as client:
        return told(lambda: client("secret"))


def results_of_a_batch(client):
    with client.batch() as batch:
        batch("subtract", 5, 3)
        batch.notify("note", "pjrpc in a batch")
        batch("subtract", minuend=1, subtrahend=2)
    return list(batch.get_results())


def mixed_batch(client):
    response = client.send(
        BatchRequest(
            Request("subtract", [5, 3], id="a"),
            Request("unknown", id=2),
            Request("fail", id=3),
        )
    )
    return [[item.id, told_of(item)] for item in response]


def batch_of_notifications(client):
    with client.batch() as batch:
        batch.notify("note", "pjrpc, nothing else")
    return list(batch.get_results())


with backend.Client(sys.argv[1]) as client:
    seen = {
        "by position": told(lambda: client("subtract", 42, 23)),
        "by name": told(lambda: client.proxy.subtract(minuend=42, subtrahend=23)),
        "value unchanged": client("echo", VALUE) == VALUE,
        "nothing": told(lambda: client("nothing")),
        "unknown": told(lambda: client("unknown")),
        "not found is its class": is_not_found(client),
        "too few": told(lambda: client("subtract", 1)),
        "unknown name": told(lambda: client("subtract", minuend=1, subtrahend=2, other=3)),
        "wrong type": told(lambda: client("subtract", "a", "b")),
        "application error": told(lambda: client("fail")),
        "private": told(lambda: client("secret")),
        "private with a token": call_with_a_token(sys.argv[1]),
        "notification": client.notify("note", "pjrpc"),
        "unknown notification": client.notify("unknown", 1),
        "batch": results_of_a_batch(client),
        "mixed batch": mixed_batch(client),
        "batch of notifications": batch_of_notifications(client),
    }
print(json.dumps(seen))
