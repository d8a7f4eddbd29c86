"""What goes along from service to service: deadline, hops, request id and trace.

Three services in a chain; what each was sent is told by the one that got it.
"""

import functools
import itertools
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

import gemstone_sync
from gemstone_sync import (
    JsonRpcHandler,
    MethodCall,
    MicroService,
    Notification,
    RemoteService,
    as_completed,
    errors,
    make_callbacks,
)
from gemstone_sync.concurrency import Call, current_call
from gemstone_sync.testing import running_service
from tests.support.faulty_server import FaultyServer, answer, hang
from tests.support.http import call, result_of
from tests.support.waiting import LIMIT, wait_until

from .faults import LAG, client_of, fault_of
from .faults import WAYS as EVERY_WAY

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

SENT = ("X-Gemstone-Deadline", "X-Gemstone-Hops", "X-Request-Id", "traceparent")


class Link(MicroService):
    """Hands a call on to the next of the chain; the last one tells what it was sent."""

    name = "link"
    next_url: str | None = None
    client: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[dict[str, str | None]] = []

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def relay(self, handler: JsonRpcHandler, way: str = "methods", pause: float = 0.0) -> Any:
        headers = self.note(handler)
        if pause:
            gevent.sleep(pause)
        if self.next_url is None:
            return headers
        return WAYS[way](self.client, [way, pause])

    @gemstone_sync.exposed_method()
    def cleanup_after_the_end(self) -> None:
        """Sleeps beyond its time, and calls on when it is told that this is over."""
        try:
            gevent.sleep(LIMIT)
        finally:
            try:
                self.client.methods.relay()
            except Exception as error:
                self.sent.append({"error": type(error).__name__})

    @gemstone_sync.exposed_method(requires_handler_reference=True)
    def fan_out(self, handler: JsonRpcHandler) -> list[Any]:
        """By callbacks and by greenlets of its own."""
        self.note(handler)
        calls = [self.client.methods.relay.async_() for _ in range(3)]
        seen: list[Any] = [done.result() for done in as_completed(*calls)]
        make_callbacks(
            [self.client.methods.relay.async_()],
            lambda _: seen.append(self.client.methods.relay()),
            seen.append,
            run_in_threads=True,
        )
        wait_until(lambda: len(seen) == 4, "the callback")
        seen.append(gemstone_sync.concurrency.spawn(self.client.methods.relay).get())
        return seen

    def note(self, handler: JsonRpcHandler) -> dict[str, str | None]:
        headers = {name: handler.headers.get(name) for name in SENT}
        self.sent.append(headers)
        return headers


def _in_a_batch(client: RemoteService, params: list[Any]) -> Any:
    first, second = MethodCall("relay", params), MethodCall("relay", params)
    answers = client.call_batch(first, Notification("relay", params), second)
    assert [response.value() for response in answers]
    return answers.responses[0].value()


#: How a link may call the next one.
WAYS: dict[str, Any] = {
    "methods": lambda client, params: client.methods.relay(*params),
    "async_": lambda client, params: client.methods.relay.async_(*params).result(wait=True),
    "batch": _in_a_batch,
    "notification": lambda client, params: client.notifications.relay(*params),
}


@pytest.fixture
def chain() -> Iterator[list[Link]]:
    """Three links, the first one first."""
    with running_service(Link) as last, running_service(Link) as middle:
        _connect(middle, last)
        with running_service(Link) as first:
            _connect(first, middle)
            yield [first, middle, last]
            first.client.close()  # type: ignore[attr-defined]
        middle.client.close()  # type: ignore[attr-defined]


def _connect(link: Any, following: MicroService) -> None:
    link.next_url = following.url
    link.client = client_of(following)


@pytest.mark.parametrize("way", WAYS)
def test_everything_goes_along_the_chain(chain: list[Link], way: str) -> None:
    sent = {"X-Gemstone-Deadline": "9000", "X-Gemstone-Hops": "2", "X-Request-Id": "outer-7"}
    call(chain[0].port, "relay", way, 0.05, headers={**sent, "traceparent": TRACE})

    wait_until(lambda: chain[2].sent, "the last link")
    for hops, link in enumerate(chain, 2):
        for headers in link.sent:
            assert headers["X-Request-Id"] == "outer-7"
            assert headers["X-Gemstone-Hops"] == str(hops)
            trace = str(headers["traceparent"]).split("-")
            assert trace[:2] + trace[3:] == ["00", TRACE.split("-")[1], "01"]
    # Each link takes what is left.
    left = [int(str(link.sent[0]["X-Gemstone-Deadline"])) for link in chain]
    assert left[0] == 9000
    for earlier, later in itertools.pairwise(left):
        assert 1000 < later <= earlier - 50
    assert len(chain[1].sent) == (3 if way == "batch" else 1)


