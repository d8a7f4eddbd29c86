"""The signatures that a service tells its callers."""

import enum
import functools
import typing
from typing import Annotated, Any, Literal, Optional

import pytest

from gemstone_sync import MicroService, exposed_method
from gemstone_sync.contract import ParameterBinder
from gemstone_sync.dispatch import Method
from gemstone_sync.service.signatures import signatures_of


class Colour(enum.Enum):
    RED = 1


class Thing:
    pass


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError("no text of this one")


def nothing(): ...
def plain(a, b): ...
def hinted(name: str, times: int = 1) -> str: ...
def written(name: "str", things: "list[Thing] | None" = None) -> "dict[str, Any]": ...
def kinds(a, /, b, *rest: int, c, d=2, **named: str) -> None: ...
def only_named(*, name: str): ...
def generics(a: list[int], b: dict[str, Thing], c: Optional[int] = None) -> list[Thing]: ...  # noqa: UP045
def unions(a: int | None, b: Thing | str) -> bool | None: ...
def literals(a: Literal["x.y", "z"] = "z", b: Annotated[int, "x.y"] = 0) -> None: ...
def qualified(a: "typing.Any", b: typing.Callable[[int], str]) -> typing.Any: ...
def data(a=None, b=True, c=-1.5, d="it's", e=(1, [2]), f={"k": {}}): ...  # noqa: B006
def odd(a=Thing(), b=Silent(), c=print, d=Colour.RED, e="x" * 100, f=10**5000): ...  # noqa: B008
def odd_hints(a: Thing(), b: Silent(), c: "x" * 100): ...  # noqa: F821


def local():
    class Inner:
        pass

    def function(a: Inner, b: list[Inner]) -> None: ...

    return function


def endless():
    value: list[Any] = []
    value.append(value)

    def function(a=value): ...

    return function


def wrong():
    def function(a): ...

    function.__signature__ = "none"
    return function


@functools.wraps(hinted)
def wrapper(*args, **kwargs): ...


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (nothing, "()"),
        (plain, "(a, b)"),
        (hinted, "(name: str, times: int = 1) -> str"),
        (written, "(name: str, things: list[Thing] | None = None) -> dict[str, Any]"),
        (kinds, "(a, /, b, *rest: int, c, d=2, **named: str) -> None"),
        (only_named, "(*, name: str)"),
        (
            generics,
            "(a: list[int], b: dict[str, Thing], c: Optional[int] = None) -> list[Thing]",
        ),
        (unions, "(a: int | None, b: Thing | str) -> bool | None"),
        (literals, "(a: Literal['x.y', 'z'] = 'z', b: Annotated[int, 'x.y'] = 0) -> None"),
        (qualified, "(a: typing.Any, b: Callable[[int], str]) -> Any"),
        (data, "(a=None, b=True, c=-1.5, d=\"it's\", e=(1, [2]), f={'k': {}})"),
        (odd, "(a=..., b=..., c=..., d=Colour.RED, e=..., f=...)"),
        (odd_hints, "(a: ..., b: ..., c: ...)"),
        (local(), "(a: Inner, b: list[Inner]) -> None"),
        (endless(), "(a=...)"),
        (wrapper, "(name: str, times: int = 1) -> str"),
        (functools.partial(hinted, "x"), "(times: int = 1) -> str"),
        (wrong(), "(...)"),
        (Silent, "()"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_callable_is_written_as_python_writes_it(function, text):
    method = Method("called", function, ParameterBinder(nothing))

    assert signatures_of({"called": method}) == {"called": f"called{text}"}


class Shop(MicroService):
    name = "shop"

    @exposed_method()
    def buy(self, what: str, pieces: int = 1) -> bool: ...

    @exposed_method(name="shop.sell")
    def sell(self, what): ...

    @exposed_method(requires_handler_reference=True)
    def who(self, handler, loud: bool = False) -> str: ...

    @exposed_method(requires_handler_reference=True)
    def anyone(self, *everything): ...

    @staticmethod
    @exposed_method()
    def fixed(a: int): ...

    @classmethod
    @exposed_method()
    def shared(cls, a: int): ...


def test_what_the_framework_fills_in_is_left_out():
    found = signatures_of(Shop().dispatcher.methods)

    assert {name: found[name] for name in found if name != "get_service_specs"} == {
        "buy": "buy(what: str, pieces: int = 1) -> bool",
        "shop.sell": "shop.sell(what)",
        "who": "who(loud: bool = False) -> str",
        "anyone": "anyone(*everything)",
        "fixed": "fixed(a: int)",
        "shared": "shared(a: int)",
    }
    assert found["get_service_specs"] == (
        "get_service_specs(signatures: bool = False) -> dict[str, Any]"
    )
