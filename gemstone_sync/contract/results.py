"""Check what a method returns, or what an event carries, against its hint: as it will be sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..protocol import PLAIN, Encoder, decode_json
from ..protocol.bounded import encode_bounded
from .hints import Fault, check_for
from .parts import Parts, is_model

__all__ = ["result_check_for"]

#: Bytes of a value as JSON, where nobody says how many.
_NO_LIMIT = 1 << 62


def result_check_for(
    hint: Any, encoder: Encoder = PLAIN, limit: int = _NO_LIMIT
) -> Callable[[Any], None] | None:
    """Make the check of the values that a method with this return hint gives; None for no check.

    A value fits when the JSON that is made of it does, so a dict may stand for a dataclass. An
    instance of a pydantic model fits as it is: its JSON may have other names than its hint.

    :param encoder: makes the JSON.
    :param limit: bytes of the JSON.
    :returns: a function that raises `Fault` for a value that does not fit, ``ResponseTooLarge`` for
        one that is too long, and TypeError or ValueError for one that has no form in JSON.
    :raises UncheckedHint: for a hint that cannot be checked.
    :raises ServiceConfigurationError: for a constraint that nothing here understands.

    >>> result_check_for(int)("1")
    Traceback (most recent call last):
    gemstone_sync.contract.hints.Fault: Expected `int`, got `str`
    """
    check = check_for(hint)
    convert, adapter = check.convert, check.pydantic
    if convert is None:
        return None
    own_names = adapter is not None and any(map(is_model, Parts(hint).classes))

    def fit(value: Any) -> None:
        plain = decode_json(encode_bounded(value, limit, encoder))
        try:
            convert(plain)
        except Fault:
            if not own_names or not _is_instance(adapter, value):
                raise

    return fit


def _is_instance(adapter: Any, value: Any) -> bool:
    try:
        adapter.validate_python(value, strict=True)
    except ValueError:
        return False
    return True
