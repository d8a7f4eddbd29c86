"""How often a request is sent, counted by the server that receives it.

What a fault is called is in test_faults.py.
"""

import email.utils
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import gevent
import pytest
from requests.adapters import HTTPAdapter

from gemstone_sync import (
    BadResponse,
    ConnectionFailed,
    ConnectionLost,
    MethodCall,
    MicroService,
    Notification,
    RemoteError,
    RemoteService,
    ServerOverloaded,
    Timeout,
    TransportError,
    exposed_method,
)
from gemstone_sync.client.retries import (
    MAX_ATTEMPTS,
)
from gemstone_sync.testing import running_service
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
    raw,
    reset,
)
from tests.support.machine import free_port
from tests.support.waiting import LIMIT, wait_until

from .faults import BAD, ENDED, HALF, LAG, LATE, LOST, SHORT, fault_of, hurried, patient

#: Faults after which an idempotent call is made again.
PASSING: dict[str, Behaviour] = {
    **LOST,
    "no answer": hang,
    "half a body, then silence": raw(HALF, hang),
    "half a head": raw("HTTP/1.1 200 OK\r\nContent-Ty", close),
    "half a body": raw(HALF, close),
    "half a body, then a reset": raw(HALF, reset),
    "HTML 502": html("502 Bad Gateway"),
    "HTML 504": html("504 Gateway Timeout"),
}
#: Faults that would be the same again.
LASTING = {name: server for name, (_, server) in BAD.items() if name not in PASSING}
del LASTING["one byte"], LASTING["a head only"], LASTING["half a chunked body"]

ALL_FAULTS: dict[str, Behaviour] = {**LOST, **LATE, **PASSING, **LASTING}

#: The ways to say that a call may be made twice.
IDEMPOTENT: dict[str, Callable[[RemoteService], Any]] = {
    "client.idempotent": lambda client: client.idempotent.ping(),
    "client.idempotent, in the background": lambda client: client.idempotent.ping.async_().result(
        wait=True
    ),
    "call_method": lambda client: client.call_method("ping", idempotent=True).value(),
    "call_method_async": lambda client: client.call_method_async("ping", idempotent=True).result(
        wait=True
    ),
    "idempotent_methods": lambda client: client.with_options(
        idempotent_methods=["ping"]
    ).methods.ping(),
    "a batch": lambda client: next(
        result.value() for result in client.call_batch(MethodCall("ping"), idempotent=True)
    ),
}


def busy(retry_after: str | None) -> Behaviour:
    headers = {} if retry_after is None else {"Retry_After": retry_after}
    return body("", "503 Service Unavailable", **headers)


# Never twice


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
@pytest.mark.parametrize("name", ALL_FAULTS)
def test_a_call_is_never_sent_twice(name: str, kept: bool) -> None:
    with FaultyServer(answer()) as server, hurried(server, name) as client:
        if kept:
            client.methods.warm_up()
        server.script(ALL_FAULTS[name], answer())
        late = {"total_timeout": SHORT} if name in LATE else {}
        with pytest.raises(TransportError):
            client.with_options(**late).methods.ping()

        assert server.received["ping"] == 1


NEVER_TWICE: dict[str, Callable[[RemoteService], Any]] = {
    "a notification": lambda client: client.notifications.ping(),
    "a batch": lambda client: client.call_batch(MethodCall("ping"), MethodCall("ping")),
    "a batch with a notification": lambda client: client.call_batch(
        MethodCall("ping"), Notification("ping"), idempotent=True
    ),
}


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("way", NEVER_TWICE)
def test_what_is_never_sent_twice_either(way: str, name: str) -> None:
    with FaultyServer(ALL_FAULTS[name], answer()) as server, hurried(server, name) as client:
        client = client.with_options(idempotent_methods=["ping"])
        with pytest.raises(TransportError):
            NEVER_TWICE[way](client)

        assert len(server.requests) == 1


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Busy", "504 Gateway Timeout"])
def test_a_notification_is_not_sent_again_to_who_was_busy(status: str) -> None:
    with FaultyServer(body("", status, Retry_After="0"), answer()) as server:
        client = patient(server.url)
        with pytest.raises((ServerOverloaded, BadResponse)):
            client.notifications.ping()
        assert server.received["ping"] == 1


