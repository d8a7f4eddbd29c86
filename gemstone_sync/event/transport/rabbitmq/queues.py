"""What the exchanges and queues of a topology are on RabbitMQ: kinds, arguments, bindings.

All queues that must lose nothing are quorum queues: they are on disk before a message is confirmed,
and they count deliveries, so that a message which ends its process again and again goes to the dead
letters instead of round and round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amqp.exceptions import NotFound

from ...topology import Queue, Topology
from .known import Known

__all__ = [
    "HOLDING",
    "LONGEST_HELD",
    "bind",
    "declare",
    "declare_delay",
    "held_too_long",
    "note_deleted",
]

#: Deliveries after which RabbitMQ drops a message that lies in a queue for good. It has to be set:
#: from version 4.0 on the default is 20, and looking through the dead letters counts.
_NO_LIMIT = 2**31 - 1
#: Seconds: RabbitMQ's default for `consumer_timeout`, and what queues are declared with where they
#: can say it: a week.
HOLDING, LONGEST_HELD = 1800.0, 604_800.0


def declare(
    channel: Any,
    topology: Topology,
    queues: Sequence[Queue],
    delivery_limit: int,
    consumer_timeout: float | None = None,
) -> None:
    """Declare all of it, and bind it.

    A binding that a queue had under an earlier version of its service stays: AMQP does not tell
    which there are. Its events reach a service that has no handler for them.

    :param channel: py-amqp's.
    :param consumer_timeout: seconds for which a message of a queue may be held; None where queues
        cannot say that.
    """
    for name in (topology.dead, topology.due):
        _declare_queue(channel, name, _quorum(_NO_LIMIT))
    for queue in queues:
        arguments = _arguments(queue, topology, delivery_limit, consumer_timeout)
        _declare_queue(channel, queue.name, arguments)
    # Last, and all at once: what is published meanwhile finds no queue.
    bind(channel, topology, queues, nowait=False)


def bind(
    channel: Any, topology: Topology, queues: Sequence[Queue] = (), *, nowait: bool = True
) -> None:
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


def note_deleted(channel: Any, topology: Topology, known: Known) -> None:
    """Find out which exchanges are gone that were there once, and their bindings with them."""
    exchanges = {topology.events, topology.keyed, *topology.work}
    for exchange in exchanges & known.exchanges:
        try:
            channel.exchange_declare(exchange, "topic", passive=True)
        except NotFound:
            known.doubtful.add(exchange)
    known.exchanges |= exchanges


def declare_delay(channel: Any, topology: Topology, milliseconds: int) -> None:
    """Declare a step of the ladder of delays."""
    arguments = {
        **_quorum(_NO_LIMIT),
        **_dead_lettered_to(topology.due),
        "x-message-ttl": milliseconds,
    }
    _declare_queue(channel, topology.delay_queue(milliseconds), arguments)


def held_too_long(queue: Queue, consumer_timeout: float) -> str | None:
    """Why a queue's handlers may take longer than the broker lets them; None when they do not.

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
