"""The published schemas: valid themselves, and of one mind with the validator."""

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import sys
import threading
import typing
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import annotated_types
import jsonschema
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from typing_extensions import NotRequired, TypedDict

from gemstone_sync.contract.hints import Fault, UncheckedHint, check_for
from gemstone_sync.contract.schemas import schemas_of
from gemstone_sync.errors import ServiceConfigurationError
from gemstone_sync.protocol import decode_json, encode_json
from tests.contract import everything
from tests.support import hints
from tests.support.hints import JSON_VALUES, changed, hinted

REF = "#/components/schemas/"


def published(hint):
    """The schema of a hint with all that it refers to, as a validator wants it."""
    (schema,), shared = schemas_of([check_for(hint)])
    return {**schema, "components": {"schemas": shared}}


def takes(schema, value):
    return jsonschema.Draft202012Validator(schema).is_valid(value)


def fits(hint, value):
    convert = check_for(hint).convert
    try:
        if convert is not None:
            convert(value)
    except Fault:
        return False
    return True


# Random hints

EXAMPLES = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


def has_whole_float(value):
    """Tell whether there is a 1.0 in it, which JSON Schema takes for an integer."""
    if isinstance(value, float):
        return value.is_integer()
    inner = [*value.values()] if isinstance(value, dict) else value
    return isinstance(inner, list) and any(map(has_whole_float, inner))


def has_formats(hint, schema):
    """Tell whether texts are promised more of than a schema can check: dates, base64, paths."""
    text = json.dumps(schema)
    told = '"format"' in text or '"contentEncoding"' in text
    return told or "datetime" in repr(hint) or "datetime" in repr(vars(check_for(hint)))


def has_patterns(schema, value):
    """Tell whether a pattern met a text that ends with the end of a line.

    Before one that ends the text, Python's ``$`` matches too, and so does that of jsonschema; that
    of JSON Schema (ECMA-262) and pydantic does not.
    """
    return '"pattern"' in json.dumps(schema) and '\\n"' in json.dumps(value)


@EXAMPLES
@given(hinted(), st.data())
def test_validator_and_schema_take_the_same_values(drawn, data):
    try:
        schema = published(drawn.hint)
    except (UncheckedHint, ServiceConfigurationError):
        event("a hint that is not checked")
        assume(False)
    jsonschema.Draft202012Validator.check_schema(schema)
    right = data.draw(drawn.values)
    value = data.draw(st.one_of(st.just(right), changed(right), JSON_VALUES))
    accepted = fits(drawn.hint, value)
    event("fits" if accepted else "does not fit")

    if accepted:
        assert takes(schema, value), (drawn.hint, schema)
    elif takes(schema, value):  # then for a documented exception
        excused = has_whole_float(value) or has_formats(drawn.hint, schema)
        assert excused or has_patterns(schema, value), (drawn.hint, schema)


# What msgspec's own schemas get wrong, and what no random hint has


class Plain(enum.Flag):
    A = 1
    B = 2


class Gaps(enum.Flag):
    A = 1
    C = 4


class Open(enum.IntFlag):
    A = 1


class One(msgspec.Struct, tag=True):
    a: int


class Two(msgspec.Struct, tag="two"):
    a: int = 0


class Many(msgspec.Struct, array_like=True, tag=True):
    a: int
    b: int = 0


class Exact(msgspec.Struct, forbid_unknown_fields=True):
    a: int


class Pair(NamedTuple):
    a: int
    b: str = ""


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Tree:
    children: "list[Tree]" = dataclasses.field(default_factory=list)


T = TypeVar("T")


class Box(msgspec.Struct, Generic[T]):
    item: T


class Model(pydantic.BaseModel):
    a: int
    names: set[str] = set()
    by_number: dict[int, float] = {}


@dataclasses.dataclass
class Queued:
    waiting: list[collections.deque[str]]


_NEGATIVE = [{"flag": -1}] if sys.version_info >= (3, 11) else []


class WithFlag(pydantic.BaseModel):
    flag: Gaps


