"""Registers gemstone_sync's transports with kombu; importing it does.

::

    import gemstone_sync.event.virtual.registration
    connection = kombu.Connection("gemstone-sqlite:////var/lib/events.db")

Programs that know nothing of gemstone_sync so read and write its events. See `transports` for the
URLs and the options.
"""

from __future__ import annotations

from kombu.transport import TRANSPORT_ALIASES

__all__ = ["NAMES"]

_MODULE = "gemstone_sync.event.virtual.transports"

#: Kombu's name for a transport, and where it is.
NAMES = {
    "gemstone-sqlite": f"{_MODULE}:SqliteTransport",
    "gemstone-memory": f"{_MODULE}:MemoryTransport",
    "gemstone-redis": f"{_MODULE}:RedisTransport",
    "gemstone-store": f"{_MODULE}:StoreTransport",
}

TRANSPORT_ALIASES.update(NAMES)
