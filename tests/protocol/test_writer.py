"""Messages -> bytes, byte for byte, in both wire formats."""

import json

import pytest

from gemstone_sync.errors import UNSET, ResponseTooLarge
from gemstone_sync.protocol import WIRE_FORMATS, ErrorObject, JsonRpcResponse

LIMIT = 10_000

STRICT = WIRE_FORMATS["jsonrpc"]
GEMSTONE = WIRE_FORMATS["gemstone"]


def result(value, request_id=1):
    return JsonRpcResponse(result=value, id=request_id)


def error(data=UNSET):
    return JsonRpcResponse(error=ErrorObject(-32601, "Method not found", data), id="a")


# JSON-RPC 2.0

ERROR = '{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"'


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (result("hello world"), '{"jsonrpc":"2.0","result":"hello world","id":1}'),
        (result(None), '{"jsonrpc":"2.0","result":null,"id":1}'),
        (result(False, 0), '{"jsonrpc":"2.0","result":false,"id":0}'),
        (result([], ""), '{"jsonrpc":"2.0","result":[],"id":""}'),
        (result({}, None), '{"jsonrpc":"2.0","result":{},"id":null}'),
        (result(0, 1.5), '{"jsonrpc":"2.0","result":0,"id":1.5}'),
        (result(1, 2**70), f'{{"jsonrpc":"2.0","result":1,"id":{2**70}}}'),
        (error(), f'{ERROR}}},"id":"a"}}'),
        (error(None), f'{ERROR},"data":null}},"id":"a"}}'),
        (error(0), f'{ERROR},"data":0}},"id":"a"}}'),
    ],
)
def test_strict_responses_have_a_result_or_an_error_and_no_blanks(response, text):
    assert STRICT.write_response(response, LIMIT).decode() == text


def test_strict_batches_are_lists_and_notifications_have_no_reply():
    assert STRICT.write_batch([b"1", b"2"]) == b"[1,2]"
    assert STRICT.notification_reply is None
    assert STRICT.empty_batch_reply is None


# What gemstone 0.10.1 wrote


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (result("hello"), '{"result": "hello", "error": null, "jsonrpc": "2.0", "id": 1}'),
        (result(None, 0), '{"result": null, "error": null, "jsonrpc": "2.0", "id": 0}'),
        (
            result({"a": [1, {"b": ",:"}], "c": []}),
            '{"result": {"a": [1, {"b": ",:"}], "c": []}, "error": null, "jsonrpc": "2.0", '
            '"id": 1}',
        ),
        (
            error(["x"]),
            '{"result": null, "error": {"code": -32601, "message": "Method not found", '
            '"data": ["x"]}, "jsonrpc": "2.0", "id": "a"}',
        ),
    ],
)
def test_gemstone_responses_have_both_members_and_blanks(response, text):
    assert GEMSTONE.write_response(response, LIMIT).decode() == text


def test_gemstone_batches_are_lists_and_notifications_have_a_reply():
    assert GEMSTONE.write_batch([b"1", b"2"]) == b"[1, 2]"
    assert GEMSTONE.notification_reply == b'{"result": null, "error": null, "jsonrpc": "2.0"}'
    assert GEMSTONE.empty_batch_reply == b"[]"


@pytest.mark.parametrize(
    "value", ['é\\"\n', 10**400, 1e300, -0.0, [[]], {"": {}}, list(range(300)), "x:,{ }[ ]"]
)
def test_gemstone_blanks_change_no_value(value):
    """Bytes are as `json.dumps` would write them, which is what the old library used."""
    written = GEMSTONE.write_response(result(value), LIMIT).decode()

    assert written == json.dumps(
        {"result": value, "error": None, "jsonrpc": "2.0", "id": 1}, ensure_ascii=False
    ).replace("1e+300", "1e300")


# Both


@pytest.mark.parametrize("name", WIRE_FORMATS)
def test_a_response_over_the_limit_or_that_cannot_be_encoded_raises(name):
    write = WIRE_FORMATS[name].write_response

    for response in (result("x" * 1000), error("x" * 1000)):
        with pytest.raises(ResponseTooLarge):
            write(response, 1000)
    with pytest.raises(TypeError, match=r"^an instance of object cannot be represented as JSON$"):
        write(result(object()), LIMIT)
    value = [{"n": n, "text": "x" * 20} for n in range(3000)]
    assert json.loads(write(result(value), 10_000_000))["result"] == value
