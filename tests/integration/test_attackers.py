"""Clients that misbehave by the thousand, against a service in a process of its own.

`attack.py` is the attackers, in a process of theirs; the victim, an honest client, is this one.
"""

import contextlib
import json
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from tests.support.http import JSON, Connection, call, call_message, message, result_of
from tests.support.programs import program
from tests.support.waiting import LIMIT, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ATTACK = Path(__file__).with_name("attack.py")
CERTIFICATE = Path(__file__).resolve().parents[1] / "data" / "localhost.pem"

#: Seconds: what a call may take in the worst hundredth of cases, on two cores that others use too.
P99 = 0.100

SERVICE = """
import os, resource, sys, time
import gevent
import gemstone_sync

class Victim(gemstone_sync.MicroService):
    name = "victim"
    port = 0

    def on_service_start(self):
        print(self.url.replace("https", "http"), flush=True)

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b

    # Each until there is such a file

    @gemstone_sync.exposed_method()
    def burn(self, gate: str) -> None:
        print("burning", flush=True)
        while not os.path.exists(gate):
            pass

    @gemstone_sync.exposed_method()
    def burn_next(self, gate: str) -> None:
        gevent.spawn(self.burn, gate)

    @gemstone_sync.exposed_method()
    def hold(self, gate: str) -> str:
        print("holding", flush=True)
        while not os.path.exists(gate):
            time.sleep(0.02)
        return "held"

service = Victim()
files = None
for word in sys.argv[1:]:
    name, _, value = word.partition("=")
    if name == "files":
        files = int(value)
    else:
        setattr(service, name, int(value) if value.isdigit() else value)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (files or min(8192, hard), hard))
service.skip_configuration = True
service.start()
"""

#: The default cap, a client or two above it, and what a process has open besides.
FILES_NEEDED = 2500

enough_files = pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < FILES_NEEDED,
    reason=f"needs {FILES_NEEDED} open files (ulimit -Hn)",
)


@pytest.fixture
def start(tmp_path):
    """Start the service with attributes, and ``files=`` for its limit of open files."""
    with contextlib.ExitStack() as stack:

        def start(**attributes):
            words = [f"{name}={value}" for name, value in attributes.items()]
            started = stack.enter_context(program(SERVICE, tmp_path, *words))
            started.wait_for_ports()
            return started

        yield start


class Attack:
    """The attackers' process. `ended` is set when the last of them is gone, or time was over."""

    def __init__(self, port, *, seconds=25.0, **kinds):
        command = [sys.executable, str(ATTACK), str(port), "--seconds", str(seconds)]
        command += [f"{kind}={count}" for kind, count in kinds.items()]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.opened = Event()
        self.ended = Event()
        self.kinds = {}
        self._reader = gevent.spawn(self._read)

    def _read(self):
        for line in self._process.stdout:
            found = json.loads(line)
            if "kinds" in found:
                self.kinds = found["kinds"]
            else:
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


def make_calls(port, until, pause=0.01):
    """Calls until the event, in turn on one connection that is kept open and on a new one.

    :returns: how many seconds each took, connecting included.
    """
    took = []
    end = time.monotonic() + 120
    with Connection(port) as kept:
        while not until.wait(pause):
            assert time.monotonic() < end, "no end of the attack"
            for make_call in (lambda: kept.call("add", 1, 2), lambda: call(port, "add", 1, 2)):
                began = time.monotonic()
                reply = make_call()
                took.append(time.monotonic() - began)
                assert result_of(reply) == 3
    return took


def calls_alone(port, seconds=5.0):
    """The same with nobody else around."""
    over = Event()
    gevent.spawn_later(seconds, over.set)
    return make_calls(port, over)


def percentile(took, part):
    return sorted(took)[int(len(took) * part)]


def assert_undisturbed(capsys, what, alone, attacked, most=P99):
    """p99 stays under `most` seconds; printed beside the victim's own figure."""
    own, found = percentile(alone, 0.99), percentile(attacked, 0.99)
    with capsys.disabled():
        print(
            f"\n{what}: p99 {found * 1000:.1f} ms of {len(attacked)} calls "
            f"(median {percentile(attacked, 0.5) * 1000:.1f}, longest {max(attacked) * 1000:.1f}); "
            f"alone {own * 1000:.1f} ms of {len(alone)} (median "
            f"{percentile(alone, 0.5) * 1000:.1f}, longest {max(alone) * 1000:.1f})"
        )
    # Where calls take this long with nobody else around, the machine is busy with other things.
    assert found < max(most, 3 * own)


