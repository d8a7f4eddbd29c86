"""Registries that run, in this process and in processes of their own."""

import contextlib
import re
import sys

import pytest

from gemstone_sync import RemoteService
from gemstone_sync.registry import ServiceRegistry
from gemstone_sync.testing import running_service
from tests.support.programs import Program


@pytest.fixture
def run_registry():
    """``run_registry(token="x")``: a registry on a socket, and a client of it without a token."""
    with contextlib.ExitStack() as stack:

        def run(**attributes):
            registry = stack.enter_context(running_service(ServiceRegistry(), **attributes))
            return registry, stack.enter_context(RemoteService(registry.url))

        yield run


@pytest.fixture
def start_program(tmp_path):
    """``start_program("--token", "x")``: ``python -m gemstone_sync.registry``, once it answers.

    With ``code``, a program that does the same.
    """
    started = []

    def start(*arguments, code=None, **environment):
        source = ["-m", "gemstone_sync.registry"] if code is None else ["-c", code]
        command = [sys.executable, *source, "--port", "0", *arguments]
        program = Program(command, tmp_path, environment=environment)
        started.append(program)
        address = program.wait_until(
            lambda: re.search(r"listens on http://127\.0\.0\.1:(\d+)/api", program.stderr),
            "its address in the log",
        )
        program.port = int(address[1])
        return program

    yield start
    for program in started:
        program.kill()
