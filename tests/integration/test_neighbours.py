"""A service of several processes is one instance to others: with workers, and under gunicorn.

The registries are in this process.
"""

import contextlib
import os
import signal

import pytest

from gemstone_sync import RemoteService
from gemstone_sync.registry import ServiceRegistry
from gemstone_sync.testing import running_service
from tests.discovery.support import FullRegistry
from tests.support.programs import is_alive
from tests.support.waiting import wait_until

from .processes import start

URL = "https://shop.example/users/api"

every_kind = pytest.mark.parametrize(
    ("under", "options"),
    [
        (None, []),
        pytest.param("gevent", [], marks=pytest.mark.slow),
        pytest.param("gevent", ["--preload"], marks=pytest.mark.slow),
    ],
    ids=["start", "gunicorn", "gunicorn-preload"],
)


@pytest.fixture
def name(tmp_path):
    """A name of the test's own: the lock of an instance is the machine's."""
    return f"users.{tmp_path.name}.{os.getpid()}"


@contextlib.contextmanager
def two_workers(folder, name, registry, *options, under=None, **attributes):
    """Two workers that ping, and where they say that they are."""
    attributes |= {"service_registry_urls": [registry.url], "service_registry_ping_interval": 0.2}
    if under is not None:
        attributes.setdefault("accessible_at", URL)
    with start(folder, *options, under=under, workers=2, name=name, **attributes) as service:
        yield service, URL if under else f"http://127.0.0.1:{service.port}/api"


@every_kind
def test_the_workers_of_a_service_are_one_instance(tmp_path, name, under, options):
    with (
        running_service(FullRegistry) as registry,
        two_workers(tmp_path, name, registry, *options, under=under) as (service, url),
    ):
        wait_until(lambda: len(registry.told) >= 8, "pings")
        assert len(set(registry.told)) == 1, "more than one of them pings"
        assert registry.told[0][:3] == ("ping", name, url)
        assert service.program.terminate() == 0

        assert registry.told[-1][:3] == ("goodbye", name, url)
        assert [told[0] for told in registry.told].count("goodbye") == 1


@every_kind
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_another_worker_goes_on_when_the_one_that_pings_ends(
    tmp_path, name, under, options, number
):
    """The others still serve after one has said goodbye. In the end the service is out."""
    with (
        running_service(ServiceRegistry) as registry,
        two_workers(tmp_path, name, registry, *options, under=under) as (service, url),
    ):
        directory = registry.directory

        def wait_until_located():
            # Of 0.2 s, three pings missed take it out; the next one enters it again.
            wait_until(lambda: directory.locate(name) == [url], "its place")

        (first,) = wait_until(directory.registrations, "the registration")
        wait_until_located()
        if under is None:
            with RemoteService.get_service_by_name(registry.url, name) as client:
                assert client.methods.add(4, 4) == 8
        for pid in service.workers():
            os.kill(pid, number)
            service.program.wait_until(lambda pid=pid: not is_alive(pid), "the worker's end")
        service.program.wait_until(
            lambda: any(each.instance != first.instance for each in directory.registrations()),
            "the pings of another one",
        )
        wait_until_located()
        service.wait_for_workers(2)
        assert service.program.terminate() == 0
        assert number == signal.SIGKILL or directory.locate(name) == []


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["plain", "preload"])
def test_under_gunicorn_the_url_must_be_given(tmp_path, name, options):
    """gunicorn's address need not be the one where others reach it."""
    with (
        running_service(ServiceRegistry) as registry,
        two_workers(tmp_path, name, registry, *options, under="gevent", accessible_at=None) as (
            service,
            _,
        ),
    ):
        warning = f"{name} is not registered: set accessible_at"
        service.program.wait_until(lambda: warning in service.program.stderr, "the warning")
        assert service.program.stderr.count(warning) == 1
        assert service.program.terminate() == 0

        assert registry.directory.locate("*") == []
