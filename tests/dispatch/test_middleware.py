"""Middleware around calls and events: order, answers of its own, and what it cannot swallow."""

import gevent
import pytest
from gevent.event import Event

from gemstone_sync import (
    AccessDenied,
    BasePlugin,
    DeadlineExceeded,
    InternalError,
    InvalidParams,
    JsonRpcRequest,
    JsonRpcResponse,
    MemoryEventTransport,
    MicroService,
    Reject,
    RemoteError,
    RpcError,
    event_handler,
    exposed_method,
)
from gemstone_sync.event import deadletters
from gemstone_sync.testing import ServiceClient
from tests.support.waiting import LIMIT, wait_until


class SoldOut(RpcError):
    code = -5
    message = "Sold out"


class Shop(MicroService):
    name = "shop"
    port = 0

    def __init__(self):
        super().__init__()
        self.seen = []

    def before_method_call(self, request):
        self.seen.append("before")

    def after_method_call(self, request, response):
        self.seen.append("after")

    @exposed_method()
    def sell(self, count: int = 1):
        self.seen.append("method")
        return count

    @exposed_method()
    def fail(self):
        raise SoldOut(data=1)

    @exposed_method(timeout=0.05)
    def hang(self):
        gevent.sleep(LIMIT)

    @exposed_method(private=True)
    def secret(self): ...


def plugin(tag):
    class Around(BasePlugin):
        name = tag

        def around_method_call(self, request, proceed):
            self.microservice.seen.append(f"{tag} in")
            response = proceed()
            self.microservice.seen.append(f"{tag} out")
            return response

    return Around()


def shop(around, **attributes):
    """A client of a shop with this middleware of the service's own."""
    cls = type("Around", (Shop,), {"around_method_call": around, **attributes})
    return ServiceClient(cls())


def test_plugins_are_outside_in_their_order_then_the_service_then_the_method():
    def around(self, request, proceed):
        self.seen.append(f"service in {request.method}")
        proceed()
        self.seen.append("service out")  # None stands for what proceed gave

    client = shop(around, plugins=[plugin("a"), plugin("b")])

    assert client.call("sell", 3) == 3
    assert client.service.seen == [
        *("before", "a in", "b in", "service in sell", "method"),
        *("service out", "b out", "a out", "after"),
    ]


def test_nobody_unauthenticated_and_no_wrong_parameter_gets_there():
    client = shop(lambda self, request, proceed: JsonRpcResponse(result="cached"))

    assert client.call("sell") == "cached"
    with pytest.raises(AccessDenied):
        client.call("secret")
    with pytest.raises(InvalidParams):
        client.call("sell", "three")


def test_an_answer_from_elsewhere_gets_this_call_s_id():
    kept = []

    def cache(self, request, proceed):
        if not kept:
            kept.append(proceed())
        return kept[0]

    client = shop(cache)
    assert [client.call("sell", n) for n in (1, 2, 3)] == [1, 1, 1]  # the client compares ids
    assert client.service.seen.count("method") == 1


def test_what_the_method_raises_is_raised_by_proceed_and_may_be_turned_into_an_answer():
    def fallback(self, request, proceed):
        try:
            return proceed()
        except SoldOut as error:
            return JsonRpcResponse(result=["none", error.data])

    assert shop(fallback).call("fail") == ["none", 1]


def test_a_fault_or_deadline_that_is_swallowed_without_an_answer_reaches_the_caller():
    def swallow(self, request, proceed):
        try:
            proceed()
        except BaseException:
            self.seen.append("swallowed")

    client = shop(swallow)
    with pytest.raises(RemoteError) as caught:
        client.call("fail")
    assert caught.value.code == SoldOut.code
    with pytest.raises(DeadlineExceeded):
        client.call("hang")
    assert client.service.seen.count("swallowed") == 2


def test_an_answer_of_its_own_counts_after_the_deadline_too():
    def stale(self, request, proceed):
        try:
            return proceed()
        except BaseException:
            return JsonRpcResponse(result="stale")

    assert shop(stale).call("hang") == "stale"


def test_one_that_hangs_ends_at_the_call_s_deadline():
    with pytest.raises(DeadlineExceeded):
        shop(lambda self, request, proceed: gevent.sleep(LIMIT)).call("hang")


