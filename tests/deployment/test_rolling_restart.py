"""Instances restarted one after the other while they are called 200 times a second: none fails.

The template's own files run: gunicorn's settings, the systemd unit's variables, nginx's and
haproxy's configurations, the loop of the README.
"""

import contextlib
import os
import socket
import ssl
import sys
import time
from collections import Counter
from pathlib import Path

import gevent
import pytest

from gemstone_sync import MicroService, RemoteService
from gemstone_sync.testing import running_service
from tests.deployment.support import (
    NAME,
    Instances,
    haproxy_command,
    make_certificates,
    make_project,
    nginx_command,
    running,
    section_of,
)
from tests.support.http import Connection, exchange, is_ready, message
from tests.support.machine import free_port
from tests.support.programs import Program
from tests.support.waiting import wait_until

#: Four restarts, each of some 10 s, and the starts.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RATE = 200
CALLERS = 20
BALANCERS = {"nginx": nginx_command, "haproxy": haproxy_command}

#: What the README's loop calls: writes down what it is asked for, and waits until it is done.
SYSTEMCTL = """#!/bin/sh
echo "$*" > asked.new
mv asked.new asked
until [ -e done ]; do sleep 0.05; done
rm done
"""
SUDO = """#!/bin/sh
exec "$@"
"""


class Load:
    """Callers that go on until they are told to stop.

    :ivar outcomes: how many calls ended how.
    """

    def __init__(self, call) -> None:
        self._call = call
        self._ending = False
        self.outcomes = Counter()
        self._callers = [gevent.spawn(self._run, number) for number in range(CALLERS)]

    def _run(self, number):
        due = time.monotonic() + number / RATE
        while not self._ending:
            gevent.sleep(max(0.0, due - time.monotonic()))
            due += CALLERS / RATE
            try:
                outcome = self._call(number)
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}"
            self.outcomes[outcome] += 1

    def wait_for_more(self, count=RATE):
        before = self.outcomes.total()
        wait_until(lambda: self.outcomes.total() >= before + count, f"{count} more calls")

    def end(self):
        self._ending = True
        gevent.joinall(self._callers)
        return self.outcomes


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def restart_in_turn(project: Path, folder: Path, instances: Instances) -> None:
    """Run the README's loop, as it stands there but for the ports."""
    loop = section_of((project / "README.md").read_text(), "for port in 8001 8002")
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, text in {"systemctl": SYSTEMCTL, "sudo": SUDO}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    first, second = instances.ports
    loop = loop.replace("8001 8002", f"{first} {second}")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    shell = Program(["bash", "-euc", loop], folder, environment=environment)
    try:
        for port in instances.ports:
            asked = folder / "asked"
            shell.wait_until(asked.exists, "systemctl", 60.0)
            assert asked.read_text() == f"restart {NAME}@{port}\n"
            asked.unlink()
            instances.restart(port)
            (folder / "done").touch()
        assert shell.wait(60.0) == 0
    finally:
        shell.kill()


@pytest.mark.parametrize("balancer", BALANCERS)
def test_no_call_through_a_balancer_fails(project, certificates, tmp_path, stack, balancer):
    instances = Instances(project, stack)
    port = free_port()
    command = BALANCERS[balancer](project, tmp_path, certificates, port, instances.ports)
    program = stack.enter_context(running(command, tmp_path))
    authority = str(certificates / "fullchain.pem")
    url = f"https://localhost:{port}/api"
    client = stack.enter_context(RemoteService(url, verify=authority, pool_size=CALLERS))

    def call(number):
        if number % 2:
            return client.methods.say_hello(name="world")
        return client.methods.mean([1, 2, 6])

    def is_there():
        with contextlib.suppress(Exception):
            return call(1)

    program.wait_until(is_there, "the first answer")
    load = Load(call)
    load.wait_for_more()
    for _ in range(2):
        restart_in_turn(project, tmp_path, instances)
    load.wait_for_more()
    outcomes = load.end()
    assert set(outcomes) == {"hello world", 3.0}, outcomes
    assert all(is_ready(each) for each in instances.ports)


def test_no_call_fails_of_a_client_that_found_them_in_a_registry(project, tmp_path, stack):
    port = free_port()
    words = ["-m", "gemstone_sync.registry", "--host", "127.0.0.1", "--port", str(port)]
    registry = Program([sys.executable, *words], tmp_path)
    registry.port = port
    stack.callback(registry.kill)
    registry.wait_until_ready()
    registries = [f"http://127.0.0.1:{port}/api"]
    variables = {
        "GEMSTONE_SERVICE_REGISTRY_URLS": registries[0],
        "GEMSTONE_ACCESSIBLE_AT": "http://127.0.0.1:%i/api",
    }
    instances = Instances(project, stack, variables)

    class Caller(MicroService):
        name = "caller"
        skip_configuration = True
        service_registry_urls = registries

    caller = stack.enter_context(running_service(Caller))
    wait_until(lambda: len(entries_of(port)) == 2, "both in the registry")
    client = caller.get_service(NAME)
    load = Load(lambda number: client.methods.say_hello(name="world"))
    load.wait_for_more()
    for _ in range(2):
        restart_in_turn(project, tmp_path, instances)
    load.wait_for_more()
    outcomes = load.end()
    assert set(outcomes) == {"hello world"}, outcomes


def entries_of(port):
    with RemoteService(f"http://127.0.0.1:{port}/api") as registry:
        return registry.methods.locate_service(NAME)


@pytest.mark.parametrize("balancer", BALANCERS)
def test_a_balancer_says_who_calls_and_keeps_the_metrics_to_itself(
    project, certificates, tmp_path, stack, balancer
):
    instances = Instances(project, stack, {"GEMSTONE_ACCESS_LOG": "true"})
    port = free_port()
    command = BALANCERS[balancer](project, tmp_path, certificates, port, instances.ports)
    program = stack.enter_context(running(command, tmp_path))
    context = ssl.create_default_context(cafile=str(certificates / "fullchain.pem"))

    def ask(path):
        with contextlib.suppress(OSError, AssertionError), Connection(port) as plain:
            plain.socket.close()
            own = socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0))
            plain.socket = context.wrap_socket(own, server_hostname="localhost")
            return plain.exchange(message("GET", path, {"X-Forwarded-For": "192.0.2.1"})).status

    program.wait_until(lambda: ask("/") == 200, "a page")
    for path in (
        "/metrics",
        "/metrics?x",
        "//metrics",
        "/%6Detrics",
        "/%2Fmetrics",
        "//%6detric%73",
    ):
        assert (path, ask(path)) == (path, 404)
    assert all(exchange(each, message("GET", "/metrics")).status == 200 for each in instances.ports)

    def log():
        return "".join(each.stderr for each in instances.programs.values())

    # A line is written after the answer.
    wait_until(lambda: "] 127.0.0.2 - - [" in log(), "the line of the page")
    assert "192.0.2.1" not in log()  # what a client says of itself is not believed
