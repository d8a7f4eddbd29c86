"""The health paths, as a load balancer asks them."""

import gevent
import pytest

from gemstone_sync.ops.health import Component, State
from gemstone_sync.server import is_from_this_machine
from tests.support.http import JSON, Connection, call, call_message, exchange, message, result_of
from tests.support.waiting import LIMIT, wait_until

from .echo import Echo

LIVE = message("GET", "/health/live")
READY = message("GET", "/health/ready")


@pytest.fixture
def echo(running_service):
    return running_service(Echo)


def assert_ok(reply):
    assert reply.status == 200
    assert reply.json == {"status": "pass", "version": "0.0.0", "serviceId": "echo"}
    assert reply.headers.get("Content-Type") == "application/health+json"
    assert "no-store" in reply.headers.get("Cache-Control")


def assert_unavailable(reply, reason):
    assert reply.status == 503
    assert (reply.json["status"], reply.json["output"]) == ("fail", reason)


def test_a_running_service_is_live_and_ready(echo):
    """Whatever the Host: a load balancer probes an address, and knows nothing of allowed_hosts."""
    with Connection(echo.port) as connection:
        for sent in (LIVE, READY):
            assert_ok(connection.exchange(sent))
        reply = connection.exchange(message("GET", "/health/ready", {"Host": "10.0.0.7"}))
        assert (reply.status, reply.json) == (200, {"status": "pass"})
        for path in ("/health/live", "/health/ready"):
            reply = connection.exchange(message("HEAD", path))
            assert (reply.status, reply.body) == (200, b"")
        assert result_of(connection.call("echo", 1)) == 1


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE"])
def test_only_get(echo, verb):
    reply = exchange(echo.port, message(verb, "/health/ready", JSON, b"{}"))

    assert reply.status == 405
    assert "GET" in reply.headers.get("Allow")


def test_until_the_start_hook_has_finished_it_is_live_but_not_ready_and_calls_are_refused(
    running_service,
):
    class Slow(Echo):
        def on_service_start(self):
            with Connection(self.port) as connection:
                self.early = [connection.exchange(sent) for sent in (LIVE, READY)]
                self.early_call = connection.call("echo", 1)

    service = running_service(Slow)

    assert_ok(service.early[0])
    assert_unavailable(service.early[1], "starting")
    assert service.early_call.status == 503
    assert int(service.early_call.headers.get("Retry-After")) >= 1
    error = {"code": -32000, "message": "Service is starting"}
    assert service.early_call.json["error"] == error
    assert service.executed == 0
    assert_ok(exchange(service.port, READY))
    assert result_of(call(service.port, "echo", 1)) == 1


def test_while_draining_it_is_live_but_not_ready(echo):
    """A process that finishes its calls must not be killed for it."""
    with Connection(echo.port) as caller, Connection(echo.port) as a, Connection(echo.port) as b:
        for probe in (a, b):
            assert_ok(probe.exchange(READY))
        caller.send(call_message("hold"))
        wait_until(lambda: echo.holding, "the call")
        stop = gevent.spawn(echo.stop, grace=LIMIT)
        wait_until(lambda: echo.lifecycle.state is State.DRAINING, "draining")

        assert_ok(a.exchange(LIVE))
        reply = b.exchange(READY)
        assert_unavailable(reply, "draining")
        assert reply.closes
        echo.release.set()
        assert result_of(caller.read_reply()) == "held"
        stop.get(timeout=LIMIT)


def test_health_does_not_wait_for_a_place(running_service):
    service = running_service(Echo, max_parallel_blocking_tasks=1, max_waiting_calls=0)
    with Connection(service.port) as caller:
        caller.send(call_message("hold"))
        wait_until(lambda: service.holding, "the call")

        assert call(service.port, "echo", 1).status == 503
        assert_ok(exchange(service.port, LIVE))
        assert_ok(exchange(service.port, READY))
        service.release.set()
        assert result_of(caller.read_reply()) == "held"


