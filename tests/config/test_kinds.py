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
from gemstone_sync.config.kinds import as_text, kind_of
from gemstone_sync.errors import UNSET


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("hint", "found", "value"),
    [
        (int, "8000", 8000),
        (int, " 8000 ", 8000),
        (int, 8000, 8000),
        (int, "-1", -1),
        (float, "1.5", 1.5),
        (float, 2, 2.0),
        (str, "", ""),
        (str, " a ", " a "),
        (bool, "true", True),
        (bool, "Yes", True),
        (bool, "on", True),
        (bool, "1", True),
        (bool, "off", False),
        (bool, "no", False),
        (bool, 0, False),
        (bool, False, False),
        (int | None, "none", None),
        (int | None, None, None),
        (int | None, "3", 3),
        (Optional[str], "None", None),  # noqa: UP045  # how users of 3.10 may write it
        (Optional[str], "", ""),  # noqa: UP045
        (list[str], "a, b,,c", ["a", "b", "c"]),
        (list[str], "", []),
        (list[str], '["a,b"]', ["a,b"]),
        (list[str], "[a, b]", ["a", "b"]),
        (list[str], "\na\nb, c\n", ["a", "b", "c"]),
        (list[int | None], "1,none", [1, None]),
        (list[str], ["a"], ["a"]),
        (list[int], "1,2", [1, 2]),
        (list[int], [1, 2], [1, 2]),
        (Sequence[str] | None, "none", None),
        (Sequence[str] | None, "a", ["a"]),
        (tuple[int, ...], "1,2", (1, 2)),
        (tuple[int, str], "1,a", (1, "a")),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[str], "a,a", {"a"}),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (dict[str, int], {"a": "1"}, {"a": 1}),
        (dict[int, Path], '{"1": "/a"}', {1: Path("/a")}),
        (Mapping[str, Seconds], {"a": "2m"}, {"a": 120}),
        (dict[str, Any], {"a": [1]}, {"a": [1]}),
        (dict, {"a": [1]}, {"a": [1]}),
        (Path, "/tmp/x", Path("/tmp/x")),
        (bytes, "é", "é".encode()),
        (str | bytes | None, "x", "x"),
        (int | str, "5", 5),
        (int | str, 5, 5),
        (int | str, "x", "x"),
        (list[str] | str, "a,b", "a,b"),
        (list[str] | str, ["a"], ["a"]),
        (bool | int, "2", 2),
        (str | Colour, "red", Colour.RED),
        (str | Colour, "grey", "grey"),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (Literal[1, 2], 2, 2),
        (Colour, "red", Colour.RED),
        (Colour | None, "none", None),
        (Level, "2", Level.HIGH),
        (Level, 2, Level.HIGH),
        (list[Colour], "red,blue", [Colour.RED, Colour.BLUE]),
        (datetime.date, "2026-11-26", datetime.date(2026, 11, 26)),
        (datetime.date, datetime.date(2026, 11, 26), datetime.date(2026, 11, 26)),
        (datetime.datetime, "2026-11-26T12:00:00", datetime.datetime(2026, 11, 26, 12)),
        (Decimal, "1.25", Decimal("1.25")),
        (uuid.UUID, "0" * 32, uuid.UUID(int=0)),
        (ClassVar[int], "5", 5),
        (Final[list[int]], "5", [5]),
        (UserId, "5", 5),
        (datetime.timedelta, "2m", datetime.timedelta(minutes=2)),
        (Seconds, "30", 30),
        (Seconds, "1.5s", 1.5),
        (Seconds, "500ms", 0.5),
        (Seconds, "2m", 120),
        (Seconds, "1h", 3600),
        (Seconds, "1d", 86400),
        (Seconds, 2.5, 2.5),
        (Seconds | None, "none", None),
        (Seconds | None, "5 s", 5),
        (Any, "x", "x"),
    ],
)
def test_what_is_found_is_read_by_the_hint(hint: Any, found: Any, value: Any) -> None:
    read = kind_of(hint).convert(found)

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
        (datetime.datetime.min, "2026-11-26T12:00:00", datetime.datetime(2026, 11, 26, 12)),
        (None, "text", "text"),
        (None, 5, 5),
        (None, "none", None),
        (UNSET, "text", "text"),
        (object(), "text", "text"),
    ],
)
def test_without_a_hint_the_default_shows_what_is_wanted(
    default: Any, found: Any, value: Any
) -> None:
    read = kind_of(UNSET, default).convert(found)

    assert read == value
    assert type(read) is type(value)


