"""Each way for a client to say who it is meets the service's strategy for it, over real HTTP."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import requests.auth

import gemstone_sync
from gemstone_sync import (
    AccessDenied,
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


@pytest.fixture
def secret_of(
    running_service: Callable[..., MicroService],
) -> Callable[..., str]:
    """What a client with this authentication gets from a service with these strategies."""

    def ask(strategies: list[ValidationStrategy], authentication: Any) -> str:
        service = running_service(Guarded, validation_strategies=strategies)
        with RemoteService(
            service.url, authentication_method=authentication, timeout=LIMIT, total_timeout=LIMIT
        ) as client:
            assert client.methods.public() == "public"
            answer = client.call_method("secret")
            if answer.error is None:
                return str(answer.result)
            assert isinstance(answer.error, AccessDenied)
            assert TOKEN not in str(answer.error)
            return "denied"

    return ask


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


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_that_belongs_together(secret_of: Callable[..., str], name: str) -> None:
    strategy, authentication = PAIRS[name]

    assert secret_of([strategy], authentication(TOKEN)) == "secret"
    assert secret_of([strategy], authentication("wrong-token")) == "denied"
    assert secret_of([strategy], None) == "denied"


@pytest.mark.parametrize("name", PAIRS)
def test_a_service_that_takes_all_of_them(secret_of: Callable[..., str], name: str) -> None:
    every = [strategy for strategy, _ in PAIRS.values()]
    assert secret_of(every, PAIRS[name][1](TOKEN)) == "secret"


@pytest.mark.parametrize(
    ("strategy", "authentication"),
    [
        (strategy, authentication)
        for wanted, (strategy, _) in PAIRS.items()
        for given, (_, authentication) in PAIRS.items()
        if wanted != given and "basic" not in (wanted + given).replace("a tuple", "basic")
    ],
)
def test_a_pair_that_does_not(
    secret_of: Callable[..., str],
    strategy: ValidationStrategy,
    authentication: Callable[[str], Any],
) -> None:
    assert secret_of([strategy], authentication(TOKEN)) == "denied"


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
    service = running_service(
        Guarded,
        validation_strategies=[
            HeaderValidationStrategy(),
            BasicCookieStrategy(),
            BasicAuthStrategy(),
        ],
    )
    header = "".join(map(chr, [*range(0x21, 0x7F), *range(0xA1, 0x100)]))
    cookie = "".join(c for c in map(chr, range(0x21, 0x7F)) if c not in '",;\\')
    for authentication, seen in [
        (HeaderToken(f"a \t{header}"), f"a \t{header}"),
        (CookieToken(cookie), cookie),
        (BasicAuth("ü ser", "p:\U0001f511 \n"), "ü ser:p:\U0001f511 \n"),
        (BasicAuth("", ""), ":"),
    ]:
        with RemoteService(service.url, authentication_method=authentication) as client:
            assert isinstance(client.call_method("secret").error, AccessDenied)
        assert service.seen.pop() == seen


def test_credentials_in_the_url(running_service: Callable[..., Guarded]) -> None:
    service = running_service(Guarded, validation_strategies=[BasicAuthStrategy()])
    with RemoteService(service.url.replace("//", f"//ada:{TOKEN}@")) as client:
        assert client.methods.secret() == "secret"
        assert client.url == service.url
        assert isinstance(client.authentication_method, BasicAuth)
    with RemoteService(service.url.replace("//", "//a%40b:c%2Fd%3A@")) as client:
        client.call_method("secret")
    assert service.seen[-1] == "a@b:c/d:"
    with pytest.raises(ValueError, match="which"):
        RemoteService("http://a:b@127.0.0.1:1/api", authentication_method=BearerToken("x"))


def test_the_environment_says_nothing(
    running_service: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """requests would put a .netrc entry in the place of the token."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password eve\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    service = running_service(Guarded, validation_strategies=[BearerTokenStrategy()])
    for authentication, seen in [(BearerToken(TOKEN), [TOKEN]), (None, [])]:
        service.seen.clear()
        with RemoteService(service.url, authentication_method=authentication) as client:
            client.call_method("secret")
        assert service.seen == seen


# Any AuthBase of requests


