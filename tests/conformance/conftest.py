"""The services under test, each started once, and the ways in which a case reaches them."""

import time

import pytest

from gemstone_sync.testing import ServiceClient, running_service
from tests.support.http import Connection, message
from tests.support.programs import REPOSITORY, gunicorn

from .subject import SubjectService

#: A connection that was idle for longer is not used again: below every server's keep-alive limit.
IDLE_LIMIT = 1.0


class InProcess(ServiceClient):
    """No socket: the client of `gemstone_sync.testing`."""

    def send(self, verb, path, headers, body):
        return self.request(verb, path, body, headers)


class Wire:
    """A real socket, its connection kept for as long as the server says it is."""

    def __init__(self, name, port):
        self.name = name
        self.port = port
        self._kept = None
        self._kept_since = 0.0

    def send(self, verb, path, headers, body):
        if time.monotonic() - self._kept_since > IDLE_LIMIT:
            self.close()
        connection = self._kept or Connection(self.port)
        self._kept = None
        reply = connection.exchange(message(verb, path, headers, body))
        self._kept, self._kept_since = connection, time.monotonic()
        if reply.closes:
            self.close()
        return reply

    def close(self):
        if self._kept is not None:
            self._kept.socket.close()
            self._kept = None


@pytest.fixture(scope="session")
def in_process():
    return InProcess(SubjectService())


@pytest.fixture(scope="session")
def socket():
    with running_service(SubjectService) as service:
        transport = Wire("socket", service.port)
        yield transport
        transport.close()


@pytest.fixture(scope="session")
def gunicorn_program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gunicorn")
    options = ("--chdir", str(REPOSITORY), "--keep-alive", "30")
    with gunicorn("tests.conformance.subject:service", folder, *options) as program:
        program.wait_until_ready()
        yield program


@pytest.fixture(scope="session")
def gunicorn_transport(gunicorn_program):
    transport = Wire("gunicorn", gunicorn_program.port)
    yield transport
    transport.close()
