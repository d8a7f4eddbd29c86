"""What a trivial call over HTTP takes while events pass through the service's process.

The service (event_peers/ours.py, `serve`) has one core; who publishes to it, the caller and, as
far as it goes, the broker have the others. The caller is this process: one connection, a call
every 5 ms, whatever the last one took.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import eventing
import loadgen
import process
from eventing import BODY, OURS, Peer, PeerFault, RunningPeer
from measure import SINGLE_CALL, compact

from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.envelope import to_message

#: Events a second.
RATES = (2000, 5000, 10_000)
#: Seconds between two calls.
PACE = 0.005
#: Seconds of events before calls are measured.
WARM = 0.5
#: Seconds for what has piled up to be handled.
DRAIN_LIMIT = 60.0

HANDLED = "bench.handled"
#: Publishes without confirms: what it takes of the machine must not be what is measured.
SOURCE = Peer("source", "py-amqp", "raw_amqp", "paced")


@dataclass(frozen=True)
class Row:
    """One rate.

    :param asked, sent, reached: events/s that were wanted, published, and passed through
    :param p50, p99, max: milliseconds of the calls
    :param cpu: of the service, percent of a core
    """

    way: str
    asked: int
    sent: float
    reached: float
    p50: float
    p99: float
    max: float
    cpu: float


class Service:
    """The running service, and a connection to it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = loadgen.connect(port)
        self._add = loadgen.http_request(port, compact(SINGLE_CALL))

    def call(self, connection: socket.socket, method: str, *params: Any) -> Any:
        self.send(connection, method, *params)
        return self.result(connection)

    def send(self, connection: socket.socket, method: str, *params: Any) -> None:
        call = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
        connection.sendall(loadgen.http_request(self._port, compact(call)))

    def result(self, connection: socket.socket) -> Any:
        answer = json.loads(loadgen.body_of(loadgen.finish(connection, b"")) or b"")
        if "error" in answer:
            raise PeerFault(str(answer["error"]))
        return answer["result"]

    def connect(self) -> socket.socket:
        """Another connection, for a call that takes its time."""
        return loadgen.connect(self._port)

    def so_far(self) -> tuple[int, float]:
        """Events handled, seconds of CPU."""
        handled, cpu = self.call(self._connection, "so_far")
        return handled, cpu

    def laps(self, seconds: float) -> list[float]:
        """Call at a steady pace; milliseconds of each call, sorted."""
        laps = []
        started = time.monotonic()
        due = started
        while (now := time.monotonic()) < started + seconds:
            if now < due:
                time.sleep(due - now)
            due += PACE
            sent = time.perf_counter()
            self._connection.sendall(self._add)
            loadgen.check(loadgen.finish(self._connection, b""), 0)
            laps.append((time.perf_counter() - sent) * 1e3)
            due = max(due, time.monotonic())
        return sorted(laps)


def rows(job: dict[str, Any], cores: set[int], seconds: float) -> Iterator[Row]:
    """Measure without events, then at each rate, received and emitted.

    :raises PeerFault: the service or the source failed
    """
    port = process.free_port()
    job = {**job, "handled": HANDLED, "http_port": port}
    with RunningPeer(OURS, sys.executable, cores, job, "serve") as running:
        service: Service = eventing.wait_for("the service", lambda: Service(port), running)
        yield during(service, "none", 0, seconds)
        for rate in RATES:
            yield received(service, job, rate, seconds)
        for rate in RATES:
            yield emitted(service, rate, seconds)


def during(service: Service, way: str, rate: int, seconds: float) -> Row:
    """Call for a while; `sent` is for the caller to fill in."""
    time.sleep(WARM)
    started = time.monotonic()
    handled, cpu = service.so_far()
    laps = service.laps(seconds)
    handled_after, cpu_after = service.so_far()
    took = time.monotonic() - started
    p50, p99 = (laps[int(len(laps) * part)] for part in (0.5, 0.99))
    reached = (handled_after - handled) / took
    return Row(way, rate, reached, reached, p50, p99, laps[-1], (cpu_after - cpu) / took * 100)


def received(service: Service, job: dict[str, Any], rate: int, seconds: float) -> Row:
    """Another process publishes to what the service handles."""
    envelope = make_envelope(HANDLED, BODY)
    properties, headers = to_message(envelope)
    more = {
        "routing_key": HANDLED,
        "rate": rate,
        "seconds": seconds + 2 * WARM,
        "body": envelope.body.decode(),
        "properties": properties,
        "headers": headers,
    }
    before, _ = service.so_far()
    others = os.sched_getaffinity(0)
    with RunningPeer(SOURCE, sys.executable, others, {**job, **more}) as source:
        time.sleep(WARM)  # it connects
        row = during(service, "received", rate, seconds)
        published = source.answer()
    sent = published["sent"]
    end = time.monotonic() + DRAIN_LIMIT
    while service.so_far()[0] - before < sent:
        if time.monotonic() > end:
            raise PeerFault(f"{sent} events were sent, {service.so_far()[0] - before} handled")
        time.sleep(0.1)
    return replace(row, sent=published["rate"])


def emitted(service: Service, rate: int, seconds: float) -> Row:
    """The service itself emits, in batches each 10 ms, from within a call."""
    lasting = seconds + 2 * WARM
    with service.connect() as connection:
        service.send(connection, "emit", rate, lasting)
        row = during(service, "emitted", rate, seconds)
        count = service.result(connection)
    return replace(row, sent=count / lasting, reached=count / lasting)
