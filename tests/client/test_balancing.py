"""Calls over several endpoints of one service: which one takes a call, and which are left alone.

What arrives is counted by the servers themselves.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.event import Event

from gemstone_sync import ConnectionFailed, ConnectionLost, MethodCall, RemoteService
from gemstone_sync.client import ServiceAdapter, balancing
from gemstone_sync.client.balancing import EndpointSet, FixedEndpoints
from gemstone_sync.client.endpoint import RemoteEndpoint
from gemstone_sync.client.messages import HttpReply
from tests.support.faulty_server import FaultyServer, answer, body, reset, when
from tests.support.machine import free_port
from tests.support.waiting import LIMIT, gather, wait_until

from .faults import WAYS, client_of, dead_url, fault_of


def over(*places: FaultyServer | str) -> RemoteService:
    return client_of([getattr(place, "url", place) for place in places])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that the set of endpoints goes by: it stands still, so one that rests does so."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(balancing, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_calls_are_spread_evenly() -> None:
    with FaultyServer() as a, FaultyServer() as b, FaultyServer() as c, over(a, b, c) as client:
        for _ in range(300):
            assert client.methods.ping() == "pong"
            client.notifications.told()
            client.call_batch(MethodCall("asked"))

        for method in ("ping", "told", "asked"):
            counts = [server.received[method] for server in (a, b, c)]
            assert sum(counts) == 300
            # Five standard deviations of a fair draw.
            assert all(60 < count < 140 for count in counts), counts


def test_the_one_with_fewer_calls_in_flight_is_preferred() -> None:
    """One that is slow gets no second call while others have none, until it is quick again."""
    go_on = Event()
    waiting = []
    with (
        FaultyServer(when(go_on, answer())) as slow,
        FaultyServer() as a,
        FaultyServer() as b,
        over(slow, a, b) as client,
    ):

        def slow_has_one() -> int:
            waiting.append(gevent.spawn(client.methods.ping))
            return slow.received["ping"]

        wait_until(slow_has_one, "a call at the slow one")
        wait_until(lambda: sum(not each.ready() for each in waiting) == 1, "the others' end")
        for _ in range(60):
            client.methods.ping()

        assert slow.received["ping"] == 1
        assert a.received["ping"] + b.received["ping"] == len(waiting) - 1 + 60
        go_on.set()
        gevent.joinall(waiting, timeout=LIMIT, raise_error=True)
        for _ in range(60):
            client.methods.ping()
        assert slow.received["ping"] > 1


@pytest.mark.parametrize("way", WAYS)
def test_another_one_takes_the_call_at_once(way: str) -> None:
    with FaultyServer() as alive, over(dead_url(), alive) as client:
        for _ in range(20):
            WAYS[way](client)

        assert alive.received["ping"] == 20


def test_with_nine_of_ten_dead_every_call_works_and_is_sent_once() -> None:
    dead = [dead_url() for _ in range(9)]
    with FaultyServer() as alive, over(*dead, alive) as client:
        assert gather([client.methods.ping] * 30) == ["pong"] * 30
        assert len({request.id for request in alive.requests}) == len(alive.requests) == 30


def test_it_is_left_alone_for_a_while(clock: SimpleNamespace) -> None:
    port = free_port()  # that nobody is given while it is not listened on
    with FaultyServer(port=port) as server, FaultyServer() as other, over(server, other) as client:
        server.stop()
        for _ in range(20):
            client.methods.ping()
        with FaultyServer(port=server.port) as again:
            for _ in range(50):
                client.methods.ping()

            assert (again.connections, other.received["ping"]) == (0, 70)
            clock.now += 60
            for _ in range(50):
                client.methods.ping()
            assert again.received["ping"] > 0


def test_all_of_them_dead_and_then_one_is_back(clock: SimpleNamespace) -> None:
    """Where all of them rest, they are tried all the same."""
    port = free_port()  # as above
    with FaultyServer(port=port) as server, over(dead_url(), server, dead_url()) as client:
        server.stop()
        error = fault_of(client.methods.ping, ConnectionFailed)
        assert not error.may_have_run
        assert any(url in str(error) for url in client.urls)
        with FaultyServer(port=server.port):
            assert client.methods.ping() == "pong"


@pytest.mark.parametrize("way", WAYS)
def test_what_was_lost_is_not_sent_again_and_its_place_rests(
    way: str, clock: SimpleNamespace
) -> None:
    """Only an idempotent call goes to another endpoint then."""
    with FaultyServer(reset) as breaking, FaultyServer() as other, over(breaking, other) as client:
        lost = []
        for _ in range(60):
            try:
                WAYS[way](client)
            except ConnectionLost as error:
                lost.append(error)

        assert breaking.received["ping"] == 1
        if way == "an idempotent call":
            assert (lost, other.received["ping"]) == ([], 60)
        else:
            [error] = lost
            assert error.may_have_run
            assert breaking.url in str(error)
            assert other.received["ping"] == 59


def test_an_idempotent_call_does_not_wait_for_one_that_is_overloaded() -> None:
    """Another one has room now; within the time of the call the first would not have."""
    busy = body("", "503 Service Unavailable", Retry_After="600")
    with FaultyServer(busy) as full, FaultyServer() as other, over(full, other) as client:

        def called() -> bool:
            assert client.idempotent.ping() == "pong"
            return full.received["ping"] > 0

        wait_until(called, "a call that came to the full one first")


# How long one is left alone


def endpoint_set(source: Any) -> EndpointSet:
    adapter = ServiceAdapter()
    return EndpointSet(source, lambda url: RemoteEndpoint(url, adapter, None, True, None))


@pytest.fixture
def pair() -> EndpointSet:
    return endpoint_set(FixedEndpoints(["http://a/api", "http://b/api"]))


def rest_of(endpoint: RemoteEndpoint, endpoints: EndpointSet, clock: SimpleNamespace) -> float:
    """How long the endpoint is left alone from now on, in steps of a tenth of a second."""
    began = clock.now
    while all(endpoints.choose() is not endpoint for _ in range(50)):
        clock.now += 0.1
    return clock.now - began


def test_the_rest_doubles_with_each_failure_to_30_s(
    pair: EndpointSet, clock: SimpleNamespace
) -> None:
    first, _ = pair.current()
    rests = []
    for _ in range(9):
        pair.unreachable(first)
        rests.append(rest_of(first, pair, clock))

    for rest, bound in zip(rests, [1, 2, 4, 8, 16, 30, 30, 30, 30], strict=True):
        assert bound / 2 <= rest <= bound + 0.2, rests  # jittered, so that callers differ


def test_an_answer_ends_the_doubling(pair: EndpointSet, clock: SimpleNamespace) -> None:
    first, _ = pair.current()
    for _ in range(4):
        pair.unreachable(first)
        rest_of(first, pair, clock)
    pair.reached(first, HttpReply(first.url, 200, {}, b""))
    assert rest_of(first, pair, clock) == 0
    for _ in range(100):  # calls that one end has broken: they count once
        pair.unreachable(first)

    assert rest_of(first, pair, clock) <= 1.2


def test_of_those_that_rest_the_first_to_wake_is_taken(
    pair: EndpointSet, clock: SimpleNamespace
) -> None:
    first, second = pair.current()
    pair.unreachable(first)
    clock.now += 0.9
    pair.unreachable(second)

    assert pair.choose() is first
    assert pair.choose(tried=[first]) is second


# A source whose endpoints change


class Source:
    """Endpoints as a test tells them.

    :ivar renewed: what there is once somebody waits for news.
    """

    def __init__(self, *urls: str) -> None:
        self.now: Sequence[str] = urls
        self.renewed: Sequence[str] | None = None
        self.lost: list[str] = []

    def urls(self) -> Sequence[str]:
        return self.now

    def unreachable(self, url: str) -> None:
        self.lost.append(url)

    def leaves(self, url: str) -> None:
        """Nothing changes by that."""

    def renew(self, seconds: float) -> None:
        assert seconds <= LIMIT
        if self.renewed is not None:
            self.now = self.renewed

    def __str__(self) -> str:
        return "users"


def test_a_client_follows_its_source() -> None:
    with FaultyServer() as a, FaultyServer() as b:
        source = Source(a.url)
        with RemoteService(source) as client:
            client.methods.ping()
            source.now = [b.url]
            client.methods.ping()
            assert client.urls == [b.url]

        assert (a.received["ping"], b.received["ping"]) == (1, 1)


def test_what_is_known_of_an_endpoint_stays_when_others_come(clock: SimpleNamespace) -> None:
    source = Source("http://a/api", "http://b/api")
    endpoints = endpoint_set(source)
    first, second = endpoints.current()
    endpoints.unreachable(first)
    source.now = ["http://c/api", "http://b/api", "http://a/api"]
    _, *kept = endpoints.current()

    assert kept == [second, first]
    assert all(endpoints.choose() is not first for _ in range(50))
    assert source.lost == ["http://a/api"]


def test_the_source_is_asked_anew_when_none_can_be_reached() -> None:
    """A call that finds nobody waits for news, and goes to who took their place."""
    source = Source(dead_url())
    with FaultyServer() as server, RemoteService(source) as client:
        source.renewed = [server.url]
        assert client.methods.ping() == "pong"


def test_a_source_that_knows_none() -> None:
    client = RemoteService(Source())

    assert client.urls == []
    with pytest.raises(ConnectionFailed, match="users: no endpoint is known"):
        client.methods.ping()


def test_an_endpoint_that_is_named_twice_counts_once() -> None:
    with over("http://a/api", "http://b/api", "http://a/api") as client:
        assert client.urls == ["http://a/api", "http://b/api"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ([], "at least one endpoint"),
        (["http://ada:secret@a/api", "http://b/api"], "use authentication_method"),
        *[
            (["http://a/api", url], "not a service's endpoint")
            for url in ("ftp://a/api", "http:///api", "http://*/api", "http://.a/api")
        ],
    ],
)
def test_wrong_urls_are_refused(wrong: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        RemoteService(wrong)


@pytest.mark.parametrize("wrong", [None, 7, {"http://a/api"}, ["http://a/api", None]])
def test_what_is_no_list_of_urls_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="a service's endpoint is a URL"):
        RemoteService(wrong)
