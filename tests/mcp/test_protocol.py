"""What is no good request is refused as the protocol says, and with no code that it reserves."""

from __future__ import annotations

import json

import pytest

from gemstone_sync.testing import ServiceClient
from tests.conformance.test_conformance import CASES as ENDPOINT_CASES

from .subject import Subject
from .support import META, VERSION, Agent, modern

#: The protocol's own codes that may leave, with their meanings.
OWN = (-32020, -32022)


@pytest.fixture(scope="module")
def agent():
    with ServiceClient(Subject()) as client:
        yield Agent(client)


def refused(reply, status, code):
    assert reply.status == status, reply.body
    error = json.loads(reply.body)["error"]
    assert error["code"] == code
    return error


def call(**members):
    return {**modern("tools/call", {"name": "test_simple_text", "arguments": {}}), **members}


@pytest.mark.parametrize("id", [None, 1.5, True, [], {}])
def test_an_id_is_a_text_or_a_whole_number(agent, id):
    refused(agent.post(call(id=id)), 400, -32600)


@pytest.mark.parametrize("body", [[], [call()], [call(), call(id=2)]])
@pytest.mark.parametrize("version", [None, "2025-03-26", "2025-06-18", "2025-11-25", VERSION])
def test_a_batch_is_refused_in_every_revision(agent, body, version):
    refused(agent.post(body, MCP_Protocol_Version=version), 400, -32600)


@pytest.mark.parametrize(
    "headers",
    [
        {"MCP_Protocol_Version": None},
        {"MCP_Protocol_Version": "2025-11-25"},
        {"Mcp_Method": None},
        {"Mcp_Method": "tools/list"},
        {"Mcp_Method": "TOOLS/CALL"},
        {"Mcp_Name": None},
        {"Mcp_Name": "test_image_content"},
        {"Mcp_Name": "=?base64?!!?="},
    ],
)
def test_headers_must_say_what_the_body_says(agent, headers):
    refused(agent.post(call(), **headers), 400, -32020)


def test_a_name_in_base64_is_read(agent):
    assert agent.post(call(), Mcp_Name="=?base64?dGVzdF9zaW1wbGVfdGV4dA==?=").status == 200


@pytest.mark.parametrize("version", ["1900-01-01", "latest", ""])
def test_an_unknown_version_is_told_the_known_ones(agent, version):
    meta = {**META, "io.modelcontextprotocol/protocolVersion": version}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    error = refused(agent.post(body, MCP_Protocol_Version=version), 400, -32022)
    assert VERSION in error["data"]["supported"]
    assert error["data"]["requested"] == version


@pytest.mark.parametrize("left_out", ["protocolVersion", "clientCapabilities"])
def test_meta_must_have_what_the_revision_asks_for(agent, left_out):
    meta = {key: value for key, value in META.items() if not key.endswith(left_out)}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    refused(agent.post(body), 400, -32602)


@pytest.mark.parametrize("method", ["initialize", "ping", "prompts/list", "nothing"])
def test_an_unknown_method_is_404(agent, method):
    refused(agent.post(modern(method)), 404, -32601)


def test_an_earlier_revision_has_no_404(agent):
    reply = agent.post({"jsonrpc": "2.0", "id": 1, "method": "server/discover"})
    refused(reply, 200, -32601)


@pytest.mark.parametrize("wanted", ["2025-11-25", "2025-06-18", "2025-03-26"])
def test_initialize_agrees_on_a_known_revision(agent, wanted):
    told = agent.legacy("initialize", {"protocolVersion": wanted, "capabilities": {}})["result"]
    assert told["protocolVersion"] == wanted
    assert told["serverInfo"] == {"name": "subject", "version": "1.2.3"}


def test_initialize_answers_an_unknown_revision_with_the_newest(agent):
    told = agent.legacy("initialize", {"protocolVersion": "2024-11-05", "capabilities": {}})
    assert told["result"]["protocolVersion"] == "2025-11-25"


def test_a_notification_is_202_and_a_call_without_id_is_refused(agent):
    done = agent.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (done.status, done.body) == (202, b"")
    body = call()
    del body["id"]
    refused(agent.post(body), 400, -32600)


@pytest.mark.parametrize("verb", ["GET", "DELETE", "PUT"])
def test_only_post_is_answered(agent, verb):
    reply = agent.client.request(verb, "/mcp")
    assert reply.status == 405
    assert "POST" in reply.headers["Allow"]


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_foreign_hosts_and_origins_are_forbidden(agent, headers):
    assert agent.post(call(), **headers).status == 403


@pytest.mark.parametrize("params", [None, [], {"name": 1}, {"name": "x", "arguments": []}])
def test_a_call_without_name_or_arguments_is_invalid(agent, params):
    answer = json.loads(
        agent.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).body
    )
    assert answer["error"]["code"] in (-32600, -32602)


def test_an_unknown_tool_is_32602(agent):
    body = modern("tools/call", {"name": "nothing"})
    refused(agent.post(body), 200, -32602)


@pytest.mark.parametrize(
    "case",
    [case for case in ENDPOINT_CASES if case.path == "/api" and "in_process" in case.over],
    ids=lambda case: case.name,
)
def test_what_the_endpoint_is_sent_does_no_harm_here(agent, case):
    """The endpoint's table, but for what needs a socket or another path.

    There is an answer in JSON, no code that is reserved, and no secret.
    """
    reply = agent.client.request(case.verb, "/mcp", case.sent, case.all_headers)
    assert reply.status < 500
    assert b"Traceback" not in reply.body
    if reply.body:
        answer = json.loads(reply.body)
        code = answer.get("error", {}).get("code", 0)
        assert code in OWN or not -32099 <= code <= -32000
        if reply.status >= 400:
            assert "error" in answer
    assert agent.ask("server/discover")["supportedVersions"][0] == VERSION
