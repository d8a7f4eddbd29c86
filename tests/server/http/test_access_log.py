"""The access log in combined format."""

import logging
import re
import time

import pytest

from tests.support.waiting import wait_until

from .case import get, request
from .harness import ask

_COMBINED = re.compile(
    r"(\S+) - - \[(\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    r'"((?:[^"\\]|\\.)*)" (\d{3}) (\d+|-) "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"'
)


@pytest.fixture
def access(caplog):
    """The lines of the access log; each must be in the combined format."""
    caplog.set_level(logging.INFO, logger="gemstone_sync.access")

    def lines():
        texts = [r.getMessage() for r in caplog.records if r.name == "gemstone_sync.access"]
        found = [_COMBINED.fullmatch(text) for text in texts]
        assert all(found), texts
        return [match.groups() for match in found]

    return lines


def test_the_access_log(serve, connect, access):
    client = connect(serve(access_log=True))
    fields = (b"User-Agent: test/1.0", b"Referer: http://a.example/page")
    size = str(len(client.exchange(ask("/x?a=b", *fields)).body))
    client.exchange(ask("/stream"))
    client.exchange(ask("/large?5", method="HEAD"))
    client.exchange(ask("/status?204+No+Content"))
    wait_until(lambda: len(access()) == 4, "four lines")
    first, second, third, fourth = access()
    assert first[0] == "127.0.0.1"
    assert first[2:] == ("GET /x?a=b HTTP/1.1", "200", size, "http://a.example/page", "test/1.0")
    assert second[2:] == ("GET /stream HTTP/1.1", "200", "13", "-", "-")
    assert third[2:5] == ("HEAD /large?5 HTTP/1.1", "200", "0")
    assert fourth[3:5] == ("204", "0")
    logged = time.mktime(time.strptime(first[1].split()[0], "%d/%b/%Y:%H:%M:%S"))
    assert abs(logged - time.time()) < 60


def test_there_is_no_access_log_unless_asked(serve, connect, access):
    connect(serve()).exchange(get())
    assert access() == []


@pytest.mark.parametrize(
    ("sent", "line", "status"),
    [
        (ask("/raises"), "GET /raises HTTP/1.1", 500),
        (ask("/raises-after-start"), "GET /raises-after-start HTTP/1.1", 500),
        # As in every server: an operator must be able to see what is refused.
        (request(b"GET /x HTTP/1.1"), "GET /x HTTP/1.1", 400),
    ],
)
def test_a_failure_is_logged_as_what_was_answered(
    serve, connect, access, errors, sent, line, status
):
    client = connect(serve(access_log=True))
    client.send(sent)
    assert client.read_reply().status == status
    client.socket.close()
    wait_until(access, "a line")
    ((address, _, logged, code, *_),) = access()
    assert (address, logged, code) == ("127.0.0.1", line, str(status))
    assert bool(errors.take()) == (status == 500)


def test_a_client_cannot_forge_lines_of_the_access_log(serve, connect, access):
    """Quotes and what controls a terminal are written as escapes, as Apache does."""
    agent = b'x" 200 5 "-" "\\'
    client = connect(serve(access_log=True))
    client.exchange(ask('/"\\', b"User-Agent: " + agent, b"Referer: \x9b31m"))
    wait_until(access, "a line")
    ((_, _, line, status, _, referer, logged),) = access()
    assert status == "200"
    assert line == r"GET /\"\\ HTTP/1.1"
    assert logged == r"x\" 200 5 \"-\" \"\\"
    assert "\x9b" not in referer
