"""The health paths, as a load balancer asks them."""

import contextlib
import json

import gevent
import pytest
from gevent.event import Event

import gemstone_sync
from tests.support.http import (
    JSON,
    Connection,
    call,
    call_message,
    exchange,
    message,
    result_of,
)
from tests.support.waiting import LIMIT, wait_until

LIVE = message("GET", "/health/live")
READY = message("GET", "/health/ready")


class Patient(gemstone_sync.MicroService):
    name = "patient"
    port = 0

    def __init__(self):
        super().__init__()
        self.may_start = Event()
        self.may_stop = Event()
        self.release = Event()
        self.holding = 0
        self.may_start.set()
        self.may_stop.set()

    def on_service_start(self):
        assert self.may_start.wait(LIMIT)

    def on_service_stop(self):
        assert self.may_stop.wait(LIMIT)

    @gemstone_sync.exposed_method()
    def hold(self):
        self.holding += 1
        assert self.release.wait(LIMIT)
        return "held"

    @gemstone_sync.exposed_method()
    def echo(self, value):
        return value


@pytest.fixture
def patient(running_service):
    return running_service(Patient)


def assert_ok(reply):
    assert reply.status == 200
    assert reply.json == {"status": "ok"}
    assert reply.headers.get("Content-Type") == "application/json"
    assert "no-store" in reply.headers.get("Cache-Control")


def assert_unavailable(reply, reason):
    assert reply.status == 503
    assert reply.json == {"status": "unavailable", "reason": reason}


def test_a_running_service_is_live_and_ready(patient):
    with Connection(patient.port) as connection:
        assert_ok(connection.exchange(LIVE))
        assert_ok(connection.exchange(READY))
        assert result_of(connection.call("echo", 1)) == 1


def test_head_is_enough(patient):
    with Connection(patient.port) as connection:
        for path in ("/health/live", "/health/ready"):
            reply = connection.exchange(message("HEAD", path))

            assert reply.status == 200
            assert reply.body == b""
        assert result_of(connection.call("echo", 1)) == 1


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE"])
def test_only_get(patient, verb):
    reply = exchange(patient.port, message(verb, "/health/ready", JSON, b"{}"))

    assert reply.status == 405
    assert "GET" in reply.headers.get("Allow")


def test_a_load_balancer_may_use_any_host(patient):
    """It probes an address, and knows nothing of allowed_hosts."""
    assert_ok(exchange(patient.port, message("GET", "/health/ready", {"Host": "10.0.0.7"})))


@contextlib.contextmanager
def starting(service):
    """The service while its start hook runs."""
    service.may_start.clear()
    start = gevent.spawn(service.start, block=False)
    try:
        wait_until(lambda: service.port, "a port")
        yield start
    finally:
        service.may_start.set()
        start.join(LIMIT)
        service.stop()


def test_live_but_not_ready_until_start_has_finished():
    service = Patient()
    with starting(service) as start, Connection(service.port) as connection:
        assert_ok(connection.exchange(LIVE))
        assert_unavailable(connection.exchange(READY), "starting")

        service.may_start.set()
        start.get(timeout=LIMIT)
        assert_ok(connection.exchange(READY))


def test_calls_are_turned_away_until_start_has_finished():
    service = Patient()
    with starting(service) as start, Connection(service.port) as connection:
        reply = connection.call("echo", 1)

        assert reply.status == 503
        assert int(reply.headers.get("Retry-After")) >= 1
        assert reply.json["error"]["code"] == -32000

        service.may_start.set()
        start.get(timeout=LIMIT)
        assert result_of(connection.call("echo", 1)) == 1


def test_not_ready_while_draining(patient):
    with Connection(patient.port) as caller, Connection(patient.port) as probe:
        assert_ok(probe.exchange(READY))
        caller.send(call_message("hold"))
        wait_until(lambda: patient.holding, "the call")
        stop = gevent.spawn(patient.stop, grace=LIMIT)
        wait_until(lambda: patient.lifecycle.why_not_ready(), "draining")

        reply = probe.exchange(READY)

        assert_unavailable(reply, "draining")
        assert reply.closes
        patient.release.set()
        assert result_of(caller.read_reply()) == "held"
        stop.get(timeout=LIMIT)


def test_still_live_while_draining(patient):
    """A process that finishes its calls must not be killed for it."""
    with Connection(patient.port) as caller, Connection(patient.port) as probe:
        assert_ok(probe.exchange(READY))
        caller.send(call_message("hold"))
        wait_until(lambda: patient.holding, "the call")
        stop = gevent.spawn(patient.stop, grace=LIMIT)
        wait_until(lambda: patient.lifecycle.why_not_ready(), "draining")

        assert_ok(probe.exchange(LIVE))
        patient.release.set()
        stop.get(timeout=LIMIT)


def test_health_does_not_wait_for_a_place(running_service):
    service = running_service(Patient, max_parallel_blocking_tasks=1, max_waiting_calls=0)
    with Connection(service.port) as caller:
        caller.send(call_message("hold"))
        wait_until(lambda: service.holding, "the call")

        assert call(service.port, "echo", 1).status == 503
        assert_ok(exchange(service.port, LIVE))
        assert_ok(exchange(service.port, READY))
        service.release.set()
        assert result_of(caller.read_reply()) == "held"


def test_paths_are_configurable(running_service):
    service = running_service(Patient, health_live_path="/livez", health_ready_path="/readyz")

    assert_ok(exchange(service.port, message("GET", "/livez")))
    assert_ok(exchange(service.port, message("GET", "/readyz")))
    assert exchange(service.port, LIVE).status == 404
    assert exchange(service.port, READY).status == 404


def test_paths_can_be_left_out(running_service):
    service = running_service(Patient, health_live_path=None, health_ready_path=None)

    assert exchange(service.port, LIVE).status == 404
    assert exchange(service.port, READY).status == 404
    assert result_of(call(service.port, "echo", 1)) == 1


def test_one_path_for_one_question_only(running_service):
    service = running_service(Patient, health_live_path=None)

    assert exchange(service.port, LIVE).status == 404
    assert_ok(exchange(service.port, READY))


def test_in_process(service_client):
    client = service_client(Patient)

    reply = client.request("GET", "/health/ready")

    assert reply.status == 200
    assert json.loads(reply.body) == {"status": "ok"}
