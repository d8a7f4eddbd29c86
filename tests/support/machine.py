"""What the machine offers: free ports, what is not there, and whether others use it now."""

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from typing import IO, NoReturn

import gevent
import pytest

#: Below those that the system gives to whoever asks for any (Linux: 32768 and up), so that nobody
#: but a test that asks for just this one takes it before it is used.
_PORTS = range(10_000, 32_000)


def free_port() -> int:
    """A port on which nobody listens."""
    while True:
        port = random.choice(_PORTS)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue


def absent(reason: str) -> NoReturn:
    """Skip the test; where everything must be there, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def share_machine(*, alone: bool) -> Iterator[None]:
    """Run beside other tests, or wait until none runs, in whatever process, and keep them out.

    Whoever wants to be alone holds the gate while it waits, so that no other test begins.
    """
    with _lock_file("gate") as gate, _lock_file("room") as room:
        _take(gate, fcntl.LOCK_EX)
        _take(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield


def _lock_file(name: str) -> IO[bytes]:
    folder = tempfile.gettempdir()
    return open(os.path.join(folder, f"gemstone_sync-tests-{os.getuid()}.{name}"), "ab")


def _take(file: IO[bytes], kind: int) -> None:
    while True:
        try:
            return fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            gevent.sleep(0.01)  # services of module-scoped fixtures go on