@pytest.mark.parametrize("name", [*LOST, "half a body", "HTML 502", "no answer"])
def test_never_twice_with_requests_own_adapter(name: str) -> None:
    with (
        FaultyServer(ALL_FAULTS[name], answer()) as server,
        hurried(server, name, adapter=HTTPAdapter()) as client,
    ):
        with pytest.raises(TransportError) as caught:
            client.methods.ping()

        assert caught.value.may_have_run is True
        assert server.received["ping"] == 1
        assert client.methods.ping() == "pong"


def test_an_unreachable_service_with_requests_own_adapter() -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    with RemoteService(url, adapter=HTTPAdapter(), timeout=LIMIT, total_timeout=LIMIT) as client:
        error = fault_of(client)

    assert type(error) is ConnectionFailed
    assert error.may_have_run is False


def test_a_tls_fault_with_requests_own_adapter() -> None:
    with (
        FaultyServer(tls=True) as server,
        RemoteService(server.url, adapter=HTTPAdapter(), timeout=LIMIT) as client,
    ):
        error = fault_of(client)

    assert type(error) is ConnectionFailed
    assert "certificate does not verify" in str(error)


# Again, when that does no harm


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("way", IDEMPOTENT)
def test_an_idempotent_call_is_made_again(way: str, name: str) -> None:
    with FaultyServer(PASSING[name], answer()) as server, hurried(server, name) as client:
        assert IDEMPOTENT[way](client) == "pong"

        first, second = server.requests
        assert first.body == second.body


@pytest.mark.parametrize("name", ["closed without an answer", "no answer", "HTML 502"])
def test_an_idempotent_call_is_made_three_times(name: str) -> None:
    with FaultyServer(PASSING[name]) as server, hurried(server, name) as client:
        fault_of_idempotent(client)
        assert server.received["ping"] == MAX_ATTEMPTS


def fault_of_idempotent(client: RemoteService) -> TransportError:
    with pytest.raises(TransportError) as caught:
        client.idempotent.ping()
    return caught.value


@pytest.mark.parametrize("name", LASTING)
def test_what_would_be_the_same_again_is_not_asked_again(name: str) -> None:
    with FaultyServer(LASTING[name], answer()) as server, patient(server.url) as client:
        fault_of_idempotent(client)
        assert server.received["ping"] == 1


def test_an_error_object_is_an_answer() -> None:
    error = '{"jsonrpc":"2.0","error":{"code":-32603,"message":"oops"},"id":ID}'
    with FaultyServer(body(error)) as server, patient(server.url) as client:
        with pytest.raises(RemoteError):
            client.idempotent.ping()
        assert server.received["ping"] == 1


def test_the_total_time_bounds_all_attempts() -> None:
    with FaultyServer(hang) as server, patient(server.url) as client:
        began = time.monotonic()
        error = fault_of_idempotent(client.with_options(timeout=SHORT, total_timeout=1.5 * SHORT))

        assert isinstance(error, Timeout)
        assert time.monotonic() - began < ENDED
        assert 1 <= server.received["ping"] <= 2
        deadlines = [int(request.headers.get("X-Gemstone-Deadline")) for request in server.requests]
        assert deadlines == sorted(deadlines, reverse=True)
        assert deadlines[0] <= SHORT * 1000 + LAG
        assert all(deadline <= 0.5 * SHORT * 1000 + LAG for deadline in deadlines[1:])


# By the service's own contract


class Counting(MicroService):
    name = "counting"

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    @exposed_method(idempotent=True)
    def look(self) -> int:
        self.calls.append("look")
        return len(self.calls)

    @exposed_method()
    def change(self) -> int:
        self.calls.append("change")
        return len(self.calls)


@pytest.fixture
def counting() -> Iterator[Counting]:
    with running_service(Counting) as service:
        yield service  # type: ignore[misc]


@pytest.mark.parametrize("lost", [close, reset, raw(HALF, close), html("502 Bad Gateway"), hang])
def test_the_service_says_what_is_idempotent(counting: Counting, lost: Behaviour) -> None:
    """Between client and service stands somebody who loses the first answer to every call."""
    port = counting.port
    silence = "no answer" if lost is hang else "another fault"
    with FaultyServer() as between, hurried(between, silence) as client:
        between.aside = {"get_service_specs": forward(port)}

        between.script(forward(port, then=lost), forward(port))
        assert client.methods.look() == 2
        between.script(forward(port, then=lost), forward(port))
        with pytest.raises(TransportError):
            client.methods.change()
        between.script(forward(port, then=lost), forward(port))
        assert client.methods.look() == 5

        assert counting.calls == ["look", "look", "change", "look", "look"]
        assert len(between.asked_aside) == 1  # and asked once


