"""Stopping a service that is in use: no answer is lost, and it does not take long.

A service promises to be gone soon (3 s on the own server, 5 under gunicorn). Here it has more time,
as the machine may be busy: what would hold it up, an idle connection or a missed one, does so for
the 60 s that connections are kept here, or for its `stop_timeout` of 30 s.
"""

import contextlib
import json
import re
import signal
import time
from pathlib import Path

import pytest

from tests.support.http import (
    Connection,
    call_message,
    exchange,
    message,
    refuses_connections,
    result_of,
)
from tests.support.programs import gunicorn, program
from tests.support.waiting import wait_until

HERE = Path(__file__).parent
LOAD = HERE / "load_service.py"

SOON = 15.0

KEPT = {"keep_alive_timeout": 60.0, "header_timeout": 60.0}


@contextlib.contextmanager
def own_server(folder, **limits):
    environment = {"LIMITS": json.dumps({**KEPT, **limits})}
    with program(LOAD, folder, environment=environment) as running:
        running.wait_until_ready()
        yield running


@contextlib.contextmanager
def one_worker(folder):
    environment = {"LIMITS": json.dumps(KEPT)}
    options = ("--pythonpath", str(HERE))
    with gunicorn("load_service:service", folder, *options, environment=environment) as running:
        running.wait_until_ready()
        yield running


def counts(port):
    return exchange(port, message("GET", "/counts")).json


@contextlib.contextmanager
def connections(port, count):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Connection(port)) for _ in range(count)]


def test_50_calls_and_20_idle_connections(tmp_path):
    with own_server(tmp_path) as running:
        took = stop_in_use(running, signal.SIGTERM)

        assert took < SOON
        assert "stopped after 70" in running.stdout  # the last call is over before the stop hook
        assert "Traceback" not in running.stderr


@pytest.mark.slow
def test_50_calls_and_20_idle_connections_under_gunicorn(tmp_path):
    with one_worker(tmp_path) as running:
        took = stop_in_use(running, signal.SIGTERM)

        assert took < SOON
        assert "stopped after 70" in running.stdout
        assert "Traceback" not in running.stderr


def test_ctrl_c_loses_nothing_either(tmp_path):
    with own_server(tmp_path) as running:
        assert stop_in_use(running, signal.SIGINT) < SOON


def stop_in_use(running, number):
    """Signal with 50 calls of 1 s in flight and 20 idle connections; the seconds to the exit."""
    port = running.port
    with connections(port, 50) as busy, connections(port, 20) as idle:
        for value, connection in enumerate(idle):
            assert result_of(connection.call("nap", 0, value)) == value
        for value, connection in enumerate(busy):
            connection.send(call_message("nap", 1.0, value))
        wait_until(lambda: counts(port)["running"] == 50, "50 calls in flight")

        running.send_signal(number)
        began = time.monotonic()
        answers = [result_of(connection.read_reply()) for connection in busy]
        assert answers == list(range(50))
        assert all(connection.is_ended() for connection in idle)
        assert running.wait() == 0
        took = time.monotonic() - began
    assert refuses_connections(port)
    return took


def test_the_last_answers_say_that_the_connection_ends(tmp_path):
    """A client with a pool of connections must not send its next call into a closed one."""
    with own_server(tmp_path, drain_grace=20.0) as running, connections(running.port, 5) as busy:
        for connection in busy:
            connection.send(call_message("hold"))
        wait_until(lambda: counts(running.port)["running"] == 5, "the calls")
        with Connection(running.port) as releaser:
            assert releaser.exchange(message("GET", "/counts")).status == 200
            running.send_signal(signal.SIGTERM)
            wait_until(lambda: refuses_connections(running.port), "the port to be closed")
            assert releaser.exchange(message("POST", "/release", {}, b"")).closes

        for connection in busy:
            reply = connection.read_reply()
            assert reply.status == 200
            assert reply.closes
            assert connection.is_ended()
        assert running.wait(SOON) == 0


def test_a_request_during_the_grace_is_answered(tmp_path):
    """It was on its way, on a connection that the client had every reason to think open."""
    with own_server(tmp_path, drain_grace=20.0) as running, connections(running.port, 3) as open_:
        for connection in open_:
            assert result_of(connection.call("nap", 0, 1)) == 1
        running.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(running.port), "the port to be closed")

        for connection in open_:
            reply = connection.call("nap", 0, 2)
            assert result_of(reply) == 2
            assert reply.closes
            assert connection.is_ended()
        # Nothing is open any more, so the rest of the grace is not waited for.
        assert running.wait(SOON) == 0


def test_silent_connections_do_not_hold_it(tmp_path):
    with own_server(tmp_path) as running, connections(running.port, 20) as silent:
        wait_until(lambda: counts(running.port), "the service")
        running.send_signal(signal.SIGTERM)

        assert running.wait(SOON) == 0
        assert all(connection.is_ended() for connection in silent)


def test_connections_that_wait_to_be_accepted_are_served(tmp_path):
    """They are connected as far as their clients know: the kernel has accepted them."""
    with own_server(tmp_path) as running, Connection(running.port) as first:
        first.send(call_message("burn", 1.0))
        running.wait_until(lambda: "burning" in running.stdout, "the loop to be busy")
        with connections(running.port, 10) as queued:
            for value, connection in enumerate(queued):
                connection.send(call_message("nap", 0, value))
            running.send_signal(signal.SIGTERM)

            assert result_of(first.read_reply()) is None
            answers = [result_of(connection.read_reply()) for connection in queued]
            assert answers == list(range(10))
        assert running.wait() == 0


def test_a_streamed_page_is_finished(tmp_path):
    """Its head, sent before the signal, could not say that the connection ends."""
    with own_server(tmp_path, drain_grace=0.1) as running, Connection(running.port) as reader:
        reader.send(message("GET", "/stream/1.0"))
        status, headers = reader.read_head()
        assert status == 200
        running.send_signal(signal.SIGTERM)

        assert reader.read_body(headers) == b"begin end"
        began = time.monotonic()
        assert reader.is_ended()
        assert running.wait() == 0
        assert time.monotonic() - began < SOON  # not the whole time of an idle connection


def test_stop_timeout_bounds_it(tmp_path):
    with own_server(tmp_path, stop_timeout=0.5) as running, Connection(running.port) as connection:
        connection.send(call_message("hold"))
        wait_until(lambda: counts(running.port)["running"] == 1, "the call")
        running.send_signal(signal.SIGTERM)

        assert running.wait(SOON) == 0
        assert connection.is_ended()
    assert "cut off" in running.stderr


def test_a_second_signal_ends_it_at_once(tmp_path):
    with own_server(tmp_path) as running, Connection(running.port) as connection:
        connection.send(call_message("hold"))
        wait_until(lambda: counts(running.port)["running"] == 1, "the call")
        running.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(running.port), "the port to be closed")
        running.send_signal(signal.SIGTERM)

        assert running.wait(SOON) == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_service_stops_at_once(tmp_path, number):
    with own_server(tmp_path) as running:
        running.send_signal(number)

        assert running.wait(SOON) == 0
        assert re.search(r"stopped after 0$", running.stdout.strip())
