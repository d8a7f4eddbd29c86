"""Workers of one service ask each other how they do, each on a socket in their directory.

Who is asked answers in a native thread (`answer_always`), so also while something holds its hub.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent import monkey, socket

from ..concurrency import answer_always
from .shared_directory import directory_of, identity_of, is_alive, pid_of

__all__ = ["Siblings"]

#: Seconds for all of them to answer.
_PATIENCE = 1.0
#: What an answer begins with is how long it is: of one who is killed while it answers a part comes.
_LENGTH = struct.Struct("!Q")
#: Bytes of an answer.
_LONGEST = 16_000_000
#: As many may ask at once.
_BACKLOG = 64


class Siblings:
    """The other workers of one service.

    :param topic: tells what is asked from all else that the same processes may be asked.
    :param write: makes this worker's answer, in a native thread: it waits for nothing.
    """

    def __init__(self, topic: str, write: Callable[[], bytes]) -> None:
        self._suffix = f".{hashlib.sha256(topic.encode()).hexdigest()[:8]}"
        self._write = write
        self._directory: str | None = None
        self._end: Callable[[], None] = lambda: None

    def join(self, owner: int) -> None:
        """Answer from now on, and ask those that belong to the same parent.

        :param owner: the number of the parent's process.
        :raises OSError: when that cannot be.
        """
        directory = directory_of(owner)
        path = self._own(directory)
        listener = monkey.get_original("socket", "socket")(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _within_limits(path) as address:
                listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        self._directory, self._end = directory, answer_always(listener, self._framed)

    def _framed(self) -> bytes:
        answer = self._write()
        return _LENGTH.pack(len(answer)) + answer

    def leave(self) -> None:
        """Answer no more, and know nobody."""
        directory, self._directory = self._directory, None
        if directory is not None:
            self._end()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._own(directory))

    def _own(self, directory: str) -> str:
        return os.path.join(directory, identity_of(os.getpid()) + self._suffix)

    def ask(self) -> dict[int, bytes | None]:
        """Ask all others at once, for a second; return their answers by the numbers of processes.

        None stands for one that runs and does not answer. What those that have ended have left is
        removed.
        """
        asked = {}
        for identity in self._others():
            path = os.path.join(self._directory or "", identity + self._suffix)
            if is_alive(identity):
                asked[pid_of(identity)] = gevent.spawn(_answer_at, path)
            else:
                with contextlib.suppress(FileNotFoundError):  # others do the same
                    os.unlink(path)
        gevent.joinall(list(asked.values()), timeout=_PATIENCE)
        gevent.killall([each for each in asked.values() if not each.ready()], block=False)
        return {pid: each.value for pid, each in asked.items()}

    def _others(self) -> list[str]:
        try:
            names = os.listdir(self._directory) if self._directory is not None else []
        except FileNotFoundError:  # the parent has ended
            return []
        found = {name.removesuffix(self._suffix) for name in names if name.endswith(self._suffix)}
        return sorted(found - {identity_of(os.getpid())})


def _answer_at(path: str) -> bytes | None:
    """Ask one worker; None when it is away, or does not say all of it."""
    found = bytearray()
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        with _within_limits(path) as address:
            client.connect(address)
        while len(found) <= _LONGEST and (part := client.recv(1 << 16)):
            found += part
    length, answer = found[: _LENGTH.size], bytes(found[_LENGTH.size :])
    return answer if length == _LENGTH.pack(len(answer)) and answer else None


@contextlib.contextmanager
def _within_limits(path: str) -> Iterator[Any]:
    """Give a shorter path where there is one: 108 bytes are all that an address holds (unix(7))."""
    folder, name = os.path.split(path)
    if not os.path.exists("/proc/self/fd"):
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
