"""How the body of a request reaches the application (PEP 3333), and Expect: 100-continue."""

import gevent
import pytest

from gemstone_sync.server.streams import LengthStream

from .case import CHUNKED, get, post
from .harness import ask, check_next, send


def test_a_body_by_lines(client):
    body = b"one\ntwo\r\n\nthree"
    for path in ("/lines", "/lines?by-iteration"):
        client.send_by_byte(send(path, body))
        assert client.read_reply().json == ["one\n", "two\r\n", "\n", "three"]
        client.send(ask(path, CHUNKED, method="POST", body=b"4\r\none\n\r\n4\r\ntwo\r\r\n"))
        client.send(b"7\r\n\n\nthree\r\n0\r\n\r\n")
        assert client.read_reply().json == ["one\n", "two\r\n", "\n", "three"]


@pytest.mark.parametrize("line", [b"x" * 1_000_000, b"x" * 999 + b"\n"], ids=["one", "many"])
def test_lines_of_a_long_body_are_read_in_few_steps(client, monkeypatch, line):
    """Byte by byte, as of any `io.RawIOBase`, would be a million of them."""
    steps = 0
    some = LengthStream._read_some

    def counted(*arguments):
        nonlocal steps
        steps += 1
        return some(*arguments)

    monkeypatch.setattr(LengthStream, "_read_some", counted)
    body = line * (1_000_000 // len(line))
    sending = gevent.spawn(client.send, send("/lines", body))
    assert "".join(client.read_reply().json) == body.decode()
    sending.join()
    assert 1 < steps < 10_000


def test_a_body_is_streamed(client, application):
    """The application has the first part before the rest is sent."""
    client.send(send("/half-read", b"abcde", length=8))
    assert client.read_reply().body == b"abcde"
    client.send(b"fgh" + get())  # the rest belongs to no request
    assert client.read_reply().status == 200
    assert application.ran == ["/half-read", "/x"]


def test_chunks_are_streamed(client):
    client.send(ask("/half-read", CHUNKED, method="POST", body=b"5\r\nabcde\r\n"))
    reply = client.read_reply()
    assert reply.body == b"abcde"
    # How much is still to come nobody knows: the server does not wait for it.
    assert reply.closes
    assert client.is_ended()


def test_100_continue_comes_when_the_body_is_read(client):
    client.send(ask("/x", b"Expect: 100-continue", b"Content-Length: 3", method="POST"))
    status, headers = client.read_head()
    assert status == 100
    assert headers.pairs == []
    assert client.exchange(b"abc").json["body"] == "abc"
    check_next(client)


@pytest.mark.parametrize("framing", [b"Content-Length: 3", CHUNKED])
def test_no_100_continue_when_the_body_is_not_read(client, framing):
    """RFC 9110, section 10.1.1: the final answer at once, and the connection does not go on."""
    client.send(ask("/unread", b"Expect: 100-continue", framing, method="POST"))
    status, headers = client.read_head()
    assert status == 200
    assert headers.get("Connection") == "close"
    assert client.read_to_end() == b"unread"


def test_no_100_continue_when_the_body_is_there(client):
    """RFC 9110, section 10.1.1: it MAY be left out then."""
    client.send(post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"))
    status, _ = client.read_head()
    assert status == 200


def test_no_100_continue_on_http_1_0(client):
    fields = b"Expect: 100-continue", b"Content-Length: 3"
    client.send(ask("/x", *fields, method="POST", version="1.0"))
    gevent.idle()
    client.send(b"abc")
    status, _ = client.read_head()
    assert status == 200
