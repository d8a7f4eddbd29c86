"""Private methods: who is let in, and that every odd token is a refusal and never a failure."""

import base64
import functools
import hmac
import re
from typing import Any

import pytest

import gemstone_sync
from gemstone_sync import (
    AccessDenied,
    BasicAuthStrategy,
    BasicCookieStrategy,
    BearerTokenStrategy,
    HeaderValidationStrategy,
    MicroService,
    ServiceConfigurationError,
    ValidationStrategy,
)
from gemstone_sync.testing import ServiceClient

TOKEN = "correct token"

HEADER = HeaderValidationStrategy()
COOKIE = BasicCookieStrategy()
BEARER = BearerTokenStrategy()
BASIC = BasicAuthStrategy()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Guarded(MicroService):
    name = "guarded"
    seen: list[str]

    @gemstone_sync.exposed_method(private=True)
    def secret(self, number: int = 0) -> str:
        return "secret"

    @gemstone_sync.exposed_method()
    def public(self) -> str:
        return "public"

    def api_token_is_valid(self, api_token: str) -> bool:
        self.seen = [*getattr(self, "seen", []), api_token]
        return hmac.compare_digest(api_token.encode(), TOKEN.encode())


class Secrets(gemstone_sync.Module):
    @gemstone_sync.exposed_method(private=True)
    def secret(self) -> None: ...


def guarded(*strategies: ValidationStrategy) -> Guarded:
    service = Guarded()
    if strategies:
        service.validation_strategies = strategies
    return service


