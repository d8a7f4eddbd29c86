"""The events that a service declares to emit: what leaves is what was promised."""

import dataclasses
import logging

import pytest

from gemstone_sync import MemoryEventTransport, MicroService, ServiceConfigurationError
from gemstone_sync.testing import record_events


@dataclasses.dataclass
class OrderPlaced:
    order: int


class Shop(MicroService):
    name = "shop"
    emits = {"order.placed": OrderPlaced, "stock.low": "list[int]"}

    def __init__(self) -> None:
        self.event_transports = [MemoryEventTransport()]
        super().__init__()


@pytest.mark.parametrize("body", [OrderPlaced(1), {"order": 1}])
def test_what_fits_leaves(body):
    service = Shop()
    with record_events(service) as recorder:
        service.emit_event("order.placed", body)
    assert [event.body for event in recorder.events] == [{"order": 1}]


@pytest.mark.parametrize(
    ("name", "body", "told"),
    [
        ("order.placed", {"order": "one"}, r"'order\.placed' is no OrderPlaced: Expected `int`"),
        ("order.placed", {}, "missing required field `order`"),
        ("stock.low", ["x"], r"'stock\.low' is no list\[int\]"),
    ],
)
def test_what_does_not_fit_stays_here(name, body, told):
    service = Shop()
    with record_events(service) as recorder:
        with pytest.raises(ValueError, match=told):
            service.emit_event(name, body)
        with pytest.raises(ValueError, match=told):
            service.emit_events([("stock.low", [1]), (name, body)])
    assert recorder.events == []


def test_a_name_that_is_not_declared_is_warned_of_once(caplog):
    service = Shop()
    for name in ("order.gone", "order.gone", "order.lost"):
        service.emit_event(name, 1)

    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told == [
        "emits says nothing of the event 'order.gone'",
        "emits says nothing of the event 'order.lost'",
    ]


def test_a_service_that_declares_nothing_is_not_warned(caplog):
    class Quiet(Shop):
        emits = {}

    Quiet().emit_event("order.gone", 1)

    assert caplog.records == []


class Custom:
    pass


@pytest.mark.parametrize(
    ("emits", "told"),
    [
        ({"order.*": int}, r"Wrong\.emits\['order\.\*'\]"),
        ({"order": Custom}, r"Wrong\.emits\['order'\]: .*Custom"),
        ({"order": "Nowhere"}, r"Wrong\.emits\['order'\]: .*Nowhere"),
        ([1], r"Wrong\.emits must be a dict"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_service_is_made(emits, told):
    wrong = type("Wrong", (Shop,), {"emits": emits})

    with pytest.raises(ServiceConfigurationError, match=told):
        wrong().app  # noqa: B018
