"""gemstone_sync's transports, as a program uses them: every default on."""

import functools
import time

import gevent
from gevent.event import Event
from runner import BODY, Failed, Handled, measure_greenlets, percentiles, say

import gemstone_sync

#: Seconds for all messages to be handled.
LIMIT = 120


def transport_of(job):
    return gemstone_sync.transport_from_url(
        job["url"], application=job["application"], pool_size=job["prefetch"], service="bench"
    )


def publish(job):
    """Greenlets call the transport; each waits for its own confirm."""
    transport = transport_of(job)
    transport.start()
    emit = functools.partial(transport.emit_event, job["routing_key"], BODY)
    try:
        return measure_greenlets(emit, job)
    finally:
        transport.stop()


def emitter(job):
    """The same through `EventEmitter`, as in a program that is no service."""
    with gemstone_sync.EventEmitter(job["url"], application=job["application"]) as emitter:
        emit = functools.partial(emitter.emit_event, job["routing_key"], BODY)
        return measure_greenlets(emit, job)


class Receiving:
    """A transport that hands every event of the job's name to a function, within a ``with``."""

    def __init__(self, job, on_event):
        self._name, self._on_event = job["routing_key"], on_event
        self._transport = transport_of(job)
        self._first = Event()

    def __enter__(self):
        self._transport.start()
        self._transport.register_event_handler(self._on_event, self._name)
        self._transport.register_event_handler(lambda body: self._first.set(), "bench.first")
        self._greenlet = gevent.spawn(self._transport.start_accepting_events)
        return self

    def wait_until_it_receives(self):
        """Return when the queues are there and bound: an event that was emitted has arrived."""
        end = time.monotonic() + LIMIT
        while not self._first.wait(0.2):
            if self._greenlet.ready():
                self._greenlet.get()
            if time.monotonic() > end:
                raise Failed(f"nothing received within {LIMIT} s")
            self._transport.emit_event("bench.first", None)

    def __exit__(self, *exc_info):
        self._transport.stop()


def declare(job):
    """Have the queues made, so that they can be filled."""
    with Receiving(job, print) as receiving:
        receiving.wait_until_it_receives()


def consume(job):
    """A handler that does nothing but count."""
    handled, over = Handled(job), Event()

    def on_event(body):
        if handled(body):
            over.set()

    with Receiving(job, on_event):
        if not over.wait(LIMIT):
            raise Failed(f"{handled.number} handled within {LIMIT} s")
    return handled.result()


def receive_for_latency(job):
    """Milliseconds from before the emit to the handler; the clock is the machine's."""
    laps, over = [], Event()

    def on_event(body):
        laps.append((time.monotonic() - body["sent"]) * 1e3)
        if len(laps) == job["count"]:
            over.set()

    with Receiving(job, on_event) as receiving:
        receiving.wait_until_it_receives()
        say({"ready": True})
        if not over.wait(LIMIT):
            raise Failed(f"{len(laps)} of {job['count']} received within {LIMIT} s")
    return percentiles(laps)


def emit_for_latency(job):
    """Emit one event after the other at a steady rate."""
    transport = transport_of(job)
    transport.start()
    started = time.monotonic()
    for number in range(job["count"]):
        gevent.sleep(max(0.0, started + number / job["rate"] - time.monotonic()))
        transport.emit_event(job["routing_key"], {**BODY, "sent": time.monotonic()})
    transport.stop()


def serve(job):
    """A service that is called over HTTP while events pass through its process."""
    handled = 0
    transport = transport_of(job)

    class Fair(gemstone_sync.MicroService):
        name = "bench"
        host = "127.0.0.1"
        port = job["http_port"]
        #: The caller keeps a connection while it waits for others.
        keep_alive_timeout = 600.0

        @gemstone_sync.exposed_method()
        def add(self, a: int, b: int) -> int:
            return a + b

        @gemstone_sync.exposed_method()
        def so_far(self) -> list:
            """Events handled, seconds of CPU."""
            return [handled, time.process_time()]

        @gemstone_sync.exposed_method()
        def emit(self, rate: int, seconds: float) -> int:
            """Emit at a rate, up to 200 at once; how many are with the broker."""
            count, started = 0, time.monotonic()
            while (passed := time.monotonic() - started) < seconds:
                if due := min(int(passed * rate) - count, 200):
                    transport.emit_events([(job["routing_key"], BODY)] * due)
                    count += due
                gevent.sleep(0.01)
            return count

    def on_event(body):
        nonlocal handled
        handled += 1

    with Receiving({**job, "routing_key": job["handled"]}, on_event) as receiving:
        receiving.wait_until_it_receives()
        Fair().start()
