"""Request bodies and connections: limits, faults, what goes on after an error.

Every test runs twice, as in test_endpoint.py.
"""

import socket
import statistics
import time

import pytest

from tests.support.http import (
    JSON,
    Connection,
    call_body,
    call_message,
    chunk,
    message,
    notification_body,
    result_of,
)
from tests.support.waiting import gather

from .echo import BODY_LIMIT, assert_ends_cleanly, assert_refused, filler, framed, post

# The body: limits


@pytest.mark.parametrize("framing", ["Content-Length", "one chunk", "many chunks"])
def test_a_body_of_the_limit_is_accepted(connection, framing):
    body = filler(BODY_LIMIT)
    assert len(body) == BODY_LIMIT

    reply = connection.exchange(framed(body, framing))

    assert result_of(reply).startswith("xxx")
    assert result_of(connection.call("echo", 1)) == 1


@pytest.mark.parametrize("framing", ["Content-Length", "one chunk", "many chunks"])
def test_a_body_beyond_the_limit_is_refused(service, connection, framing):
    reply = connection.exchange(framed(filler(BODY_LIMIT + 1), framing))

    assert_refused(reply, 413)
    assert service.executed == 0


@pytest.mark.parametrize("framing", ["Content-Length", "one chunk", "many chunks"])
def test_what_is_cut_at_the_limit_is_not_taken_for_whole(service, connection, framing):
    """The first 1000 bytes are a whole request; the rest would make it something else."""
    body = filler(BODY_LIMIT) + b"garbage"

    assert_refused(connection.exchange(framed(body, framing)), 413)
    assert service.executed == 0


def test_a_client_that_sends_it_all_first_gets_the_answer(service):
    """200 kB beyond the limit, sent to the end before it reads: no reset instead of the reply."""
    for framing in ("Content-Length", "many chunks"):
        with Connection(service.port) as connection:
            reply = connection.exchange(framed(filler(200_000), framing))

            assert_refused(reply, 413)


def test_100_mb_announced_are_answered_without_reading(service):
    with Connection(service.port) as connection, Connection(service.port) as other:
        connection.send(post(None, Content_Length="100000000"))
        # Not a byte of the body is sent.
        reply = connection.read_reply()

        assert_refused(reply, 413)
        assert service.executed == 0
        assert result_of(other.call("echo", 1)) == 1
        assert_ends_cleanly(connection, reply)


def test_100_mb_sent_do_not_disturb_others(service):
    """A client that sends on, whatever it was told."""
    with Connection(service.port) as connection, Connection(service.port) as other:
        connection.send(post(None, Content_Length="100000000"))

        def send_it():
            piece = b"x" * 1_000_000
            for _ in range(100):
                try:
                    connection.socket.sendall(piece)
                except OSError:
                    return "cut off"
            return "read to the end"

        def call_meanwhile():
            return [result_of(other.call("echo", number)) for number in range(50)]

        assert gather([send_it, call_meanwhile]) == ["cut off", list(range(50))]


# The body: faults


def test_a_truncated_body_is_400(service, connection):
    body = call_body("echo", 1)
    connection.send(post(body, Content_Length=str(len(body) + 10)))
    connection.finish_sending()

    reply = connection.read_reply()

    assert_refused(reply, 400)
    assert_ends_cleanly(connection, reply)
    assert service.executed == 0


@pytest.mark.parametrize(
    "body",
    [
        chunk(call_body("echo", 1)),  # no last chunk
        chunk(call_body("echo", 1)) + b"0\r\n",  # no end of the trailers
        chunk(call_body("echo", 1))[:-10],
        b"5",
        b"",
    ],
)
def test_a_truncated_chunked_body_is_400(service, connection, body):
    connection.send(post(body, Transfer_Encoding="chunked"))
    connection.finish_sending()

    reply = connection.read_reply()

    assert_refused(reply, 400)
    assert_ends_cleanly(connection, reply)
    assert service.executed == 0


@pytest.mark.parametrize("size", [b"zz", b"-5", b"+5", b"0x5", b"5 5", b"f" * 20, b""])
def test_malformed_chunks_are_400(service, connection, size):
    connection.send(post(size + b"\r\n" + call_body("echo", 1), Transfer_Encoding="chunked"))

    reply = connection.read_reply()

    # A size that is a number, but too large for any body, may be called so.
    assert reply.status in ((400, 413) if size.startswith(b"f") else (400,))
    assert reply.json["error"]["code"] == -32600
    assert_ends_cleanly(connection, reply)
    assert service.executed == 0


