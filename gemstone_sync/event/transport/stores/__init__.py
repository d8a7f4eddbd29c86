"""Queues of our own: `store` is their contract, and says where messages go.

`link` uses one. In SQLite and memory they are in `..sqlite`, in Redis in `..redis`.
"""

from .transport import MemoryEventTransport, RedisEventTransport, SqliteEventTransport

__all__ = ["MemoryEventTransport", "RedisEventTransport", "SqliteEventTransport"]
