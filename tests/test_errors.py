"""The exceptions that users raise and catch."""

import copy
import pickle

import pytest

from gemstone_sync import errors
from gemstone_sync.errors import UNSET, GemstoneError, RpcError

CODES = {
    "ParseError": (-32700, "Parse error"),
    "InvalidRequest": (-32600, "Invalid Request"),
    "MethodNotFound": (-32601, "Method not found"),
    "InvalidParams": (-32602, "Invalid params"),
    "InternalError": (-32603, "Internal error"),
    "ServerOverloaded": (-32000, "Server overloaded"),
    "AccessDenied": (-32001, "Access denied"),
    "DeadlineExceeded": (-32002, "Deadline exceeded"),
    "TooManyHops": (-32003, "Too many hops"),
    "ResponseTooLarge": (-32004, "Response too large"),
}


class OutOfStock(RpcError):
    """An error of an application."""

    code = 1001
    message = "Out of stock"


@pytest.mark.parametrize("name", CODES)
def test_codes_and_messages(name):
    error = getattr(errors, name)()
    assert isinstance(error, RpcError)
    assert (error.code, error.message) == CODES[name]
    assert str(error) == error.message


def test_every_exception_has_the_one_root_and_is_in_the_tree_of_the_docstring():
    for name in set(errors.__all__) - {"UNSET", "Unset"}:
        assert issubclass(getattr(errors, name), GemstoneError)
        assert name in (errors.__doc__ or "")


def test_an_rpc_error_has_the_server_errors_code_unless_given():
    assert (RpcError("no").code, RpcError("no", code=7).code) == (-32000, 7)
    assert errors.ServerOverloaded(retry_after=2.5).retry_after == 2.5


def test_a_subclass_may_set_code_and_message_for_its_instances():
    error = OutOfStock()
    assert (error.code, error.message, error.data) == (1001, "Out of stock", UNSET)
    other = OutOfStock("None left", code=0, data=0)
    assert (other.code, other.message, other.data) == (0, "None left", 0)
    assert (OutOfStock.code, OutOfStock.message) == (1001, "Out of stock")


def test_falsy_data_is_data_and_data_left_out_is_unset():
    for data in (None, 0, False, "", [], {}):
        assert RpcError("x", data=data).data == data
    assert RpcError("x").data is UNSET


@pytest.mark.parametrize("code", ["1", 1.0, None, True])
def test_a_code_that_is_no_int_is_refused_where_it_is_written(code):
    class Wrong(RpcError):
        pass

    Wrong.code = code
    with pytest.raises(TypeError, match="an error code is an int"):
        Wrong("x")
    with pytest.raises(TypeError):  # the message is positional, and the rest is named
        RpcError("x", 5)


def test_repr_shows_what_travels():
    assert repr(OutOfStock(data=None)) == "OutOfStock('Out of stock', code=1001, data=None)"
    assert repr(OutOfStock()) == "OutOfStock('Out of stock', code=1001)"


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_an_error_survives_being_copied(again):
    error = again(OutOfStock("None left", code=5, data={"left": 0}))
    assert (error.code, error.message, error.data) == (5, "None left", {"left": 0})


# UNSET


def test_unset_is_one_object_distinct_from_none():
    assert UNSET is not None
    assert copy.deepcopy(UNSET) is UNSET
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET
    assert repr(UNSET) == "UNSET"
    with pytest.raises(TypeError, match="is UNSET"):
        bool(UNSET)
