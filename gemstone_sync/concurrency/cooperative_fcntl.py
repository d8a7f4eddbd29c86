"""fcntl in a patched process: who waits for a lock of a file lets other greenlets run.

It waits in C otherwise, and the greenlet that holds the lock would never get its turn to give it
up. Processes hold the same locks, and tell nobody when one is free.
"""

from __future__ import annotations

import fcntl
import functools
import types
from typing import Any

from gevent import monkey

from .waiting import can_switch, pause

__all__ = ["mend"]

#: Seconds between two tries: they double.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.05


def mend(module: types.ModuleType) -> None:
    """Have ``flock`` and ``lockf`` wait in the hub."""
    for name in ("flock", "lockf"):
        monkey.patch_item(module, name, _waiting_in_hub(getattr(module, name)))


def _waiting_in_hub(native: Any) -> Any:
    @functools.wraps(native)
    def lock(file: Any, operation: int, *where: int) -> None:
        if operation & (fcntl.LOCK_NB | fcntl.LOCK_UN) or not can_switch():
            native(file, operation, *where)
            return
        seconds = _FIRST_PAUSE
        while True:
            try:
                native(file, operation | fcntl.LOCK_NB, *where)
                return
            except BlockingIOError:
                pause(seconds)
            seconds = min(2 * seconds, _LONGEST_PAUSE)

    return lock
