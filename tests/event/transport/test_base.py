"""A user's own transport, with the four methods: what becomes of events, and how it stops."""

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.queue import Queue

from gemstone_sync.errors import EventNotDelivered, ServiceConfigurationError
from gemstone_sync.event.emission import make_envelope
from gemstone_sync.event.envelope import Envelope
from gemstone_sync.event.handlers import Handler, Subscriber
from gemstone_sync.event.transport import BaseEventTransport
from tests.support.waiting import LIMIT, wait_until


class Post(BaseEventTransport):
    """Sends what it can.

    :ivar faults: what `emit_event` raises, by body.
    """

    def __init__(self, **faults: BaseException) -> None:
        self.faults = faults
        self.sent: list[Any] = []

    def register_event_handler(self, *args: Any) -> None: ...
    def start_accepting_events(self) -> None: ...
    def on_event_received(self, *args: Any) -> None: ...

    def emit_event(self, event_name: str, event_body: Any, *, broadcast: bool = True) -> None:
        if event_body in self.faults:
            raise self.faults[event_body]
        if event_body == "hangs":
            gevent.sleep(LIMIT)
        self.sent.append(event_body)


class Radio(Post):
    """Receives what is put into `arriving`, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[str, Callable[[Any], Any]] = {}
        self.arriving: Queue[Any] = Queue()

    def register_event_handler(
        self, handler_func: Callable[[Any], Any], handled_event_name: str
    ) -> None:
        self.handlers[handled_event_name] = handler_func

    def start_accepting_events(self) -> None:
        while True:
            self.handlers["x"](self.arriving.get())


def outcome(post: Post, *bodies: str, timeout: float = LIMIT) -> tuple[list[str], list[str], str]:
    """The bodies of those that it refuses and of those of which it knows nothing; what it says."""
    envelopes: list[Envelope] = [make_envelope("x", body) for body in bodies]
    with pytest.raises(EventNotDelivered) as caught:
        post.publish(envelopes, timeout=timeout)
    error = caught.value
    assert error.unconfirmed is not None
    body = {envelope.id: body for envelope, body in zip(envelopes, bodies, strict=True)}
    return [body[id] for id in error.refused], [body[id] for id in error.unconfirmed], str(error)


@pytest.mark.parametrize("fault", [ValueError("no"), KeyError("no"), ServiceConfigurationError()])
def test_one_that_it_refuses_is_told_and_the_others_are_sent_once(fault):
    post = Post(b=fault)
    refused, unknown, text = outcome(post, "a", "b", "c", "d")
    assert (refused, unknown, post.sent) == (["b"], [], ["a", "c", "d"])
    assert text.startswith("Post: 1 of 4 not delivered: ")


def test_what_the_end_of_its_connection_leaves_is_not_refused():
    gone = OSError("broken pipe")
    post = Post(c=gone, d=gone)
    assert outcome(post, "a", "b", "c", "d")[:2] == ([], ["c", "d"])
    post = Post(a=gone, b=TypeError("no"), c=gone)
    assert outcome(post, "a", "b", "c")[:2] == (["b"], ["a", "c"])


def test_the_time_is_for_all_of_them_together():
    post = Post()
    assert outcome(post, "a", "hangs", "c", timeout=0.05)[:2] == ([], ["hangs", "c"])
    assert post.sent == ["a"]


def test_a_single_one_raises_what_the_user_raises_and_a_timeout_of_the_caller_is_the_callers():
    fault = ServiceConfigurationError("mine")
    with pytest.raises(ServiceConfigurationError, match="mine"):
        Post(a=fault).publish([make_envelope("x", "a")], timeout=LIMIT)
    envelopes = [make_envelope("x", body) for body in ("a", "hangs", "c")]
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        Post().publish(envelopes, timeout=LIMIT)


@pytest.mark.parametrize("timeout", [LIMIT, 0.05])
def test_at_its_stop_the_handler_that_runs_has_its_time_and_no_other_begins(timeout):
    begun: list[int] = []
    ended: list[int] = []

    def handle(body: int) -> None:
        begun.append(body)
        gevent.sleep(0.2)
        ended.append(body)

    radio = Radio()
    handler = Handler(pattern="x", function=handle, name="on_x")
    subscriber = Subscriber(service="s", instance="i", handlers=(handler,))
    reception = radio.receive(subscriber, lambda handler, body: handler.function(body))
    radio.arriving.put(1)
    radio.arriving.put(2)
    wait_until(lambda: begun, "the first event")
    assert reception.stop(timeout) is (timeout == LIMIT)
    gevent.sleep(0.3)
    assert (begun, ended) == ([1], [1] if timeout == LIMIT else [])
