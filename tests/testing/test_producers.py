"""A service that calls and hands out work, tested without a broker and without its neighbours."""

import gemstone_sync
from gemstone_sync import MemoryEventTransport, RemoteService
from gemstone_sync.testing import FakeRemoteService


class Orders(gemstone_sync.MicroService):
    name = "shop.orders"
    event_transports = [gemstone_sync.RabbitMqEventTransport("nowhere.invalid")]

    @gemstone_sync.exposed_method()
    def place(self, item: str) -> None:
        self.get_service("shop.stock").methods.reserve(item)
        self.emit_event("order.placed", {"item": item})
        self.emit_event("invoice", {"item": item}, broadcast=False)


class Worker(gemstone_sync.MicroService):
    name = "shop.worker"

    @gemstone_sync.event_handler("invoice")
    def on_invoice(self, body: object) -> None: ...


def start(running_service, transport):
    stock = FakeRemoteService({"reserve": lambda item: None})
    attributes = {"event_transports": [transport], "get_service": lambda name: stock}
    return running_service(Orders, **attributes), stock


def test_with_a_worker_over_the_same_transport(running_service, recorded_events, event_waiter):
    transport = MemoryEventTransport()
    service, stock = start(running_service, transport)
    running_service(Worker, event_transports=[transport])
    emitted = recorded_events(service)
    placed = event_waiter(service, "order.*")
    RemoteService(service.url).methods.place("tea")
    assert placed.wait() == {"item": "tea"}
    assert emitted.named("invoice")[0].body == {"item": "tea"}
    assert [call.method_name for call in stock.calls] == ["reserve"]


def test_with_work_that_is_not_sent(running_service, recorded_events):
    service, _ = start(running_service, MemoryEventTransport())
    emitted = recorded_events(service, send=False)
    RemoteService(service.url).methods.place("tea")
    assert emitted.names == ["order.placed", "invoice"]
