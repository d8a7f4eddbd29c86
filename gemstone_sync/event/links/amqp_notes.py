"""Notes of events that end their processes, beside those that came back more than once.

What RabbitMQ counts are connections that were lost, restarts of its own and events that were given
back as well. A process that dies leaves its note; any other takes it away.
"""

from __future__ import annotations

from typing import Any

import amqp

from ..link import Delivery
from ..suspects import SUSPICIOUS
from .amqp_faults import absent_is_empty

__all__ = ["mark", "unmark"]

#: Milliseconds after which a note about an event goes that nobody has handled since: a day.
_EXPIRY = 86_400_000


def mark(channel: Any, name: str, delivery: Delivery) -> None:
    """Lay a note of a delivery, and see how many there were."""
    found = channel.queue_declare(
        name, durable=True, auto_delete=False, exclusive=False, arguments={"x-expires": _EXPIRY}
    )
    channel.basic_publish(amqp.Message(b"", delivery_mode=2), "", name)
    # Before the second delivery nobody made a note.
    delivery.crashes = found.message_count + SUSPICIOUS if found.message_count else 0


def unmark(channel: Any, name: str, *, done: bool) -> None:
    """Take a note away, or all of them once the event is done with."""
    with absent_is_empty():
        if done:
            channel.queue_delete(name)
        else:
            channel.basic_get(name, no_ack=True)
