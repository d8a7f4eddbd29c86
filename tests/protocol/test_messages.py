"""The message types: checked when made, frozen afterwards, absent is not null."""

from typing import Any

import pytest

from gemstone_sync.errors import UNSET, RpcError
from gemstone_sync.protocol import ErrorObject, JsonRpcRequest, JsonRpcResponse

GOOD_IDS = ["", "a", "x" * 128, 0, -1, 2**70, 0.5, -0.0, None]
BAD_IDS = [True, False, [], {}, "x" * 129, b"1", (1,)]


@pytest.mark.parametrize("request_id", GOOD_IDS)
def test_an_id_is_a_string_a_number_or_null(request_id: Any) -> None:
    assert JsonRpcRequest("m", id=request_id).id == request_id


@pytest.mark.parametrize("request_id", BAD_IDS)
def test_nothing_else_is_an_id(request_id: Any) -> None:
    with pytest.raises(ValueError, match="id must be"):
        JsonRpcRequest("m", id=request_id)


def test_only_a_request_without_an_id_is_a_notification() -> None:
    assert JsonRpcRequest("m").is_notification()
    assert not JsonRpcRequest("m", id=None).is_notification()
    assert not JsonRpcRequest("m", id=0).is_notification()


@pytest.mark.parametrize("params", [[], {}, [None], {"a": 0}])
def test_params_are_a_list_or_an_object(params: Any) -> None:
    assert JsonRpcRequest("m", params).params == params


@pytest.mark.parametrize("params", [None, 0, "", "ab", (1, 2), True])
def test_nothing_else_are_params(params: Any) -> None:
    with pytest.raises(ValueError, match="params must be"):
        JsonRpcRequest("m", params)


def test_params_left_out_are_unset_and_not_an_empty_list() -> None:
    assert JsonRpcRequest("m").params is UNSET


@pytest.mark.parametrize("method", [None, 1, b"m", [], UNSET])
def test_a_method_is_a_string(method: Any) -> None:
    with pytest.raises(ValueError, match="method must be a string"):
        JsonRpcRequest(method)


@pytest.mark.parametrize(
    ("message", "member"),
    [
        (JsonRpcRequest("m", id=1), "id"),
        (JsonRpcRequest("m", id=1), "method"),
        (JsonRpcResponse(result=1), "result"),
        (ErrorObject(1, "no"), "data"),
    ],
)
def test_messages_are_frozen(message: Any, member: str) -> None:
    with pytest.raises(AttributeError):
        setattr(message, member, 2)


@pytest.mark.parametrize("result", [None, False, 0, "", [], {}])
def test_a_falsy_result_is_a_result(result: Any) -> None:
    response = JsonRpcResponse(result=result, id=0)

    assert response.result == result
    assert response.error is UNSET


def test_a_response_has_a_result_or_an_error_and_never_both() -> None:
    with pytest.raises(ValueError, match="either a result or an error"):
        JsonRpcResponse(id=1)
    with pytest.raises(ValueError, match="either a result or an error"):
        JsonRpcResponse(result=None, error=ErrorObject(1, "no"), id=1)


def test_with_result_makes_another_response_with_the_same_id() -> None:
    response = JsonRpcResponse(result=1, id="a")

    assert response.with_result(None) == JsonRpcResponse(result=None, id="a")
    assert response.result == 1


def test_failure_tells_of_an_rpc_error() -> None:
    response = JsonRpcResponse.failure(RpcError("no", code=5, data=None), 0)

    assert response == JsonRpcResponse(error=ErrorObject(5, "no", None), id=0)


def test_failure_of_a_request_whose_id_is_unknown_has_a_null_id() -> None:
    assert JsonRpcResponse.failure(RpcError("no"), UNSET).id is None
    assert JsonRpcResponse.failure(RpcError("no")).id is None


def test_one_response_never_changes_another() -> None:
    """Old gemstone kept one mutable object per error kind: ids leaked from caller to caller."""
    first = JsonRpcResponse.failure(RpcError("no", data={"a": 1}), 1)
    second = JsonRpcResponse.failure(RpcError("no"), 2)

    assert (first.id, second.id) == (1, 2)
    assert second.error.data is UNSET  # type: ignore[union-attr]
