"""A client of pjrpc on requests, as its README shows one; prints what it got as JSON."""

import contextlib
import json
import sys

import pjrpc
import requests
from pjrpc.client.backend import requests as backend
from pjrpc.client.exceptions import JsonRpcError, MethodNotFoundError
from pjrpc.common import BatchRequest, Request
from questions import answers


def told(call):
    try:
        return {"result": call()}
    except JsonRpcError as error:
        data = None if error.data is pjrpc.common.UNSET else error.data
        return {"code": error.code, "message": error.message, "data": data}


def call(method, params):
    named = params if isinstance(params, dict) else {}
    return told(lambda: client(method, *([] if named else params or []), **named))


def call_with_a_token(url):
    session = requests.Session()
    session.headers["X-Api-Token"] = "right"
    with session, backend.Client(url, session=session) as client:
        return told(client.proxy.secret)


def results_of_a_batch():
    with client.batch() as batch:
        batch("subtract", 5, 3)
        batch.notify("note", "pjrpc in a batch")
        batch("subtract", minuend=1, subtrahend=2)
    return list(batch.get_results())


def mixed_batch():
    requests = [
        Request("subtract", [5, 3], id="a"),
        Request("unknown", id=2),
        Request("subtract", {"minuend": 1, "subtrahend": 2}, id=3),
        Request("fail", id=4),
    ]
    answers = {item.id: told(item.unwrap_result) for item in client.send(BatchRequest(*requests))}
    return [answers[request.id] for request in requests]


def notify_in_a_batch():
    with client.batch() as batch:
        batch.notify("note", "pjrpc, nothing else")
    return list(batch.get_results())


with backend.Client(sys.argv[1]) as client:
    seen = answers(call)
    with contextlib.suppress(MethodNotFoundError):  # the class of its code
        client.proxy.unknown(1)
    assert client.notify("note", "pjrpc") is None
    assert client.notify("unknown", 1) is None
    assert notify_in_a_batch() == []
    assert results_of_a_batch() == [2, -1]
    seen["batch"] = mixed_batch()
    seen["private with a token"] = call_with_a_token(sys.argv[1])
print(json.dumps(seen))
