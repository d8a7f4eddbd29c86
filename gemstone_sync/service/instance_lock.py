"""The lock by which one worker of an instance does what must be done once: periodic tasks, pings.

An instance is a name at an address, however many worker processes serve it. The one that holds the
lock on a file works; the system takes the lock away when that process ends, and another gets it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator

import gevent

from ..concurrency import keep_from_children
from ..errors import ServiceStartError

__all__ = ["InstanceLock"]

_logger = logging.getLogger("gemstone_sync.service")

_RETRY_SECONDS = 1.0

#: Attempts for which a new file is left to the holder of the one that was removed: it notices
#: within one.
_PATIENCE = 3

#: Seconds after which a held file is made to look new: cleaners of temporary files go by age.
_TOUCH_SECONDS = 3600.0


class InstanceLock:
    """The lock of one instance.

    :param name: the service's name.
    :param address: what tells this instance from others of the same name on this machine.
    :raises ServiceStartError: when no folder for such locks is this user's own.
    """

    def __init__(self, name: str, address: str) -> None:
        digest = hashlib.sha256(f"{name}\0{address}".encode()).hexdigest()[:32]
        self._path = os.path.join(_folder(), f"{digest}.lock")
        self._descriptor: int | None = None
        self._touched = 0.0
        #: The file that somebody else held, and attempts for which another one is left alone.
        self._held_by_another: tuple[int, int] | None = None
        self._patience = _PATIENCE
        self._is_faulty = False
        self._greenlet: gevent.Greenlet[..., None] | None = None
        keep_from_children(self)

    def when_held(self, work: Callable[[], object]) -> None:
        """Call `work` once this process holds the lock: at once, or when the holder has ended."""

        def hold() -> None:
            while not self._without_fault(self._try_lock):
                gevent.sleep(_RETRY_SECONDS)
            work()
            while True:
                gevent.sleep(_RETRY_SECONDS)
                self._without_fault(self._keep_lock)

        self._greenlet = gevent.spawn(hold)

    def descriptors(self) -> list[int]:
        """List what a child must not hold open: it would hold the lock."""
        return [] if self._descriptor is None else [self._descriptor]

    def give_up_waiting(self) -> None:
        """Stop waiting for the lock; one that is held is held on."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def release(self) -> None:
        """Give the lock up, or stop waiting for it."""
        self.give_up_waiting()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _without_fault(self, step: Callable[[], bool]) -> bool:
        """Take a step that a full disk, or a file system without locks, may keep from working."""
        try:
            done = step()
        except OSError as error:
            if not self._is_faulty:
                _logger.error(
                    "which worker runs periodic tasks is not known: %s cannot be locked: %s",
                    self._path,
                    error.strerror,
                )
            self._is_faulty = True
            return False
        self._is_faulty = False
        return done

    def _try_lock(self) -> bool:
        descriptor = self._open_locked()
        if descriptor is None:
            return False
        another = self._held_by_another not in (None, _identity(os.fstat(descriptor)))
        if another and self._patience:
            self._patience -= 1
            os.close(descriptor)
            return False
        self._descriptor, self._touched = descriptor, time.monotonic()
        return True

    def _keep_lock(self) -> bool:
        """Ensure that the file that is held is the one that others would find."""
        assert self._descriptor is not None
        with contextlib.suppress(FileNotFoundError):
            if _identity(os.stat(self._path)) == _identity(os.fstat(self._descriptor)):
                if time.monotonic() - self._touched > _TOUCH_SECONDS:
                    os.utime(self._descriptor)
                    self._touched = time.monotonic()
                return True
        descriptor = self._open_locked()  # None for a moment, while another looks at it
        if descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = descriptor
        return True

    def _open_locked(self) -> int | None:
        """Open and lock the file; None when another process has it."""
        with contextlib.suppress(FileNotFoundError):  # the folder was removed with it
            return self._open_locked_in_folder()
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        return self._open_locked_in_folder()

    def _open_locked_in_folder(self) -> int | None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._held_by_another, self._patience = _identity(os.fstat(descriptor)), _PATIENCE
        else:
            with contextlib.suppress(FileNotFoundError):
                if _identity(os.stat(self._path)) == _identity(os.fstat(descriptor)):
                    return descriptor
        os.close(descriptor)
        return None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return (found.st_dev, found.st_ino)


def _folder() -> str:
    """Find the first folder for locks that is this user's own and nobody else can write to."""
    for folder in _folders():
        with contextlib.suppress(OSError):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            found = os.lstat(folder)
            own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            if own and not found.st_mode & 0o022 and os.access(folder, os.W_OK):
                return folder
    raise ServiceStartError(
        f"none of {', '.join(_folders())} is a folder that only this user can write to: "
        "set XDG_RUNTIME_DIR to one"
    )


def _folders() -> Iterator[str]:
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield os.path.join(runtime, "gemstone_sync")
    # Anybody may have made this one, to keep others from working.
    yield os.path.join(tempfile.gettempdir(), f"gemstone_sync-{os.getuid()}")
    yield os.path.join(os.path.expanduser("~"), ".cache", "gemstone_sync")
