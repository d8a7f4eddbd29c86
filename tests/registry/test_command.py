"""``python -m gemstone_sync.registry``: its options, its end, and what it tells of the token."""

import signal
import sys

import pytest

from gemstone_sync import AccessDenied, HeaderToken, RemoteService
from gemstone_sync.registry.command import main
from tests.support.http import refuses_connections

A = "http://a:1/api"
VARIABLE = "GEMSTONE_REGISTRY_TOKEN"


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """``run("--port", "x")``: the exit code, and what one that ends by itself has written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["registry"])

    def run_main(*arguments):
        code = 0
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return run_main


def assert_one_line(ended, code, named):
    """The command ended with this code, and a line with that in it; the token is not shown."""
    assert ended[:2] == (code, "")
    (line,) = ended[2].splitlines()
    assert named in line
    assert "sesame" not in line


def test_an_open_one_runs_until_sigterm(start_program):
    program = start_program()
    with RemoteService(f"http://127.0.0.1:{program.port}/api") as client:
        client.methods.ping("users", A)
        assert client.methods.locate_service("users") == [A]
        specs = client.methods.get_service_specs()
        assert (specs["name"], specs["host"]) == ("registry", "127.0.0.1")

    assert program.terminate() == 0
    assert program.stdout == ""
    assert "Traceback" not in program.stderr
    assert program.stderr.count("has no token: anyone who reaches it can register") == 1
    assert refuses_connections(program.port)


def test_one_with_a_token_runs_until_ctrl_c(start_program):
    program = start_program(**{VARIABLE: "secret-1"})
    url = f"http://127.0.0.1:{program.port}/api"
    with RemoteService(url) as anyone, pytest.raises(AccessDenied):
        anyone.methods.ping("users", A)
    with RemoteService(url, authentication_method=HeaderToken("secret-1")) as service:
        service.methods.ping("users", A)
        assert "secret-1" not in str(service.methods.get_service_specs())
    program.send_signal(signal.SIGINT)

    assert program.wait() == 0
    assert "has no token" not in program.stderr
    assert "Traceback" not in program.stderr
    assert "secret-1" not in program.stderr + program.stdout


def test_its_help_calls_it_as_it_was_called(run):
    """All else of options and their errors is tested as ``gemstone registry``."""
    code, out, err = run("--help")

    assert (code, err) == (0, "")
    assert out.startswith("usage: python -m gemstone_sync.registry [OPTIONS]\n\n")


@pytest.mark.parametrize("token", ["", "sesame with spaces"])
def test_a_wrong_token_in_the_environment_is_one_line(run, monkeypatch, token):
    monkeypatch.setenv(VARIABLE, token)

    assert_one_line(run("--port", "0"), 2, VARIABLE)


def test_a_state_file_that_cannot_be_used_is_one_line(run):
    ended = run("--port", "0", "--state", "absent/state.db")

    assert_one_line(ended, 1, "state.db cannot be used: there is no folder")


IN_A_PROGRAM_OF_ONES_OWN = """
from gemstone_sync.registry import ServiceRegistry
import socket

assert socket.socket.__module__.startswith("gevent"), "the import did not patch"

class Registry(ServiceRegistry):
    def on_service_start(self):
        super().on_service_start()
        print(self.token, self.state, self.ttl)
        raise SystemExit(7)

if __name__ == "__main__":
    Registry().start()
"""


def test_a_program_of_ones_own_has_the_same_options(run_python):
    options = ["--port", "0", "--token", "sesame", "--state", "state.db"]
    done = run_python(IN_A_PROGRAM_OF_ONES_OWN, *options)

    assert done.stdout.split() == ["sesame", "state.db", "None"], done.stderr
    assert done.returncode == 7


SEVERAL_WORKERS = """
from gemstone_sync.registry import ServiceRegistry

if __name__ == "__main__":
    ServiceRegistry().start(workers=2)
"""


def test_several_workers_are_refused(run_python):
    done = run_python(SEVERAL_WORKERS, "--port", "0")

    assert done.returncode == 2
    assert "one process" in done.stderr
    assert "Traceback" not in done.stderr
