"""What only bytes on a socket can show: chunked bodies, cut ones, refusals before the end.

The same expectations for the service's own server and for gunicorn.
"""

import pytest

from .case import JSON, call, check_reply, executed
from .cases_json import LIMIT
from .matchers import ABSENT, ANY_STRING, NOTHING, Error, result
from .wire import Connection, chunk, chunked, request

SERVERS = {"socket": "socket", "gunicorn": "gunicorn_transport"}
REFUSED = Error(-32600, message=ANY_STRING)
CHUNKED = JSON | {"Transfer-Encoding": "chunked"}
GOOD = call("subtract", [42, 23])


@pytest.fixture(params=SERVERS)
def server(request):
    return request.getfixturevalue(SERVERS[request.param])


@pytest.fixture
def connection(server):
    with Connection(server.address) as opened:
        yield opened


@pytest.fixture
def key(request):
    """A key for `touch` that no other test uses."""
    return request.node.name


def assert_touched(server, key, times):
    effect = executed(key, times)
    check_reply(effect.reply, server.send("POST", "/api", JSON, effect.body))


def assert_closes(server, reply):
    """A refusal before the end of the body ends the connection, and says so.

    gunicorn drops an application's Connection header and reads the rest of the body by itself.
    """
    assert reply.closes or server.name == "gunicorn"


def in_chunks(body, size):
    return chunked(body[start : start + size] for start in range(0, len(body), size))


def padded(size, key):
    body = call("touch", [key])
    return body + b" " * (size - len(body))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_chunked_body_is_a_body(connection, size):
    reply = connection.exchange(request("POST", "/api", CHUNKED, in_chunks(GOOD, size)))
    assert reply.status == 200
    check_reply(result(19), reply)
    # The connection stands at the start of the next request, not inside the last chunk.
    check_reply(result(19), connection.exchange(request("POST", "/api", JSON, GOOD)))


def test_a_chunked_notification_has_no_answer(connection, server, key):
    body = in_chunks(call("touch", [key], id=ABSENT), 10)
    reply = connection.exchange(request("POST", "/api", CHUNKED, body))
    assert reply.status == 204
    check_reply(NOTHING, reply)
    assert_touched(server, key, 1)


def test_chunked_text_that_is_not_json(connection):
    reply = connection.exchange(request("POST", "/api", CHUNKED, in_chunks(b"[" * 100_000, 4096)))
    assert reply.status == 200
    check_reply(Error(-32700), reply)


def test_a_chunked_body_at_the_limit(connection, key):
    body = in_chunks(padded(LIMIT, key), 10_000)
    reply = connection.exchange(request("POST", "/api", CHUNKED, body))
    assert reply.status == 200
    check_reply(result(1), reply)


def test_a_chunked_body_over_the_limit_is_refused_not_cut(connection, server, key):
    body = in_chunks(padded(LIMIT + 1, key), 10_000)
    reply = connection.exchange(request("POST", "/api", CHUNKED, body))
    assert reply.status == 413
    check_reply(REFUSED, reply)
    assert_touched(server, key, 0)


