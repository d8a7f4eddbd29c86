"""What the application answers, and what of it reaches the client (PEP 3333, RFC 9112)."""

import re
import time
from email.utils import parsedate_to_datetime

import gevent
import pytest

from gemstone_sync.server import response as response_module
from tests.support.cases import ABSENT, Error, check_body
from tests.support.http import chunked
from tests.support.waiting import LIMIT

from .case import CHUNKED, get, post
from .harness import ask, check_next, plain_and_tls, send


def assert_failed(client, errors, reason):
    """A 500 with nothing of the fault in it; the fault is in the log, once; the end."""
    reply = client.read_reply()
    assert reply.status == 500
    assert reply.closes
    check_body(Error(-32603, data=ABSENT), reply)
    assert client.is_ended()
    (message,) = errors.take()
    assert reason in message


# Whole answers


def test_one_piece_has_a_length_and_not_chunks(client):
    reply = client.exchange(ask("/large?70000"))
    assert reply.body == b"x" * 70_000
    assert reply.headers.get("Content-Length") == "70000"
    assert "Transfer-Encoding" not in reply.headers
    check_next(client)


@pytest.mark.parametrize("path", ["/empty-list", "/empty-piece", "/nothing"])
def test_no_body_at_all(client, path):
    reply = client.exchange(ask(path))
    assert reply.status == 200
    assert reply.body == b""
    check_next(client)


@pytest.mark.parametrize(
    "status",
    ["201 Created", "404 Not Found", "599 Whatever It Is", "204 No Content", "304 Not Modified"],
)
def test_statuses(client, status):
    """RFC 9112, section 6.3: of 204 and 304 not a byte of the body is sent."""
    reply = client.exchange(ask("/status?" + status.replace(" ", "+")))
    assert reply.status == int(status[:3])
    assert "Transfer-Encoding" not in reply.headers
    assert reply.body == (b"" if reply.status in (204, 304) else b"a body")
    if reply.status == 204:
        assert "Content-Length" not in reply.headers  # RFC 9110, section 8.6
    check_next(client)


@pytest.mark.parametrize(
    "path", ["/large?5", "/stream", "/stream-with-length", "/written", "/file", "/late-start"]
)
def test_head_has_the_headers_and_no_body(client, application, path):
    """RFC 9110, section 9.3.2; the fields about the body MAY be left out."""
    body = client.exchange(ask(path)).body
    closed = list(application.closed)
    reply = client.exchange(ask(path, method="HEAD"))
    assert reply.status == 200
    length = reply.headers.get("Content-Length")
    assert length is None or int(length) == len(body)
    check_next(client)
    assert application.closed == closed * 2


def test_head_of_a_failure_has_no_body(client, errors):
    client.send(ask("/raises", method="HEAD"))
    assert client.read_reply(head_only=True).status == 500
    assert client.is_ended()
    assert errors.take()


def test_a_refusal_of_head_has_no_body(client):
    client.send(b"\r\n" + ask("/x", b"X-A : 1", method="HEAD"))
    assert client.read_reply(head_only=True).status == 400
    assert client.is_ended()


def test_the_application_may_end_the_connection(client):
    reply = client.exchange(send("/header", b"Connection:close"))
    assert reply.body == b"sent"
    assert reply.headers.get_all("Connection") == ["close"]
    assert client.is_ended()


# In pieces


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/stream", b"one,two,three"),
        ("/stream-with-length", b"onetwosix"),
        ("/late-start", b"late"),  # start_response in the first step of a generator
        ("/written", b"written,twice,returned"),
        ("/file", b"f" * 2500),
    ],
)
def test_pieces_come_in_chunks_unless_they_have_a_length(client, application, path, body):
    reply = client.exchange(ask(path))
    assert reply.body == body
    coding = None if path == "/stream-with-length" else "chunked"
    assert reply.headers.get("Transfer-Encoding") == coding
    assert application.closed == ([] if path in ("/late-start", "/written") else [path])
    check_next(client)


