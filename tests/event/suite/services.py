"""Services for the suite, several instances of each in one process, and what they were told."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from gemstone_sync import MicroService, event_handler
from gemstone_sync.event.transport import BrokerEventTransport
from tests.support.waiting import LIMIT, wait_until

__all__ = ["Network", "handler"]


class Node(MicroService):
    """A service without a port: events are all it does.

    :ivar told: (handler's name, body) of all that was handled, in order.
    """

    name = "node"
    skip_configuration = True
    port = 0

    def __init__(self, told: list[tuple[str, str, Any]], transport: BrokerEventTransport) -> None:
        super().__init__()
        self.told = told
        self.event_transports = [transport]


def handler(
    name: str,
    act: Callable[[Any, Any], Any] | None = None,
    *,
    method: str = "on_event",
    **options: Any,
) -> dict[str, Any]:
    """The body of a service class with one handler, which records what it gets and then acts."""

    def on_event(self: Node, body: Any) -> None:
        self.told.append((self.name, method, body))
        if act is not None:
            act(self, body)

    on_event.__name__ = method
    on_event.__qualname__ = f"Node.{method}"
    return {method: event_handler(name, **options)(on_event)}


class Network:
    """Instances of services that are connected by one broker."""

    def __init__(self, make_transport: Callable[..., BrokerEventTransport]) -> None:
        self.make_transport = make_transport
        #: (service's name, handler's name, body) of all that was handled, in order.
        self.told: list[tuple[str, str, Any]] = []
        self.nodes: list[Node] = []

    def start(self, service: str, *handlers: dict[str, Any], **options: Any) -> Node:
        """Start one instance of a service."""
        members: dict[str, Any] = {"name": service}
        for members_of_one in handlers:
            members.update(members_of_one)
        node = type("Node", (Node,), members)(self.told, self.make_transport(**options))
        node.start(block=False)
        self.nodes.append(node)
        wait_until(lambda: node.lifecycle.why_not_ready() is None, f"{service} is ready")
        return node

    def emitter(self) -> Node:
        """A service without handlers."""
        return self.start("emitter")

    def wait_for(self, count: int, limit: float = LIMIT) -> list[tuple[str, str, Any]]:
        """All that was handled, once it is so many."""
        wait_until(lambda: len(self.told) >= count, f"{count} events, not {len(self.told)}", limit)
        return list(self.told)

    def settle(self) -> None:
        """Wait until nothing is on its way any more."""
        for node in self.nodes:
            for transport in node.event_transports:
                assert transport.drain(LIMIT)

    def counts(self) -> Counter[str]:
        """How often each service was told of something."""
        return Counter(service for service, _, _ in self.told)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
