"""Event names, and patterns as a topic exchange understands them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemstone_sync.event.names import (
    best_match,
    check_event_name,
    check_pattern,
    is_pattern,
    matches,
    specificity,
)

words = st.sampled_from(["a", "b", "cc"])
names = st.lists(words, min_size=1, max_size=5).map(".".join)
patterns = st.lists(words | st.sampled_from(["*", "#"]), min_size=1, max_size=5).map(".".join)


def naive(pattern: list[str], name: list[str]) -> bool:
    """AMQP 0-9-1, section 3.1.3.3, word for word."""
    if not pattern:
        return not name
    first, rest = pattern[0], pattern[1:]
    if first == "#":
        return any(naive(rest, name[skipped:]) for skipped in range(len(name) + 1))
    return bool(name) and first in ("*", name[0]) and naive(rest, name[1:])


@given(patterns, names)
def test_a_pattern_matches_what_the_specification_says(pattern: str, name: str):
    assert matches(pattern, name) == naive(pattern.split("."), name.split("."))


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "a.b", False),
        ("a.#", "a", True),
        ("a.#", "ab", False),
        ("a.b", "a.b", True),
        ("a.b", "a.b.a", False),
        ("a.*.c", "a..c", True),  # an empty word is a word
        ("a", "A", False),
        ("a.b", "a.b.", False),
    ],
)
def test_patterns_by_example(pattern: str, name: str, expected: bool):
    assert matches(pattern, name) is expected
    assert is_pattern(pattern) == ("*" in pattern or "#" in pattern)
    assert not is_pattern(name)


def test_a_pattern_of_many_wildcards_does_not_take_for_ever():
    assert not matches(".".join(["#"] * 60 + ["x"]), ".".join(["a"] * 90))


@given(st.lists(patterns, max_size=5), names)
def test_work_goes_to_a_pattern_that_matches_and_none_is_more_special(found: list[str], name: str):
    best = best_match(found, name)
    fitting = [pattern for pattern in found if matches(pattern, name)]
    assert (best is None) == (not fitting)
    if best is not None:
        assert best in fitting
        assert specificity(best) == min(map(specificity, fitting))
        assert best == best_match(reversed(found), name)


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a\n", "\x00", "\x7f", "x" * 201, "é" * 101, None, 5, b"a", "a*", "#b.c"],
)
def test_names_that_no_event_can_have_are_refused(name: object):
    with pytest.raises(ValueError, match="invalid event name"):
        check_pattern(name)
    with pytest.raises(ValueError, match="invalid event name"):
        check_event_name(name)


@pytest.mark.parametrize("name", ["*", "#", "a.*", "#.b"])
def test_wildcards_are_for_handlers(name: str):
    assert check_pattern(name) == name
    with pytest.raises(ValueError, match=re.escape("* and # are for the names of handlers")):
        check_event_name(name)


@pytest.mark.parametrize("name", ["a", "order.paid", "é.ü", "x" * 200, "a..b", "a-b_c:d/e"])
def test_names_that_may_be_emitted(name: str):
    assert check_event_name(name) == name