class Arbitrary(pydantic.BaseModel, arbitrary_types_allowed=True):
    """Has what only Python has."""

    a: threading.Event | None = None
    b: Callable[[], int] | None = None


class Dequed(TypedDict):
    a: NotRequired[collections.deque[str]]


NAMED = NewType("NAMED", int)

DECIDED = [
    (decimal.Decimal, [1, 1.5, "1.5"], [True, None]),
    (set[int], [[1, 1], []], [["a"]]),
    (Annotated[set[int], msgspec.Meta(max_length=1)], [[1]], [[1, 1]]),
    (Plain, [0, 1, 3, -1], [4, "A", True]),
    (Gaps, [0, 1, 4, 5], [2, 8]),
    # Python 3.10 takes -1 for all of a flag's members.
    (WithFlag, [{"flag": 0}, {"flag": 5}], [{"flag": 2}, {"flag": "A"}, *_NEGATIVE]),
    (set[Any], [[1, "a", None]], [[[]], [{}]]),
    (Annotated[set[Any], annotated_types.Len(1)], [[1]], [[], [[]]]),
    (Arbitrary, [{}, {"a": None}], [{"a": 1}, {"b": 1}, {"b": {}}]),
    *[(hint, [[1, "a"]], [1]) for hint in (list, set, frozenset)],
    (dict, [{"a": 1}], [1]),
    (
        dict[pydantic.StrictInt, int],
        [{k: 1} for k in ("-1", "+01_0", " 1.0 ")],
        [{"1.": 1}, {"a": 1}],
    ),
    (dict[pydantic.PositiveInt, int], [{"1_0": 1}], [{k: 1} for k in ("-1", "0", "0_0.0")]),
    (dict[pydantic.NonNegativeInt, int], [{"1": 1}, {"-0": 1}], [{"-1": 1}, {"1__0": 1}]),
    (pydantic.StrictInt, [1], ["1", True, 1.5]),
    (list[pydantic.StrictStr], [["a"]], [[1]]),
    (Dequed, [{"a": ["x"]}], [{"a": [1]}]),
    (Open, [8, -1], ["A"]),
    (One, [{"a": 1}, {"type": "One", "a": 1}], [{"type": "x", "a": 1}, {}]),
    (One | Two, [{"type": "two"}, {"type": "One", "a": 1}], [{"a": 1}, {"type": "One"}]),
    (One | Two | None, [None], [{}]),
    (Many, [["Many", 1], ["Many", 1, 2, "more"]], [[1], ["Many"], ["Many", "x"]]),
    (Exact, [{"a": 1}], [{"a": 1, "b": 2}]),
    (Pair, [[1], [1, ""]], [[], [1, "", 3], {"a": 1}]),
    (dict[int, str], [{"1": "a", "-5": "b", "-0": ""}], [{"01": ""}, {"1.0": ""}, {"a": ""}]),
    (dict[Level, int], [{"1": 1}], [{"2": 1}, {"LOW": 1}]),
    (dict[Literal["a", "b"], int], [{"a": 1}], [{"c": 1}]),
    (dict[int | str, int], [{"1": 1, "x": 1}], [{"x": "y"}]),
    (dict[float, int], [{"1": 1, "1e5": 1}], [{"x": 1}]),
    (Tree, [{}, {"children": [{"children": []}]}], [{"children": [{"children": 1}]}]),
    (Box[int], [{"item": 1}], [{"item": "x"}]),
    (Box[list[Box[str]]], [{"item": [{"item": "x"}]}], [{"item": [{"item": 1}]}]),
    (Model, [{"a": 1, "names": ["x", "x"]}, {"a": 1, "by_number": {"1": 1}}], [{}, {"a": "1"}]),
    (NAMED, [1], ["x"]),
    (list[Model] | None, [[{"a": 1}], None], [[{}], 1]),
    (Literal[1, "a", None], [1, "a", None], ["b", True]),
    (tuple[int, str], [[1, "a"]], [[1], [1, "a", 2], ["a", 1]]),
    (tuple[()], [[]], [[1]]),
    (typing.Iterable[int], [[1]], [["a"]]),
    (collections.deque[int], [[1]], [["a"]]),
    (list[collections.deque[int]] | None, [[[1]], None], [[["a"]], [1]]),
    (Queued, [{"waiting": [["a"]]}], [{"waiting": [[1]]}, {"waiting": "a"}]),
    (Annotated[str, msgspec.Meta(pattern="^a+$", min_length=2)], ["aa"], ["a", "ab"]),
    (Annotated[int, msgspec.Meta(multiple_of=3)], [3, 0], [4]),
    (Any, [1, None, {}], []),
    (None, [None], [0, ""]),
]


