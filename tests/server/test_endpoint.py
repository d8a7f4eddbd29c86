"""The JSON-RPC endpoint over HTTP: content types, verbs, replies.

Every test runs twice: the endpoint answers by itself, and through Flask, as it does when the user
has registered a function that wants to see every request. Clients must not see a difference.
"""

import pytest

from tests.support.http import (
    JSON,
    Connection,
    call_body,
    call_message,
    exchange,
    message,
    notification_body,
    result_of,
)
from tests.support.waiting import wait_until

from .echo import assert_refused, post

# Content types


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "application/json-rpc",
        "application/jsonrequest",
        "application/vnd.api+json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json ; profile=x; charset=utf8",
    ],
)
def test_json_content_types_are_accepted(connection, kind):
    assert result_of(connection.exchange(post(call_body("echo", 1), Content_Type=kind))) == 1


@pytest.mark.parametrize(
    "kind",
    [
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
    ],
)
def test_other_content_types_are_not_executed(service, connection, kind):
    reply = connection.exchange(post(call_body("echo", 1), Content_Type=kind))

    assert_refused(reply, 415)
    assert service.executed == 0


def test_a_content_type_is_required(service):
    reply = exchange(service.port, message("POST", "/api", {}, call_body("echo", 1)))

    assert_refused(reply, 415)
    assert service.executed == 0


def test_a_compressed_body_is_not_accepted(service):
    sent = post(call_body("echo", 1), Content_Encoding="gzip")

    assert_refused(exchange(service.port, sent), 415)
    assert service.executed == 0


# Verbs


@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_other_verbs_are_refused(service, connection, verb):
    reply = connection.exchange(message(verb, "/api", JSON, call_body("echo", 1)))

    assert_refused(reply, 405)
    assert "POST" in reply.headers.get("Allow")
    assert service.executed == 0


def test_head_is_refused_without_a_body(connection):
    reply = connection.exchange(message("HEAD", "/api"))

    assert reply.status == 405
    assert "POST" in reply.headers.get("Allow")
    # A body would be taken for the next reply.
    assert result_of(connection.call("echo", 1)) == 1


def test_options_says_what_is_allowed(connection):
    reply = connection.exchange(message("OPTIONS", "/api"))

    assert reply.status in (200, 204)
    assert "POST" in reply.headers.get("Allow")
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
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"[]", -32600),
        (call_body("no_such_method"), -32601),
        (call_body("echo", 1, 2), -32602),
    ],
)
def test_json_rpc_errors_are_200_and_the_connection_lives(connection, body, code):
    reply = connection.exchange(post(body))

    assert reply.status == 200
    assert reply.json["error"]["code"] == code
    assert not reply.closes
    assert result_of(connection.call("echo", 1)) == 1


def test_a_post_without_a_body(connection):
    reply = connection.exchange(message("POST", "/api", JSON))

    assert reply.status == 200
    assert reply.json["error"]["code"] == -32700


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
