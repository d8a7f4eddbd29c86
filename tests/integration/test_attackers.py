"""Clients that misbehave by the thousand, against a service in a process of its own.

`attack.py` is the attackers, in a process of theirs; the victim's honest client is this one. That
nobody disturbs it is counted: how many of its calls were answered while they were there.
"""

import contextlib
import json
import resource
import socket
import subprocess
import sys
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from tests.support.http import JSON, Connection, call, call_message, message, result_of
from tests.support.waiting import LIMIT, wait_until

from .processes import CERTIFICATE, TlsConnection, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ATTACK = Path(__file__).with_name("attack.py")

#: Calls that the honest client makes beside an attack at the very least. One that is starved makes
#: a few: each takes as long as the connections that starve it live, which is 5 to 10 s.
MANY = 50

#: The default cap, a client or two above it, and what a process has open besides.
FILES_NEEDED = 2500

enough_files = pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < FILES_NEEDED,
    reason=f"needs {FILES_NEEDED} open files (ulimit -Hn)",
)
#: Nothing but the need for their places ends connections.
PATIENT = {"keep_alive_timeout": 600, "header_timeout": 600, "body_timeout": 600}


class Attack:
    """The attackers' process. `ended` is set when it has seen what it waits for."""

    def __init__(self, port, until=0, **kinds):
        command = [sys.executable, str(ATTACK), str(port), "--until", str(until)]
        command += [f"{kind}={count}" for kind, count in kinds.items()]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.opened = Event()
        self.ended = Event()
        self.kinds = {}
        self._reader = gevent.spawn(self._read)

    def _read(self):
        for line in self._process.stdout:
            self.kinds = json.loads(line).get("kinds", {})
            self.opened.set()
        self.ended.set()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._process.stdin.close()
        self._reader.join(LIMIT)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class Honest:
    """Calls, in turn on one connection that is kept open and on a new one, until it is stopped.

    The kept one is there first: to the server it is the oldest of all.
    """

    def __init__(self, port, connect=Connection):
        self.port, self.connect = port, connect
        self.calls = 0
        self._over = Event()

    def __enter__(self):
        self._kept = self.connect(self.port)
        self._calling = gevent.spawn(self._call)
        return self

    def __exit__(self, *exc_info):
        self._over.set()
        with self._kept:
            self._calling.get(timeout=LIMIT)

    def _call(self):
        while not self._over.wait(0.01):
            with self.connect(self.port) as new:
                for connection in (self._kept, new):
                    assert result_of(connection.call("add", 1, 2)) == 3
                    self.calls += 1

    def make(self, count):
        """Wait until it has made so many more; fails when one of them failed."""
        wanted = self.calls + count
        wait_until(lambda: self.calls >= wanted or self._calling.dead, f"{count} calls", 60)
        assert self.calls >= wanted, self._calling.exception


def open_files(service):
    return len(list(Path(f"/proc/{service.parent}/fd").iterdir()))


# Silent, slow and idle ones


@enough_files
def test_500_of_each_kind_at_once(tmp_path):
    with start(tmp_path) as victim:
        before = open_files(victim)
        with (
            Honest(victim.port) as honest,
            Attack(victim.port, silent=500, head=500, idle=500, body=500) as attack,
        ):
            assert attack.opened.wait(LIMIT)
            opened = honest.calls
            assert attack.ended.wait(60)
            assert honest.calls - opened >= MANY

        for kind, found in attack.kinds.items():
            assert found["opened"] == found["ended"] == 500, kind
        # Those that sent something were told why; silent and idle ones have nothing to be told.
        assert attack.kinds["head"]["statuses"] == attack.kinds["body"]["statuses"] == ["408"]
        assert attack.kinds["idle"]["statuses"] == ["200"]
        wait_until(lambda: open_files(victim) <= before, "the end of every connection")
        assert victim.program.stderr.count("Traceback") == 0
        assert victim.program.terminate() == 0


@enough_files
@pytest.mark.parametrize("kind", ["silent", "idle", "head", "body"])
def test_newcomers_get_in_when_all_connections_are_taken(tmp_path, kind):
    """A newcomer that keeps its connection gets in, too.

    2,000 may stay: whoever comes costs one its place, and nothing else ends one.
    """
    with start(tmp_path, **PATIENT) as victim, Attack(victim.port, 200, **{kind: 2200}) as attack:
        assert attack.opened.wait(LIMIT)
        # The first of these is answered when all attackers were accepted.
        with Honest(victim.port) as honest:
            honest.make(2 * MANY)

        assert attack.ended.wait(LIMIT)
        assert attack.kinds[kind]["ended"] >= 200
        assert victim.program.terminate() == 0


def test_the_connection_that_is_idle_for_longest_goes_first(tmp_path):
    with start(tmp_path, max_connections=3) as victim, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(victim.port)) for _ in range(3)]
        for connection in [*connections, connections[0]]:
            assert result_of(connection.call("add", 1, 2)) == 3

        assert result_of(call(victim.port, "add", 1, 2)) == 3

        assert connections[1].is_ended()
        for connection in (connections[0], connections[2]):
            assert result_of(connection.call("add", 1, 2)) == 3


