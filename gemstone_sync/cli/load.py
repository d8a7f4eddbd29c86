"""A load run: the same call many times, by greenlets, and what came of it. Nothing is printed here.

Each call is sent once. `RemoteService` would make another attempt after some faults, and a run that
does so counts failures as slow calls; so this uses the endpoint below it, with the same
connections, credentials and reading of answers. That takes 45 µs of CPU a call (`RemoteService`:
55), so one core makes some 20,000 calls/s.

In an open loop (a rate is asked for) a latency begins when the call was due, not when a greenlet
was free to send it: else a service that stops for a second would have one slow call rather than
the thousand that callers see. Source: "Coordinated omission", Gil Tene, "How NOT to Measure
Latency", 2013.
"""

from __future__ import annotations

import gc
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent

from ..client.adapter import ServiceAdapter
from ..client.endpoint import Endpoint, Limits, Sending
from ..client.remote_service import RemoteService
from ..client.replies import ReplyReader
from ..client.structs import MethodCall
from ..errors import (
    BadResponse,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    GemstoneError,
    RpcError,
    Timeout,
)
from ..protocol import encode_json
from .histogram import Histogram
from .parameters import Access

__all__ = ["LoadRun", "Plan", "PreparedCall"]

_MAX_RESPONSE_SIZE = 20_000_000

#: Seconds to connect at most, as for the other commands.
_CONNECT = 5.0

#: Seconds between two looks at whether the run is over or to be stopped, and calls of `progress`.
_TICK = 0.1

#: Seconds that a greenlet waits after a connection that failed. A refusal takes 0.1 ms: without
#: this, a service that went away would be a run of a hundred thousand failures.
_PAUSE = 0.05

#: Seconds by which gevent's timers may be late with nothing else to do: epoll counts in whole
#: milliseconds. Measured: sleep(0.0005) took 1.1 ms. The service has no part in that.
_TIMER_GRAIN = 0.001

#: Kinds of errors that are told apart; messages may hold what differs from call to call.
_MAX_KINDS = 20
_OTHERS = "others"


@dataclass(frozen=True)
class Plan:
    """How much load, and for how long.

    :param concurrency: calls at once at most.
    :param calls: how many; None for as many as fit into `duration`.
    :param duration: seconds in which calls are begun; None for as long as `calls` take.
    :param rate: calls a second, begun evenly; None for each as soon as a greenlet is free.
    """

    concurrency: int
    calls: int | None = None
    duration: float | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.calls is None and self.duration is None:
            raise ValueError("a run has a number of calls or a duration")


class PreparedCall:
    """One call, encoded once and sent many times.

    :param service: where; its credentials are used.
    :param access: its time-out is for each attempt.
    :param connections: kept open at most.
    :raises TypeError, ValueError: for parameters that JSON cannot hold.
    """

    def __init__(
        self, service: RemoteService, call: MethodCall, access: Access, *, connections: int
    ) -> None:
        self._service = service
        self._access = access
        timeout = access.timeout
        self._url = service.url
        self._call = call
        self._body = encode_json(call.message())
        self._limits = Limits(min(_CONNECT, timeout), timeout, timeout, _MAX_RESPONSE_SIZE)
        self._reader = ReplyReader()
        self._adapter = ServiceAdapter(pool_size=connections, max_response_size=_MAX_RESPONSE_SIZE)
        self._endpoint = self._new_endpoint()

    def _new_endpoint(self) -> Endpoint:
        who = self._service.authentication_method
        return Endpoint(self._url, self._adapter, who, *self._access.trust)

    def make(self) -> int:
        """Make the call once; the bytes of the answer's body.

        :raises RemoteError: the service answered with an error.
        :raises TransportError: there was no answer.
        """
        sending = Sending(self._limits, self._call.method_name, _never)
        try:
            reply = self._endpoint.attempt(self._body, sending)
        except ConnectionFailed:
            # Its circuit breaker would refuse the next calls without trying: a failure of ours.
            self._endpoint = self._new_endpoint()
            raise
        self._reader.read_result(reply, self._call).value()
        return len(reply.body)

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()


def _never(error: Exception, seconds_left: float) -> bool:
    return False


