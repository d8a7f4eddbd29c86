"""One trace through an agent, its tool, and whatever the tool calls."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry import trace

from gemstone_sync import JsonRpcHandler, MicroService, RemoteService, exposed_method
from gemstone_sync.cli.joined import at_url
from gemstone_sync.dispatch import CallContext
from gemstone_sync.mcp.face import Face
from gemstone_sync.mcp.remote import RemoteBackend
from gemstone_sync.testing import ServiceClient, running_service
from tests.ops.test_tracing import (  # noqa: F401
    SENT,
    TRACE,
    Traces,
    no_provider,
    traces,
)

from .support import META, Agent, modern
from .test_remote import ACCESS

#: Of the transport, which is another client's.
OUTER = "00-11111111111111111111111111111111-2222222222222222-01"


class Shop(MicroService):
    name = "shop"
    mcp = True
    max_hops = 1  # the call that `relay` makes, and no agent's
    me: Any = None

    @exposed_method(requires_handler_reference=True)
    def told(self, handler: JsonRpcHandler) -> dict[str, str | None]:
        return {name: handler.headers.get(name) for name in SENT}

    @exposed_method()
    def relay(self) -> dict[str, str | None]:
        """Call another method, and tell what went with it."""
        return self.me.methods.told()  # type: ignore[no-any-return]


@pytest.fixture
def shop():
    with running_service(Shop) as service:
        service.me = RemoteService(service.url)
        yield service


def relay(service: Shop, told: dict[str, Any], **headers: str) -> Any:
    """What went with the call that the tool makes."""
    params = {"name": "relay", "arguments": {}, "_meta": {**META, **told}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    reply = Agent(ServiceClient(service)).post(message, **headers)
    return json.loads(reply.body)["result"]["structuredContent"]


@pytest.mark.usefixtures("no_provider")
def test_without_a_provider_the_context_of_the_message_goes_on_unchanged(shop):
    assert relay(shop, SENT, traceparent=OUTER, tracestate="outer=1") == SENT
    assert relay(shop, {}, traceparent=OUTER)["traceparent"] == OUTER
    lone = relay(shop, {"baggage": "a=b", "tracestate": "no=1"}, traceparent=OUTER)
    assert lone == {"traceparent": OUTER, "tracestate": None, "baggage": "a=b"}


@pytest.mark.usefixtures("no_provider")
@pytest.mark.parametrize("value", [7, None, [], "a\r\nX: 1", "", "é"])
def test_what_is_no_context_in_a_message_costs_nothing(shop, value):
    told = relay(shop, dict.fromkeys(SENT, value), traceparent=OUTER)
    assert told == {"traceparent": OUTER, "tracestate": None, "baggage": None}


def test_the_span_goes_on_from_the_message_and_is_linked_to_the_transport(request, shop):
    seen: Traces = request.getfixturevalue("traces")
    told = relay(shop, SENT, traceparent=OUTER)
    span = seen.named("relay")
    assert span.context.trace_id == TRACE
    assert span.parent.span_id == 0xB7AD6B7169203331
    assert [link.context.trace_id for link in span.links] == [int("1" * 32, 16)]
    assert told["traceparent"].startswith(f"00-{TRACE:032x}-")
    assert told["baggage"] == SENT["baggage"]
    assert seen.way(seen.spans[-1])[0] == "relay"


def test_the_span_of_an_instrumented_server_is_linked(request, shop):
    seen: Traces = request.getfixturevalue("traces")
    with trace.use_span(seen.tracer.start_span("POST /mcp")) as outer:
        relay(shop, SENT)
    span = seen.named("relay")
    assert span.context.trace_id == TRACE
    assert [link.context for link in span.links] == [outer.get_span_context()]


@pytest.mark.parametrize("provider", ["no_provider", "traces"])
def test_gemstone_mcp_passes_it_on(request, shop, provider):
    seen = request.getfixturevalue(provider)
    face = Face(RemoteBackend(at_url(shop.url, ACCESS), has_credentials=False))
    message = modern("tools/call", {"name": "relay"})
    message["params"]["_meta"] = {**META, **SENT}
    answer = face.answer(json.dumps(message).encode(), CallContext())
    told = json.loads(answer.body)["result"]["structuredContent"]
    assert told["traceparent"].startswith(f"00-{TRACE:032x}-")
    assert told["tracestate"] == SENT["tracestate"]
    assert told["baggage"] == SENT["baggage"]
    if seen is not None:
        kinds = [span.kind.name for span in seen.spans if span.name == "relay"]
        assert kinds == ["SERVER", "CLIENT", "SERVER"]
        assert {span.context.trace_id for span in seen.spans if span.name == "relay"} == {TRACE}
