"""The dead letters of an application: look at them, put them back, throw them away.

::

    from gemstone_sync.event import deadletters

    for letter in deadletters.list(transport, "order.paid"):
        print(letter.id, letter.reason, letter.error)
    deadletters.replay(transport, event="order.paid")

An `Outbox` may stand for the transport: then these are the events in it that a transport refuses,
and that are tried again by themselves meanwhile, or that can never be sent.

What is looked at is held for that moment and given back afterwards; whoever looks at the same time
sees fewer, or waits (with RabbitMQ), and nothing is lost. Events have one dead letter for each
handler that failed, so several may have one id.
"""

from __future__ import annotations

import builtins
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import gevent

from ..concurrency import let_others_run
from ..errors import EventNotDelivered, ParseError, ServiceConfigurationError
from ..number_checks import is_whole
from ..protocol import decode_json
from .envelope import DeadLetter, Envelope, Reason
from .link import Delivery, Link, LinkLost, Outgoing
from .names import check_pattern, is_pattern, matches
from .outbox import Outbox, RefusedEvent
from .topology import Address, Topology
from .wakeups import Signal

__all__ = ["DeadLetterEntry", "list", "purge", "replay", "show"]

T = TypeVar("T")

#: Seconds for any one thing that the broker is asked.
_PATIENCE = 30.0
#: Seconds for the confirm of what is put back.
_CONFIRM = 10.0
#: Seconds after which other greenlets get their turn.
_SLICE = 0.005
#: How many are put back or removed in one go.
_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class DeadLetterEntry:
    """A dead letter.

    :ivar body: as its handler would get it; bytes when it is no JSON.
    :ivar reason: ``"failed"`` (every attempt), ``"rejected"``, ``"invalid"`` (the body),
        ``"expired"``, ``"unhandled"`` or ``"crashed"`` (the processes that handled it ended);
        in an outbox ``"refused"`` (it waits and is tried again) or ``"unsendable"``: see
        `gemstone_sync.event.envelope.Reason`.
    :ivar error: class and text of the exception.
    :ivar traceback: of the last attempt.
    :ivar attempts: how often its handler has failed.
    :ivar handler: the one that failed; None when it concerns all.
    :ivar queue: the queue it came from; empty when only the broker knows.
    :ivar emitted, died: seconds since 1970; `died` is None when only the broker knows.
    """

    id: str
    name: str
    body: Any
    reason: str
    error: str
    traceback: str
    attempts: int
    handler: str | None
    queue: str
    emitter: str | None
    key: str | None
    emitted: float
    died: float | None


def list(
    transport: Any, event: str | None = None, *, limit: int | None = 1000
) -> builtins.list[DeadLetterEntry]:
    """List the dead letters, oldest first.

    :param transport: one with a broker, such as ``RabbitMqEventTransport(...)``, or an `Outbox`.
    :param event: the name of an event, or a pattern such as ``"orders.*"``; None for all.
    :param limit: how many at most, those that the broker gives first; None for no bound.
    :raises ValueError: for a limit or a pattern that makes no sense.
    :raises BrokerUnavailable: when the broker is not there.
    """
    if limit is not None and not is_whole(limit, 0):
        raise ValueError(f"limit is a whole number, 0 or more, not {limit!r}")
    wanted = _matcher(None, event)
    if isinstance(transport, Outbox):
        return [_refused_entry(refused) for refused in transport.refused(wanted, limit)]
    with _open_queue(transport) as dead:
        found = itertools.islice(dead.matching(wanted, None), limit)
        entries = [_entry(delivery.envelope) for delivery in found]
    return sorted(entries, key=lambda entry: entry.died or 0.0)


def show(transport: Any, id: str) -> DeadLetterEntry:
    """Return one dead letter; of several with the same id any one.

    :raises ValueError: when there is none.
    """
    if isinstance(transport, Outbox):
        return _refused_entry(_refused_by(transport, id, None, 1)[0])
    with _open_queue(transport) as dead:
        return _entry(next(dead.matching(_matcher(id, None), id)).envelope)


def replay(transport: Any, id: str | None = None, *, event: str | None = None) -> int:
    """Put dead letters back to where they came from, to be handled as if for the first time.

    Only the handler that failed gets them, with all of its attempts; their deadlines are lifted.
    Each is removed once the broker has confirmed it in its queue. Their order is the one in which
    the broker gives them.

    :param id: one dead letter; those with that id if there are several.
    :param event: those of one event, or of a pattern. Neither: all.
    :returns: how many.
    :raises ValueError: when there is none with that id, or for a pattern that makes no sense.
    :raises EventNotDelivered: when some could not be put back: their queue is gone, or is none of
        this application's, or the connection broke. They are still there.
    """
    if isinstance(transport, Outbox):
        return transport.replay(_refused_by(transport, id, event))
    wanted = _matcher(id, event)
    with _open_queue(transport) as dead:
        return dead.put_back(dead.matching(wanted, id))


