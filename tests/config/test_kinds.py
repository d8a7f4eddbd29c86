"""What is found outside, read by the hint of the attribute."""

import datetime
import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from gemstone_sync.config import Seconds
from gemstone_sync.config.kinds import kind_of
from gemstone_sync.errors import UNSET


class Colour(enum.Enum):
    RED = "red"


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
        (list[str], ["a"], ["a"]),
        (list[int], "1,2", [1, 2]),
        (list[int], [1, 2], [1, 2]),
        (Sequence[str] | None, "none", None),
        (Sequence[str] | None, "a", ["a"]),
        (tuple[int, ...], "1,2", (1, 2)),
        (set[str], "a,a", {"a"}),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Path, "/tmp/x", Path("/tmp/x")),
        (bytes, "é", "é".encode()),
        (str | bytes | None, "x", "x"),
        (int | str, "5", 5),
        (int | str, 5, 5),
        (int | str, "x", "x"),
        (list[str] | str, "a,b", "a,b"),
        (list[str] | str, ["a"], ["a"]),
        (bool | int, "2", 2),
        (str | Colour, "red", "red"),
        (Literal["a", "b"], "b", "b"),
        (Colour, "red", Colour.RED),
        (datetime.date, "2026-11-26", datetime.date(2026, 11, 26)),
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
        ([], "a,b", ["a", "b"]),
        ([1], "2,3", [2, 3]),
        (None, "text", "text"),
        (UNSET, "text", "text"),
        (object(), "text", "text"),
    ],
)
def test_without_a_hint_the_default_shows_what_is_wanted(
    default: Any, found: Any, value: Any
) -> None:
    assert kind_of(UNSET, default).convert(found) == value


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
        (Colour, "blue", "a value that fits"),
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