def test_an_empty_piece_is_no_last_chunk(client):
    client.send(ask("/stream", b"Connection: close"))
    text = client.read_to_end()
    assert text.endswith(b"\r\n\r\n4\r\none,\r\n4\r\ntwo,\r\n5\r\nthree\r\n0\r\n\r\n")


def test_each_piece_is_sent_when_it_is_there(client, application):
    """PEP 3333, "Buffering and Streaming": nothing waits for the next piece."""
    client.send(ask("/stream-slowly"))
    client.read_head()
    assert client.read_some(11) == b"6\r\nfirst,\r\n"
    application.release.set()
    assert client.read_some(16) == b"6\r\nsecond\r\n0\r\n\r\n"
    check_next(client)


@plain_and_tls
@pytest.mark.parametrize("how", ["length", "chunks"])
def test_large_bodies(serve, connect, how):
    """Many segments and records each way, and both sides have to wait."""
    body = b"y" * 5_000_000
    client = connect(serve())
    sent = send("/x", body) if how == "length" else post(CHUNKED, body=chunked(body))
    sending = gevent.spawn(client.send, sent)
    assert client.read_reply().json["body"] == body.decode()
    sending.get(timeout=LIMIT)
    assert client.exchange(ask("/large?5000000")).body == b"x" * 5_000_000
    assert client.exchange(ask("/large-in-pieces?80")).body == b"x" * 80 * 65536


# HTTP/1.0


@pytest.mark.parametrize("fields", [(), (b"Connection: keep-alive",)])
def test_pieces_on_http_1_0_end_with_the_connection(client, fields):
    """RFC 9112, section 6.1: no chunks for a client of HTTP/1.0."""
    client.send(ask("/stream", *fields, version="1.0"))
    reply = client.read_reply_to_end()
    assert reply.body == b"one,two,three"
    assert "Transfer-Encoding" not in reply.headers
    assert reply.closes


def test_a_length_keeps_a_connection_of_http_1_0(client):
    for _ in range(3):
        kept = ask("/stream-with-length", b"Connection: keep-alive", version="1.0")
        reply = client.exchange(kept)
        assert reply.body == b"onetwosix"
        assert reply.headers.get("Connection") == "keep-alive"


# Broken promises


@pytest.mark.parametrize("path", ["/too-short", "/too-short-in-pieces"])
def test_a_body_shorter_than_announced_ends_the_connection(client, errors, path):
    """The client must be able to see that it is not whole: there is no other way to say so."""
    client.send(ask(path) + get())
    reply = client.read_reply_to_end()
    assert reply.headers.get("Content-Length") == "10"
    assert reply.body == b"short"
    (message,) = errors.take()
    assert "10" in message
    assert "5" in message


@pytest.mark.parametrize("path", ["/too-long", "/too-long-in-pieces"])
def test_a_body_longer_than_announced_is_cut(client, application, errors, path):
    """What is too much would be taken for the next reply (response smuggling)."""
    client.send(ask(path) + get())
    reply = client.read_reply_to_end()
    assert reply.headers.get("Content-Length") == "4"
    assert reply.body == b"long"
    assert errors.take()
    assert application.ran == [path]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/two-lengths", "length"),
        ("/never-started", "start_response"),
        ("/started-twice", "start_response"),
        ("/text-as-body", "str"),
        ("/no-result", "NoneType"),
        ("/raises", "before start_response"),
        ("/raises-after-start", "after start_response"),
        ("/raises-at-once-in-body", "in the body"),
        ("/raises-os-error", "the application's own"),
        ("/raises-timeout", "Timeout"),
    ],
)
def test_a_failure_before_anything_is_sent(client, server, errors, path, reason):
    gone = server.state.clients_gone
    client.send(ask(path))
    assert_failed(client, errors, reason)
    assert server.state.clients_gone == gone


