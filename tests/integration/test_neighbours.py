"""A service of several processes is one instance to others: with workers, and under gunicorn.

The registries are in this process.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync import RemoteService
from gemstone_sync.registry import ServiceRegistry
from gemstone_sync.testing import running_service
from tests.discovery.support import FullRegistry
from tests.support.programs import Program, gunicorn, program
from tests.support.waiting import wait_until

USERS = """
import os
import uuid

import gemstone_sync

class Users(gemstone_sync.MicroService):
    name = os.environ["NAME"]
    host = "127.0.0.1"
    port = 0
    skip_configuration = True
    accessible_at = os.environ.get("ACCESSIBLE_AT")
    service_registry_urls = os.environ["REGISTRIES"].split()
    service_registry_ping_interval = 0.2

    def on_service_start(self):
        # Short lines are written in one piece.
        os.write(1, f"{self.url}\\npid {os.getpid()}\\n".encode())

    @gemstone_sync.exposed_method()
    def double(self, n: int) -> int:
        return 2 * n
"""
WITH_WORKERS = USERS + "\nUsers().start(workers=2)\n"
MODULE = USERS + "\nservice = Users()\n"


@pytest.fixture
def name(tmp_path: Path) -> str:
    """A name of the test's own: the lock of an instance is the machine's."""
    return f"users.{tmp_path.name}.{os.getpid()}"


@pytest.fixture
def registry() -> Iterator[ServiceRegistry]:
    with running_service(ServiceRegistry) as started:
        yield started


def pids(started: Program) -> list[int]:
    """The processes that have called the start hook."""
    lines = started.stdout.splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("pid ")]


@contextlib.contextmanager
def two_workers(folder: Path, name: str, *registries: Any) -> Iterator[Program]:
    environment = {"NAME": name, "REGISTRIES": " ".join(r.url for r in registries)}
    with program(WITH_WORKERS, folder, environment=environment) as started:
        started.wait_until(lambda: len(pids(started)) == 2, "both workers")
        started.wait_until_ready()
        yield started


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_workers_of_a_service_are_one_instance(tmp_path: Path, name: str) -> None:
    with running_service(FullRegistry) as registry, two_workers(tmp_path, name, registry) as users:
        url = f"http://127.0.0.1:{users.port}/api"
        wait_until(lambda: len(registry.told) >= 8, "pings")
        assert len(set(registry.told)) == 1, "more than one of them pings"
        assert registry.told[0][:3] == ("ping", name, url)
        assert users.terminate() == 0

        last = registry.told[-1]
        assert last[:3] == ("goodbye", name, url)
        assert [told[0] for told in registry.told].count("goodbye") == 1


def test_sigterm_takes_the_service_out(
    tmp_path: Path, name: str, registry: ServiceRegistry
) -> None:
    with two_workers(tmp_path, name, registry) as users:
        url = f"http://127.0.0.1:{users.port}/api"
        wait_until(lambda: registry.directory.locate(name) == [url], "the registration")
        with RemoteService.get_service_by_name(registry.url, name) as client:
            assert client.methods.double(4) == 8
        assert users.terminate() == 0

        assert registry.directory.locate(name) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_another_worker_goes_on_when_the_one_that_pings_ends(
    tmp_path: Path, name: str, registry: ServiceRegistry, number: signal.Signals
) -> None:
    """Also after it has said goodbye: the others still serve."""
    with two_workers(tmp_path, name, registry) as users:
        url = f"http://127.0.0.1:{users.port}/api"
        (first,) = wait_until(lambda: registry.directory.registrations(), "the registration")
        for pid in pids(users):
            os.kill(pid, number)
            users.wait_until(lambda pid=pid: is_gone(pid), "the worker's end")

        def another_pings() -> bool:
            found = registry.directory.registrations()
            return any(entry.instance != first.instance for entry in found)

        users.wait_until(another_pings, "the pings of another one")
        assert registry.directory.locate(name) == [url]


# gunicorn


@contextlib.contextmanager
def under_gunicorn(
    folder: Path, name: str, registry: Any, *options: str, **environment: str
) -> Iterator[Program]:
    (folder / "module.py").write_text(MODULE)
    variables = {"NAME": name, "REGISTRIES": registry.url, **environment}
    options = ("-w", "2", *options)
    with gunicorn("module:service", folder, *options, environment=variables) as started:
        started.wait_until(lambda: len(pids(started)) == 2, "both workers")
        started.wait_until_ready()
        yield started


@pytest.fixture(params=[[], ["--preload"]], ids=["plain", "preload"])
def options(request: pytest.FixtureRequest) -> list[str]:
    chosen: list[str] = request.param
    return chosen


URL = "https://shop.example/users/api"


def test_under_gunicorn_the_workers_are_one_instance(
    tmp_path: Path, name: str, options: list[str]
) -> None:
    with running_service(FullRegistry) as registry:
        with under_gunicorn(tmp_path, name, registry, *options, ACCESSIBLE_AT=URL) as users:
            wait_until(lambda: len(registry.told) >= 8, "pings")
            assert len(set(registry.told)) == 1, "more than one of them pings"
            assert registry.told[0][:3] == ("ping", name, URL)
            assert users.terminate() == 0

        assert registry.told[-1][:3] == ("goodbye", name, URL)


def test_under_gunicorn_another_worker_goes_on(
    tmp_path: Path, name: str, registry: ServiceRegistry, options: list[str]
) -> None:
    """As when gunicorn renews its workers after ``max_requests``."""
    with under_gunicorn(tmp_path, name, registry, *options, ACCESSIBLE_AT=URL) as users:
        for pid in pids(users):
            wait_until(lambda: registry.directory.locate(name), "the registration")
            os.kill(pid, signal.SIGTERM)
            users.wait_until(lambda pid=pid: is_gone(pid), "the worker's end")
        wait_until(lambda: registry.directory.locate(name) == [URL], "the next registration")


def test_under_gunicorn_the_url_must_be_given(
    tmp_path: Path, name: str, registry: ServiceRegistry, options: list[str]
) -> None:
    """gunicorn's address need not be the one where others reach it."""
    with under_gunicorn(tmp_path, name, registry, *options) as users:
        warning = f"{name} is not registered: set accessible_at"
        users.wait_until(lambda: warning in users.stderr, "the warning")
        assert users.stderr.count(warning) == 1
        assert users.terminate() == 0

        assert registry.directory.locate("*") == []