def test_a_chunked_body_over_the_limit_is_refused_before_its_end(connection, server, key):
    piece = chunk(b" " * 50_000)
    connection.send(request("POST", "/api", CHUNKED, b""))
    connection.send(chunk(call("touch", [key])) + piece * (LIMIT // 50_000))
    reply = connection.read_reply()  # the last chunk is never sent
    assert reply.status == 413
    assert_closes(server, reply)
    check_reply(REFUSED, reply)
    assert_touched(server, key, 0)


@pytest.mark.parametrize("length", [LIMIT + 1, 10**10, 10**18])
def test_a_length_over_the_limit_is_refused_before_the_body(connection, server, length):
    headers = JSON | {"Content-Length": str(length)}
    reply = connection.exchange(request("POST", "/api", headers, b""))
    assert reply.status == 413
    assert_closes(server, reply)
    check_reply(REFUSED, reply)


@pytest.mark.parametrize("missing", [1, 1000])
def test_a_body_shorter_than_its_length_is_not_taken_for_whole(connection, server, key, missing):
    body = call("touch", [key])
    headers = JSON | {"Content-Length": str(len(body) + missing)}
    connection.send(request("POST", "/api", headers, body))
    connection.finish_sending()
    reply = connection.read_reply()
    assert reply.status == 400
    check_reply(REFUSED, reply)
    assert_touched(server, key, 0)


def test_a_chunked_body_without_its_end_is_not_taken_for_whole(connection, server, key):
    connection.send(request("POST", "/api", CHUNKED, chunk(call("touch", [key]))))
    connection.finish_sending()
    reply = connection.read_reply()
    assert reply.status == 400
    check_reply(REFUSED, reply)
    assert_touched(server, key, 0)


def test_a_chunk_without_its_end_is_not_taken_for_whole(connection, server, key):
    body = call("touch", [key])
    connection.send(request("POST", "/api", CHUNKED, b"%x\r\n%s" % (len(body) + 1, body)))
    connection.finish_sending()
    reply = connection.read_reply()
    assert reply.status == 400
    check_reply(REFUSED, reply)
    assert_touched(server, key, 0)


@pytest.mark.parametrize("size", [b"xyz", b"-1", b"", b"0x5", b"5 5"])
def test_a_broken_chunk_size_is_refused(connection, server, key, size):
    body = chunk(call("touch", [key])) + size + b"\r\nabcde\r\n0\r\n\r\n"
    connection.send(request("POST", "/api", CHUNKED, body))
    connection.finish_sending()
    # gunicorn's parser answers what follows the broken chunk once more, by itself.
    reply = connection.read_reply(more=server.name == "gunicorn")
    assert reply.status == 400
    assert_closes(server, reply)
    assert_touched(server, key, 0)


def test_expect_100_continue_gets_its_interim_answer(connection):
    headers = JSON | {"Expect": "100-continue", "Content-Length": str(len(GOOD))}
    connection.send(request("POST", "/api", headers, b""))
    status, _ = connection.read_head()
    assert status == 100
    check_reply(result(19), connection.exchange(GOOD))


def test_a_request_may_arrive_byte_by_byte(connection):
    for byte in request("POST", "/api", JSON, GOOD):
        connection.send(bytes([byte]))
    check_reply(result(19), connection.read_reply())


def test_pipelined_requests_are_answered_in_order(server):
    count = 20
    bodies = [call("echo", [number], id=number) for number in range(count)]
    with Connection(server.address) as connection:
        connection.send(b"".join(request("POST", "/api", JSON, body) for body in bodies))
        for number in range(count):
            check_reply(result(number, id=number), connection.read_reply(more=number < count - 1))


def test_a_connection_serves_many_requests_of_all_kinds(connection):
    for number in range(30):
        good = connection.exchange(request("POST", "/api", JSON, call("echo", id=number)))
        check_reply(result(None, id=number), good)
        for body, expected in ((b"{", Error(-32700)), (b"[]", Error(-32600))):
            reply = connection.exchange(request("POST", "/api", JSON, body))
            assert not reply.closes
            check_reply(expected, reply)


def test_connection_close_is_honoured(connection):
    headers = JSON | {"Connection": "close"}
    reply = connection.exchange(request("POST", "/api", headers, GOOD))
    check_reply(result(19), reply)
    assert reply.closes
    assert connection.at_end()


#: Ways to be refused before the body is read: verb, more headers, status.
EARLY_REFUSALS = {
    "405": ("PUT", JSON, 405),
    "403": ("POST", JSON | {"Host": "evil.test"}, 403),
    "413": ("POST", JSON, 413),
    "415": ("POST", {"Content-Type": "text/plain"}, 415),
}


@pytest.mark.parametrize("copies", [1, 1000, 5000])
@pytest.mark.parametrize("refusal", EARLY_REFUSALS)
def test_a_refused_body_is_never_a_request_of_its_own(connection, server, key, refusal, copies):
    verb, headers, status = EARLY_REFUSALS[refusal]
    # Whole requests, one after another: wherever the server stops reading, one stands next.
    body = request("POST", "/api", JSON, call("touch", [key])) * copies
    if status == 413:
        body += b" " * (LIMIT + 1 - len(body))
    connection.send(request(verb, "/api", headers, body))
    reply = connection.read_reply()
    assert reply.status == status
    if not reply.closes:
        check_reply(result(19), connection.exchange(request("POST", "/api", JSON, GOOD)))
    assert_touched(server, key, 0)


@pytest.mark.parametrize("refusal", EARLY_REFUSALS)
def test_a_refused_chunked_body_is_never_a_request_of_its_own(connection, server, key, refusal):
    verb, headers, status = EARLY_REFUSALS[refusal]
    inner = request("POST", "/api", JSON, call("touch", [key])) * 5000
    headers = headers | {"Transfer-Encoding": "chunked"}
    connection.send(request(verb, "/api", headers, in_chunks(inner, 8192)))
    reply = connection.read_reply()
    assert reply.status == status
    if not reply.closes:
        check_reply(result(19), connection.exchange(request("POST", "/api", JSON, GOOD)))
    assert_touched(server, key, 0)
