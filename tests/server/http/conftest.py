"""A server for each module, the application behind it, and a watch on what goes wrong unseen."""

import contextlib
import ssl

import pytest

from tests.support.programs import REPOSITORY

from .app import Application
from .harness import connected, served, watching

#: A key and a certificate for localhost that is its own authority.
CERTIFICATE = str(REPOSITORY / "tests" / "data" / "localhost.pem")


@pytest.fixture(scope="module")
def module_application():
    return Application()


@pytest.fixture(scope="module")
def server(module_application):
    """A server with default settings."""
    with served(module_application) as server:
        yield server


@pytest.fixture
def application(module_application):
    """The application behind `server`, with nothing recorded yet."""
    module_application.reset()
    return module_application


@pytest.fixture
def trusting():
    """A client's context that accepts the certificate of the tests and no other."""
    return ssl.create_default_context(cafile=CERTIFICATE)


@pytest.fixture
def tls(request):
    """The client's context if `serve` and `connect` are to speak TLS; `plain_and_tls`: both."""
    return request.getfixturevalue("trusting") if getattr(request, "param", False) else None


@pytest.fixture
def serve(application, tls):
    """``serve(keep_alive_timeout=1)``: a server of the test's own in front of `application`."""
    always = {} if tls is None else {"certfile": CERTIFICATE}
    with contextlib.ExitStack() as servers:
        yield lambda **settings: servers.enter_context(served(application, **always | settings))
        application.release.set()


@pytest.fixture
def connect(tls):
    """``connect(server)``: a client whose connection is closed at the end of the test."""
    with contextlib.ExitStack() as clients:
        yield lambda server, tls=tls: clients.enter_context(connected(server, tls=tls))


@pytest.fixture
def client(server, application, connect):
    """A connection to `server`."""
    return connect(server)


@pytest.fixture(autouse=True)
def errors():
    """What the server logs as errors; what the test does not take fails it."""
    with watching() as unseen:
        yield unseen
    assert not unseen.take()
