"""The Redis servers of the tests: the machine's, and one of a test's own."""

import contextlib
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import redis

from .machine import absent, free_port
from .waiting import wait_until

REDIS_URL = "redis://127.0.0.1:6379/0"


@contextlib.contextmanager
def shared_redis() -> Iterator[str]:
    """A prefix of one's own in the machine's Redis, with nothing left behind."""
    prefix = f"gemstone_sync-test-{uuid.uuid4().hex}:"
    with redis.Redis.from_url(REDIS_URL, socket_timeout=5) as client:
        try:
            client.ping()
        except redis.ConnectionError:
            absent("no Redis answers at 127.0.0.1:6379")
        try:
            yield prefix
        finally:
            for key in client.scan_iter(match=f"{prefix}*", count=1000):
                client.delete(key)


class RedisServer:
    """A Redis of the test's own, for what cannot be done to one that others use."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._options = options
        self.start()

    def start(self) -> None:
        """Start it, with nothing in it, and wait until it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--daemonize", "no", *self._options]
        self.process = subprocess.Popen(
            command, cwd=self._folder, stdout=subprocess.DEVNULL, start_new_session=True
        )
        wait_until(self._answers, "redis-server")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            assert self.process.poll() is None, "redis-server has ended"
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It keeps its connections, takes new ones, and says nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def private_redis(folder: Path, *options: str) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        absent("redis-server is not installed")
    server = RedisServer(folder, *options)
    try:
        yield server
    finally:
        server.kill()
