"""However a stream of pipelined requests is cut into segments, the replies are the same."""

import itertools
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.http import parse_replies

from .case import CHUNKED, get, post, post_abc, request
from .harness import connected

REQUESTS = (
    get(),
    get(b"X-A: 1", b"X-A: 2"),
    b"\r\n" + request(b"GET /y?q=1 HTTP/1.1", b"Host: b"),
    request(b"HEAD /x HTTP/1.1", b"Host: a"),
    request(b"GET /z HTTP/1.0", b"Connection: keep-alive"),
    post_abc(),
    post(b"Content-Length: 0"),
    post(b"Content-Length: 2", body=b"\r\n"),
    post_abc(b"Expect: 100-continue"),
    post(CHUNKED, body=b"0\r\n\r\n"),
    post(CHUNKED, body=b"3\r\nabc\r\n2;e=f\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n"),
    post(CHUNKED, b"Expect: 100-continue", body=b'a;b="c d"\r\n0123456789\r\n0\r\n\r\n'),
    request(b"GET /stream HTTP/1.1", b"Host: a"),
    # Most of the body is left where it is: the server finds its end by itself.
    post_abc(line=b"POST /unread HTTP/1.1"),
    request(b"POST /half-read HTTP/1.1", b"Host: a", b"Content-Length: 9", body=b"GET /bad "),
)
LAST = request(b"GET /last HTTP/1.1", b"Host: a", b"Connection: close")

#: Hypothesis draws anew each time: many runs of few examples see more than one of many.
few = settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def answers(server, application, pieces):
    """What comes back for the pieces, but for the Date, and what ran."""
    application.reset()
    with connected(server) as client:
        client.send_pieces(pieces)
        received = client.read_to_end()
    received = re.sub(rb"Date: [^\r]*\r\n", b"", received)
    # Whether it is needed depends on when the body comes.
    received = received.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return received, application.ran


def cut(stream, places):
    """The stream in pieces that end at these places."""
    return [stream[a:b] for a, b in itertools.pairwise([0, *sorted(places), len(stream)])]


def check(server, application, data):
    chosen = data.draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=6))
    stream = b"".join([*chosen, LAST])
    places = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=40, unique=True))
    received, ran = answers(server, application, [stream])
    assert answers(server, application, cut(stream, places)) == (received, ran)
    replies = parse_replies(received, [one.startswith(b"HEAD ") for one in chosen])
    assert [reply.status for reply in replies] == [200] * (len(chosen) + 1)
    assert ran[-1] == "/last"


@few
@given(data=st.data())
def test_any_split_gives_the_same_replies(server, module_application, data):
    check(server, module_application, data)


@pytest.mark.slow  # many examples
@settings(few, max_examples=500)
@given(data=st.data())
def test_any_of_many_splits_gives_the_same_replies(server, module_application, data):
    check(server, module_application, data)
