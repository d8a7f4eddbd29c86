"""Type hints are checks: what fits is converted, what cannot be checked is said at the start."""

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import ipaddress
import logging
import os
import pathlib
import sys
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
from gemstone_sync.contract.hints import check_for
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
        (User, 5, "should be an object"),
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


class NeedsOne(pydantic.BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    one: Anything


class NeedsMany(pydantic.BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    first: tuple[int, dict[str, list[Anything]]]
    others: "list[NeedsMany]" = []


class NeedsCallable(pydantic.BaseModel):
    inner: typing.Callable[[], int] | type[Anything]


class MayHaveOne(pydantic.BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    one: Anything | None
    two: Anything = pydantic.Field(default_factory=Anything)
    three: Anything | int
    four: Annotated[Anything, pydantic.BeforeValidator(lambda value: Anything())]
    five: list["MayHaveOne"] = []


class Beyond(enum.IntEnum):
    BITS = 1 << 64


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
        (NeedsOne, NO_VALUE),
        (list[NeedsOne], NO_VALUE),
        (NeedsMany, "no JSON value is a Anything, which NeedsMany needs"),
        (NeedsCallable, "no JSON value is a Callable"),
        (pydantic.InstanceOf[Anything], NO_VALUE),
        (msgspec.Raw, "msgspec.Raw is made of bytes"),
        (msgspec.Raw | None, "msgspec.Raw is made of bytes"),
        (Beyond, "integers beyond 64 bits"),
        (dict[typing.Literal[1 << 64], int], "integers beyond 64 bits"),
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


class Folder(msgspec.Struct):
    folders: list["Folder"]


def test_a_name_in_quotes_inside_a_hint_of_a_field_is_read_or_told(caplog):
    binder = ParameterBinder(method_with(Folder))

    if sys.version_info < (3, 11):
        (record,) = caplog.records
        assert "write the whole hint in quotes, not 'Folder' in it" in record.getMessage()
    else:
        assert list(faults(binder, [{"folders": [{}]}])) == ["value"]


def test_a_model_that_can_do_without_an_object_of_python_is_checked(caplog):
    binder = ParameterBinder(method_with(MayHaveOne))

    assert not caplog.records
    ((made,), _) = binder.bind([{"one": None, "three": 3, "four": "x"}])
    assert isinstance(made.four, Anything)
    assert list(faults(binder, [{"one": 1, "three": 3, "four": "x"}])) == ["value"]


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
    source: Anything


@pytest.mark.parametrize("hint", [Job, list[Job], dict[str, Job | None], Annotated[Job, "doc"]])
def test_a_class_that_json_cannot_give_is_found_wherever_it_stands(hint, caplog):
    assert convert(hint, 5) == 5
    assert "'value' is not validated: no JSON value is a Anything" in caplog.text


# What neither msgspec nor JSON has a word for


class Word(str):
    pass


class Age(int):
    def __new__(cls, value):
        if value > 150:
            raise KeyError(value)
        return super().__new__(cls, value)


T = typing.TypeVar("T")
Either = typing.TypeVar("Either", int, str)
Bound = typing.TypeVar("Bound", bound="Order")
ISSUED = {datetime.date: ["2020-01-02", datetime.date(2020, 1, 2)]}


@dataclasses.dataclass
class Pair(typing.Generic[T]):
    first: T
    second: T


@dataclasses.dataclass
class Upload:
    source: pathlib.Path
    hosts: "collections.deque[ipaddress.IPv4Address]"
    sizes: typing.Iterable[int] = ()
    word: Word | None = None


class Parcel(msgspec.Struct):
    to: pathlib.Path | None = None
    users: list[User] = []


class Many(pydantic.BaseModel):
    numbers: typing.Iterable[int]


class Options(typing_extensions.TypedDict, total=False):
    depth: typing_extensions.Required[int]
    near: "list[Options]"
    place: pathlib.Path


@dataclasses.dataclass
class Seeded:
    total: int = dataclasses.field(init=False, default=0)
    seed: dataclasses.InitVar[int] = 1

    def __post_init__(self, seed: int) -> None:
        self.total = seed * 2


HOST = ipaddress.IPv4Address("10.0.0.1")


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (pathlib.Path, "a.txt", pathlib.Path("a.txt")),
        (os.PathLike, "a.txt", pathlib.Path("a.txt")),
        (ipaddress.IPv4Address, "10.0.0.1", HOST),
        (ipaddress.IPv6Network, "::/8", ipaddress.IPv6Network("::/8")),
        (collections.deque, [1, "a"], collections.deque([1, "a"])),
        (collections.deque[int], [1], collections.deque([1])),
        (typing.Iterable, ["a"], ["a"]),
        (typing.Iterable[datetime.date], *([v] for v in ISSUED[datetime.date])),
        (dict[str, typing.Iterable[int]], {"a": [1]}, {"a": [1]}),
        (Word, "x", Word("x")),
        (Age | None, 5, Age(5)),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (dict[float, str], {"1.5": "a"}, {1.5: "a"}),
        (dict[Color, int], {"red": 1}, {Color.RED: 1}),
        (dict[uuid.UUID, int], {str(uuid.UUID(int=1)): 1}, {uuid.UUID(int=1): 1}),
        (dict[datetime.date, int], {"2020-01-02": 1}, {datetime.date(2020, 1, 2): 1}),
        (dict[pathlib.Path, int], {"a": 1}, {pathlib.Path("a"): 1}),
        (collections.OrderedDict[str, int], {"a": 1}, collections.OrderedDict(a=1)),
        (Either, "a", "a"),
        (Bound, {"amount": 1}, Order(1)),
        (T, [1], [1]),
        (Pair[int], {"first": 1, "second": 2}, Pair(1, 2)),
        (typing_extensions.LiteralString, "a", "a"),
        (typing_extensions.Required[int], 1, 1),
        (typing.Final[int], 1, 1),
        (datetime.date | int, "2020-01-02", datetime.date(2020, 1, 2)),
        (pathlib.Path | int, "a", pathlib.Path("a")),
        (pathlib.Path | int, 1, 1),
        (Order | User, {"name": "a", "age": 1}, User(name="a", age=1)),
        (Order | User, {"amount": 1}, Order(1)),
        (Options, {"depth": 1, "place": "a"}, {"depth": 1, "place": pathlib.Path("a")}),
        (Parcel, {"to": "a"}, Parcel(pathlib.Path("a"))),
        (
            Upload,
            {"source": "a", "hosts": ["10.0.0.1"], "sizes": [1], "word": "w"},
            Upload(pathlib.Path("a"), collections.deque([HOST]), [1], Word("w")),
        ),
        (list["Order"], [{"amount": 1}], [Order(1)]),
        (typing.Optional["Order"], {"amount": 1}, Order(1)),
        (dict["str", "list['Order']"], {"a": [{"amount": 1}]}, {"a": [Order(1)]}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_no_library_knows_alone_is_converted_too(hint, value, expected, caplog):
    converted = convert(hint, value)

    assert converted == expected
    assert type(converted) is type(expected)
    assert not caplog.records


def test_fields_of_every_kind_of_class_are_converted():
    parcel = convert(Parcel, {"users": [{"name": "a", "age": 1}]})

    assert parcel.users == [User(name="a", age=1)]
    assert convert(Many, {"numbers": [1]}).numbers == [1]
    assert convert(Seeded, {"seed": 4}).total == 8


@pytest.mark.parametrize(
    ("hint", "value", "text"),
    [
        (pathlib.Path, 1, "Expected `str`, got `int`"),
        (ipaddress.IPv4Address, "300.0.0.1", "Invalid IPv4Address"),
        (ipaddress.IPv4Address, 1, "Expected `str`, got `int`"),
        (collections.deque[int], ["x"], "Expected `int`, got `str`"),
        (dict[str, collections.deque[int]], {"a": ["x"]}, "got `str` - at `$[...][0]`"),
        (Upload, {"source": 5, "hosts": []}, "Expected `str`, got `int` - at `$.source`"),
        (Upload, {"source": "a", "hosts": ["x"]}, "Invalid IPv4Address - at `$.hosts[0]`"),
        (Age, 151, "Invalid Age"),
        (Word, 5, "Expected `str`, got `int`"),
        (dict[int, str], {"x": "a"}, "Expected `int`, got `str`"),
        (Many, {"numbers": ["x"]}, "valid integer - at `$.numbers[0]`"),
        (typing.Iterable[pydantic.PositiveInt], [1, 0], "greater than 0 - at `$[1]`"),
        (User, {"name": "a", "age": "1"}, "valid integer - at `$.age`"),
        (Order | User, {}, "at `$"),
        (Pair[int], {"first": 1, "second": "x"}, "Expected `int`, got `str` - at `$.second`"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_they_do_not_fit_is_a_fault(hint, value, text):
    assert text in reason(hint, value)


@dataclasses.dataclass
class Brittle:
    word: str

    def __post_init__(self) -> None:
        if self.word == "key":
            raise KeyError(self.word)
        if self.word == "assert":
            raise AssertionError(self.word)
        raise ValueError(f"{self.word} is too weak")


def break_down(value: int) -> int:
    return value // 0


def test_what_a_class_raises_for_a_value_is_a_fault_without_the_value():
    assert reason(Brittle, {"word": SECRET}) == "... is too weak"
    assert reason(Brittle, {"word": "key"}) == "Cannot be made of this value: KeyError"
    assert reason(Brittle, {"word": "assert"}) == "Cannot be made of this value: AssertionError"
    divided = Annotated[int, pydantic.AfterValidator(break_down)]
    assert reason(divided, 1) == "Cannot be made of this value: ZeroDivisionError"


class Unfinished(pydantic.BaseModel):
    one: "NoSuchName"  # noqa: F821


class Empty(enum.Enum):
    pass


class Sets(pydantic.BaseModel):
    sets: set[frozenset[int] | int] = set()
    never: set[list[int]] = set()


P = typing_extensions.ParamSpec("P")


@pytest.mark.parametrize(
    ("hint", "why"),
    [
        (Unfinished, "holds a name that is not defined"),
        (list[Unfinished], "name that is not defined"),
        (collections.deque[Anything], NO_VALUE),
        (dict[tuple[int, int], int], "no key of a JSON object is a tuple"),
        (dict[None, pydantic.PositiveInt], "no key of a JSON object is a none"),
        (dict[Literal[1], pydantic.PositiveInt], "of the key of a JSON object"),
        (typing.Iterator[int], "no JSON value is a Iterator"),
        (typing.Generator[int, None, None], "no JSON value is a Generator"),
        (Literal[Color.RED], "Literal may only contain"),
        (Empty, "at least one item"),
        (
            Annotated[datetime.datetime, annotated_types.Timezone(None)],
            "nothing here knows the constraint Timezone(tz=None)",
        ),
        (type[int], "no JSON value is a type"),
        (msgspec.msgpack.Ext, "no JSON value is a msgpack.Ext"),
        (set[list[int]], "no item of a set is a list"),
        (frozenset[tuple[int, Address]], "no item of a set is a Address"),
        (list[set[int | Box]], "no item of a set is a Box"),
        (typing.AbstractSet[typing.Sequence[int]], "no item of a set is a Sequence"),
        (Sets, "which have no hash"),
        (P.args, "functools.wraps would"),
        (typing_extensions.Self, "Self"),
        (typing_extensions.Never, "Never"),
    ],
    ids=repr,
)
def test_a_hint_that_nothing_fits_is_warned_of(hint, why, caplog):
    assert convert(hint, 5) == 5
    assert why in caplog.text


def test_equal_hints_are_looked_at_once_unless_their_order_differs():
    checks = [check_for(hint) for hint in (list[int | str], list[int | str], list[str | int])]

    assert checks[0] is checks[1] is not checks[2]


# Constraints of both


@dataclasses.dataclass
class Twice:
    low: Annotated[int, msgspec.Meta(ge=0)]
    high: pydantic.PositiveInt = 1


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (Annotated[int, msgspec.Meta(gt=0), annotated_types.Lt(5)], 1, (0, 5)),
        (Twice, {"low": 0}, ({"low": -1}, {"low": 0, "high": 0})),
        (list[Twice], [{"low": 0}], ([{"low": -1}], [{"low": 0, "high": 0}])),
    ],
    ids=repr,
)
def test_constraints_of_msgspec_and_pydantic_hold_beside_each_other(hint, good, bad):
    convert(hint, good)
    for value in bad:
        assert reason(hint, value)


# Hints that hold themselves


Tree = typing_extensions.TypeAliasType("Tree", "dict[str, Tree] | list[Tree] | int")


@dataclasses.dataclass
class Garden:
    tree: Tree


Old = typing.Union[int, list["Old"]]  # noqa: UP007


def test_an_alias_that_holds_itself_is_checked():
    assert convert(Tree, {"a": [1, {"b": 2}]}) == {"a": [1, {"b": 2}]}
    assert reason(Tree, {"a": ["x"]})
    assert convert(Garden, {"tree": [1]}) == Garden([1])
    assert reason(Garden, {"tree": ["x"]})


def test_a_union_that_holds_itself_by_name_is_told_how_to_be_written(caplog):
    assert convert(Old, "x") == "x"
    assert "'Old' holds itself: write it as `type Old = ...`" in caplog.text


@pytest.mark.skipif(sys.version_info < (3, 12), reason="PEP 695")
def test_the_type_statement_and_type_parameters():
    scope = {"__name__": __name__, "Order": Order}
    exec(
        "type Json = dict[str, Json] | list[Json] | int | str | None\n"
        "type Row[T] = list[T]\n"
        "def method[T: int](a: Json, b: Row[int], c: 'T', d: 'Row[Order]'): ...",
        scope,
    )
    binder = ParameterBinder(scope["method"])

    args, _ = binder.bind([{"a": [1]}, [1], 5, [{"amount": 1}]])
    assert args == [{"a": [1]}, [1], 5, [Order(1)]]
    assert [*faults(binder, [{"a": 1.5}, ["x"], "x", [1]])] == ["a", "b", "c", "d"]


# Whatever may stand in a class


class Shop:
    @dataclasses.dataclass
    class Item:
        size: int

    def list(self): ...

    def sell(self, item: "Item", items: "list[Item]"): ...

    def given(self, amount: int, note: str) -> str:
        return f"{amount} {note}"

    noted = functools.partialmethod(given, note="x")

    @functools.singledispatchmethod
    def show(self, value: str) -> str:
        return f"text {value}"

    @show.register
    def _(self, value: int) -> str:
        return f"number {value}"

    def configure(self, **options: typing_extensions.Unpack[Options]): ...


def test_classes_in_the_body_of_the_class_are_known(caplog):
    binder = ParameterBinder(Shop.sell, skip=1, cls=Shop)

    assert binder.bind([{"size": 1}, [{"size": 2}]])[0] == [Shop.Item(1), [Shop.Item(2)]]
    assert not caplog.records


def test_partialmethods_and_dispatched_methods_have_their_own_parameters():
    noted = Shop().noted
    args, kwargs = ParameterBinder(noted).bind([5])
    assert noted(*args, **kwargs) == "5 x"
    assert [*faults(ParameterBinder(noted), ["5"])] == ["amount"]

    show = ParameterBinder(Shop().show)
    assert show.bind([5])[0] == [5]
    assert show.bind({"value": "a"})[1] == {"value": "a"}
    assert [*faults(show, [1.5])] == ["value"]


def test_unpacked_options_are_named_parameters():
    binder = ParameterBinder(Shop.configure, skip=1)

    assert binder.bind({"depth": 1, "place": "a"})[1] == {"depth": 1, "place": pathlib.Path("a")}
    assert faults(binder, {"dept": "x"}) == {
        "dept": "unexpected; did you mean 'depth'?",
        "depth": "missing",
    }
    assert [(p.name, p.kind, p.required) for p in binder.parameters] == [
        ("depth", "named", True),
        ("near", "named", False),
        ("place", "named", False),
    ]


def test_a_function_without_a_signature_is_refused():
    with pytest.raises(ServiceConfigurationError, match="does not say which parameters it takes"):
        ParameterBinder(dict.pop)


# Less strictly


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (int, "3", 3),
        (float, "1.5", 1.5),
        (bool, "true", True),
        (list[int], ["3"], [3]),
        (Order, {"amount": "3"}, Order(3)),
        (User, {"name": "a", "age": "3"}, User(name="a", age=3)),
        (pydantic.PositiveInt, "3", 3),
    ],
    ids=repr,
)
def test_a_text_may_stand_for_a_number_where_types_are_not_strict(hint, value, expected):
    binder = ParameterBinder(method_with(hint), strict=False)

    assert binder.bind([value])[0] == [expected]
    assert reason(hint, value)
    assert [*faults(binder, ["x"])]
