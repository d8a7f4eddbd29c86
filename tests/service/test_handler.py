"""The handler: the HTTP request that a method sees, and what it adds to the HTTP reply."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.http import parse_cookie

import gemstone_sync
from gemstone_sync import JsonRpcHandler, JsonRpcRequest, JsonRpcResponse, MicroService
from gemstone_sync.testing import HttpReply, ServiceClient

H = JsonRpcHandler


def method(function: Callable[..., Any]) -> Callable[..., Any]:
    return gemstone_sync.exposed_method(requires_handler_reference=True)(function)


class Service(MicroService):
    name = "handled"
    secret_key = "not for production"

    @method
    def look(self, handler: H, name: str) -> list[Any]:
        return [
            handler.headers.get(name),
            handler.cookies.get("a"),
            handler.get_cookie("missing", "default"),
            handler.remote_addr,
            handler.request.method,
            handler.request.path,
            handler.microservice is self,
        ]

    @method
    def header(self, handler: H, name: Any, value: Any) -> None:
        handler.set_header(name, value)

    @method
    def cookie(self, handler: H, name: str, value: str, options: dict[str, Any]) -> None:
        handler.set_cookie(name, value, **options)

    @method
    def raw_cookie(self, handler: H, name: Any, value: Any, options: dict[str, Any]) -> None:
        handler.set_cookie(name, value, **options)

    @method
    def forget(self, handler: H, name: str) -> None:
        handler.clear_cookie(name)

    @method
    def sign(self, handler: H, name: str, value: Any) -> None:
        handler.set_secure_cookie(name, value)

    @method
    def unsign(self, handler: H, name: str, max_age: float | None = 100) -> Any:
        return handler.get_secure_cookie(name, "forged", max_age=max_age)

    @method
    def user(self, handler: H) -> Any:
        return handler.current_user

    @method
    def write(self, handler: H, result: Any, times: int = 1) -> str:
        for _ in range(times):
            handler.write_single_response(JsonRpcResponse(result=result, id="mine"))
        return "not sent"

    @method
    def write_wrongly(self, handler: H) -> None:
        handler.write_single_response({"result": 1})

    @method
    def forward(self, handler: H, name: str, params: list[Any], notify: bool = False) -> Any:
        request_id = gemstone_sync.UNSET if notify else 9
        response = handler.handle_single_request(JsonRpcRequest(name, params, request_id))
        if response is None:
            return "no response"
        return response.result if response.error is gemstone_sync.UNSET else response.error.code

    @method
    def prepared(self, handler: H, args: Any) -> Any:
        return handler.call_method(handler.prepare_method_call(self.look, args))

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b

    def authenticate_request(self, handler: H) -> Any:
        return handler.headers.get("User")


@pytest.fixture
def client() -> ServiceClient:
    return ServiceClient(Service())


def result_of(client: ServiceClient, *calls: tuple[str, list[Any]], **headers: str) -> Any:
    return json.loads(post(client, *calls, **headers).body)["result"]


def post(client: ServiceClient, *calls: tuple[str, list[Any]], **headers: str) -> HttpReply:
    """One call, or a batch of several."""
    requests = [
        {"jsonrpc": "2.0", "method": name, "params": params, "id": number}
        for number, (name, params) in enumerate(calls)
    ]
    body = requests[0] if len(requests) == 1 else requests
    return client.post(json.dumps(body).encode(), headers)


def cookies_of(reply: HttpReply) -> dict[str, str]:
    pairs = [text.partition(";")[0] for text in reply.headers.get_all("Set-Cookie")]
    return {name: parse_cookie(pair)[name] for pair in pairs for name in [pair.partition("=")[0]]}


# The request


def test_a_method_sees_the_request(client):
    """And whom authentication has returned."""
    headers = {"X-Thing": "value", "Cookie": "a=b; c=d"}
    seen = result_of(client, ("look", ["x-thing"]), **headers)
    assert seen == ["value", "b", "default", "127.0.0.1", "POST", "/api", True]
    assert result_of(client, ("user", []), User="ada") == "ada"
    assert result_of(client, ("user", [])) is None


# The reply


BAD_NAMES = ["X-Thing\r\nEvil", "X Thing", "X€", "", "X:"]
BAD_NAMES += ["Content-Length", "content-type", "Transfer-Encoding"]
BAD_VALUES = ["a\r\nEvil: 1", "a\nb", "a\x00b", "€", 5, None]


@pytest.mark.parametrize(
    ("name", "value"), [*((n, "1") for n in BAD_NAMES), *(("X-Thing", v) for v in BAD_VALUES)]
)
def test_a_header_that_http_cannot_carry_fails_the_call_and_not_the_reply(client, name, value):
    reply = post(client, ("header", [name, value]), ("add", [1, 2]))
    failed, fine = json.loads(reply.body)
    assert failed["error"]["code"] == -32603
    assert fine["result"] == 3
    assert "Evil" not in reply.headers


def test_a_method_adds_headers(client):
    """Also to the reply to a notification."""
    reply = post(client, ("header", ["X-Thing", "é~"]))
    assert (reply.status, reply.headers["X-Thing"]) == (200, "é~")
    reply = client.post(b'{"jsonrpc":"2.0","method":"header","params":["X-Thing","1"]}')
    assert (reply.status, reply.headers["X-Thing"]) == (204, "1")


def test_a_method_sets_cookies_that_scripts_cannot_read(client):
    """And takes them back."""
    reply = post(client, ("cookie", ["name", "é; b", {}]))
    assert cookies_of(reply) == {"name": "é; b"}
    (text,) = reply.headers.get_all("Set-Cookie")
    assert "HttpOnly" in text
    assert "SameSite=Lax" in text

    (text,) = post(client, ("forget", ["name"])).headers.get_all("Set-Cookie")
    assert text.startswith("name=;")
    assert "Max-Age=0" in text


def test_options_of_a_cookie(client):
    options = {"max_age": 60, "secure": True, "httponly": False, "samesite": "Strict", "path": "/x"}
    (text,) = post(client, ("cookie", ["name", "v", options])).headers.get_all("Set-Cookie")

    assert {part.strip() for part in text.split(";") if "Expires" not in part} == {
        "name=v",
        "Max-Age=60",
        "Secure",
        "SameSite=Strict",
        "Path=/x",
    }


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("a;b", "v", {}),
        ("a b", "v", {}),
        ("a=b", "v", {}),
        ("a\r\nb", "v", {}),
        ("", "v", {}),
        ("é", "v", {}),
        ("a", 5, {}),
        ("a", "v", {"domain": "a\r\nb"}),
        ("a", "v", {"domain": "a; Secure"}),
        ("a", "v", {"expires": "x\ny"}),
        ("a", "v", {"max_age": "soon"}),
        ("a", "v", {"samesite": "Sometimes"}),
        ("a", "v", {"flavour": "oat"}),
    ],
)
def test_a_cookie_that_is_none_fails_its_own_item_only(client, name, value, options):
    reply = post(client, ("raw_cookie", [name, value, options]), ("add", [1, 2]))
    assert reply.status == 200
    assert "Set-Cookie" not in reply.headers
    failed, fine = json.loads(reply.body)
    assert failed["error"]["code"] == -32603
    assert fine["result"] == 3


def test_an_id_that_the_service_sets_replaces_the_echoed_one(client):
    reply = post(client, ("header", ["x-request-id", "mine"]), **{"X-Request-Id": "theirs"})
    assert reply.headers.get_all("X-Request-Id") == ["mine"]


# Signed cookies


@pytest.mark.parametrize("value", ["text", {"id": 5, "roles": ["é"]}, None, 0, ""])
def test_a_signed_cookie_comes_back_as_it_was(client, value):
    signed = cookies_of(post(client, ("sign", ["session", value])))["session"]
    assert result_of(client, ("unsign", ["session"]), Cookie=f"session={signed}") == value


def test_a_forged_moved_or_missing_signed_cookie_is_not_believed(client):
    signed = cookies_of(post(client, ("sign", ["session", "ada"])))["session"]
    other = Service()
    other.secret_key = "another key"

    def read(cookie: str, *max_age: float | None, of: ServiceClient = client) -> Any:
        return result_of(of, ("unsign", ["session", *max_age]), Cookie=cookie)

    assert read(f"session={signed}") == read(f"session={signed}", None) == "ada"
    assert read(f"session={signed}", -1) == "forged"  # it is too old
    for text in ("ada", signed[:-1], signed[1:], signed + "x", "", "." * 10, "x" * 100_000, "é"):
        assert read(f"session={text}") == "forged"
    assert read(f"other={signed}") == "forged"
    assert read("") == "forged"
    assert read(f"session={signed}", of=ServiceClient(other)) == "forged"
    moved = cookies_of(post(client, ("sign", ["other", "ada"])))["other"]
    assert read(f"session={moved}") == "forged"


@pytest.mark.parametrize("call", [("sign", ["session", 1]), ("unsign", ["session"])])
def test_signed_cookies_need_a_key_and_the_log_says_so(call, caplog):
    service = Service()
    service.secret_key = None
    assert b"-32603" in post(ServiceClient(service), call).body
    assert "signed cookies need a secret_key on the service" in caplog.text


# Batches


def test_items_of_a_batch_share_one_reply(client):
    """And none of it is in the next reply."""
    cookies = [("cookie", ["a", "1", {}]), ("cookie", ["b", "3", {}])]
    reply = post(client, *cookies, ("header", ["X-Thing", "2"]), ("look", ["User"]), User="ada")

    assert cookies_of(reply) == {"a": "1", "b": "3"}
    assert reply.headers["X-Thing"] == "2"
    assert json.loads(reply.body)[3]["result"][0] == "ada"
    reply = post(client, ("add", [1, 2]))
    assert "Set-Cookie" not in reply.headers
    assert "X-Thing" not in reply.headers


# The steps of a call


def test_a_method_may_write_its_response_itself(client, caplog):
    """One JsonRpcResponse for each call."""
    answer = json.loads(post(client, ("write", [{"own": 1}])).body)
    assert answer == {"jsonrpc": "2.0", "result": {"own": 1}, "id": "mine"}
    answers = json.loads(post(client, ("write", [1]), ("write", [2])).body)
    assert [answer["result"] for answer in answers] == [1, 2]

    assert b"-32603" in post(client, ("write", [1, 2])).body
    assert "was written already" in caplog.text
    assert b"-32603" in post(client, ("write_wrongly", [])).body
    assert "expected a JsonRpcResponse, got a dict" in caplog.text


@pytest.mark.parametrize(
    ("wire_format", "result", "error"),
    [
        ("jsonrpc", b'{"jsonrpc":"2.0","result":1}', b'{"jsonrpc":"2.0","error":{"code":7,'),
        (
            "gemstone",
            b'{"result": 1, "error": null, "jsonrpc": "2.0"}',
            b'{"result": null, "error": {"code": 7,',
        ),
    ],
)
def test_a_response_without_an_id_is_written_without_one(wire_format, result, error):
    """Whatever the call's id was, alone and in a batch; an id that is falsy is an id."""

    class Writing(MicroService):
        name = "writing"

        @method
        def ok(self, handler: H) -> None:
            handler.write_single_response(JsonRpcResponse(result=1))

        @method
        def wrong(self, handler: H) -> None:
            failure = JsonRpcResponse.failure(gemstone_sync.RpcError("no", code=7))
            handler.write_single_response(failure)

        @method
        def zero(self, handler: H) -> None:
            handler.write_single_response(JsonRpcResponse(result=1, id=0))

        def after_method_call(self, request: Any, response: Any) -> Any:
            return response.with_result(response.result) if request.id == "changed" else None

    service = Writing()
    service.wire_format = wire_format
    client = ServiceClient(service)

    def body(name: str, id: Any) -> bytes:
        call = {"jsonrpc": "2.0", "method": name, "id": id}
        return client.post(json.dumps(call).encode()).body

    assert body("ok", 7) == body("ok", None) == body("ok", "changed") == result
    failed = body("wrong", 7)
    assert failed.startswith(error)
    assert b"id" not in failed
    assert json.loads(body("zero", 7))["id"] == 0
    batch = [{"jsonrpc": "2.0", "method": "ok", "id": n} for n in range(2)]
    assert client.post(json.dumps(batch).encode()).body.count(b"id") == 0


def test_a_method_may_answer_other_requests_of_the_same_client(client):
    def forward(*params: Any) -> Any:
        return client.call("forward", *params)

    assert forward("add", [1, 2]) == 3
    assert forward("add", [1]) == -32602
    assert forward("nothing", []) == -32601
    assert forward("add", [1, 2], True) == "no response"
    assert cookies_of(post(client, ("forward", ["cookie", ["a", "1", {}]]))) == {"a": "1"}

    # One without a place does not turn the outer answer into a 503.
    service = Service()
    service.max_parallel_blocking_tasks, service.max_waiting_calls = 1, 0
    reply = post(ServiceClient(service), ("forward", ["add", [1, 2]]))
    assert (reply.status, json.loads(reply.body)["result"]) == (200, -32000)
    assert "Retry-After" not in reply.headers


def test_a_prepared_call_gets_the_handler_and_its_arguments(client):
    assert client.call("prepared", ["User"])[4] == "POST"
    assert client.call("prepared", {"name": "User"})[4] == "POST"
    with pytest.raises(gemstone_sync.InternalError):
        client.call("prepared", "User")
