"""What is shown in place of secrets."""

from __future__ import annotations

from ..broker_urls import MASK, without_passwords

__all__ = ["MASK", "SECRET_REFUSED", "without_passwords"]

#: What an error says of a secret. Whoever refused it may have put it into the reason.
SECRET_REFUSED = "cannot be used (the value is a secret, and not shown)"
