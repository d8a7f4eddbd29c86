"""The attributes that a service class may set: each setting is declared here, and here only.

A setting's name, type hint, default and rule make its option, its variable, its check and its line
in ``--help``; its ``#:`` comment is the help text.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import flask

from ..config import BaseConfigurator, CommandLineConfigurator, Configurable, Seconds, setting
from ..config.rules import (
    ABOVE_0,
    HOST,
    LOG_LEVEL,
    OR_0,
    PATH,
    SECONDS,
    SECONDS_ABOVE_0,
    SWITCH,
    TEXT,
    URL,
    URL_PATH,
    Rule,
    choice,
    list_of,
    whole,
)
from ..config.setting_types import read_list
from ..event.deduplication import ProcessedEvents
from ..event.emission import MAX_SIZE
from ..event.outbox import Outbox
from ..event.transport import BaseEventTransport, transport_from_url
from ..protocol import WIRE_FORMATS
from ..server import ServerSettings
from .auth import HeaderValidationStrategy, ValidationStrategy
from .container import Container
from .plugins import BasePlugin
from .settings import port_of

__all__ = ["ServiceAttributes"]

#: The HTTP server has them without a service too, under gunicorn.
_SERVER = ServerSettings()

# Why some settings cannot be set from outside.
_FOUND_BY_IT = "its settings are found by it"
_OBJECTS = "holds objects, which only code can make"

_A_LIST = Rule("a list", list_of("").fits)
_PEM_FILE = Rule("the path of a PEM file", TEXT.fits).or_none()

_EXPLORER = Rule(
    'True, False or "private"', lambda v: isinstance(v, bool) or v == "private"
).or_none()

#: No paths of certificates.
_SWITCHES = ("true", "false", "yes", "no", "on", "off", "1", "0")


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, (tuple, list)) and len(entry) == 2


def _is_periodic_task(entry: Any) -> bool:
    return _is_pair(entry) and callable(entry[0]) and SECONDS_ABOVE_0.fits(entry[1])


def _is_static_dir(entry: Any) -> bool:
    return _is_pair(entry) and URL_PATH.fits(entry[0]) and PATH.fits(entry[1])


def _is_verify(value: Any) -> bool:
    return isinstance(value, bool) or (TEXT.fits(value) and value.lower() not in _SWITCHES)


def _is_strategy(value: Any) -> bool:
    return hasattr(value, "ping") and hasattr(value, "locate") and not isinstance(value, type)


def _is_configurator(value: Any) -> bool:
    return hasattr(value, "load") and hasattr(value, "get") and not isinstance(value, type)


def _are_emitted(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _transports(found: Any) -> list[BaseEventTransport]:
    return [transport_from_url(str(url)) for url in read_list(found)]


class ServiceAttributes:
    """The settings of a service, with their defaults. A part of `MicroService`."""

    #: The service's logger, from `get_logger`.
    logger: logging.Logger

    # Identification

    #: The name of the service. Required.
    name: str = setting(None, TEXT, in_code=_FOUND_BY_IT)  # type: ignore[assignment]
    #: The version of what the service promises, as its documents tell it.
    version: str = setting("0.0.0", TEXT, in_code="belongs to the code that it is the version of")
    #: The address to bind to: a host name or an IP address.
    host: str = setting("127.0.0.1", HOST)
    #: The port to bind to; 0, as an option also random, for any free one.
    port: int = setting(8000, whole(0, 65535), template=port_of)
    #: The path of the JSON-RPC endpoint.
    endpoint: str = setting("/api", URL_PATH)
    #: The URL under which other services reach this one. Unset, the bound address.
    accessible_at: str | None = setting(None, URL.or_none())

    # Access

    #: Where to look for the token that ``api_token_is_valid`` gets; the first that finds one wins.
    validation_strategies: Sequence[ValidationStrategy] = setting(
        [HeaderValidationStrategy("X-Api-Token")],
        list_of("ValidationStrategy instances", ValidationStrategy),
        in_code=_OBJECTS,
    )
    #: Hides private methods, and the types that they alone use, from callers that
    #: ``authenticate_request`` refuses: in documents, ``rpc.discover`` and ``get_service_specs``.
    hide_private: bool = setting(False, SWITCH)
    #: Host names that requests may be sent to (the ``Host`` header), ports aside; ``"*.a.b"`` is
    #: every name below a.b, ``"*"`` every name. None: on a loopback address the loopback names, on
    #: any other and under gunicorn every name.
    allowed_hosts: Sequence[str] | None = setting(None, list_of("host names", TEXT.fits).or_none())
    #: Origins whose web pages may call the service, e.g. ``"https://app.example.org"``; ``"*"`` is
    #: every origin.
    allowed_origins: Sequence[str] = setting((), list_of("origins", TEXT.fits))
    #: Signs cookies, here and in Flask sessions.
    secret_key: str | bytes | None = setting(
        None,
        Rule("a text or bytes", lambda v: v is None or isinstance(v, (str, bytes))),
        secret=True,
    )

    # Limits

    #: How many calls run at once. Each has a greenlet (a few kB), not a thread, so the default is
    #: high: it bounds memory and the load on what lies behind the service, not the CPU.
    max_parallel_blocking_tasks: int = setting(1000, ABOVE_0)
    #: How many calls may wait for a place; the next one gets HTTP 503.
    max_waiting_calls: int = setting(200, OR_0)
    #: Seconds that a call waits for a place before it gets HTTP 503.
    max_wait_seconds: Seconds = setting(5.0, SECONDS)
    #: Seconds that a call may take unless its method says otherwise; None for no limit. A method
    #: that computes without ever blocking cannot be interrupted.
    default_timeout: Seconds | None = setting(30.0, SECONDS_ABOVE_0.or_none())
    #: How many requests a batch may hold.
    max_batch_size: int = setting(100, ABOVE_0)
    #: ``"parallel"``, or ``"serial"``: one item after another.
    batch_mode: str = setting("parallel", choice("parallel", "serial"))
    #: Bytes of a request body; more is refused with HTTP 413.
    max_body_size: int = setting(10_000_000, OR_0)
    #: Bytes of a response; a result that is longer becomes an error.
    max_response_size: int = setting(_SERVER.max_response_size, OR_0)
    #: Through how many services a call may come, so that a circle of services ends.
    max_hops: int = setting(8, OR_0)
    #: Open connections; beyond it the one that is idle for longest is closed.
    max_connections: int = setting(_SERVER.max_connections, ABOVE_0)
    #: Seconds that a request's head may take to arrive.
    header_timeout: Seconds = setting(_SERVER.header_timeout, SECONDS_ABOVE_0)
    #: Seconds that a connection may be idle between two requests.
    keep_alive_timeout: Seconds = setting(_SERVER.keep_alive_timeout, SECONDS_ABOVE_0)
    #: Seconds without a byte of a request's body; on the whole it must come at 1 kB/s.
    body_timeout: Seconds = setting(_SERVER.body_timeout, SECONDS_ABOVE_0)
    #: Seconds that calls in flight, and all else that the service does, have to finish at its stop.
    stop_timeout: Seconds = setting(30.0, SECONDS)
    #: Seconds after SIGTERM in which ``/health/ready`` says 503 already while connections are still
    #: accepted: for load balancers that ask it to notice. `stop_timeout` begins after it.
    drain_delay: Seconds = setting(_SERVER.drain_delay, SECONDS)
    #: Seconds after that in which requests on open connections are still answered.
    drain_grace: Seconds = setting(_SERVER.drain_grace, SECONDS)

    # Server

    #: How many processes serve the address. Each runs the start and stop hooks; one that dies is
    #: replaced. Under gunicorn its own ``--workers`` counts.
    workers: int = setting(1, ABOVE_0)
    #: The PEM file of the server's certificate, for HTTPS (TLS 1.2 and up).
    certfile: str | None = setting(None, _PEM_FILE)
    #: The PEM file of its private key, when it is not in `certfile`.
    keyfile: str | None = setting(None, _PEM_FILE)
    #: Addresses and networks of proxies whose X-Forwarded-For, -Proto and -Host are believed.
    trusted_proxies: Sequence[str] = setting((), list_of("addresses and networks", TEXT.fits))
    #: Logs each request in combined format, to the logger ``gemstone_sync.access``. Other servers
    #: than ours have access logs of their own.
    access_log: bool = setting(False, SWITCH)

    # Logs

    #: How logs look on stderr: ``"console"``, or ``"json"``, one object a line. Where the program
    #: has set up logging itself, that counts: see `gemstone_sync.ops.JsonFormatter`.
    log_format: str = setting("console", choice("console", "json"))
    #: From which level up there are logs; None: from info up, or as the program has set it up.
    log_level: str | None = setting(None, LOG_LEVEL.or_none())
    #: Logs calls, and attempts at events, that take this long; None for none.
    slow_call_seconds: Seconds | None = setting(None, SECONDS_ABOVE_0.or_none())

    # What blocks

    #: Seconds for which something may hold the event loop, so that no other call goes on, until the
    #: log names it with its line; None for never.
    blocked_after: Seconds | None = setting(0.5, SECONDS_ABOVE_0.or_none())

    #: How many calls of ``exposed_method(threaded=True)`` run at once; None for the number of
    #: processors. More wait as calls do: `max_waiting_calls`, `max_wait_seconds`.
    max_threads: int | None = setting(None, ABOVE_0.or_none())
    #: How many processes ``exposed_method(cpu=True)`` uses, likewise.
    max_processes: int | None = setting(None, ABOVE_0.or_none())

    # Wire

    #: ``"jsonrpc"``, or ``"gemstone"`` for the responses that the old gemstone library wrote.
    wire_format: str = setting("jsonrpc", choice(*WIRE_FORMATS))
    #: False lets a text stand for a number or a bool in parameters and events: ``"3"`` for an int.
    strict_types: bool = setting(True, SWITCH)
    #: Checks each result against its method's return hint: one that does not fit is an internal
    #: error to the caller, with the reason in the log. Costs a second encoding of each result.
    validate_results: bool = setting(False, SWITCH)
    #: Adds class and text of an unexpected exception to the reply. Not for production.
    debug: bool = setting(False, SWITCH)

    # Web

    #: (URL prefix, directory) pairs. Relative directories start at the file of the class
    #: that sets them.
    static_dirs: Sequence[tuple[str, str | os.PathLike[str]]] = setting(
        [],
        list_of("(URL prefix, directory) pairs", _is_static_dir),
        in_code="says which of the program's own files everyone may read",
    )
    #: (Flask rule, view) or (Flask rule, view, options): functions, MethodViews,
    #: `GemstoneCustomHandler` classes.
    extra_handlers: Sequence[tuple[Any, ...]] = setting([], _A_LIST, in_code=_OBJECTS)
    #: Flask blueprints.
    blueprints: Sequence[flask.Blueprint] = setting(
        [], list_of("Blueprints", flask.Blueprint), in_code=_OBJECTS
    )
    #: The directory of the templates; relative, it starts at the file of the class that sets it.
    template_dir: str | os.PathLike[str] = setting(".", PATH)
    #: The page at ``{endpoint}/docs`` on which people read the service and try it: True, False, or
    #: ``"private"``: after the service's own authentication; only then it shows the newest handled
    #: events and the dead letters. None: where the service is bound to a loopback address by our
    #: own server, without proxies, or `debug` is on.
    explorer: bool | Literal["private"] | None = setting(None, _EXPLORER)
    #: Lets whoever may see the explorer emit events of the service's from it.
    explorer_may_emit: bool = setting(False, SWITCH)
    #: The path of the liveness check, None for none.
    health_live_path: str | None = setting("/health/live", URL_PATH.or_none())
    #: The path of the readiness check, None for none.
    health_ready_path: str | None = setting("/health/ready", URL_PATH.or_none())
    #: The path that tells whether the start is over, None for none.
    health_startup_path: str | None = setting("/health/startup", URL_PATH.or_none())

    # Agents

    #: Serves the documented public methods, and the private ones to callers that authenticate, as
    #: tools of the Model Context Protocol: at ``/mcp``, or at `mcp_path`.
    mcp: bool = setting(False, SWITCH)
    #: Where agents find the tools. Setting it switches `mcp` on.
    mcp_path: str | None = setting(None, URL_PATH.or_none())
    #: The names of the methods that are tools; None for those that have a docstring and are not
    #: kept out by ``exposed_method(mcp=False)``.
    mcp_methods: Sequence[str] | None = setting(
        None, list_of("names of methods", TEXT.fits).or_none()
    )

    # Parts

    #: (callable, seconds) pairs, each called every so many seconds. See also `periodic`.
    periodic_tasks: Sequence[tuple[Callable[[], Any], float]] = setting(
        [], list_of("(callable, seconds above 0) pairs", _is_periodic_task), in_code=_OBJECTS
    )
    #: Where periodic tasks run when there are several workers: ``"instance"``, in one of them, or
    #: ``"worker"``, in each.
    periodic_scope: str = setting("instance", choice("instance", "worker"))
    #: Groups of methods: instances of `Module` or `Container`.
    modules: Sequence[Container] = setting([], _A_LIST, in_code=_OBJECTS)
    #: Instances of `BasePlugin` subclasses.
    plugins: Sequence[BasePlugin] = setting([], _A_LIST, in_code=_OBJECTS)
    #: Exposes ``statistics``: calls, errors and durations of every method.
    use_statistics: bool = setting(False, SWITCH)

    # Operation

    #: Tells Prometheus, at `metrics_path`, what the service does, in all of its workers together;
    #: with the program's own metrics. Needs ``pip install 'gemstone_sync[metrics]'``.
    metrics: bool = setting(False, SWITCH)
    #: The path of the metrics.
    metrics_path: str = setting("/metrics", URL_PATH)
    #: Shows at `status_path` what the service is at, in all of its workers together, to those whom
    #: ``authenticate_request`` lets in: calls, errors, events, periodic tasks, settings, health.
    status_page: bool = setting(False, SWITCH)
    #: The path of the status page.
    status_path: str = setting("/status", URL_PATH)

    # Discovery

    #: Endpoints of service registries, which are told of this service and asked for others. With
    #: several, each is told by itself and all are asked at once: any one of them is enough.
    service_registry_urls: Sequence[str] = setting([], list_of("URLs", TEXT.fits))
    #: Seconds between two pings of the registries.
    service_registry_ping_interval: Seconds = setting(30, SECONDS_ABOVE_0)
    #: The token that the registries want; None for none.
    service_registry_token: str | None = setting(None, TEXT.or_none(), secret=True)
    #: Whether the registries' certificates are checked; or the path of the certificates of the
    #: authorities that they are checked with.
    service_registry_verify: bool | str = setting(
        True, Rule("True, False, or the path of the authorities' certificates", _is_verify)
    )
    #: The PEM file of the certificate, with its key, that the registries want; None for none.
    service_registry_cert: str | None = setting(None, _PEM_FILE)
    #: Other strategies to be found by and to find others, asked before the registries.
    discovery_strategies: Sequence[Any] = setting(
        [],
        list_of(
            "discovery strategies: objects with ping(name, url) and locate(name)", _is_strategy
        ),
        in_code=_OBJECTS + "; service_registry_urls can be set",
    )
    #: Seconds for which a found service is used without asking again where it is.
    discovery_cache_seconds: Seconds = setting(10, SECONDS_ABOVE_0)

    # Events

    #: Event transports. An event goes out through all of them, and handlers listen on all.
    event_transports: Sequence[BaseEventTransport] = setting(
        [],
        list_of(
            "event transports: instances of subclasses of BaseEventTransport", BaseEventTransport
        ),
        template=_transports,
    )
    #: The events that the service emits, with the types of their bodies: ``{"order.placed":
    #: OrderPlaced}``. One that is emitted is checked against its type before it leaves; when there
    #: are any, one of another name is warned of, once.
    emits: Mapping[str, Any] = setting(
        {}, Rule("a dict of types by the names of events", _are_emitted), in_code=_OBJECTS
    )
    #: Seconds that emitting may take unless the call says otherwise.
    event_timeout: Seconds = setting(10.0, SECONDS_ABOVE_0)
    #: Bytes of an event's body as JSON; more is refused.
    max_event_size: int = setting(MAX_SIZE, ABOVE_0)
    #: Where ids of handled events are remembered for handlers with ``idempotent=False``: a URL, the
    #: path of a SQLite file, or a `ProcessedEvents`. None: in the transport's own store, if there
    #: is one transport and it has a store (SQLite, Redis and memory have).
    event_deduplication: str | ProcessedEvents | None = setting(
        None,
        Rule(
            "the URL or path of a store, a ProcessedEvents",
            lambda v: TEXT.fits(v) or isinstance(v, ProcessedEvents),
        ).or_none(),
    )
    # Any: mypy sees a text in a class that gives a path, whatever is said here; with an `Outbox` it
    # sees one.
    #: Where events are stored before they are sent, so that emitting works while the broker is
    #: away: the path of a SQLite file, or an `Outbox`. Methods find an `Outbox` here in any case.
    #: None: emitting waits for the broker.
    outbox: Any = setting(
        None,
        Rule(
            "the path of a file, an Outbox",
            lambda v: TEXT.fits(v) or isinstance(v, (os.PathLike, Outbox)),
        ).or_none(),
    )
    #: When `outbox` is a path, those of your own databases in which
    #: ``self.outbox.transaction(connection)`` stores events: paths of SQLite files, SQLAlchemy
    #: engines or URLs.
    outbox_databases: Sequence[Any] = setting((), _A_LIST)

    # Configuration

    #: True keeps every configurator from being asked.
    skip_configuration: bool = setting(
        False, SWITCH, in_code="says whether settings are looked for"
    )
    #: Attributes of your own that may be set from outside, beside those of the framework, which all
    #: may be set under their names.
    configurables: Sequence[Configurable] = setting(
        [
            Configurable("port", template=port_of),
            Configurable("host"),
            Configurable("accessible_at"),
            Configurable("endpoint"),
        ],
        list_of("Configurable instances", Configurable),
        in_code="says which settings there are",
    )
    #: Where values for them come from; a later one's value wins.
    configurators: Sequence[BaseConfigurator] = setting(
        [CommandLineConfigurator()],
        list_of("configurator instances", _is_configurator),
        in_code="says where settings are looked for",
    )
    #: What the names of environment variables begin with.
    environment_prefix: str = setting("GEMSTONE_", TEXT, in_code=_FOUND_BY_IT)
