"""A verdict that nothing breaks is right for every hint and value, as the validator sees it."""

from typing import Any, Union

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemstone_sync.contract.hints import Fault, UncheckedHint, check_for
from gemstone_sync.contract.schema_comparison import Comparer
from gemstone_sync.contract.schemas import schemas_of
from gemstone_sync.errors import ServiceConfigurationError
from tests.support.hints import JSON_VALUES, Hinted, hinted

EXAMPLES = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])


def checks_of(*hints: Any) -> list[Any] | None:
    try:
        checks = [check_for(hint) for hint in hints]
    except (UncheckedHint, ServiceConfigurationError):  # which is told at the start
        return None
    return checks


def takes(check: Any, value: Any) -> bool:
    if check.convert is None:
        return True
    try:
        check.convert(value)
    except Fault:
        return False
    return True


def _grown(drawn: Hinted, other: Hinted) -> st.SearchStrategy[Any]:
    return st.sampled_from(
        [
            other.hint,
            Union[drawn.hint, other.hint],  # noqa: UP007
            Union[drawn.hint, None],  # noqa: UP007
            list[drawn.hint],
        ]
    )


@EXAMPLES
@given(hinted(), hinted(), st.data())
def test_what_fits_by_its_schema_is_taken(drawn: Hinted, other: Hinted, data: Any) -> None:
    before, after = drawn.hint, data.draw(_grown(drawn, other))
    if data.draw(st.booleans()):
        before, after = after, before
    checks = checks_of(before, after)
    if checks is None:
        return
    (old, new), named = schemas_of(checks)
    if Comparer(named, named).misfits(old, new):
        return
    value = data.draw(drawn.values | other.values | JSON_VALUES)
    if takes(checks[0], value):
        assert takes(checks[1], value), (before, after, value)


@EXAMPLES
@given(hinted(), st.booleans())
def test_everything_fits_itself(drawn: Hinted, receiving: bool) -> None:
    checks = checks_of(drawn.hint, drawn.hint)
    if checks is None:
        return
    (old, new), named = schemas_of(checks)
    assert Comparer(named, named, receiving=receiving).misfits(old, new) == []


@EXAMPLES
@given(hinted())
def test_what_may_be_null_is_wider(drawn: Hinted) -> None:
    checks = checks_of(drawn.hint, Union[drawn.hint, None])  # noqa: UP007
    if checks is None:
        return
    (old, new), named = schemas_of(checks)
    assert Comparer(named, named).misfits(old, new) == []
    if not takes(checks[0], None):
        assert Comparer(named, named).misfits(new, old)
