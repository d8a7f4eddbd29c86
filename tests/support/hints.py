"""Random type hints, each with JSON values that fit it: for what must hold for every hint."""

import collections
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import itertools
import pathlib
import typing
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, Union

import annotated_types
import msgspec
import pydantic
from hypothesis import strategies as st
from typing_extensions import (  # TypedDict: pydantic wants it before Python 3.12
    NotRequired,
    Required,
    TypeAliasType,
    TypedDict,
)

__all__ = ["JSON_VALUES", "Hinted", "changed", "hinted"]

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
_INTS = st.integers(-(2**70), 2**70) | st.integers(-3, 12)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)

#: Any JSON value, as it is decoded.
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | _INTS | _FLOATS | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(str):
    """A text of one's own."""


class Right(enum.Flag):
    READ = 1
    WRITE = 4


class Cat(msgspec.Struct, tag=True):
    lives: int = 9


class Dog(msgspec.Struct, tag="dog", forbid_unknown_fields=True):
    name: str


class Renamed(msgspec.Struct, rename="camel"):
    first_name: str
    last_name: str = ""


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Row(msgspec.Struct, array_like=True):
    a: int
    b: str = ""


class Node(msgspec.Struct):
    value: int
    next: Optional["Node"] = None


@dataclasses.dataclass
class Tree:
    children: list["Tree"] = dataclasses.field(default_factory=list)


class Partly(TypedDict, total=False):
    a: Required[int]
    b: NotRequired[str]
    c: Annotated[int, msgspec.Meta(ge=0)]


class Closed(pydantic.BaseModel, extra="forbid"):
    a: int = pydantic.Field(alias="anA", ge=0)
    b: list["Closed"] = []


class Circle(pydantic.BaseModel):
    kind: Literal["circle"]
    radius: pydantic.NonNegativeFloat


class Square(pydantic.BaseModel):
    kind: Literal["square"]
    side: Annotated[int, annotated_types.Interval(ge=1, le=5)]


@pydantic.dataclasses.dataclass
class Checked:
    a: Annotated[int, pydantic.Field(multiple_of=3)]
    b: str | None = None


T = typing.TypeVar("T")
Bounded = typing.TypeVar("Bounded", bound=int)
Chosen = typing.TypeVar("Chosen", int, str)
Amount = NewType("Amount", int)
Ints = TypeAliasType("Ints", list[int])
Nested = TypeAliasType("Nested", "dict[str, Nested] | int")
Shape = Annotated[Circle | Square, pydantic.Field(discriminator="kind")]


class Page(msgspec.Struct, Generic[T]):
    items: list[T]
    next: str | None = None


def _object(needed: dict[str, Any], **optional: Any) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(needed, optional=optional)


@dataclasses.dataclass(frozen=True)
class Hinted:
    """A hint, and a strategy of JSON values that fit it.

    :ivar text: values are texts in JSON, so that it may be the type of a dict's keys.
    """

    hint: Any
    values: st.SearchStrategy[Any]
    text: bool = False

    def __repr__(self) -> str:
        return f"Hinted({self.hint!r})"


def _few(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=1, max_size=2)


def _plain_ones(values: list[Any]) -> list[Any]:
    """Leave what any set may hold."""
    return [value for value in values if not isinstance(value, (list, dict))]


def _texts_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return values.map(str)


