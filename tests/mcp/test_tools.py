"""What agents see of a service, and what comes of their calls."""

from __future__ import annotations

import json
import math
import threading
import time
from typing import Annotated, Any

import jsonschema
import msgspec
import pytest

from gemstone_sync import (
    JsonRpcRequest,
    MicroService,
    RpcError,
    ServiceConfigurationError,
    exposed_method,
)
from gemstone_sync.mcp import Audio, Image
from gemstone_sync.testing import ServiceClient

from .subject import Subject
from .support import Agent, modern

SECRET = "hunter2"


class OutOfStock(RpcError):
    code = -32050  # the protocol's own
    message = "Out of stock"


class Shop(MicroService):
    """Sells books."""

    name = "shop"
    version = "3.1"
    mcp = True
    use_statistics = True
    max_parallel_blocking_tasks = 1
    max_waiting_calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.hold = threading.Event()

    def api_token_is_valid(self, api_token: str) -> bool:
        return api_token == "right"

    def before_method_call(self, request: JsonRpcRequest) -> None:
        self.seen.append(request.method)

    @exposed_method(read_only=True, idempotent=True)
    def count(self, what: str, /, most: int = 9, *more: str) -> int:
        """Count books.

        :param what: the title.
        """
        return min(most, len(what)) + len(more)

    @exposed_method()
    def leak(self) -> None:
        """Fail with a secret."""
        raise RuntimeError(SECRET)

    @exposed_method()
    def broken(self) -> Any:
        """Return what JSON has no form for."""
        return object()

    @exposed_method()
    def refuse(self) -> None:
        """Refuse."""
        raise OutOfStock(data={"left": 0})

    @exposed_method(timeout=0.05)
    def slow(self) -> None:
        """Take too long."""
        time.sleep(5)

    @exposed_method()
    def wait(self) -> str:
        """Wait to be let go."""
        self.hold.wait(20)
        return "went"

    @exposed_method(private=True, destructive=True)
    def clear(self) -> str:
        """Throw everything away."""
        return "gone"

    @exposed_method(mcp=False)
    def inner(self) -> None:
        """Keep this from agents."""

    @exposed_method()
    def undocumented(self) -> None: ...


@pytest.fixture
def shop():
    with ServiceClient(Shop()) as client:
        yield client


@pytest.fixture
def agent(shop):
    return Agent(shop)


def names(result):
    return [tool["name"] for tool in result["tools"]]


def test_documented_public_methods_are_tools_in_the_order_of_their_names(agent):
    listed = agent.ask("tools/list")
    assert names(listed) == ["broken", "count", "leak", "refuse", "slow", "wait"]
    assert listed["resultType"] == "complete"
    assert listed["cacheScope"] == "public"
    assert listed["ttlMs"] > 0
    assert listed == agent.ask("tools/list")


def test_a_tool_has_what_the_contract_says(agent):
    tool = next(tool for tool in agent.ask("tools/list")["tools"] if tool["name"] == "count")
    assert tool["title"] == "Count"
    assert tool["description"] == "Count books."
    assert tool["annotations"] == {"title": "Count", "readOnlyHint": True}
    assert tool["inputSchema"]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert tool["inputSchema"]["properties"]["what"] == {
        "type": "string",
        "description": "the title.",
    }
    assert tool["inputSchema"]["required"] == ["what"]
    assert tool["inputSchema"]["additionalProperties"] is False
    assert tool["outputSchema"]["type"] == "integer"


def test_up_to_2025_11_25_every_output_is_an_object(agent):
    listed = agent.legacy("tools/list", version="2025-11-25")["result"]["tools"]
    called = agent.legacy(
        "tools/call", {"name": "count", "arguments": {"what": "it"}}, "2025-11-25"
    )["result"]
    schema = next(tool for tool in listed if tool["name"] == "count")["outputSchema"]
    assert schema["type"] == "object"
    jsonschema.validate(called["structuredContent"], schema)
    assert called["structuredContent"] == {"result": 2}
    assert (
        "structuredContent"
        not in agent.legacy("tools/call", {"name": "count", "arguments": {"what": "it"}})["result"]
    )


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"what": "it"}, 2),
        ({"what": "it", "most": 1}, 1),
        ({"most": 1, "what": "it"}, 1),
        ({"what": "it", "more": ["a", "b"]}, 4),
    ],
)
def test_arguments_reach_parameters_that_have_positions_only(agent, arguments, result):
    assert agent.call("count", arguments)["structuredContent"] == result


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("count", {}, "Invalid params: what: missing"),
        ("count", {"what": 1}, "Invalid params: what: Expected `str`, got `int`"),
        ("refuse", {}, 'Out of stock: {"left":0}'),
        ("slow", {}, "Deadline exceeded"),
    ],
)
def test_what_a_model_can_mend_is_a_result_that_says_how(agent, tool, arguments, told):
    result = agent.call(tool, arguments)
    assert result["isError"] is True
    assert result["content"] == [{"type": "text", "text": told}]


