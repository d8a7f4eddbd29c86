"""Bytes -> messages: what is no request becomes the response that refuses it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemstone_sync.errors import UNSET
from gemstone_sync.protocol import JsonRpcRequest, JsonRpcResponse, read_body


def refusal(code: int, request_id: Any = None) -> tuple[int, Any]:
    return (code, request_id)


def as_refusal(item: Any) -> tuple[int, Any]:
    assert isinstance(item, JsonRpcResponse), item
    assert item.result is UNSET
    return (item.error.code, item.id)  # type: ignore[union-attr]


def body(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": "m", **members}).encode()


def test_a_request_is_read_member_by_member() -> None:
    assert read_body(body(params=[1, None], id="a")) == JsonRpcRequest("m", [1, None], "a")
    assert read_body(body(params={"a": 0}, id=0)) == JsonRpcRequest("m", {"a": 0}, 0)


def test_what_is_absent_is_unset_and_what_is_null_is_none() -> None:
    notification, request = read_body(body()), read_body(body(id=None))

    assert isinstance(notification, JsonRpcRequest)
    assert isinstance(request, JsonRpcRequest)
    assert notification.id is UNSET
    assert notification.params is UNSET
    assert request.id is None


def test_members_that_json_rpc_does_not_know_are_ignored() -> None:
    assert read_body(body(id=1, trace="x", context={})) == JsonRpcRequest("m", UNSET, 1)


def test_no_json_is_a_parse_error_with_a_null_id() -> None:
    assert as_refusal(read_body(b'{"jsonrpc": "2.0", "id": 1')) == refusal(-32700)


@pytest.mark.parametrize("text", [b"1", b'"a"', b"null", b"true", b"1.5", b"[]"])
def test_json_that_is_neither_object_nor_filled_list_is_invalid(text: bytes) -> None:
    assert as_refusal(read_body(text)) == refusal(-32600)


@pytest.mark.parametrize(
    "members",
    [
        {"jsonrpc": "1.0"},
        {"jsonrpc": 2.0},
        {"jsonrpc": None},
        {"method": None},
        {"method": 1},
        {"method": ["m"]},
        {"params": None},
        {"params": "ab"},
        {"params": 1},
        {"params": True},
    ],
)
@pytest.mark.parametrize("request_id", [0, "a", 1.5, None])
def test_an_invalid_request_is_refused_under_its_own_id(
    members: dict[str, Any], request_id: Any
) -> None:
    assert as_refusal(read_body(body(**members, id=request_id))) == refusal(-32600, request_id)


@pytest.mark.parametrize("request_id", [True, False, [], {}, "x" * 129])
def test_an_id_that_is_none_is_not_echoed(request_id: Any) -> None:
    assert as_refusal(read_body(body(id=request_id))) == refusal(-32600)


def test_an_invalid_notification_is_refused_with_a_null_id() -> None:
    assert as_refusal(read_body(body(method=1))) == refusal(-32600)


def test_a_batch_keeps_its_order_and_refuses_item_by_item() -> None:
    items = read_body(b'[{"jsonrpc":"2.0","method":"a","id":1}, 1, {}, [], {"id":5}]')

    assert isinstance(items, list)
    assert items[0] == JsonRpcRequest("a", UNSET, 1)
    assert [as_refusal(item)[1] for item in items[1:]] == [None, None, None, 5]
    assert {as_refusal(item)[0] for item in items[1:]} == {-32600}


def test_a_batch_over_its_cap_is_refused_whole() -> None:
    item = body(id=1)
    batch = b"[" + b",".join([item] * 3) + b"]"

    assert len(read_body(batch, max_batch_size=3)) == 3  # type: ignore[arg-type]
    assert as_refusal(read_body(batch, max_batch_size=2)) == refusal(-32600)


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
def test_no_body_makes_it_raise(text: bytes) -> None:
    read = read_body(text)

    for item in read if isinstance(read, list) else [read]:
        assert isinstance(item, (JsonRpcRequest, JsonRpcResponse))