def test_the_clients_own_limit_counts_when_it_is_earlier(chain: list[Link]) -> None:
    first, middle, _ = chain
    for seconds, limits in ((6, {"timeout": 6}), (5, {"timeout": LIMIT, "total_timeout": 5})):
        first.client = first.client.with_options(**limits)
        result_of(call(first.port, "relay", headers={"X-Gemstone-Deadline": "9000"}))
        left = int(str(middle.sent.pop()["X-Gemstone-Deadline"]))
        assert 1000 < left <= seconds * 1000 + LAG


def test_outside_a_service_the_limit_of_the_client_is_all_there_is(chain: list[Link]) -> None:
    with RemoteService(chain[2].url, timeout=(3, 8)) as client:
        headers = client.methods.relay()
    assert 4000 < int(headers.pop("X-Gemstone-Deadline")) <= 8000 + LAG
    assert headers == {"X-Gemstone-Hops": None, "X-Request-Id": None, "traceparent": None}


def test_a_call_without_an_id_gets_one_for_the_whole_chain(chain: list[Link]) -> None:
    for _ in range(2):
        result_of(call(chain[0].port, "relay"))

    ids = [[headers["X-Request-Id"] for headers in link.sent] for link in chain]
    assert ids[0] == [None, None]
    assert ids[1] == ids[2]
    assert len(set(ids[1])) == 2
    assert all(ids[1])
    assert [headers["X-Gemstone-Hops"] for headers in chain[2].sent] == ["2", "2"]


def test_two_callers_are_not_mixed_up(chain: list[Link]) -> None:
    def ask(name: str) -> Any:
        headers = {"X-Request-Id": name}
        return result_of(call(chain[0].port, "relay", "async_", 0.01, headers=headers))

    names = [f"caller-{number}" for number in range(30)]
    asking = [gevent.spawn(ask, name) for name in names]
    assert [greenlet.get(timeout=LIMIT)["X-Request-Id"] for greenlet in asking] == names


def test_greenlets_and_callbacks_keep_it_too(chain: list[Link]) -> None:
    sent = {"X-Gemstone-Deadline": "9000", "X-Request-Id": "outer-8", "X-Gemstone-Hops": "1"}

    seen = result_of(call(chain[1].port, "fan_out", headers=sent))

    assert len(seen) == 5
    for headers in seen:
        assert headers["X-Request-Id"] == "outer-8"
        assert headers["X-Gemstone-Hops"] == "2"
        assert 1000 < int(headers["X-Gemstone-Deadline"]) < 9000


def test_a_circle_ends(chain: list[Link], caplog: pytest.LogCaptureFixture) -> None:
    first, _, last = chain
    _connect(last, first)
    with client_of(first) as client:
        fault_of(client.methods.relay, errors.InternalError)  # each link masks the next one's
    last.client.close()
    assert sum(len(link.sent) for link in chain) == MicroService.max_hops + 1
    assert errors.TooManyHops.message in caplog.text


def test_when_the_deadline_is_over_nothing_is_sent(chain: list[Link]) -> None:
    """A method that cleans up after its end does not bother the next service."""
    reply = call(chain[1].port, "cleanup_after_the_end", headers={"X-Gemstone-Deadline": "200"})

    assert reply.json["error"]["code"] == errors.DeadlineExceeded.code
    wait_until(lambda: chain[1].sent, "the end of the method")
    assert chain[1].sent == [{"error": "DeadlineExceeded"}]
    assert chain[2].sent == []


def test_every_kind_of_call_is_refused_when_the_deadline_is_over() -> None:
    with FaultyServer() as server, client_of(server) as client:
        token = current_call.set(Call(deadline=time.monotonic() - 1))
        try:
            for way in EVERY_WAY.values():
                error = fault_of(functools.partial(way, client), errors.DeadlineExceeded)
                assert not isinstance(error, errors.RemoteError)
        finally:
            current_call.reset(token)
        assert server.connections == 0
        assert client.methods.ping() == "pong"


def test_a_service_that_does_not_know_deadlines_is_left_in_time(make_service: Any) -> None:
    """The next one hangs: the caller's deadline ends the waiting, and says so."""

    def wait_for_it(self: Any) -> Any:
        return client_of(server).methods.ping()

    service = make_service(wait_for_it)
    with FaultyServer(hang, answer()) as server, running_service(service) as outer:

        def is_left() -> int:
            reply = call(outer.port, "wait_for_it", headers={"X-Gemstone-Deadline": "500"})
            assert reply.json["error"]["code"] == errors.DeadlineExceeded.code
            return server.received["ping"]

        # Where the machine stands still, all of that may pass before the next one is called.
        wait_until(is_left, "a call to the next one")
        assert server.received["ping"] == 1
