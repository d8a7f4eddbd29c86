"""What the service under test takes, returns and raises: types, results, errors, by name.

Tables, so that one method per kind of outcome is enough and a case names the row it wants.
"""

import asyncio
import dataclasses
import enum
from collections.abc import Callable
from typing import Any, NoReturn, TypedDict

import gevent
import greenlet
import msgspec
import werkzeug.exceptions

from gemstone_sync import RpcError

#: Stands in exception messages; must never stand in a reply.
SECRET = "hunter2-correct-horse"
#: What a private method wants in X-Api-Token.
TOKEN = "let-me-in"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Item(msgspec.Struct):
    sku: str
    count: int


class Order(msgspec.Struct):
    items: list[Item]
    note: str | None = None


class Person(TypedDict):
    name: str
    age: int


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class OutOfStock(RpcError):
    code = 2001
    message = "Out of stock"


class Unusual(BaseException):
    """A user's own exception outside `Exception`."""


class Unprintable(Exception):
    """Logging this must not break the reply."""

    def __str__(self) -> str:
        raise RuntimeError("no text for you")

    __repr__ = __str__


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def _deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


RESULTS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "false": lambda: False,
    "true": lambda: True,
    "zero": lambda: 0,
    "empty_string": lambda: "",
    "empty_list": lambda: [],
    "empty_object": lambda: {},
    "one_point_zero": lambda: 1.0,
    "minus_zero": lambda: -0.0,
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "minus_infinity": lambda: float("-inf"),
    "nested_nan": lambda: {"a": [1, float("nan"), {"b": float("inf")}]},
    "big_int": lambda: 10**40,
    "int_4300_digits": lambda: 10**4300 - 1,
    "int_4301_digits": lambda: 10**4300,
    "unicode": lambda: 'Größe \u2028 \x00 \x7f 😀 "\\/',
    "tuple": lambda: (1, (2, 3)),
    "int_keys": lambda: {1: "a", 2: "b"},
    "dataclass": lambda: Point(3, 4),
    "struct": lambda: Order([Item("x", 2)]),
    "enum": lambda: Color.BLUE,
    "error_shape": lambda: {"error": {"code": 1, "message": "m"}, "id": 7},
    "object": object,
    "object_in_list": lambda: [1, object()],
    "exception": lambda: ValueError(SECRET),
    "circle": _circle,
    "too_deep": lambda: _deep(100_000),
    "lone_surrogate": lambda: "\ud800",
    "lone_surrogate_key": lambda: {"\udfff": 1},
    "tuple_keys": lambda: {(1, 2): 3},
    "generator": lambda: (number for number in range(3)),
    "function": lambda: len,
    "large": lambda: "x" * 299_000,
    "too_large": lambda: "x" * 300_001,
    "too_large_list": lambda: ["x" * 1000] * 400,
    "too_large_nested": lambda: {"a": [{"b": ["x" * 1000] * 2000}]},
    "too_large_object": lambda: {str(number): "x" * 100 for number in range(4000)},
    "long_list": lambda: [*range(5000), float("nan"), {"a": None}],
    "long_object": lambda: {number: [number] for number in range(5000)},
    "long_list_of_long_lists": lambda: [list(range(2000))] * 20,
    "long_list_unencodable_at_the_end": lambda: [*range(5000), object()],
    "long_object_unencodable_at_the_end": lambda: dict.fromkeys(range(5000)) | {"x": object()},
}

REFUSALS: dict[str, Callable[[], RpcError]] = {
    "plain": lambda: RpcError("No such user"),
    "empty_message": lambda: RpcError(""),
    "unicode": lambda: RpcError("Größe \u2028 😀"),
    "code": lambda: RpcError("Teapot", code=418),
    "code_zero": lambda: RpcError("Nothing", code=0),
    "code_negative": lambda: RpcError("Below", code=-1),
    "as_invalid_params": lambda: RpcError("Too young", code=-32602),
    "as_not_found": lambda: RpcError("No such page", code=-32601, data="page 7"),
    "data_zero": lambda: RpcError("m", data=0),
    "data_none": lambda: RpcError("m", data=None),
    "data_false": lambda: RpcError("m", data=False),
    "data_empty_string": lambda: RpcError("m", data=""),
    "data_empty_list": lambda: RpcError("m", data=[]),
    "data_empty_object": lambda: RpcError("m", data={}),
    "data_object": lambda: RpcError("m", data={"id": 7, "left": [0, None]}),
    "data_nan": lambda: RpcError("m", data=[float("nan")]),
    "data_unencodable": lambda: RpcError("m", data=object()),
    "message_lone_surrogate": lambda: RpcError("\ud800"),
    "data_large": lambda: RpcError("m", data="x" * 300_001),
    "message_large": lambda: RpcError("x" * 300_001),
    "subclass": OutOfStock,
    "subclass_message": lambda: OutOfStock("Two are left", data=2),
    "subclass_code": lambda: OutOfStock(code=2002),
}

#: Unexpected exceptions: all of them become -32603 with an error id.
FAILURES: dict[str, Callable[[], BaseException]] = {
    "runtime_error": lambda: RuntimeError(SECRET),
    "type_error": lambda: TypeError("fail() missing 1 required positional argument: 'key'"),
    "unexpected_keyword": lambda: TypeError("fail() got an unexpected keyword argument 'kind'"),
    "validation_error": lambda: msgspec.ValidationError("Expected `int`, got `str` - at `$.kind`"),
    "decode_error": lambda: msgspec.DecodeError("JSON is malformed"),
    "key_error": lambda: KeyError("params"),
    "attribute_error": lambda: AttributeError("no attribute 'fail'"),
    "not_implemented": NotImplementedError,
    "assertion": AssertionError,
    "timeout_error": TimeoutError,
    "permission_error": lambda: PermissionError(13, "Permission denied"),
    "unprintable": Unprintable,
    "surrogate_message": lambda: RuntimeError("\ud800"),
    "http_not_found": werkzeug.exceptions.NotFound,
    "http_too_large": werkzeug.exceptions.RequestEntityTooLarge,
    "memory_error": MemoryError,
    "system_exit": lambda: SystemExit(3),
    "greenlet_exit": greenlet.GreenletExit,
    "gevent_timeout": lambda: gevent.Timeout(1),
    "generator_exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "own_base_exception": Unusual,
}


def _takes_two(first: object, second: object) -> None:
    """Called with too few, to raise a TypeError that is not the caller's fault."""


def _recurse() -> NoReturn:
    _recurse()


def _from_cause() -> NoReturn:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        raise RuntimeError("see the cause") from error


DEEP_FAILURES: dict[str, Callable[[], Any]] = {
    "type_error": lambda: _takes_two(1),  # type: ignore[call-arg]
    "validation_error": lambda: msgspec.convert("seven", int),
    "stop_iteration": lambda: next(iter(())),
    "recursion": _recurse,
    "cause": _from_cause,
    "zero_division": lambda: 1 // 0,
}
