"""Each way for a client to say who it is meets the service's strategy for it, over real HTTP.

What no header can carry, and that no secret is shown, is in test_safety.py.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import requests.auth

import gemstone_sync
from gemstone_sync import (
    AccessDenied,
    BadResponse,
    BasicAuth,
    BasicAuthStrategy,
    BasicCookieStrategy,
    BearerToken,
    BearerTokenStrategy,
    CookieToken,
    HeaderToken,
    HeaderValidationStrategy,
    MethodCall,
    MicroService,
    Notification,
    RemoteService,
    ValidationStrategy,
)
from tests.support.faulty_server import FaultyServer, answer, body
from tests.support.waiting import LIMIT

from .faults import client_of, fault_of

TOKEN = "correct-token"


class Guarded(MicroService):
    name = "guarded"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.told: list[str] = []

    @gemstone_sync.exposed_method(private=True)
    def secret(self) -> str:
        return "secret"

    @gemstone_sync.exposed_method(private=True)
    def tell(self, what: str) -> None:
        self.told.append(what)

    @gemstone_sync.exposed_method()
    def public(self) -> str:
        return "public"

    def api_token_is_valid(self, api_token: str) -> bool:
        self.seen.append(api_token)
        return api_token in (TOKEN, f"ada:{TOKEN}")


def secret_of(service: MicroService, authentication: Any) -> str:
    """What a client with this authentication gets."""
    with client_of(service, authentication_method=authentication) as client:
        assert client.methods.public() == "public"
        answer = client.call_method("secret")
        if answer.error is None:
            return str(answer.result)
        assert isinstance(answer.error, AccessDenied)
        assert TOKEN not in str(answer.error)
        return "denied"


#: What belongs together: the service's strategy and the client's authentication with a token.
PAIRS: dict[str, tuple[ValidationStrategy, Callable[[str], Any]]] = {
    "header": (HeaderValidationStrategy(), HeaderToken),
    "other header": (
        HeaderValidationStrategy("X-Other"),
        lambda token: HeaderToken(token, header="X-Other"),
    ),
    "header with a template": (
        HeaderValidationStrategy("Authorization", template="Token (.+)"),
        lambda token: HeaderToken(token, "Authorization", "Token {}"),
    ),
    "cookie": (BasicCookieStrategy(), CookieToken),
    "other cookie": (BasicCookieStrategy("Other"), lambda token: CookieToken(token, "Other")),
    "bearer": (BearerTokenStrategy(), BearerToken),
    "basic": (BasicAuthStrategy(), lambda token: BasicAuth("ada", token)),
    "a tuple": (BasicAuthStrategy(), lambda token: ("ada", token)),
    "requests' basic": (
        BasicAuthStrategy(),
        lambda token: requests.auth.HTTPBasicAuth("ada", token),
    ),
}


BASIC = {"basic", "a tuple", "requests' basic"}


@pytest.mark.parametrize("name", PAIRS)
def test_a_strategy_lets_in_what_belongs_to_it(
    running_service: Callable[..., MicroService], name: str
) -> None:
    strategy, matching = PAIRS[name]
    service = running_service(Guarded, validation_strategies=[strategy])
    for other, (_, authentication) in PAIRS.items():
        belongs = other == name or {other, name} <= BASIC
        assert secret_of(service, authentication(TOKEN)) == ("secret" if belongs else "denied")
    for wrong in (matching("wrong-token"), None):
        assert secret_of(service, wrong) == "denied"


def test_a_service_that_takes_all_of_them(running_service: Callable[..., MicroService]) -> None:
    every = [strategy for strategy, _ in PAIRS.values()]
    service = running_service(Guarded, validation_strategies=every)
    for _, authentication in PAIRS.values():
        assert secret_of(service, authentication(TOKEN)) == "secret"


def test_every_kind_of_call_says_who_calls(running_service: Callable[..., Guarded]) -> None:
    service = running_service(Guarded)
    with RemoteService(service.url, authentication_method=HeaderToken(TOKEN)) as client:
        assert client.methods.secret() == "secret"
        assert client.idempotent.secret() == "secret"
        assert client.call_method("secret").value() == "secret"
        assert client.methods.secret.async_().result(wait=True) == "secret"
        assert client.with_options(timeout=LIMIT).methods.secret() == "secret"
        batch = client.call_batch(MethodCall("secret"), Notification("tell", ["in a batch"]))
        assert [response.result for response in batch] == ["secret"]
        client.notifications.tell("alone")
        assert sorted(service.told) == ["alone", "in a batch"]


def test_a_token_with_every_letter(running_service: Callable[..., Guarded]) -> None:
    strategies = [HeaderValidationStrategy(), BasicCookieStrategy(), BasicAuthStrategy()]
    service = running_service(Guarded, validation_strategies=strategies)
    header = "".join(map(chr, [*range(0x21, 0x7F), *range(0xA1, 0x100)]))
    cookie = "".join(c for c in map(chr, range(0x21, 0x7F)) if c not in '",;\\')
    for authentication, seen in [
        (HeaderToken(f"a \t{header}"), f"a \t{header}"),
        (CookieToken(cookie), cookie),
        (BasicAuth("ü ser", "p:\U0001f511 \n"), "ü ser:p:\U0001f511 \n"),
        (BasicAuth("", ""), ":"),
    ]:
        assert secret_of(service, authentication) == "denied"
        assert service.seen.pop() == seen


class Signing(requests.auth.AuthBase):
    """Signs the body, so that it is different for each request."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        assert isinstance(request.body, bytes)
        request.headers["X-Signature"] = hashlib.sha256(request.body).hexdigest()
        request.headers["X-Seen"] = f"{request.method} {request.path_url}"
        return request


