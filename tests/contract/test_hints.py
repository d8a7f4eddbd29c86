"""Type hints are checks: what fits is converted, what cannot be checked is said at the start."""

import dataclasses
import datetime
import decimal
import enum
import functools
import logging
import pathlib
import types
import typing
import uuid
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import annotated_types
import msgspec
import pydantic
import pydantic.dataclasses
import pytest
import typing_extensions

from gemstone_sync.contract import ParameterBinder
from gemstone_sync.errors import InvalidParams, ServiceConfigurationError

from . import future_hints


def method_with(hint):
    """A function with one parameter of that hint."""

    def method(value): ...

    method.__annotations__["value"] = hint
    return method


def convert(hint, value):
    args, _ = ParameterBinder(method_with(hint)).bind([value])
    return args[0]


def faults(binder, params):
    """Name or position of each parameter at fault -> why."""
    with pytest.raises(InvalidParams) as caught:
        binder.bind(params)
    entries = caught.value.data["parameters"]
    return {entry.get("name", entry.get("position")): entry["reason"] for entry in entries}


def reason(hint, value):
    (told,) = faults(ParameterBinder(method_with(hint)), [value]).values()
    return told


class Color(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


class Address(TypedDict):
    street: str
    number: int


@dataclasses.dataclass
class Order:
    amount: int
    color: Color = Color.RED


class Box(msgspec.Struct):
    size: int


class User(pydantic.BaseModel):
    name: str
    age: Annotated[int, pydantic.Field(ge=0)]


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (int, 5, 5),
        (int, 10**30, 10**30),
        (float, 5, 5.0),
        (float, 0.5, 0.5),
        (str, "", ""),
        (bool, False, False),
        (None, None, None),
        (Any, object, object),
        (object, [1], [1]),
        (int | None, None, None),
        (typing.Optional[int], 5, 5),  # noqa: UP045
        (int | str, "a", "a"),
        (list, [1, "a"], [1, "a"]),
        (list[int], [1], [1]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 1], {1}),
        (Literal["a", 1], 1, 1),
        (Color, "red", Color.RED),
        (Point, [1, 2], Point(1, 2)),
        (Address, {"street": "s", "number": 1}, {"street": "s", "number": 1}),
        (Order, {"amount": 2}, Order(2)),
        (list[Order], [{"amount": 2, "color": "red"}], [Order(2)]),
        (Box, {"size": 1}, Box(1)),
        (User, {"name": "a", "age": 1}, User(name="a", age=1)),
        (User | None, None, None),
        (list[User], [{"name": "a", "age": 1}], [User(name="a", age=1)]),
        (dict[str, User], {"k": {"name": "a", "age": 1}}, {"k": User(name="a", age=1)}),
        (datetime.date, "2000-01-02", datetime.date(2000, 1, 2)),
        (datetime.datetime, "2000-01-02T03:04:05", datetime.datetime(2000, 1, 2, 3, 4, 5)),
        (uuid.UUID, str(uuid.UUID(int=1)), uuid.UUID(int=1)),
        (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
        (bytes, "YWI=", b"ab"),
        (Annotated[int, msgspec.Meta(ge=0)], 0, 0),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_value_that_fits_is_converted_and_the_hint_not_warned_of(hint, value, expected, caplog):
    converted = convert(hint, value)

    assert converted == expected
    assert type(converted) is type(expected)
    assert not caplog.records


@pytest.mark.parametrize(
    ("hint", "value", "text"),
    [
        (int, "5", "Expected `int`, got `str`"),
        (int, 5.0, "Expected `int`, got `float`"),
        (int, True, "Expected `int`, got `bool`"),
        (int, None, "Expected `int`, got `null`"),
        (float, "0.5", "Expected `float`, got `str`"),
        (float, True, "Expected `float`, got `bool`"),
        (float, 10**400, ""),
        (str, 5, "Expected `str`, got `int`"),
        (str, [1], "Expected `str`, got `array`"),
        (str, {}, "Expected `str`, got `object`"),
        (bool, 1, "Expected `bool`, got `int`"),
        (bool, "true", "Expected `bool`, got `str`"),
        (int | None, "x", "Expected `int | null`, got `str`"),
        (list[int], [1, "x"], "Expected `int`, got `str` - at `$[1]`"),
        (list[int], {"a": 1}, "Expected `array`, got `object`"),
        (Literal["a"], "b", "Invalid enum value"),
        (Color, "blue", "Invalid enum value"),
        (Order, {}, "missing required field `amount`"),
        (Order, {"amount": "x"}, "Expected `int`, got `str` - at `$.amount`"),
        (Address, {"street": "s"}, "missing required field `number`"),
        (User, {"name": "a", "age": -1}, "greater than or equal to 0"),
        (User, {"name": "a"}, "Field required"),
        (User, 5, "valid dictionary"),
        (list[User], [{"name": "a"}], "Field required"),
        (datetime.date, "yesterday", "Invalid RFC3339"),
        (uuid.UUID, "x", "Invalid UUID"),
        (bytes, "é", "Invalid base64"),
        (Annotated[int, msgspec.Meta(ge=0)], -1, ">= 0"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_value_that_does_not_fit_is_a_fault_that_says_why(hint, value, text):
    assert text in reason(hint, value)


class Node(msgspec.Struct):
    child: "Node | None" = None


def test_a_value_nested_too_deeply_is_a_fault_and_no_crash():
    value: Any = None
    for _ in range(100_000):
        value = {"child": value}

    assert convert(Node, {"child": {"child": None}}) == Node(Node())
    assert reason(Node, value) == "nested too deeply"


# Hints that are text


def test_string_annotations_are_checks_too():
    """A module that says ``from __future__ import annotations``."""
    binder = ParameterBinder(future_hints.register, skip=1)

    args, _ = binder.bind(["2000-01-02", {"size": 3}, 5])
    assert list(args) == [datetime.date(2000, 1, 2), future_hints.Box(3), 5]
    assert list(faults(binder, ["x", {"size": "3"}, "5"])) == ["day", "box", "count"]


def test_string_annotations_know_the_names_around_the_function():
    box, method = future_hints.with_a_name_around_it()
    binder = ParameterBinder(method)

    assert binder.bind([{"size": 3}])[0] == [box(3)]
    assert list(faults(binder, [5])) == ["value"]


def test_one_hint_that_does_not_resolve_leaves_the_others_checked(caplog):
    binder = ParameterBinder(future_hints.half_known)

    (record,) = caplog.records
    assert (record.name, record.levelno) == ("gemstone_sync.contract", logging.WARNING)
    assert record.getMessage() == (
        "half_known: parameter 'unknown' is not validated: 'OnlyForTypeChecking' cannot be "
        "evaluated: name 'OnlyForTypeChecking' is not defined"
    )
    assert list(binder.bind([object, 5])[0]) == [object, 5]
    assert list(faults(binder, [object, "5"])) == ["count"]


def test_a_decorator_of_another_module_does_not_hide_the_hints(caplog):
    """functools.wraps keeps the annotations' text, but the wrapper's globals are elsewhere."""

    def wrapper(*args, **kwargs): ...

    # As if the decorator stood in a module with a name of its own for something else.
    elsewhere = types.FunctionType(wrapper.__code__, {"date": "other"})
    decorated = functools.wraps(future_hints.register)(elsewhere)
    binder = ParameterBinder(decorated, skip=1)

    assert not caplog.records
    assert list(faults(binder, ["x", {"size": 3}, 5])) == ["day"]


# Hints that cannot be checked


class Anything:
    pass


NO_VALUE = "no JSON value is a Anything"


@pytest.mark.parametrize(
    ("hint", "why"),
    [
        (Anything, NO_VALUE),
        (list[Anything], NO_VALUE),
        (Anything | None, NO_VALUE),
        (tuple[int, Anything], NO_VALUE),
        (dict[str, list[Anything]], NO_VALUE),
        (Order | Box, "unions may not contain more than one"),
        (list[Order | Box], "unions may not contain more than one"),
        ("list[", "'list[' cannot be evaluated: "),
        ("NoSuchName", "name 'NoSuchName' is not defined"),
        (list["NoSuchName"], "NoSuchName"),  # noqa: F821
        (typing.Callable[[], int], "no JSON value is a Callable"),
        (5, "'5' is not supported"),
        ([int], "is not supported"),
        (typing.TypeVar("T", bound=Anything), NO_VALUE),
    ],
    ids=repr,
)
def test_a_hint_that_cannot_be_checked_is_warned_of_and_left_unchecked(hint, why, caplog):
    binder = ParameterBinder(method_with(hint))

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    start = "method_with.<locals>.method: parameter 'value' is not validated: "
    assert record.getMessage().startswith(start)
    assert why in record.getMessage()
    for value in (1, "a", None, [], {}):
        assert list(binder.bind([value])[0]) == [value]


def test_no_hint_no_check(caplog):
    value = {"any": ["thing", None]}

    assert ParameterBinder(lambda value: None).bind([value]) == ([value], {})
    assert not caplog.records


# What only pydantic understands


@pydantic.dataclasses.dataclass
class Counted:
    count: int = pydantic.Field(gt=0)


@dataclasses.dataclass
class Ordered:
    amount: Annotated[int, annotated_types.Gt(0)]
    again: "Ordered | None" = None


class Wanted(typing_extensions.TypedDict):
    amount: pydantic.PositiveInt


def even(value: int) -> int:
    if value % 2:
        raise ValueError("not even")
    return value


POSITIVE = Annotated[int, pydantic.Field(gt=0)]
DATES = ("2020-01-01", "2019-12-31")


@pytest.mark.parametrize(
    ("hint", "good", "bad", "place"),
    [
        (pydantic.PositiveInt, 1, -1, ""),
        (POSITIVE, 1, 0, ""),
        (POSITIVE, 1, "1", ""),
        (POSITIVE | None, None, 0, ""),
        (list[POSITIVE], [1], [1, 0], " - at `$[1]`"),
        (dict[str, POSITIVE], {"a": 1}, {"a": 0}, " - at `$[...]`"),
        (Annotated[str, annotated_types.MinLen(2)], "ab", "a", ""),
        (Annotated[list[int], annotated_types.Len(1, 2)], [1], [], ""),
        (Annotated[int, pydantic.AfterValidator(even)], 2, 3, ""),
        (Annotated[str, pydantic.StringConstraints(pattern="a+")], "a", "b", ""),
        (typing.NewType("Positive", POSITIVE), 1, 0, ""),
        (Counted, {"count": 1}, {"count": -1}, " - at `$.count`"),
        (Ordered, {"amount": 1}, {"amount": 1, "again": {"amount": 0}}, " - at `$.again.amount`"),
        (Wanted, {"amount": 1}, {"amount": 0}, " - at `$.amount`"),
        (Annotated[datetime.date, annotated_types.Ge(datetime.date(2020, 1, 1))], *DATES, ""),
        (pydantic.SecretStr, "x", 1, ""),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_constraints_that_only_pydantic_understands_are_checked(hint, good, bad, place):
    convert(hint, good)
    told = reason(hint, bad)
    assert told.endswith(place) if place else "$" not in told


def test_a_model_of_pydantic_is_made_of_what_fits():
    assert convert(Counted, {"count": 1}) == Counted(1)
    assert convert(Ordered, {"amount": 1, "again": {"amount": 2}}) == Ordered(1, Ordered(2))
    assert convert(pydantic.SecretStr, "x").get_secret_value() == "x"


class Mixed(msgspec.Struct):
    amount: POSITIVE


@pytest.mark.parametrize("hint", [Mixed, list[Mixed], dict[str, Mixed | None]])
def test_a_constraint_that_nobody_understands_is_refused_at_the_start(hint):
    with pytest.raises(ServiceConfigurationError, match="'value' has constraints that cannot be"):
        ParameterBinder(method_with(hint))


class Registration(pydantic.BaseModel):
    email: str
    password: str = pydantic.Field(min_length=20)
    kind: Literal["a", "b"] = "a"


class Checked(pydantic.BaseModel):
    password: str

    @pydantic.field_validator("password")
    @classmethod
    def check(cls, value: str) -> str:
        raise ValueError(f"{value} is too weak")


class Agreed(pydantic.BaseModel):
    password: str

    @pydantic.model_validator(mode="after")
    def check(self) -> "Agreed":
        raise AssertionError(f"not {self.password!r}, {self.model_dump()}")


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class Owner(pydantic.BaseModel):
    pet: Cat | Dog = pydantic.Field(discriminator="kind")
    limits: dict[str, int] = {}


def long_or_fail(value: list[str]) -> list[str]:
    raise ValueError(f"no {value}")


SECRET = "hunter2-secret"


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Registration, {"email": "a", "password": SECRET}),
        (list[Registration], [{"email": "a", "password": SECRET}]),
        (Registration, SECRET),
        (Registration, {"email": "a", "password": "x" * 20, "kind": SECRET}),
        (Annotated[str, pydantic.Field(max_length=3)], SECRET),
        (Literal["a"], SECRET),
        (dict[str, Color], {"k": SECRET}),
        (dict[Literal["a"], int], {SECRET: 1}),
        (uuid.UUID, SECRET),
        (decimal.Decimal, SECRET),
        (datetime.datetime, SECRET),
        (Annotated[str, msgspec.Meta(pattern="^a$")], SECRET),
        (Checked, {"password": SECRET}),
        (Agreed, {"password": SECRET}),
        (Owner, {"pet": {"kind": SECRET}}),
        (Owner, {"pet": {"kind": "cat"}, "limits": {SECRET: "many"}}),
        (dict[str, POSITIVE], {SECRET: 0}),
        (Annotated[list[str], pydantic.AfterValidator(long_or_fail)], [SECRET] * 1000),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_no_reason_repeats_a_value(hint, value):
    assert SECRET not in reason(hint, value)


def test_what_a_validator_says_is_told_without_the_value():
    assert reason(Checked, {"password": SECRET}) == "Value error, ... is too weak - at `$.password`"
    assert reason(Owner, {"pet": {"kind": SECRET}}).endswith(
        "does not match any of the expected tags: 'cat', 'dog' - at `$.pet`"
    )
    limits = {"pet": {"kind": "cat"}, "limits": {"a": "many"}}
    assert reason(Owner, limits).endswith(" - at `$.limits[...]`")


def test_each_field_at_fault_is_told_with_its_place():
    value = {"all": [{"password": "short"}]}
    binder = ParameterBinder(method_with(dict[str, list[Registration]]))
    with pytest.raises(InvalidParams) as caught:
        binder.bind([value])
    assert caught.value.data["parameters"] == [
        {"name": "value", "reason": "Field required - at `$[...][0].email`"},
        {
            "name": "value",
            "reason": "String should have at least 20 characters - at `$[...][0].password`",
        },
    ]


@dataclasses.dataclass
class Job:
    source: pathlib.Path


@pytest.mark.parametrize("hint", [Job, list[Job], dict[str, Job | None], Annotated[Job, "doc"]])
def test_a_class_that_json_cannot_give_is_found_wherever_it_stands(hint, caplog):
    assert convert(hint, 5) == 5
    assert "'value' is not validated: no JSON value is a Path" in caplog.text
