"""Fixtures for the tests of the endpoint and of starting."""

import socket

import pytest

from tests.support.http import Connection

from .echo import Echo, flask_requests


@pytest.fixture(params=["by itself", "through Flask"])
def start(request, running_service):
    """Start the service with attributes: it answers calls by itself, or through Flask, as it does
    when the user has a function that wants to see every request. Clients see no difference."""
    paths = []

    def start(**attributes):
        service = Echo()
        for name, value in attributes.items():
            setattr(service, name, value)
        if request.param == "through Flask":
            service.app.after_request(lambda response: response)
        else:
            paths.append(flask_requests(service.app))
        return running_service(service)

    yield start
    assert not any("/api" in seen for seen in paths)


@pytest.fixture
def service(start):
    return start()


@pytest.fixture
def connection(service):
    with Connection(service.port) as connection:
        yield connection


@pytest.fixture
def taken():
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]
