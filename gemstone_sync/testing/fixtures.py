"""The types of the pytest plugin's fixtures, for tests that annotate them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from ..service import MicroService
    from .client import ServiceClient
    from .events import Emitter, EventRecorder, EventWaiter

__all__ = [
    "EventWaiterFixture",
    "RecordedEventsFixture",
    "RunningServiceFixture",
    "ServiceClientFixture",
]

S = TypeVar("S", bound="MicroService")


class ServiceClientFixture(Protocol):
    """``service_client(MyService)`` gives an in-process client, stopped after the test."""

    def __call__(
        self,
        service: MicroService | type[MicroService],
        headers: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> ServiceClient:
        """Make one.

        :param headers: sent with every request.
        :param attributes: of the service, as for `running_service`.
        """


class RunningServiceFixture(Protocol):
    """``running_service(MyService)`` starts it on a free port; it is stopped at the end."""

    def __call__(self, service: S | type[S], **attributes: Any) -> S:
        """Start one, with these attributes."""


class RecordedEventsFixture(Protocol):
    """``recorded_events(service).events`` are those that it has emitted since."""

    def __call__(self, emitter: Emitter, *, send: bool = True) -> EventRecorder:
        """Record what a service or a transport emits."""


class EventWaiterFixture(Protocol):
    """``event_waiter(service, "said_hello").wait()`` is the body, once it was emitted since."""

    def __call__(self, emitter: Emitter, event_name: str) -> EventWaiter:
        """Make what waits for an event."""
