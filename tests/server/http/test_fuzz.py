"""Fuzzing of the connection handler and of the dispatcher, with hypothesis.

Mutated streams of requests go over a socket pair to the connection handler, whole and in pieces;
mutated JSON bodies go to the dispatcher. Nothing may crash, hang, log an error or stay behind, and
of a stream nothing may run that a strict reading of RFC 9112 does not find in it.
"""

import collections
import contextlib
import gc
import itertools
import json
import logging
import os
import socket

import gevent
import hypothesis
import pytest
from hypothesis import strategies as st

import gemstone_sync
from gemstone_sync.dispatch import CallContext
from gemstone_sync.testing import ServiceClient
from tests.support.http import parse_replies
from tests.support.waiting import LIMIT, wait_until

from .fuzz_inputs import bodies, places, streams
from .harness import served
from .reference import Run, read_stream


class Target:
    """What the inputs are tried on.

    :ivar answers: how often each kind of answer was given.
    :ivar ran: how many inputs got as far as the application or the method.
    """

    def __init__(self):
        self.answers = collections.Counter()
        self.ran = 0


class ConnectionTarget(Target):
    """A server whose connections are socket pairs."""

    strategy = st.tuples(streams, places)

    @contextlib.contextmanager
    def opened(self):
        with served(self._run) as self._server:
            yield

    def _run(self, environ, start_response):
        body = environ["wsgi.input"].read()
        method = environ["REQUEST_METHOD"]
        self._runs.append(Run(method, environ["REQUEST_URI"], body))
        start_response("200 OK", [("X-Method", method), ("Content-Length", "2")])
        return [b"ok"]

    def check(self, given):
        stream, places = given
        statuses, runs = self._exchange([stream])
        self.answers.update(statuses)
        self.ran += bool(runs)
        assert runs == read_stream(stream)[: len(runs)], "something else ran than was sent"
        ends = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
        in_pieces = self._exchange([stream[a:b] for a, b in itertools.pairwise(ends)])
        # Which limit or rule is named may differ: the first that is seen to be broken.
        assert runs == in_pieces[1], "in pieces something else ran"
        assert _are_good(statuses) == _are_good(in_pieces[0]), "in pieces the answers differ"

    def _exchange(self, pieces):
        """Send the pieces on a connection of their own, and the end; what came back, what ran."""
        self._runs = []
        mine, its = socket.socketpair()
        with mine:
            mine.settimeout(LIMIT)
            handler = gevent.spawn(self._server.handle, its, ("127.0.0.1", 1))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for piece in pieces:
                    mine.sendall(piece)
                    gevent.idle()
                mine.shutdown(socket.SHUT_WR)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := mine.recv(1 << 16):
                    received += piece
            handler.get(timeout=LIMIT)
        return _statuses(received), self._runs


def _statuses(received):
    """The statuses of all replies; each must be whole, and a refusal the last."""
    heads = [head.startswith(b"HEAD") for head in received.split(b"X-Method: ")[1:]]
    try:
        replies = parse_replies(received, heads)
    except AssertionError:
        replies = parse_replies(received, [*heads, True])  # HEAD, refused
    assert not any(reply.closes for reply in replies[:-1]), "something came after the last reply"
    return [reply.status for reply in replies]


def _are_good(statuses):
    return [status == 200 for status in statuses]


class Fuzzed(gemstone_sync.MicroService):
    """Methods that never fail by themselves."""

    name = "fuzzed"
    max_response_size = 1_000_000

    @gemstone_sync.exposed_method()
    def echo(self, value=None):
        return value

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int = 0) -> int:
        return a + b

    @gemstone_sync.exposed_method()
    def join(self, words: list[str], by: str = " ") -> str:
        return by.join(words)

    @gemstone_sync.exposed_method()
    def total(self, *numbers: float) -> float:
        return sum(numbers)

    @gemstone_sync.exposed_method()
    def named(self, *, first: int | None = None, **others: dict[str, float]) -> int:
        return len(others)


class DispatcherTarget(Target):
    """A dispatcher, called without a server."""

    strategy = bodies
    codes = (-32700, -32600, -32601, -32602, -32000, -32003, -32004)

    @contextlib.contextmanager
    def opened(self):
        with ServiceClient(Fuzzed()) as client:
            self._dispatcher = client.service.dispatcher
            yield

    def check(self, body):
        with gevent.Timeout(LIMIT):
            answer = self._dispatcher.dispatch(body, CallContext({}))
        gevent.idle()  # as after every answer of a server: a batch leaves a greenlet that will end
        if answer is None:
            self.answers["none"] += 1
            return
        content = json.loads(answer, parse_constant=pytest.fail)
        assert content != [], "an empty batch has one error as its answer"
        for response in content if type(content) is list else [content]:
            assert response["jsonrpc"] == "2.0"
            kind = "result" if "result" in response else "error"
            assert set(response) == {"jsonrpc", kind, "id"}
            self.ran += kind == "result"
            if kind == "error":
                kind = response["error"]["code"]
                assert kind in self.codes, response
                assert type(response["error"]["message"]) is str
            self.answers[kind] += 1


def left_behind():
    """How many greenlets have not ended, and how many files and sockets are open."""
    gc.collect()
    found = [each for each in gc.get_objects() if isinstance(each, gevent.Greenlet)]
    return sum(not each.dead for each in found), len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("inputs", [150, pytest.param(2500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make_target", [ConnectionTarget, DispatcherTarget])
def test_fuzz(make_target, inputs, errors, caplog):
    caplog.set_level(logging.ERROR, logger="gemstone_sync")  # no line for each bad notification
    target = make_target()

    @hypothesis.settings(
        max_examples=inputs,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(target.strategy)
    def check(given):
        target.check(given)
        faults = errors.take()
        assert not faults, faults

    with target.opened():
        greenlets, files = left_behind()
        check()

        def is_over():
            now = left_behind()
            return now[0] <= greenlets and now[1] <= files

        wait_until(is_over, f"{greenlets} greenlets and {files} files are left")
    # Mutations that are all refused would show little.
    assert target.ran > inputs / 20
    assert len(target.answers) > 1
