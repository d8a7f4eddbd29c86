"""Bytes -> messages: what is no request becomes the response that refuses it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemstone_sync.errors import UNSET
from gemstone_sync.protocol import JsonRpcRequest, JsonRpcResponse, read_body


def refusal(request_id=None, code=-32600):
    return (code, request_id)


def as_refusal(item):
    assert isinstance(item, JsonRpcResponse), item
    assert item.result is UNSET
    return (item.error.code, item.id)


def body(**members):
    return json.dumps({"jsonrpc": "2.0", "method": "m", **members}).encode()


def test_a_request_is_read_member_by_member():
    assert read_body(body(params=[1, None], id="a")) == JsonRpcRequest("m", [1, None], "a")
    assert read_body(body(params={"a": 0}, id=0)) == JsonRpcRequest("m", {"a": 0}, 0)
    assert read_body(body(id=1, trace="x", context={})) == JsonRpcRequest("m", UNSET, 1)


def test_what_is_absent_is_unset_and_what_is_null_is_none():
    assert read_body(body()) == JsonRpcRequest("m", UNSET, UNSET)
    assert read_body(body(id=None)) == JsonRpcRequest("m", UNSET, None)


def test_no_json_is_a_parse_error_with_a_null_id():
    assert as_refusal(read_body(b'{"jsonrpc": "2.0", "id": 1')) == refusal(code=-32700)


@pytest.mark.parametrize("text", [b"1", b'"a"', b"null", b"true", b"1.5", b"[]"])
def test_json_that_is_neither_object_nor_filled_list_is_invalid(text):
    assert as_refusal(read_body(text)) == refusal()


@pytest.mark.parametrize(
    "members",
    [
        *({"jsonrpc": version} for version in ("1.0", 2.0, None)),
        *({"method": name} for name in (None, 1, ["m"])),
        *({"params": params} for params in (None, "ab", 1, True)),
    ],
)
@pytest.mark.parametrize("request_id", [0, "a", 1.5, None])
def test_an_invalid_request_is_refused_under_its_own_id(members, request_id):
    assert as_refusal(read_body(body(**members, id=request_id))) == refusal(request_id)


@pytest.mark.parametrize("request_id", [True, False, [], {}, "x" * 129])
def test_an_id_that_is_none_is_not_echoed(request_id):
    assert as_refusal(read_body(body(id=request_id))) == refusal()
    assert as_refusal(read_body(body(method=1))) == refusal(), "an invalid notification"


def test_a_batch_keeps_its_order_and_refuses_item_by_item():
    items = read_body(b'[{"jsonrpc":"2.0","method":"a","id":1}, 1, {}, [], {"id":5}]')

    assert isinstance(items, list)
    assert items[0] == JsonRpcRequest("a", UNSET, 1)
    assert list(map(as_refusal, items[1:])) == [refusal(), refusal(), refusal(), refusal(5)]


def test_a_batch_over_its_cap_is_refused_whole():
    item = body(id=1)

    def batch(count):
        return b"[" + b",".join([item] * count) + b"]"

    assert len(read_body(batch(3), max_batch_size=3)) == 3
    assert len(read_body(batch(100))) == 100
    for count, refused in [
        (2, read_body(batch(3), max_batch_size=2)),
        (100, read_body(batch(101))),
    ]:
        assert (refused.error.code, refused.id) == (-32600, None)
        assert refused.error.message == f"The batch has more than {count} items"


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["jsonrpc", "method", "params", "id"]), inner)
            | inner.map(
                lambda value: {"jsonrpc": "2.0", "method": "m", "params": value, "id": value}
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_body_makes_it_raise(text):
    read = read_body(text)

    for item in read if isinstance(read, list) else [read]:
        assert isinstance(item, (JsonRpcRequest, JsonRpcResponse))