@pytest.mark.parametrize(
    ("around", "told"),
    [
        (lambda self, request, proceed: None, "Around.around_method_call did not call proceed()"),
        (lambda self, request, proceed: 3, "returns None or a JsonRpcResponse, not a int"),
        (lambda self, request, proceed: proceed(3), "proceed takes nothing or a JsonRpcRequest"),
        (lambda self, request, proceed: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_one_that_does_not_do_its_part_is_an_internal_error_and_named(around, told, caplog):
    with pytest.raises(InternalError):
        shop(around).call("sell")
    assert told in caplog.text


def test_it_may_refuse_with_an_error_of_its_own():
    def refuse(self, request, proceed):
        raise SoldOut("Closed on Sundays")

    with pytest.raises(RemoteError, match="Closed on Sundays"):
        shop(refuse).call("sell")


def test_with_another_request_its_parameters_count_and_are_checked():
    def double(self, request, proceed):
        count = request.params[0]
        return proceed(JsonRpcRequest("sell", [count * 2], request.id))

    client = shop(double)
    assert client.call("sell", 4) == 8
    with pytest.raises(InvalidParams):
        shop(lambda self, r, proceed: proceed(JsonRpcRequest("sell", ["x"], r.id))).call("sell")


def test_proceeding_again_calls_the_method_again():
    def twice(self, request, proceed):
        proceed()
        return proceed()

    client = shop(twice)
    assert client.call("sell") == 1
    assert client.service.seen.count("method") == 2


def test_where_nobody_overrides_it_nothing_is_called():
    class Quiet(BasePlugin):
        name = "quiet"

    service = type("Plain", (Shop,), {"plugins": [Quiet()]})()
    assert service.dispatcher._hooks.around is None
    assert service._assemble().around_event is None


# Events


class Handling(Shop):
    event_transports = [MemoryEventTransport()]

    def __init__(self):
        super().__init__()
        self.done = Event()

    @event_handler("sold", retries=1, backoff=0.01)
    def on_sold(self, body: int):
        self.seen.append(("handler", body))
        if body < 0:
            raise ValueError("returned")
        self.done.set()


def handled(running_service, around, body, **attributes):
    cls = type("Around", (Handling,), {"around_event": around, **attributes})
    service = running_service(cls, event_transports=[MemoryEventTransport()])
    service.emit_event("sold", body)
    return service


def test_around_an_event_the_envelope_is_seen_and_plugins_are_outside(running_service):
    class Outer(BasePlugin):
        name = "outer"

        def around_event(self, event, proceed):
            self.microservice.seen.append(("plugin", event.name))
            return proceed()

    def around(self, event, proceed):
        self.seen.append(("in", event.name, event.attempts))
        proceed()
        self.seen.append("out")

    service = handled(running_service, around, 3, plugins=[Outer()])
    wait_until(lambda: "out" in service.seen, "the event")
    assert service.seen == [("plugin", "sold"), ("in", "sold", 0), ("handler", 3), "out"]


@pytest.mark.parametrize(
    ("around", "reason", "text"),
    [
        (lambda self, event, proceed: None, "failed", "did not call proceed()"),
        (lambda self, event, proceed: proceed(3), "failed", "or the event itself"),
        (lambda self, event, proceed: 1 / 0, "failed", "ZeroDivisionError"),
        (lambda self, event, proceed: refuse(), "rejected", "not today"),
    ],
)
def test_an_event_that_it_does_not_let_through_is_a_dead_letter(
    running_service, around, reason, text
):
    service = handled(running_service, around, 3)
    (transport,) = service.event_transports
    wait_until(lambda: deadletters.list(transport), "the dead letter")

    (letter,) = deadletters.list(transport)
    assert (letter.reason, text in (letter.error or "")) == (reason, True)
    assert not service.seen


def refuse():
    raise Reject("not today")


def test_one_around_an_event_that_hangs_ends_at_the_handlers_timeout(running_service):
    class Hanging(Handling):
        seen = []

        @event_handler("sold", timeout=0.05, retries=0)
        def on_sold(self, body: int):
            self.seen.append(body)

        def around_event(self, event, proceed):
            if event.body == b"1":  # the other one takes no turn of the loop, however busy
                gevent.sleep(LIMIT)
            return proceed()

    service = running_service(Hanging, event_transports=[MemoryEventTransport()])
    service.emit_event("sold", 1)
    service.emit_event("sold", 2)
    (transport,) = service.event_transports
    wait_until(lambda: deadletters.list(transport), "the dead letter")
    assert "longer than its timeout" in (deadletters.list(transport)[0].error or "")
    wait_until(lambda: service.seen == [2], "the other event")


def test_a_failure_that_it_swallows_still_counts(running_service):
    def swallow(self, event, proceed):
        try:
            proceed()
        except ValueError:
            self.seen.append("swallowed")

    service = handled(running_service, swallow, -1)
    (transport,) = service.event_transports
    wait_until(lambda: deadletters.list(transport), "the dead letter")
    assert service.seen == [("handler", -1), "swallowed"] * 2


def test_it_may_say_that_an_event_is_handled(running_service):
    service = handled(running_service, lambda self, event, proceed: "known already", 3)
    (transport,) = service.event_transports
    assert transport.drain(LIMIT)
    assert not service.seen
    assert not deadletters.list(transport)
