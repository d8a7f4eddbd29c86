"""RemoteService of gemstone 0.10.1, as its documentation shows it; prints what it got as JSON."""

import json
import sys

import gemstone
from gemstone.client.structs import MethodCall, Notification
from questions import answers

client = gemstone.RemoteService(sys.argv[1])


def told(result):
    assert result.result is None or result.error is None
    return {"result": result.result} if result.error is None else result.error


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


seen = answers(lambda method, params: told(client.call_method(method, params)))
assert client.notify("note", ["old-gemstone"]) is None
assert client.notify("unknown", [1]) is None
seen["batch"] = batch()
seen["specs"] = client.call_method("get_service_specs").result

handles = [client.call_method_async("echo", [number]) for number in range(20)]
assert [handle.result(wait=True).result for handle in handles] == list(range(20))
handles = [client.call_method_async("echo", [number]) for number in range(5)]
assert sorted(one.result().result for one in gemstone.as_completed(*handles)) == list(range(5))
handle = client.call_method_async("fail")
assert told(handle.result(wait=True)) == seen["application error"]
assert handle.finished()
assert handle.successful()  # of the HTTP exchange, with this version
print(json.dumps(seen))
