"""What is shown in place of secrets."""

from __future__ import annotations

import re

__all__ = ["MASK", "SECRET_REFUSED", "without_passwords"]

#: What is shown in place of a secret.
MASK = "********"

#: What an error says of a secret. Whoever refused it may have put it into the reason.
SECRET_REFUSED = "cannot be used (the value is a secret, and not shown)"

#: Up to the last @ of its URL: what is written wrong may hold a slash too. Not from a port on.
_PASSWORD = re.compile(r"(://[^\s/:@]*:)(?!\d{1,5}(?:[/?#]|$))(?:(?!://)\S)*@")


def without_passwords(text: str) -> str:
    """A text whose URLs keep their users and lose their passwords.

    >>> without_passwords("redis://:sesame@cache:6379/0, http://ada:pw@host/api")
    'redis://:********@cache:6379/0, http://ada:********@host/api'
    """
    return _PASSWORD.sub(rf"\1{MASK}@", text)
