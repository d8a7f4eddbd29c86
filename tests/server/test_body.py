"""Request bodies and connections: limits, faults, what goes on after an error.

The endpoint reads bodies by itself and for Flask; what HTTP says of each kind of fault, and of
connections, is in `http/`.
"""

import socket

import flask
import gevent
import pytest

import gemstone_sync
from tests.support.http import JSON, Connection, call_body, call_message, chunk, message, result_of
from tests.support.waiting import gather

from .echo import BODY_LIMIT, assert_ends_cleanly, assert_refused, filler, framed, post

every_framing = pytest.mark.parametrize("framing", ["Content-Length", "one chunk", "many chunks"])


@every_framing
def test_a_body_of_the_limit_is_accepted(connection, framing):
    reply = connection.exchange(framed(filler(BODY_LIMIT), framing))

    assert result_of(reply).startswith("xxx")
    assert result_of(connection.call("echo", 1)) == 1


@every_framing
@pytest.mark.parametrize(
    "body",
    [filler(BODY_LIMIT + 1), filler(BODY_LIMIT) + b"garbage", filler(200_000)],
    ids=["a byte more", "a call and more", "200 kB, sent before it reads"],
)
def test_a_body_beyond_the_limit_is_refused(service, connection, framing, body):
    """What is cut at the limit is not taken for whole; no reset comes instead of the reply."""
    assert_refused(connection.exchange(framed(body, framing)), 413)
    assert service.executed == 0


def test_100_mb_announced_are_answered_without_reading(service):
    with Connection(service.port) as connection, Connection(service.port) as other:
        connection.send(post(None, Content_Length="100000000"))  # and not a byte of the body
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
            with pytest.raises(OSError):  # noqa: PT011  # a reset or a broken pipe
                connection.socket.sendall(b"x" * 100_000_000)

        def call_meanwhile():
            return [result_of(other.call("echo", number)) for number in range(50)]

        assert gather([send_it, call_meanwhile]) == [None, list(range(50))]


@pytest.mark.parametrize(
    "sent",
    [
        post(call_body("echo", 1), Content_Length="100"),
        *(
            post(body, Transfer_Encoding="chunked")
            for body in (
                chunk(call_body("echo", 1)),  # no last chunk
                chunk(call_body("echo", 1)) + b"0\r\n",  # no end of the trailers
                chunk(call_body("echo", 1))[:-10],
                b"5",
                b"",
            )
        ),
    ],
)
def test_a_truncated_body_is_400(service, connection, sent):
    connection.send(sent)
    connection.finish_sending()

    reply = connection.read_reply()

    assert_refused(reply, 400)
    assert_ends_cleanly(connection, reply)
    assert service.executed == 0


@pytest.mark.parametrize("size", [b"zz", b"-5", b"f" * 20, b""])
def test_malformed_chunks_are_400(service, connection, size):
    connection.send(post(size + b"\r\n" + call_body("echo", 1), Transfer_Encoding="chunked"))

    reply = connection.read_reply()

    # A size that is a number, but too large for any body, may be called so.
    assert_refused(reply, reply.status if reply.status == 413 and size == b"f" * 20 else 400)
    assert_ends_cleanly(connection, reply)
    assert service.executed == 0


def test_too_many_trailers_are_431(service, connection):
    body = chunk(call_body("echo", 1)) + b"0\r\n" + b"X: 1\r\n" * 101 + b"\r\n"
    assert_refused(connection.exchange(post(body, Transfer_Encoding="chunked")), 431)
    assert service.executed == 0


@pytest.mark.parametrize("sent", [b"", b"POST /api HT", post(b"12345", Content_Length="100")])
def test_a_client_that_goes_away_harms_nobody(service, sent):
    for _ in range(20):
        with Connection(service.port) as connection:
            connection.send(sent)

    with Connection(service.port) as connection:
        assert result_of(connection.call("echo", 1)) == 1
    assert service.executed == 1


# Routes of the user's own


class Uploads(gemstone_sync.MicroService):
    name = "uploads"
    body_timeout = 0.3

    @gemstone_sync.route("/size", methods=["POST"])
    def size(self):
        return str(len(flask.request.get_data()))

    @gemstone_sync.route("/stream", methods=["POST"])
    def stream(self):
        return str(len(flask.request.stream.read()))


