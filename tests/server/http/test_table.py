"""Every request of the table, sent whole, byte by byte, and between two good ones.

However it arrives, the reply, the fate of the connection and what the application was called for
are the same. What a request smuggles in never runs.
"""

import pytest

from .case import request
from .harness import Client, parse_replies
from .requests_table import CASES

BEFORE = request(b"GET /before HTTP/1.1", b"Host: a")
#: Beyond this many bytes it takes seconds one by one; they go 61 by 61 then.
LONG = 10_000
AFTER = request(b"GET /after HTTP/1.1", b"Host: a", b"Connection: close")

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def check_reply(case, reply):
    assert reply.status in case.statuses, f"{case.source}: {reply}"
    if case.statuses == (200,):
        check_echo(case, reply)
    else:
        check_refusal(case, reply)


def check_echo(case, reply):
    assert reply.closes is not case.kept, f"{case.source}: {reply}"
    if case.is_head:
        assert reply.body == b""
        return
    told = reply.json
    environ = case.told.get("environ", {})
    expected = {name: value for name, value in case.told.items() if name != "environ"}
    assert {name: told[name] for name in expected} == expected, case.source
    assert {name: told["environ"].get(name) for name in environ} == environ, case.source


def check_refusal(case, reply):
    """It says that the connection ends, and why: a JSON-RPC error, as in every refusal here."""
    assert reply.closes
    if case.is_head:
        assert reply.body == b"", case.source
        return
    assert reply.headers.get("Content-Type") == "application/json"
    assert reply.json["error"]["code"] == -32600
    assert reply.json["id"] is None
    if reply.status == 405:
        assert "Allow" in reply.headers, "RFC 9110, section 15.5.6"


def check_fate(case, client):
    """Kept: one more request is answered. Closed: the end, and nothing before it."""
    if case.kept:
        assert client.exchange(AFTER).status == 200
    assert client.is_ended()


def expected_runs(case, before=(), after=("/after",)):
    """The paths that the application sees."""
    own = () if case.runs is None else (case.runs,)
    return [*before, *own, *(after if case.kept else ())]


def test_the_table_names_its_cases_once():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 100


@every_case
def test_whole(server, application, case):
    with Client(server) as client:
        client.send(case.sent)
        check_reply(case, client.read_reply(head_only=case.is_head))
        check_fate(case, client)
    assert application.ran == expected_runs(case)


@every_case
def test_byte_by_byte(server, application, case):
    with Client(server) as client:
        if len(case.sent) <= LONG:
            client.send_by_byte(case.sent)
        else:
            client.send_pieces([case.sent[at : at + 61] for at in range(0, len(case.sent), 61)])
        check_reply(case, client.read_reply(head_only=case.is_head))
        check_fate(case, client)
    assert application.ran == expected_runs(case)


@every_case
def test_between_two_others(server, application, case):
    """In one segment: where a request ends decides what runs as the next one."""
    with Client(server) as client:
        client.send(BEFORE + case.sent + AFTER)
        replies = parse_replies(client.read_to_end(), [False, case.is_head])
    assert len(replies) == (3 if case.kept else 2)
    assert replies[0].status == 200
    check_reply(case, replies[1])
    if case.kept:
        assert replies[2].status == 200
        assert replies[2].json["path"] == "/after"
    assert application.ran == expected_runs(case, before=("/before",))


def test_byte_by_byte_is_what_it_says(server, application):
    """The server really takes one byte at a time, or the test above would show nothing."""
    with Client(server) as client:
        client.send_by_byte(request(b"POST /sizes HTTP/1.1", b"Host: a", b"Content-Length: 20"))
        client.send_by_byte(b"x" * 20)
        assert client.read_reply().body == b"1\n" * 20
