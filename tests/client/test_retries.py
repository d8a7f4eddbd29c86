"""How often a request is sent, counted by the server that receives it.

What a fault is called, and that a plain call is never sent twice, is in test_faults.py.
"""

import email.utils
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import gevent
import pytest
import requests
from gevent.event import Event

from gemstone_sync import (
    MethodCall,
    MicroService,
    Notification,
    RemoteService,
    errors,
    exposed_method,
)
from gemstone_sync.client.retries import CircuitBreaker, RetryBudget, backoff
from tests.support.faulty_server import (
    Behaviour,
    FaultyServer,
    answer,
    body,
    both,
    close,
    forward,
    hang,
    html,
)
from tests.support.waiting import LIMIT, wait_until

from .faults import BAD, LAG, LATE, LOST, SHORT, client_of, dead_url, fault_of, hurried, unless_open

#: Faults after which an idempotent call is made again.
PASSING: dict[str, Behaviour] = {
    **LOST,
    **{name: LATE[name] for name in ("no answer", "half a body, then silence")},
    **{name: BAD[name][1] for name in ("one byte", "half a head", "a head only", "half a body")},
    **{name: BAD[name][1] for name in ("half a body, then a reset", "half a chunked body")},
    **{name: BAD[name][1] for name in ("HTML 502", "HTML 504")},
}
#: Faults that would be the same again.
LASTING = {name: server for name, (_, server) in BAD.items() if name not in PASSING}

#: The ways to say that a call may be made twice.
IDEMPOTENT: dict[str, Callable[[RemoteService], Any]] = {
    "idempotent": lambda c: c.idempotent.ping(),
    "in the background": lambda c: c.idempotent.ping.async_().result(True),
    "call_method": lambda c: c.call_method("ping", idempotent=True).value(),
    "call_method_async": lambda c: c.call_method_async("ping", idempotent=True).result(True),
    "idempotent_methods": lambda c: c.with_options(idempotent_methods=["ping"]).methods.ping(),
    "a batch": lambda c: c.call_batch(MethodCall("ping"), idempotent=True).responses[0].value(),
}


def busy(retry_after: str | None) -> Behaviour:
    headers = {} if retry_after is None else {"Retry_After": retry_after}
    return body("", "503 Service Unavailable", **headers)


# Never twice


@pytest.mark.parametrize("name", [*PASSING, "busy"])
def test_notifications_and_batches_are_never_sent_twice(name: str) -> None:
    fault = {**PASSING, "busy": busy("0")}[name]
    with FaultyServer() as server, hurried(server, name) as client:
        client = client.with_options(idempotent_methods=["ping"])
        for send in (
            lambda: client.notifications.ping(),
            lambda: client.call_batch(MethodCall("ping"), MethodCall("ping")),
            lambda: client.call_batch(MethodCall("ping"), Notification("ping"), idempotent=True),
        ):
            server.script(fault, answer())
            server.requests.clear()
            fault_of(send, errors.GemstoneError)

            wait_until(lambda: server.requests, "the request")  # read after its time was over
            assert len(server.requests) == 1


@pytest.mark.parametrize("name", [*LOST, "half a body", "HTML 502", "no answer"])
def test_never_twice_with_a_session_of_requests(name: str) -> None:
    with (
        FaultyServer(PASSING[name], answer()) as server,
        requests.Session() as session,
        hurried(server, name, session=session) as client,
    ):
        assert fault_of(client.methods.ping).may_have_run is True
        wait_until(lambda: server.received["ping"], "the request")
        assert server.received["ping"] == 1
        assert client.with_options(timeout=LIMIT).methods.ping() == "pong"


def test_no_connection_with_a_session_of_requests() -> None:
    with FaultyServer(tls=True) as server, requests.Session() as session:
        for place in (dead_url(), server):
            error = fault_of(client_of(place, session=session).methods.ping)

            assert type(error) is errors.ConnectionFailed
            assert error.may_have_run is False
    assert "certificate does not verify" in str(error)