LEAVES = [
    Hinted(int, _INTS),
    Hinted(str, _TEXTS, text=True),
    Hinted(bool, st.booleans()),
    Hinted(float, _FLOATS | st.integers(-(2**53), 2**53)),
    Hinted(None, st.none()),
    Hinted(Any, JSON_VALUES),
    Hinted(bytes, st.sampled_from(["", "YWI="])),
    Hinted(decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False).map(str), text=True),
    Hinted(uuid.UUID, _texts_of(st.uuids()), text=True),
    Hinted(datetime.date, st.dates().map(datetime.date.isoformat), text=True),
    Hinted(datetime.datetime, st.datetimes().map(datetime.datetime.isoformat), text=True),
    Hinted(Color, st.sampled_from(["red", "blue"]), text=True),
    Hinted(Level, st.sampled_from([1, 2])),
    Hinted(Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    Hinted(Amount, _INTS),
    Hinted(Word, _TEXTS, text=True),
    Hinted(pathlib.PurePosixPath, st.sampled_from(["a", "/a/b.txt"]), text=True),
    Hinted(ipaddress.IPv4Address, _texts_of(st.ip_addresses(v=4)), text=True),
    Hinted(Annotated[int, msgspec.Meta(ge=3, lt=9)], st.integers(3, 8)),
    Hinted(Annotated[str, msgspec.Meta(max_length=2)], st.sampled_from(["", "ab"])),
    Hinted(Annotated[int, annotated_types.Gt(0)], st.integers(1, 2**60)),
    Hinted(pydantic.PositiveInt, st.integers(1, 2**60)),
    Hinted(Annotated[str, pydantic.Field(min_length=2)], st.sampled_from(["ab", "abc"])),
    # Constraints: numbers, texts, containers; msgspec's, annotated_types', pydantic's.
    Hinted(Annotated[float, msgspec.Meta(gt=0, le=2.5)], st.sampled_from([0.5, 1, 2.5])),
    Hinted(Annotated[int, msgspec.Meta(multiple_of=3)], st.sampled_from([-3, 0, 9])),
    Hinted(Annotated[str, msgspec.Meta(pattern="^[a-c]+$")], st.sampled_from(["a", "cab"])),
    Hinted(Annotated[str, msgspec.Meta(min_length=1)], st.text("ab\u00e9", min_size=1)),
    Hinted(Annotated[list[int], msgspec.Meta(min_length=1, max_length=2)], _few(_INTS)),
    Hinted(Annotated[dict[str, int], msgspec.Meta(min_length=1)], st.just({"a": 1})),
    Hinted(Annotated[set[int], msgspec.Meta(max_length=2)], _few(st.integers(0, 1))),
    Hinted(Annotated[list[int], annotated_types.Len(1, 2)], _few(_INTS)),
    Hinted(Annotated[list[Annotated[int, annotated_types.Ge(0)]], "a note"], st.just([0, 1])),
    Hinted(Annotated[int, annotated_types.Interval(ge=-1, lt=4)], st.integers(-1, 3)),
    Hinted(Annotated[int, annotated_types.MultipleOf(2)], st.sampled_from([-2, 0, 4])),
    Hinted(Annotated[float, annotated_types.Le(1.5)], st.sampled_from([-1.5, 1, 1.5])),
    Hinted(Annotated[str, pydantic.StringConstraints(pattern="^x", max_length=3)], st.just("x1")),
    Hinted(Annotated[str, pydantic.Field(pattern="^[0-9]{2}$")], st.just("07")),
    Hinted(Annotated[set[int], pydantic.Field(max_length=2)], _few(st.integers(0, 1))),
    Hinted(pydantic.conlist(int, min_length=1, max_length=2), _few(st.integers(0, 9))),
    Hinted(pydantic.NegativeFloat, st.sampled_from([-1.5, -1])),
    Hinted(pydantic.StrictInt, _INTS),
    Hinted(Annotated[decimal.Decimal, annotated_types.Ge(0)], st.just("1.5")),
    # Times, addresses, flags.
    Hinted(datetime.time, st.times().map(datetime.time.isoformat), text=True),
    Hinted(datetime.timedelta, st.sampled_from(["P1D", "PT1.5S"]), text=True),
    Hinted(Annotated[datetime.datetime, msgspec.Meta(tz=True)], st.just("2026-11-30T05:00:00Z")),
    Hinted(ipaddress.IPv6Address, _texts_of(st.ip_addresses(v=6)), text=True),
    Hinted(ipaddress.IPv4Network, st.just("10.0.0.0/8"), text=True),
    Hinted(Right, st.sampled_from([0, 1, 4, 5])),
    Hinted(Literal[True, 0, "x"], st.just("x")),
    Hinted(bytearray, st.just("YWI=")),
    # Classes.
    Hinted(Point, st.lists(_INTS, min_size=1, max_size=2)),
    Hinted(Row, st.just([1]) | st.just([1, "b"]) | st.just([1, "b", None])),
    Hinted(Renamed, _object({"firstName": _TEXTS}, lastName=_TEXTS)),
    Hinted(Node, _object({"value": _INTS}, next=_object({"value": _INTS}))),
    Hinted(Tree, _object({}, children=st.just([{}, {"children": [{}]}]))),
    Hinted(Partly, _object({"a": _INTS}, b=_TEXTS, c=st.integers(0, 9))),
    Hinted(Cat | Dog, st.just({"type": "Cat"}) | st.just({"type": "dog", "name": "x"})),
    Hinted(Dog, st.just({"name": "x"}) | st.just({"type": "dog", "name": "x"})),
    Hinted(Closed, _object({"anA": st.integers(0, 9)}, b=st.just([{"anA": 1}]))),
    Hinted(
        Shape, st.just({"kind": "circle", "radius": 1}) | st.just({"kind": "square", "side": 5})
    ),
    Hinted(Circle | Square, st.just({"kind": "square", "side": 1})),
    Hinted(Checked, _object({"a": st.just(3)}, b=_TEXTS | st.none())),
    Hinted(Page[int], _object({"items": _few(_INTS)}, next=_TEXTS)),
    # Names for others.
    Hinted(Ints, st.lists(_INTS)),
    Hinted(Nested, st.just({"a": {"b": 1}}) | _INTS),
    Hinted(T, JSON_VALUES),
    Hinted(Bounded, _INTS),
    Hinted(Chosen, _INTS | _TEXTS),
]