def open_files(started):
    return len(list(Path(f"/proc/{started.process.pid}/fd").iterdir()))


# Silent, slow and idle ones


@enough_files
def test_500_of_each_kind_at_once(start, capsys):
    victim = start()
    before = open_files(victim)
    alone = calls_alone(victim.port)

    # The victim's own connection is there first: to the server it is the oldest of all.
    over = Event()
    calls = gevent.spawn(make_calls, victim.port, over)
    with Attack(victim.port, silent=500, head=500, idle=500, body=500) as attack:
        assert attack.opened.wait(LIMIT)
        assert attack.ended.wait(30)
        over.set()
        attacked = calls.get(timeout=LIMIT)

    assert_undisturbed(capsys, "2,000 attackers", alone, attacked)
    for kind, found in attack.kinds.items():
        assert found["opened"] == found["ended"] == 500, kind
        assert found["last"] < 20, kind
    # Those that sent something were told why; silent ones and idle ones have nothing to be told.
    assert attack.kinds["head"]["statuses"] == attack.kinds["body"]["statuses"] == ["408"]
    assert attack.kinds["idle"]["statuses"] == ["200"]
    wait_until(lambda: open_files(victim) <= before, "the end of every connection")
    assert victim.stderr.count("Traceback") == 0
    assert victim.terminate() == 0


@enough_files
@pytest.mark.parametrize("kind", ["silent", "idle", "head", "body"])
def test_newcomers_get_in_when_all_connections_are_taken(start, capsys, kind):
    """And so does one that keeps its connection: it makes nobody wait for long."""
    victim = start()
    alone = calls_alone(victim.port, 2.0)

    over = Event()
    with Attack(victim.port, seconds=4.0, **{kind: 2200}) as attack:
        assert attack.opened.wait(LIMIT)
        attack.ended.rawlink(lambda _: over.set())
        attacked = make_calls(victim.port, over)

    assert_undisturbed(capsys, f"2,200 connections ({kind}), cap 2,000", alone, attacked)
    assert attack.kinds[kind]["ended"] >= 200
    assert victim.terminate() == 0


def test_the_connection_that_is_idle_for_longest_goes_first(start):
    victim = start(max_connections=3)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(victim.port)) for _ in range(3)]
        for connection in [*connections, connections[0]]:
            assert result_of(connection.call("add", 1, 2)) == 3

        assert result_of(call(victim.port, "add", 1, 2)) == 3

        assert connections[1].is_ended()
        for connection in (connections[0], connections[2]):
            assert result_of(connection.call("add", 1, 2)) == 3


def test_calls_in_flight_are_never_given_up_for_newcomers(start, tmp_path):
    """At the cap with nothing but running calls a newcomer is turned away, and nobody else."""
    victim = start(max_connections=20)
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(Connection(victim.port)) for _ in range(20)]
        for connection in busy:
            connection.send(call_message("hold", str(tmp_path / "gate")))
        victim.wait_until(lambda: victim.stdout.count("holding") == 20, "20 running calls")
        with Connection(victim.port) as newcomer:
            assert newcomer.is_ended()
        (tmp_path / "gate").touch()
        for connection in busy:
            assert result_of(connection.read_reply()) == "held"
    assert result_of(call(victim.port, "add", 1, 2)) == 3


HALF_A_HEAD = b"POST /api HT"
HALF_A_BODY = message("POST", "/api", JSON, b"1234567890")[:-5]


@pytest.mark.parametrize("half", [HALF_A_HEAD, HALF_A_BODY], ids=["head", "body"])
def test_half_a_request_does_not_outlive_its_eviction(start, tmp_path, half):
    """Its bytes are there, but not read yet, when a newcomer needs its place."""
    victim = start(max_connections=22, keep_alive_timeout=60, header_timeout=60, body_timeout=60)
    before = open_files(victim)
    with contextlib.ExitStack() as stack:
        attackers = [stack.enter_context(Connection(victim.port)) for _ in range(20)]
        first, second = (stack.enter_context(Connection(victim.port)) for _ in range(2))
        # Two turns of a busy event loop: in the first come newcomers, and the cause of the second,
        # which is run before they are given their places; in the second come the halves.
        gates = [tmp_path / "first", tmp_path / "second"]
        first.send(call_message("burn", str(gates[0])))
        victim.wait_until(lambda: victim.stdout.count("burning") == 1, "the first turn")
        newcomers = [stack.enter_context(Connection(victim.port)) for _ in range(20)]
        second.send(call_message("burn_next", str(gates[1])))
        gates[0].touch()
        victim.wait_until(lambda: victim.stdout.count("burning") == 2, "the second turn")
        for attacker in attackers:
            attacker.send(half)
        gates[1].touch()
        for connection in (first, second):
            assert connection.read_reply().status == 200
        for connection in (first, second, *newcomers):
            connection.socket.close()

        wait_until(lambda: open_files(victim) <= before, "the end of every attacker")
    assert result_of(call(victim.port, "add", 1, 2)) == 3