def test_an_authbase_that_signs_each_request() -> None:
    with FaultyServer() as server, client_of(server, authentication_method=Signing()) as client:
        client.methods.first()
        client.methods.second(1)
        client.notifications.third()

        assert len({request.headers.get("X-Signature") for request in server.requests}) == 3
        for request in server.requests:
            expected = hashlib.sha256(request.body).hexdigest()
            assert request.headers.get("X-Signature") == expected
            assert request.headers.get("X-Seen") == "POST /api"
            assert request.headers.get("Content-Length") == str(len(request.body))


class Encrypting(requests.auth.AuthBase):
    """Puts another body in the place of the call's."""

    def __init__(self, body: Any) -> None:
        self.body = body

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.body = self.body
        return request


@pytest.mark.parametrize("longer", [b'{"method": "other", "id": 1}', '{"method": "ü", "id": 1}'])
def test_an_authbase_that_changes_the_body(longer: Any) -> None:
    with FaultyServer() as server:
        client = client_of(server, authentication_method=Encrypting(longer))
        assert client.call_method(MethodCall("x", id=1)).value() == "pong"
        sent = longer if isinstance(longer, bytes) else longer.encode()
        assert server.requests[0].body == sent
        assert server.requests[0].headers.get_all("Content-Length") == [str(len(sent))]
        client.close()


def test_a_header_that_the_client_has_already_is_sent_once() -> None:
    with FaultyServer() as server:
        with client_of(server, authentication_method=HeaderToken("x", "user-agent")) as client:
            client.methods.ping()
        assert server.requests[0].headers.get_all("User-Agent") == ["x"]


def test_a_digest_challenge_is_answered() -> None:
    challenge = 'Digest realm="r", nonce="abc", qop="auth", algorithm=SHA-256, opaque="o"'
    digest = requests.auth.HTTPDigestAuth("ada", TOKEN)
    refuse = body("", "401 Unauthorized", WWW_Authenticate=challenge)
    with (
        FaultyServer(refuse, answer("in"), answer("in"), refuse) as server,
        client_of(server, authentication_method=digest) as client,
    ):
        assert client.methods.ping() == "in"
        assert client.methods.ping() == "in"  # now without a challenge

        first, second, third = server.requests
        assert "Authorization" not in first.headers
        assert second.body == first.body
        for request in (second, third):
            _assert_digest(request.headers.get("Authorization"))

        refused = fault_of(client.methods.ping, BadResponse)
        assert (refused.status, len(server.requests)) == (401, 5)
        assert "401 Unauthorized" in str(refused)


def _assert_digest(header: str | None) -> None:
    """RFC 7616, section 3.4.1."""
    assert header is not None
    parts = requests.utils.parse_dict_header(header.removeprefix("Digest "))
    assert (parts["username"], parts["uri"], parts["qop"]) == ("ada", "/api", "auth")

    def hashed(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    middle = f"abc:{parts['nc']}:{parts['cnonce']}:auth"
    assert parts["response"] == hashed(f"{hashed(f'ada:r:{TOKEN}')}:{middle}:{hashed('POST:/api')}")


@pytest.mark.parametrize(
    "authentication",
    [HeaderToken(TOKEN), CookieToken(TOKEN), BearerToken(TOKEN), BasicAuth("ada", TOKEN)],
)
def test_each_works_with_plain_requests_too(authentication: Any) -> None:
    with FaultyServer() as server:
        call = {"jsonrpc": "2.0", "method": "ping", "id": 1}
        reply = requests.post(server.url, json=call, auth=authentication, timeout=LIMIT)
        assert reply.json()["result"] == "pong"
        with client_of(server, authentication_method=authentication) as client:
            client.methods.ping()

        by_requests, by_client = server.requests
        for name in ("X-Api-Token", "Cookie", "Authorization"):
            assert by_client.headers.get(name) == by_requests.headers.get(name)


@pytest.mark.parametrize(
    "made",
    [
        *[(cls, None) for cls in (HeaderToken, BearerToken, CookieToken)],
        *[(BasicAuth, *pair) for pair in ((None, "x"), ("x", None))],
        (HeaderToken, b"bytes"),
    ],
)
def test_a_token_that_is_not_there(made: tuple[Any, ...]) -> None:
    """``HeaderToken(os.environ.get("TOKEN"))`` must not send the word None."""
    kind, *arguments = made
    with pytest.raises(TypeError, match=r"is a str, not a (NoneType|bytes)"):
        kind(*arguments)


@pytest.mark.parametrize("given", ["token", ["ada", "x"], ("ada",), {"X-Token": "x"}, 7])
def test_what_is_no_authentication(given: Any) -> None:
    with pytest.raises(TypeError, match="authentication_method is HeaderToken"):
        RemoteService("http://127.0.0.1:1/api", authentication_method=given)
    with pytest.raises(TypeError, match="is a str, not a NoneType"):
        RemoteService("http://127.0.0.1:1/api", authentication_method=("ada", None))
