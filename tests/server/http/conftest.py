"""A server for each module, the application behind it, and a watch on what goes wrong unseen."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from gemstone_sync.server import GeventServer

from .app import Application
from .harness import Client, Unseen, served, watching


@pytest.fixture(scope="module")
def module_application() -> Application:
    return Application()


@pytest.fixture(scope="module")
def server(module_application: Application) -> Iterator[GeventServer]:
    """A server with default settings."""
    with served(module_application) as server:
        yield server


@pytest.fixture
def application(module_application: Application) -> Application:
    """The application behind `server`, with nothing recorded yet."""
    module_application.reset()
    return module_application


@pytest.fixture
def serve(application: Application) -> Iterator[Callable[..., GeventServer]]:
    """``serve(keep_alive_timeout=1)``: a server of the test's own in front of `application`."""
    with contextlib.ExitStack() as servers:
        yield lambda **settings: servers.enter_context(served(application, **settings))
        application.release.set()


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """``connect(server)``: a client whose connection is closed at the end of the test."""
    with contextlib.ExitStack() as clients:
        yield lambda server, **options: clients.enter_context(Client(server, **options))


@pytest.fixture
def client(server: GeventServer, application: Application) -> Iterator[Client]:
    """A connection to `server`."""
    with Client(server) as client:
        yield client


@pytest.fixture(autouse=True)
def errors() -> Iterator[Unseen]:
    """What the server logs as errors; what the test does not take fails it."""
    with watching() as unseen:
        yield unseen
    assert not unseen.take()