@pytest.mark.parametrize(("hint", "good", "bad"), DECIDED, ids=lambda each: str(each)[:40])
def test_both_decide_alike(hint, good, bad):
    schema = published(type(None) if hint is None else hint)
    jsonschema.Draft202012Validator.check_schema(schema)

    assert [value for value in good if not takes(schema, value)] == []
    assert [value for value in bad if takes(schema, value)] == []
    hint = type(None) if hint is None else hint
    assert [value for value in good if not fits(hint, value)] == []
    assert [value for value in bad if fits(hint, value)] == []


def test_what_is_checked_has_a_schema_though_msgspec_takes_no_union_of_its_items():
    hint = hints.Page[collections.deque[hints.Circle | hints.Square]]
    schema = published(hint)

    assert takes(schema, {"items": [{"kind": "circle", "radius": 1.5}]})
    assert not takes(schema, {"items": 1})


def test_formats_are_told_where_json_schema_has_them():
    zoned = Annotated[datetime.datetime, msgspec.Meta(tz=True)]

    assert published(zoned)["format"] == "date-time"
    assert "format" not in published(datetime.datetime)
    assert published(uuid.UUID)["format"] == "uuid"
    for price in (decimal.Decimal, Annotated[decimal.Decimal, annotated_types.Ge(0)]):
        assert published(price)["anyOf"][1] == {"type": "string", "format": "decimal"}
    assert published(datetime.timedelta)["format"] == "duration"


class Priced(pydantic.BaseModel):
    price: Annotated[decimal.Decimal, pydantic.Field(gt=0, le=100, multiple_of=2)] = (
        decimal.Decimal(2)
    )
    at: pydantic.AwareDatetime | None = None
    names: set[str] = {"x"}
    kind: Literal["a", "b"] = "a"


class Renamed(pydantic.BaseModel):
    a: int = pydantic.Field(1, serialization_alias="b")


class Computed(pydantic.BaseModel):
    model_config = {"extra": "forbid"}
    a: int = 1

    @pydantic.computed_field
    @property
    def twice(self) -> int:
        return 2 * self.a


class Excluding(pydantic.BaseModel):
    a: int = 1
    password: str = pydantic.Field(exclude=True)


class Serialized(pydantic.BaseModel):
    a: int = 1

    @pydantic.field_serializer("a")
    def as_text(self, value: int) -> str:
        return f"<{value}>"


class AsList(pydantic.BaseModel):
    a: int = 1

    @pydantic.model_serializer
    def as_list(self) -> list[int]:
        return [self.a]


class Holding(pydantic.BaseModel):
    text: pydantic.Json[dict[str, int]]
    inner: list[Serialized] = [Serialized()]


Shown = Annotated[int, pydantic.PlainSerializer(lambda value: f"<{value}>", return_type=str)]


@pytest.mark.parametrize(
    ("hint", "value", "shown"),
    [
        (Renamed, Renamed(), ["b"]),
        (Computed, Computed(), ["a", "twice"]),
        (Excluding, Excluding(password="x"), ["a"]),
        (Serialized, Serialized(), ["a"]),
        (AsList, AsList(), None),
        (Holding, Holding(text='{"a": 1}'), ["text", "inner"]),
    ],
)
def test_what_is_sent_is_described_as_it_is_sent(hint, value, shown):
    (taken, sent), shared = schemas_of([check_for(hint), check_for(hint)], sent=[1])

    assert taken != sent
    assert takes({**sent, "components": {"schemas": shared}}, decode_json(encode_json(value)))
    name = sent.get("$ref", "").removeprefix(REF)
    assert shown is None or [*shared[name]["properties"]] == shown


