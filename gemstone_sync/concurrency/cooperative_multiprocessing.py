"""multiprocessing in a patched process: its locks and pipes wait in the hub.

They wait in C otherwise, and with them every greenlet: the threads of a `multiprocessing.Pool` or
`ProcessPoolExecutor`, which are greenlets here, would never hand anything on. All that
multiprocessing, ``concurrent.futures`` and joblib do between processes goes through the two.
"""

from __future__ import annotations

import os
import select
import time
import types
from collections.abc import Callable
from typing import Any

from gevent import monkey
from gevent._hub_local import get_hub_if_exists
from greenlet import getcurrent

from .waiting import pause, wait_until_ready

__all__ = ["mend"]

#: Seconds between two tries for a lock: they double. Nobody tells a process when one is free.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.01

#: Bytes after which other greenlets have their turn, though there is room for more.
_ONE_TURN = 1 << 20

_RECURSIVE = 0


def mend(module: types.ModuleType) -> None:
    """Mend one of the modules below, which has just been imported."""
    if module.__name__ == "multiprocessing.connection":
        _mend_connection(module.Connection)
    elif module.__name__ == "multiprocessing.forkserver":
        monkey.patch_item(module, "read_signed", _waiting_in_hub(module.read_signed))
    else:
        cls = type("SemLock", (_WaitsInHub, module.SemLock), {"__module__": module.__name__})
        monkey.patch_item(module, "SemLock", cls)


# Locks


class _WaitsInHub:
    """The lock, semaphore or recursive lock below all others, waited for in the hub."""

    kind: int
    _is_mine: Callable[[], bool]

    #: Whose recursive lock it is: to C all greenlets of a thread are one.
    _holder: Any = None

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        if _is_alone() and self._holder in (None, getcurrent()):
            return self._note(super().acquire(block, timeout))  # type: ignore[misc]
        end = None if timeout is None else time.monotonic() + timeout
        seconds = _FIRST_PAUSE
        while True:
            others = self.kind == _RECURSIVE and self._holder not in (None, getcurrent())
            if not (others and self._is_mine()) and super().acquire(False):  # type: ignore[misc]
                return self._note(True)
            left = seconds if end is None else end - time.monotonic()
            if not block or left <= 0:
                return False
            pause(min(seconds, left))
            seconds = min(2 * seconds, _LONGEST_PAUSE)

    def _note(self, acquired: bool) -> bool:
        if acquired and self.kind == _RECURSIVE:
            self._holder = getcurrent()
        return acquired

    def release(self) -> None:
        super().release()  # type: ignore[misc]
        if self._holder is not None and not self._is_mine():
            self._holder = None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *args: object) -> None:
        self.release()


def _is_alone() -> bool:
    """Tell whether no other greenlet of this thread can run before this one goes on."""
    hub = get_hub_if_exists()
    return hub is None or hub.loop.activecnt == 0


# Pipes and sockets


def _mend_connection(connection: type) -> None:
    """Have each message be read and written piece by piece, as far as it goes without waiting."""
    cls: Any = connection
    cls._recv.__defaults__ = (_read,)
    cls._send.__defaults__ = (_write,)
    cls.__init__ = _blocking_for_others(cls.__init__)


def _blocking_for_others(init: Callable[..., None]) -> Callable[..., None]:
    """Give gevent's sockets back the mode in which a process that is not patched expects them."""

    def blocking(self: Any, handle: int, *args: Any, **more: Any) -> None:
        init(self, handle, *args, **more)
        os.set_blocking(handle, True)

    return blocking


def _read(file: int, size: int) -> bytes:
    wait_until_ready(file)
    return os.read(file, size)


def _write(file: int, data: Any) -> int:
    wait_until_ready(file, to_write=True)
    room = monkey.get_original("select", "poll")()
    room.register(file, select.POLLOUT)
    written = 0
    while True:
        # What can be written to takes this much at once.
        written += os.write(file, data[written : written + select.PIPE_BUF])
        if written >= min(len(data), _ONE_TURN) or not room.poll(0):
            return written


def _waiting_in_hub(read: Callable[[int], int]) -> Callable[[int], int]:
    """Wait in the hub for what the forkserver tells of a process, before it is read.

    The forkserver may be waiting for another greenlet's request, which would never be sent.
    """

    def read_signed(file: int) -> int:
        wait_until_ready(file)
        return read(file)

    return read_signed
