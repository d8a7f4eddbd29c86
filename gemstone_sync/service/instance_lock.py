"""One worker among those of an instance does what must be done once: periodic tasks, pings.

An instance is a name at an address, however many worker processes serve it. The one that holds the
lock on a file works; the system takes the lock away when that process ends, and another gets it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable

import gevent

from ..errors import ServiceStartError

__all__ = ["InstanceLock"]

_RETRY_SECONDS = 1.0


class InstanceLock:
    """The lock of one instance.

    :param name: the service's name.
    :param address: what tells this instance from others of the same name on this machine.
    :raises ServiceStartError: when the folder for such locks is not this user's own.
    """

    def __init__(self, name: str, address: str) -> None:
        folder = os.path.join(tempfile.gettempdir(), f"gemstone_sync-{os.getuid()}")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.stat(folder).st_uid != os.getuid():
            raise ServiceStartError(f"{folder} belongs to somebody else")
        digest = hashlib.sha256(f"{name}\0{address}".encode()).hexdigest()[:32]
        self._path = os.path.join(folder, f"{digest}.lock")
        self._descriptor: int | None = None
        self._waiter: gevent.Greenlet[..., None] | None = None

    def when_held(self, work: Callable[[], object]) -> None:
        """Call `work` once this process holds the lock: at once, or when the holder has ended."""

        def wait() -> None:
            while not self._try():
                gevent.sleep(_RETRY_SECONDS)
            work()

        self._waiter = gevent.spawn(wait)

    def give_up_waiting(self) -> None:
        """Do not take the lock any more; one that is held is held on."""
        if self._waiter is not None:
            self._waiter.kill(block=False)

    def release(self) -> None:
        """Give the lock up, or stop waiting for it."""
        self.give_up_waiting()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _try(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True
