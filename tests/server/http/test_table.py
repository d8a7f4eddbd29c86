"""Every request of the table, sent whole, byte by byte, and between two good ones.

However it arrives, the reply, the fate of the connection and what the application was called for
are the same. What a request smuggles in never runs.
"""

from tests.support.cases import check, every, way
from tests.support.http import parse_replies

from .case import request
from .harness import connected, send
from .requests_table import CASES

BEFORE = request(b"GET /before HTTP/1.1", b"Host: a")
AFTER = request(b"GET /after HTTP/1.1", b"Host: a", b"Connection: close")
#: So many bytes at either end of a request go one by one; those between them, 61 by 61.
EDGE = 500


@every(CASES)
def test_case(server, application, case):
    ran = [*([case.runs] if case.runs else []), *(["/after"] if case.kept else [])]
    with way(f"whole ({case.source})"):
        check_alone(server, case, [case.sent])
        assert application.ran == ran
    application.reset()
    with way(f"byte by byte ({case.source})"):
        check_alone(server, case, cut_to_bytes(case.sent))
        assert application.ran == ran
    application.reset()
    with way(f"between two others ({case.source})"):
        check_between(server, case)
        assert application.ran == ["/before", *ran]


def cut_to_bytes(sent):
    place = 0
    while place < len(sent):
        size = 61 if EDGE <= place < len(sent) - EDGE else 1
        yield sent[place : place + size]
        place += size


def check_alone(server, case, pieces):
    """Kept: one more request is answered. Closed: the end, and nothing before it."""
    with connected(server) as client:
        client.send_pieces(pieces)
        check_reply(case, client.read_reply(head_only=case.is_head))
        if case.kept:
            assert client.exchange(AFTER).status == 200
        assert client.is_ended()


def check_between(server, case):
    """In one segment: where a request ends decides what runs as the next one."""
    with connected(server) as client:
        client.send(BEFORE + case.sent + AFTER)
        replies = parse_replies(client.read_to_end(), [False, case.is_head])
    assert [reply.status for reply in replies] == [200, replies[1].status, *[200] * case.kept]
    check_reply(case, replies[1])


def check_reply(case, reply):
    check(case, reply)
    assert reply.status != 405 or "Allow" in reply.headers, "RFC 9110, section 15.5.6"


def test_byte_by_byte_is_what_it_says(client):
    """The server really takes one byte at a time, or the tests above would show nothing."""
    client.send_by_byte(send("/sizes", b"x" * 20))
    assert client.read_reply().body == b"1\n" * 20
