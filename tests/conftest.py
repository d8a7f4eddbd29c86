"""Fixtures for every test: services made of functions, and programs in a fresh interpreter."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import gemstone_sync
from gemstone_sync.testing import ServiceClient

#: Seconds for a program of the tests, on a machine that is busy.
PROGRAM_LIMIT = 30


def pytest_configure() -> None:
    """What starts tests in the background may ignore signals, and then so would their programs."""
    for number, default in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


@pytest.fixture
def make_service() -> Callable[..., gemstone_sync.MicroService]:
    """``make_service(f, g, port=1)``: a service that exposes the functions, with attributes."""

    def make(*methods: Callable[..., Any], **attributes: Any) -> gemstone_sync.MicroService:
        exposed = {m.__name__: gemstone_sync.exposed_method()(m) for m in methods}
        members = {"name": "test.service", **attributes, **exposed}
        return type("TestService", (gemstone_sync.MicroService,), members)()

    return make


@pytest.fixture
def make_client(make_service: Callable[..., Any]) -> Callable[..., ServiceClient]:
    """As ``make_service``, with an in-process client over it."""
    return lambda *methods, **attributes: ServiceClient(make_service(*methods, **attributes))


@pytest.fixture
def run_python(tmp_path: Any) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """``run_python(source, "--port", "1", NAME="value")``: run a program in a process of its own.

    Its environment has no ``GEMSTONE_MONKEY_PATCH`` unless given; other files for it belong into
    ``tmp_path``.
    """

    def run(source: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        program = tmp_path / "program.py"
        program.write_text(source)
        inherited = {k: v for k, v in os.environ.items() if k != "GEMSTONE_MONKEY_PATCH"}
        return subprocess.run(
            [sys.executable, str(program), *arguments],
            cwd=tmp_path,
            env={**inherited, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROGRAM_LIMIT,
        )

    return run
