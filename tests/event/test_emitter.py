"""EventEmitter, in the plain programs that it is for: nothing is patched there."""

import subprocess
import sys
import textwrap
import time

import pytest

from gemstone_sync import EventEmitter, EventNotDelivered, ServiceConfigurationError
from gemstone_sync.event.transport import SqliteEventTransport
from tests.event.suite.services import Network, handler
from tests.support.machine import free_port
from tests.support.waiting import LIMIT


@pytest.fixture
def network(tmp_path):
    network = Network(lambda **options: SqliteEventTransport(tmp_path / "events.db", **options))
    yield network
    network.stop()


def run_plain(program, *arguments):
    """Run a program in a process that nothing patches; its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_plain_program_emits_from_many_threads_and_is_not_patched(network, tmp_path):
    network.start("a", handler("x"))
    out = run_plain(
        """
        import socket, sys, threading
        from concurrent.futures import ThreadPoolExecutor
        from gemstone_sync import EventEmitter

        with EventEmitter(sys.argv[1], name="script") as emitter:
            with ThreadPoolExecutor(8) as pool:
                ids = list(pool.map(lambda n: emitter.emit_event("x", n), range(100)))
            ids += emitter.emit_events([("x", n) for n in range(100, 200)])
        print(len(set(ids)), socket.socket.__module__)
        """,
        tmp_path / "events.db",
    )
    assert out.split() == ["200", "socket"]
    network.wait_for(200)
    assert sorted(body for _, _, body in network.told) == list(range(200))


def test_a_program_that_does_not_close_its_emitter_ends_all_the_same(network, tmp_path):
    network.start("a", handler("x"))
    run_plain(
        """
        import sys
        from gemstone_sync import EventEmitter

        EventEmitter(sys.argv[1]).emit_event("x", "last words")
        """,
        tmp_path / "events.db",
    )
    assert network.wait_for(1) == [("a", "on_event", "last words")]


def test_a_child_that_a_program_forks_emits_over_a_connection_of_its_own(network, tmp_path):
    network.start("a", handler("x"))
    run_plain(
        """
        import os, sys
        from gemstone_sync import EventEmitter

        emitter = EventEmitter(sys.argv[1])
        emitter.emit_event("x", "parent")
        child = os.fork()
        emitter.emit_event("x", "child" if child == 0 else "parent again")
        if child == 0:
            emitter.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        emitter.close()
        """,
        tmp_path / "events.db",
    )
    assert sorted(body for _, _, body in network.wait_for(3)) == ["child", "parent", "parent again"]


def test_a_broker_that_is_away_is_said_within_the_time_out():
    with EventEmitter(f"amqp://u:s3cret@127.0.0.1:{free_port()}", timeout=0.5) as emitter:
        began = time.monotonic()
        with pytest.raises(EventNotDelivered) as caught:
            emitter.emit_event("x", 1)
        assert time.monotonic() - began < LIMIT
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_a_transport_has_its_options_already(tmp_path):
    transport = SqliteEventTransport(tmp_path / "events.db")
    with pytest.raises(ServiceConfigurationError, match="has its options already"):
        EventEmitter(transport, application="x")
    with EventEmitter(transport) as emitter:
        emitter.emit_event("x", 1)


@pytest.mark.parametrize("body", [object(), {1, object()}])
def test_a_body_that_json_cannot_represent_is_refused(tmp_path, body):
    with (
        EventEmitter(str(tmp_path / "events.db")) as emitter,
        pytest.raises(TypeError, match="the body of 'x'"),
    ):
        emitter.emit_event("x", body)
