"""Testing services: an in-process client, a running service, fakes of others, a pytest plugin.

Reading order: `client`, `running`, `remote` (for what calls other services), `events`,
`strict` (methods that break their contract), `fixtures` (types), `plugin` (fixtures; registered as
a pytest plugin on install and patching nothing), `monkey` (``-p gemstone_sync.testing.monkey``:
patches the process early).

Keywords of `service_client` and `running_service` are attributes, set before the start:
`running_service(Orders, event_transports=[MemoryEventTransport()], get_service=lambda name: users)`
needs no broker, and its `self.get_service(…)` gives the fake. Of what it emits:

- `emitted = recorded_events(service)`, then `assert emitted.named("order.placed")[0].body ==
  {"item": "tea"}`;
- `placed = event_waiter(service, "order.*")`, then `assert placed.wait() == {"item": "tea"}`;
- work needs a worker: `running_service(Worker, event_transports=[transport])` over the same
  transport declares its queue, or `recorded_events(service, send=False)` keeps all from being
  sent.

`FakeRemoteService`, and `InProcessAdapter` (a real client over a service of this process, without
a socket), are in `gemstone_sync.testing`.

With `headers={…}` a client sends them with each call; `client.request("GET", "/page")` asks for a
page. The types of the fixtures, for tests that are checked, are `ServiceClientFixture`,
`RunningServiceFixture`, `RecordedEventsFixture` and `EventWaiterFixture`.

The plugin patches nothing. `addopts = -p gemstone_sync.testing.monkey` patches the test process
early, which most projects want. Both work in pytest-xdist's processes.
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
from .strict import StrictErrors, strict_errors

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
    "StrictErrors",
    "drain",
    "event_waiter",
    "record_events",
    "running_service",
    "strict_errors",
]
