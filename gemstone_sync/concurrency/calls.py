"""Keep what is known of the running call, and pass it on to greenlets and to other services."""

from __future__ import annotations

import contextvars
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import gevent
from gevent.lock import Semaphore

__all__ = [
    "USER_FAULTS",
    "Call",
    "carried_headers",
    "Work",
    "current_call",
    "current_trace",
    "has_thread_locals",
    "let_others_run",
    "outgoing_headers",
    "spawn",
    "travelling_id",
]

T = TypeVar("T")

#: What code of the user can raise that must not end the process, nor the greenlet it runs in: a
#: gevent.Timeout of its own and sys.exit() are no Exceptions.
USER_FAULTS = (Exception, gevent.Timeout, SystemExit)


#: The attribute of a hub that is held by the greenlet that is next to go on.
_TURN = "gemstone_sync_turn"

#: How gevent names the attributes of a greenlet by which its thread-locals go with it.
_LOCAL = "_gevent_local"

#: Characters of an id that travels: AMQP's short strings have 255 bytes, logs have people.
_LONGEST_ID = 128


def travelling_id(text: str | None) -> str | None:
    """Read an id that somebody else made; None for one that cannot travel on.

    It goes into headers, message properties and log lines: only printable ASCII may.

    >>> travelling_id("a1"), travelling_id("a\\x85b")
    ('a1', None)
    """
    if not text or not text.isascii() or not text.isprintable():
        return None
    return text[:_LONGEST_ID]


class Work(NamedTuple):
    """Names what a call does, for logs: the method, event or periodic task, and whose it is.

    :ivar kind: the key in logs: ``"method"``, ``"event"``, ``"periodic_task"``.
    """

    kind: str
    name: str
    service: str


class Call:
    """A call being served: its deadline, hops and ids, which the calls that it makes inherit.

    :param deadline: the moment, in seconds of ``time.monotonic()``, when its time is over; or None.
    :param hops: how many services the call came through already.
    :param request_id: the caller's ``X-Request-Id``; made up when first needed if None.
    :param traceparent: the caller's W3C trace context; or None.
    :param context: what it came with, for the service that serves it; or None.
    :param carried: the caller's ``tracestate`` and ``baggage``, which travel with it; or None.
    :param work: what it does; or None.
    """

    __slots__ = (
        "_request_id",
        "carried",
        "context",
        "deadline",
        "greenlet",
        "hops",
        "reached",
        "traceparent",
        "work",
    )

    def __init__(
        self,
        deadline: float | None = None,
        hops: int = 0,
        request_id: str | None = None,
        traceparent: str | None = None,
        context: Any = None,
        carried: Mapping[str, str] | None = None,
        work: Work | None = None,
    ) -> None:
        self.context = context
        self.carried = carried
        self.work = work
        self.deadline = deadline
        self.hops = hops
        self._request_id = request_id
        self.traceparent = traceparent
        #: For `Deadlines`: the greenlet to interrupt, and whether it was.
        self.greenlet: Any = None
        self.reached = False

    @property
    def request_id(self) -> str:
        """The id that marks everything done for one outer request, in every service's log."""
        if self._request_id is None:
            self._request_id = uuid.uuid4().hex
        return self._request_id

    def trace_headers(self) -> dict[str, str]:
        """Return the caller's W3C context as headers; empty when there is none."""
        headers = {} if self.traceparent is None else {"traceparent": self.traceparent}
        return {**headers, **self.carried} if self.carried else headers

    def seconds_left(self) -> float | None:
        """Return the seconds until the deadline, not below 0; None when there is none."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic())


#: The call that the running greenlet serves, or None.
current_call: contextvars.ContextVar[Call | None] = contextvars.ContextVar(
    "gemstone_sync_current_call", default=None
)


def current_trace() -> dict[str, str]:
    """Return the W3C context of what runs now, as headers; empty when there is none.

    Trace context and baggage are OpenTelemetry's current ones, where the program uses it; else the
    running call's, unchanged.
    """
    call = current_call.get()
    headers = {} if call is None else call.trace_headers()
    trace: Any = sys.modules.get("opentelemetry.trace")
    if hasattr(trace, "get_current_span"):  # it may be half imported
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            context = f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"
            headers["traceparent"] = context
            headers.pop("tracestate", None)
            if state := span.trace_state.to_header():
                headers["tracestate"] = state
    baggage: Any = sys.modules.get("opentelemetry.baggage")
    if hasattr(baggage, "get_all") and baggage.get_all():
        from opentelemetry.baggage.propagation import W3CBaggagePropagator

        W3CBaggagePropagator().inject(headers)
    return headers


def carried_headers(tracestate: object, baggage: object) -> dict[str, str] | None:
    """Return what travels beside a trace context, if there is any and it can travel on.

    W3C Trace Context, section 3.3.1.5, and Baggage, section 3.3.2, have more handed on than this.
    """
    found = {}
    for name, text, longest in (("tracestate", tracestate, 512), ("baggage", baggage, 8192)):
        if type(text) is str and text.isascii() and text.isprintable() and 0 < len(text) <= longest:
            found[name] = text
    return found or None


def outgoing_headers() -> dict[str, str]:
    """Make the headers that hand the running call's deadline, hops and ids on.

    ``X-Gemstone-Deadline`` is in milliseconds left, so clocks need not agree. Outside a call there
    is a trace at most.

    >>> token = current_call.set(Call(hops=2, request_id="r1"))
    >>> outgoing_headers()
    {'X-Request-Id': 'r1', 'X-Gemstone-Hops': '3'}
    >>> current_call.reset(token)
    """
    call = current_call.get()
    if call is None:
        return current_trace()
    headers = {"X-Request-Id": call.request_id, "X-Gemstone-Hops": str(call.hops + 1)}
    headers |= current_trace()
    left = call.seconds_left()
    if left is not None:
        headers["X-Gemstone-Deadline"] = str(int(left * 1000))
    return headers


def spawn(function: Callable[..., T], *args: Any, **kwargs: Any) -> gevent.Greenlet[..., T]:
    """Run `function` in a greenlet that keeps the caller's context variables.

    A plain ``gevent.spawn`` starts with an empty context: request ids, deadlines and traces would
    be lost in it.
    """
    return gevent.spawn(contextvars.copy_context().run, function, *args, **kwargs)


def has_thread_locals() -> bool:
    """Tell whether something keeps values for this greenlet, as ``threading.local`` does.

    Whatever runs in it next would find them.
    """
    attributes = vars(gevent.getcurrent())
    return len(attributes) > 1 and any(name.startswith(_LOCAL) for name in attributes)


def let_others_run() -> None:
    """Let the hub take a whole turn, sockets and timers included.

    ``gevent.sleep(0)`` does not: its loop looks at the clock after every 50th callback only, so a
    greenlet that works 5 ms between two of them keeps sockets and timers waiting for 250 ms
    (measured: none served in 94 ms; with this 6 ms at most).

    Of those that ask for it one goes on in each turn: ten batches keep everybody else waiting no
    longer than one does.
    """
    hub = gevent.get_hub()
    loop = hub.loop
    # An idle watcher keeps the loop from waiting; a timer of no time would wait for 0.4 ms.
    with vars(hub).setdefault(_TURN, Semaphore()), loop.idle() as idle, loop.check() as turn:
        idle.start(_nothing)
        hub.wait(turn)


def _nothing() -> None:
    pass
