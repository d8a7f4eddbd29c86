"""Hearing from Linux that a file was touched: nobody has to look again and again.

The kernel tells every process that watches, whatever container it is in, and forgets those that
die. The libraries for it run ``ldconfig`` to find the C library, and one needs asyncio.
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

from gevent import monkey

__all__ = ["unwatch", "watch"]

_ATTRIBUTES, _REMOVED, _MOVED = 0x4, 0x400, 0x800


def watch(path: str) -> int | None:
    """Return a descriptor that can be read once the file is touched, moved or removed.

    :returns: None where the system has no inotify, no more of it, or no such file.
    """
    libc = _libc()
    if libc is None:
        return None
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    if libc.inotify_add_watch(descriptor, os.fsencode(path), _ATTRIBUTES | _REMOVED | _MOVED) < 0:
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
