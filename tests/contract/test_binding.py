"""JSON-RPC params against a signature: found before the call, every fault at once."""

from typing import Any

import pytest

from gemstone_sync.contract import ParameterBinder
from gemstone_sync.errors import UNSET, InvalidParams


def bind(function: Any, params: Any, *, skip: int = 0) -> tuple[list[Any], dict[str, Any]]:
    args, kwargs = ParameterBinder(function, skip=skip).bind(params)
    return list(args), kwargs


def call(function: Any, params: Any, *, skip: int = 0) -> Any:
    """Bind, then call, as the dispatcher does: what is bound must fit."""
    args, kwargs = ParameterBinder(function, skip=skip).bind(params)
    return function(*[None] * skip, *args, **kwargs)


def faults(function: Any, params: Any, *, skip: int = 0) -> dict[Any, str]:
    """Name or position of each parameter at fault -> why."""
    with pytest.raises(InvalidParams) as caught:
        ParameterBinder(function, skip=skip).bind(params)
    (entries,) = caught.value.data.values()  # type: ignore[attr-defined]
    assert set(caught.value.data) == {"parameters"}  # type: ignore[call-overload]
    named = [entry["name"] if "name" in entry else entry["position"] for entry in entries]
    assert len(set(named)) == len(named), f"one is named twice: {entries}"
    assert all(set(e) in ({"name", "reason"}, {"position", "reason"}) for e in entries)
    return {name: entry["reason"] for name, entry in zip(named, entries, strict=True)}


def plain(a, b, c=3):  # type: ignore[no-untyped-def]
    return [a, b, c]


def keyword_only(a, *, k, d=4):  # type: ignore[no-untyped-def]
    return [a, k, d]


def optional_keyword_only(a=1, *, d=4):  # type: ignore[no-untyped-def]
    return [a, d]


def positional_only(a, b=2, /, c=3):  # type: ignore[no-untyped-def]
    return [a, b, c]


def variable(a, *rest):  # type: ignore[no-untyped-def]
    return [a, *rest]


def named_rest(a, **rest):  # type: ignore[no-untyped-def]
    return [a, rest]


def everything(a, /, b, *rest, k=5, **more):  # type: ignore[no-untyped-def]
    return [a, b, rest, k, more]


def nothing():  # type: ignore[no-untyped-def]
    return []


# What fits


@pytest.mark.parametrize(
    ("function", "params", "result"),
    [
        (plain, [1, 2], [1, 2, 3]),
        (plain, [1, 2, None], [1, 2, None]),
        (plain, {"a": 1, "b": 2}, [1, 2, 3]),
        (plain, {"c": 0, "b": 2, "a": 1}, [1, 2, 0]),
        (keyword_only, {"a": 1, "k": 2}, [1, 2, 4]),
        (keyword_only, {"a": 1, "k": 2, "d": 3}, [1, 2, 3]),
        (optional_keyword_only, [], [1, 4]),
        (optional_keyword_only, [0], [0, 4]),
        (optional_keyword_only, {"d": 0}, [1, 0]),
        (optional_keyword_only, UNSET, [1, 4]),
        (positional_only, [1], [1, 2, 3]),
        (positional_only, [1, 2, 4], [1, 2, 4]),
        (variable, [1], [1]),
        (variable, [1, 2, 3], [1, 2, 3]),
        (variable, {"a": 1}, [1]),
        (named_rest, {"a": 1}, [1, {}]),
        (named_rest, {"a": 1, "x": 2, "rest": 3}, [1, {"x": 2, "rest": 3}]),
        (named_rest, [1], [1, {}]),
        (everything, [1, 2, 3, 4], [1, 2, (3, 4), 5, {}]),
        (nothing, [], []),
        (nothing, {}, []),
        (nothing, UNSET, []),
    ],
)
def test_every_kind_of_parameter_is_bound(function: Any, params: Any, result: Any) -> None:
    assert call(function, params) == result


# What does not