class Signing(requests.auth.AuthBase):
    """Signs the body, so that it is different for each request."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        assert isinstance(request.body, bytes)
        request.headers["X-Signature"] = hashlib.sha256(request.body).hexdigest()
        request.headers["X-Seen"] = f"{request.method} {request.path_url}"
        return request


def test_an_authbase_that_signs_each_request() -> None:
    with (
        FaultyServer() as server,
        RemoteService(server.url, authentication_method=Signing()) as client,
    ):
        client.methods.first()
        client.methods.second(1)
        client.notifications.third()

        assert len({request.headers.get("X-Signature") for request in server.requests}) == 3
        for request in server.requests:
            expected = hashlib.sha256(request.body).hexdigest()
            assert request.headers.get("X-Signature") == expected
            assert request.headers.get("X-Seen") == "POST /api"
            assert request.headers.get("Content-Length") == str(len(request.body))


def test_a_digest_challenge_is_answered() -> None:
    challenge = 'Digest realm="r", nonce="abc", qop="auth", algorithm=SHA-256, opaque="o"'
    digest = requests.auth.HTTPDigestAuth("ada", TOKEN)
    refuse = body("", "401 Unauthorized", WWW_Authenticate=challenge)
    with (
        FaultyServer(refuse, answer("in")) as server,
        RemoteService(server.url, authentication_method=digest) as client,
    ):
        assert client.methods.ping() == "in"
        assert client.methods.ping() == "in"  # now without a challenge

        first, second, third = server.requests
        assert "Authorization" not in first.headers
        assert second.body == first.body
        for request in (second, third):
            _assert_digest(request.headers.get("Authorization"))


def _assert_digest(header: str | None) -> None:
    """RFC 7616, section 3.4.1."""
    assert header is not None
    parts = requests.utils.parse_dict_header(header.removeprefix("Digest "))
    assert (parts["username"], parts["uri"], parts["qop"]) == ("ada", "/api", "auth")

    def hashed(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    known = hashed(f"ada:r:{TOKEN}"), hashed("POST:/api")
    middle = f"abc:{parts['nc']}:{parts['cnonce']}:auth"
    assert parts["response"] == hashed(f"{known[0]}:{middle}:{known[1]}")


def test_a_digest_with_the_wrong_password_is_refused() -> None:
    challenge = 'Digest realm="r", nonce="abc", qop="auth"'
    refuse = body("", "401 Unauthorized", WWW_Authenticate=challenge)
    digest = requests.auth.HTTPDigestAuth("ada", "guess")
    with (
        FaultyServer(refuse) as server,
        RemoteService(server.url, authentication_method=digest) as client,
    ):
        with pytest.raises(gemstone_sync.BadResponse, match="401 Unauthorized") as caught:
            client.methods.ping()
        assert caught.value.status == 401
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "authentication",
    [HeaderToken(TOKEN), CookieToken(TOKEN), BearerToken(TOKEN), BasicAuth("ada", TOKEN)],
)
def test_each_works_with_plain_requests_too(authentication: Any) -> None:
    with FaultyServer() as server:
        call = {"jsonrpc": "2.0", "method": "ping", "id": 1}
        reply = requests.post(server.url, json=call, auth=authentication, timeout=LIMIT)
        assert reply.json()["result"] == "pong"
        with RemoteService(server.url, authentication_method=authentication) as client:
            client.methods.ping()

        by_requests, by_client = server.requests
        for name in ("X-Api-Token", "Cookie", "Authorization"):
            assert by_client.headers.get(name) == by_requests.headers.get(name)


# What cannot be sent


@pytest.mark.parametrize(
    "make",
    [
        lambda: HeaderToken("a\r\nX-Evil: 1"),
        lambda: HeaderToken("a\n"),
        lambda: HeaderToken(" a"),
        lambda: HeaderToken(""),
        lambda: HeaderToken("snow \u2603"),
        lambda: HeaderToken("a\0"),
        lambda: HeaderToken("a", header="X Evil"),
        lambda: HeaderToken("a", header="X-Evil:"),
        lambda: HeaderToken("a", header=""),
        lambda: HeaderToken("a", template="{}\r\n"),
        lambda: BearerToken("a\r\n"),
        lambda: BearerToken(""),
        lambda: CookieToken("a;b"),
        lambda: CookieToken("a b"),
        lambda: CookieToken("a\n"),
        lambda: CookieToken("a", cookie="a=b"),
        lambda: BasicAuth("a:b", "c"),
    ],
)
def test_a_token_that_http_cannot_carry(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"header|cookie|colon"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: HeaderToken(None),
        lambda: BearerToken(None),
        lambda: CookieToken(None),
        lambda: BasicAuth(None, "x"),
        lambda: BasicAuth("x", None),
        lambda: HeaderToken(b"bytes"),
        lambda: RemoteService("http://a/api", authentication_method=("ada", None)),
    ],
)
def test_a_token_that_is_not_there(make: Callable[[], Any]) -> None:
    """``HeaderToken(os.environ.get("TOKEN"))`` must not send the word None."""
    with pytest.raises(TypeError, match=r"is a str, not a (NoneType|bytes)"):
        make()


@pytest.mark.parametrize("given", ["token", ["ada", "x"], ("ada",), {"X-Api-Token": "x"}, 7])
def test_what_is_no_authentication(given: Any) -> None:
    with pytest.raises(TypeError, match="authentication_method is HeaderToken"):
        RemoteService("http://127.0.0.1:1/api", authentication_method=given)


@pytest.mark.parametrize(
    "authentication",
    [HeaderToken(TOKEN), CookieToken(TOKEN), BearerToken(TOKEN), BasicAuth("ada", TOKEN)],
)
def test_a_repr_shows_no_secret(authentication: Any) -> None:
    client = RemoteService("http://127.0.0.1:1/api", authentication_method=authentication)
    for shown in (repr(authentication), str(authentication), repr(client)):
        assert TOKEN not in shown
    assert "***" in repr(authentication)
