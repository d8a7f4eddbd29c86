"""JSON-RPC params against a signature: found before the call, every fault at once."""

import pytest

from gemstone_sync.contract import ParameterBinder
from gemstone_sync.errors import UNSET, InvalidParams


def call(function, params, *, skip=0):
    """Bind, then call, as the dispatcher does: what is bound must fit."""
    args, kwargs = ParameterBinder(function, skip=skip).bind(params)
    return function(*[None] * skip, *args, **kwargs)


def faults(function, params, *, skip=0):
    """Name or position of each parameter at fault -> why."""
    with pytest.raises(InvalidParams) as caught:
        ParameterBinder(function, skip=skip).bind(params)
    entries = caught.value.data.pop("parameters")
    assert caught.value.data == {}
    told = {entry.get("name", entry.get("position")): entry["reason"] for entry in entries}
    keys = ["name" if isinstance(where, str) else "position" for where in told]
    assert entries == [{k: w, "reason": told[w]} for k, w in zip(keys, told, strict=True)]
    return told


def plain(a, b, c=3):
    return [a, b, c]


def keyword_only(a, *, k, d=4):
    return [a, k, d]


def optional_keyword_only(a=1, *, d=4):
    return [a, d]


def positional_only(a, b=2, /, c=3):
    return [a, b, c]


def variable(a, *rest):
    return [a, *rest]


def named_rest(a, **rest):
    return [a, rest]


def everything(a, /, b, *rest, k=5, **more):
    return [a, b, rest, k, more]


def nothing():
    return []


def typed(name: str, age: int, email: str | None = None):
    return [name, age, email]


def noted(text: str | None):
    return text


def typed_rest(first: int, **more: int):
    return [first, more]


def typed_list(first: int, *more: int):
    return [first, *more]


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
        (typed, ["a", 4], ["a", 4, None]),
        (typed, {"email": "e", "age": 4, "name": "a"}, ["a", 4, "e"]),
        (noted, {"text": "a"}, "a"),
        (typed_rest, {"first": 1, "x": 2}, [1, {"x": 2}]),
        (typed_list, [1, 2, 3], [1, 2, 3]),
    ],
)
def test_every_kind_of_parameter_is_bound(function, params, result):
    assert call(function, params) == result


# What does not

MISSING, UNEXPECTED = "missing", "unexpected"
BY_NAME = "missing: it can only be given by name"
BY_POSITION = "missing: it can only be given by position"
NOT_BY_NAME = "unexpected by name: it can only be given by position"
EMAIL = "Expected `str | null`, got `int`"


def at_most(count):
    return f"unexpected: at most {count} are taken"


def got(kind):
    return f"Expected `int`, got `{kind}`"


def suggesting(alpha, /, *, deadline=0): ...


NOT_QUITE = {
    "alpha": BY_POSITION,
    "aplha": "unexpected; did you mean 'alpha'?",
    "dedline": "unexpected; did you mean 'deadline'?",
    "gamma": "unexpected",
}


