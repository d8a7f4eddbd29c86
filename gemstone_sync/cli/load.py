"""Run a load: the same call many times, by greenlets, and what came of it. Nothing is printed here.

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

import contextlib
import gc
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped,unused-ignore]

from ..client.adapter import ServiceAdapter
from ..client.endpoint import Limits, RemoteEndpoint, Sending
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
from ..exit_codes import printable
from ..protocol import encode_json
from .options import Access

__all__ = ["LoadRun", "Plan", "prepared_call"]

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

#: Microseconds, a day: the longest latency that is counted, as no call may take longer. In three
#: significant digits, which is 0.1 %.
_LONGEST = 86_400_000_000
_DIGITS = 3

#: Kinds of errors that are told apart; messages may hold what differs from call to call.
_MAX_KINDS = 20
_OTHERS = "others"


@dataclass(frozen=True)
class Plan:
    """How much load, and for how long.

    :param concurrency: calls at once at most.
    :param calls: how many; None for as many as fit into `duration`. One of the two is given.
    :param duration: seconds in which calls are begun; None for as long as `calls` take.
    :param rate: calls a second, begun evenly; None for each as soon as a greenlet is free.
    """

    concurrency: int
    calls: int | None = None
    duration: float | None = None
    rate: float | None = None


@contextlib.contextmanager
def prepared_call(
    service: RemoteService, call: MethodCall, access: Access, connections: int
) -> Iterator[Callable[[], None]]:
    """Encode a call once; yield what makes it, each time once.

    What it raises: `RemoteError` when the service answered with an error, `TransportError` when
    there was no answer.

    :param service: where; its credentials are used.
    :param access: its time-out is for each attempt.
    :param connections: kept open at most.
    :raises TypeError, ValueError: for parameters that JSON cannot hold.
    """
    body, reader = encode_json(call.message()), ReplyReader()
    timeout = access.timeout
    limits = Limits(min(_CONNECT, timeout), timeout, timeout, _MAX_RESPONSE_SIZE)
    adapter = ServiceAdapter(pool_size=connections, max_response_size=_MAX_RESPONSE_SIZE)
    who = service.authentication_method
    new_endpoint = partial(RemoteEndpoint, service.url, adapter, who, *access.trust)
    endpoint = new_endpoint()

    def make() -> None:
        nonlocal endpoint
        try:
            reply = endpoint.attempt(body, Sending(limits, call.method_name, may_repeat=False))
        except ConnectionFailed:
            # Its circuit breaker would refuse the next calls without trying: a failure of ours.
            endpoint = new_endpoint()
            raise
        reader.read_result(reply, call).value()

    try:
        yield make
    finally:
        adapter.close()


class LoadRun:
    """A run of calls, whose figures can be read during and after it.

    :param make: makes the call once.
    :ivar latencies: of the calls that succeeded, in microseconds.
    :ivar errors: how many failed, by kind.
    :ivar seconds: from the first call to the last answer.
    :ivar cpu_seconds: of this process in that time.
    :ivar unsent: calls that were due, of a rate that was too high, and for which there was no time.
    :ivar abandoned: calls without an answer when the run was stopped.
    """

    def __init__(self, plan: Plan, make: Callable[[], object]) -> None:
        self.plan = plan
        self.latencies: Any = HdrHistogram(1, _LONGEST, _DIGITS)
        self.errors: Counter[str] = Counter()
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
    def succeeded(self) -> int:
        return int(self.latencies.get_total_count())

    @property
    def failed(self) -> int:
        return self.errors.total()

    @property
    def finished(self) -> int:
        return self.succeeded + self.failed

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
        self._end = self._begin + (plan.duration or math.inf)
        count = min(plan.concurrency, plan.calls or plan.concurrency)
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
            self.unsent = min(due, plan.calls or due) - self._taken

    def _share(self) -> float:
        by_time = (time.perf_counter() - self._begin) / (self.plan.duration or math.inf)
        return min(max(by_time, self.finished / (self.plan.calls or math.inf)), 1.0)

    def _work(self) -> None:
        """Make one call after the other until there are enough. Hot: runs for each call."""
        make, now, record = self._make, time.perf_counter, self.latencies.record_value
        while (start := self._next_start()) is not None:
            try:
                make()
            except GemstoneError as error:
                kind = _kind_of(error)
                new = kind not in self.errors and len(self.errors) >= _MAX_KINDS
                self.errors[_OTHERS if new else kind] += 1
                unreachable = isinstance(error, (ConnectionFailed, ConnectionLost))
                if unreachable and self.plan.rate is None:
                    gevent.sleep(_PAUSE)
            else:
                record(min(int((now() - start) * 1e6), _LONGEST))

    def _next_start(self) -> float | None:
        """Wait for a call's moment and take it; None when there are no more calls."""
        plan = self.plan
        moment = time.perf_counter()
        due = moment if plan.rate is None else self._begin + self._taken / plan.rate
        if max(moment, due) >= self._end or self._taken >= (plan.calls or math.inf):
            return None
        self._taken += 1
        if due > moment:
            gevent.sleep(due - moment)
            due += min(max(time.perf_counter() - due, 0.0), _TIMER_GRAIN)
        self._begun += 1
        return due


def _kind_of(error: GemstoneError) -> str:
    """Name a failure in a few words, the same for all that are alike."""
    if isinstance(error, RpcError):
        return f"{error.code} {printable(error.message[:60])}".rstrip()
    if isinstance(error, BadResponse):
        status = "" if error.status is None else f" (HTTP {error.status})"
        return f"no JSON-RPC reply{status}"
    named = (text for cls, text in _TRANSPORT_KINDS if isinstance(error, cls))
    return next(named, type(error).__name__)


#: The first that fits counts.
_TRANSPORT_KINDS: tuple[tuple[type[GemstoneError], str], ...] = (
    (ConnectTimeout, "no connection in time"),
    (ConnectionLost, "connection lost"),
    (ConnectionFailed, "no connection"),
    (Timeout, "no answer in time"),
)
