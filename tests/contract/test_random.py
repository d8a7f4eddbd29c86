"""What holds for every hint and every signature, whatever a caller sends."""

import contextlib
import inspect

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemstone_sync.contract import ParameterBinder
from gemstone_sync.contract.hints import Fault, UncheckedHint, check_for
from gemstone_sync.contract.results import result_check_for
from gemstone_sync.errors import InvalidParams, ServiceConfigurationError
from tests.support.hints import JSON_VALUES, Hinted, hinted

EXAMPLES = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])


def check_of(drawn: Hinted, strict: bool):
    try:
        return check_for(drawn.hint, strict=strict)
    except (UncheckedHint, ServiceConfigurationError):  # which is told at the start
        return None


@EXAMPLES
@given(hinted(), JSON_VALUES, st.booleans())
def test_a_value_that_does_not_fit_is_a_fault_and_nothing_else(drawn, value, strict):
    check = check_of(drawn, strict)
    if check is None or check.convert is None:
        return
    with contextlib.suppress(Fault):
        check.convert(value)


@EXAMPLES
@given(hinted(), st.data())
def test_a_value_that_fits_is_taken_and_fits_again_as_a_result(drawn, data):
    check = check_of(drawn, strict=True)
    if check is None or check.convert is None:
        return
    value = data.draw(drawn.values)
    made = check.convert(value)
    result_check_for(drawn.hint)(made)


# Signatures

KINDS = [
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.VAR_KEYWORD,
]
NAMES = st.sampled_from("abcde")


@st.composite
def signatures(draw):
    """A function with a random signature, made by Python from its text."""
    names = draw(st.permutations("abcde"))[: draw(st.integers(0, 5))]
    kinds = sorted(draw(st.sampled_from(KINDS)) for _ in names)
    parameters, defaults = [], False
    for name, kind in zip(names, kinds, strict=True):
        taken = [p for p in parameters if p.kind is kind]
        many = kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if many and taken:
            continue
        default = inspect.Parameter.empty
        if not many and (draw(st.booleans()) or (defaults and kind < KINDS[2])):
            default = 0
            defaults = defaults or kind < KINDS[2]
        parameters.append(inspect.Parameter(name, kind, default=default))
    scope = {}
    exec(f"def function{inspect.Signature(parameters)}: return locals()", scope)
    return scope["function"]


@settings(max_examples=100)
@given(
    signatures(),
    st.lists(st.integers(), max_size=6) | st.dictionaries(NAMES, st.integers(), max_size=6),
)
def test_parameters_are_bound_as_python_binds_them(function, params):
    args, kwargs = (params, {}) if isinstance(params, list) else ([], params)
    try:
        # `Signature.bind` says the same, but for a bug before Python 3.13: of def f(a=0, /, **b)
        # it refuses f(a=1).
        expected = function(*args, **kwargs)
    except TypeError:
        with pytest.raises(InvalidParams):
            ParameterBinder(function).bind(params)
    else:
        bound, named = ParameterBinder(function).bind(params)
        assert function(*bound, **named) == expected


@settings(max_examples=100)
@given(signatures(), JSON_VALUES)
def test_any_value_for_hinted_parameters_binds_or_is_refused(function, value):
    names = list(inspect.signature(function).parameters)
    function.__annotations__ = dict.fromkeys(names, pydantic.PositiveInt)
    binder = ParameterBinder(function, warn=False)
    for params in ([value] * len(names), dict.fromkeys(names, value)):
        with contextlib.suppress(InvalidParams):
            binder.bind(params)
