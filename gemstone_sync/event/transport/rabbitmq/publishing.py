"""Publishing to RabbitMQ: what a connection sends, and what the broker says of it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import amqp
from amqp import spec
from amqp.exceptions import FrameSyntaxError, IrrecoverableChannelError, NotFound
from amqp.serialization import dumps

from ...envelope import Envelope, to_message
from ...link import LinkLost, Outgoing
from ...topology import Topology
from .faults import largest_message, unwritable
from .queues import Known, declare, declare_delay, step_for
from .wire import AmqpConnection

__all__ = ["AmqpPublishing", "note_deleted"]

#: Seconds in which consumers bind again what was deleted under them, between two attempts to reach
#: them, and for which nobody asks again whether an event that nobody handles is handled now.
_MENDED, _AGAIN, _FORGET = 5.0, 0.2, 60.0
#: Seconds without a confirm after which the broker is asked about a step of the ladder, and after
#: as many more another queue takes its place; half of them come after an answer on the same
#: connection. Below the 30 that its channel waits for a leader.
_LEADERLESS = 5.0
#: How many routing keys are known at most: those of other programs' must not fill the memory.
_KEYS = 10_000
#: Of a message that AMQP cannot carry, such as one with an id of more than 255 bytes.
_UNFIT = (struct.error, ValueError, TypeError, OverflowError, FrameSyntaxError)


class AmqpPublishing:
    """A channel with publisher confirms: it counts its messages as the broker does.

    Confirms come for one message or for all up to one. A message that no queue took comes back
    first and is confirmed all the same. A broadcast event that nobody handles is no fault; but what
    found a queue before, or goes through an exchange that was deleted, is tried again until its
    consumers have bound their queues anew. So is what goes to a queue of the topology's own.

    :param ask: returns the channel for questions: RabbitMQ closes one whose question it refuses.
    """

    def __init__(
        self,
        connection: AmqpConnection,
        topology: Topology,
        known: Known,
        ask: Callable[[], Any],
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._known = known
        self._ask = ask
        self._own = {("", topology.dead), ("", topology.due)}
        self._is_missing = False
        #: What found no queue: when it is tried again, and until when.
        self._again: deque[tuple[float, Outgoing]] = deque()
        self._until: dict[Outgoing, float] = {}
        #: The queues of the steps that were declared on this connection.
        self._steps: dict[int, str] = {}
        self._last_tag = 0
        #: By tag, in their order: the message, its routing key, its step when it is delayed, and
        #: whether the broker tells when it finds no queue.
        self._unsettled: dict[int, tuple[Outgoing, str, int, bool]] = {}
        self._returned: list[tuple[Any, str]] = []
        #: The first of those at the last look, when that was, and when the broker was asked of it.
        self._first, self._looked = 0, 0.0
        self._asked: float | None = None
        channel = connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_confirmed)
        channel.events["basic_nack"].add(self._on_refused)
        channel.events["basic_return"].add(self._on_returned)
        self._channel_id = channel.channel_id

    def send(self, outgoing: Outgoing) -> None:
        """Hand one message to the connection, which sends it when it is flushed."""
        # Not channel.basic_publish: before each message that looks for what has arrived, by a call
        # of recv that mostly fails; it serializes the same arguments again, and sends each message
        # on its own. Measured in one run: 2.3 times the CPU per message.
        address, envelope, step = outgoing.address, outgoing.envelope, 0
        exchange, routing_key = address.exchange, address.routing_key
        mandatory = address.mandatory or self._asks(exchange, routing_key)
        try:
            if outgoing.delay > 0:
                step = step_for(outgoing.delay)
                if step not in self._steps:
                    replaced = self._known.replaced.get(step, 0)
                    self._steps[step] = declare_delay(self._ask(), self._topology, step, replaced)
                exchange, routing_key, mandatory = "", self._steps[step], True
                if envelope.due is None:
                    envelope = envelope.with_changes(due=time.time() + outgoing.delay)
            elif self._is_missing and (exchange, routing_key) in self._own:
                declare(self._ask(), self._topology)
                self._is_missing = False
            self._connection.frame_writer(
                1,
                self._channel_id,
                spec.Basic.Publish,
                _arguments(exchange, routing_key, mandatory),
                _message(envelope),
            )
        except _UNFIT as error:
            # Py-amqp serializes all of it before it writes any of it.
            outgoing.settle(f"AMQP cannot carry it: {error}")
            return
        except IrrecoverableChannelError as error:
            # Over every other connection as well, where all others would wait behind it.
            if error.method_sig not in (spec.Queue.Declare, spec.Exchange.Declare):
                raise
            outgoing.settle(f"the broker makes no queue for it: {error.reply_text}")
            return
        self._last_tag += 1
        self._unsettled[self._last_tag] = (outgoing, routing_key, step, mandatory)

    def _asks(self, exchange: str, routing_key: str) -> bool:
        """Tell whether the broker is to say when a broadcast event finds no queue."""
        until = self._known.unrouted.get(routing_key)
        if until is None or exchange in self._known.doubtful:
            return True
        if until > time.monotonic():
            return False
        del self._known.unrouted[routing_key]
        return True

    def due(self) -> list[Outgoing]:
        """Take out what has found no queue and is to be tried again now."""
        now, due = time.monotonic(), []
        while self._again and self._again[0][0] <= now:
            due.append(self._again.popleft()[1])
        return due

    def look_after_steps(self) -> None:
        """Have another queue take the place of a step that has no leader.

        A RabbitMQ (seen with 3.10) that is killed just as it makes a quorum queue has one without a
        leader afterwards, for good. It can be asked for its size, declared and published to; a
        channel that publishes to it waits 30 seconds for each message, with all behind it: after
        many, RabbitMQ reads nothing of the connection, although its heartbeats come. Nobody but an
        operator can tell that from one that waits for its other nodes and has messages, so it is
        left as it is.

        :raises LinkLost: when there is one, as the channel is of no use any more.
        """
        tag, (_, queue, step, _) = next(iter(self._unsettled.items()), (0, (None, "", 0, False)))
        now = time.monotonic()
        before, self._looked = self._looked, now
        if tag != self._first:
            self._first, self._asked = tag, None
            return
        if not step:
            return
        # In sum: where connections are lost one after the other none waits for long.
        unconfirmed = self._known.unconfirmed  # of other threads' connections, too
        waited = unconfirmed[step] = unconfirmed.get(step, 0.0) + now - before
        if waited < _LEADERLESS:
            return
        if self._asked is None:
            with contextlib.suppress(TimeoutError):  # it reads nothing of this connection
                self._ask().queue_declare(queue, passive=True)  # or nothing confirms anything
            self._looked = self._asked = time.monotonic()
            return
        if waited < 2 * _LEADERLESS or now - self._asked < _LEADERLESS / 2:
            return
        unconfirmed.pop(step, None)
        self._known.replaced[step] = self._known.replaced.get(step, 0) + 1
        raise LinkLost(
            f"RabbitMQ confirms nothing for its queue {queue!r} (killed just as it makes one, it "
            "gives it no leader): what is delayed goes through another one from now on; when this "
            "one is empty, delete it with rabbitmqctl delete_queue"
        )

    @property
    def without_queue(self) -> str:
        """Why something is tried again for want of a queue; empty when nothing is."""
        if not self._until:
            return ""
        address = next(iter(self._until)).address
        return f"nothing is bound to {address.exchange!r} for {address.routing_key!r} any more"

    def refuse(self, error: Exception) -> None:
        """Settle what the broker closed the channel for; or it would do so again and again."""
        largest, forbidden = largest_message(error), unwritable(error)
        for tag, (outgoing, routing_key, step, _) in list(self._unsettled.items()):
            size = len(outgoing.envelope.body)
            exchange = "" if step else outgoing.address.exchange
            if largest is not None and size > largest:
                why = f"its body has {size} bytes and RabbitMQ takes {largest}"
            elif forbidden in ((exchange, routing_key), (exchange, None)):
                why = f"the rights do not suffice: {error}"
            else:
                continue
            del self._unsettled[tag]
            outgoing.settle(why)

    def _on_confirmed(self, tag: int, multiple: bool) -> None:
        self._settle(tag, multiple, None)

    def _on_refused(self, tag: int, multiple: bool) -> None:
        self._settle(tag, multiple, "the broker refused it: its queue is full, or failing")

    def _on_returned(self, _error: Any, _exchange: str, routing_key: str, message: Any) -> None:
        # Without the tag: the id and the routing key tell which it was.
        self._returned.append((message.properties.get("message_id"), routing_key))

    def _settle(self, tag: int, multiple: bool, error: str | None) -> None:
        tags = [tag]
        if multiple:  # of those that wait, not of all that there were; 0 means all (AMQP 0-9-1)
            tags = [*itertools.takewhile(lambda each: each <= tag or not tag, self._unsettled)]
        for each in tags:
            entry = self._unsettled.pop(each, None)
            if entry is None:
                continue
            outgoing, routing_key, step, mandatory = entry
            if self._returned and (outgoing.envelope.id, routing_key) in self._returned:
                self._returned.remove((outgoing.envelope.id, routing_key))
                self._steps.pop(step, None)
                self._found_no_queue(outgoing, routing_key)
            else:
                if step:
                    self._known.unconfirmed.pop(step, None)
                elif error is None and mandatory and outgoing.address.exchange:
                    self._found_queue(outgoing.address.exchange, routing_key)
                self._until.pop(outgoing, None)
                outgoing.settle(error)

    def _found_queue(self, exchange: str, routing_key: str) -> None:
        known = self._known
        if routing_key not in known.routed:
            if len(known.routed) >= _KEYS:
                known.routed.clear()
            known.routed.add(routing_key)
        if known.doubtful:
            known.doubtful.discard(exchange)

    def _found_no_queue(self, outgoing: Outgoing, routing_key: str) -> None:
        address, known, now = outgoing.address, self._known, time.monotonic()
        is_own = outgoing.delay > 0 or (address.exchange, routing_key) in self._own
        is_lost = is_own or address.exchange in known.doubtful
        if is_lost or (routing_key in known.routed and not address.mandatory):
            self._is_missing |= is_own
            if now < self._until.setdefault(outgoing, now + _MENDED):
                self._again.append((now + _AGAIN, outgoing))
                return
            del self._until[outgoing]
        if address.mandatory or is_own:
            outgoing.settle(_nobody(outgoing, routing_key))
        elif is_lost:
            outgoing.settle(f"the exchange {address.exchange!r} was deleted; nobody has bound anew")
        else:
            known.routed.discard(routing_key)
            if len(known.unrouted) >= _KEYS:
                known.unrouted.clear()
            known.unrouted[routing_key] = now + _FORGET
            outgoing.settle(None)


def note_deleted(channel: Any, topology: Topology, known: Known) -> None:
    """Find out which exchanges are gone that were there once, and their bindings with them."""
    exchanges = {topology.events, topology.keyed, *topology.work}
    for exchange in exchanges & known.exchanges:
        try:
            channel.exchange_declare(exchange, "topic", passive=True)
        except NotFound:
            known.doubtful.add(exchange)
    known.exchanges |= exchanges


@functools.lru_cache(maxsize=1024)
def _arguments(exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """Return the arguments of basic.publish. Kept, for programs emit few names often."""
    arguments: bytes = dumps("Bssbb", (0, exchange, routing_key, mandatory, False))
    return arguments


def _message(envelope: Envelope) -> Any:
    properties, headers = to_message(envelope)
    return amqp.Message(envelope.body, application_headers=headers, **properties)


def _nobody(outgoing: Outgoing, routing_key: str) -> str:
    if outgoing.delay > 0 or not outgoing.address.exchange:
        return f"there is no queue {routing_key!r} any more"
    return f"nobody handles work named {outgoing.envelope.name!r}"