@pytest.mark.parametrize("sent", [b"", b"POST /api HT", post(b"12345", Content_Length="100")])
def test_a_client_that_goes_away_harms_nobody(service, sent):
    for _ in range(20):
        with Connection(service.port) as connection:
            connection.send(sent)

    with Connection(service.port) as connection:
        assert result_of(connection.call("echo", 1)) == 1
    assert service.executed == 1


# Expect: 100-continue


def test_100_continue(connection):
    body = call_body("echo", 1)
    connection.send(
        post(None, Content_Length=str(len(body)), Expect="100-continue"),
    )

    assert connection.read_head()[0] == 100
    connection.send(body)
    assert result_of(connection.read_reply()) == 1
    assert result_of(connection.call("echo", 2)) == 2


def test_100_continue_of_a_client_that_does_not_wait(connection):
    reply = connection.exchange(post(call_body("echo", 1), Expect="100-continue"))

    assert result_of(reply) == 1
    assert result_of(connection.call("echo", 2)) == 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Length": str(BODY_LIMIT + 1)}, 413),
        ({"Content_Length": "10", "Content_Type": "text/plain"}, 415),
        ({"Content_Length": "10", "Host": "evil.example"}, 403),
        ({"Content_Length": "10", "Origin": "https://evil.example"}, 403),
    ],
)
def test_what_is_refused_is_not_asked_for(connection, headers, status):
    """The final status comes at once, instead of 100: the client need not send the body."""
    connection.send(post(None, Expect="100-continue", **headers))

    assert connection.read_head()[0] == status


# The connection


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (message("GET", "/api"), 405),
        (message("DELETE", "/api"), 405),
        (message("GET", "/nothing-here"), 404),
        (post(b"{"), 200),
        (post(notification_body("echo")), 204),
    ],
)
def test_the_connection_lives_on_after_errors_without_a_body_to_skip(connection, sent, status):
    reply = connection.exchange(sent)

    assert reply.status == status
    assert not reply.closes
    assert result_of(connection.call("echo", 1)) == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (message("PUT", "/api", JSON, b"x" * 100), 405),
        (post(b"x" * 100, Content_Type="text/plain"), 415),
        (post(b"x" * 100, Content_Encoding="gzip"), 415),
        (post(b"x" * (BODY_LIMIT + 1)), 413),
        (post(b"x" * 100, Host="evil.example"), 403),
        (message("POST", "/nothing-here", JSON, b"x" * 100), 404),
    ],
)
def test_a_body_that_was_not_wanted_is_never_taken_for_a_request(connection, sent, status):
    """Either the connection ends, and says so, or the next request is understood."""
    reply = connection.exchange(sent)

    assert reply.status == status
    if reply.closes:
        assert connection.is_ended()
    else:
        assert result_of(connection.call("echo", 1)) == 1


def test_a_client_may_end_the_connection(connection):
    reply = connection.call("echo", 1, headers={"Connection": "close"})

    assert result_of(reply) == 1
    assert_ends_cleanly(connection, reply)


def test_one_call_after_another_on_one_connection(connection):
    assert [result_of(connection.call("echo", n)) for n in range(200)] == list(range(200))


def test_pipelined_calls_are_answered_in_order(connection):
    connection.send(b"".join(call_message("echo", number) for number in range(50)))

    assert [result_of(connection.read_reply()) for _ in range(50)] == list(range(50))


def test_a_request_in_pieces(connection):
    """However the network cuts it."""
    sent = call_message("echo", "in pieces")
    for at in range(len(sent)):
        connection.send(sent[at : at + 1])

    assert result_of(connection.read_reply()) == "in pieces"


# Segments


def test_headers_and_body_come_in_one_segment(service):
    """One recv has it all: two segments cost a keep-alive client 44 ms a call."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as raw:
        for number in range(20):
            raw.sendall(call_message("echo", "x" * 500, id=number))
            received = raw.recv(65536)

            head, _, body = received.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert body.endswith(b'"id":%d}' % number)


@pytest.mark.parametrize("sent", [message("GET", "/api"), post(b"{", Content_Type="text/plain")])
def test_refusals_come_in_one_segment_too(service, sent):
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as raw:
        raw.sendall(sent)

        assert raw.recv(65536).endswith(b'"id":null}')


def test_small_pieces_do_not_wait_for_acknowledgements(service):
    """TCP_NODELAY. Without it the second piece waits for the client's delayed acknowledgement of
    the first, 40 ms at least (Nagle's algorithm)."""
    took = []
    with Connection(service.port) as connection:
        for _ in range(21):
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            began = time.monotonic()
            assert connection.exchange(message("GET", "/two-pieces")).body == b"onetwo"
            took.append(time.monotonic() - began)

    assert statistics.median(took) < 0.035
