"""MicroService: the class that users write, and what wires it to everything below.

Importing this package patches the process (`gemstone_sync.concurrency.patch`), because a service
is written in blocking style and blocking calls must switch greenlets; not so beside an event loop.

Reading order: `microservice` (the base class), `container` and `decorators` (how methods are
exposed), `handler` and `auth` (the request, and who sent it), `assembly` (from attributes to a
dispatcher and a Flask app), `runner` (the life of one service), `own_thread`, `program` (signals,
workers), `neighbours` (registries, other services), `events`, `subscriptions` and `traffic` (saying
and hearing), `plugins`, `periodic_tasks`, `statistics`, `misspelt`.
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
    periodic,
    private_api_method,
    public_method,
    requires_handler_reference,
    route,
)
from .handler import GemstoneCustomHandler, JsonRpcHandler
from .microservice import MicroService
from .plugins import BasePlugin
from .program import run

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
