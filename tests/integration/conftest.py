"""Fixtures: a service with several worker processes."""

import contextlib

import pytest

from tests.support.programs import program

from .workers import SERVICE, Service


@pytest.fixture
def run_workers(tmp_path):
    """Run the service with attributes; nothing is waited for."""
    with contextlib.ExitStack() as stack:

        def run(**attributes):
            words = [f"{name}={to_json(value)}" for name, value in attributes.items()]
            started = stack.enter_context(program(SERVICE, tmp_path, str(tmp_path), *words))
            return Service(started, tmp_path)

        yield run


def to_json(value):
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.fixture
def start_workers(run_workers):
    """Run the service with attributes, and wait until all its workers have started."""

    def start(workers=2, **attributes):
        service = run_workers(workers=workers, **attributes)
        service.port = service.program.wait_for_ports(workers)[-1]
        service.wait_for_notes("started", workers)
        return service

    return start
