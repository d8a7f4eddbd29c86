"""Redact secrets: by the names of settings, and in URLs."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

from ..broker_urls import MASK, without_passwords

__all__ = ["MASK", "SECRET_REFUSED", "is_secret_name", "redacted", "without_passwords"]

#: What an error says of a secret. Whoever refused it may have put it into the reason.
SECRET_REFUSED = "cannot be used (the value is a secret, and not shown)"

#: As `SECRET_NAME` of the explorer's contract.js has them, and what HTTP's headers hold.
_SECRET_NAME = re.compile(
    r"(^|[_-])((pass(word|wd|phrase|code)?|pwd|secret|credential)s?|token|otp|pin|cvc|cvv"
    r"|authorization|cookie|(api|access|private|secret|signing)[_-]?key)"
    r"([_-]?(\d+|again|confirm(ation)?|repeat(ed)?))?_?$",
    re.IGNORECASE,
)
#: Where a word of accessToken begins.
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def is_secret_name(name: str) -> bool:
    """Tell whether what is called so is a secret.

    >>> [is_secret_name(name) for name in ("db_password", "accessToken", "max_tokens", "keyfile")]
    [True, True, False, False]
    """
    return _SECRET_NAME.search(_CAPITAL.sub("_", name)) is not None


def redacted(value: Any, also: Container[str] = ()) -> Any:
    """Return a value, with masks in its dicts where a key's name says that it is a secret.

    :param also: other names of secrets.
    """
    if isinstance(value, list):
        return [redacted(one, also) for one in value]
    if isinstance(value, tuple):
        return tuple(redacted(one, also) for one in value)
    if not isinstance(value, dict):
        return value
    return {
        key: MASK
        if isinstance(key, str) and (is_secret_name(key) or key in also)
        else redacted(one, also)
        for key, one in value.items()
    }
