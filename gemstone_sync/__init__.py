"""gemstone_sync: JSON-RPC 2.0 microservices in plain blocking Python, on gevent and Flask.

Public names are loaded on first use (PEP 562). The first use of a service-side name, such as
`MicroService`, patches the process so that blocking calls switch greenlets; a program that imported
other things before is started over for it (`concurrency.starting_over`). Client-side names and
errors never patch. ``GEMSTONE_MONKEY_PATCH=0`` in the environment opts out.

Reading order of the packages, from the bottom: `errors`, `protocol` (bytes <-> messages),
`concurrency` (greenlets), `config`, `client` (RemoteService), `event` (broadcast and work, on
kombu), `discovery` (finding services), `contract` (type hints), `dispatch` (bytes -> your method ->
bytes), `server` (HTTP), `ops` (health, logs), `service` (MicroService, which wires all of it),
`registry` (a service), `cli` (the gemstone command), `testing`.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .client import (
        AsyncMethodCall,
        BasicAuth,
        BatchResult,
        BearerToken,
        CookieToken,
        HeaderToken,
        MethodCall,
        Notification,
        RemoteService,
        Result,
        as_completed,
        first_completed,
        make_callbacks,
    )
    from .concurrency import run_async
    from .config import (
        BaseConfigurator,
        CommandLineConfigurator,
        Configurable,
        EnvironmentConfigurator,
        FileConfigurator,
        IniFileConfigurator,
        JsonFileConfigurator,
        TomlFileConfigurator,
        YamlFileConfigurator,
    )
    from .discovery import (
        BaseDiscoveryStrategy,
        HttpDiscoveryStrategy,
        MemoryDiscoveryStrategy,
        RedisDiscoveryStrategy,
        StaticDiscoveryStrategy,
    )
    from .errors import (
        UNSET,
        AccessDenied,
        BadResponse,
        BrokerUnavailable,
        CircuitOpen,
        ConnectionFailed,
        ConnectionLost,
        ConnectTimeout,
        DeadlineExceeded,
        EventNotDelivered,
        GemstoneError,
        InternalError,
        InvalidParams,
        InvalidRequest,
        MethodNotFound,
        ParseError,
        PluginError,
        Reject,
        RemoteError,
        ResponseTooLarge,
        RetryLater,
        RpcError,
        ServerOverloaded,
        ServiceConfigurationError,
        ServiceNotFound,
        ServiceStartError,
        Timeout,
        TooManyHops,
        TransportError,
    )
    from .event import (
        BaseEventTransport,
        EventEmitter,
        KombuEventTransport,
        MemoryEventTransport,
        Outbox,
        RabbitMqEventTransport,
        RedisEventTransport,
        SqliteEventTransport,
        current_event,
        transport_from_url,
    )
    from .protocol import JsonRpcRequest, JsonRpcResponse
    from .registry import ServiceRegistry
    from .service import (
        BasePlugin,
        BasicAuthStrategy,
        BasicCookieStrategy,
        BearerTokenStrategy,
        Container,
        GemstoneCustomHandler,
        HeaderValidationStrategy,
        JsonRpcHandler,
        MicroService,
        Module,
        ValidationStrategy,
        async_method,
        event_handler,
        exposed_method,
        periodic,
        private_api_method,
        public_method,
        requires_handler_reference,
        route,
        run,
    )

__all__ = [
    # core classes
    "MicroService",
    "Container",
    "Module",
    "BasePlugin",
    "run",
    # calling other services
    "RemoteService",
    "MethodCall",
    "Notification",
    "Result",
    "BatchResult",
    "AsyncMethodCall",
    "as_completed",
    "first_completed",
    "make_callbacks",
    "run_async",
    "HeaderToken",
    "CookieToken",
    "BearerToken",
    "BasicAuth",
    # finding other services
    "BaseDiscoveryStrategy",
    "HttpDiscoveryStrategy",
    "RedisDiscoveryStrategy",
    "StaticDiscoveryStrategy",
    "MemoryDiscoveryStrategy",
    "ServiceRegistry",
    # events
    "BaseEventTransport",
    "RabbitMqEventTransport",
    "RedisEventTransport",
    "SqliteEventTransport",
    "MemoryEventTransport",
    "KombuEventTransport",
    "transport_from_url",
    "EventEmitter",
    "Outbox",
    "current_event",
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
    "GemstoneCustomHandler",
    "JsonRpcRequest",
    "JsonRpcResponse",
    # access
    "ValidationStrategy",
    "HeaderValidationStrategy",
    "BasicCookieStrategy",
    "BearerTokenStrategy",
    "BasicAuthStrategy",
    # configuration
    "Configurable",
    "BaseConfigurator",
    "CommandLineConfigurator",
    "EnvironmentConfigurator",
    "FileConfigurator",
    "TomlFileConfigurator",
    "YamlFileConfigurator",
    "JsonFileConfigurator",
    "IniFileConfigurator",
    # errors
    "UNSET",
    "GemstoneError",
    "ServiceConfigurationError",
    "ServiceStartError",
    "ServiceNotFound",
    "PluginError",
    "RpcError",
    "ParseError",
    "InvalidRequest",
    "MethodNotFound",
    "InvalidParams",
    "InternalError",
    "ServerOverloaded",
    "AccessDenied",
    "DeadlineExceeded",
    "TooManyHops",
    "ResponseTooLarge",
    "RemoteError",
    "EventNotDelivered",
    "BrokerUnavailable",
    "Reject",
    "RetryLater",
    "TransportError",
    "ConnectionFailed",
    "ConnectTimeout",
    "ConnectionLost",
    "CircuitOpen",
    "Timeout",
    "BadResponse",
]

#: The names that patch the process when first used.
_SERVICE = {
    "MicroService",
    "Container",
    "Module",
    "BasePlugin",
    "run",
    "exposed_method",
    "event_handler",
    "periodic",
    "route",
    "public_method",
    "private_api_method",
    "requires_handler_reference",
    "async_method",
    "JsonRpcHandler",
    "GemstoneCustomHandler",
    "ValidationStrategy",
    "HeaderValidationStrategy",
    "BasicCookieStrategy",
    "BearerTokenStrategy",
    "BasicAuthStrategy",
}

_CLIENT = {
    "RemoteService",
    "MethodCall",
    "Notification",
    "Result",
    "BatchResult",
    "AsyncMethodCall",
    "as_completed",
    "first_completed",
    "make_callbacks",
    "HeaderToken",
    "CookieToken",
    "BearerToken",
    "BasicAuth",
}

_DISCOVERY = {
    "BaseDiscoveryStrategy",
    "HttpDiscoveryStrategy",
    "RedisDiscoveryStrategy",
    "StaticDiscoveryStrategy",
    "MemoryDiscoveryStrategy",
}

_EVENT = {
    "BaseEventTransport",
    "RabbitMqEventTransport",
    "RedisEventTransport",
    "SqliteEventTransport",
    "MemoryEventTransport",
    "KombuEventTransport",
    "transport_from_url",
    "EventEmitter",
    "Outbox",
    "current_event",
}

_CONFIG = {
    "Configurable",
    "BaseConfigurator",
    "CommandLineConfigurator",
    "EnvironmentConfigurator",
    "FileConfigurator",
    "TomlFileConfigurator",
    "YamlFileConfigurator",
    "JsonFileConfigurator",
    "IniFileConfigurator",
}

#: Where each public name is defined; the rest is in `errors`.
_HOME = {
    **dict.fromkeys(_SERVICE, "service"),
    **dict.fromkeys(_CLIENT, "client"),
    **dict.fromkeys(_DISCOVERY, "discovery"),
    **dict.fromkeys(_EVENT, "event"),
    **dict.fromkeys(_CONFIG, "config"),
    "run_async": "concurrency",
    "ServiceRegistry": "registry",
    "JsonRpcRequest": "protocol",
    "JsonRpcResponse": "protocol",
}

if not TYPE_CHECKING:  # or checkers would believe that there is every name

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            from .missing import missing_name

            raise missing_name(__name__, name)
        module = importlib.import_module(f"{__name__}.{_HOME.get(name, 'errors')}")
        value = globals()[name] = getattr(module, name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _OldModules:
    """Asked for a module that nobody else finds: one that gemstone had is told with its twin."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.startswith(f"{__name__}."):
            from .missing import check_module

            check_module(name)


sys.meta_path.append(_OldModules)


#: A module that uses these patches by itself, or may not mean the names of services.
_LATER = {"gemstone_sync.patch", "patch", "patch_all", "TYPE_CHECKING"}


def _start_over_for_a_service() -> None:
    """Start the program over here, if the module that imports this is a service's and it is due.

    When it first uses the name it may have done more than import, and would do that twice.
    """
    frame = sys._getframe(2)  # below this package's own
    while frame.f_back is not None and frame.f_code.co_filename.startswith("<frozen importlib."):
        frame = frame.f_back
    if "MicroService" in frame.f_code.co_names and _LATER.isdisjoint(frame.f_code.co_names):
        from .concurrency import start_over_if_due

        start_over_if_due(frame.f_code)


_start_over_for_a_service()
