"""Connections that cannot be made: tried again, but not for ever, and not by everybody at once."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemstone_sync import (
    BadResponse,
    CircuitOpen,
    ConnectionFailed,
    ConnectTimeout,
    MethodCall,
    Notification,
    RemoteService,
)
from gemstone_sync.client.retries import (
    MAX_ATTEMPTS,
    CircuitBreaker,
    RetryBudget,
    backoff,
)
from tests.support.faulty_server import (
    CERTIFICATE,
    FaultyServer,
    close,
    hang,
    html,
    in_turn,
    keep,
    reset,
)
from tests.support.machine import free_port
from tests.support.programs import hanging_look_ups, program
from tests.support.waiting import LIMIT, wait_until

from .faults import SHORT, client_of, fault_of, hurried, patient

WAYS: dict[str, Callable[[RemoteService], Any]] = {
    "a call": lambda client: client.methods.ping(),
    "a notification": lambda client: client.notifications.ping(),
    "a batch": lambda client: client.call_batch(MethodCall("ping"), Notification("ping")),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_failed_connection_is_tried_again_whatever_is_to_be_sent(way: str) -> None:
    greeting = in_turn(close, reset, keep)
    with (
        FaultyServer(tls=True, greeting=greeting) as server,
        client_of(server) as client,
    ):
        WAYS[way](client)

        assert server.connections == MAX_ATTEMPTS
        assert len(server.requests) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_is_tried_three_times(way: str) -> None:
    with (
        FaultyServer(tls=True, greeting=close) as server,
        client_of(server) as client,
    ):
        with pytest.raises(ConnectionFailed) as caught:
            WAYS[way](client)

        assert caught.value.may_have_run is False
        assert server.connections == MAX_ATTEMPTS


def test_after_five_failures_in_a_row_nothing_is_tried_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CircuitBreaker, "PAUSE", LIMIT)
    with (
        FaultyServer(tls=True, greeting=close) as server,
        client_of(server) as client,
    ):
        for _ in range(5):
            error = fault_of(client)

        assert isinstance(error, CircuitOpen)
        assert isinstance(error, ConnectionFailed)
        assert error.may_have_run is False
        assert 0 < error.retry_after <= CircuitBreaker.PAUSE
        assert server.url in str(error)
        assert server.connections == CircuitBreaker.FAILURES

        now = time.monotonic
        server.greeting = keep
        monkeypatch.setattr(time, "monotonic", lambda: now() + LIMIT)
        assert wait_until(lambda: _value_or_none(client), "the circuit to close") == "pong"
        assert [client.methods.ping() for _ in range(3)] == ["pong"] * 3
        assert server.received["ping"] == 4


def _value_or_none(client: RemoteService) -> Any:
    try:
        return client.methods.ping()
    except CircuitOpen:
        return None


def test_a_service_that_comes_back_is_called_again() -> None:
    port = free_port()
    with RemoteService(f"http://127.0.0.1:{port}/api") as client:
        for _ in range(3):
            assert isinstance(fault_of(client), ConnectionFailed)
        with FaultyServer(port=port):
            assert wait_until(lambda: _value_or_none(client), "the circuit to close") == "pong"


def test_what_answers_badly_is_connected() -> None:
    """The breaker is for connections: a service that is wrong or late stays reachable."""
    with FaultyServer(html(), hang, close) as server, hurried(server) as client:
        for _ in range(2 * CircuitBreaker.FAILURES):
            assert not isinstance(fault_of(client), CircuitOpen)


def test_a_breaker_lets_one_through_after_its_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    breaker = CircuitBreaker()

    def is_open() -> bool:
        try:
            breaker.check("http://x")
        except CircuitOpen:
            return True
        return False

    for _ in range(4):
        breaker.failed(ConnectionFailed("refused"))
    assert not is_open()
    breaker.connected()  # in a row, that is
    for _ in range(4):
        breaker.failed(ConnectionFailed("refused"))
    assert not is_open()
    breaker.failed(ConnectionFailed("refused"))
    assert is_open()

    now += CircuitBreaker.PAUSE
    assert [is_open() for _ in range(3)] == [False, True, True]
    breaker.failed(ConnectionFailed("refused"))
    now += 0.9 * CircuitBreaker.PAUSE
    assert is_open()
    now += 0.2 * CircuitBreaker.PAUSE
    assert not is_open()
    breaker.connected()
    assert [is_open() for _ in range(3)] == [False, False, False]


def test_pauses_have_full_jitter() -> None:
    for attempt, longest in [(1, 0.1), (2, 0.2), (3, 0.4), (9, 2.0), (99, 2.0)]:
        pauses = [backoff(attempt) for _ in range(500)]
        assert all(0 <= pause <= longest for pause in pauses)
        assert min(pauses) < longest / 4
        assert max(pauses) > longest * 3 / 4


def test_a_budget_gives_ten_retries_and_then_one_for_ten_calls() -> None:
    budget = RetryBudget()
    assert sum(budget.take() for _ in range(100)) == 10
    taken = 0
    for _ in range(1000):
        budget.call()
        taken += budget.take()
    assert taken in (99, 100)  # floats
    for _ in range(1000):
        budget.call()
    assert sum(budget.take() for _ in range(100)) == 10


def test_a_service_that_only_fails_is_not_buried_under_retries() -> None:
    with FaultyServer(html("502 Bad Gateway")) as server, patient(server.url) as client:
        for _ in range(20):
            with pytest.raises(BadResponse):
                client.idempotent.ping()

        assert 20 + 10 <= server.received["ping"] <= 20 + 12


def test_connecting_too_slowly_is_a_failed_connection() -> None:
    with (
        FaultyServer(tls=True, greeting=in_turn(hang, keep)) as server,
        RemoteService(server.url, verify=CERTIFICATE, timeout=(3, LIMIT)) as client,
    ):
        assert client.methods.ping() == "pong"
        assert server.connections == 2
        server.greeting = hang
        client.close()
        with pytest.raises(ConnectTimeout):
            client.with_options(timeout=SHORT).methods.ping()
        assert server.received["ping"] == 1


CALL = """
from gemstone_sync import ConnectTimeout, RemoteService

client = RemoteService("http://somewhere/api", timeout=(0.3, 5), total_timeout=1)
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
