"""Exchanges and queues of a topology on RabbitMQ: kinds, arguments, bindings.

All queues that must lose nothing are quorum queues: they are on disk before a message is confirmed,
and they count deliveries, so that a message which ends its process again and again goes to the dead
letters instead of round and round.

Delays are a ladder of queues whose messages expire. Each length needs a queue of its own: with
several in one queue, a message that expires later holds up those behind it. So there are a few
fixed lengths, each twice the one before, and a delayed message goes down them: 30 seconds are
16 + 8 + 4 + 2. After each step whoever consumes ``Topology.due`` publishes it again.

Nothing here imports py-amqp, which a program without RabbitMQ need not load.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...topology import Queue, Topology

__all__ = [
    "HOLDING",
    "LONGEST_HELD",
    "STEPS",
    "Known",
    "bind",
    "declare",
    "declare_delay",
    "held_too_long",
    "says_holding",
    "step_for",
]

#: Deliveries after which RabbitMQ drops a message that lies in a queue for good. It has to be set:
#: from version 4.0 on the default is 20, and looking through the dead letters counts.
_NO_LIMIT = 2**31 - 1
#: Seconds: RabbitMQ's default for `consumer_timeout`, and what queues are declared with where they
#: can say it: a week.
HOLDING, LONGEST_HELD = 1800.0, 604_800.0
#: Milliseconds that a message lies in each queue of the ladder. Nobody waits any shorter than the
#: first, so a delay may last so much too long. The last is some 24 days: RabbitMQ takes no expiry
#: from 2 ** 32 on, and its arguments are signed. Longer delays take it several times.
STEPS: tuple[int, ...] = tuple(125 * 2**number for number in range(25))


@dataclass
class Known:
    """Knowledge of the broker that the links of a transport have gathered, and share.

    :ivar consumer_timeout: for how many seconds the broker lets a message be held, as it said when
        it closed a channel for one.
    :ivar exchanges: those that are there.
    :ivar doubtful: those that were gone, and through which nothing was routed since.
    :ivar routed: routing keys that led to a queue.
    :ivar unrouted: routing keys that led to none, and until when nobody asks again.
    :ivar unconfirmed: by step of the ladder of delays, for how many seconds its queue has held up
        all others without a confirm.
    :ivar replaced: by step, how many queues of it were given up.
    """

    consumer_timeout: float | None = None
    exchanges: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    routed: set[str] = field(default_factory=set)
    unrouted: dict[str, float] = field(default_factory=dict)
    unconfirmed: dict[int, float] = field(default_factory=dict)
    replaced: dict[int, int] = field(default_factory=dict)


def step_for(delay: float) -> int:
    """Return the step that a message with so many seconds left goes to next, in milliseconds.

    The longest that is not longer than the delay, the shortest for less than that: a message may
    come late by one shortest step, and never early.

    >>> step_for(30), step_for(14), step_for(0.2), step_for(0.001)
    (16000, 8000, 125, 125)
    """
    return STEPS[max(0, bisect.bisect_right(STEPS, delay * 1000) - 1)]


def declare(
    channel: Any,
    topology: Topology,
    queues: Sequence[Queue] = (),
    *,
    delivery_limit: int = _NO_LIMIT,
    consumer_timeout: float | None = None,
) -> None:
    """Declare what every connection needs, and `queues`; bind it all.

    A binding that a queue had under an earlier version of its service stays: AMQP does not tell
    which there are. Its events reach a service that has no handler for them.

    :param channel: py-amqp's.
    :param delivery_limit: of `queues`: deliveries after which a message is a dead letter.
    :param consumer_timeout: seconds for which a message of `queues` may be held; None where they
        cannot say that.
    """
    for name in (topology.dead, topology.due):
        _declare_queue(channel, name, _quorum(_NO_LIMIT))
    for queue in queues:
        arguments = _arguments(queue, topology, delivery_limit, consumer_timeout)
        _declare_queue(channel, queue.name, arguments)
    # Last, and all at once: what is published meanwhile finds no queue.
    bind(channel, topology, queues, nowait=False)


def bind(channel: Any, topology: Topology, queues: Sequence[Queue], *, nowait: bool = True) -> None:
    """Declare the exchanges, and bind the queues; without waiting it mends what was deleted."""
    exact, patterns, anything = topology.work
    alternates = {patterns: anything, exact: patterns}
    for exchange in (topology.events, topology.keyed, anything, patterns, exact):
        arguments = {"alternate-exchange": alternates[exchange]} if exchange in alternates else {}
        channel.exchange_declare(
            exchange, "topic", durable=True, auto_delete=False, arguments=arguments, nowait=nowait
        )
    for queue in queues:
        for binding in queue.bindings:
            channel.queue_bind(queue.name, binding.exchange, binding.pattern, nowait=nowait)


def declare_delay(channel: Any, topology: Topology, step: int, replaced: int) -> str:
    """Declare the queue of a step of the ladder, in place of `replaced` others; return its name."""
    name = topology.delay_queue(step, replaced)
    arguments = {**_quorum(_NO_LIMIT), **_dead_lettered_to(topology.due), "x-message-ttl": step}
    _declare_queue(channel, name, arguments)
    return name


def says_holding(server: Mapping[str, Any]) -> bool:
    """Tell whether a broker's queues can say for how long a message may be held.

    :param server: the properties of a connection's other end.
    """
    found = re.match(r"(\d+)\.(\d+)", str(server.get("version", "")))
    return found is not None and (int(found[1]), int(found[2])) >= (3, 12)


def held_too_long(queue: Queue, consumer_timeout: float) -> str | None:
    """Tell why a queue's handlers may take longer than the broker lets them; None if they do not.

    What comes from a keyed queue is renewed, however long it takes.
    """
    bounded = [handler for handler in queue.handlers if handler.timeout is not None]
    seconds = sum(handler.timeout or 0.0 for handler in bounded)
    if queue.keyed or seconds < consumer_timeout:
        return None
    names = ", ".join(handler.name for handler in bounded)
    return (
        f"{names}: a timeout of {seconds:g} s, and RabbitMQ takes events back that are held for "
        f"{consumer_timeout:g} s (its consumer_timeout): use a shorter timeout, or set a longer "
        "one there and as the transport's consumer_timeout"
    )


def _arguments(
    queue: Queue, topology: Topology, delivery_limit: int, consumer_timeout: float | None
) -> dict[str, Any]:
    if queue.expires is not None:
        # Gone with its instance: it need not outlive the broker's disk, and classic queues alone
        # come and go cheaply.
        return {"x-queue-type": "classic", "x-expires": max(1, int(queue.expires * 1000))}
    arguments = {**_quorum(delivery_limit), **_dead_lettered_to(topology.dead)}
    if queue.keyed:
        arguments["x-single-active-consumer"] = True
    if consumer_timeout is not None:
        # Quorum queues only: later versions refuse it for classic ones.
        arguments["x-consumer-timeout"] = round(consumer_timeout * 1000)
    return arguments


def _quorum(delivery_limit: int) -> dict[str, Any]:
    return {"x-queue-type": "quorum", "x-delivery-limit": delivery_limit}


def _dead_lettered_to(queue: str) -> dict[str, Any]:
    return {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        # Without it a message on its way between two queues can be lost, and it wants the overflow
        # to be of this kind (RabbitMQ's documentation, "Quorum Queues": "Dead lettering").
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _declare_queue(channel: Any, name: str, arguments: dict[str, Any]) -> None:
    channel.queue_declare(
        name, durable=True, exclusive=False, auto_delete=False, arguments=arguments
    )
