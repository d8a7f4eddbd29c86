"""EventEmitter, in the plain programs that it is for: nothing is patched there."""

import contextlib

import pytest

from gemstone_sync import (
    EventEmitter,
    EventNotDelivered,
    ServiceConfigurationError,
    transport_from_url,
)
from gemstone_sync.event.transport import SqliteEventTransport
from tests.event.suite.services import Network, handler
from tests.support.machine import free_port

PROGRAM = """
import os, socket, sys
from concurrent.futures import ThreadPoolExecutor
from gemstone_sync import EventEmitter

with EventEmitter(sys.argv[1], name="script") as emitter:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: emitter.emit_event("x", n), range(100)))
    ids += emitter.emit_events([("x", n) for n in range(100, 200)])
print(len(set(ids)), socket.socket.__module__)

emitter = EventEmitter(sys.argv[1])
emitter.emit_event("x", 200)
child = os.fork()
emitter.emit_event("x", 201 if child == 0 else 202)
if child == 0:
    emitter.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
emitter.emit_event("x", 203)
# It ends although its emitter was not closed.
"""


def test_a_plain_program_emits_from_many_threads_and_a_forked_child_and_is_not_patched(
    tmp_path, run_python
):
    path = tmp_path / "events.db"
    with contextlib.closing(Network(lambda: SqliteEventTransport(path))) as network:
        network.start("a", handler("x"))
        done = run_python(PROGRAM, str(path), PYTHONWARNINGS="error")
        assert (done.stdout, done.stderr, done.returncode) == ("200 socket\n", "", 0)
        network.wait_for(204)
    assert sorted(body for _, _, body in network.told) == list(range(204))


FORKING = """
import gemstone_sync.patch
import os, subprocess, sys
import gevent
from gemstone_sync import EventEmitter
from gemstone_sync.event.runtime import connection_loop as owner

owner._SLICE = 0  # those that publish give way all the time, and wait for their turns

def emit(number):
    emitter = EventEmitter(f"{sys.argv[1]}/{number}.db")
    while True:
        emitter.emit_event("x", {})

for number in range(4):
    gevent.spawn(emit, number)
gevent.sleep(0.2)
for _ in range(20):
    subprocess.run(["true"], timeout=20)
print("done", flush=True)
os._exit(0)
"""


def test_programs_are_run_while_emitters_publish(tmp_path, run_python):
    """In the child between fork and exec nothing of theirs may run."""
    done = run_python(FORKING, str(tmp_path))
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_a_broker_that_is_away_is_said_within_the_time_out():
    with (
        EventEmitter(f"amqp://u:s3cret@127.0.0.1:{free_port()}", timeout=0.5) as emitter,
        pytest.raises(EventNotDelivered) as caught,
    ):
        emitter.emit_event("x", 1)
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_a_transport_has_its_options_already(tmp_path):
    transport = SqliteEventTransport(tmp_path / "events.db")
    with pytest.raises(ServiceConfigurationError, match="has its options already"):
        EventEmitter(transport, application="x")
    with EventEmitter(transport) as emitter:
        emitter.emit_event("x", 1)
        for body in (object(), {1, object()}):
            with pytest.raises(TypeError, match="the body of 'x'"):
                emitter.emit_event("x", body)


def test_a_transport_that_could_not_be_started_is_started_by_the_next_event(monkeypatch):
    transport = transport_from_url("memory://")
    emitter = EventEmitter(transport)

    def fail():
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(transport, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            emitter.emit_event("x", 1)
    emitter.emit_event("x", 1)
    assert transport._users == 1
    emitter.close()
    assert transport._users == 0


@pytest.mark.parametrize("name", ["", "n" * 256, "ü" * 128, "caf\udce9", 5])
def test_a_name_that_no_broker_carries_is_refused_at_once(name):
    with pytest.raises(ValueError, match="the name of an emitter is a text of 1 to 255 bytes"):
        EventEmitter("memory://", name=name)


@pytest.mark.parametrize(
    ("name", "body", "options", "error"),
    [
        ("file.found", "caf\udce9.txt", {}, "the body of 'file.found' holds text that is no UTF-8"),
        ("file.found", [{"caf\udce9": 1}], {}, "the body of 'file.found' holds text that is no UT"),
        ("caf\udce9", 1, {}, r"invalid event name 'caf\\udce9': it is no UTF-8"),
        ("x", 1, {"key": "caf\udce9"}, "the key of 'x' is a text"),
    ],
)
@pytest.mark.parametrize("make", [EventEmitter, transport_from_url])
def test_text_that_is_no_utf_8_is_told_with_the_event_that_has_it(make, name, body, options, error):
    with pytest.raises(ValueError, match=error):
        make("memory://").emit_event(name, body, **options)
