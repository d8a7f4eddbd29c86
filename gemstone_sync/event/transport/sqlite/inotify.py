"""How processes that share a SQLite file in WAL mode wake each other: by Linux's inotify.

Whoever has committed something opens the log and closes it again, which SQLite only does when it
connects. The kernel tells every process that watches, whatever container it is in, and forgets
those that die. To watch what SQLite writes would be too early: others see it later. To set the
file's time costs 35 µs instead of 10, most of it in the next commit, which has to keep that too.

The libraries for inotify run ``ldconfig`` to find the C library, and one of them needs asyncio.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from typing import Any

from gevent import monkey

__all__ = ["tell", "unwatch", "watch"]

_ATTRIBUTES, _READER_HAS_CLOSED, _REMOVED, _MOVED = 0x4, 0x10, 0x400, 0x800


def tell(path: str) -> None:
    """Wake those who watch the database at a path. Never raises.

    Closing a file ends all locks of this process on it (POSIX); SQLite has none on its log.
    """
    with contextlib.suppress(OSError):  # removed: whoever watches was told
        unwatch(os.open(f"{path}-wal", os.O_RDONLY))


def watch(path: str) -> int | None:
    """Return a descriptor that can be read once others tell, or the file is moved or removed.

    :returns: None where the system has no inotify, no more of it, or no such file.
    """
    libc = _libc()
    if libc is None:
        return None
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    for name, events in (
        (path, _ATTRIBUTES | _REMOVED | _MOVED),
        (f"{path}-wal", _READER_HAS_CLOSED),
    ):
        if libc.inotify_add_watch(descriptor, os.fsencode(name), events) < 0:
            unwatch(descriptor)
            return None
    return descriptor


def unwatch(descriptor: int) -> None:
    """Close what `watch` has returned."""
    # The real one: gevent's waits for this thread's hub, which may never turn again.
    monkey.get_original("os", "close")(descriptor)


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "inotify_init1") else None
