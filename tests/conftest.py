"""How tests run beside each other, and fixtures for all of them."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest

import gemstone_sync
from gemstone_sync.testing import ServiceClient

from .support import overdue
from .support.rabbitmq import brokers_own_process, own_broker, shared_broker

__all__ = ["brokers_own_process", "own_broker", "shared_broker"]  # fixtures

# A machine that stands still for 0.2 s while an example runs is no fault of the test.
hypothesis.settings.register_profile("patient", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")

#: Seconds for a program of the tests, on a machine that is busy.
PROGRAM_LIMIT = 100


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--overdue", action="store_true", help=overdue.HELP)


def pytest_configure(config: pytest.Config) -> None:
    """Watch for tests that take too long, and take the signals that programs of tests are sent."""
    if not hasattr(config, "workerinput") and config.pluginmanager.hasplugin("cacheprovider"):
        config.pluginmanager.register(overdue.Overdue(config))
    # What starts tests in the background may ignore these, and then so would their programs.
    for number, default in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)
    # A busy machine, or the collector among ten thousand tests' objects, holds this process's hub.
    # No test looks for that here: those of it have programs of their own.
    logging.getLogger("gemstone_sync.blocked").addFilter(lambda record: False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what another slow test has left open be a warning here, and no failure.

    A socket in a cycle of references is closed by the collector, in whatever test that comes.
    """
    left = "default:Exception ignored in. <socket object:pytest.PytestUnraisableExceptionWarning"
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.filterwarnings(left))


# Parallel runs


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run files that were named in this process, and anything more in two processes a core.

    Tests wait more than they compute.
    """
    if config.option.overdue or any(".py" in word for word in config.args):
        return 0
    return 2 * len(os.sched_getaffinity(0))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[pytest.TestReport]:
    """Escape lone surrogates in captured logs: reports go from process to process in UTF-8."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


# Fixtures


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Put back what a command or service that runs in this process does to its loggers."""
    loggers = [logging.getLogger(name) for name in ("gemstone_sync", "gemstone_sync.event")]
    kept = [(logger, logger.level, logger.propagate, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, propagate, handlers in kept:
        logger.setLevel(level)
        logger.propagate, logger.handlers[:] = propagate, handlers


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