class LoadRun:
    """One run over a call; its figures can be read during and after it.

    :param make: makes the call once and gives the bytes of the answer.
    :ivar latencies: of the calls that succeeded.
    :ivar errors: how many failed, by kind.
    :ivar seconds: from the first call to the last answer.
    :ivar cpu_seconds: of this process in that time.
    :ivar unsent: calls that were due, of a rate that was too high, and for which there was no time.
    :ivar abandoned: calls without an answer when the run was stopped.
    """

    def __init__(self, plan: Plan, make: Callable[[], int]) -> None:
        self.plan = plan
        self.latencies = Histogram()
        self.errors: Counter[str] = Counter()
        self.received_bytes = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.unsent = 0
        self.abandoned = 0
        self.is_stopped = False
        self._make = make
        #: Calls that a greenlet has taken on, and of these the ones whose moment has come.
        self._taken = 0
        self._begun = 0
        self._begin = 0.0
        self._end = math.inf

    @property
    def failed(self) -> int:
        return self.errors.total()

    @property
    def finished(self) -> int:
        return self.latencies.count + self.failed

    @property
    def cpu_share(self) -> float:
        """Of one core, from 0 to 1: at 1 this process could not have made more calls."""
        return self.cpu_seconds / self.seconds if self.seconds else 0.0

    def stop(self) -> None:
        """End the run within a moment; may be called by a signal handler."""
        self.is_stopped = True

    def run(self, progress: Callable[[float], Any] = lambda share: None) -> None:
        """Make the calls and wait for their answers.

        :param progress: is told now and then how much of the run is over, from 0 to 1.
        """
        plan = self.plan
        # What stands now is not looked at again: the collector's pauses were the slowest calls.
        # Measured: 1.3 ms rather than 11 to 17, and a p99.9 of 6 ms rather than 14 to 28.
        gc.collect()
        gc.freeze()
        cpu = time.process_time()
        self._begin = time.perf_counter()
        self._end = math.inf if plan.duration is None else self._begin + plan.duration
        count = plan.concurrency if plan.calls is None else min(plan.concurrency, plan.calls)
        workers = [gevent.spawn(self._work) for _ in range(count)]
        try:
            while not self.is_stopped and not all(worker.ready() for worker in workers):
                gevent.joinall(workers, timeout=_TICK, raise_error=True)
                progress(self._share())
        finally:
            gc.unfreeze()
            gevent.killall(workers)
        self.seconds = time.perf_counter() - self._begin
        self.cpu_seconds = time.process_time() - cpu
        self.abandoned = self._begun - self.finished
        if plan.rate is not None and plan.duration is not None and not self.is_stopped:
            due = math.ceil(plan.rate * plan.duration)
            self.unsent = (due if plan.calls is None else min(due, plan.calls)) - self._taken

    def _share(self) -> float:
        by_time = by_calls = 0.0
        if self.plan.duration is not None:
            by_time = (time.perf_counter() - self._begin) / self.plan.duration
        if self.plan.calls is not None:
            by_calls = self.finished / self.plan.calls
        return min(max(by_time, by_calls), 1.0)

    def _work(self) -> None:
        """Make one call after the other until there are enough. Hot: runs for each call."""
        make, now, record = self._make, time.perf_counter, self.latencies.record
        while (start := self._next_start()) is not None:
            try:
                size = make()  # not added at once: += reads its left side before it waits
            except GemstoneError as error:
                self._count(error)
                unreachable = isinstance(error, (ConnectionFailed, ConnectionLost))
                if unreachable and self.plan.rate is None:
                    gevent.sleep(_PAUSE)
            else:
                record(now() - start)
                self.received_bytes += size

    def _next_start(self) -> float | None:
        """Wait for a call's moment and take it; None when there are no more calls."""
        plan = self.plan
        moment = time.perf_counter()
        due = moment if plan.rate is None else self._begin + self._taken / plan.rate
        over = moment >= self._end or due >= self._end
        if over or (plan.calls is not None and self._taken >= plan.calls):
            return None
        self._taken += 1
        if due > moment:
            gevent.sleep(due - moment)
            due += min(max(time.perf_counter() - due, 0.0), _TIMER_GRAIN)
        self._begun += 1
        return due

    def _count(self, error: GemstoneError) -> None:
        kind = _kind_of(error)
        if kind not in self.errors and len(self.errors) >= _MAX_KINDS:
            kind = _OTHERS
        self.errors[kind] += 1


def _kind_of(error: GemstoneError) -> str:
    """A few words for a failure, the same for all that are alike."""
    if isinstance(error, RpcError):
        # From the other side: it must not reach the terminal as control sequences.
        message = "".join(c if c.isprintable() else " " for c in error.message[:60])
        return f"{error.code} {message}".rstrip()
    if isinstance(error, BadResponse):
        status = "" if error.status is None else f" (HTTP {error.status})"
        return f"no JSON-RPC reply{status}"
    for cls, text in _TRANSPORT_KINDS:
        if isinstance(error, cls):
            return text
    return type(error).__name__


#: The first that fits counts.
_TRANSPORT_KINDS: tuple[tuple[type[GemstoneError], str], ...] = (
    (ConnectTimeout, "no connection in time"),
    (ConnectionLost, "connection lost"),
    (ConnectionFailed, "no connection"),
    (Timeout, "no answer in time"),
)
