"""MicroService: the class that users write, and what wires it to everything below.

Importing this package patches the process (`gemstone_sync.concurrency.patch`), because a service
is written in blocking style and blocking calls must switch greenlets; not so beside an event loop.

A start: `microservice` (what users call) -> `configuration` (settings from outside) -> `program`
(signals, workers), or `hosting` under another server (`foreign_server`) -> `runner` -> `assembly`
(from attributes to the parts: dispatcher, Flask app, periodic tasks, event runtime, discovery).

Reading order: `decorators` and `container` (how methods are exposed), `handler` and `auth` (the
request, and who sent it), `plugins`, `attributes` (every setting), `base` (the hooks), then the
parts: `discovery`, `event_runtime` and `events`, `event_handlers`, `periodic_tasks`,
`operating`, `threads`, `process_main`, `processes` and `elsewhere` (methods in threads and
processes); `assembly`, `runner` with `instance_lock`, `program`, `hosting`, `microservice`. No
module imports one that stands later.
"""

# ruff: noqa: E402
from ..concurrency import patch_unless_hosted, start_over_if_due

start_over_if_due()
patch_unless_hosted()

from .auth import (
    BasicAuthStrategy,
    BasicCookieStrategy,
    BearerTokenStrategy,
    HeaderValidationStrategy,
    ValidationStrategy,
)
from .container import Container, Module
from .decorators import (
    async_method,
    event_handler,
    exposed_method,
    health_check,
    periodic,
    private_api_method,
    public_method,
    requires_handler_reference,
    route,
)
from .handler import GemstoneCustomHandler, JsonRpcHandler
from .microservice import MicroService, run
from .plugins import BasePlugin

__all__ = [
    # what users subclass
    "MicroService",
    "Container",
    "Module",
    "BasePlugin",
    "GemstoneCustomHandler",
    # decorators
    "exposed_method",
    "event_handler",
    "periodic",
    "health_check",
    "route",
    "public_method",
    "private_api_method",
    "requires_handler_reference",
    "async_method",
    # the request
    "JsonRpcHandler",
    "ValidationStrategy",
    "HeaderValidationStrategy",
    "BasicCookieStrategy",
    "BearerTokenStrategy",
    "BasicAuthStrategy",
    # several services in one process
    "run",
]
