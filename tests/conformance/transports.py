"""The three ways a case reaches the service: a real socket, in-process, gunicorn.

Each has `send`, and gives back something with `status`, `headers` and `body`. What is expected of
the reply is no business of theirs.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from gemstone_sync.testing import ServiceClient

from . import wire

REPOSITORY = Path(__file__).resolve().parents[2]
START_LIMIT = 20.0
STOP_LIMIT = 10.0
#: A connection that was idle for longer is not used again: below every server's keep-alive limit.
IDLE_LIMIT = 1.0


class Transport(Protocol):
    def send(self, verb: str, path: str, headers: Mapping[str, str], body: bytes) -> Any: ...


class InProcess:
    """No socket: `gemstone_sync.testing.ServiceClient`."""

    def __init__(self, service: Any) -> None:
        self._client = ServiceClient(service)

    def send(self, verb: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        return self._client.request(verb, path, body=body, headers=dict(headers))


class Wire:
    """A real socket, its connection kept for as long as the server says it is."""

    def __init__(self, name: str, address: tuple[str, int]) -> None:
        self.name = name
        self.address = address
        self._kept: wire.Connection | None = None
        self._kept_since = 0.0

    def send(self, verb: str, path: str, headers: Mapping[str, str], body: bytes) -> wire.WireReply:
        connection = self._take()
        sent = wire.request(verb, path, headers, body)
        try:
            reply = connection.exchange(sent, head_only=verb == "HEAD")
        except wire.WireError:
            connection.close()
            raise
        if reply.closes:
            connection.close()
        else:
            self._kept = connection
            self._kept_since = time.monotonic()
        return reply

    def _take(self) -> wire.Connection:
        """The kept connection, unless the server may have closed it for being idle."""
        kept, self._kept = self._kept, None
        if kept is not None and time.monotonic() - self._kept_since < IDLE_LIMIT:
            return kept
        if kept is not None:
            kept.close()
        return wire.Connection(self.address)

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()


@contextlib.contextmanager
def gunicorn(application: str, log: Path) -> Iterator[tuple[str, int]]:
    """The address of a real gunicorn with one gevent worker; SIGTERM must end it with 0."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        address = listener.getsockname()
        with log.open("wb") as output:
            process = subprocess.Popen(
                _command(application, listener.fileno()),
                cwd=REPOSITORY,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # Handed over rather than found free, so that nobody else can take the port.
                pass_fds=[listener.fileno()],
            )
    try:
        _wait_until_ready(address, process, log)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout=STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"gunicorn did not stop\n{log.read_text()}") from None
    assert code == 0, f"gunicorn ended with {code}\n{log.read_text()}"


def _command(application: str, descriptor: int) -> list[str]:
    options = ["-k", "gevent", "-w", "1", "--no-control-socket", "--keep-alive", "30"]
    return [sys.executable, "-m", "gunicorn", *options, "-b", f"fd://{descriptor}", application]


def _wait_until_ready(
    address: tuple[str, int], process: "subprocess.Popen[bytes]", log: Path
) -> None:
    deadline = time.monotonic() + START_LIMIT
    while True:
        # The listener's backlog holds the request until the worker takes it.
        with contextlib.suppress(wire.WireError, OSError), wire.Connection(address) as connection:
            ready = wire.request("GET", "/health/ready", {"Connection": "close"}, b"")
            if connection.exchange(ready).status == 200:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"gunicorn did not get ready\n{log.read_text()}")