@pytest.mark.parametrize(
    ("function", "params", "expected"),
    [
        (plain, UNSET, {"a": MISSING, "b": MISSING}),
        (plain, [1], {"b": MISSING}),
        (plain, {"b": 1}, {"a": MISSING}),
        (plain, [1, 2, 3, 4, 5], dict.fromkeys((3, 4), at_most(3))),
        (plain, {"a": 1, "b": 2, "something": 3}, {"something": UNEXPECTED}),
        (plain, {"x": 1, "y": 2}, dict.fromkeys("xy", UNEXPECTED) | dict.fromkeys("ab", MISSING)),
        (nothing, [1], {0: at_most(0)}),
        (nothing, {"a": 1}, {"a": UNEXPECTED}),
        (keyword_only, [1], {"k": BY_NAME}),
        (keyword_only, [1, 2], {"k": BY_NAME, 1: at_most(1)}),
        (keyword_only, {"a": 1}, {"k": MISSING}),
        (optional_keyword_only, [1, 2], {1: at_most(1)}),
        (positional_only, {"a": 1}, {"a": NOT_BY_NAME}),
        (positional_only, {"b": 1}, {"a": BY_POSITION, "b": NOT_BY_NAME}),
        (positional_only, {}, {"a": BY_POSITION}),
        (variable, {"a": 1, "rest": [2]}, {"rest": UNEXPECTED}),
        (variable, [], {"a": MISSING}),
        (named_rest, [1, 2], {1: at_most(1)}),
        (named_rest, {"x": 1}, {"a": MISSING}),
        (everything, {"a": 1, "b": 2}, {"a": BY_POSITION}),
        (typed, ["a", "4", 5, 6], {"age": got("str"), "email": EMAIL, 3: at_most(3)}),
        (typed, [1], {"name": "Expected `str`, got `int`", "age": MISSING}),
        (
            typed,
            {"age": "4", "emial": "a@b.c", "email": 5},
            {
                "name": MISSING,
                "age": got("str"),
                "email": EMAIL,
                "emial": "unexpected; did you mean 'email'?",
            },
        ),
        (typed_rest, {"first": "1", "x": 2, "y": None}, {"first": got("str"), "y": got("null")}),
        (typed_list, [1, "2", 3, []], {1: got("str"), 3: got("array")}),
        (suggesting, {"aplha": 1, "dedline": 1, "gamma": 2}, NOT_QUITE),
    ],
)
def test_each_parameter_at_fault_is_named_with_the_reason(function, params, expected):
    assert faults(function, params) == expected


def test_a_very_long_unexpected_name_is_answered_at_once():
    assert faults(plain, {"a": 1, "b": 2, "c" * 1_000_000: 3})


def numbers(*rest: int, **more: int): ...


@pytest.mark.parametrize("params", [[""] * 100_000, {str(n): "" for n in range(100_000)}])
@pytest.mark.parametrize("function", [plain, numbers])
def test_a_flood_of_faults_is_told_in_part(function, params):
    with pytest.raises(InvalidParams) as caught:
        ParameterBinder(function).bind(params)

    assert len(caught.value.data["parameters"]) == 100
    assert caught.value.data["more"] is True


# The names that Python has filled in already


class Service:
    def method(self, handler, a):
        return a

    def open(self, handler, **rest):
        return rest


@pytest.mark.parametrize("function", [Service.method, Service.open])
@pytest.mark.parametrize("name", ["self", "handler"])
def test_what_the_service_fills_in_cannot_be_given(name, function):
    reason = "unexpected: filled in by the service"

    assert faults(function, {"a": 1, name: 2}, skip=2) == {name: reason}


def test_other_reserved_looking_names_are_plain_names():
    assert call(Service.open, {"__class__": 1, "cls": 2}, skip=2) == {"__class__": 1, "cls": 2}
    assert faults(Service.method, {"a": 1, "__class__": 2}, skip=2) == {"__class__": "unexpected"}
    # Without the handler there may be a parameter of that name; a positional-only self leaves its.
    assert call(lambda self, handler, self_=0: handler, {"handler": 1}, skip=1) == 1
    assert call(lambda self, /, **rest: rest, {"self": 1}, skip=1) == {"self": 1}


def test_a_function_that_takes_fewer_than_the_service_fills_in_is_refused():
    with pytest.raises(TypeError, match="nothing takes fewer than 1 positional arguments"):
        ParameterBinder(nothing, skip=1)
    assert call(lambda *rest: rest, [1], skip=1) == (None, 1)


def test_binding_never_calls_the_function():
    def method(a: int):
        raise AssertionError("called")

    assert ParameterBinder(method).bind([1]) == ([1], {})
    assert faults(method, ["x"])


def test_what_was_bound_once_does_not_reach_the_next_call():
    binder = ParameterBinder(named_rest)
    binder.bind({"a": 1, "x": 2})

    assert dict(binder.bind({"a": 3})[1]) == {"a": 3}
