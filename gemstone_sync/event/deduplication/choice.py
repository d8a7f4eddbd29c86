"""Which store of handled events a setting means: `processed_events`."""

from __future__ import annotations

from ...broker_urls import SQLITE_FILES
from ...errors import ServiceConfigurationError
from .base import ProcessedEvents
from .memory import MemoryProcessedEvents
from .redis import RedisProcessedEvents
from .sqlite import SqliteProcessedEvents
from .window import DAY

__all__ = ["processed_events"]

_REDIS = ("redis://", "rediss://", "unix://")


def processed_events(url: str, *, window: float = DAY) -> ProcessedEvents:
    """The store for a URL.

    :param url: ``"sqlite:///file"`` (``"sqlite:////file"`` from the root) or the path of a file
        that ends in .db, .sqlite or .sqlite3; ``"redis://…"``; ``"memory://"``.
    :param window: seconds for which an event is remembered.
    :raises ServiceConfigurationError: when it is none of these.

    >>> processed_events("sqlite:///handled.db"), processed_events("handled.db")
    (SqliteProcessedEvents('handled.db'), SqliteProcessedEvents('handled.db'))
    """
    if isinstance(url, str):
        if url == "memory://":
            return MemoryProcessedEvents(window)
        if url.startswith(_REDIS):
            return RedisProcessedEvents(url, window)
        if url.startswith("sqlite:///"):
            return SqliteProcessedEvents(url.removeprefix("sqlite:///"), window)
        if "://" not in url and url.endswith(SQLITE_FILES):
            return SqliteProcessedEvents(url, window)
    # Not shown: it may hold a password.
    raise ServiceConfigurationError(
        "handled events are remembered in 'sqlite:///file.db', 'redis://host' or 'memory://'"
    )