def test_calls_in_flight_are_never_given_up_for_newcomers(tmp_path):
    """At the cap with nothing but running calls a newcomer is turned away, and nobody else."""
    with start(tmp_path, max_connections=20) as victim:
        with contextlib.ExitStack() as stack:
            busy = [stack.enter_context(Connection(victim.port)) for _ in range(20)]
            for connection in busy:
                connection.send(call_message("hold"))
            victim.wait_for_notes("holding", 20)
            with Connection(victim.port) as newcomer:
                assert newcomer.is_ended()
            victim.release()
            for connection in busy:
                assert result_of(connection.read_reply()) == victim.parent
        assert result_of(call(victim.port, "add", 1, 2)) == 3


@pytest.mark.parametrize(
    "half",
    [b"POST /api HT", message("POST", "/api", JSON, b"1234567890")[:-5]],
    ids=["head", "body"],
)
def test_half_a_request_does_not_outlive_its_eviction(tmp_path, half):
    """Its bytes are there, but not read yet, when a newcomer needs its place."""
    with start(tmp_path, max_connections=22, **PATIENT) as victim:
        before = open_files(victim)
        with contextlib.ExitStack() as stack:
            attackers = [stack.enter_context(Connection(victim.port)) for _ in range(20)]
            first, second = (stack.enter_context(Connection(victim.port)) for _ in range(2))
            # Two turns of a busy event loop: in the first come newcomers, and the cause of the
            # second, which is run before they are given their places; then come the halves.
            first.send(call_message("burn", "first"))
            victim.wait_for_notes("burning", 1)
            newcomers = [stack.enter_context(Connection(victim.port)) for _ in range(20)]
            second.send(call_message("burn_next", "second"))
            (tmp_path / "first").touch()
            victim.wait_for_notes("burning", 2)
            for attacker in attackers:
                attacker.send(half)
            (tmp_path / "second").touch()
            for connection in (first, second):
                assert connection.read_reply().status == 200
            for connection in (first, second, *newcomers):
                connection.socket.close()

            wait_until(lambda: open_files(victim) <= before, "the end of every attacker")
        assert result_of(call(victim.port, "add", 1, 2)) == 3


def test_few_open_files_do_not_shut_newcomers_out(tmp_path):
    """Most systems give a process 1,024 files: fewer than the default cap of connections."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, limits[1]))  # the victim inherits it
        try:
            victim = stack.enter_context(start(tmp_path, **PATIENT))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        attack = stack.enter_context(Attack(victim.port, silent=1500))
        assert attack.opened.wait(LIMIT)
        assert result_of(call(victim.port, "add", 1, 2)) == 3
        assert not attack.ended.is_set()

        assert victim.program.terminate() == 0


# Bodies


@enough_files
def test_bodies_of_100_mb_announced(tmp_path):
    """50 at a time: each is answered at once, and nobody else notices."""
    with start(tmp_path, **PATIENT) as victim, Honest(victim.port) as honest:
        for _ in range(20):
            with Attack(victim.port, huge=50) as attack:
                assert attack.ended.wait(30)  # and not after `body_timeout`
            assert attack.kinds["huge"] == {"opened": 50, "ended": 50, "statuses": ["413"]}
        assert honest.calls >= MANY
        honest.make(1)


def test_bodies_of_100_mb_sent_all_the_same(tmp_path):
    """By a client that does not listen; the server does not read it to the end."""
    announced = message("POST", "/api", {**JSON, "Content-Length": "100000000"}, None)
    with start(tmp_path) as victim, Honest(victim.port) as honest:
        for _ in range(300):
            with Connection(victim.port) as greedy:
                greedy.send(announced)
                assert greedy.read_reply().status == 413
                sent = 0
                with contextlib.suppress(ConnectionError):
                    while sent < 100_000_000:
                        sent += greedy.socket.send(b"x" * 65536)
                assert sent < 10_000_000
        assert honest.calls >= 15, "not even one call to twenty bodies"
        honest.make(1)


# TLS


def test_clients_that_never_finish_the_handshake(tmp_path):
    """50 of them, half of which do not even begin it; the others are served meanwhile."""
    with contextlib.ExitStack() as stack:
        victim = stack.enter_context(start(tmp_path, ready=None, certfile=CERTIFICATE))
        victim.program.wait_for_ports()
        silent = []
        for number in range(50):
            connection = socket.create_connection(("127.0.0.1", victim.port), timeout=LIMIT)
            silent.append(stack.enter_context(connection))
            if number % 2:
                connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # 7 bytes of a ClientHello
        with Honest(victim.port, TlsConnection) as honest:
            assert [connection.recv(1) for connection in silent] == [b""] * 50
            assert honest.calls >= MANY
        assert victim.program.terminate() == 0
