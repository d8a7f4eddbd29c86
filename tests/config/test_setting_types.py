"""What is found outside, read by the hint of the attribute."""

import datetime
import enum
import sys
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NewType, Optional

import pytest

from gemstone_sync.config import Seconds
from gemstone_sync.config.setting_types import as_text, setting_type_of
from gemstone_sync.errors import UNSET


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


UserId = NewType("UserId", int)
TODAY = datetime.date(2026, 11, 26)
NOON = datetime.datetime(2026, 11, 26, 12)


#: What is found, and what it is read as, by hints that want it so.
READ: list[tuple[Any, list[tuple[Any, Any]]]] = [
    (int, [("8000", 8000), (" 8000 ", 8000), (8000, 8000), ("-1", -1)]),
    (float, [("1.5", 1.5), (2, 2.0)]),
    (str, [("", ""), (" a ", " a ")]),
    (bool, [("true", True), ("Yes", True), ("on", True), ("1", True)]),
    (bool, [("off", False), ("no", False), (0, False), (False, False)]),
    (int | None, [("none", None), (None, None), ("3", 3)]),
    (Optional[str], [("None", None), ("", "")]),  # noqa: UP045  # how users of 3.10 may write it
    (list[str], [("a, b,,c", ["a", "b", "c"]), ("", []), ('["a,b"]', ["a,b"]), (["a"], ["a"])]),
    (list[str], [("[a, b]", ["a", "b"]), ("\na\nb, c\n", ["a", "b", "c"])]),
    (list[int | None], [("1,none", [1, None])]),
    (list[int], [("1,2", [1, 2]), ([1, 2], [1, 2])]),
    (Sequence[str] | None, [("none", None), ("a", ["a"])]),
    (tuple[int, ...], [("1,2", (1, 2))]),
    (tuple[int, str], [("1,a", (1, "a")), ([1, "a"], (1, "a"))]),
    (set[str], [("a,a", {"a"})]),
    (dict[str, int], [(found, {"a": 1}) for found in ('{"a": 1}', {"a": 1}, {"a": "1"})]),
    (dict[int, Path], [('{"1": "/a"}', {1: Path("/a")})]),
    (Mapping[str, Seconds], [({"a": "2m"}, {"a": 120})]),
    (dict[str, Any], [({"a": [1]}, {"a": [1]})]),
    (dict, [({"a": [1]}, {"a": [1]})]),
    (Path, [("/tmp/x", Path("/tmp/x"))]),
    (bytes, [("é", "é".encode())]),
    (str | bytes | None, [("x", "x")]),
    (int | str, [("5", 5), (5, 5), ("x", "x")]),
    (list[str] | str, [("a,b", "a,b"), (["a"], ["a"])]),
    (bool | int, [("2", 2)]),
    (str | Colour, [("red", Colour.RED), ("grey", "grey")]),
    (Literal["a", "b"], [("b", "b")]),
    (Literal[1, 2], [("2", 2), (2, 2)]),
    (Colour, [("red", Colour.RED)]),
    (Colour | None, [("none", None)]),
    (Level, [("2", Level.HIGH), (2, Level.HIGH)]),
    (list[Colour], [("red,blue", [Colour.RED, Colour.BLUE])]),
    (datetime.date, [(found, TODAY) for found in ("2026-11-26", TODAY)]),
    (datetime.datetime, [("2026-11-26T12:00:00", NOON)]),
    (Decimal, [("1.25", Decimal("1.25"))]),
    (uuid.UUID, [("0" * 32, uuid.UUID(int=0))]),
    (ClassVar[int], [("5", 5)]),
    (Final[list[int]], [("5", [5])]),
    (UserId, [("5", 5)]),
    (datetime.timedelta, [("2m", datetime.timedelta(minutes=2))]),
    (Seconds, [("30", 30), ("1.5s", 1.5), ("500ms", 0.5), ("2m", 120), ("1h", 3600)]),
    (Seconds, [("1d", 86400), (2.5, 2.5)]),
    (Seconds | None, [("none", None), ("5 s", 5)]),
    (Any, [("x", "x")]),
]


@pytest.mark.parametrize(("hint", "cases"), READ)
def test_what_is_found_is_read_by_the_hint(hint, cases):
    for found, value in cases:
        read = setting_type_of(hint).convert(found)
        assert read == value
        assert type(read) is type(value) or isinstance(value, float)