@pytest.mark.parametrize(
    ("path", "reason"), [("/raises-in-body", "in the body"), ("/raises-in-body-os-error", "own")]
)
def test_a_failure_within_the_body_leaves_it_unfinished(
    client, server, application, errors, path, reason
):
    """RFC 9112, section 8: without its last chunk the client knows that it is not whole."""
    gone = server.state.clients_gone
    client.send(ask(path) + get())
    reply = client.read_reply_to_end()
    assert reply.status == 200
    assert reply.body == b"4\r\none,\r\n"
    (message,) = errors.take()
    assert reason in message
    assert server.state.clients_gone == gone
    assert application.closed == [path]


def test_a_failure_in_close_is_logged_and_the_answer_stands(client, errors):
    assert client.exchange(ask("/raises-in-close")).body == b"fine"
    assert client.is_ended()
    (message,) = errors.take()
    assert "in close" in message


def test_exc_info_before_the_headers_replaces_them(client):
    reply = client.exchange(ask("/replaces-answer"))
    assert reply.status == 503
    assert reply.headers.get("X-New") == "new"
    assert "X-Old" not in reply.headers
    assert reply.body == b"replaced"
    check_next(client)


def test_exc_info_after_the_headers_is_raised_again(client, application, errors):
    client.send(ask("/replaces-answer?too-late"))
    assert client.read_reply_to_end().body == b"4\r\none,\r\n"
    (failure,) = application.failures
    assert str(failure) == "handled"
    assert errors.take()


# Headers


#: Response splitting, and what would be read in more ways than one (RFC 9110, section 5).
BAD_ANSWERS = {
    "/header": (
        *("X-A:1\r\nX-B: 2", "X-A:1\nX-B: 2", "X-A:1\rX-B: 2", "X-A:1\0", "X-A\r\nX-B:1"),
        *("X-A\n:1", "X-A:\r\n\r\n<html>", "X A:1", "X-A\t:1", ":1", "X-Ä:1", "X-A:€"),
        *(f"Content-Length:{length}" for length in ("-5", "+5", "5_0", "five", "5, 5", "", "0x5")),
    ),
    "/status": (
        *("200 OK\r\nX-B: 2", "200 OK\nX-B: 2", "200 OK\0", "200 €"),
        *("OK", "", "20 OK", "2000 OK"),
    ),
}


@pytest.mark.parametrize(
    ("path", "text"), [(path, text) for path, texts in BAD_ANSWERS.items() for text in texts]
)
def test_headers_and_status_lines_that_are_none_are_refused(client, errors, path, text):
    client.send(send(path, text.encode()))
    assert_failed(client, errors, "")


def test_a_status_without_reason_keeps_its_space(client):
    """RFC 9112, section 4: the space after the code is there even without a reason."""
    client.send(send("/status", b"200", b"Connection: close"))
    assert client.read_to_end().startswith(b"HTTP/1.1 200 \r\n")


def test_headers_of_the_connection_are_the_servers_own(client):
    """PEP 3333, "Other HTTP Features": hop-by-hop fields are not the application's."""
    reply = client.exchange(send("/header", b"Transfer-Encoding:chunked"))
    assert reply.body == b"sent"
    assert "Transfer-Encoding" not in reply.headers
    check_next(client)


def test_values_beyond_ascii(client):
    """PEP 3333: text that stands for bytes."""
    reply = client.exchange(send("/header", "X-A:é".encode()))
    assert reply.headers.get("X-A") == "é"


def test_every_reply_has_one_date(client):
    """RFC 9110, section 6.6.1, in the form of section 5.6.7."""
    before = int(time.time())
    reply = client.exchange(get())
    (date,) = reply.headers.get_all("Date")
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
    assert before <= parsedate_to_datetime(date).timestamp() <= time.time() + 1


def test_the_applications_own_date_stands(client):
    own = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert client.exchange(send("/header", f"Date:{own}".encode())).headers.get_all("Date") == [own]


def test_the_date_is_made_once_a_second():
    line = response_module.date_line
    first = line()
    same = [line() for _ in range(1000)]
    # At most one second ended in between.
    assert len({id(text) for text in [first, *same]}) <= 2
