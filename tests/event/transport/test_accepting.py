"""Programs that are no service and receive events: a transport used by itself."""

import signal
import threading

import pytest

from gemstone_sync import MemoryEventTransport, ServiceConfigurationError
from tests.support.programs import program
from tests.support.waiting import wait_until

PROGRAM = """
import sys, threading, time
import gemstone_sync
if "patched" in sys.argv:
    gemstone_sync.MicroService
if "own" in sys.argv:
    import signal
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))

class Handle:
    def __call__(self, body):
        print("begun", flush=True)
        time.sleep(0.3)
        print("done", body, flush=True)

transport = gemstone_sync.SqliteEventTransport("events.db")
transport.register_event_handler(Handle(), "a.*")
def emit():
    while not transport._receptions or transport._receptions[0].why_not_ready():
        time.sleep(0.02)
    transport.emit_event("a.b", 1)
threading.Thread(target=emit, daemon=True).start()
transport.start_accepting_events()
print("returned", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_a_signal_ends_it_once_the_running_handler_is_through(patched, number, tmp_path):
    with program(PROGRAM, tmp_path, patched) as running:
        running.wait_until(lambda: "begun" in running.stdout, "an event arrives")
        running.send_signal(number)
        assert running.wait() == 0
    assert (running.stdout, running.stderr) == ("begun\ndone 1\nreturned\n", "")


def test_a_signal_that_the_program_handles_is_left_to_it(tmp_path):
    with program(PROGRAM, tmp_path, "plain", "own") as running:
        running.wait_until(lambda: "begun" in running.stdout, "an event arrives")
        assert running.terminate() == 7
    assert "returned" not in running.stdout


def test_the_second_signal_ends_it_at_once(tmp_path):
    with program(PROGRAM.replace("0.3", "30"), tmp_path) as running:
        running.wait_until(lambda: "begun" in running.stdout, "an event arrives")
        running.send_signal(signal.SIGTERM)
        running.wait_until(lambda: not _caught(running.process.pid), "the first one is taken")
        assert running.terminate() == -signal.SIGTERM
    assert "returned" not in running.stdout


def _caught(pid: int) -> bool:
    """Tell whether SIGTERM has a handler there."""
    with open(f"/proc/{pid}/status") as status:
        line = next(each for each in status if each.startswith("SigCgt:"))
    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_stop_ends_it_from_any_thread_and_it_may_begin_again():
    transport, heard = MemoryEventTransport(), []
    transport.register_event_handler(heard.append, "a")
    for n in (1, 2):
        thread = threading.Thread(target=transport.start_accepting_events)
        thread.start()
        wait_until(lambda: transport._receptions, "it accepts events")
        wait_until(lambda: transport._receptions[0].why_not_ready() is None, "it is ready")
        with pytest.raises(ServiceConfigurationError, match="accepts events already"):
            transport.start_accepting_events()
        transport.emit_event("a", n)
        wait_until(lambda n=n: n in heard, "the event arrives")
        transport.stop()
        thread.join()
        assert not transport._receptions