@pytest.mark.parametrize(
    ("default", "found", "value"),
    [
        (5, "7", 7),
        (0.5, "7", 7.0),
        (False, "yes", True),
        ("", "7", "7"),
        (b"", "7", b"7"),
        ([], "a,b", ["a", "b"]),
        ([1], "2,3", [2, 3]),
        ((), "a", ("a",)),
        ((1, 2), "3", (3,)),
        ({1.5}, "2", {2.0}),
        (Path("/a"), "/b", Path("/b")),
        (Colour.RED, "blue", Colour.BLUE),
        (Level.LOW, "2", Level.HIGH),
        (datetime.timedelta(0), "2m", datetime.timedelta(minutes=2)),
        (datetime.datetime.min, "2026-11-26T12:00:00", NOON),
        (None, "text", "text"),
        (None, 5, 5),
        (None, "none", None),
        (UNSET, "text", "text"),
        (object(), "text", "text"),
    ],
)
def test_without_a_hint_the_default_shows_what_is_wanted(default, found, value):
    read = setting_type_of(UNSET, default).convert(found)

    assert read == value
    assert type(read) is type(value)


def test_a_final_without_a_type_is_no_hint():
    assert setting_type_of(Final, 5).convert("7") == 7


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement type is of Python 3.12")
def test_a_named_type_is_what_it_names():
    names: dict[str, Any] = {}
    exec("type Port = int", names)

    assert setting_type_of(names["Port"]).convert("7") == 7


DEEP = "[" * 100_000

#: What it must be, by the hint, and what is something else.
UNREADABLE: list[tuple[Any, str, list[Any]]] = [
    (int, "a whole number", ["many", "1.5", "12e4", "1_000", 1.0, "", True, [1], None]),
    (float, "a number", ["nan", "1e999", True, "1_000", 10**400]),
    (str, "a text", [5, True, None]),
    (bool, "true or false", ["", "maybe", 2]),
    (Seconds, "500ms, 30s", ["5 years", "-5s", "", float("inf"), 10**400, "9" * 400]),
    (Seconds | None, "or none", ["x"]),
    (int | float | None, "a whole number or a number, or none", ["x"]),
    (list[int], "a list", ["1,x", DEEP + "]" * 100_000]),
    (list[str], "a list", [{"a": 1}, 5]),
    (dict[str, int], "an object in JSON", ["5", "{", DEEP]),
    (dict[str, int], "an object in JSON (TEXT: N)", [{"a": "x"}]),
    (Literal["a", "b"], "'a' or 'b'", ["c"]),
    (Literal[1, 2], "'1' or '2'", [True]),
    (Path, "a path", [5]),
    (Colour, "'red' or 'blue'", ["grey"]),
    (Level, "'1' or '2'", ["3"]),
    (Level | None, "'1' or '2', or none", ["3"]),
    (datetime.date, "a date such as", ["x"]),
    (datetime.timedelta, "500ms, 30s", ["99999999999999d"]),
    (Decimal, "a number", ["x"]),
    (tuple[int, str], "a list of 2 (N,TEXT)", ["1", "1,a,b"]),
]


@pytest.mark.parametrize(("hint", "wanted", "values"), UNREADABLE)
def test_what_cannot_be_read_says_what_it_must_be(hint, wanted, values):
    for found in values:
        with pytest.raises(ValueError, match="must be") as caught:
            setting_type_of(hint).convert(found)
        assert wanted in str(caught.value)
        assert len(str(caught.value)) < 400, "a long value is not shown whole"


def test_a_value_whose_repr_would_never_end_is_shown_in_part():
    value: Any = ["x"]
    for _ in range(40):  # as the anchors of a YAML file can
        value = [value] * 10
    with pytest.raises(ValueError, match="must be a whole number") as caught:
        setting_type_of(int).convert(value)

    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        ([1, None, Colour.RED], "[1, none, red]"),
        ({"a": [1, True]}, '{"a": [1, true]}'),
        ({"a": Path("/b")}, '{"a": "/b"}'),
        (Level.HIGH, "2"),
        (datetime.timedelta(minutes=1), "60"),
        ("é".encode(), "é"),
        (0.5, "0.5"),
    ],
)
def test_values_are_shown_as_one_would_give_them(value, text):
    assert as_text(value) == text


def test_a_dictionary_that_json_cannot_show_is_shown_all_the_same():
    circle: dict[str, Any] = {}
    circle["a"] = circle

    assert as_text(circle) == "{'a': {...}}"
