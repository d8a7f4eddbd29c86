"""Starting and stopping services within this process; test_programs.py has those in their own."""

import re
import socket

import gevent
import pytest

import gemstone_sync
from tests.support.http import Connection, call, call_message, refuses_connections, result_of
from tests.support.waiting import LIMIT, wait_until

from .echo import Echo


@pytest.fixture
def echo():
    service = Echo()
    yield service
    service.release.set()
    service.stop()


def assert_serves(service):
    assert result_of(call(service.port, "echo", service.port)) == service.port


def test_start_and_stop_again_and_again(echo):
    """Stopping twice or before the start does nothing."""
    echo.stop()
    for _ in range(3):
        echo.start(block=False)
        assert echo.url == f"http://127.0.0.1:{echo.port}/api"
        assert_serves(echo)
        for _ in range(2):
            echo.stop()
        assert refuses_connections(echo.port)

    assert echo.events == ["start", "stop"] * 3


def test_starting_twice_is_refused(echo):
    echo.start(block=False)
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="running"):
        echo.start(block=False)

    assert_serves(echo)


def test_run_refuses_a_service_that_wants_workers(echo):
    echo.workers = 2
    with pytest.raises(gemstone_sync.ServiceConfigurationError, match="echo wants 2 workers"):
        gemstone_sync.run(echo)


def test_a_second_start_on_another_port(echo):
    echo.start(block=False)
    first = echo.port
    with socket.socket() as held:  # so that the second cannot get the same port
        echo.stop()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", first))
        echo.port = 0
        echo.start(block=False)

        assert echo.port != first
        assert echo.accessible_at == f"http://127.0.0.1:{echo.port}/api"
        specs = result_of(call(echo.port, "get_service_specs"))
        assert (specs["port"], specs["accessible_at"]) == (echo.port, echo.accessible_at)


@pytest.mark.parametrize(
    "host",
    ["192.0.2.1", "a..b", "x" * 70, "not a host", "127.0.0.1"],  # the first is nobody's: RFC 5737
)
def test_an_address_that_cannot_be_bound_is_an_error_of_one_line_and_may_be_mended(
    echo, taken, host
):
    echo.host, echo.port = host, taken
    reason = f"127.0.0.1:{taken}.*in use" if host == "127.0.0.1" else host
    with pytest.raises(gemstone_sync.ServiceStartError, match=f"^.*{reason}.*$") as caught:
        echo.start(block=False)
    assert "\n" not in str(caught.value)
    assert echo.events == []

    echo.host, echo.port = "127.0.0.1", 0
    echo.start(block=False)
    assert_serves(echo)


def test_a_start_hook_that_fails(echo):
    def fail():
        raise RuntimeError("the database is away")

    echo.on_service_start = fail
    for start in (echo.start, lambda: echo.start(block=False)):
        with pytest.raises(RuntimeError, match="the database is away"):
            start()
        assert refuses_connections(echo.port)
        assert echo.events == []

    del echo.on_service_start  # the database is back
    echo.start(block=False)
    assert_serves(echo)


@pytest.mark.parametrize("trouble", ["a port in use", "a start hook"])
def test_run_stops_the_services_that_had_started_when_one_cannot(echo, taken, capsys, trouble):
    other = Echo()
    if trouble == "a port in use":
        other.port = taken
        with pytest.raises(SystemExit) as ended:
            gemstone_sync.run(echo, other)
        assert ended.value.code == 1
        assert capsys.readouterr().err.count(f"127.0.0.1:{taken}") == 1
    else:
        other.on_service_start = lambda: 1 / 0
        with pytest.raises(ZeroDivisionError):
            gemstone_sync.run(echo, other)

    assert (echo.events, other.events) == (["start", "stop"], [])
    assert refuses_connections(echo.port)


def test_stop_waits_for_calls_and_then_calls_the_hooks(echo):
    """Connections that are open are answered and told to end, new ones refused."""

    class Watch(gemstone_sync.BasePlugin):
        name = "watch"

        def on_service_start(self):
            echo.events.append("plugin start")

        def on_service_stop(self):
            echo.events.append("plugin stop")

    echo.register_plugin(Watch())
    echo.start(block=False)
    with Connection(echo.port) as busy, Connection(echo.port) as idle:
        assert result_of(idle.call("echo", 1)) == 1
        busy.send(call_message("hold"))
        wait_until(lambda: echo.holding, "the call")
        stop = gevent.spawn(echo.stop, grace=LIMIT)
        wait_until(lambda: refuses_connections(echo.port), "the port to be closed")
        last = idle.call("echo", 2)
        assert "stop" not in echo.events

        echo.release.set()
        held = busy.read_reply()
        assert (result_of(last), result_of(held)) == (2, "held")
        assert last.closes
        assert held.closes
        stop.get(timeout=LIMIT)

    assert echo.events == ["plugin start", "start", "held", "stop", "plugin stop"]


def test_calls_that_take_longer_than_stop_timeout_are_cut_off(echo, caplog):
    echo.stop_timeout = 0.2
    echo.start(block=False)
    with Connection(echo.port) as connection:
        connection.send(call_message("hold"))
        wait_until(lambda: echo.holding, "the call")

        echo.stop()

        assert connection.is_ended()
    assert echo.events == ["start", "stop"]
    assert "cut off" in caplog.text


def test_several_services_in_this_process(running_service):
    services = [running_service(Echo) for _ in range(5)]

    assert len({service.port for service in services}) == 5
    services[0].stop()
    assert refuses_connections(services[0].port)
    for service in services[1:]:
        assert_serves(service)
    assert [service.events for service in services] == [["start", "stop"], *[["start"]] * 4]


#: The machine's name: nobody reaches it by an address that stands for all.
HERE = rf"http://{re.escape(socket.gethostname())}:{{port}}/api"


@pytest.mark.parametrize(
    ("attributes", "pattern"),
    [
        ({}, r"http://127\.0\.0\.1:{port}/api"),
        ({"endpoint": "/rpc"}, r"http://127\.0\.0\.1:{port}/rpc"),
        ({"host": "localhost"}, r"http://localhost:{port}/api"),
        ({"host": "0.0.0.0"}, HERE),
        ({"host": "0"}, HERE),
        ({"host": "0x0"}, HERE),
        ({"host": "*"}, HERE),
        ({"host": "::0"}, HERE),
        ({"host": "0:0:0:0:0:0:0:0"}, HERE),
        ({"host": "::ffff:0.0.0.0"}, HERE),
        ({"accessible_at": "https://x.example/api"}, r"https://x\.example/api"),
    ],
    ids=str,
)
def test_where_others_find_it(running_service, attributes, pattern):
    """Known to the start hook already."""

    class Knowing(Echo):
        def on_service_start(self):
            self.events.append(self.accessible_at)

    service = running_service(Knowing, **attributes)

    assert re.fullmatch(pattern.format(port=service.port), service.accessible_at)
    assert service.events == [service.accessible_at]
    if "endpoint" not in attributes:
        specs = result_of(call(service.port, "get_service_specs"))
        assert specs["accessible_at"] == service.accessible_at
