"""What is shown in place of secrets."""

from __future__ import annotations

import re
from typing import Any

from ..broker_urls import MASK, without_passwords

__all__ = ["MASK", "SECRET_REFUSED", "is_secret_name", "with_masks", "without_passwords"]

#: What an error says of a secret. Whoever refused it may have put it into the reason.
SECRET_REFUSED = "cannot be used (the value is a secret, and not shown)"

_SECRET_NAME = re.compile(
    r"(^|[_-])(pass(word|wd|phrase)?|pwd|secret|token|credentials?"
    r"|(api|access|private|secret|signing)[_-]?key)$",
    re.IGNORECASE,
)


def is_secret_name(name: str) -> bool:
    """Tell whether what is called so is a secret.

    >>> [is_secret_name(name) for name in ("db_password", "api_key", "max_tokens", "keyfile")]
    [True, True, False, False]
    """
    return _SECRET_NAME.search(name) is not None


def with_masks(value: Any) -> Any:
    """A value, with masks in its dicts where a key's name says that it is a secret."""
    if isinstance(value, list):
        return [with_masks(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: MASK if isinstance(key, str) and is_secret_name(key) else with_masks(one)
        for key, one in value.items()
    }
