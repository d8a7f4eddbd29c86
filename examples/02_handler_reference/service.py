"""Methods that see the HTTP request: its headers, its cookies, who sent it.

A method with ``requires_handler_reference=True`` gets the request's handler as its first argument.
Callers do not see that argument.
"""

from __future__ import annotations

import hmac
import os
import secrets
from typing import Literal

import gemstone_sync
from gemstone_sync import JsonRpcHandler

# The defaults let the example run as it is: a key that is new at every start ends the sessions of
# the last one. A real service has no tokens in its code, and stores hashes of its passwords
# (werkzeug.security has the functions).
SECRET_KEY = os.environ.get("ACCOUNTS_SECRET_KEY", secrets.token_hex())
ROBOT_TOKEN = os.environ.get("ACCOUNTS_ROBOT_TOKEN", "robot-token")
PASSWORDS = {"ada": "engine no 1"}

GREETINGS = {"de": "hallo", "en": "hello", "fr": "bonjour"}


class WrongPassword(gemstone_sync.RpcError):
    code = 1001
    message = "Wrong user or password"


class AccountsService(gemstone_sync.MicroService):
    name = "accounts"
    secret_key = SECRET_KEY
    validation_strategies = [gemstone_sync.HeaderValidationStrategy("X-Api-Token")]

    # Headers and plain cookies

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def greet(self, handler: JsonRpcHandler, name: str) -> str:
        """Greet in the language of the cookie, else in that of the browser, else in English."""
        language = handler.get_cookie("language") or handler.headers.get("Accept-Language", "")
        if language not in GREETINGS:
            language = "en"
        handler.set_header("Content-Language", language)
        return f"{GREETINGS[language]} {name}"

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def set_language(self, handler: JsonRpcHandler, language: Literal["de", "en", "fr"]) -> None:
        """Remember a language in the caller's browser."""
        handler.set_cookie("language", language)

    # Signed cookies: the caller can read them but not forge them

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def login(self, handler: JsonRpcHandler, user: str, password: str) -> str:
        """Start a session that lasts a day."""
        if user not in PASSWORDS or not same_text(password, PASSWORDS[user]):
            raise WrongPassword()
        handler.set_secure_cookie("user", user, max_age=86400)
        return f"welcome {user}"

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def logout(self, handler: JsonRpcHandler) -> None:
        """End the session."""
        handler.clear_cookie("user")

    # A private method, and who may call it

    @gemstone_sync.exposed_method(private=True, requires_handler_reference=True)
    def whoami(self, handler: JsonRpcHandler) -> dict[str, str | None]:
        """Tell the caller who they are, and where."""
        return {"user": handler.current_user, "address": handler.remote_addr}

    def authenticate_request(self, handler: JsonRpcHandler) -> str | None:
        """The caller's name, which methods read as handler.current_user; None refuses the call."""
        user: str | None = handler.get_secure_cookie("user", max_age=86400)
        if user is None and super().authenticate_request(handler):
            user = "robot"
        return user

    def api_token_is_valid(self, api_token: str) -> bool:
        """Judge what the validation strategies found in the request."""
        return same_text(api_token, ROBOT_TOKEN)


def same_text(given: str, expected: str) -> bool:
    """Compare in a time that tells nothing; as bytes, because text such as "é" is refused."""
    return hmac.compare_digest(given.encode(), expected.encode())


if __name__ == "__main__":
    AccountsService().start()
