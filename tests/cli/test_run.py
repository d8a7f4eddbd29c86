"""``gemstone run``: how a service serves and ends."""

import signal
import socket

import pytest

from tests.support.http import Connection, call_message, refuses_connections, result_of
from tests.support.programs import children_of, is_alive
from tests.support.waiting import gather

from .serving import serving
from .support import run_process

SERVICE = """
from gevent import monkey
was_patched = monkey.is_module_patched("socket")
import os, sys, time
import gemstone_sync

class Hello(gemstone_sync.MicroService):
    name = "hello"

    @gemstone_sync.exposed_method()
    def facts(self) -> dict:
        return {"patched": was_patched, "path": sys.path[0], "module": __name__}

    @gemstone_sync.exposed_method()
    def settings(self, names: list[str]) -> dict:
        return {name: getattr(self, name) for name in names}

    @gemstone_sync.exposed_method()
    def pid(self) -> int:
        return os.getpid()

    @gemstone_sync.exposed_method()
    def pause(self, seconds: float) -> str:
        time.sleep(seconds)
        return "done"

if __name__ == "__main__":
    raise SystemExit("run as the main program")
"""


@pytest.fixture
def project(tmp_path):
    """A folder with the service above."""
    (tmp_path / "service.py").write_text(SERVICE)
    return tmp_path


def test_ctrl_c_while_the_module_is_imported(tmp_path):
    (tmp_path / "slow.py").write_text("import time\nopen('here', 'w').close()\ntime.sleep(60)")
    with serving(tmp_path, "slow") as program:
        program.wait_until((tmp_path / "here").exists, "the import")
        program.send_signal(signal.SIGINT)

        assert program.wait() == 130
        assert program.stderr.strip() == ""


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_it_serves_with_the_options_given_until_a_signal_and_finishes_what_runs(project, number):
    words = ["--port", "random", "--max_hops", "3", "--debug", "--no-use_statistics"]
    words += ["--keep-alive-timeout", "1m", "--service_registry_urls", "http://127.0.0.1:9/api"]
    expected = {
        "max_hops": 3,
        "debug": True,
        "use_statistics": False,
        "keep_alive_timeout": 60.0,
        "service_registry_urls": ["http://127.0.0.1:9/api"],
    }
    with serving(project, "service:Hello", *words) as program:
        port = program.wait_for_start()
        facts = program.call("facts")
        assert program.call("settings", list(expected)) == expected
        with Connection(port) as connection:
            connection.send(call_message("pause", 0.5))
            # Answered after it was sent: then the other call, sent earlier, has begun.
            program.call("pid")
            program.send_signal(number)
            assert result_of(connection.read_reply()) == "done"

        assert program.wait() == 0
        assert program.stdout == ""
        assert "Traceback" not in program.stderr
        assert refuses_connections(port)
    # Patched before the module was imported, which is no main program.
    assert facts == {"patched": True, "path": str(project), "module": "service"}


def test_workers_serve_beside_each_other_and_end_together(project):
    with serving(project, "service", "--port=0", "--workers", "2") as program:
        port = program.wait_for_start()
        parent = program.process.pid
        program.wait_until(lambda: len(children_of(parent)) == 2, "two workers")
        workers = set(children_of(parent))

        def pid() -> int:
            with Connection(port) as connection:
                return int(result_of(connection.call("pid")))

        program.wait_until(lambda: set(gather([pid] * 20)) == workers, "an answer of each")
        assert program.terminate() == 0
        assert not any(map(is_alive, workers))


def test_an_address_in_use_is_one_line(project):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, stdout, stderr = run_process("run", "service", f"--port={port}", cwd=project)

    assert (code, stdout) == (1, "")
    assert stderr == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_a_service_without_configuration_runs_as_it_is(tmp_path):
    text = "    name = 'skips'\n    skip_configuration = True\n    port = 0\n"
    text = "import gemstone_sync\nclass Skips(gemstone_sync.MicroService):\n" + text
    (tmp_path / "skips.py").write_text(text)
    with serving(tmp_path, "skips", env={"GEMSTONE_ENDPOINT": "/other"}) as program:
        program.wait_for_start()
        assert program.call("get_service_specs")["name"] == "skips"
        assert program.terminate() == 0
