"""What a trivial call over HTTP takes while events pass through the service's process.

The service (event_peers/ours.py, `serve`) has one core; who publishes to it, the caller and, as
far as it goes, the broker have the others. The caller is this process: one connection, a call
every 5 ms, whatever the last one took.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

from eventing import BODY, OURS, EventPeer
from loadgen import Connection, Fault, call_of, laps_of
from runner import percentiles
from servers import free_port

from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.envelope import to_message

#: Events a second.
RATES = (2000, 5000, 10_000)
#: Seconds of events before calls are measured.
WARM = 0.5
#: Seconds for what has piled up to be handled.
DRAIN_LIMIT = 60.0

HANDLED = "bench.handled"
#: Publishes without confirms: what it takes of the machine must not be what is measured.
SOURCE = EventPeer("source", "py-amqp", "raw_amqp", "paced")


def so_far(service: Connection) -> tuple[int, float]:
    """Events handled, seconds of CPU."""
    handled, cpu = result_of(service.call(call_of("so_far")))
    return handled, cpu


def result_of(answer: bytes) -> Any:
    answered = json.loads(answer)
    if "error" in answered:
        raise Fault(str(answered["error"]))
    return answered["result"]


def rows(job: dict[str, Any], cores: set[int], seconds: float) -> Iterator[dict[str, Any]]:
    """Measure without events, then at each rate, received and emitted.

    :raises Fault: the service or the source failed
    """
    job = {**job, "handled": HANDLED, "http_port": free_port()}
    with OURS.runner(cores) as running:
        running.begin("serve", job)
        connect = lambda: Connection(job["http_port"])  # noqa: E731
        with running.wait_for("the service", connect) as service:
            yield during(service, "none", 0, seconds)
            for rate in RATES:
                yield received(service, job, rate, seconds)
            for rate in RATES:
                with connect() as emitting:
                    yield emitted(service, emitting, rate, seconds)


def during(service: Connection, way: str, rate: int, seconds: float) -> dict[str, Any]:
    """Call for a while.

    :return: events/s that were wanted, published (for the caller to fill in), and passed through;
        milliseconds of the calls; the service's CPU in percent of a core
    """
    time.sleep(WARM)
    started = time.monotonic()
    handled, cpu = so_far(service)
    laps = percentiles(laps_of(service, seconds))
    handled_after, cpu_after = so_far(service)
    took = time.monotonic() - started
    reached = (handled_after - handled) / took
    row = {"way": way, "asked": rate, "sent": reached, "reached": reached, **laps}
    return {**row, "cpu": (cpu_after - cpu) / took * 100}


def received(service: Connection, job: dict[str, Any], rate: int, seconds: float) -> dict[str, Any]:
    """Another process publishes to what the service handles."""
    envelope = make_envelope(HANDLED, BODY)
    properties, headers = to_message(envelope)
    what = {"routing_key": HANDLED, "rate": rate, "seconds": seconds + 2 * WARM}
    message = {"body": envelope.body.decode(), "properties": properties, "headers": headers}
    before, _ = so_far(service)
    with SOURCE.runner(os.sched_getaffinity(0)) as source:
        source.begin("paced", {**job, **what, **message})
        time.sleep(WARM)  # it connects
        row = during(service, "received", rate, seconds)
        published = source.hear()
    end = time.monotonic() + DRAIN_LIMIT
    while (handled := so_far(service)[0] - before) < published["sent"]:
        if time.monotonic() > end:
            raise Fault(f"{published['sent']} events were sent, {handled} handled")
        time.sleep(0.1)
    return {**row, "sent": published["rate"]}


def emitted(service: Connection, emitting: Connection, rate: int, seconds: float) -> dict[str, Any]:
    """The service itself emits, in batches each 10 ms, from within a call."""
    lasting = seconds + 2 * WARM
    emitting.send(call_of("emit", rate, lasting))
    row = during(service, "emitted", rate, seconds)
    passed = result_of(emitting.answer()) / lasting
    return {**row, "sent": passed, "reached": passed}
