"""The events of a service from its start to its end: checks, order, readiness, workers."""

from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync import (
    EventEmitter,
    ServiceConfigurationError,
    event_handler,
    exposed_method,
)
from gemstone_sync.testing import ServiceClient, running_service
from tests.support.http import call, result_of
from tests.support.programs import program
from tests.support.waiting import LIMIT, wait_until

from .transports import Heard, Line, Radio, fail, health, refusal, warnings_in

# Start and end


def test_handlers_are_called_between_the_start_hook_and_the_stop_hook(line):
    """Each run of a service is another instance."""

    class Service(Heard):
        def on_service_start(self) -> None:
            line.log.append("start hook")

        def on_service_stop(self) -> None:
            line.log.append("stop hook")

    seen = []
    service = Service(line)
    assert line.log == []
    for _ in range(2):
        with running_service(service):
            seen.append(line.receptions[0].subscriber)

    assert [subscriber.service for subscriber in seen] == ["heard", "heard"]
    assert seen[0].instance != seen[1].instance
    once = ["start", "start hook", "receive", "stop receiving", "stop hook", "stop"]
    assert line.log == once * 2


def test_two_services_may_share_a_transport(line):
    with running_service(Heard(line)) as first:
        with running_service(Heard(line)) as second:
            pass
        first.emit_event("said_hello", 1)
        wait_until(lambda: first.heard, "the event")
        assert second.heard == []
    assert line.log.count("start") == line.log.count("stop") == 2


@pytest.mark.parametrize("takes", [0.1, 10 * LIMIT])
def test_a_handler_that_runs_is_finished_or_cut_off(line, takes, caplog):
    """It may still emit."""
    begun = Event()

    class Slow(Heard):
        stop_timeout = LIMIT if takes < LIMIT else 0.1

        def on_hello(self, body: Any) -> None:
            begun.set()
            gevent.sleep(takes)
            self.emit_event("done", body)

    with running_service(Slow(line)) as service:
        service.emit_event("said_hello", 5)
        begun.wait(LIMIT)

    emitted, warnings = ["said_hello", "done"], ["heard: event handlers were cut off after 0.1 s"]
    finished = takes < LIMIT
    assert [envelope.name for envelope in line.envelopes] == emitted[: 1 + finished]
    assert warnings_in(caplog) == warnings[finished:]
    assert line.log[-1] == "stop"


def test_a_call_that_runs_while_the_service_stops_can_emit(line):
    begun, go = Event(), Event()

    class Service(Heard):
        @exposed_method()
        def slow(self) -> str:
            begun.set()
            go.wait(LIMIT)
            return self.emit_event("late", 1)

    with running_service(Service(line)) as service:
        calling = gevent.spawn(call, service.port, "slow")
        begun.wait(LIMIT)
        stopping = gevent.spawn(service.stop)
        wait_until(lambda: "stop receiving" in line.log, "the stop")
        go.set()
        assert result_of(calling.get(timeout=LIMIT)) == line.envelopes[0].id
        stopping.join(LIMIT)
    assert line.log[-1] == "stop"


def test_a_start_hook_that_fails_or_stops_leaves_no_transport_running(line):
    def fail() -> None:
        raise OSError("no database")

    service: Any = Heard(line)
    service.on_service_start = fail
    with pytest.raises(OSError, match="no database"):
        service.start(block=False)
    assert line.log == ["start", "stop"]

    service.on_service_start = service.stop
    service.start(block=False)
    assert service._runner.stopped.wait(LIMIT)
    assert line.receptions == []
    assert line.log[-1] == "stop"


def test_a_transport_that_refuses_ends_the_start(line):
    def refuse() -> None:
        raise ServiceConfigurationError("second loses events")

    second = Line("second")
    second.start = refuse
    service = Heard(line, second)
    with pytest.raises(ServiceConfigurationError, match="second loses events"):
        service.start(block=False)
    assert line.log == ["start", "stop"]

    del second.start
    second.refuses = "no such exchange"
    with pytest.raises(ServiceConfigurationError, match="no such exchange"):
        service.start(block=False)
    assert line.log[2:] == ["start", "receive", "stop receiving", "stop"]
    assert second.log == ["start", "stop"]

    second.refuses = None
    with running_service(service):
        service.emit_event("said_hello", 1)
        wait_until(lambda: service.heard, "the event")


