"""Fuzzing of the connection handler and of the dispatcher, with hypothesis.

Mutated streams of requests go over a socket pair to the connection handler, whole and in pieces;
mutated JSON bodies go to the dispatcher. Nothing may crash, hang, log an error or stay behind, and
of a stream nothing may run that a strict reading of RFC 9112 does not find in it.

Some in the tests (test_fuzz.py); as many as you like by hand::

    python tests/server/http/fuzz.py --inputs 100000
"""

import argparse
import collections
import contextlib
import gc
import itertools
import json
import logging
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    import gemstone_sync.testing.monkey

import gevent
import hypothesis
from hypothesis import strategies as st

import gemstone_sync
from gemstone_sync.dispatch import CallContext
from gemstone_sync.server import GeventServer
from gemstone_sync.testing import ServiceClient
from tests.server.http.fuzz_inputs import bodies, places, streams
from tests.server.http.harness import Unseen, parse_replies, served, watching
from tests.server.http.reference import Run, read_stream

#: Seconds for one exchange; it takes a part of a millisecond.
LIMIT = 10.0
#: Inputs of one run of hypothesis: it remembers all of them.
_ROUND = 5000


# The connection handler


class ConnectionTarget:
    """A server whose connections are socket pairs, and what happened to them.

    :ivar statuses: how often each was answered.
    :ivar ran: how many requests the application was called for.
    """

    strategy = st.tuples(streams, places)

    def __init__(self, server: GeventServer) -> None:
        self._server = server
        self._runs: list[Run] = []
        self.statuses: collections.Counter[int] = collections.Counter()
        self.ran = 0

    @classmethod
    @contextlib.contextmanager
    def opened(cls) -> Iterator["ConnectionTarget"]:
        with served(lambda environ, start_response: target.run(environ, start_response)) as server:
            target = cls(server)
            yield target

    def run(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        method = environ["REQUEST_METHOD"]
        self._runs.append(Run(method, environ["REQUEST_URI"], body))
        start_response("200 OK", [("X-Method", method), ("Content-Length", "2")])
        return [b"ok"]

    def check(self, given: tuple[bytes, Sequence[int]]) -> None:
        stream, places = given
        statuses, runs = self._exchange([stream])
        self.statuses.update(statuses)
        self.ran += len(runs)
        assert runs == read_stream(stream)[: len(runs)], "something else ran than was sent"
        ends = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
        pieces = [stream[start:end] for start, end in itertools.pairwise(ends)]
        in_pieces = self._exchange(pieces)
        # Which limit or rule is named may differ: the first that is seen to be broken.
        assert runs == in_pieces[1], "in pieces something else ran"
        assert _kinds(statuses) == _kinds(in_pieces[0]), "in pieces the answers differ"

    def _exchange(self, pieces: Sequence[bytes]) -> tuple[list[int], list[Run]]:
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


def _statuses(received: bytes) -> list[int]:
    """The statuses of all replies; each must be whole, and a refusal the last."""
    heads = [head.startswith(b"HEAD") for head in received.split(b"X-Method: ")[1:]]
    try:
        replies = parse_replies(received, heads)
    except AssertionError:
        replies = parse_replies(received, [*heads, True])  # HEAD, refused
    for reply in replies[:-1]:
        assert not reply.closes, "something came after the reply that closes"
    return [reply.status for reply in replies]


def _kinds(statuses: Sequence[int]) -> list[str]:
    return ["ok" if status == 200 else "refused" for status in statuses]


# The dispatcher


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


_CODES = {-32700, -32600, -32601, -32602, -32000, -32003, -32004}


class DispatcherTarget:
    """A dispatcher, and what it answered.

    :ivar statuses: how often each error code was answered; 0 for a result, 1 for nothing.
    :ivar ran: how many results there were.
    """

    strategy = bodies

    def __init__(self, service: Fuzzed) -> None:
        self._dispatcher = service.dispatcher
        self.statuses: collections.Counter[int] = collections.Counter()
        self.ran = 0

    @classmethod
    @contextlib.contextmanager
    def opened(cls) -> Iterator["DispatcherTarget"]:
        with ServiceClient(Fuzzed()) as client:
            yield cls(client.service)  # type: ignore[arg-type]

    def check(self, body: bytes) -> None:
        with gevent.Timeout(LIMIT):
            answer = self._dispatcher.dispatch(body, CallContext({}))
        gevent.idle()  # as after every answer of a server: a batch leaves a greenlet that will end
        if answer is None:
            self.statuses[1] += 1
            return
        content = json.loads(answer, parse_constant=_refuse_constant)
        assert content != [], "an empty batch has one error as its answer"
        for response in content if type(content) is list else [content]:
            self._check_response(response)

    def _check_response(self, response: Any) -> None:
        assert response["jsonrpc"] == "2.0"
        if "result" in response:
            assert set(response) == {"jsonrpc", "result", "id"}
            self.statuses[0] += 1
            self.ran += 1
            return
        assert set(response) == {"jsonrpc", "error", "id"}
        code = response["error"]["code"]
        assert code in _CODES, response
        assert type(response["error"]["message"]) is str
        self.statuses[code] += 1


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


# Running

TARGETS: dict[str, Any] = {"connection": ConnectionTarget, "dispatcher": DispatcherTarget}


def fuzz(name: str, inputs: int, progress: Callable[[int], None] = lambda done: None) -> Any:
    """Run so many inputs against a target; the target, with its figures.

    :raises AssertionError: when one of them shows a fault, or something is left behind.
    """
    with TARGETS[name].opened() as target, watching() as unseen:
        target.before = left_behind()
        done = 0
        while done < inputs:
            size = min(_ROUND, inputs - done)
            _run_round(target, unseen, size)
            done += size
            progress(done)
        target.after = _settle(target.before)
        assert not target.after.exceeds(target.before), (
            f"{target.after!r}; before: {target.before!r}"
        )
    return target


def _settle(before: "Left") -> "Left":
    """What is left, after some time to end."""
    end = time.monotonic() + LIMIT
    while (left := left_behind()).exceeds(before) and time.monotonic() < end:
        gevent.sleep(0.05)
    return left


def _run_round(target: Any, unseen: Unseen, size: int) -> None:
    @hypothesis.settings(
        max_examples=size,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(target.strategy)
    def check(given: Any) -> None:
        target.check(given)
        faults = unseen.take()
        assert not faults, faults

    check()


class Left(NamedTuple):
    """Greenlets that have not ended, and open files and sockets."""

    greenlets: list[str]
    files: list[str]

    def exceeds(self, other: "Left") -> bool:
        return any(len(mine) > len(its) for mine, its in zip(self, other, strict=True))

    def __str__(self) -> str:
        return f"{len(self.greenlets)} greenlets, {len(self.files)} files"


def left_behind() -> Left:
    gc.collect()
    alive = [
        repr(each)
        for each in gc.get_objects()
        if isinstance(each, gevent.Greenlet) and not each.dead
    ]
    files = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            files.append(os.readlink(f"/proc/self/fd/{number}"))
    return Left(alive, files)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="for each target")
    parser.add_argument("--target", choices=TARGETS, action="append", help="default: all")
    options = parser.parse_args()
    logging.getLogger("gemstone_sync").setLevel(logging.ERROR)  # no line for each bad notification
    for name in options.target or TARGETS:
        started = time.monotonic()
        target = fuzz(name, options.inputs, lambda done: print(f"{done}", end=" ", flush=True))
        seconds = time.monotonic() - started
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        answers = dict(sorted(target.statuses.items()))
        print(f"\n{name}: {options.inputs} inputs in {seconds:.0f} s, {target.ran} ran, {answers}")
        print(f"before: {target.before}; after: {target.after}; {memory} MB at most")


if __name__ == "__main__":
    main()
