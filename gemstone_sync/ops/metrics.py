"""Metrics for Prometheus: a service's calls and events, and how its process does.

Names and labels are those of OpenTelemetry's semantic conventions 1.45 (RPC, messaging) where they
have one, as Prometheus writes them; the rest begins with ``gemstone_``. What is counted is of all
workers together; a gauge that is one worker's own carries its ``pid``, and goes with it. Values of
labels are bounded: a name that only a caller knows is ``_OTHER``.

Hot path: `Metrics.on_call_finished` and `Histogram.observe` run for each call.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import gevent
import greenlet

from ..client.observed import ObservedRequest
from ..concurrency import USER_FAULTS, blocks, watch_this_hub
from ..dispatch import ObservedCall
from ..errors import DeadlineExceeded, MethodNotFound
from ..event.observed import ObservedEvent, ObservedPublish
from .metrics_files import Key, Merged, store
from .observers import Observer, observe_process
from .prometheus import ask_functions, chosen_directory, families_of, page, share_users_metrics
from .shared_directory import directory_of, is_first, remove_directory

__all__ = ["Counter", "Gauge", "Histogram", "Metrics", "share_metrics", "share_metrics_no_more"]

_logger = logging.getLogger("gemstone_sync.metrics")

#: Stands for names of which there may be any number.
_OTHER = "_OTHER"
#: Series of one metric; what has other labels counts as `_OTHER`.
_MOST = 1000

#: Seconds; advised by the conventions for ``rpc.server.call.duration``, and those of messaging.
_DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
_LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: Seconds between two looks at what is not counted but measured.
_SAMPLING = 1.0
#: Seconds until greenlets are counted, and functions of the user's are asked, again.
_COUNTING = 5.0
#: Seconds between two questions to brokers and databases, at least.
_ASKING = 15.0
#: Seconds that a page waits for their answers: one that takes longer is on a later page.
_PATIENCE = 0.5
#: Of the time that goes by, the part that may be spent on counting greenlets.
_SHARE = 0.001

#: A function that gives a number for each set of values of the labels; it may wait.
Question: TypeAlias = Callable[[], Mapping[tuple[str, ...], float]]


class _Metric:
    """A metric of this process, in the store that it shares with others."""

    kind = ""

    def __init__(
        self, owner: str, name: str, help: str, labels: tuple[str, ...] = (), *, suffix: str = ""
    ) -> None:
        self._owner, self._name, self._help, self._labels = owner, name, help, labels
        self._sample = name + suffix
        self._places: dict[tuple[str, ...], tuple[Any, int]] = {}
        store.keep_in_step(self)

    def clear(self) -> None:
        """Forget places that are none any more."""
        self._places.clear()

    def _make(self, values: tuple[str, ...], count: int, bounds: tuple[float, ...] = ()) -> Any:
        if len(self._places) >= _MOST:
            values = (_OTHER,) * len(values)
        pairs = tuple(zip(self._labels, values, strict=True))
        key = Key(self._owner, self.kind, self._name, self._help, self._sample, pairs, bounds)
        place = store.place(key.text(), count)
        if len(self._places) <= _MOST:
            self._places[values] = place
        return place


class Counter(_Metric):
    """Counts; its name on the page ends in ``_total``."""

    kind = "counter"

    def __init__(self, owner: str, name: str, help: str, labels: tuple[str, ...] = ()) -> None:
        super().__init__(owner, name, help, labels, suffix="_total")
        if not labels:
            self.add((), 0.0)

    def add(self, values: tuple[str, ...] = (), amount: float = 1.0) -> None:
        """Count, under so many values as there are labels."""
        view, index = self._places.get(values) or self._make(values, 1)
        with store.lock:
            view[index] += amount


class Histogram(_Metric):
    """Counts how many are up to each of the bounds."""

    kind = "histogram"

    def __init__(
        self,
        owner: str,
        name: str,
        help: str,
        labels: tuple[str, ...] = (),
        bounds: tuple[float, ...] = _DURATIONS,
    ) -> None:
        super().__init__(owner, name, help, labels)
        self._sample = ""
        self._bounds = bounds

    def observe(self, values: tuple[str, ...], amount: float) -> None:
        """Count an amount."""
        bounds = self._bounds
        view, index = self._places.get(values) or self._make(values, len(bounds) + 2, bounds)
        with store.lock:
            view[index + bisect_left(bounds, amount)] += 1.0
            view[index + len(bounds) + 1] += amount


class Gauge(_Metric):
    """Tells a number of this process, or one that is the same for all of them.

    :param common: it is not this process's own: that of the one that asked last counts.
    """

    def __init__(
        self,
        owner: str,
        name: str,
        help: str,
        labels: tuple[str, ...] = (),
        *,
        common: bool = False,
    ) -> None:
        super().__init__(owner, name, help, labels)
        self.kind = "gauge_mostrecent" if common else "gauge_all"

    def set(self, value: float, values: tuple[str, ...] = ()) -> None:
        """Tell the number as it is now."""
        common = self.kind == "gauge_mostrecent"
        view, index = self._places.get(values) or self._make(values, 1 + common)
        with store.lock:
            view[index] = value
            if common:
                view[index + 1] = time.monotonic()  # the same for all processes of a machine


def share_metrics(parent: int, *, has_counted: bool = False) -> None:
    """Share what is counted with the other workers of a parent; say so when that cannot be.

    :param parent: the number of the parent's process.
    :param has_counted: the parent made the program's own metrics, and tells them to nobody: the
        first worker does.
    """
    try:
        chosen = chosen_directory()
        directory = chosen or directory_of(parent)
        counted_here = chosen is not None or not has_counted or is_first(directory, parent)
        store.share(directory)
    except OSError as error:
        _logger.error(
            "metrics are of each worker by itself: no directory for those of all: %s", error
        )
        return
    share_users_metrics(counted_here=counted_here)


def share_metrics_no_more() -> None:
    """Remove, in the parent, what its workers have shared: they have ended."""
    store.leave()
    remove_directory(os.getpid())


class Metrics(Observer):
    """The metrics of one service.

    :param service: its name.
    :param about: what else is said of it, as labels of ``target_info``.
    """

    def __init__(self, service: str, about: Mapping[str, str] | None = None) -> None:
        self._service = service
        self._about = {"service_name": service, **(about or {})}
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []
        self._asked: list[tuple[Gauge, Question]] = []
        self._asked_at = -_ASKING
        self._sampler: gevent.Greenlet[..., None] | None = None
        method, error = "rpc_method", "error_type"
        self._calls = Histogram(
            service,
            "rpc_server_call_duration_seconds",
            "Duration of incoming calls.",
            (method, error),
        )
        self._observe_call = self._calls.observe
        self._refused = Counter(
            service, "gemstone_calls_refused", "Calls that were refused before they ran.", (error,)
        )
        self._late = Counter(
            service,
            "gemstone_deadlines_missed",
            "Calls that were cut off at their deadline, or came after it.",
            (method,),
        )
        self._batches = Histogram(
            service, "gemstone_batch_size", "Requests in incoming batches.", (), _SIZES
        )
        system, event = "messaging_system", "messaging_destination_name"
        self._handled = Histogram(
            service,
            "messaging_process_duration_seconds",
            "Duration of attempts of handlers at events.",
            (system, event, "messaging_consumer_group_name", error),
        )
        self._retries = Counter(
            service,
            "gemstone_event_retries",
            "Events that are tried again after a failure.",
            (event, "handler"),
        )
        self._dead = Counter(
            service,
            "gemstone_event_dead_letters",
            "Events that became dead letters.",
            (event, "reason"),
        )
        self._pings = Counter(
            service, "gemstone_registry_pings", "Pings of registries.", ("registry", "outcome")
        )
        self._process = _ProcessMetrics.of_this_process()

    # What is observed

    def on_call_finished(self, call: ObservedCall) -> None:
        """Count a call."""
        error = call.error
        if error is None:
            self._observe_call((call.request.method, ""), call.seconds)
            return
        name = call.request.method
        if error.code == MethodNotFound.code and call.refused:
            name = _OTHER
        code = str(error.code)
        self._observe_call((name, code), call.seconds)
        if call.refused:
            self._refused.add((code,))
        elif error.code == DeadlineExceeded.code:
            self._late.add((name,))

    def on_batch(self, size: int) -> None:
        """Count a batch."""
        self._batches.observe((), float(size))

    def on_event_finished(self, event: ObservedEvent) -> None:
        """Count an attempt at an event, and what becomes of it."""
        name = event.name
        if event.handler is not None:
            failure = "" if event.exception is None else type(event.exception).__name__
            labels = (event.system, name, event.group or "", failure)
            self._handled.observe(labels, event.seconds)
        if event.letter is not None:
            self._dead.add((name, event.letter.reason))
        elif event.delay is not None:
            self._retries.add((name, event.handler or ""))

    def count_ping(self, registry: str, worked: bool) -> None:
        """Count a ping of a registry."""
        self._pings.add((registry, "success" if worked else "failure"))

    # What is measured

    def watch(self, name: str, help: str, function: Callable[[], float]) -> None:
        """Measure something of this process, again and again; it must not wait."""
        self._watched.append((Gauge(self._service, name, help), function))

    def ask(self, name: str, help: str, labels: tuple[str, ...], question: Question) -> None:
        """Ask for something that is the same for all workers, when a page wants it."""
        self._asked.append((Gauge(self._service, name, help, labels, common=True), question))

    def start(self) -> None:
        """Begin to measure."""
        if self._sampler is None:
            self._process.start()
            self._sampler = gevent.spawn(self._sample_again_and_again)

    def stop(self) -> None:
        """Measure no more."""
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.kill(block=False)
            self._process.stop()

    def _sample_again_and_again(self) -> None:
        while True:
            self._sample()
            gevent.sleep(_SAMPLING)

    def _sample(self) -> None:
        for gauge, function in self._watched:
            gauge.set(function())

    def _ask_all(self) -> None:
        """Ask, unless some worker has done so only just now; wait a moment for the answers."""
        now = time.monotonic()
        if now - self._asked_at < _ASKING:
            return
        self._asked_at = now
        asking = [gevent.spawn(self._answer, gauge, question) for gauge, question in self._asked]
        gevent.joinall(asking, timeout=_PATIENCE)

    def _answer(self, gauge: Gauge, question: Question) -> None:
        try:
            for values, number in question().items():
                gauge.set(number, values)
        except USER_FAULTS as error:  # what cannot be reached says so itself, in the log
            _logger.debug("no answer for the metrics: %s", error)

    # The page

    def page(self, accept: str | None = None) -> tuple[bytes, str]:
        """Write the page for Prometheus, with the program's own metrics.

        :param accept: what the caller takes.
        :returns: the body, and its content type.
        """
        self._sample()
        self._process.sample()
        mine, ended = self._merged()
        last = max((each.values[1] for each in mine if _is_answer(each)), default=-_ASKING)
        if self._asked and time.monotonic() - last >= _ASKING:
            self._ask_all()
            mine, ended = self._merged()
        families = [*families_of(mine), *self._more(ended)]
        return page(families, accept, shared=store.is_shared)

    def _merged(self) -> tuple[list[Merged], int]:
        """Return the values of this service and of its process, and how many workers have ended."""
        merged, ended = store.merged()
        return [each for each in merged if each.key.owner in ("", self._service)], ended

    def _more(self, ended: int) -> Iterable[Any]:
        from prometheus_client.core import Metric

        target = Metric("target", "What is measured here.", "info")
        target.add_sample("target_info", self._about, 1.0)
        name = "gemstone_worker_restarts"
        restarts = Metric(name, "Workers that have ended while others went on.", "counter")
        restarts.add_sample(f"{name}_total", {}, float(ended))
        return target, restarts


def _is_answer(each: Merged) -> bool:
    return each.key.kind == "gauge_mostrecent" and bool(each.key.owner)


class _ProcessMetrics(Observer):
    """Metrics of the process, whichever of its services they are for: counted once."""

    _only: _ProcessMetrics | None = None

    @classmethod
    def of_this_process(cls) -> _ProcessMetrics:
        """Return the one that there is."""
        if cls._only is None:
            cls._only = cls()
        return cls._only

    def __init__(self) -> None:
        error = "error_type"
        self._requests = Histogram(
            "",
            "rpc_client_call_duration_seconds",
            "Duration of outgoing calls.",
            ("rpc_method", error),
        )
        labels = ("messaging_system", "messaging_destination_name", "messaging_operation_name")
        self._publishing = Histogram(
            "",
            "messaging_client_operation_duration_seconds",
            "Duration of emitting events.",
            (*labels, error),
        )
        self._sent = Counter(
            "", "messaging_client_sent_messages", "Events emitted.", (*labels, error)
        )
        self._lag = Histogram(
            "",
            "gemstone_hub_lag_seconds",
            "How long the hub took to answer: for so long nothing else ran.",
            (),
            _LAGS,
        )
        self._blocked = Counter(
            "",
            "gemstone_hub_blocked",
            "How often something held the hub for longer than blocked_after, by what it was.",
            ("held_by",),
        )
        self._greenlets = Gauge("", "gemstone_greenlets", "Greenlets that have not ended.")
        self._count_at = 0.0
        self._users = 0
        self._pid = 0
        self._end_observing: Callable[[], None] = lambda: None
        self._sampler: gevent.Greenlet[..., None] | None = None

    def on_request_finished(self, request: ObservedRequest) -> None:
        """Count a call of another service."""
        error = request.exception
        code = request.error_code
        kind = "" if error is None else type(error).__name__ if code is None else str(code)
        self._requests.observe((request.method or "", kind), request.seconds)

    def on_publish_finished(self, events: ObservedPublish) -> None:
        """Count events that were emitted."""
        kind = "" if events.exception is None else type(events.exception).__name__
        labels = (events.system, events.name or "", "send", kind)
        self._publishing.observe(labels, events.seconds)
        if events.name is not None:
            self._sent.add(labels, float(events.count))
        else:
            for envelope in events.envelopes:
                self._sent.add((events.system, envelope.name, "send", kind))

    def on_lag(self, seconds: float) -> None:
        """Count how long the hub took to answer its watch."""
        self._lag.observe((), seconds)

    def on_block(self, name: str) -> None:
        """Count what holds the hub, in the thread that watches it."""
        self._blocked.add((name,))

    def start(self) -> None:
        if self._pid != os.getpid():  # a forked child has no greenlet of its parent's
            self._pid, self._users, self._sampler = os.getpid(), 0, None
        self._users += 1
        if self._sampler is None:
            self._end_observing = observe_process([self])
            blocks.observer = self
            watch_this_hub()
            self._sampler = gevent.spawn(self._sample_again_and_again)

    def stop(self) -> None:
        self._users -= 1
        if self._users <= 0 and self._sampler is not None:
            self._end_observing()
            blocks.observer = None
            self._sampler.kill(block=False)
            self._sampler = None

    def _sample_again_and_again(self) -> None:
        while True:
            self.sample()
            gevent.sleep(_COUNTING)

    def sample(self) -> None:
        """Look at what is not counted."""
        if store.is_shared:
            ask_functions()
        self._count_greenlets()

    def _count_greenlets(self) -> None:
        """Count greenlets, unless that takes too much of the time that has gone by."""
        began = time.monotonic()
        if began < self._count_at:
            return
        # Nothing knows them all but the garbage collector, which looks at every object.
        count = sum(
            isinstance(each, greenlet.greenlet) and not each.dead for each in gc.get_objects()
        )
        self._greenlets.set(count)
        now = time.monotonic()
        self._count_at = now + (now - began) / _SHARE