# Again, when that does no harm


@pytest.mark.parametrize("name", PASSING)
def test_an_idempotent_call_is_made_again(name: str) -> None:
    with FaultyServer(PASSING[name], answer()) as server, hurried(server, name) as client:
        assert client.idempotent.ping() == "pong"

        first, *again = server.requests
        assert {each.body for each in again} == {first.body}
        # A machine that stands still may have the right answer come too late as well.
        assert len(again) == 1 or name in LATE


@pytest.mark.parametrize("way", IDEMPOTENT)
def test_each_way_to_say_that_a_call_may_be_made_again(way: str) -> None:
    with FaultyServer(close, answer()) as server, client_of(server) as client:
        assert IDEMPOTENT[way](client) == "pong"
        assert server.received["ping"] == 2


@pytest.mark.parametrize("fault", [close, html("502 Bad Gateway"), busy("0")])
def test_an_idempotent_call_is_made_three_times(fault: Behaviour) -> None:
    with FaultyServer(fault) as server, client_of(server) as client:
        fault_of(client.idempotent.ping, errors.GemstoneError)
        assert server.received["ping"] == 3


@pytest.mark.parametrize("name", LASTING)
def test_what_would_be_the_same_again_is_not_asked_again(name: str) -> None:
    with FaultyServer(LASTING[name], answer()) as server, client_of(server) as client:
        fault_of(client.idempotent.ping)
        assert server.received["ping"] == 1


def test_the_total_time_bounds_all_attempts() -> None:
    with FaultyServer(answer(), hang) as server, client_of(server) as client:
        client.methods.connected()  # none of the time is for that
        server.requests.clear()
        short = client.with_options(timeout=SHORT, total_timeout=1.5 * SHORT)
        fault_of(short.idempotent.ping, errors.Timeout)

        wait_until(lambda: server.requests, "the request")
        assert 1 <= server.received["ping"] <= 2
        deadlines = [int(request.headers.get("X-Gemstone-Deadline")) for request in server.requests]
        assert deadlines == sorted(deadlines, reverse=True)
        assert deadlines[0] <= SHORT * 1000 + LAG
        assert all(deadline <= 0.5 * SHORT * 1000 + LAG for deadline in deadlines[1:])


def test_a_killed_call_is_not_made_again() -> None:
    with FaultyServer(hang, answer()) as server, client_of(server) as client:
        call = gevent.spawn(client.idempotent.ping)
        wait_until(lambda: server.received["ping"], "the call")
        call.kill()

        assert client.methods.ping() == "pong"
        assert server.received["ping"] == 2


# By the service's own contract


class Counting(MicroService):
    name = "counting"

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.go_on = Event()

    @exposed_method(idempotent=True)
    def look(self) -> int:
        self.calls.append("look")
        return len(self.calls)

    @exposed_method()
    def change(self) -> int:
        self.calls.append("change")
        return len(self.calls)


SERVICE = Counting


@pytest.mark.parametrize("name", ["closed without an answer", "no answer"])
def test_what_the_service_says_counts_once_it_was_asked(service: Counting, name: str) -> None:
    """Between client and service stands somebody who loses the first answer to every call."""
    lost = forward(service.port, then=PASSING[name])
    with FaultyServer() as between, hurried(between, name) as client:
        between.aside = {"get_service_specs": forward(service.port)}

        def fails(method: str) -> bool:
            between.script(lost, forward(service.port))
            try:
                client.methods[method]()
            except errors.TransportError:
                return True
            return False

        assert fails("look")
        assert between.asked_aside == []
        assert client.with_options(timeout=LIMIT).name == "counting"
        assert not fails("look")
        assert fails("change")
        wait_until(lambda: "change" in service.calls, "the call of which the answer is lost")
        looks = service.calls.count("look")
        assert looks == 3 or (looks > 3 and name in LATE)  # as above
        assert service.calls == ["look"] * looks + ["change"]
        assert len(between.asked_aside) == 1


