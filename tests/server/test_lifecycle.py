"""Starting and stopping services within this process; test_programs.py has those in their own."""

import json
import re
import socket

import gevent
import pytest
from gevent.event import Event

import gemstone_sync
from tests.support.http import (
    Connection,
    call,
    call_message,
    refuses_connections,
    result_of,
)
from tests.support.waiting import LIMIT, wait_until


class Local(gemstone_sync.MicroService):
    name = "local"
    port = 0

    def __init__(self):
        super().__init__()
        self.events = []
        self.holding = 0
        self.release = Event()

    def on_service_start(self):
        self.events.append("start")

    def on_service_stop(self):
        self.events.append("stop")

    @gemstone_sync.exposed_method()
    def add(self, a: int, b: int) -> int:
        return a + b

    @gemstone_sync.exposed_method()
    def hold(self):
        self.holding += 1
        assert self.release.wait(LIMIT)
        self.events.append("held")
        return "held"

    @gemstone_sync.exposed_method()
    def stop_yourself(self):
        self.stop()
        return "stopping"


@pytest.fixture
def local():
    service = Local()
    yield service
    service.release.set()
    service.stop()


def test_start_and_stop(local):
    local.start(block=False)
    port = local.port
    assert port > 0
    assert local.url == f"http://127.0.0.1:{port}/api"
    assert result_of(call(port, "add", 1, 2)) == 3

    local.stop()

    assert refuses_connections(port)
    assert local.events == ["start", "stop"]


def test_the_port_is_known_to_the_start_hook():
    class Knowing(Local):
        def on_service_start(self):
            self.events.append((self.port, self.url, self.accessible_at))

    service = Knowing()
    service.start(block=False)
    service.stop()

    url = f"http://127.0.0.1:{service.port}/api"
    assert service.events[0] == (service.port, url, url)


def test_stopping_twice_or_before_the_start_does_nothing(local):
    local.stop()
    local.start(block=False)
    local.stop()
    local.stop()

    assert local.events == ["start", "stop"]


def test_starting_twice_is_refused(local):
    local.start(block=False)
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="running"):
        local.start(block=False)

    assert result_of(call(local.port, "add", 1, 2)) == 3


def test_a_second_start_after_stop(local):
    for _ in range(3):
        local.start(block=False)
        assert result_of(call(local.port, "add", 1, 2)) == 3
        local.stop()
        assert refuses_connections(local.port)

    assert local.events == ["start", "stop"] * 3


def test_run_refuses_a_service_that_wants_workers(local):
    local.workers = 2
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="local wants 2 workers"):
        gemstone_sync.run(local)


def test_a_second_start_on_another_port(local):
    local.start(block=False)
    first = local.port
    with socket.socket() as held:  # so that the second cannot get the same port
        local.stop()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", first))
        local.port = 0
        local.start(block=False)

        assert local.port != first
        assert local.accessible_at == f"http://127.0.0.1:{local.port}/api"
        specs = result_of(call(local.port, "get_service_specs"))
        assert specs["port"] == local.port
        assert specs["accessible_at"] == local.accessible_at


def test_a_port_in_use_is_an_error_of_its_own(local, taken):
    local.port = taken
    with pytest.raises(gemstone_sync.ServiceStartError, match=f"127.0.0.1:{taken}.*in use"):
        local.start(block=False)
    assert local.events == []

    local.port = 0  # and may be mended
    local.start(block=False)
    assert result_of(call(local.port, "add", 1, 2)) == 3


def test_a_start_hook_that_fails():
    class Failing(Local):
        fails = True

        def on_service_start(self):
            self.events.append("start")
            if self.fails:
                raise RuntimeError("the database is away")

    service = Failing()
    with pytest.raises(RuntimeError, match="the database is away"):
        service.start(block=False)
    assert refuses_connections(service.port)
    assert service.events == ["start"]

    service.fails = False  # the database is back
    service.start(block=False)
    assert result_of(call(service.port, "add", 1, 2)) == 3
    service.stop()


def test_stop_waits_for_calls_and_then_calls_the_hooks(local):
    class Watch(gemstone_sync.BasePlugin):
        name = "watch"

        def on_service_start(self):
            local.events.append("plugin start")

        def on_service_stop(self):
            local.events.append("plugin stop")

    local.register_plugin(Watch())
    local.start(block=False)
    with Connection(local.port) as connection:
        connection.send(call_message("hold"))
        wait_until(lambda: local.holding, "the call")
        stop = gevent.spawn(local.stop)
        wait_until(lambda: refuses_connections(local.port), "the port to be closed")
        assert "stop" not in local.events

        local.release.set()
        assert result_of(connection.read_reply()) == "held"
        stop.get(timeout=LIMIT)

    assert local.events == ["plugin start", "start", "held", "stop", "plugin stop"]


def test_calls_that_take_longer_than_stop_timeout_are_cut_off(local, caplog):
    local.stop_timeout = 0.2
    local.start(block=False)
    with Connection(local.port) as connection:
        connection.send(call_message("hold"))
        wait_until(lambda: local.holding, "the call")

        local.stop()

        assert connection.is_ended()
    assert local.events == ["start", "stop"]
    assert "cut off" in caplog.text


def test_a_stop_hook_that_fails_is_logged(caplog):
    class Failing(Local):
        def on_service_stop(self):
            raise RuntimeError("a stop hook failed")

    service = Failing()
    service.start(block=False)
    service.stop()

    assert "a stop hook failed" in caplog.text
    assert refuses_connections(service.port)


def test_a_method_may_stop_its_service(local):
    local.start(block=False)

    reply = call(local.port, "stop_yourself")

    assert result_of(reply) == "stopping"
    wait_until(lambda: local.events == ["start", "stop"], "the stop hook")
    assert refuses_connections(local.port)


def test_several_services_in_this_process():
    services = [Local() for _ in range(5)]
    for service in services:
        service.start(block=False)
    ports = [service.port for service in services]

    assert len(set(ports)) == 5
    services[0].stop()
    assert refuses_connections(ports[0])
    assert [result_of(call(port, "add", port, 1)) for port in ports[1:]] == [
        port + 1 for port in ports[1:]
    ]
    for service in services[1:]:
        service.stop()
    assert all(service.events == ["start", "stop"] for service in services)


# Where others find it


@pytest.mark.parametrize(
    ("attributes", "pattern"),
    [
        ({}, r"http://127\.0\.0\.1:{port}/api"),
        ({"endpoint": "/rpc"}, r"http://127\.0\.0\.1:{port}/rpc"),
        ({"host": "localhost"}, r"http://localhost:{port}/api"),
        ({"host": "0.0.0.0"}, rf"http://{re.escape(socket.gethostname())}:{{port}}/api"),
        ({"accessible_at": "https://x.example/api"}, r"https://x\.example/api"),
    ],
)
def test_accessible_at(running_service, attributes, pattern):
    service = running_service(Local, **attributes)

    assert re.fullmatch(pattern.format(port=service.port), service.accessible_at)
    reply = call(service.port, "get_service_specs") if "endpoint" not in attributes else None
    if reply is not None:
        assert json.loads(reply.body)["result"]["accessible_at"] == service.accessible_at
