"""Starting and stopping services as a program, in a process of its own."""

import signal

import pytest

from tests.support.http import call, refuses_connections, result_of
from tests.support.programs import program

SAID = """
import pathlib, time
import gemstone_sync

class Said(gemstone_sync.MicroService):
    name = "said"
    port = 0
    skip_configuration = True

    def on_service_start(self):
        print(self.url, flush=True)

    def on_service_stop(self):
        print("goodbye", flush=True)

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b

class Other(Said):
    name = "other"

    @gemstone_sync.exposed_method()
    def who(self):
        return self.name

class Slow(Said):
    def on_service_start(self):
        super().on_service_start()
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
        print("started", flush=True)

"""
START = SAID + "Said().start()\nprint('after start', flush=True)\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_start_blocks_until_a_signal(tmp_path, number):
    with program(START, tmp_path) as running:
        port = running.wait_until_ready()
        assert result_of(call(port, "add", 1, 2)) == 3
        assert "after start" not in running.stdout

        running.send_signal(number)

        assert running.wait() == 0
        assert running.stdout.splitlines()[1:] == ["goodbye", "after start"]
        assert "Traceback" not in running.stderr
        assert refuses_connections(port)


def test_run_several_services(tmp_path):
    source = SAID + "gemstone_sync.run(Said(), Other())\nprint('after run', flush=True)\n"
    with program(source, tmp_path) as running:
        first, second = running.wait_for_ports(2)
        running.wait_until_ready()
        assert result_of(call(first, "add", 1, 2)) == 3
        assert result_of(call(second, "who")) == "other"
        assert call(first, "who").json["error"]["code"] == -32601

        assert running.terminate() == 0
        assert running.stdout.splitlines()[2:] == ["goodbye", "goodbye", "after run"]


def test_a_port_in_use_is_one_line(tmp_path, taken):
    with program(SAID + f"Said.port = {taken}\nSaid().start()", tmp_path) as running:
        assert running.wait() == 1
        assert running.stdout == ""
        (line,) = running.stderr.splitlines()
        assert "in use" in line
        assert f"127.0.0.1:{taken}" in line


def test_sigterm_while_the_first_service_starts(tmp_path):
    """The stop hook never runs beside the start hook, no service is forgotten, and it ends."""
    with program(SAID + "gemstone_sync.run(Slow(), Said())", tmp_path) as running:
        running.wait_for_ports()
        running.send_signal(signal.SIGTERM)
        running.wait_until(lambda: refuses_connections(running.port), "the port to be closed")
        (tmp_path / "go").touch()

        assert running.wait() == 0
        assert running.stdout.splitlines()[1] == "started"
        assert "Traceback" not in running.stderr