@pytest.mark.parametrize(
    ("live", "ready", "found"),
    [
        ("/livez", "/readyz", ["/livez", "/readyz"]),
        (None, None, []),
        (None, "/readyz", ["/readyz"]),
    ],
)
def test_paths_are_configurable_and_can_be_left_out(running_service, live, ready, found):
    service = running_service(Echo, health_live_path=live, health_ready_path=ready)

    for path in ("/health/live", "/health/ready", "/livez", "/readyz"):
        reply = exchange(service.port, message("GET", path))
        assert reply.status == (200 if path in found else 404)
    assert result_of(call(service.port, "echo", 1)) == 1


def test_in_process(service_client):
    reply = service_client(Echo).request("GET", "/health/ready")

    assert reply.status == 200
    assert reply.body.startswith(b'{"status":"pass",')


class Depending(Echo):
    trusted_proxies = ("127.0.0.1",)  # which stand for clients elsewhere

    def authenticate_request(self, handler):
        if handler.headers.get("X-Token") == "broken":
            raise ConnectionError("no users today")
        return handler.headers.get("X-Token") == "good"


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, True),
        ({"X-Forwarded-For": "127.0.0.9"}, True),
        ({"X-Forwarded-For": "203.0.113.7"}, False),
        ({"X-Forwarded-For": "2001:db8::1"}, False),
        ({"X-Forwarded-For": "203.0.113.7", "X-Token": "bad"}, False),
        ({"X-Forwarded-For": "203.0.113.7", "X-Token": "broken"}, False),
        ({"X-Forwarded-For": "203.0.113.7", "X-Token": "good"}, True),
        ({"X-Forwarded-For": "127.0.0.9", "X-Real-IP": "127.0.0.9"}, True),
        # It does not say for whom it speaks.
        ({"X-Forwarded-For": "203.0.113.7:4711"}, False),
        ({"X-Forwarded-For": "unknown"}, False),
        ({"X-Forwarded-Proto": "https"}, False),
        ({"Forwarded": "for=203.0.113.7"}, False),
        ({"X-Real-IP": "203.0.113.7"}, False),
        ({"Via": "1.1 varnish"}, False),
    ],
    ids=str,
)
def test_what_is_missing_is_told_to_whom_it_concerns(running_service, headers, told):
    """The rest of the world hears that it is not ready, and no broker's address."""
    service = running_service(Depending)
    why = "amqp://10.0.0.5:5672: connection refused"
    service._assemble().health._components = [lambda: [Component("broker", "fail", output=why)]]
    reply = exchange(service.port, message("GET", "/health/ready", headers))

    assert reply.status == 503
    assert (b"10.0.0.5" in reply.body) is told
    assert reply.json["status"] == "fail"
    assert told or reply.json == {"status": "fail"}


def test_a_proxy_that_is_not_trusted_speaks_for_anybody(running_service):
    """It may be on this machine, as nginx is; its clients are not."""
    service = running_service(type("Alone", (Depending,), {"trusted_proxies": ()}))
    why = "amqp://10.0.0.5:5672: connection refused"
    service._assemble().health._components = [lambda: [Component("broker", "fail", output=why)]]

    def ask(headers):
        stacks = exchange(service.port, call_message("rpc.stacks", headers=headers)).json
        ready = exchange(service.port, message("GET", "/health/ready", headers))
        return "result" in stacks, b"10.0.0.5" in ready.body

    assert ask({}) == (True, True)
    assert ask({"X-Forwarded-For": "127.0.0.1"}) == (False, False)
    assert ask({"Forwarded": "for=127.0.0.1"}) == (False, False)
    assert ask({"X-Real-IP": "127.0.0.1"}) == (False, False)
    assert ask({"Via": "1.1 varnish"}) == (False, False)
    assert ask({"Host": "rebound.example"}) == (False, False)


@pytest.mark.parametrize(
    "name", ["HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_FORWARDED", "HTTP_VIA"]
)
def test_what_came_to_another_server_through_a_proxy_is_from_elsewhere(name):
    environ = {"SERVER_SOFTWARE": "gunicorn/23", "REMOTE_ADDR": "127.0.0.1"}

    assert is_from_this_machine(environ)
    assert not is_from_this_machine({**environ, name: "127.0.0.1"})
