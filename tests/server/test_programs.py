"""Starting and stopping a service as a program, in a process of its own."""

import signal
import socket

import pytest

from tests.support.http import call, refuses_connections, result_of
from tests.support.programs import program

PROGRAM = """
import gemstone_sync

class Said(gemstone_sync.MicroService):
    name = "said"
    port = 0

    def on_service_start(self):
        print(self.url, flush=True)

    def on_service_stop(self):
        print("goodbye", flush=True)

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b

if __name__ == "__main__":
    Said().start()
    print("after start", flush=True)
"""


# A program


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_start_blocks_until_a_signal(tmp_path, number):
    with program(PROGRAM, tmp_path) as running:
        port = running.wait_until_ready()
        assert result_of(call(port, "add", 1, 2)) == 3
        assert "after start" not in running.stdout

        running.send_signal(number)

        assert running.wait() == 0
        assert running.stdout.splitlines()[1:] == ["goodbye", "after start"]
        assert "Traceback" not in running.stderr
        assert refuses_connections(port)


def test_the_command_line_sets_the_port(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with program(PROGRAM, tmp_path, "--port", str(port)) as running:
        running.wait_until_ready()

        assert running.port == port
        assert running.terminate() == 0


def assert_one_line(text, *words):
    lines = text.splitlines()
    assert len(lines) == 1, text
    for word in words:
        assert word in lines[0]


def test_a_port_in_use_is_one_line(tmp_path, taken):
    with program(PROGRAM, tmp_path, "--port", str(taken)) as running:
        assert running.wait() == 1
        assert_one_line(running.stderr, f"127.0.0.1:{taken}", "in use")
        assert running.stdout == ""


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.1",  # nobody's address (RFC 5737)
        "a..b",
        "x" * 70,
        "not a host",
    ],
)
def test_a_bad_host_is_one_line(tmp_path, host):
    with program(PROGRAM, tmp_path, "--host", host) as running:
        assert running.wait() == 1
        assert_one_line(running.stderr, host)
        assert running.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["--port", "99999"], ["--port", "many"], ["--host", ""], ["--nonsense", "1"]]
)
def test_a_wrong_command_line_is_one_line(tmp_path, arguments):
    with program(PROGRAM, tmp_path, *arguments) as running:
        assert running.wait() == 2
        assert_one_line(running.stderr, arguments[0].lstrip("-"))


FAILING = PROGRAM.replace(
    "print(self.url, flush=True)", 'raise RuntimeError("the database is away")'
)


def test_a_start_hook_that_fails_ends_the_program(tmp_path):
    with program(FAILING, tmp_path) as running:
        assert running.wait() == 1
        assert "RuntimeError: the database is away" in running.stderr  # its own fault: a traceback
        assert "after start" not in running.stdout


SLOW_START = PROGRAM.replace(
    "print(self.url, flush=True)",
    """print(self.url, flush=True)
        import pathlib, time
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
        print("started", flush=True)""",
)


def test_sigterm_while_starting(tmp_path):
    """The stop hook never runs beside the start hook, and the program ends."""
    with program(SLOW_START, tmp_path) as running:
        running.wait_for_ports()
        running.send_signal(signal.SIGTERM)
        running.wait_until(lambda: refuses_connections(running.port), "the port to be closed")
        (tmp_path / "go").touch()

        assert running.wait() == 0
        assert running.stdout.splitlines()[1] == "started"
        assert "Traceback" not in running.stderr


# Several services in one process

SEVERAL = (
    PROGRAM.partition("if __name__")[0]
    + """
class Other(Said):
    name = "other"

    @gemstone_sync.exposed_method()
    def who(self):
        return self.name

if __name__ == "__main__":
    first, second = Said(), Other()
    PORT
    gemstone_sync.run(first, second)
    print("after run", flush=True)
"""
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_several_services(tmp_path, number):
    with program(SEVERAL.replace("PORT", ""), tmp_path) as running:
        first, second = running.wait_for_ports(2)
        running.wait_until_ready()
        assert result_of(call(first, "add", 1, 2)) == 3
        assert result_of(call(second, "who")) == "other"
        assert call(first, "who").json["error"]["code"] == -32601

        running.send_signal(number)

        assert running.wait() == 0
        assert running.stdout.splitlines()[2:] == ["goodbye", "goodbye", "after run"]


def test_run_with_a_port_in_use(tmp_path, taken):
    """The services that had started already are stopped."""
    with program(SEVERAL.replace("PORT", f"second.port = {taken}"), tmp_path) as running:
        assert running.wait() == 1
        assert "Traceback" not in running.stderr
        complaints = [line for line in running.stderr.splitlines() if "in use" in line]
        assert len(complaints) == 1
        assert f"127.0.0.1:{taken}" in complaints[0]
        assert running.stdout.splitlines()[1:] == ["goodbye"]


def test_run_with_a_start_hook_that_fails(tmp_path):
    source = SEVERAL.replace("PORT", "second.on_service_start = lambda: 1 / 0")
    with program(source, tmp_path) as running:
        assert running.wait() == 1
        assert "ZeroDivisionError" in running.stderr
        assert running.stdout.splitlines()[1:] == ["goodbye"]


def test_sigterm_while_the_first_of_several_starts(tmp_path):
    """No service is forgotten: the program ends."""
    source = SEVERAL.replace("PORT", "").replace(
        PROGRAM.partition("if __name__")[0], SLOW_START.partition("if __name__")[0]
    )
    with program(source, tmp_path) as running:
        running.wait_for_ports()
        running.send_signal(signal.SIGTERM)
        running.wait_until(lambda: refuses_connections(running.port), "the port to be closed")
        (tmp_path / "go").touch()

        assert running.wait() == 0
