"""Discovery within one process: for tests, and for several services that run together."""

from __future__ import annotations

from typing import Any

from .base import BaseDiscoveryStrategy
from .directory import DEFAULT_INTERVAL, Directory

__all__ = ["MemoryDiscoveryStrategy"]


class MemoryDiscoveryStrategy(BaseDiscoveryStrategy):
    """Keeps what it is told in a `Directory`; services that share it find each other.

    :param directory: one to share with other strategies; a new one when left out.

    >>> strategy = MemoryDiscoveryStrategy()
    >>> strategy.ping("users", "http://127.0.0.1:8001/api")
    >>> strategy.locate("u*")
    ['http://127.0.0.1:8001/api']
    """

    def __init__(self, directory: Directory | None = None) -> None:
        self.directory = Directory() if directory is None else directory

    def ping(self, name: str, location: str, **kwargs: Any) -> None:
        """Register a URL for three times ``interval`` seconds (30 when left out).

        :raises DirectoryFull: when the directory has no place for one more.
        """
        interval = kwargs.get("interval")
        interval = DEFAULT_INTERVAL if interval is None else interval
        self.directory.add(name, location, kwargs.get("instance"), interval)

    def locate(self, name: str) -> list[str]:
        """Return the URLs that match, by name and then in the order of registration."""
        return self.directory.locate(name)

    def goodbye(self, name: str, location: str, **kwargs: Any) -> None:
        """Take a URL out; with ``instance``, once the last of its instances is out."""
        self.directory.remove(name, location, kwargs.get("instance"))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
