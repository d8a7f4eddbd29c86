"""Services for the suite, several instances of each in one process, and what they were told."""

from collections.abc import Callable
from typing import Any

import gevent

from gemstone_sync import MicroService, event_handler
from gemstone_sync.event import deadletters
from gemstone_sync.event.transport import BrokerEventTransport
from tests.support.waiting import LIMIT, wait_until, why_not_ready


class Node(MicroService):
    """A service without a port: events are all it does."""

    skip_configuration = True
    port = 0
    event_timeout = 60.0  # a broker is stopped and rabbitmqctl run meanwhile, on a busy machine


def handler(
    name: str,
    act: Callable[[Any], Any] = lambda body: None,
    *,
    method: str = "on_event",
    hint: Any = Any,
    **options: Any,
) -> dict[str, Any]:
    """The body of a service class with one handler, which records what it gets and then acts."""

    def on_event(self: Any, body: Any) -> None:
        self.told.append((self.name, method, body))
        act(body)

    on_event.__name__ = method
    on_event.__qualname__ = f"Node.{method}"
    on_event.__annotations__["body"] = hint
    return {method: event_handler(name, **options)(on_event)}


class Network:
    """Instances of services that are connected by one broker.

    :ivar told: (service's name, handler's name, body) of all that was handled, in order.
    :ivar emitter: a service without handlers.
    """

    def __init__(self, make_transport: Callable[..., BrokerEventTransport]) -> None:
        self.make_transport = make_transport
        self.told: list[tuple[str, str, Any]] = []
        self.nodes: list[MicroService] = []
        self.emitter = self.start("emitter")
        self.emit = self.emitter.emit_event
        self.emit_all = self.emitter.emit_events

    def start(
        self, service: str, *handlers: dict[str, Any], ready: bool = True, **options: Any
    ) -> MicroService:
        """Start one instance of a service; `ready` waits for it."""
        members: dict[str, Any] = {"name": service, "told": self.told}
        for members_of_one in handlers:
            members.update(members_of_one)
        node: MicroService = type("Node", (Node,), members)()
        node.event_transports = [self.make_transport(**options)]
        node.start(block=False)
        self.nodes.append(node)
        if ready:
            wait_until(lambda: why_not_ready(node) is None, f"{service} is ready")
        return node

    def wait_for(self, count: int) -> list[tuple[str, str, Any]]:
        """All that was handled, in order of names, when it is so many and no more is on its way."""
        wait_until(lambda: len(self.told) >= count, f"{count} events, not {len(self.told)}")
        for node in self.nodes:
            for transport in node.event_transports:
                assert transport.drain(LIMIT)
        assert len(self.told) == count
        return sorted(self.told, key=str)

    def letters(self, count: int = 1) -> list[deadletters.DeadLetterEntry]:
        """The dead letters, when they are so many."""
        transport = self.emitter.event_transports[0]
        wait_until(lambda: len(deadletters.list(transport)) >= count, "dead letters")
        return deadletters.list(transport)

    def close(self) -> None:
        with gevent.Timeout(LIMIT):
            for node in self.nodes:
                node.stop()