def test_nobody_is_asked_when_all_goes_well(counting: Counting) -> None:
    port = counting.port
    with FaultyServer(forward(port)) as between, patient(between.url) as client:
        assert client.methods.look() == 1
        assert between.asked_aside == []


@pytest.mark.parametrize("aside", [hang, close, html(), html("502 Bad Gateway"), busy("9")])
def test_a_service_that_does_not_say_either(aside: Behaviour) -> None:
    """The question what is idempotent fails like everything else: it must not go on for ever."""
    with FaultyServer(close) as server, patient(server.url) as client:
        server.aside = {"get_service_specs": aside}
        error = fault_of(client)

        assert type(error) is ConnectionLost
        assert server.received["ping"] == 1
        assert len(server.asked_aside) <= MAX_ATTEMPTS


def test_a_service_that_hangs_as_a_whole() -> None:
    with FaultyServer(hang) as server, patient(server.url) as client:
        server.aside = {}
        for _ in range(2):
            error = fault_of(client.with_options(timeout=SHORT, total_timeout=SHORT))

            assert isinstance(error, Timeout)
        assert server.received["ping"] == 2


# No place for the call


def in_seconds(seconds: float) -> str:
    now = datetime.now(timezone.utc)
    return email.utils.format_datetime(now + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [
        ("0", 0, 0),
        ("7", 7, 7),
        ("120", 120, 120),
        (timedelta(hours=1), 3400, 3600),
        (timedelta(hours=-1), 0, 0),
        (None, 1, 1),
        ("", 1, 1),
        ("soon", 1, 1),
        ("-5", 1, 1),
        ("1.5", 1, 1),
        ("9" * 400, 1, 1),
        ("\xb2", 1, 1),
        ("Mon, 99 Nov 2026 00:00:00 GMT", 1, 1),
        ("Fri, 01 Jan 2100 00:00:00", 1, 1),
    ],
)
def test_an_overloaded_service_says_when_to_come_again(
    told: str | timedelta | None, least: float, most: float
) -> None:
    """A time span stands for the date of that moment, counted from now."""
    if isinstance(told, timedelta):
        told = in_seconds(int(told.total_seconds()))
    with FaultyServer(busy(told), answer()) as server, patient(server.url) as client:
        with pytest.raises(ServerOverloaded) as caught:
            client.methods.ping()

        assert least <= caught.value.retry_after <= most
        assert server.received["ping"] == 1


def test_an_idempotent_call_waits_for_its_place() -> None:
    arrived = []

    def noted(exchange: Any) -> None:
        arrived.append(time.monotonic())

    behaviours = [both(noted, busy("1")), both(noted, answer())]
    with FaultyServer(*behaviours) as server, patient(server.url) as client:
        assert client.idempotent.ping() == "pong"

    assert len(arrived) == 2
    assert arrived[1] - arrived[0] >= 1


@pytest.mark.parametrize(
    "told", ["30", "999999999", in_seconds(3600)], ids=["30", "for ever", "a date"]
)
def test_nobody_waits_beyond_the_deadline(told: str) -> None:
    with FaultyServer(busy(told), answer()) as server, patient(server.url) as client:
        began = time.monotonic()
        with pytest.raises(ServerOverloaded) as caught:
            client.idempotent.ping()

        assert time.monotonic() - began < ENDED
        assert caught.value.retry_after >= 30
        assert server.received["ping"] == 1


def test_a_service_that_stays_overloaded() -> None:
    with FaultyServer(busy("0")) as server, patient(server.url) as client:
        with pytest.raises(ServerOverloaded):
            client.idempotent.ping()
        assert server.received["ping"] == MAX_ATTEMPTS


def test_a_killed_call_is_not_made_again() -> None:
    with FaultyServer(hang, answer()) as server, patient(server.url) as client:
        call = gevent.spawn(client.idempotent.ping)
        wait_until(lambda: server.received["ping"], "the call")
        call.kill()

        assert client.methods.ping() == "pong"
        assert server.received["ping"] == 2
