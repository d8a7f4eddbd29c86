"""The command in a terminal: colours, the progress bar, Ctrl-C."""

import re
import socket
from typing import Any

import pytest

from gemstone_sync import MicroService, RemoteService, exposed_method
from gemstone_sync.testing import running_service
from tests.cli.terminal import CTRL_C, Terminal
from tests.support.waiting import wait_until

SERVICE = """
from gemstone_sync import MicroService, exposed_method

class Hello(MicroService):
    name = "hello"

    @exposed_method()
    def say_hello(self, name: str) -> str:
        return f"hello {name}"
"""


class Echo(MicroService):
    name = "echo"
    calls = 0

    def before_method_call(self, request: Any) -> None:
        self.calls += 1

    @exposed_method()
    def echo(self, value: Any) -> Any:
        return value


@pytest.fixture
def service():
    with running_service(Echo, stop_timeout=0) as running:
        yield running


def test_a_result_is_for_people_on_a_terminal_and_for_programs_in_a_pipe(service):
    """What becomes of it in each case is tested beside the command."""
    command = f"gemstone call_raw {service.url} echo value=é"
    with Terminal("bash", "-c", f"{command}; {command} | cat") as terminal:
        assert terminal.wait() == 0, terminal.text

    assert "Result:\r\n\r\n\x1b[32m" in terminal.raw
    assert terminal.raw.endswith('Result:\r\n\r\n"é"\r\n')


# bench

BENCH = ("echo", "value=a", "--duration", "0.4", "--warmup", "0.2")


@pytest.mark.slow  # two runs of a while, of two seconds and more in all
@pytest.mark.parametrize("columns", [50, 90])
def test_bench_has_a_progress_bar_and_a_histogram_that_fit(service, columns):
    with Terminal("gemstone", "bench", service.url, *BENCH, columns=columns) as terminal:
        terminal.expect(r"warm-up +\[#*-*\]")
        terminal.expect(r"calls +\[#*-*\]")
        terminal.expect(r"\[#+\] +100%")
        terminal.expect(r"^succeeded +[\d,]+ ")
        assert terminal.wait() == 0

    bars = [line for line in terminal.text.splitlines() if " ms - " in line]
    assert columns - 2 <= max(map(len, bars)) < columns


# Ctrl-C


def assert_ended_by_ctrl_c(terminal: Terminal, code: int) -> None:
    terminal.send(CTRL_C)
    assert terminal.wait() == code, terminal.text
    for word in ("Traceback", "KeyboardInterrupt", "Exception", "Aborted"):
        assert word not in terminal.text


@pytest.mark.slow  # a terminal, and a second or two to start
def test_ctrl_c_ends_a_service(tmp_path):
    (tmp_path / "service.py").write_text(SERVICE)
    with Terminal("gemstone", "run", "service:Hello", "--port", "0", cwd=tmp_path) as terminal:
        url = terminal.expect(r"http://127\.0\.0\.1:\d+/api")[0]
        with RemoteService(url) as client:
            assert client.methods.say_hello("you") == "hello you"

        assert_ended_by_ctrl_c(terminal, 0)


@pytest.mark.slow  # a terminal, and a second or two to start
def test_ctrl_c_ends_a_bench_with_what_was_measured(service):
    words = ("gemstone", "bench", service.url, "echo", "value=a", "--warmup", "0")
    with Terminal(*words, "--duration", "1h") as terminal:
        terminal.expect(r"calls +\[")
        wait_until(lambda: service.calls > 100, "calls")

        assert_ended_by_ctrl_c(terminal, 0)

        assert re.search(r"^succeeded +[1-9]", terminal.text, re.M)
        assert re.search("^note: .*stopped early", terminal.text, re.M)


@pytest.mark.parametrize(
    "command",
    ["call_raw", *(pytest.param(c, marks=pytest.mark.slow) for c in ("bench", "describe"))],
)
def test_ctrl_c_ends_a_call_that_nobody_answers(command):
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        url = f"http://127.0.0.1:{black_hole.getsockname()[1]}/api"
        with Terminal("gemstone", command, url, "nothing", "--timeout", "60") as terminal:
            connection, _ = black_hole.accept()
            with connection:
                assert connection.recv(1) == b"P", "the call has come"

                assert_ended_by_ctrl_c(terminal, 130)