def secret(service: MicroService, **headers: str) -> str:
    """What a caller with these headers gets; underscores stand for dashes."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        return str(ServiceClient(service, sent).call("secret"))
    except AccessDenied:
        return "denied"


# Where the token stands

OTHER = "X-Other"
SCHEME = HeaderValidationStrategy(header="Authorization", template="Token (.+)")
COMPILED = HeaderValidationStrategy("Authorization", re.compile("token (.+)", re.IGNORECASE))
CALLED = HeaderValidationStrategy("Authorization", template=lambda value: value[6:] or None)
SPACED = BasicCookieStrategy("c", functools.partial(re.sub, "[+]", " "))
FOUND = [
    (HEADER, "X-Api-Token", TOKEN),
    (HEADER, "x-api-token", TOKEN),
    (HeaderValidationStrategy(OTHER), OTHER, TOKEN),
    (HeaderValidationStrategy(header_name=OTHER), OTHER, TOKEN),
    (SCHEME, "Authorization", f"Token {TOKEN}"),
    (COMPILED, "Authorization", f"Token {TOKEN}"),
    (CALLED, "Authorization", f"Token {TOKEN}"),
    (COOKIE, "Cookie", f'a=b; AuthToken="{TOKEN}"'),
    (BasicCookieStrategy("Other"), "Cookie", f'Other="{TOKEN}"'),
    (BasicCookieStrategy(cookie_name="Other"), "Cookie", f'Other="{TOKEN}"'),
    (BasicCookieStrategy(template="v1:(.*)"), "Cookie", f'AuthToken="v1:{TOKEN}"'),
    (SPACED, "Cookie", "c=correct+token"),
    (BEARER, "Authorization", f"Bearer {TOKEN}"),
    (BEARER, "Authorization", f"bearer {TOKEN}"),
]


@pytest.mark.parametrize(("strategy", "header", "value"), FOUND)
def test_each_strategy_finds_its_token(strategy, header, value):
    assert secret(guarded(strategy), **{header: value}) == "secret"


NOT_FOUND = [
    (HEADER, "X-Other", TOKEN),
    (HEADER, "Cookie", f'AuthToken="{TOKEN}"'),
    (HeaderValidationStrategy(template="Token (.+)"), "X-Api-Token", TOKEN),
    (HeaderValidationStrategy(template="Token (.+)"), "X-Api-Token", f"x Token {TOKEN}"),
    (CALLED, "Authorization", "Token "),
    (CALLED, "X-Api-Token", TOKEN),
    (SPACED, "Cookie", "other=correct+token"),
    (COOKIE, "X-Api-Token", TOKEN),
    (COOKIE, "Cookie", "=;;=\x80"),
    (BEARER, "Authorization", TOKEN),
    (BEARER, "Authorization", f"Basic {TOKEN}"),
    (BASIC, "Authorization", f"Bearer {TOKEN}"),
    *((BASIC, "Authorization", f"Basic {odd}") for odd in ("====", "a", "é", "//4=")),
]


@pytest.mark.parametrize(("strategy", "header", "value"), NOT_FOUND)
def test_without_a_token_nobody_is_asked_and_the_call_is_denied(strategy, header, value):
    service = guarded(strategy)
    assert secret(service, **{header: value}) == "denied"
    assert not hasattr(service, "seen")


@pytest.mark.parametrize("template", [7, "(", b"Token (.+)", ["a"]])
def test_what_is_no_template_is_told_where_it_is_given(template):
    for strategy in (HeaderValidationStrategy, BasicCookieStrategy):
        with pytest.raises(
            ServiceConfigurationError, match=rf"^{strategy.__name__}: template must be .* \(.+\)$"
        ):
            strategy(template=template)


ODD = ["", "é", "correct token x", "Correct token", "x" * 100_000, "\x00", "\xff\xfe", "%s{0}"]


@pytest.mark.parametrize(
    ("strategy", "header", "write"),
    [
        (HEADER, "X_Api_Token", "{}".format),
        (HeaderValidationStrategy(template="v=(.*)"), "X_Api_Token", "v={}".format),
        (COOKIE, "Cookie", 'AuthToken="{}"'.format),
        (BEARER, "Authorization", "Bearer {}".format),
        (BASIC, "Authorization", lambda token: basic(token, token)),
    ],
    ids=["header", "template", "cookie", "bearer", "basic"],
)
def test_odd_tokens_are_refusals(strategy, header, write, caplog):
    for token in ODD:
        assert secret(guarded(strategy), **{header: write(token)}) == "denied", token
    assert not caplog.records


def test_the_first_strategy_that_finds_a_token_wins():
    service = guarded(HeaderValidationStrategy("X-A"), HeaderValidationStrategy("X-B"), BASIC)
    assert secret(service, X_B=TOKEN) == "secret"
    assert secret(service, X_A="", X_B=TOKEN) == "denied"  # empty is a token, though a wrong one
    assert secret(service, X_A=TOKEN, X_B="wrong") == "secret"
    assert secret(service, Authorization=basic("ü", "p:w")) == "denied"
    assert service.seen == [TOKEN, "", TOKEN, "ü:p:w"]


def test_a_strategy_of_ones_own():
    class Query(ValidationStrategy):
        def extract_api_token(self, handler: gemstone_sync.JsonRpcHandler) -> str | None:
            return handler.request.args.get("token")

    service = guarded(Query())
    client = ServiceClient(service)
    body = b'{"jsonrpc":"2.0","method":"secret","id":1}'
    headers = {"Content-Type": "application/json"}
    assert b"secret" in client.request("POST", "/api?token=correct+token", body, headers).body
    assert b"-32001" in client.request("POST", "/api?token=x", body, headers).body
    assert b"-32001" in client.request("POST", "/api", body, headers).body


def test_a_strategy_must_say_where_the_token_is():
    with pytest.raises(TypeError):
        ValidationStrategy()


# Who decides


class Named(Guarded):
    """authenticate_request has the last word, and what it returns is the user."""

    def authenticate_request(self, handler: gemstone_sync.JsonRpcHandler) -> Any:
        return handler.headers.get("User")

    @gemstone_sync.exposed_method(private=True, requires_handler_reference=True)
    def who(self, handler: gemstone_sync.JsonRpcHandler) -> Any:
        return handler.current_user


def test_authenticate_request_decides_and_names_the_user():
    assert ServiceClient(Named(), {"User": "ada"}).call("who") == "ada"
    for falsy in (None, False, "", 0, [], {}):
        service = Guarded()
        service.authenticate_request = lambda handler, a=falsy: a
        assert secret(service, X_Api_Token=TOKEN) == "denied"


def test_the_user_is_asked_for_once_a_call():
    asked = []

    class Counting(Named):
        def authenticate_request(self, handler: gemstone_sync.JsonRpcHandler) -> Any:
            asked.append(1)
            return [handler.current_user for _ in ()] or "ada"

    assert ServiceClient(Counting()).call("who") == "ada"
    assert asked == [1]


def test_for_public_methods_nobody_is_asked():
    service = Guarded()
    assert ServiceClient(service, {"X-Api-Token": "x"}).call("public") == "public"
    assert not hasattr(service, "seen")


def test_a_private_method_that_nobody_can_call_is_warned_of_at_the_start(make_client, caplog):
    closed = make_client(modules=[Secrets()])
    with pytest.raises(AccessDenied):
        closed.call("secret")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "every call of secret will be denied: override authenticate_request" in caplog.text
