"""The command in a terminal: colours, the progress bar, Ctrl-C."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync import MicroService, RemoteService, exposed_method
from gemstone_sync.testing import running_service
from tests.cli.support import run
from tests.cli.terminal import CTRL_C, Terminal
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

VALUE = {"name": "é", "count": 3, "ok": True, "list": [None, 1.5]}

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
def service() -> Iterator[Echo]:
    with running_service(Echo, stop_timeout=0) as running:
        assert isinstance(running, Echo)
        yield running


def has_colours(text: str) -> bool:
    """SGR sequences: colours and their end."""
    return re.search(r"\x1b\[[\d;]*m", text) is not None


# Colours


def call(service: MicroService, after: str = "") -> tuple[str, ...]:
    command = f"gemstone call_raw {service.url} echo 'value:={json.dumps(VALUE)}'{after}"
    return ("bash", "-c", command)


def test_a_result_is_pretty_and_coloured_on_a_terminal(service: MicroService) -> None:
    with Terminal(*call(service)) as terminal:
        assert terminal.wait() == 0, terminal.text

        assert has_colours(terminal.raw)
        shown = terminal.text.partition("[!] Result:")[2]
        assert json.loads(shown) == VALUE
        assert '\n  "count": 3,\n' in shown


def test_a_result_in_a_pipe_is_plain(service: MicroService) -> None:
    with Terminal(*call(service, " | cat")) as terminal:
        assert terminal.wait() == 0, terminal.text

        assert not has_colours(terminal.raw)
        assert '{"name":"é","count":3,"ok":true,"list":[null,1.5]}' in terminal.text


def test_json_is_plain_on_a_terminal_too(service: MicroService) -> None:
    with Terminal(*call(service, " --json")) as terminal:
        assert terminal.wait() == 0, terminal.text

        assert not has_colours(terminal.raw)
        assert terminal.text == '{"name":"é","count":3,"ok":true,"list":[null,1.5]}\n'


@pytest.mark.parametrize(("value", "coloured"), [("1", False), ("", True)])
def test_no_color_is_respected(service: MicroService, value: str, coloured: bool) -> None:
    """https://no-color.org: whatever it holds, unless it is empty."""
    with Terminal(*call(service), env={"NO_COLOR": value}) as terminal:
        assert terminal.wait() == 0, terminal.text

        assert has_colours(terminal.raw) is coloured
        assert '\n  "count": 3,\n' in terminal.text


# The progress bar


def bench(service: MicroService, *words: str) -> tuple[str, ...]:
    return ("gemstone", "bench", service.url, "echo", "value=a", "--duration", "0.4", *words)


def test_bench_has_a_progress_bar_on_a_terminal(service: MicroService) -> None:
    with Terminal(*bench(service, "--warmup", "0.2")) as terminal:
        terminal.expect(r"warm-up +\[#*-*\]")
        terminal.expect(r"calls +\[#*-*\]")
        terminal.expect(r"\[#{36}\] +100%")
        terminal.expect(r"^succeeded +[\d,]+ ")
        assert terminal.wait() == 0


def test_bench_has_no_progress_bar_in_a_pipe(service: MicroService) -> None:
    words = " ".join(bench(service, "--warmup", "0.1"))
    with Terminal("bash", "-c", f"{words} 2>&1 | cat") as terminal:
        assert terminal.wait() == 0

        assert "succeeded" in terminal.text
        assert "warm-up" not in terminal.text
        assert "\x1b" not in terminal.raw


@pytest.mark.parametrize("columns", [50, 90])
def test_the_histogram_fits_the_terminal(service: MicroService, columns: int) -> None:
    with Terminal(*bench(service, "--warmup", "0"), columns=columns) as terminal:
        assert terminal.wait() == 0

        bars = [line for line in terminal.text.splitlines() if "█" in line]
        assert columns - 2 <= max(map(len, bars)) < columns


# Ctrl-C


def assert_ended_by_ctrl_c(terminal: Terminal, code: int) -> None:
    terminal.send(CTRL_C)
    assert terminal.wait() == code, terminal.text
    for word in ("Traceback", "KeyboardInterrupt", "Exception", "Aborted"):
        assert word not in terminal.text


def test_ctrl_c_ends_a_service(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    with Terminal("gemstone", "run", "service:Hello", "--port", "0", cwd=tmp_path) as terminal:
        url = terminal.expect(r"http://127\.0\.0\.1:\d+/api")[0]
        with RemoteService(url) as client:
            assert client.methods.say_hello("you") == "hello you"

        assert_ended_by_ctrl_c(terminal, 0)


def test_ctrl_c_ends_listening(tmp_path: Path) -> None:
    broker = f"sqlite:///{tmp_path}/events.db"
    with Terminal("gemstone", "listen", "--transport", broker) as terminal:
        terminal.expect("listening on ")
        assert run("emit", "said_hello", "name=you", "--transport", broker).code == 0
        terminal.expect("you")

        assert_ended_by_ctrl_c(terminal, 0)


def test_ctrl_c_ends_a_bench_with_what_was_measured(service: Echo) -> None:
    words = ("gemstone", "bench", service.url, "echo", "value=a", "--warmup", "0")
    with Terminal(*words, "--duration", "1h") as terminal:
        terminal.expect(r"calls +\[")
        wait_until(lambda: service.calls > 100, "calls")

        assert_ended_by_ctrl_c(terminal, 0)

        assert re.search(r"^succeeded +[1-9]", terminal.text, re.M)
        assert re.search("^note: .*stopped early", terminal.text, re.M)


@pytest.mark.parametrize("command", ["call_raw", "bench", "describe"])
def test_ctrl_c_ends_a_call_that_nobody_answers(command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        url = f"http://127.0.0.1:{black_hole.getsockname()[1]}/api"
        with Terminal("gemstone", command, url, "nothing", "--timeout", "60") as terminal:
            connection, _ = black_hole.accept()
            with connection:
                assert connection.recv(1) == b"P", "the call has come"

                assert_ended_by_ctrl_c(terminal, 130)


def test_ctrl_c_ends_a_registry() -> None:
    with Terminal("gemstone", "registry", "--port", "0") as terminal:
        terminal.expect(r"http://127\.0\.0\.1:\d+/api")

        assert_ended_by_ctrl_c(terminal, 0)
