"""However a stream of pipelined requests is cut into segments, the replies are the same."""

import itertools
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .case import CHUNKED, get, post, request
from .harness import Client, parse_replies
from .requests_table import CASES

REQUESTS = (
    get(),
    get(b"X-A: 1", b"X-A: 2"),
    b"\r\n" + request(b"GET /y?q=1 HTTP/1.1", b"Host: b"),
    request(b"HEAD /x HTTP/1.1", b"Host: a"),
    request(b"GET /z HTTP/1.0", b"Connection: keep-alive"),
    post(b"Content-Length: 5", body=b"abcde"),
    post(b"Content-Length: 0"),
    post(b"Content-Length: 2", body=b"\r\n"),
    post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"),
    post(CHUNKED, body=b"0\r\n\r\n"),
    post(CHUNKED, body=b"3\r\nabc\r\n2;e=f\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n"),
    post(CHUNKED, b"Expect: 100-continue", body=b'a;b="c d"\r\n0123456789\r\n0\r\n\r\n'),
    request(b"GET /stream HTTP/1.1", b"Host: a"),
    # Most of the body is left where it is: the server finds its end by itself.
    request(b"POST /unread HTTP/1.1", b"Host: a", b"Content-Length: 3", body=b"abc"),
    request(b"POST /half-read HTTP/1.1", b"Host: a", b"Content-Length: 9", body=b"GET /bad "),
)
LAST = request(b"GET /last HTTP/1.1", b"Host: a", b"Connection: close")


def answers(server, application, pieces):
    """What comes back for the pieces, but for the Date, and what ran."""
    application.reset()
    with Client(server) as client:
        client.send_pieces(pieces)
        received = client.read_to_end()
    received = re.sub(rb"Date: [^\r]*\r\n", b"", received)
    # Whether it is needed depends on when the body comes.
    received = received.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return received, application.ran


def cut(stream, places):
    """The stream in pieces that end at these places."""
    places = [0, *sorted(places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(places)]


@pytest.mark.parametrize("several", [1, 6])
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_split_gives_the_same_replies(server, module_application, several, data):
    chosen = data.draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=several))
    stream = b"".join([*chosen, LAST])
    places = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=40, unique=True))
    whole = answers(server, module_application, [stream])
    assert answers(server, module_application, cut(stream, places)) == whole
    heads = [one.startswith(b"HEAD ") for one in chosen]
    replies = parse_replies(whole[0], heads)
    assert [reply.status for reply in replies] == [200] * (len(chosen) + 1)
    assert whole[1][-1] == "/last"


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(case=st.sampled_from(CASES), data=st.data())
def test_any_split_of_the_table_gives_the_same_fate(server, module_application, case, data):
    """Valid or not: the statuses may differ where the case allows it, what runs never does."""
    stream = get() + case.sent + LAST
    places = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=40, unique=True))
    received, ran = answers(server, module_application, cut(stream, places))
    replies = parse_replies(received, [False, case.is_head])
    assert [reply.status for reply in replies[:1]] == [200]
    assert replies[1].status in case.statuses
    assert len(replies) == (3 if case.kept else 2)
    assert ran == ["/x", *([case.runs] if case.runs else []), *(["/last"] if case.kept else [])]
