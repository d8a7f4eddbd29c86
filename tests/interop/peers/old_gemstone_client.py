"""RemoteService of gemstone 0.10.1, as its documentation shows it; prints what it got as JSON."""

import json
import sys

import gemstone
from gemstone.client.structs import MethodCall, Notification

VALUE = {"value": [None, True, 0, 2**70, 2.5, "h\u00e9 \U0001d11e", [], {}]}

client = gemstone.RemoteService(sys.argv[1])


def told(result):
    return {"result": result.result, "error": result.error}


def call(method, params=None):
    return told(client.call_method(method, params))


def batch():
    calls = [
        MethodCall("subtract", [5, 3]),
        MethodCall("unknown"),
        MethodCall("subtract", {"minuend": 1, "subtrahend": 2}),
        MethodCall("fail"),
    ]
    results = client.call_batch(
        calls[0], Notification("note", ["old-gemstone in a batch"]), *calls[1:]
    )
    return [told(results.get_response_for_call(item)) for item in calls]


def waited_for():
    handles = [client.call_method_async("echo", [number]) for number in range(20)]
    return [handle.result(wait=True).result for handle in handles]


def as_completed():
    handles = [client.call_method_async("echo", [number]) for number in range(5)]
    return sorted(handle.result().result for handle in gemstone.as_completed(*handles))


def asynchronous_error():
    handle = client.call_method_async("fail")
    found = told(handle.result(wait=True))
    assert handle.finished()
    assert handle.successful()  # of the HTTP exchange, with this version
    return found


seen = {
    "by position": call("subtract", [42, 23]),
    "by name": call("subtract", {"minuend": 42, "subtrahend": 23}),
    "value unchanged": call("echo", [VALUE])["result"] == VALUE,
    "nothing": call("nothing"),
    "unknown": call("unknown"),
    "too few": call("subtract", [1]),
    "unknown name": call("subtract", {"minuend": 1, "subtrahend": 2, "other": 3}),
    "wrong type": call("subtract", ["a", "b"]),
    "application error": call("fail"),
    "private": call("secret"),
    "specs": call("get_service_specs"),
    "notification": client.notify("note", ["old-gemstone"]),
    "unknown notification": client.notify("unknown", [1]),
    "batch": batch(),
    "async": waited_for(),
    "as_completed": as_completed(),
    "async error": asynchronous_error(),
}
print(json.dumps(seen))