def purge(transport: Any, id: str | None = None, *, event: str | None = None) -> int:
    """Throw dead letters away.

    :param id: one dead letter; those with that id if there are several.
    :param event: those of one event, or of a pattern. Neither: all.
    :returns: how many.
    :raises ValueError: when there is none with that id, or for a pattern that makes no sense.
    """
    if isinstance(transport, Outbox):
        return transport.purge(_refused_by(transport, id, event))
    wanted = _matcher(id, event)
    with _open_queue(transport) as dead:
        if id is None and event is None:
            return dead.purge()
        return dead.remove(dead.matching(wanted, id))


def _matcher(id: str | None, event: str | None) -> Callable[[Envelope], bool]:
    """Return what tells whether an event has an id, and a name or one that matches a pattern."""
    if event is not None and (not isinstance(event, str) or is_pattern(event)):
        check_pattern(event)  # other programs' names may be any text

    def chosen(envelope: Envelope) -> bool:
        is_of_event = event is None or event == envelope.name or matches(event, envelope.name)
        return is_of_event and id in (None, envelope.id)

    return chosen


def _refused_by(
    outbox: Outbox, id: str | None, event: str | None, limit: int | None = None
) -> builtins.list[RefusedEvent]:
    found = outbox.refused(_matcher(id, event), limit)
    if id is not None and not found:
        raise _not_found(id)
    return found


def _refused_entry(refused: RefusedEvent) -> DeadLetterEntry:
    row, envelope = refused.row, refused.envelope
    reason = Reason.UNSENDABLE if row.due is None else Reason.REFUSED
    dead = DeadLetter(reason=reason, error=row.reason, time=row.time)
    return replace(_entry(envelope.with_changes(dead=dead)), attempts=row.attempts)


def _not_found(id: str) -> ValueError:
    return ValueError(
        f"no dead letter has the id {id!r}: deadletters.list(transport) tells which there are; "
        "another process may be looking at it just now"
    )


def _entry(envelope: Envelope) -> DeadLetterEntry:
    dead = _letter_of(envelope)
    try:
        body = decode_json(envelope.body)
    except ParseError:
        body = envelope.body
    return DeadLetterEntry(
        id=envelope.id,
        name=envelope.name,
        body=body,
        reason=dead.reason,
        error=dead.error,
        traceback=dead.traceback,
        attempts=envelope.attempts,
        handler=envelope.handler,
        queue=dead.queue,
        emitter=envelope.emitter,
        key=envelope.key,
        emitted=envelope.time,
        died=dead.time or None,
    )


def _letter_of(envelope: Envelope) -> DeadLetter:
    """Return the reason; the broker moves a message without writing one into it."""
    if envelope.dead is not None:
        return envelope.dead
    error = "it came back too often without an answer: the processes that had it ended"
    return DeadLetter(reason=Reason.CRASHED, error=error, queue=envelope.queue or "")


@contextlib.contextmanager
def _open_queue(transport: Any) -> Iterator[_DeadLetters]:
    topology = getattr(transport, "topology", None)
    if not isinstance(topology, Topology) or not callable(getattr(transport, "link", None)):
        raise ServiceConfigurationError(
            f"{transport} has no dead letters: they need a transport with a broker, such as "
            "RabbitMqEventTransport, RedisEventTransport or SqliteEventTransport"
        )
    with transport.link() as link:
        link.keep_alive()
        dead = _DeadLetters(link, topology)
        try:
            yield dead
        finally:
            dead.give_back()


