"""One deadline for all that a stop waits for."""

import contextlib
import time

import gevent
import pytest
from gevent import monkey

import gemstone_sync
from gemstone_sync.event import MemoryEventTransport
from tests.support.waiting import LIMIT, wait_until

STOP_TIMEOUT = 1.0
TICK = 0.05


def hang():
    gevent.sleep(LIMIT)


@contextlib.contextmanager
def lost_seconds():
    """A list of the times for which this process had no processor meanwhile, about."""
    lost = []

    def watch():
        while True:
            began = time.monotonic()
            gevent.sleep(TICK)
            late = time.monotonic() - began - TICK
            if late > TICK:
                lost.append(late)

    watching = gevent.spawn(watch)
    gevent.sleep(0)
    try:
        yield lost
        gevent.sleep(0.001)  # what it has not seen yet counts too
    finally:
        watching.kill()


class Plugin(gemstone_sync.BasePlugin):
    name = "plugin"

    def on_service_stop(self):
        hang()


class Registry:
    """Answers pings, as otherwise none is told goodbye."""

    def ping(self, name, location):
        pass

    def locate(self, name):
        return []

    def goodbye(self, name, location):
        hang()

    def close(self):
        hang()


class Hanging(gemstone_sync.MicroService):
    name = "hanging"
    port = 0
    skip_configuration = True
    stop_timeout = STOP_TIMEOUT
    begun = 0

    def hang(self):
        self.begun += 1
        hang()

    def wait_natively(self):
        self.begun += 1
        monkey.get_original("time", "sleep")(3 * STOP_TIMEOUT)


class Call(Hanging):
    @gemstone_sync.exposed_method()
    def work(self):
        self.hang()


class Periodic(Hanging):
    @gemstone_sync.periodic(0.01)
    def tick(self):
        self.hang()


class Event(Hanging):
    @gemstone_sync.event_handler("event")
    def on_event(self, body):
        self.hang()


class StopHook(Hanging):
    def on_service_stop(self):
        hang()


KINDS = {
    "a call": (Call, 1),
    "a periodic task": (Periodic, 1),
    "an event handler": (Event, 1),
    "the stop hook": (StopHook, 0),
    "a plugin": (Hanging, 0),
    "a registry": (Hanging, 0),
    "native threads": (Hanging, 1),
    "all": (type("All", (Call, Periodic, Event, StopHook), {}), 3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_hangs(kind):
    """Never twice the time, whichever and however many of them hang."""
    cls, hanging = KINDS[kind]
    service = cls()
    service.event_transports = [MemoryEventTransport()]
    if kind in ("a plugin", "all"):
        service.register_plugin(Plugin())
    if kind in ("a registry", "all"):
        service.discovery_strategies = [Registry()]
    service.start(block=False)
    remote = gemstone_sync.RemoteService(service.url)
    if issubclass(cls, Call):
        gevent.spawn(pytest.raises, Exception, remote.methods.work)
    if issubclass(cls, Event):
        service.emit_event("event", {})
    if kind == "native threads":
        service.get_executor().submit(service.wait_natively)
    wait_until(lambda: service.begun >= hanging, "what hangs")

    with lost_seconds() as lost:
        began = time.monotonic()
        service.stop()
        passed = time.monotonic() - began
    assert passed - sum(lost) < 2 * STOP_TIMEOUT, (passed, lost)


def test_a_start_hook_that_hangs():
    """It ends the program, with a line that says so."""

    class Starting(Hanging):
        on_service_start = Hanging.hang

    service = Starting()
    failed = gevent.spawn(
        pytest.raises, gemstone_sync.ServiceStartError, service.start, block=False
    )
    wait_until(lambda: service.begun, "the hook")
    service.stop()
    assert "stopped while on_service_start still ran" in str(failed.get(timeout=LIMIT).value)