class Thing:
    pass


class Making(pydantic.BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    thing: Annotated[Thing, pydantic.BeforeValidator(lambda value: Thing())]
    other: Thing | None


@pytest.mark.parametrize("value", [{"thing": 1, "other": None}, {"thing": 1, "other": 1}])
def test_what_a_validator_makes_of_a_value_may_be_any(value):
    assert takes(published(Making), value) == fits(Making, value) == (value["other"] is None)


@pytest.mark.parametrize(("hint", "value"), [(Priced, Priced()), (Shown, 3)])
def test_what_is_sent_as_it_is_taken_is_described_once(hint, value):
    (taken, sent), shared = schemas_of([check_for(hint), check_for(hint)], sent=[1])

    assert taken == sent
    assert takes({**sent, "components": {"schemas": shared}}, decode_json(encode_json(value)))


class Mood(enum.Enum):
    """How somebody feels."""

    GOOD = "good"
    BAD = "bad"


@dataclasses.dataclass
class Diary:
    title: str
    mood: Mood
    others: "list[Diary] | None" = None


@dataclasses.dataclass
class Tagged:
    tags: set[str] = dataclasses.field(default_factory=set)  # pydantic tells of no such default


class Page(pydantic.BaseModel):
    mood: Mood
    diary: Diary
    tagged: Tagged


def test_a_class_that_both_libraries_check_is_told_once():
    hints = [Page, Mood, list[Diary], dict[str, Mood], Tagged]

    schemas, shared = schemas_of([check_for(hint) for hint in hints])

    here = __name__
    assert [*shared] == ["Diary", "Mood", "Page", "Tagged", f"{here}.Tagged"]
    assert schemas[1:3] == [
        {"$ref": REF + "Mood"},
        {"type": "array", "items": {"$ref": REF + "Diary"}},
    ]
    assert schemas[4] == {"$ref": REF + f"{here}.Tagged"}


def test_classes_of_one_name_are_told_apart_whatever_their_order():
    checks = [check_for(everything.Shelf.Item), check_for(everything.Basket.Item)]

    (shelf, basket), shared = schemas_of(checks)
    turned, shared_turned = schemas_of(checks[::-1])

    assert shelf != basket
    assert turned == [basket, shelf]
    assert shared == shared_turned
    assert list(shared) == [
        "tests.contract.everything.Basket.Item",
        "tests.contract.everything.Shelf.Item",
    ]


def test_a_class_that_msgspec_and_pydantic_describe_is_named_for_each():
    @dataclasses.dataclass
    class Item:
        n: int

    class Holder(pydantic.BaseModel):
        item: Item

    (plain, held), shared = schemas_of([check_for(Item), check_for(Holder)])

    assert plain["$ref"] != held["$ref"]
    assert all(ref.startswith(REF) for ref in (plain["$ref"], held["$ref"]))
    assert {plain["$ref"].removeprefix(REF), held["$ref"].removeprefix(REF)} <= set(shared)


def test_what_is_written_of_a_class_is_kept_and_what_python_writes_is_not():
    class Told(msgspec.Struct):
        """Told \x1b[31m<b>here</b>."""

        a: Annotated[int, msgspec.Meta(description="A number.", examples=[1])] = 3

    @dataclasses.dataclass
    class Silent:
        a: int

    _, shared = schemas_of([check_for(Told), check_for(Silent)])

    assert shared["Told"]["description"] == "Told [31m<b>here</b>."
    assert shared["Told"]["properties"]["a"] == {
        "type": "integer",
        "description": "A number.",
        "examples": [1],
        "default": 3,
    }
    assert "description" not in shared["Silent"]