@pytest.mark.parametrize("path", ["/size", "/stream"])
@pytest.mark.parametrize(
    ("framing", "body", "said"),
    [
        ({"Content-Length": "100"}, b"x" * 50, "did not come in time"),
        ({"Transfer-Encoding": "chunked"}, b"5\r\nxx", "did not come in time"),
        ({"Transfer-Encoding": "chunked"}, b"zz\r\n", "Malformed"),
        ({"Transfer-Encoding": "chunked"}, b"0\r\n" + b"X: 1\r\n" * 101 + b"\r\n", "trailer"),
    ],
    ids=["silence", "silence in a chunk", "malformed", "trailers"],
)
def test_what_a_route_makes_of_a_broken_body_is_in_the_log(
    running_service, path, framing, body, said, caplog
):
    service = running_service(Uploads)
    with Connection(service.port) as connection:
        connection.send(message("POST", path, {**framing, "X-Request-Id": "r-17"}, body))
        assert connection.read_reply().status == 400
    (line,) = [r.getMessage() for r in caplog.records if "r-17" in r.getMessage()]
    assert said in line


def test_an_id_that_cannot_travel_is_not_in_the_log(running_service, caplog):
    service = running_service(Uploads)
    with Connection(service.port) as connection:
        head = {"Content-Length": "100", "X-Request-Id": "r\x85-17"}
        connection.send(message("POST", "/size", head, b"x"))
        assert connection.read_reply().status == 400
    assert "did not come in time [request_id=-]" in caplog.text


def test_a_route_takes_an_upload_that_takes_longer_than_the_time_out(running_service):
    service = running_service(Uploads, body_timeout=1.5)
    with Connection(service.port) as connection:
        connection.send(message("POST", "/size", {"Content-Length": "20000"}))
        for _ in range(20):
            connection.send(b"x" * 1000)
            gevent.sleep(0.1)
        assert connection.read_reply().body == b"20000"


# Expect: 100-continue


@pytest.mark.parametrize("waits", [True, False])
def test_100_continue(connection, waits):
    body = call_body("echo", 1)
    connection.send(post(None, Content_Length=str(len(body)), Expect="100-continue"))
    if waits:
        assert connection.read_head()[0] == 100
    connection.send(body)

    assert result_of(connection.read_reply()) == 1
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


def test_calls_on_one_connection(connection):
    """One after another, many at once, in pieces however the network cuts it; and the last one."""
    assert [result_of(connection.call("echo", n)) for n in range(200)] == list(range(200))

    connection.send(b"".join(call_message("echo", number) for number in range(50)))
    assert [result_of(connection.read_reply()) for _ in range(50)] == list(range(50))

    for byte in call_message("echo", "in pieces"):
        connection.send(bytes([byte]))
    assert result_of(connection.read_reply()) == "in pieces"

    reply = connection.call("echo", 1, headers={"Connection": "close"})
    assert result_of(reply) == 1
    assert_ends_cleanly(connection, reply)


# Segments


@pytest.mark.parametrize(
    ("sent", "end"),
    [
        (call_message("echo", "x" * 500, id=7), b'"id":7}'),
        (message("GET", "/api"), b'"id":null}'),
        (post(b"{", Content_Type="text/plain"), b'"id":null}'),
    ],
)
def test_headers_and_body_come_in_one_segment(service, sent, end):
    """One recv has it all: two segments cost a keep-alive client 44 ms a call."""
    with Connection(service.port) as connection:
        for _ in range(20 if b"echo" in sent else 1):
            connection.send(sent)
            received = connection.socket.recv(65536)

            assert received.startswith(b"HTTP/1.1 ")
            assert received.endswith(end)


def test_small_pieces_do_not_wait_for_acknowledgements(service):
    """Without TCP_NODELAY the second of two pieces waits for the client to acknowledge the first
    (Nagle's algorithm), which takes 40 ms at least."""
    with Connection(service.port) as connection:
        assert connection.exchange(message("GET", "/two-pieces")).body == b"onetwo"
        (served,) = service._runner._server.state.connections
        assert served.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
