"""Answer who asks a process how it is: its stacks on stderr by SIGUSR2, to ``gemstone stacks PID``.

While the hub is held, too: a native thread waits for them, and for what else is to be answered then
(`answer_always`). The signal's handler is `faulthandler`'s, which needs no interpreter: it writes
to a pipe that the thread reads. A program that has set SIGUSR2 itself keeps it.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from gevent import monkey

from .stacks import stacks

__all__ = ["address_of", "answer_always", "peer_of", "show_stacks_on_request"]

#: Seconds for a client to take what it asked for.
_PATIENCE = 5.0

#: What the thread is told.
_STOP, _LOOK_AGAIN = b"s", b"l"

_asked: _Asked | None = None


def address_of(pid: int) -> bytes:
    """Return the abstract address (unix(7), Linux) where a process is asked for its stacks."""
    return b"\0gemstone_sync.stacks.%d" % pid


def show_stacks_on_request() -> None:
    """Answer from now on; once in each process."""
    global _asked
    if _asked is not None and _asked.pid == os.getpid():
        return
    if _asked is None:
        os.register_at_fork(after_in_child=_leave_to_parent)
        atexit.register(_stop)
    _asked = _Asked()
    monkey.get_original("_thread", "start_new_thread")(_asked.run, ())


def answer_always(listener: Any, write: Callable[[], bytes]) -> Callable[[], None]:
    """Answer who connects to a socket of this machine, while the hub is held too.

    :param listener: a native socket (of ``AF_UNIX``) that listens; it is closed in the end.
    :param write: makes the answer, in a native thread: it waits for nothing.
    :returns: what ends that.
    """
    show_stacks_on_request()
    assert _asked is not None
    return _asked.add(listener, write)


def _leave_to_parent() -> None:
    """Close in a forked child what is its parent's; the child's own comes when it serves."""
    if _asked is not None:
        _asked.close()


def _stop() -> None:
    if _asked is not None and _asked.pid == os.getpid():
        _asked.stop()


class _Asked:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self._reading, self._writing = os.pipe()
        for file in (self._reading, self._writing):
            os.set_blocking(file, False)  # the handler of a signal must not wait
        self._commands, self._commanding = os.pipe()
        self._ended = monkey.get_original("_thread", "allocate_lock")()
        self._ended.acquire()
        #: Sockets that listen, and what makes the answers, by the numbers of their files.
        self._listeners: dict[int, tuple[Any, Callable[[], bytes]]] = {}
        if (listener := _listen()) is not None:
            self._listeners[listener.fileno()] = listener, lambda: stacks().encode()
        self._has_signal = not _is_caught(signal.SIGUSR2)
        if self._has_signal:
            faulthandler.register(signal.SIGUSR2, self._writing, all_threads=False, chain=False)

    def run(self) -> None:
        """Wait to be asked, in a native thread."""
        try:
            while True:
                poll = monkey.get_original("select", "poll")()
                listeners = self._listeners.copy()
                for file in (self._commands, self._reading, *listeners):
                    poll.register(file, select.POLLIN)
                ready = {file for file, _ in poll.poll()}
                if self._commands in ready and os.read(self._commands, 1) == _STOP:
                    return
                if self._reading in ready:
                    with contextlib.suppress(BlockingIOError):
                        while os.read(self._reading, 65536):  # of several signals in one moment too
                            pass
                    with contextlib.suppress(OSError):
                        _write_all(2, stacks().encode())
                for file in ready & listeners.keys():
                    with contextlib.suppress(Exception):  # who asked gets no answer
                        _answer(*listeners[file])
        finally:
            self._ended.release()

    def add(self, listener: Any, write: Callable[[], bytes]) -> Callable[[], None]:
        """Answer on one more socket; return what ends that."""
        file = listener.fileno()

        def end() -> None:
            if self._listeners.pop(file, None) is not None:
                self._command(_LOOK_AGAIN)
                listener.close()

        self._listeners[file] = listener, write
        self._command(_LOOK_AGAIN)
        return end

    def _command(self, what: bytes) -> None:
        with contextlib.suppress(OSError):  # in a child, or at the end
            os.write(self._commanding, what)

    def stop(self) -> None:
        """End the thread: one that runs while the interpreter ends may crash it."""
        self._command(_STOP)
        self._ended.acquire(timeout=1)
        self.close()

    def close(self) -> None:
        """Close the files, and give the signal back."""
        if self._has_signal:
            faulthandler.unregister(signal.SIGUSR2)
        files = [self._reading, self._writing, self._commands, self._commanding]
        for file in files:
            with contextlib.suppress(OSError):
                os.close(file)
        while self._listeners:
            self._listeners.popitem()[1][0].close()


def _is_caught(number: signal.Signals) -> bool:
    """Tell whether the program does something at a signal, by Python or without."""
    if signal.getsignal(number) is not signal.SIG_DFL:
        return True
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("SigCgt:"))
        return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _listen() -> Any:
    """Listen for ``gemstone stacks PID``; None where that cannot be."""
    if sys.platform != "linux":
        return None
    listener = monkey.get_original("socket", "socket")(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(address_of(os.getpid()))
        listener.listen(1)
    except OSError:  # somebody else has the address
        listener.close()
        return None
    return listener


def _answer(listener: Any, write: Callable[[], bytes]) -> None:
    client, _ = listener.accept()
    with client:
        client.settimeout(_PATIENCE)
        if sys.platform == "linux":
            _, user = peer_of(client)
            if user not in (0, os.geteuid()):
                return
        client.sendall(write())


def peer_of(connection: Any) -> tuple[int, int]:
    """Return the numbers of the process and of the user at the other end (unix(7), Linux)."""
    # struct ucred: pid, uid, gid
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    process, user, _ = struct.unpack("3i", found)
    return process, user


def _write_all(file: int, text: bytes) -> None:
    while text:
        text = text[os.write(file, text) :]
