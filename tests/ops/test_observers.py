"""Observers of calls and events: who is told, and what it costs when nobody is there."""

import logging
from typing import Any

import gevent
import pytest

from gemstone_sync import (
    BasePlugin,
    InternalError,
    MemoryEventTransport,
    MethodCall,
    MicroService,
    RemoteService,
    event_handler,
    exposed_method,
)
from gemstone_sync.dispatch import ObservedCall
from gemstone_sync.event import observed
from gemstone_sync.ops import Observer, notifier, observers
from gemstone_sync.testing import ServiceClient, running_service
from tests.support.waiting import LIMIT


class Watching(Observer):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_call_finished(self, call: Any) -> None:
        self.seen.append(call)


class Failing(Observer):
    def __init__(self, failure: BaseException) -> None:
        self.failure = failure

    def __str__(self) -> str:
        return "the failing one"

    def on_call_finished(self, call: Any) -> None:
        raise self.failure


@pytest.mark.parametrize("failure", [ValueError("broken"), gevent.Timeout(1), SystemExit(3)])
def test_of_several_each_is_told_whatever_another_raises(failure, caplog):
    first, last = Watching(), Watching()
    tell = notifier([first, Failing(failure), Observer(), last], "on_call_finished")
    assert tell is not None
    with caplog.at_level(logging.ERROR):
        tell("a call")

    assert first.seen == last.seen == ["a call"]
    assert "the failing one failed in on_call_finished" in caplog.text


class Hanging(BasePlugin):
    name = "hanging"

    def wait(self, *_: Any) -> None:
        gevent.sleep(LIMIT)

    on_call_begun = on_call_finished = on_batch = on_internal_error = wait
    on_event_begun = on_event_finished = wait


def test_one_that_never_comes_back_is_cut_off_and_costs_no_call_and_no_event(monkeypatch, caplog):
    monkeypatch.setattr(observers, "_PATIENCE", 0.02)

    class Shop(MicroService):
        name = "observed"
        plugins = [Hanging()]
        event_transports = [MemoryEventTransport()]
        sold: list[int] = []

        @exposed_method()
        def sell(self, number: int) -> int:
            self.emit_event("sold", number)
            return 1 // number

        @event_handler("sold")
        def on_sold(self, number: int) -> None:
            self.sold.append(number)

    with running_service(Shop) as service:
        remote = RemoteService(service.url)
        assert remote.methods.sell(1) == 1
        with pytest.raises(InternalError):
            remote.methods.sell(0)
        assert len(remote.call_batch(MethodCall("sell", [1]))) == 1
        assert service.event_transports[0].drain(10)
    assert Shop.sold == [1, 0, 1]
    for hook in ("on_call_begun", "on_call_finished", "on_batch", "on_event_begun"):
        assert f"plugin 'hanging' failed in {hook}" in caplog.text
    assert "it was cut off after 0.02 s" in caplog.text


def test_where_none_overrides_a_method_nobody_is_called():
    assert notifier([Watching(), Observer()], "on_call_begun") is None
    assert notifier([], "on_call_finished") is None
    patched = Observer()
    patched.on_call_begun = print  # type: ignore[method-assign]
    assert notifier([patched], "on_call_begun") is not None


class Shop(MicroService):
    name = "observed"

    @exposed_method()
    def buy(self, item: str) -> str:
        return {"tea": "paid"}[item]


def test_without_observers_nothing_is_made_for_them(monkeypatch):
    def refuse(*_: Any) -> None:
        raise AssertionError("made")

    monkeypatch.setattr(ObservedCall, "__init__", refuse)
    monkeypatch.setattr(observed.ObservedEvent, "__init__", refuse)
    client = ServiceClient(Shop())
    assert client.call("buy", "tea") == "paid"
    with pytest.raises(InternalError):
        client.call("buy", "milk")


def test_statistics_and_plugins_observe_the_same_calls():
    class Plugin(BasePlugin):
        name = "watching"
        seen: list[Any] = []

        def on_call_finished(self, call: ObservedCall) -> None:
            self.seen.append((call.name, call.failed, call.seconds))

    service = type("Counted", (Shop,), {"use_statistics": True, "plugins": [Plugin()]})()
    client = ServiceClient(service)
    client.call("buy", "tea")
    with pytest.raises(InternalError):
        client.call("buy", "milk")

    counted = client.call("statistics")["methods"]["buy"]
    (_, ok, first), (_, failed, second) = Plugin.seen[:2]
    assert (ok, failed) == (False, True)
    assert (counted["calls"], counted["errors"]) == (2, 1)
    assert counted["max"] == max(first, second)