@pytest.mark.parametrize("tool", ["leak", "broken"])
def test_an_unexpected_error_shows_its_id_and_nothing_else(agent, caplog, tool):
    result = agent.call(tool)
    assert result["isError"] is True
    [content] = result["content"]
    told, _, data = content["text"].partition(": ")
    assert told == "Internal error"
    assert {*json.loads(data)} == {"error_id"}
    assert json.loads(data)["error_id"] in caplog.text
    assert SECRET not in json.dumps(result)


def test_hooks_and_statistics_see_the_calls_of_agents(shop, agent):
    agent.call("count", {"what": "it"})
    assert shop.service.seen == ["count"]
    assert shop.call("statistics")["methods"]["count"]["calls"] == 1


def test_a_private_method_is_a_tool_for_those_who_authenticate(agent):
    denied = agent.post(modern("tools/call", {"name": "clear"}))
    assert denied.status == 401
    assert denied.headers["WWW-Authenticate"] == "Bearer"
    assert not -32099 <= json.loads(denied.body)["error"]["code"] <= -32000
    wrong = agent.post(modern("tools/list"), Authorization="Bearer wrong")
    assert wrong.status == 401
    assert "invalid_token" in wrong.headers["WWW-Authenticate"]
    listed = agent.ask("tools/list", Authorization="Bearer right")
    assert "clear" in names(listed)
    assert listed["cacheScope"] == "private"
    assert agent.call("clear", Authorization="Bearer right")["structuredContent"] == "gone"
    assert agent.call("clear", X_Api_Token="right")["structuredContent"] == "gone"


def test_the_bearer_token_counts_for_agents_only(shop):
    sent = {"Content-Type": "application/json", "Authorization": "Bearer right"}
    body = b'{"jsonrpc":"2.0","id":1,"method":"clear"}'
    assert b"Access denied" in shop.request("POST", "/api", body, sent).body


def test_a_hidden_private_method_is_unknown():
    class Hiding(Shop):
        hide_private = True

    with ServiceClient(Hiding()) as client:
        reply = Agent(client).post(modern("tools/call", {"name": "clear"}))
    assert reply.status == 200
    assert json.loads(reply.body)["error"]["code"] == -32602


def test_a_call_without_a_place_is_503_with_retry_after(shop, agent):
    import gevent

    waiting = gevent.spawn(agent.call, "wait")
    while shop.service.seen != ["wait"]:
        gevent.sleep(0.01)
    full = agent.post(modern("tools/call", {"name": "count", "arguments": {"what": "it"}}))
    shop.service.hold.set()
    assert full.status == 503
    assert full.headers["Retry-After"] == "1"
    assert not -32099 <= json.loads(full.body)["error"]["code"] <= -32000
    assert waiting.get(timeout=10)["structuredContent"] == "went"


def test_images_and_sounds_are_content():
    with ServiceClient(Subject()) as client:
        result = Agent(client).call("test_texts_and_images")
        other = client.call("test_image_content")
    assert [part["type"] for part in result["content"]] == ["text", "image"]
    assert result["content"][0]["text"] == "Look:"
    assert result["content"][1]["mimeType"] == "image/png"
    assert "structuredContent" not in result
    assert other == result["content"][1]  # other callers get the same


def test_a_list_of_more_than_a_thousand_tools_comes_in_pages():
    methods = {}
    for number in range(1500):

        def method(self) -> int:
            """Count."""
            return 1

        method.__name__ = f"m{number:04}"
        methods[method.__name__] = exposed_method()(method)
    many = type("Many", (MicroService,), {"name": "many", "mcp": True, **methods})
    with ServiceClient(many()) as client:
        agent = Agent(client)
        first = agent.ask("tools/list")
        second = agent.ask("tools/list", {"cursor": first["nextCursor"]})
        wrong = agent.post(modern("tools/list", {"cursor": "bogus"}))
    assert len(first["tools"]) == 1000
    assert names(first) + names(second) == sorted(methods)
    assert "nextCursor" not in second
    assert json.loads(wrong.body)["error"]["code"] == -32602


