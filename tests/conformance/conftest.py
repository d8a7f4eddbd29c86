"""The services under test, each started once."""

import pytest

from gemstone_sync.testing import running_service
from tests.support.programs import REPOSITORY, gunicorn

from .subject import SubjectService
from .transports import InProcess, Wire


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
