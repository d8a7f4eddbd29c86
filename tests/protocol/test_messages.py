"""The message types: checked when made, frozen afterwards, absent is not null."""

import pytest

from gemstone_sync.errors import UNSET, RpcError
from gemstone_sync.protocol import ErrorObject, JsonRpcRequest, JsonRpcResponse


@pytest.mark.parametrize("request_id", ["", "a", "x" * 128, 0, -1, 2**70, 0.5, -0.0, None])
def test_an_id_is_a_string_a_number_or_null(request_id):
    assert JsonRpcRequest("m", id=request_id).id == request_id


@pytest.mark.parametrize("request_id", [True, False, [], {}, "x" * 129, b"1", (1,)])
def test_nothing_else_is_an_id(request_id):
    with pytest.raises(ValueError, match=r"^id must be a string of up to 128 .* number or null$"):
        JsonRpcRequest("m", id=request_id)


def test_only_a_request_without_an_id_is_a_notification():
    assert JsonRpcRequest("m").is_notification()
    assert JsonRpcRequest("m").params is UNSET
    assert not JsonRpcRequest("m", id=None).is_notification()
    assert not JsonRpcRequest("m", id=0).is_notification()


@pytest.mark.parametrize("params", [[], {}, [None], {"a": 0}])
def test_params_are_a_list_or_an_object(params):
    assert JsonRpcRequest("m", params).params == params


@pytest.mark.parametrize("params", [None, 0, "", "ab", (1, 2), True])
def test_nothing_else_are_params(params):
    with pytest.raises(ValueError, match=r"^params must be a list or an object$"):
        JsonRpcRequest("m", params)


@pytest.mark.parametrize("method", [None, 1, b"m", [], UNSET])
def test_a_method_is_a_string(method):
    with pytest.raises(ValueError, match=r"^method must be a string$"):
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
def test_messages_are_frozen(message, member):
    with pytest.raises(AttributeError):
        setattr(message, member, 2)


@pytest.mark.parametrize("result", [None, False, 0, "", [], {}])
def test_a_falsy_result_is_a_result(result):
    response = JsonRpcResponse(result=result, id=0)

    assert response.result == result
    assert response.error is UNSET


@pytest.mark.parametrize("members", [{}, {"result": None, "error": ErrorObject(1, "no")}])
def test_a_response_has_a_result_or_an_error_and_never_both(members):
    with pytest.raises(ValueError, match=r"^a response has either a result or an error$"):
        JsonRpcResponse(**members, id=1)


def test_with_result_makes_another_response_with_the_same_id():
    response = JsonRpcResponse(result=1, id="a")

    assert response.with_result(None) == JsonRpcResponse(result=None, id="a")
    assert response.result == 1


def test_failure_tells_of_an_rpc_error():
    response = JsonRpcResponse.failure(RpcError("no", code=5, data=None), 0)

    assert response == JsonRpcResponse(error=ErrorObject(5, "no", None), id=0)


def test_failure_of_a_request_whose_id_is_unknown_has_a_null_id():
    """Nothing of the failure before it is left: gemstone had one object for each kind of error."""
    assert JsonRpcResponse.failure(RpcError("no", data={"a": 1}), UNSET).id is None
    assert JsonRpcResponse.failure(RpcError("no")).id is None
    assert JsonRpcResponse.failure(RpcError("no")).error.data is UNSET
