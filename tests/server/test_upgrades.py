"""Routes of a service that take the socket of a WebSocket handshake, without any library."""

import flask
import pytest

from tests.support.http import Connection, call_body
from tests.support.websocket import handshake

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


@pytest.fixture
def serve(start):
    def takes():
        with flask.request.environ["gunicorn.socket"] as sock:
            sock.sendall(SWITCHED)
        raise StopIteration  # no response

    rule = ("/takes", takes, {"websocket": True})
    return lambda **attributes: start(extra_handlers=[rule], **attributes).port


@pytest.fixture
def port(serve):
    return serve()


def refusal(port, *fields, host=b"127.0.0.1"):
    """The status and whether the connection ends; None when the socket was taken."""
    with Connection(port) as client:
        client.send(handshake("/takes", *fields, host=host))
        if (reply := client.read_head())[0] == 101:
            return None
        return reply[0], "close" in (reply[1].get("Connection") or "")


@pytest.mark.parametrize(
    "origin", [b"http://elsewhere.example", b"null", b"https://127.0.0.1.elsewhere.example", b""]
)
def test_a_page_from_elsewhere_gets_no_socket(port, origin):
    """A browser lets any page open a WebSocket to anywhere, and sends the user's cookies along."""
    assert refusal(port, b"Origin: " + origin) == (403, True)


def test_a_rebound_name_gets_no_socket(port):
    assert refusal(port, b"Origin: http://evil.example", host=b"evil.example") == (403, True)


@pytest.mark.parametrize("fields", [(), (b"Origin: http://127.0.0.1",)], ids=["program", "page"])
def test_others_do(port, fields):
    assert refusal(port, *fields) is None


def test_a_page_that_may_call_may_open_one(serve):
    port = serve(allowed_origins=["http://shop.example"])
    assert refusal(port, b"Origin: http://shop.example") is None
    assert refusal(port, b"Origin: http://elsewhere.example") == (403, True)


def test_the_services_own_paths_answer_as_ever(port):
    with Connection(port) as client:
        assert client.exchange(handshake("/api")).status == 405
        assert client.exchange(handshake("/health/live")).status == 200
        body = call_body("echo", "hello")
        fields = b"Content-Type: application/json", b"Content-Length: %d" % len(body)
        sent = handshake("/api", *fields).replace(b"GET", b"POST", 1) + body
        assert client.exchange(sent).json["result"] == "hello"
