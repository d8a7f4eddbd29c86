"""The services under test, each started once, and their logs."""

import pytest

from gemstone_sync.testing import running_service

from .subject import SubjectService
from .transports import InProcess, Wire, gunicorn


@pytest.fixture(scope="session")
def in_process():
    return InProcess(SubjectService())


@pytest.fixture(scope="session")
def socket():
    with running_service(SubjectService) as service:
        transport = Wire("socket", ("127.0.0.1", service.port))
        yield transport
        transport.close()


@pytest.fixture(scope="session")
def gunicorn_log(tmp_path_factory):
    return tmp_path_factory.mktemp("gunicorn") / "gunicorn.log"


@pytest.fixture(scope="session")
def gunicorn_transport(gunicorn_log):
    with gunicorn("tests.conformance.subject:service", gunicorn_log) as address:
        transport = Wire("gunicorn", address)
        yield transport
        transport.close()