def test_a_transport_that_cannot_be_stopped_does_not_keep_the_service(caplog, monkeypatch):
    monkeypatch.setattr("gemstone_sync.service.event_runtime._PARTING", 0.05)
    monkeypatch.setattr("gemstone_sync.service.event_runtime._CUTTING_OFF", 0.05)
    hanging, failing = Line("hanging"), Line("failing")
    hanging.stop = lambda timeout=10.0: gevent.sleep(10 * LIMIT)
    failing.stop = fail(OSError("broken"))
    with running_service(Heard(hanging, failing)):
        pass
    assert "failing could not be stopped" in [r.getMessage() for r in caplog.records]


def test_a_service_that_runs_hears_what_is_emitted_from_then_on(line, monkeypatch):
    """A broker that is away does not keep the service from starting."""
    line.reception_reason = "connecting"
    service = Heard(line)
    starting = gevent.spawn(service.start, block=False)
    wait_until(lambda: line.receptions, "the subscription")
    gevent.sleep(0.05)
    assert not starting.ready()
    line.receptions[0].reason = None
    starting.get(timeout=LIMIT)
    service.stop()

    monkeypatch.setattr("gemstone_sync.service.event_runtime._SUBSCRIBING", 0.05)
    with running_service(service):
        assert refusal(service) == (503, "fail", "connecting")


# What is checked before the start


class Own:
    """Looks like a transport."""

    def emit_event(self, *args: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize(
    "start",
    [lambda service: service.start(block=False), lambda s: ServiceClient(s).__enter__()],
    ids=["own server", "in process"],
)
def test_what_is_no_transport_is_refused_at_start(make_service, start):
    for wrong in ([Own()], [Radio], ["amqp://"], Radio(), [None]):
        service = make_service(port=0, event_transports=wrong)
        with pytest.raises(
            ServiceConfigurationError, match="event_transports must be a list of event transports"
        ):
            start(service)


def test_handlers_that_nobody_will_call_are_told_once(caplog):
    with running_service(Heard()):
        pass
    assert warnings_in(caplog) == ["Heard.on_hello will never be called: set event_transports"]


class Careful(Heard):
    @event_handler("paid", idempotent=False)
    def on_paid(self, body: Any) -> None: ...


@pytest.mark.parametrize("stores", [(False,), (True, False), (True, True)])
def test_a_handler_that_must_not_run_twice_needs_a_memory_that_all_transports_share(line, stores):
    """A single transport with a store of its own remembers what was handled."""
    lines = [Line() for _ in stores]
    for one, has_own_store in zip(lines, stores, strict=True):
        one.has_own_store = has_own_store
    with pytest.raises(
        ServiceConfigurationError, match=r"Careful.on_paid has idempotent=False: set event_dedup"
    ):
        Careful(*lines).start(block=False)
    assert [one.log for one in lines] == [[]] * len(lines)
    with running_service(Careful(line)):
        assert line.extras == {"processed": None, "recent": None}


# Readiness


def test_a_service_is_not_ready_while_its_events_are_not(line):
    """A service is not ready while a transport cannot say whether it is."""
    with running_service(Heard(line)) as service:
        assert health(service)[0] == 200
        line.reason = 'line: "refused" by\nthe broker'
        assert refusal(service) == (503, "fail", line.reason)
        assert health(service, "/health/live")[0] == 200
        assert result_of(call(service.port, "emit", "a", 1))
        line.reason, line.receptions[0].reason = None, "no queue"
        assert refusal(service)[2] == "no queue"
        line.receptions[0].reason = None
        assert health(service)[0] == 200
        line.why_not_ready = lambda: 1 / 0
        assert refusal(service)[2] == "line: division by zero"


# Workers


def test_every_worker_handles_events(tmp_path):
    source = f"""
import os
import gemstone_sync

class Service(gemstone_sync.MicroService):
    name = "workers"
    port = 0
    workers = 2
    event_transports = [gemstone_sync.SqliteEventTransport({str(tmp_path / "events.db")!r})]

    @gemstone_sync.event_handler("who", scope="instance")
    def on_who(self, body):
        self.emit_event("me", os.getpid())

    @gemstone_sync.event_handler("me")
    def on_me(self, body):
        print("heard %d\\n" % body, end="", flush=True)  # in one write: the other prints, too

Service().start()
"""
    emitter = EventEmitter(str(tmp_path / "events.db"))
    with program(source, tmp_path) as started, emitter:
        started.wait_until(lambda: "with 2 workers" in started.stderr, "the start")

        def both_heard() -> bool:
            emitter.emit_event("who", None)
            gevent.sleep(0.1)
            return len(set(started.stdout.split()) - {"heard"}) == 2

        started.wait_until(both_heard, "an answer of each worker")
        assert started.terminate() == 0
        assert "Traceback" not in started.stderr