_numbers = itertools.count()


def changed(value: Any) -> st.SearchStrategy[Any]:
    """Draw a value with something else in one place of it, or without that place."""
    if isinstance(value, list) and value:
        at = st.integers(0, len(value) - 1)
        return JSON_VALUES | at.flatmap(
            lambda n: (
                changed(value[n]).map(lambda v: [*value[:n], v, *value[n + 1 :]])
                | st.just([*value[:n], *value[n + 1 :]])
                | JSON_VALUES.map(lambda v: [*value, v])
            )
        )
    if isinstance(value, dict) and value:
        keys = st.sampled_from(sorted(value))
        return JSON_VALUES | keys.flatmap(
            lambda key: (
                changed(value[key]).map(lambda v: {**value, key: v})
                | st.just({k: v for k, v in value.items() if k != key})
                | st.tuples(_TEXTS | st.just("b"), JSON_VALUES).map(lambda p: {**value, p[0]: p[1]})
            )
        )
    if type(value) in (int, float):
        return JSON_VALUES | st.sampled_from([-1, 1, 0.5]).map(lambda n: value + n)
    if isinstance(value, str):
        return JSON_VALUES | st.sampled_from([value + "\n", value[:-1], f"-{value}", f"{value}.0"])
    return JSON_VALUES


def _dataclass(inner: Hinted) -> Hinted:
    cls = dataclasses.make_dataclass(
        f"Data{next(_numbers)}", [("a", inner.hint), ("b", int, dataclasses.field(default=5))]
    )
    values = st.fixed_dictionaries({"a": inner.values}, optional={"b": _INTS})
    return Hinted(cls, values)


def _struct(inner: Hinted) -> Hinted:
    cls = msgspec.defstruct(f"Struct{next(_numbers)}", [("a", inner.hint), ("b", int, 5)])
    return Hinted(cls, st.fixed_dictionaries({"a": inner.values}, optional={"b": _INTS}))


def _typed_dict(inner: Hinted) -> Hinted:
    cls = TypedDict(f"Typed{next(_numbers)}", {"a": inner.hint})  # noqa: UP013
    return Hinted(cls, st.fixed_dictionaries({"a": inner.values}))


