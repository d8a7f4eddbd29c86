"""gemstone_sync: JSON-RPC 2.0 microservices in plain blocking Python, on gevent and Flask.

Public names are loaded on first use (PEP 562). The first use of a service-side name, such as
`MicroService`, patches the process so that blocking calls switch greenlets; a program that imported
other things before is started over for it (`concurrency.starting_over`). Client-side names and
errors never patch. ``GEMSTONE_MONKEY_PATCH=0`` in the environment opts out.

Four ways lead through the package, each in one direction; README.md has them with every file:

- a call: `server.gevent_server`, `connection`, `gate`, `endpoint`; `dispatch.dispatcher` (which
  reads by `protocol`, takes a slot and starts a deadline by `concurrency`, binds parameters by
  `contract`); your method; `protocol.writer`; `server.response`;
- an event: `service.events`, `event.emission`, `event.outbox`, `event.runtime.publisher`,
  `event.transport`; the broker; `event.runtime.consumer_loop`, `processing`, `attempts`; your
  handler;
- a setting: `config.setting` on a class, `service.settings`, `config.command_line`, `environment`
  and `files`, `service.configuration`, `service.assembly`;
- a start: `concurrency.patching`, `service.program`, `service.configuration`, `service.assembly`,
  `service.runner`.

The layers, from the bottom, import downwards only: `errors`; `tracing` (spans); `protocol` (bytes
<-> messages), `concurrency` (greenlets), `config`; `sqlite`, `redis`; `contract` (type hints);
`client` (RemoteService); `event` (brokers), `discovery` (finding services); `dispatch` (bytes ->
your method -> bytes); `server` (HTTP), `ops` (health, logs, metrics), `explorer` (a page); `mcp`
(tools for agents); `service` (MicroService, which wires all of it); `registry` (a service); `cli`
(the gemstone command), `testing`.

Where to put what: an error code into `errors`, a setting onto the class in `service` that uses
it, an option of a command into its file in `cli`, a broker into `event.transport`, a way to find
services into `discovery`, a library that waits in C into `concurrency.libraries`.
"""

import dis
import importlib
import sys
import typing

# By its whole name: what is imported by dots is a public name, as `_homes` finds them.
from gemstone_sync.version import __version__ as __version__


if typing.TYPE_CHECKING:  # the public names, once
    from .client import (
        AsyncMethodCall as AsyncMethodCall,
        BasicAuth as BasicAuth,
        BatchResult as BatchResult,
        BearerToken as BearerToken,
        CookieToken as CookieToken,
        HeaderToken as HeaderToken,
        MethodCall as MethodCall,
        Notification as Notification,
        RemoteService as RemoteService,
        Result as Result,
        as_completed as as_completed,
        first_completed as first_completed,
        make_callbacks as make_callbacks,
    )
    from .concurrency import (
        run_async as run_async,
    )
    from .config import (
        BaseConfigurator as BaseConfigurator,
        CommandLineConfigurator as CommandLineConfigurator,
        Configurable as Configurable,
        EnvironmentConfigurator as EnvironmentConfigurator,
        FileConfigurator as FileConfigurator,
        IniFileConfigurator as IniFileConfigurator,
        JsonFileConfigurator as JsonFileConfigurator,
        TomlFileConfigurator as TomlFileConfigurator,
        YamlFileConfigurator as YamlFileConfigurator,
        setting as setting,
    )
    from .contract.model import (
        NOTHING as NOTHING,
        Example as Example,
    )
    from .discovery import (
        BaseDiscoveryStrategy as BaseDiscoveryStrategy,
        HttpDiscoveryStrategy as HttpDiscoveryStrategy,
        MemoryDiscoveryStrategy as MemoryDiscoveryStrategy,
        RedisDiscoveryStrategy as RedisDiscoveryStrategy,
        StaticDiscoveryStrategy as StaticDiscoveryStrategy,
    )
    from .errors import (
        UNSET as UNSET,
        AccessDenied as AccessDenied,
        BadResponse as BadResponse,
        BrokerUnavailable as BrokerUnavailable,
        CircuitOpen as CircuitOpen,
        ConnectionFailed as ConnectionFailed,
        ConnectionLost as ConnectionLost,
        ConnectTimeout as ConnectTimeout,
        DeadlineExceeded as DeadlineExceeded,
        EventNotDelivered as EventNotDelivered,
        GemstoneError as GemstoneError,
        InternalError as InternalError,
        InvalidParams as InvalidParams,
        InvalidRequest as InvalidRequest,
        MethodNotFound as MethodNotFound,
        ParseError as ParseError,
        PluginError as PluginError,
        Reject as Reject,
        RemoteError as RemoteError,
        ResponseTooLarge as ResponseTooLarge,
        RetryLater as RetryLater,
        RpcError as RpcError,
        ServerOverloaded as ServerOverloaded,
        ServiceConfigurationError as ServiceConfigurationError,
        ServiceNotFound as ServiceNotFound,
        ServiceStartError as ServiceStartError,
        Timeout as Timeout,
        TooManyHops as TooManyHops,
        TransportError as TransportError,
    )
    from .event import (
        BaseEventTransport as BaseEventTransport,
        EventEmitter as EventEmitter,
        KombuEventTransport as KombuEventTransport,
        MemoryEventTransport as MemoryEventTransport,
        Outbox as Outbox,
        RabbitMqEventTransport as RabbitMqEventTransport,
        RedisEventTransport as RedisEventTransport,
        SqliteEventTransport as SqliteEventTransport,
        current_event as current_event,
        transport_from_url as transport_from_url,
    )
    from .protocol import (
        JsonRpcRequest as JsonRpcRequest,
        JsonRpcResponse as JsonRpcResponse,
    )
    from .registry import (
        ServiceRegistry as ServiceRegistry,
    )
    from .service import (
        BasePlugin as BasePlugin,
        BasicAuthStrategy as BasicAuthStrategy,
        BasicCookieStrategy as BasicCookieStrategy,
        BearerTokenStrategy as BearerTokenStrategy,
        Container as Container,
        GemstoneCustomHandler as GemstoneCustomHandler,
        HeaderValidationStrategy as HeaderValidationStrategy,
        JsonRpcHandler as JsonRpcHandler,
        MicroService as MicroService,
        Module as Module,
        ValidationStrategy as ValidationStrategy,
        async_method as async_method,
        event_handler as event_handler,
        exposed_method as exposed_method,
        health_check as health_check,
        periodic as periodic,
        private_api_method as private_api_method,
        public_method as public_method,
        requires_handler_reference as requires_handler_reference,
        route as route,
        run as run,
    )


def _homes() -> dict[str, str]:
    """Find the module of each public name: in the code of this one, where they are imported.

    A program that was packed by PyInstaller or the like has no source to look into.
    """
    homes, home = {}, ""
    code = dis.get_instructions(sys._getframe(1).f_code)
    steps = [step for step in code if step.opname != "EXTENDED_ARG"]
    for two_before, step in zip(steps, steps[2:], strict=False):
        if step.opname == "IMPORT_NAME":  # below it on the stack: the names, and how many dots
            home = step.argval if two_before.argval == 1 else ""
        elif step.opname == "IMPORT_FROM" and home:
            homes[step.argval] = home
    return homes


_HOMES = _homes()

__all__ = [*_HOMES]

if not typing.TYPE_CHECKING:  # or checkers would believe that there is every name

    def __getattr__(name: str) -> typing.Any:
        if name not in _HOMES:
            from .missing import missing_name

            raise missing_name(__name__, name)
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
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