@pytest.mark.parametrize("name", [*PASSING, "busy"])
def test_a_fault_makes_no_request_that_nobody_asked_for(name: str) -> None:
    with FaultyServer({**PASSING, "busy": busy("0")}[name]) as server:
        server.aside = {}
        with hurried(server, name) as client:
            for _ in range(2):
                fault_of(client.methods.ping, errors.GemstoneError)
            wait_until(lambda: server.received["ping"] == 2, "both requests")
            assert server.received == {"ping": 2}


# No place for the call


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [
        *[(str(seconds), seconds, seconds) for seconds in (0, 7, 120)],
        (timedelta(hours=1), 3400, 3600),
        (timedelta(hours=-1), 0, 0),
        *[(told, 1, 1) for told in (None, "", "soon", "-5", "1.5", "9" * 400, "\xb2")],
        *[(told, 1, 1) for told in ("Mon, 99 Nov 2026 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00")],
    ],
)
def test_an_overloaded_service_says_when(
    told: str | timedelta | None, least: float, most: float
) -> None:
    """A time span stands for the date of that moment, counted from now."""
    if isinstance(told, timedelta):
        told = email.utils.format_datetime(datetime.now(timezone.utc) + told, usegmt=True)
    with FaultyServer(busy(told), answer()) as server, client_of(server) as client:
        assert least <= fault_of(client.methods.ping, errors.ServerOverloaded).retry_after <= most
        assert server.received["ping"] == 1


def test_an_idempotent_call_waits_for_its_place() -> None:
    arrived: list[float] = []
    noted = both(lambda exchange: arrived.append(time.monotonic()), busy("1"))
    with FaultyServer(noted, answer()) as server, client_of(server) as client:
        assert client.idempotent.ping() == "pong"
        assert time.monotonic() - arrived[0] >= 1
        assert server.received["ping"] == 2


@pytest.mark.parametrize("told", ["30", "999999999"])
def test_nobody_waits_beyond_the_deadline(told: str) -> None:
    with FaultyServer(busy(told), answer()) as server, client_of(server) as client:
        assert fault_of(client.idempotent.ping, errors.ServerOverloaded).retry_after >= 30
        assert server.received["ping"] == 1


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


def test_a_service_that_only_fails_gets_few_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemstone_sync.client.retries._LONGEST_PAUSE", 0.0)
    with FaultyServer(html("502 Bad Gateway")) as server, client_of(server) as client:
        for _ in range(20):
            fault_of(client.idempotent.ping)

        assert 20 + 10 <= server.received["ping"] <= 20 + 12


def test_a_breaker_lets_one_through_after_its_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    breaker = CircuitBreaker()

    def is_open() -> bool:
        return unless_open(lambda: breaker.check("http://x") or "closed") is None

    def fail(times: int) -> None:
        nonlocal now
        for _ in range(times):
            now += 0.1
            breaker.failed(errors.ConnectionFailed("refused"))

    fail(4)
    assert not is_open()
    breaker.connected()  # in a row, that is
    fail(4)
    assert not is_open()
    fail(1)
    assert is_open()
    broken = now
    error = fault_of(lambda: breaker.check("http://x"), errors.CircuitOpen)
    assert str(error).startswith("http://x: not tried again yet after 5 failures in a row")
    assert str(error).endswith("(the last: refused)")
    assert error.retry_after == pytest.approx(1.0)
    now = broken + 0.95
    assert is_open()
    now = broken + 1.0
    assert [is_open() for _ in range(3)] == [False, True, True]
    fail(1)
    now += 0.9
    assert is_open()
    now += 0.2
    assert not is_open()
    breaker.connected()
    assert [is_open() for _ in range(3)] == [False, False, False]
