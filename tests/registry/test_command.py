"""``python -m gemstone_sync.registry``: its options, its end, and what it tells of the token."""

import os
import signal
import subprocess
import sys

import pytest

from gemstone_sync import AccessDenied, HeaderToken, RemoteService
from tests.support.http import refuses_connections

A = "http://a:1/api"
VARIABLE = "GEMSTONE_REGISTRY_TOKEN"


def run(*arguments, **environment):
    """Run one that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "gemstone_sync.registry", *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_until_a_signal(start_program, number):
    program = start_program()
    with RemoteService(f"http://127.0.0.1:{program.port}/api") as client:
        client.methods.ping("users", A)
        assert client.methods.locate_service("users") == [A]
        specs = client.methods.get_service_specs()
        assert (specs["name"], specs["host"]) == ("registry", "127.0.0.1")

    program.send_signal(number)

    assert program.wait() == 0
    assert program.stdout == ""
    assert "Traceback" not in program.stderr
    assert refuses_connections(program.port)


def test_it_says_once_that_it_is_open(start_program):
    program = start_program()
    assert program.terminate() == 0

    assert program.stderr.count("has no token") == 1


def assert_that_the_token_counts(program, token):
    url = f"http://127.0.0.1:{program.port}/api"
    with RemoteService(url) as anyone, pytest.raises(AccessDenied):
        anyone.methods.ping("users", A)
    with RemoteService(url, authentication_method=HeaderToken(token)) as service:
        service.methods.ping("users", A)
        assert token not in str(service.methods.get_service_specs())
    assert program.terminate() == 0
    assert "has no token" not in program.stderr
    assert token not in program.stderr + program.stdout


def test_the_token_from_the_environment(start_program):
    assert_that_the_token_counts(start_program(**{VARIABLE: "secret-1"}), "secret-1")


def test_the_token_of_the_command_line_goes_first(start_program):
    program = start_program("--token", "secret-2", **{VARIABLE: "secret-1"})
    assert_that_the_token_counts(program, "secret-2")


def test_none_leaves_it_open_whatever_the_environment_says(start_program):
    program = start_program("--token", "none", **{VARIABLE: "secret-1"})
    with RemoteService(f"http://127.0.0.1:{program.port}/api") as anyone:
        anyone.methods.ping("users", A)
    assert program.terminate() == 0

    assert "has no token" in program.stderr


def test_help_names_every_option():
    done = run("--help")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m gemstone_sync.registry [OPTIONS]\n\n")
    for word in ("--host", "--port", "8090", "--token", "--state", VARIABLE, "127.0.0.1"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--port", "http"], "--port"),
        (["--port", "70000"], "--port"),
        (["--port", "-1"], "--port"),
        (["--port"], "--port"),
        (["--host", ""], "--host"),
        (["--state", ""], "--state"),
        (["--token", ""], "--token"),
        (["--tokn", "sesame"], "unknown option --tokn; did you mean --token?"),
        (["--tokn=sesame"], "unknown option --tokn; did you mean --token?"),
        (["--token", "sesame with spaces"], "--token"),
        (["--no-such-option"], "--no-such-option"),
        (["state.db"], "state.db"),
        (["--workers", "2"], "--workers: a registry is one process"),
        (["--port", "0", "--outbox", "outbox.db"], "outbox is set: it needs event_transports"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, named):
    done = run(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert named in line
    assert "sesame" not in line


@pytest.mark.parametrize("token", ["", "sesame with spaces"])
def test_a_wrong_token_in_the_environment_is_one_line(token):
    done = run("--port", "0", **{VARIABLE: token})

    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert VARIABLE in line
    assert "sesame" not in line


def test_an_address_in_use_is_one_line(start_program):
    done = run("--port", str(start_program().port))

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "in use" in line


def test_a_state_file_that_cannot_be_used_is_one_line(tmp_path):
    done = run("--port", "0", "--state", str(tmp_path / "absent" / "state.db"))

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "state.db cannot be used: there is no folder" in line


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


def test_a_program_of_ones_own_has_the_same_options(run_python, tmp_path):
    options = ["--port", "0", "--token", "sesame", "--state", "state.db"]
    done = run_python(IN_A_PROGRAM_OF_ONES_OWN, *options)

    assert done.stdout.split() == ["sesame", "state.db", "None"], done.stderr
    assert done.returncode == 7


def test_a_wrong_token_for_a_program_of_ones_own_is_not_shown(run_python):
    done = run_python(IN_A_PROGRAM_OF_ONES_OWN, "--token", "sesame with spaces")

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "--token" in line
    assert "sesame" not in line
