"""Testing services: an in-process client, a running service, fakes of others, a pytest plugin.

Reading order: `client`, `running`, `remote` (for what calls other services), `events`,
`fixtures` (types), `plugin` (fixtures; registered as a pytest plugin on install and
patching nothing), `monkey` (``-p gemstone_sync.testing.monkey``: patches the process early).
"""

from .client import HttpReply, ServiceClient
from .events import EventRecorder, EventWaiter, RecordedEvent, drain, event_waiter, record_events
from .fixtures import (
    EventWaiterFixture,
    RecordedEventsFixture,
    RunningServiceFixture,
    ServiceClientFixture,
)
from .remote import FakeRemoteService, InProcessAdapter
from .running import running_service

__all__ = [
    "EventRecorder",
    "EventWaiter",
    "EventWaiterFixture",
    "FakeRemoteService",
    "HttpReply",
    "InProcessAdapter",
    "RecordedEvent",
    "RecordedEventsFixture",
    "RunningServiceFixture",
    "ServiceClient",
    "ServiceClientFixture",
    "drain",
    "event_waiter",
    "record_events",
    "running_service",
]
