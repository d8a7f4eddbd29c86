"""What the tests of discovery stand on: registries of each kind, and Redis servers.

Only what is asked and told belongs here; what a strategy makes of it is in the test files.
"""

import contextlib
import fnmatch
import json
import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from gemstone_sync import MicroService, exposed_method
from gemstone_sync.discovery.http import HttpDiscoveryStrategy
from gemstone_sync.discovery.redis_strategy import RedisDiscoveryStrategy
from tests.client.faulty_server import Behaviour, FaultyServer, body, free_port
from tests.helpers import LIMIT, wait_until

LOGGER = "gemstone_sync.discovery"

# Registries


class Registry(MicroService):
    """A registry that records how it was told.

    :ivar entries: (name, place) -> the instances there; a place is what `locate_service` gives.
    :ivar told: the method and the parameters of each call that it took.
    """

    name = "test.registry"

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, Any], set[Any]] = {}
        self.told: list[tuple[Any, ...]] = []

    def enter(self, name: str, place: Any, instance: Any = None) -> None:
        self.entries.setdefault((name, place), set()).add(instance)

    @exposed_method()
    def locate_service(self, name: str) -> list[Any]:
        return [place for known, place in self.entries if fnmatch.fnmatchcase(known, name)]


class FullRegistry(Registry):
    """Tells instances apart, and knows goodbye."""

    @exposed_method()
    def ping(self, name: str, url: str, instance: str = "", interval: float = 30) -> None:
        self.told.append(("ping", name, url, instance, interval))
        self.enter(name, url, instance)

    @exposed_method()
    def goodbye(self, name: str, url: str, instance: str = "") -> None:
        self.told.append(("goodbye", name, url, instance))
        instances = self.entries.get((name, url), set())
        instances.discard(instance)
        if not instances:
            self.entries.pop((name, url), None)


class UrlRegistry(Registry):
    """The document's: ``ping(name, url)`` and no goodbye."""

    @exposed_method()
    def ping(self, name: str, url: str) -> None:
        self.told.append(("ping", name, url))
        self.enter(name, url)


class HostRegistry(Registry):
    """The document's other form; with a default that would let a URL pass for a host."""

    @exposed_method()
    def ping(self, name: str, host: str, port: int = 80) -> None:
        self.told.append(("ping", name, host, port))
        self.enter(name, (host, port))


class OddRegistry(Registry):
    """One whose parameters have other names."""

    @exposed_method()
    def ping(self, service_name: str, service_url: str) -> None:
        self.told.append(("ping", service_name, service_url))
        self.enter(service_name, service_url)


def refusal(code: int, message: str = "no", **members: Any) -> Behaviour:
    error = json.dumps({"code": code, "message": message, **members})
    return body(f'{{"jsonrpc": "2.0", "error": {error}, "id": ID}}')


def params_sent(server: FaultyServer) -> list[Any]:
    return [request.json["params"] for request in server.requests]


def patient_http(url: str, **options: Any) -> HttpDiscoveryStrategy:
    """One whose time-outs do not strike on a machine that is busy."""
    return HttpDiscoveryStrategy(url, **{"timeout": LIMIT, "total_timeout": LIMIT, **options})


# Redis

REDIS_URL = "redis://127.0.0.1:6379/0"


def absent(reason: str) -> None:
    """Skip the test; where everything must be there, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


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
        """It keeps its connections, and the system takes new ones for it, and it says nothing."""
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


def patient_redis(url: str, **options: Any) -> RedisDiscoveryStrategy:
    """One whose time-outs do not strike on a machine that is busy."""
    return RedisDiscoveryStrategy(url, **{"timeout": LIMIT, "total_timeout": LIMIT, **options})
