"""Connections that cannot be made: tried again, but not for ever, and not by everybody at once."""

import re
import time
from pathlib import Path

import pytest

from gemstone_sync import CircuitOpen, ConnectionFailed
from gemstone_sync.client.retries import MAX_ATTEMPTS, CircuitBreaker
from tests.support.faulty_server import FaultyServer, close, hang, html, in_turn, keep, reset
from tests.support.machine import free_port
from tests.support.programs import hanging_look_ups, program
from tests.support.waiting import LIMIT, wait_until

from .faults import WAYS, client_of, fault_of, unless_open


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_is_tried_three_times_whatever_is_to_be_sent(way: str) -> None:
    greeting = in_turn(close, reset, keep)
    with FaultyServer(tls=True, greeting=greeting) as server, client_of(server) as client:
        WAYS[way](client)
        assert server.connections == MAX_ATTEMPTS
        assert len(server.requests) == 1

    with FaultyServer(tls=True, greeting=close) as server, client_of(server) as client:
        assert fault_of(lambda: WAYS[way](client), ConnectionFailed).may_have_run is False
        assert server.connections == MAX_ATTEMPTS


def test_after_five_failures_in_a_row_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CircuitBreaker, "PAUSE", LIMIT)
    with FaultyServer(tls=True, greeting=close) as server, client_of(server) as client:
        for _ in range(5):
            error = fault_of(client.methods.ping)

        assert isinstance(error, CircuitOpen)
        assert isinstance(error, ConnectionFailed)
        assert error.may_have_run is False
        assert 0 < error.retry_after <= CircuitBreaker.PAUSE
        assert server.url in str(error)
        assert server.connections == CircuitBreaker.FAILURES

        now = time.monotonic
        server.greeting = keep
        monkeypatch.setattr(time, "monotonic", lambda: now() + LIMIT)
        assert wait_until(lambda: unless_open(client.methods.ping), "the circuit to close")
        assert [client.methods.ping() for _ in range(3)] == ["pong"] * 3
        assert server.received["ping"] == 4


def test_a_service_that_comes_back_is_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CircuitBreaker, "PAUSE", 0.1)
    port = free_port()
    with client_of(f"http://127.0.0.1:{port}/api") as client:
        for _ in range(3):
            fault_of(client.methods.ping, ConnectionFailed)
        with FaultyServer(port=port):
            assert wait_until(lambda: unless_open(client.methods.ping), "the circuit to close")


def test_what_answers_badly_is_connected() -> None:
    """The breaker is for connections: a service that is wrong or late stays reachable."""
    with FaultyServer(html(), hang, close) as server, client_of(server) as client:
        for _ in range(2 * CircuitBreaker.FAILURES):
            late = client.with_options(timeout=(LIMIT, 0.1))
            assert not isinstance(fault_of(late.methods.ping), CircuitOpen)


def test_connecting_too_slowly_is_a_failed_connection() -> None:
    greeting = in_turn(hang, keep)
    with FaultyServer(tls=True, greeting=greeting) as server, client_of(server) as client:
        assert client.with_options(timeout=(0.5, LIMIT)).methods.ping() == "pong"
        assert server.connections >= 2
        assert server.received["ping"] == 1


CALL = """
from gemstone_sync import ConnectTimeout, RemoteService

client = RemoteService("http://somewhere/api", timeout=(0.1, 5), total_timeout=20)
try:
    client.methods.ping()
except ConnectTimeout as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize("patched", ["", "from gevent import monkey; monkey.patch_all()"])
def test_a_look_up_that_does_not_end_is_given_up(tmp_path: Path, patched: str) -> None:
    environment = hanging_look_ups(tmp_path)
    with program(patched + CALL, tmp_path, environment=environment) as started:
        assert started.wait() == 0

    said = r"http://somewhere/api: its host could not be looked up within 0\.\d+ s\n"
    assert re.fullmatch(said, started.stdout)