def _named_tuple(inner: Hinted) -> Hinted:
    fields = [("a", inner.hint), ("b", int)]
    cls: Any = NamedTuple(f"Named{next(_numbers)}", fields)  # type: ignore[misc]
    return Hinted(cls, st.tuples(inner.values, _INTS).map(list))


def _partial(inner: Hinted) -> Hinted:
    cls = TypedDict(f"Partial{next(_numbers)}", {"a": NotRequired[inner.hint], "b": int})  # noqa: UP013
    return Hinted(cls, st.fixed_dictionaries({"b": _INTS}, optional={"a": inner.values}))


def _model(inner: Hinted) -> Hinted:
    if "Iterable" in repr(inner.hint):  # the model warns when it is written
        return inner
    fields: Any = {"a": (inner.hint, ...), "b": (int, 5)}
    try:
        cls = pydantic.create_model(f"Model{next(_numbers)}", **fields)
    except pydantic.PydanticUserError:  # a Struct, or a class of one's own, which it does not know
        return inner
    return Hinted(cls, st.fixed_dictionaries({"a": inner.values}, optional={"b": _INTS}))


def _lists(origin: Any, inner: Hinted) -> Hinted:
    return Hinted(origin[inner.hint], st.lists(inner.values, max_size=3))


def _composed(inner: st.SearchStrategy[Hinted]) -> st.SearchStrategy[Hinted]:
    lists = [list, collections.deque, typing.Sequence, typing.Iterable, typing.Collection]
    return st.one_of(
        st.builds(_lists, st.sampled_from(lists), inner),
        inner.map(lambda h: Hinted(tuple[h.hint, ...], st.lists(h.values, max_size=3))),
        st.tuples(inner, inner).map(
            lambda p: Hinted(
                tuple[p[0].hint, p[1].hint], st.tuples(p[0].values, p[1].values).map(list)
            )
        ),
        st.tuples(st.sampled_from([leaf for leaf in LEAVES if leaf.text]), inner).map(
            lambda p: Hinted(
                dict[p[0].hint, p[1].hint],
                st.dictionaries(p[0].values, p[1].values, max_size=3),
            )
        ),
        inner.map(
            lambda h: Hinted(
                dict[int, h.hint], st.dictionaries(_INTS.map(str), h.values, max_size=3)
            )
        ),
        inner.map(lambda h: Hinted(Optional[h.hint], st.none() | h.values)),  # noqa: UP045
        st.tuples(inner, inner).map(
            lambda p: Hinted(Union[p[0].hint, p[1].hint], p[0].values | p[1].values)  # noqa: UP007
        ),
        st.tuples(st.sampled_from([set, frozenset, typing.AbstractSet]), inner).map(
            lambda p: Hinted(p[0][p[1].hint], st.lists(p[1].values, max_size=1).map(_plain_ones))
        ),
        st.tuples(st.sampled_from([collections.OrderedDict, typing.Mapping]), inner).map(
            lambda p: Hinted(p[0][str, p[1].hint], st.dictionaries(_TEXTS, p[1].values, max_size=2))
        ),
        inner.map(
            lambda h: Hinted(
                dict[Level, h.hint],
                st.dictionaries(st.sampled_from(["1", "2"]), h.values, max_size=2),
            )
        ),
        inner.map(
            lambda h: Hinted(Page[h.hint], _object({"items": st.lists(h.values, max_size=2)}))
        ),
        inner.map(lambda h: Hinted(NewType("New", h.hint), h.values)),
        inner.map(lambda h: Hinted(TypeAliasType("Alias", h.hint), h.values)),
        inner.map(_named_tuple),
        inner.map(_partial),
        inner.map(_dataclass),
        inner.map(_struct),
        inner.map(_typed_dict),
        inner.map(_model),
    )


def hinted() -> st.SearchStrategy[Hinted]:
    """Draw a hint with a strategy of values that fit it; some hints cannot be checked."""
    return st.recursive(st.sampled_from(LEAVES), _composed, max_leaves=4)
