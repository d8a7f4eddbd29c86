"""The JSON-RPC endpoint over HTTP: content types, verbs, replies, limits.

Every test runs twice, by itself and through Flask: see the fixture `start`.
"""

import pytest

import gemstone_sync
from gemstone_sync.server import response
from tests.support.http import (
    JSON,
    Connection,
    call_body,
    call_message,
    chunked,
    message,
    notification_body,
    result_of,
)
from tests.support.waiting import wait_until

from .echo import BODY_LIMIT, Echo, assert_refused, post

# Content types


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "application/json-rpc",
        "application/jsonrequest",
        "application/vnd.api+json",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json ; profile=x; charset=utf8",
    ],
)
def test_json_content_types_are_accepted(connection, kind):
    assert result_of(connection.exchange(post(call_body("echo", 1), Content_Type=kind))) == 1


@pytest.mark.parametrize(
    "headers",
    [
        *(
            {"Content-Type": kind}
            for kind in [
                "text/plain",
                "text/plain; charset=utf-8",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
                "application/octet-stream",
                "text/json",
                "application/jsonp",
                "xapplication/json",
                "application/json; charset=utf-16",
                "application/json; charset=latin-1",
                "application/json, text/plain",
                "text/plain; application/json",
                "*/*",
                "",
            ]
        ),
        {},
        {**JSON, "Content-Encoding": "gzip"},
    ],
    ids=str,
)
def test_other_content_types_are_not_executed(service, connection, headers):
    reply = connection.exchange(message("POST", "/api", headers, call_body("echo", 1)))

    assert_refused(reply, 415)
    assert service.executed == 0


# Verbs


@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_other_verbs_are_refused(service, connection, verb):
    reply = connection.exchange(message(verb, "/api", JSON, call_body("echo", 1)))

    assert_refused(reply, 405)
    assert "POST" in reply.headers.get("Allow")
    assert service.executed == 0


@pytest.mark.parametrize(("verb", "statuses"), [("HEAD", [405]), ("OPTIONS", [200, 204])])
def test_head_is_refused_without_a_body_and_options_says_what_is_allowed(
    connection, verb, statuses
):
    reply = connection.exchange(message(verb, "/api"))

    assert reply.status in statuses
    assert "POST" in reply.headers.get("Allow")
    # A body would be taken for the next reply.
    assert result_of(connection.call("echo", 1)) == 1


# Replies


def test_a_reply_is_json_of_a_stated_length(connection):
    reply = connection.call("echo", "é")

    assert reply.status == 200
    assert reply.headers.get_all("Content-Type") == ["application/json"]
    assert reply.headers.get_all("Content-Length") == [str(len(reply.body))]
    assert not reply.closes


@pytest.mark.parametrize(
    "body",
    [
        notification_body("echo", 1),
        b"[" + notification_body("echo", 1) + b"," + notification_body("echo", 2) + b"]",
        notification_body("no_such_method"),
    ],
)
def test_nothing_to_say_is_204_without_a_body(connection, body):
    reply = connection.exchange(post(body))

    assert reply.status == 204
    assert "Transfer-Encoding" not in reply.headers
    assert reply.headers.get("Content-Length") in (None, "0")  # RFC 9110, section 8.6: none at all
    assert "Content-Type" not in reply.headers
    assert result_of(connection.call("echo", 1)) == 1


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (message("POST", "/api", JSON), 200, -32700),
        (post(b""), 200, -32700),
        (post(b"{"), 200, -32700),
        (post(b"[]"), 200, -32600),
        (post(call_body("no_such_method")), 200, -32601),
        (post(call_body("echo", 1, 2)), 200, -32602),
        (message("GET", "/api"), 405, -32600),
        (message("DELETE", "/api"), 405, -32600),
        (message("GET", "/nothing-here"), 404, None),
    ],
)
def test_the_connection_lives_on_after_errors_without_a_body_to_skip(
    connection, sent, status, code
):
    reply = connection.exchange(sent)

    assert reply.status == status
    assert code is None or reply.json["error"]["code"] == code
    assert not reply.closes
    assert result_of(connection.call("echo", 1)) == 1


# Limits