class _DeadLetters:
    """The queue of dead letters over an open link."""

    def __init__(self, link: Link, topology: Topology) -> None:
        self._link = link
        self._topology = topology
        #: In the order of the queue.
        self._held: dict[Delivery, None] = {}
        self._yield_at = 0.0

    def matching(self, wanted: Callable[[Envelope], bool], id: str | None) -> Iterator[Delivery]:
        """Yield the dead letters that are wanted; they are held, as are others before them.

        :raises ValueError: at the end, when an id was given and none has it.
        """
        is_unknown = id is not None
        # Not what comes meanwhile: what is put back may fail again at once.
        reading = self._link.read(self._topology.dead)
        while (delivery := _call_bounded(next, reading, None)) is not None:
            self._held[delivery] = None
            if wanted(delivery.envelope):
                is_unknown = False
                yield delivery
            else:
                _forget_contents(delivery)
            self._let_others_run()
        if is_unknown:
            raise _not_found(str(id))

    def purge(self) -> int:
        """Remove all dead letters that nobody holds; return their count."""
        return _call_bounded(self._link.purge, self._topology.dead)

    def remove(self, deliveries: Iterator[Delivery]) -> int:
        """Acknowledge deliveries; return their count."""
        count = 0
        for batch in _batches(deliveries, _BATCH):
            self._remove(batch)
            count += len(batch)
        return count

    def put_back(self, deliveries: Iterator[Delivery]) -> int:
        """Publish deliveries to where they came from, remove the confirmed; return their count."""
        count = 0
        problems: Counter[str] = Counter()
        try:
            for batch in _batches(deliveries, min(_BATCH, self._link.window)):
                outcomes = self._publish(batch)
                confirmed = [delivery for delivery in batch if outcomes.get(delivery, "") is None]
                self._remove(confirmed)
                count += len(confirmed)
                problems.update(reason for reason in outcomes.values() if reason is not None)
                if len(outcomes) < len(batch):
                    # It takes nothing now: do not wait as long for each of the others.
                    problems[f"not confirmed within {_CONFIRM:g} s"] = len(batch) - len(outcomes)
                    break
                for delivery in batch:
                    _forget_contents(delivery)
        except LinkLost as error:
            problems[f"the connection broke: {error}"] += 1
        if problems:
            reasons = "; ".join(f"{reason} ({number})" for reason, number in problems.items())
            raise EventNotDelivered(
                f"{count} dead letters were put back, the others are still there: {reasons}"
            )
        return count

    def _remove(self, batch: builtins.list[Delivery]) -> None:
        if batch:
            _call_bounded(self._link.acknowledge, batch)
        for delivery in batch:
            del self._held[delivery]

    def _publish(self, batch: builtins.list[Delivery]) -> dict[Delivery, str | None]:
        """Publish a batch; return what became of those that were confirmed or refused in time."""
        outcomes: dict[Delivery, str | None] = {}
        signal = Signal()
        end = time.monotonic() + _CONFIRM
        self._pump_until(lambda: not self._link.blocked, end, signal)
        if not self._link.blocked:
            for delivery in batch:
                queue = _letter_of(delivery.envelope).queue
                if queue and not self._topology.has_queue(queue):
                    outcomes[delivery] = (
                        f"{queue[:200]!r} is no queue of {self._topology.application!r}"
                    )
            messages = [self._to_replay(each, outcomes) for each in batch if each not in outcomes]
            _call_bounded(self._link.publish, messages)
            self._pump_until(lambda: len(outcomes) == len(batch), end, signal)
        return dict(outcomes)

    def _pump_until(self, condition: Callable[[], bool], end: float, signal: Signal) -> None:
        while True:
            _call_bounded(self._link.pump)
            if condition() or time.monotonic() >= end:
                return
            self._link.wait(signal, min(0.5, max(0.0, end - time.monotonic())))
            self._let_others_run()

    def _to_replay(self, delivery: Delivery, outcomes: dict[Delivery, str | None]) -> Outgoing:
        def settle(reason: str | None) -> None:
            outcomes[delivery] = reason

        queue = _letter_of(delivery.envelope).queue
        envelope = delivery.envelope.with_changes(
            dead=None, attempts=0, queue=None, due=None, deadline=None
        )
        if queue:
            return Outgoing(envelope, Address("", queue, mandatory=True), settle)
        # Only the broker knew its queue: the way it came, which others may take with it.
        return Outgoing(envelope, self._topology.address_of(envelope), settle)

    def _let_others_run(self) -> None:
        """Let other greenlets run, when it is time."""
        if time.monotonic() >= self._yield_at:
            let_others_run()
            self._yield_at = time.monotonic() + _SLICE

    def give_back(self) -> None:
        """Give back what is held. With the connection gone, the broker has it back already."""
        with contextlib.suppress(LinkLost):
            _call_bounded(self._link.end_reading, [*self._held], times=20)  # there may be many
        self._held.clear()


def _batches(deliveries: Iterator[Delivery], size: int) -> Iterator[builtins.list[Delivery]]:
    while batch := [*itertools.islice(deliveries, size)]:
        yield batch


def _forget_contents(delivery: Delivery) -> None:
    """Free the memory of a delivery that is held and not needed any more: there may be many."""
    delivery.envelope = delivery.envelope.with_changes(body=b"", dead=None)


def _call_bounded(function: Callable[..., T], *args: Any, times: int = 1) -> T:
    """Call a link, which bounds its own waits; this bounds the whole."""
    seconds = _PATIENCE * times
    with gevent.Timeout(seconds, LinkLost(f"the broker has not answered for {seconds:g} s")):
        return function(*args)
