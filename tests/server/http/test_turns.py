"""What is sent in many small parts is read in many turns of the hub: others go on in between."""

import collections
import contextlib
import tracemalloc

import gevent
import pytest

from gemstone_sync.server import streams
from gemstone_sync.server.client_socket import AT_ONCE
from gemstone_sync.server.connection import PIPELINED_AT_ONCE
from gemstone_sync.server.streams import BodyStream
from tests.support.waiting import LIMIT

from .app import Application
from .case import CHUNKED, get
from .harness import ask, connected

CLIENTS = 8


@contextlib.contextmanager
def counted(monkeypatch, owner, name):
    """How often a method of a class was called, by turn of the hub."""
    turn, turns = 0, collections.Counter()
    method = getattr(owner, name)

    def count(*arguments):
        turns[turn] += 1
        return method(*arguments)

    def next_turn():
        nonlocal turn
        turn += 1

    with gevent.get_hub().loop.prepare() as watcher:
        watcher.start(next_turn)
        monkeypatch.setattr(owner, name, count)
        yield turns


def drive(server, sent, replies):
    """Let clients send all of this at once, and each read so many replies."""

    def run():
        with connected(server) as client:
            sending = gevent.spawn(client.send, sent)
            for _ in range(replies):
                assert client.read_reply().status == 200
            sending.get()

    gevent.joinall([gevent.spawn(run) for _ in range(CLIENTS)], raise_error=True)


@pytest.mark.parametrize(
    "chunk",
    [b"1\r\n \r\n", b"2\r\n  \r\n", b"1;a\r\n \r\n", b'0001;a="b c"\r\n \r\n', b"1\r\n\n\r\n"],
    ids=repr,
)
@pytest.mark.parametrize("path", ["/x", "/lines"])
def test_small_chunks(serve, monkeypatch, chunk, path):
    body = chunk * 4000 + b"0\r\n\r\n"
    with counted(monkeypatch, streams.ChunkedStream, "_read_line") as turns:
        drive(serve(), ask(path, CHUNKED, method="POST", body=body), 1)
    assert turns.total() == CLIENTS * (4001 + 1)
    # All of them begin in one turn at most; then one goes on in each.
    assert max(turns.values()) <= CLIENTS * AT_ONCE
    assert sorted(turns.values())[len(turns) // 2] <= 2 * AT_ONCE


def test_lines_of_pipelined_requests_are_counted_together(serve, monkeypatch):
    request = ask("/x", CHUNKED, method="POST", body=b"0\r\n" + b"a:\r\n" * 99 + b"\r\n")
    with counted(monkeypatch, streams.ChunkedStream, "_read_line") as turns:
        drive(serve(), request * 40, 40)
    assert turns.total() == CLIENTS * 40 * 101
    assert max(turns.values()) <= CLIENTS * (AT_ONCE + 1)


@pytest.mark.parametrize(
    "request_", [get(), ask("/x", CHUNKED, method="POST", body=b"1\r\n \r\n0\r\n\r\n")], ids=repr
)
def test_pipelined_requests(serve, monkeypatch, request_):
    with counted(monkeypatch, Application, "echo") as turns:
        drive(serve(), request_ * 200, 200)
    assert turns.total() == CLIENTS * 200
    assert max(turns.values()) <= CLIENTS * PIPELINED_AT_ONCE
    assert sorted(turns.values())[len(turns) // 2] <= 2 * PIPELINED_AT_ONCE


def test_a_body_of_small_pieces_takes_no_more_memory_than_another():
    class Pieces(BodyStream):
        left = 400_000

        def _read_some(self, most):
            self.left -= 2
            return b"%02d" % (self.left % 100) if self.left >= 0 else b""

    tracemalloc.start()
    try:
        stream = Pieces(None, b"", False, LIMIT)
        assert len(stream.read()) == 400_000
        assert tracemalloc.get_traced_memory()[1] < 3 * 400_000
    finally:
        tracemalloc.stop()
