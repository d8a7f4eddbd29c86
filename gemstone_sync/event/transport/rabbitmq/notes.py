"""Notes in RabbitMQ about events that may have ended the processes that handled them.

What RabbitMQ counts are connections that were lost, restarts of its own and events that were given
back as well. A process that dies leaves its note; any other takes it away. Each is a queue: a
message would have RabbitMQ block the connection during an alarm.
"""

from __future__ import annotations

from typing import Any

from ...link import Delivery
from ...runtime.isolation import SUSPICIOUS
from .faults import absent_is_empty

__all__ = ["mark", "unmark"]

#: Milliseconds after which a note about an event goes that nobody has handled since: a day.
_NOTES = 86_400_000


def mark(channel: Any, name: str, delivery: Delivery) -> None:
    """Count the notes beside an event, for `Delivery.crashes`, and lay one more there.

    :param name: how the names of its notes begin.
    """
    count = 0
    with absent_is_empty():
        while channel.queue_declare(f"{name}:{count}", passive=True):
            count += 1
    options = {"durable": True, "auto_delete": False, "arguments": {"x-expires": _NOTES}}
    channel.queue_declare(f"{name}:{count}", **options)
    # Before the second delivery nobody made a note.
    delivery.crashes = count + SUSPICIOUS if count else 0


def unmark(channel: Any, name: str, delivery: Delivery, *, done: bool) -> None:
    """Take the note away, or all of them."""
    last = max(0, delivery.crashes - SUSPICIOUS)
    for number in range(0 if done else last, last + 1):
        channel.queue_delete(f"{name}:{number}")