def test_mcp_methods_names_the_tools_undocumented_ones_too():
    class Chosen(Shop):
        mcp_methods = ["undocumented", "count"]

    with ServiceClient(Chosen()) as client:
        assert names(Agent(client).ask("tools/list")) == ["count", "undocumented"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mcp_methods": ["cuont"]}, "cuont"),
        ({"mcp_methods": ["get_service_specs"]}, "the framework's own"),
        ({"mcp_methods": ["inner"]}, "mcp=False"),
        ({"mcp": False, "mcp_methods": ["count"]}, "mcp = True"),
        ({"mcp_path": "/api"}, "/api"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, told):
    wrong = type("Wrong", (Shop,), settings)
    with pytest.raises(ServiceConfigurationError, match=told):
        wrong().app  # noqa: B018


def test_a_service_without_mcp_has_no_such_path():
    class Plain(Shop):
        mcp = False

    with ServiceClient(Plain()) as client:
        assert Agent(client).post(modern("tools/list")).status == 404


def test_mcp_path_moves_it():
    class Elsewhere(Shop):
        mcp = False
        mcp_path = "/tools"

    with ServiceClient(Elsewhere()) as client:
        body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
        reply = client.request("POST", "/tools", body, {"Content-Type": "application/json"})
    assert json.loads(reply.body)["result"] == {}


class Region(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(extra_json_schema={"x-mcp-header": "Region"})]


def test_a_header_inside_a_type_is_refused():
    class Wrong(MicroService):
        name = "wrong"
        mcp = True

        @exposed_method()
        def move(self, region: Region) -> None:
            """Move."""

    with pytest.raises(ServiceConfigurationError, match="x-mcp-header"), ServiceClient(Wrong()):
        pass


def test_the_contract_says_which_methods_are_tools(shop):
    document = shop.call("rpc.discover")
    told = {method["name"]: method.get("x-mcp") for method in document["methods"]}
    assert told["count"] is True
    assert told["inner"] is told["undocumented"] is told["get_service_specs"] is False


def test_images_and_sounds_have_no_output_schema():
    class Player(MicroService):
        name = "player"
        mcp = True

        @exposed_method()
        def play(self) -> Audio | None:
            """Play."""

        @exposed_method()
        def show(self) -> list[Image]:
            """Show."""
            return []

    with ServiceClient(Player()) as client:
        for tool in Agent(client).ask("tools/list")["tools"]:
            assert "outputSchema" not in tool


class Point(msgspec.Struct):
    number: float
    default: list[float] | None = None


class Lost(MicroService):
    name = "lost"
    mcp = True

    @exposed_method()
    def mean(self) -> float:
        """Compute nothing."""
        return math.nan

    @exposed_method()
    def point(self) -> Point:
        """Divide by zero."""
        return Point(math.inf, [1.5, -math.inf])

    @exposed_method()
    def table(self) -> dict[str, Annotated[float, msgspec.Meta(ge=0)] | str]:
        """Compute several."""
        return {"a": math.nan, "b": "none", "c": 2.5}


@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25"])
def test_numbers_that_json_does_not_have_fit_the_output_schema(version):
    with ServiceClient(Lost()) as client:
        agent = Agent(client)

        def ask(method, params=None):
            if version == "2026-07-28":
                return agent.ask(method, params)
            return agent.legacy(method, params, version)["result"]

        for tool in ask("tools/list")["tools"]:
            result = ask("tools/call", {"name": tool["name"], "arguments": {}})
            assert "null" in result["content"][0]["text"]
            jsonschema.Draft202012Validator(tool["outputSchema"]).validate(
                result["structuredContent"]
            )


def test_a_tool_without_parameters_has_properties_all_the_same(agent):
    tools = {tool["name"]: tool for tool in agent.ask("tools/list")["tools"]}
    assert tools["broken"]["inputSchema"]["properties"] == {}


class Levels(MicroService):
    name = "levels"
    mcp = True

    @exposed_method()
    def rise(
        self, to: Annotated[int, msgspec.Meta(extra_json_schema={"x-mcp-header": "Level"})]
    ) -> int:
        """Rise to a level."""
        return to


@pytest.mark.parametrize(
    ("header", "status"),
    [
        *[(text, 200) for text in ("42", "42.0", "4.2e1")],
        *[(text, 400) for text in ("4_2", "+42", "0x2a", "=?base64?2aTZog==?=", "", "1e999999999")],
    ],
)
def test_a_number_in_a_header_is_read_as_proxies_read_it(header, status):
    with ServiceClient(Levels()) as client:
        message = modern("tools/call", {"name": "rise", "arguments": {"to": 42}})
        reply = Agent(client).post(message, Mcp_Param_Level=header)
    assert reply.status == status


def test_a_number_in_a_header_is_compared_to_its_last_digit():
    with ServiceClient(Levels()) as client:
        message = modern("tools/call", {"name": "rise", "arguments": {"to": 2**53}})
        assert Agent(client).post(message, Mcp_Param_Level=str(2**53 + 1)).status == 400
