"""Validation strategies: where in a request the API token stands.

A service's ``validation_strategies`` are asked in order; the first that finds a token (anything
but None) gives it to ``api_token_is_valid``. Compare tokens as bytes, in constant time::

    def api_token_is_valid(self, token):
        return hmac.compare_digest(token.encode(), b"correct token")
"""

from __future__ import annotations

import abc
import base64
import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ..errors import ServiceConfigurationError

if TYPE_CHECKING:
    from .handler import JsonRpcHandler

__all__ = [
    "BasicAuthStrategy",
    "BasicCookieStrategy",
    "BearerTokenStrategy",
    "HeaderValidationStrategy",
    "ValidationStrategy",
]


class ValidationStrategy(abc.ABC):
    """A place where a token may stand."""

    @abc.abstractmethod
    def extract_api_token(self, handler: JsonRpcHandler, /) -> str | None:
        """Return the token of this request; None when there is none here."""


#: A regular expression whose first group is the token, and that a value with a token matches whole;
#: or what is called with the value and returns the token, or None for none.
Template: TypeAlias = str | re.Pattern[str] | Callable[[str], str | None]


class _Templated(ValidationStrategy):
    """A value taken whole, or what a template makes of it."""

    def __init__(self, template: Template | None) -> None:
        self._template: Callable[[str], str | None] | None
        if template is None or callable(template):
            self._template = template
            return
        try:
            pattern = re.compile(template)
            pattern.match("")  # raises for one of bytes
            self._template = functools.partial(_first_group, pattern)
        except (TypeError, re.error) as error:
            raise ServiceConfigurationError(
                f"{type(self).__name__}: template must be a regular expression or a callable, not "
                f"{template!r} ({error})"
            ) from None

    def _apply(self, value: str | None) -> str | None:
        return value if value is None or self._template is None else self._template(value)


def _first_group(pattern: re.Pattern[str], value: str) -> str | None:
    match = pattern.fullmatch(value)
    if match is None:
        return None
    return match.group(1) if pattern.groups else match.group()


class HeaderValidationStrategy(_Templated):
    """The token in a request header.

    :param header: the header's name (``header_name`` is accepted too).
    :param template: a regular expression whose first group is the token, e.g. ``"Token (.+)"``; or
        what is called with the header's value and returns the token, None for none.
    """

    def __init__(
        self,
        header: str = "X-Api-Token",
        template: Template | None = None,
        *,
        header_name: str | None = None,
    ) -> None:
        super().__init__(template)
        self.header = header_name or header

    def extract_api_token(self, handler: JsonRpcHandler) -> str | None:
        return self._apply(handler.headers.get(self.header))


class BasicCookieStrategy(_Templated):
    """The token in a cookie.

    :param cookie: the cookie's name (``cookie_name`` is accepted too).
    :param template: as for `HeaderValidationStrategy`.
    """

    def __init__(
        self,
        cookie: str = "AuthToken",
        template: Template | None = None,
        *,
        cookie_name: str | None = None,
    ) -> None:
        super().__init__(template)
        self.cookie = cookie_name or cookie

    def extract_api_token(self, handler: JsonRpcHandler) -> str | None:
        return self._apply(handler.get_cookie(self.cookie))


def _credentials(handler: JsonRpcHandler, scheme: str) -> str | None:
    kind, _, rest = handler.headers.get("Authorization", "").partition(" ")
    return rest.strip() if kind.lower() == scheme else None


class BearerTokenStrategy(ValidationStrategy):
    """The token in ``Authorization: Bearer …`` (RFC 6750, section 2.1)."""

    def extract_api_token(self, handler: JsonRpcHandler) -> str | None:
        return _credentials(handler, "bearer")


class BasicAuthStrategy(ValidationStrategy):
    """``Authorization: Basic …`` (RFC 7617); the token is the text ``user:password``."""

    def extract_api_token(self, handler: JsonRpcHandler) -> str | None:
        encoded = _credentials(handler, "basic")
        if encoded is None:
            return None
        try:
            return base64.b64decode(encoded, validate=True).decode()
        except ValueError:  # no base64, or no UTF-8 in it
            return None