def test_a_final_without_a_type_is_no_hint() -> None:
    assert kind_of(Final, 5).convert("7") == 7


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement type is of Python 3.12")
def test_a_named_type_is_what_it_names() -> None:
    names: dict[str, Any] = {}
    exec("type Port = int", names)

    assert kind_of(names["Port"]).convert("7") == 7


@pytest.mark.parametrize(
    ("hint", "found", "wanted"),
    [
        (int, "many", "a whole number"),
        (int, "1.5", "a whole number"),
        (int, "12e4", "a whole number"),
        (int, "1_000", "a whole number"),
        (int, 1.0, "a whole number"),
        (int, "", "a whole number"),
        (int, True, "a whole number"),
        (int, [1], "a whole number"),
        (int, None, "a whole number"),
        (float, "nan", "a number"),
        (float, "1e999", "a number"),
        (float, True, "a number"),
        (str, 5, "a text"),
        (str, True, "a text"),
        (str, None, "a text"),
        (bool, "", "true or false"),
        (bool, "maybe", "true or false"),
        (bool, 2, "true or false"),
        (Seconds, "5 years", "500ms, 30s"),
        (Seconds, "-5s", "500ms, 30s"),
        (Seconds, "", "500ms, 30s"),
        (Seconds, float("inf"), "500ms, 30s"),
        (Seconds | None, "x", "or none"),
        (int | float | None, "x", "a whole number or a number, or none"),
        (list[int], "1,x", "a list"),
        (list[str], {"a": 1}, "a list"),
        (list[str], 5, "a list"),
        (dict[str, int], "5", "an object in JSON"),
        (dict[str, int], "{", "an object in JSON"),
        (Literal["a", "b"], "c", "'a' or 'b'"),
        (Path, 5, "a path"),
        (Colour, "grey", "'red' or 'blue'"),
        (Level, "3", "'1' or '2'"),
        (Level | None, "3", "'1' or '2', or none"),
        (Literal[1, 2], True, "'1' or '2'"),
        (datetime.date, "x", "a date such as"),
        (Decimal, "x", "a number"),
        (float, "1_000", "a number"),
        pytest.param(float, 10**400, "a number", id="float-huge"),
        pytest.param(Seconds, 10**400, "500ms, 30s", id="Seconds-huge"),
        pytest.param(Seconds, "9" * 400, "500ms, 30s", id="Seconds-huge-text"),
        (datetime.timedelta, "99999999999999d", "500ms, 30s"),
        (tuple[int, str], "1", "a list of 2 (N,TEXT)"),
        (tuple[int, str], "1,a,b", "a list of 2 (N,TEXT)"),
        (dict[str, int], {"a": "x"}, "an object in JSON (TEXT: N)"),
        pytest.param(dict[str, int], "[" * 100_000, "an object", id="dict-deep"),
        pytest.param(list[int], "[" * 100_000 + "]" * 100_000, "a list", id="list-deep"),
    ],
)
def test_what_cannot_be_read_says_what_it_must_be(hint: Any, found: Any, wanted: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        kind_of(hint).convert(found)

    assert wanted in str(caught.value)


def test_a_long_value_is_not_shown_whole() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        kind_of(int).convert("9" * 10_000)

    assert len(str(caught.value)) < 400


def test_a_value_whose_repr_would_never_end_is_shown_in_part() -> None:
    value: Any = ["x"]
    for _ in range(40):  # as the anchors of a YAML file can
        value = [value] * 10
    with pytest.raises(ValueError, match="must be a whole number") as caught:
        kind_of(int).convert(value)

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
def test_values_are_shown_as_one_would_give_them(value: Any, text: str) -> None:
    assert as_text(value) == text


def test_a_dictionary_that_json_cannot_show_is_shown_all_the_same() -> None:
    circle: dict[str, Any] = {}
    circle["a"] = circle

    assert as_text(circle) == "{'a': {...}}"