@pytest.mark.parametrize(
    ("function", "params", "expected"),
    [
        (plain, UNSET, {"a": "missing", "b": "missing"}),
        (plain, [1], {"b": "missing"}),
        (plain, {"b": 1}, {"a": "missing"}),
        (plain, [1, 2, 3, 4, 5], {3: "at most 3", 4: "at most 3"}),
        (plain, {"a": 1, "b": 2, "z": 3}, {"z": "unexpected"}),
        (plain, {"x": 1, "y": 2}, dict.fromkeys("xy", "unexpected") | dict.fromkeys("ab", "miss")),
        (nothing, [1], {0: "at most 0"}),
        (nothing, {"a": 1}, {"a": "unexpected"}),
        (keyword_only, [1], {"k": "only be given by name"}),
        (keyword_only, [1, 2], {"k": "only be given by name", 1: "at most 1"}),
        (keyword_only, {"a": 1}, {"k": "missing"}),
        (optional_keyword_only, [1, 2], {1: "at most 1"}),
        (positional_only, {"a": 1}, {"a": "by position"}),
        (positional_only, {"b": 1}, {"a": "by position", "b": "by position"}),
        (positional_only, {}, {"a": "by position"}),
        (variable, {"a": 1, "rest": [2]}, {"rest": "unexpected"}),
        (variable, [], {"a": "missing"}),
        (named_rest, [1, 2], {1: "at most 1"}),
        (named_rest, {"x": 1}, {"a": "missing"}),
        (everything, {"a": 1, "b": 2}, {"a": "by position"}),
    ],
)
def test_each_parameter_at_fault_is_named_with_the_reason(
    function: Any, params: Any, expected: dict[Any, str]
) -> None:
    found = faults(function, params)

    assert set(found) == set(expected)
    for name, reason in expected.items():
        assert reason in found[name]


def typed(name: str, age: int, email: str | None = None) -> None: ...


def test_wrong_values_missing_and_unexpected_ones_are_told_together() -> None:
    found = faults(typed, {"age": "4", "emial": "a@b.c", "email": 5})

    assert found["name"] == "missing"
    assert found["age"] == "Expected `int`, got `str`"
    assert found["email"].startswith("Expected `str | null`, got `int`")
    assert found["emial"] == "unexpected; did you mean 'email'?"


def test_by_position_too_every_fault_is_told_at_once() -> None:
    assert list(faults(typed, [1, "4", 5, 6])) == ["name", "age", "email", 3]
    assert list(faults(typed, [1])) == ["name", "age"]


def test_a_name_that_is_nowhere_near_gets_no_suggestion() -> None:
    assert faults(plain, {"a": 1, "b": 2, "something": 3}) == {"something": "unexpected"}


def test_a_very_long_unexpected_name_is_answered_at_once() -> None:
    assert faults(plain, {"a": 1, "b": 2, "c" * 1_000_000: 3})


@pytest.mark.parametrize("params", [[0] * 100_000, {str(n): 0 for n in range(100_000)}])
def test_a_flood_of_faults_is_told_in_part(params: Any) -> None:
    with pytest.raises(InvalidParams) as caught:
        ParameterBinder(plain).bind(params)

    data = caught.value.data
    assert 10 <= len(data["parameters"]) <= 1000  # type: ignore[index]
    assert data["more"] is True  # type: ignore[index]


@pytest.mark.parametrize("params", [["x"] * 100_000, {str(n): "x" for n in range(100_000)}])
def test_a_flood_of_wrong_values_is_told_in_part(params: Any) -> None:
    def numbers(*rest: int, **more: int) -> None: ...

    with pytest.raises(InvalidParams) as caught:
        ParameterBinder(numbers).bind(params)
    assert 10 <= len(caught.value.data["parameters"]) <= 1000  # type: ignore[index]
    assert caught.value.data["more"] is True  # type: ignore[index]


# The names that Python has filled in already


class Service:
    def method(self, handler, a):  # type: ignore[no-untyped-def]
        return a

    def open(self, handler, **rest):  # type: ignore[no-untyped-def]
        return rest


@pytest.mark.parametrize("name", ["self", "handler"])
def test_what_the_service_fills_in_cannot_be_given(name: str) -> None:
    assert faults(Service.method, {"a": 1, name: 2}, skip=2) == {
        name: "unexpected: filled in by the service"
    }
    assert faults(Service.open, {"a": 1, name: 2}, skip=2) == {
        name: "unexpected: filled in by the service"
    }


def test_other_reserved_looking_names_are_plain_names() -> None:
    assert call(Service.open, {"__class__": 1, "cls": 2}, skip=2) == {"__class__": 1, "cls": 2}
    assert faults(Service.method, {"a": 1, "__class__": 2}, skip=2) == {"__class__": "unexpected"}


def test_a_method_without_the_handler_may_have_a_parameter_of_that_name() -> None:
    def method(self, handler, self_=0):  # type: ignore[no-untyped-def]
        return handler

    assert call(method, {"handler": 1}, skip=1) == 1


def test_a_positional_only_self_leaves_its_name_free() -> None:
    def method(self, /, **rest):  # type: ignore[no-untyped-def]
        return rest

    assert call(method, {"self": 1}, skip=1) == {"self": 1}


def test_binding_never_calls_the_function() -> None:
    def method(a: int) -> None:
        raise AssertionError("called")

    assert bind(method, [1]) == ([1], {})
    assert faults(method, ["x"])


def test_what_was_bound_once_does_not_reach_the_next_call() -> None:
    binder = ParameterBinder(named_rest)
    binder.bind({"a": 1, "x": 2})

    assert dict(binder.bind({"a": 3})[1]) == {"a": 3}
