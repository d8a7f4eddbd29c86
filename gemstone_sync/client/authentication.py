"""Says who calls: the other side of the service's validation strategies.

Each works with plain requests too (``auth=``), and any ``AuthBase`` of requests with
`RemoteService`.

=====================  ==============================
here                   the service's strategy
=====================  ==============================
`HeaderToken`          ``HeaderValidationStrategy``
`CookieToken`          ``BasicCookieStrategy``
`BearerToken`          ``BearerTokenStrategy``
`BasicAuth`            ``BasicAuthStrategy``
=====================  ==============================
"""

from __future__ import annotations

import base64
import re
from typing import Any, TypeAlias

from .bridge import AuthBase

__all__ = [
    "Authentication",
    "BasicAuth",
    "BearerToken",
    "CookieToken",
    "Credentials",
    "HeaderToken",
    "authentication_of",
]

_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
#: RFC 9110, section 5.5; space at the ends would get lost on the way.
_FIELD_VALUE = re.compile(r"[\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")
#: RFC 6265, section 4.1.1.
_COOKIE_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")


class Credentials:
    """Sets a header that is the same in every request, so that a client sets it once."""

    def __init__(self, name: str, value: str) -> None:
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError(f"not a header's name: {name!r}")
        if not _FIELD_VALUE.fullmatch(value):
            # Not shown: it is a secret.
            raise ValueError(
                f"the token for the header {name} is empty, has space at an end, or characters "
                "that HTTP forbids"
            )
        self._name = name
        self._value = value

    def __call__(self, request: Any) -> Any:
        request.headers[self._name] = self._value
        return request

    def __repr__(self) -> str:
        return f"{type(self).__name__}(header={self._name!r}, token=***)"


#: What ``authentication_method`` may be.
Authentication: TypeAlias = Credentials | AuthBase | tuple[str, str] | None


class HeaderToken(Credentials):
    """Sends a token in a header.

    :param token: the token.
    :param header: the header's name.
    :param template: where the token stands in the value, e.g. ``"Token {}"``.
    :raises ValueError: when HTTP cannot carry it.
    :raises TypeError: when it is no text, such as None for a variable that is not set.
    """

    def __init__(self, token: str, header: str = "X-Api-Token", template: str = "{}") -> None:
        super().__init__(header, template.format(_text(token, "a token")))


class BearerToken(Credentials):
    """Sends ``Authorization: Bearer …`` (RFC 6750, section 2.1).

    :raises ValueError: when HTTP cannot carry the token.
    :raises TypeError: when it is no text.
    """

    def __init__(self, token: str) -> None:
        super().__init__("Authorization", f"Bearer {_text(token, 'a token')}")


class BasicAuth(Credentials):
    """Sends ``Authorization: Basic …`` (RFC 7617), in UTF-8.

    :raises ValueError: when the user's name has a colon in it.
    :raises TypeError: when one of them is no text.
    """

    def __init__(self, user: str, password: str) -> None:
        if ":" in _text(user, "a user's name"):
            raise ValueError("a user name with a colon cannot be sent (RFC 7617, section 2)")
        text = f"{user}:{_text(password, 'a password')}"
        encoded = base64.b64encode(text.encode()).decode()
        super().__init__("Authorization", f"Basic {encoded}")


class CookieToken(Credentials):
    """Sends a token in a cookie.

    :param token: the token.
    :param cookie: the cookie's name.
    :raises ValueError: when a cookie cannot hold it (RFC 6265, section 4.1.1).
    :raises TypeError: when it is no text.
    """

    def __init__(self, token: str, cookie: str = "AuthToken") -> None:
        if not _FIELD_NAME.fullmatch(cookie):
            raise ValueError(f"not a cookie's name: {cookie!r}")
        if not _COOKIE_VALUE.fullmatch(_text(token, "a token")):
            raise ValueError(f"the token for the cookie {cookie} has characters it cannot hold")
        self._name = cookie
        self._value = token

    def __call__(self, request: Any) -> Any:
        others = request.headers.get("Cookie")
        own = f"{self._name}={self._value}"
        request.headers["Cookie"] = own if not others else f"{others}; {own}"
        return request

    def __repr__(self) -> str:
        return f"{type(self).__name__}(cookie={self._name!r}, token=***)"


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        # Not shown: it may be a secret.
        raise TypeError(f"{what} is a str, not a {type(value).__name__}")
    return value


def authentication_of(given: object) -> Credentials | AuthBase | None:
    """Return what ``authentication_method`` means.

    :raises TypeError: when it is nothing of the kind.
    """
    if given is None or isinstance(given, (Credentials, AuthBase)):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        return BasicAuth(*given)
    raise TypeError(
        "authentication_method is HeaderToken, CookieToken, BearerToken, BasicAuth, a (user, "
        f"password) tuple or a requests AuthBase, not a {type(given).__name__}"
    )
