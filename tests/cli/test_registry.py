"""``gemstone registry``: the registry's own options, under the command's name."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gemstone_sync import MicroService, RemoteService
from gemstone_sync.testing import running_service
from tests.helpers import Program, refuses_connections, wait_until

from .support import GEMSTONE, line_of, run

A = "http://a:1/api"


class Users(MicroService):
    name = "users"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """``start("--token", "x")``: ``gemstone registry`` on a free port, once it answers."""
    started = []

    def start_one(*words: str, **environment: str) -> Program:
        command = [str(GEMSTONE), "registry", "--port", "0", *words]
        program = Program(command, tmp_path, environment=environment)
        started.append(program)
        address = program.wait_until(
            lambda: re.search(r"listens on http://127\.0\.0\.1:(\d+)/api", program.stderr),
            "its address in the log",
        )
        program.port = int(address[1])
        return program

    yield start_one
    for program in started:
        program.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_until_a_signal(start: Callable[..., Program], number: int) -> None:
    registry = start()
    url = f"http://127.0.0.1:{registry.port}/api"
    with running_service(Users, service_registry_urls=[url]) as users:
        listed = wait_until(lambda: run("list", "--registry", url).stdout, "the service's ping")
    registry.send_signal(number)

    assert users.url in listed
    assert registry.wait() == 0
    assert "Traceback" not in registry.stderr
    assert refuses_connections(registry.port)


def test_a_token_and_a_state_file(start: Callable[..., Program], tmp_path: Path) -> None:
    words = ("--token", "sesame", "--state", "state.db")
    registry = start(*words)
    with RemoteService(f"http://127.0.0.1:{registry.port}/api") as client:
        assert client.call_method("ping", ["users", A]).error is not None
        assert client.methods.locate_service("users") == []
    assert registry.terminate() == 0

    assert "has no token" not in registry.stderr
    assert (tmp_path / "state.db").exists()


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_the_registrys(word: str) -> None:
    done = run("registry", word)

    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: gemstone registry ")
    for option in ("--host", "--port", "--token", "--state"):
        assert option in done.stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--port", "http"], "--port"),
        (["--port"], "--port"),
        (["--prot", "1"], "unknown option --prot; did you mean --port?"),
        (["--token", "sesame with spaces"], "--token"),
        (["state.db"], "state.db"),
    ],
)
def test_a_wrong_command_line_is_one_line(words: list[str], named: str) -> None:
    line = line_of(run("registry", *words), 2)

    assert line.startswith("gemstone registry: ")
    assert named in line
    assert "sesame" not in line


def test_an_address_in_use_is_one_line(start: Callable[..., Program]) -> None:
    assert "in use" in line_of(run("registry", "--port", str(start().port)), 1)
