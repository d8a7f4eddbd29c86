"""The signatures that a service tells its callers."""

import enum
import functools
import inspect
import typing
from typing import Any

import pytest

from gemstone_sync import MicroService, exposed_method
from gemstone_sync.contract.signature_text import signature_of


class Colour(enum.Enum):
    RED = 1


class Thing:
    pass


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError("no text of this one")


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
NAMES = {**vars(typing), **globals(), "BIG": 10**5000, "LONG": "x" * 100}


def defined(signature):
    """A function with this signature."""
    namespace = {}
    exec(f"def function{signature}: ...", NAMES, namespace)
    return namespace["function"]


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        ("()", ""),
        ("(a, b)", ""),
        ("(name: str, times: int = 1) -> str", ""),
        (
            """(name: "str", things: "list[Thing] | None" = None) -> "dict[str, Any]\"""",
            "(name: str, things: list[Thing] | None = None) -> dict[str, Any]",
        ),
        ("(a, /, b, *rest: int, c, d=2, **named: str) -> None", ""),
        ("(*, name: str)", ""),
        ("(a: list[int], b: dict[str, Thing], c: Optional[int] = None) -> list[Thing]", ""),
        ("(a: int | None, b: Thing | str) -> bool | None", ""),
        ("(a: Literal['x.y', 'z'] = 'z', b: Annotated[int, 'x.y'] = 0) -> None", ""),
        (
            "(a: 'typing.Any', b: typing.Callable[[int], str]) -> typing.Any",
            "(a: typing.Any, b: Callable[[int], str]) -> Any",
        ),
        ("(a=None, b=True, c=-1.5, d=\"it's\", e=(1, [2]), f={'k': {}})", ""),
        (
            "(a=Thing(), b=Silent(), c=print, d=Colour.RED, e=LONG, f=BIG, g=ENDLESS)",
            "(a=..., b=..., c=..., d=Colour.RED, e=..., f=..., g=...)",
        ),
        ("(a: Thing(), b: Silent(), c: LONG)", "(a: ..., b: ..., c: ...)"),
    ],
)
def test_a_function_is_written_as_python_writes_it(signature, told):
    assert text_of(defined(signature)) == (told or signature)


def text_of(function):
    return signature_of("", function)


def test_other_callables_and_names_are_written_so_too():
    class Inner:
        pass

    def local(a: Inner, b: list[Inner]) -> None: ...
    def wrong(a): ...

    wrong.__signature__ = "none"
    hinted = defined("(name: str, times: int = 1) -> str")
    assert text_of(local) == "(a: Inner, b: list[Inner]) -> None"
    assert text_of(functools.wraps(hinted)(lambda *args: None)) == str(inspect.signature(hinted))
    assert text_of(functools.partial(hinted, "x")) == "(times: int = 1) -> str"
    assert text_of(wrong) == "(...)"
    assert text_of(Silent) == "()"


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
    found = Shop().get_service_specs(signatures=True)["signatures"]

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


def test_a_default_of_a_megabyte_is_no_work(make_service):
    """A search in all of it would take hours."""

    def method(self, text: str = "<" * 1_000_000) -> None: ...

    service = make_service(method)
    assert service.get_service_specs(signatures=True)["signatures"]["method"] == (
        "method(text: str = ...) -> None"
    )