def test_the_default_limits(running_service):
    """10 MB in, 16 MB out, batches of 100."""
    service = running_service(Echo, max_body_size=gemstone_sync.MicroService.max_body_size)
    with Connection(service.port) as connection:
        connection.send(post(None, Content_Length="10000001"))
        assert_refused(connection.read_reply(), 413)
    with Connection(service.port) as connection:
        body = call_body("echo", 1)
        assert result_of(connection.exchange(post(body.ljust(10_000_000)))) == 1

        too_many = connection.exchange(post(b"[" + b",".join([body] * 101) + b"]"))
        assert too_many.json["error"]["code"] == -32600
        assert len(connection.exchange(post(b"[" + b",".join([body] * 100) + b"]")).json) == 100
        assert service.executed == 101

        error = {"code": -32004, "message": "Response too large"}
        assert connection.call("long_text", 16_000_001).json["error"] == error
        assert len(result_of(connection.call("long_text", 15_999_000))) == 15_999_000


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"X-Gemstone-Deadline": "100"}, {"code": -32002, "message": "Deadline exceeded"}),
        ({"X-Gemstone-Deadline": "0"}, {"code": -32002, "message": "Deadline exceeded"}),
        ({"X-Gemstone-Hops": "9"}, {"code": -32003, "message": "Too many hops"}),
    ],
)
def test_what_a_caller_says_of_deadline_and_hops_counts(service, connection, headers, error):
    assert connection.call("hold", headers=headers).json["error"] == error
    if headers.get("X-Gemstone-Deadline") == "100" and not service.holding:
        # The process had no processor until it was over: once more, with time for that.
        longer = {"X-Gemstone-Deadline": "4000"}
        assert connection.call("hold", headers=longer).json["error"] == error
    assert service.holding == (headers.get("X-Gemstone-Deadline") == "100")
    assert "held" not in service.events
    assert result_of(connection.call("echo", 1, headers={"X-Gemstone-Hops": "8"})) == 1


def test_overload_is_503_with_retry_after(start):
    service = start(max_parallel_blocking_tasks=1, max_waiting_calls=0)
    with Connection(service.port) as first, Connection(service.port) as second:
        first.send(call_message("hold"))
        wait_until(lambda: service.holding == 1, "the first call")

        call = second.exchange(call_message("echo", 1, id="mine"))
        notification = second.exchange(post(notification_body("echo", 1)))

        for reply in (call, notification):
            assert reply.status == 503
            assert int(reply.headers.get("Retry-After")) >= 1
            assert reply.headers.get("Content-Type") == "application/json"
            assert reply.json["error"] == {"code": -32000, "message": "Server overloaded"}
        assert call.json["id"] == "mine"
        assert service.executed == 0

        service.release.set()
        assert result_of(first.read_reply()) == "held"
        # The connection that was turned away is as good as before.
        assert result_of(second.call("echo", 2)) == 2


# Ids, and what the log hears


OVERSIZED = call_body("echo", "x" * BODY_LIMIT)
REFUSALS = {
    "405": (message("PUT", "/api", JSON, b"{}"), 405, "Only POST"),
    "403": (post(call_body("echo"), Host="evil.example"), 403, "This Host"),
    "413": (post(OVERSIZED), 413, "longer than"),
    "413 in chunks": (post(chunked(OVERSIZED), Transfer_Encoding="chunked"), 413, "longer than"),
    "415": (post(call_body("echo"), Content_Type="text/plain"), 415, "content type"),
    "431": (
        post(b"0\r\n" + b"X: 1\r\n" * 101 + b"\r\n", Transfer_Encoding="chunked"),
        431,
        "trailers",
    ),
    "400 of a body": (post(b"zz\r\n", Transfer_Encoding="chunked"), 400, "incomplete or malformed"),
    "400 of a head": (post(call_body("echo"), Host="a b"), 400, "Malformed Host"),
    "417": (post(call_body("echo"), Expect="x"), 417, "100-continue"),
    "parse error": (post(b"{"), 200, "Parse error"),
    "batch": (post(b"[" + b"1," * 200 + b"1]"), 200, "The batch has more than 100 items"),
    "large result": (post(call_body("long_text", 20_000_000)), 200, "Response too large"),
}


@pytest.mark.parametrize("kind", REFUSALS)
@pytest.mark.parametrize("given", ["r-17", "a\x85b", None], ids=["sent", "bad", "none"])
def test_a_refusal_has_the_request_s_id_in_reply_and_log(service, kind, given, caplog):
    sent, status, said = REFUSALS[kind]
    if given is not None:
        head = f"\r\nX-Request-Id: {given}\r\n".encode("latin-1")
        sent = sent.replace(b"\r\n", head, 1)
    with Connection(service.port) as connection:
        connection.send(sent)
        reply = connection.read_reply()

    assert reply.status == status
    (told,) = reply.headers.get_all("X-Request-Id")
    assert (told == given) is (given == "r-17")
    assert told.isascii()
    (line,) = [r.getMessage() for r in caplog.records if told in r.getMessage()]
    assert said in line


def test_an_id_that_was_sent_is_echoed_and_none_is_made_up_without_need(connection):
    reply = connection.call("echo", 1, headers={"X-Request-Id": "r-17"})
    assert reply.headers.get_all("X-Request-Id") == ["r-17"]
    assert "X-Request-Id" not in connection.call("echo", 1).headers
    assert connection.call("nothing").headers.get("X-Request-Id")


def test_ids_do_not_displace_the_heads_that_replies_share(connection):
    connection.call("echo", 1)
    before = set(response._known_heads)
    for number in range(20):
        connection.call("echo", 1, headers={"X-Request-Id": f"r-{number}"})
    assert len(set(response._known_heads) - before) <= 1
