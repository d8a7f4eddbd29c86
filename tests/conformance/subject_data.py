"""What the service under test takes, returns and raises: types, results, errors, by name.

Tables, so that one method per kind of outcome is enough and a case names the row it wants.
"""

import asyncio
import dataclasses
import enum
from collections.abc import Callable
from functools import partial
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


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]

#: Results that arrive as they are, by name.
SAME: dict[str, Any] = {
    "none": None,
    "false": False,
    "true": True,
    "zero": 0,
    "empty_string": "",
    "empty_list": [],
    "empty_object": {},
    "one_point_zero": 1.0,
    "minus_zero": -0.0,
    "big_int": 10**40,
    "int_4300_digits": 10**4300 - 1,
    "unicode": 'Größe \u2028 \x00 \x7f 😀 "\\/',
    "error_shape": {"error": {"code": 1, "message": "m"}, "id": 7},
    "large": "x" * 299_000,
    "long_list_of_long_lists": [list(range(2000))] * 20,
}
#: Results, and what of them arrives.
CHANGED: dict[str, tuple[Any, Any]] = {
    "nan": (float("nan"), None),
    "infinity": (float("inf"), None),
    "minus_infinity": (float("-inf"), None),
    "nested_nan": (
        {"a": [1, float("nan"), {"b": float("inf")}]},
        {"a": [1, None, {"b": None}]},
    ),
    "tuple": ((1, (2, 3)), [1, [2, 3]]),
    "int_keys": ({1: "a", 2: "b"}, {"1": "a", "2": "b"}),
    "dataclass": (Point(3, 4), {"x": 3, "y": 4}),
    "struct": (Order([Item("x", 2)]), {"items": [{"sku": "x", "count": 2}], "note": None}),
    "enum": (Color.BLUE, "blue"),
    "long_list": (
        [*range(5000), float("nan"), {"a": None}],
        [*range(5000), None, {"a": None}],
    ),
    "long_object": ({n: [n] for n in range(5000)}, {str(n): [n] for n in range(5000)}),
}
#: Results that no JSON can carry.
UNENCODABLE: dict[str, Any] = {
    "object": object(),
    "object_in_list": [1, object()],
    "exception": ValueError(SECRET),
    "circle": CIRCLE,
    "too_deep": DEEP,
    "lone_surrogate": "\ud800",
    "lone_surrogate_key": {"\udfff": 1},
    "tuple_keys": {(1, 2): 3},
    "generator": (number for number in range(3)),
    "function": len,
    "int_4301_digits": 10**4300,
    "long_list_unencodable_at_the_end": [*range(5000), object()],
    "long_object_unencodable_at_the_end": {n: n for n in range(5000)} | {"x": object()},
}
TOO_LARGE: dict[str, Any] = {
    "too_large": "x" * 300_001,
    "too_large_list": ["x" * 1000] * 400,
    "too_large_nested": {"a": [{"b": ["x" * 1000] * 2000}]},
    "too_large_object": {str(number): "x" * 100 for number in range(4000)},
}
RESULTS = {
    **SAME,
    **{name: returned for name, (returned, _) in CHANGED.items()},
    **UNENCODABLE,
    **TOO_LARGE,
}

#: Parameters of an `RpcError` that arrive as they are: without a code it is -32000.
REFUSED_AS_GIVEN: dict[str, dict[str, Any]] = {
    "plain": {"message": "No such user"},
    "empty_message": {"message": ""},
    "unicode": {"message": "Größe \u2028 😀"},
    "code": {"message": "Teapot", "code": 418},
    "code_zero": {"message": "Nothing", "code": 0},
    "code_negative": {"message": "Below", "code": -1},
    "as_invalid_params": {"message": "Too young", "code": -32602},
    "as_not_found": {"message": "No such page", "code": -32601, "data": "page 7"},
    "data_zero": {"message": "m", "data": 0},
    "data_none": {"message": "m", "data": None},
    "data_false": {"message": "m", "data": False},
    "data_empty_string": {"message": "m", "data": ""},
    "data_empty_list": {"message": "m", "data": []},
    "data_empty_object": {"message": "m", "data": {}},
    "data_object": {"message": "m", "data": {"id": 7, "left": [0, None]}},
}
REFUSALS: dict[str, Callable[[], RpcError]] = {
    **{name: partial(RpcError, **given) for name, given in REFUSED_AS_GIVEN.items()},
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