def test_few_open_files_do_not_shut_newcomers_out(start):
    """Most systems give a process 1,024 files: fewer than the default cap of connections."""
    victim = start(files=1024, header_timeout=60)
    with Attack(victim.port, seconds=60.0, silent=1500) as attack:
        assert attack.opened.wait(LIMIT)
        assert result_of(call(victim.port, "add", 1, 2)) == 3
        assert not attack.ended.is_set()

    assert victim.terminate() == 0


# Bodies


@enough_files
def test_bodies_of_100_mb_announced(start, capsys):
    """50 at a time: each is answered at once, and nobody else notices."""
    victim = start()
    alone = calls_alone(victim.port)

    over = Event()
    calls = gevent.spawn(make_calls, victim.port, over)
    waves = []
    for _ in range(20):
        with Attack(victim.port, huge=50) as attack:
            assert attack.ended.wait(30)
        waves.append(attack.kinds["huge"])
    over.set()

    what = "20 waves of 50 bodies of 100 MB, announced"
    assert_undisturbed(capsys, what, alone, calls.get(timeout=LIMIT))
    for wave in waves:
        assert wave["statuses"] == ["413"]
        assert wave["ended"] == 50
        assert wave["answered"] < 5.0  # and not after `body_timeout`
    assert victim.terminate() == 0


def test_bodies_of_100_mb_sent_all_the_same(start, capsys):
    """By a client that does not listen; the server does not read it to the end."""
    victim = start()
    alone = calls_alone(victim.port)
    announced = message("POST", "/api", {**JSON, "Content-Length": "100000000"}, None)

    over = Event()
    gevent.spawn_later(5.0, over.set)
    calls = gevent.spawn(make_calls, victim.port, over)
    answered = []
    while not over.wait(0.005):
        with Connection(victim.port) as greedy:
            began = time.monotonic()
            greedy.send(announced)
            assert greedy.read_reply().status == 413
            answered.append(time.monotonic() - began)
            send_on(greedy.socket)

    what = f"{len(answered)} bodies of 100 MB, sent one at a time"
    assert_undisturbed(capsys, what, alone, calls.get(timeout=LIMIT))
    assert percentile(answered, 0.99) < max(P99, 3 * percentile(alone, 0.99))
    assert victim.terminate() == 0


def send_on(connection, size=100_000_000):
    """Send the body that was refused; the server cuts it off long before its end."""
    piece = b"x" * 65536
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < size:
            sent += connection.send(piece)
    assert sent < size / 10


# TLS


def test_clients_that_never_finish_the_handshake(start, capsys):
    """50 of them, half of which do not even begin it; the others are served meanwhile."""
    victim = start(certfile=CERTIFICATE)
    alone_is_over, over = Event(), Event()
    gevent.spawn_later(3.0, alone_is_over.set)
    alone = make_tls_calls(victim.port, alone_is_over)
    with contextlib.ExitStack() as stack:
        silent = []
        for number in range(50):
            connection = socket.create_connection(("127.0.0.1", victim.port), timeout=LIMIT)
            silent.append(stack.enter_context(connection))
            if number % 2:
                connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # 7 bytes of a ClientHello
        waits = gevent.spawn(lambda: [connection.recv(1) for connection in silent])
        waits.rawlink(lambda _: over.set())
        took = make_tls_calls(victim.port, over)
        assert waits.get() == [b""] * 50

    # Each connects, and shakes hands.
    assert_undisturbed(capsys, "50 unfinished handshakes", alone, took, 2 * P99)
    assert victim.terminate() == 0


def make_tls_calls(port, until):
    context = gevent.ssl.create_default_context(cafile=CERTIFICATE)
    took = []
    while not until.wait(0.01):
        began = time.monotonic()
        with Connection(port) as connection:
            connection.socket = context.wrap_socket(connection.socket, server_hostname="localhost")
            assert result_of(connection.call("add", 1, 2)) == 3
        took.append(time.monotonic() - began)
    return took
