"""MicroService: the attributes to set, the methods to override, the methods to call.

What they lead to is built in `assembly` and run by `runner`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar, overload

import flask
from gevent.threadpool import ThreadPoolExecutor

from ..callables import doc_of
from ..concurrency import current_call, is_at_prompt, is_patched
from ..config import Seconds
from ..config.masks import without_passwords
from ..dispatch import Dispatcher
from ..errors import ServiceConfigurationError
from ..ops import Lifecycle
from ..protocol import JsonRpcRequest, JsonRpcResponse
from ..server import refuse_asgi, under_gunicorn
from . import hosting, program
from .assembly import Assembly, assemble
from .attributes import check_attributes
from .auth import HeaderValidationStrategy, ValidationStrategy
from .command_line import argv_of_caller
from .configuration import Configuration
from .container import Container
from .decorators import exposed_method
from .events import Events
from .handler import JsonRpcHandler
from .misspelt import warn_of_misspelt
from .neighbours import Neighbours
from .plugins import BasePlugin, PluginSet
from .runner import Runner
from .settings import names_of_settings
from .signatures import signatures_of
from .subscriptions import docstrings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

__all__ = ["MicroService"]

P = TypeVar("P", bound=BasePlugin)

_HOOKS = (
    "on_service_start",
    "on_service_stop",
    "before_method_call",
    "after_method_call",
    "on_failed_method_call",
    "authenticate_request",
    "api_token_is_valid",
    "get_logger",
)


class ContextExecutor(ThreadPoolExecutor):  # type: ignore[misc]  # gevent has no types here
    """Real threads that keep the context of the call that hands work to them."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return super().submit(copy_context().run, fn, *args, **kwargs)


class MicroService(Container, Neighbours, Events, Configuration):
    """Base class of services: subclass it, give it a name, expose methods, start it.

    ::

        import gemstone_sync

        class HelloWorldService(gemstone_sync.MicroService):
            name = "hello_world_service"

            @gemstone_sync.exposed_method()
            def say_hello(self, name: str) -> str:
                return f"hello {name}"

        if __name__ == "__main__":
            HelloWorldService().start()

    Attributes are read when the service starts; lists set on the class are never changed, and two
    instances share nothing.

    :param io_loop: accepted for gemstone's sake; there is one gevent hub per process.
    :raises ServiceConfigurationError: when the class has no name.
    """

    # Identification

    #: The name of the service. Required.
    name: str = None  # type: ignore[assignment]
    #: The address to bind to: a host name or an IP address.
    host: str = "127.0.0.1"
    #: The port to bind to; 0, as an option also random, for any free one.
    port: int = 8000
    #: The path of the JSON-RPC endpoint.
    endpoint: str = "/api"
    #: The URL under which other services reach this one. Unset, the bound address.
    accessible_at: str | None = None

    # Access

    #: Where to look for the token that ``api_token_is_valid`` gets; the first that finds one wins.
    validation_strategies: Sequence[ValidationStrategy] = [HeaderValidationStrategy("X-Api-Token")]
    #: Host names that requests may be sent to (the ``Host`` header), ports aside; ``"*.a.b"`` is
    #: every name below a.b, ``"*"`` every name. None: on a loopback address the loopback names, on
    #: any other and under gunicorn every name.
    allowed_hosts: Sequence[str] | None = None
    #: Origins whose web pages may call the service, e.g. ``"https://app.example.org"``; ``"*"`` is
    #: every origin.
    allowed_origins: Sequence[str] = ()
    #: Signs cookies, here and in Flask sessions.
    secret_key: str | bytes | None = None

    # Limits

    #: How many calls run at once. Each has a greenlet (a few kB), not a thread, so the default is
    #: high: it bounds memory and the load on what lies behind the service, not the CPU.
    max_parallel_blocking_tasks: int = 1000
    #: How many calls may wait for a place; the next one gets HTTP 503.
    max_waiting_calls: int = 200
    #: Seconds that a call waits for a place before it gets HTTP 503.
    max_wait_seconds: Seconds = 5.0
    #: Seconds that a call may take unless its method says otherwise; None for no limit. A method
    #: that computes without ever blocking cannot be interrupted.
    default_timeout: Seconds | None = 30.0
    #: How many requests a batch may hold.
    max_batch_size: int = 100
    #: ``"parallel"``, or ``"serial"``: one item after another.
    batch_mode: str = "parallel"
    #: Bytes of a request body; more is refused with HTTP 413.
    max_body_size: int = 10_000_000
    #: Bytes of a response; a result that is longer becomes an error.
    max_response_size: int = 16_000_000
    #: Through how many services a call may come, so that a circle of services ends.
    max_hops: int = 8
    #: Open connections; beyond it the one that is idle for longest is closed.
    max_connections: int = 2000
    #: Seconds that a request's head may take to arrive.
    header_timeout: Seconds = 5.0
    #: Seconds that a connection may be idle between two requests.
    keep_alive_timeout: Seconds = 5.0
    #: Seconds without a byte of a request's body; on the whole it must come at 1 kB/s.
    body_timeout: Seconds = 10.0
    #: Seconds that calls in flight, and all else that the service does, have to finish at its stop.
    stop_timeout: Seconds = 30.0
    #: Seconds after SIGTERM in which requests on open connections are still answered.
    drain_grace: Seconds = 1.0

    # Server

    #: How many processes serve the address. Each runs the start and stop hooks; one that dies is
    #: replaced. Under gunicorn its own ``--workers`` counts.
    workers: int = 1
    #: The PEM file of the server's certificate, for HTTPS (TLS 1.2 and up).
    certfile: str | None = None
    #: The PEM file of its private key, when it is not in `certfile`.
    keyfile: str | None = None
    #: Addresses and networks of proxies whose X-Forwarded-For, -Proto and -Host are believed.
    trusted_proxies: Sequence[str] = ()
    #: Logs each request in combined format, to the logger ``gemstone_sync.access``. Other servers
    #: than ours have access logs of their own.
    access_log: bool = False

    # Wire

    #: ``"jsonrpc"``, or ``"gemstone"`` for the responses that the old gemstone library wrote.
    wire_format: str = "jsonrpc"
    #: Adds class and text of an unexpected exception to the reply. Not for production.
    debug: bool = False

    # Web

    #: (URL prefix, directory) pairs. Relative directories start at the file of the class
    #: that sets them.
    static_dirs: Sequence[tuple[str, str | os.PathLike[str]]] = []
    #: (Flask rule, view) or (Flask rule, view, options): functions, MethodViews,
    #: `GemstoneCustomHandler` classes.
    extra_handlers: Sequence[tuple[Any, ...]] = []
    #: Flask blueprints.
    blueprints: Sequence[flask.Blueprint] = []
    #: The directory of the templates; relative, it starts at the file of the class that sets it.
    template_dir: str | os.PathLike[str] = "."
    #: The path of the liveness check, None for none.
    health_live_path: str | None = "/health/live"
    #: The path of the readiness check, None for none.
    health_ready_path: str | None = "/health/ready"

    # Parts

    #: (callable, seconds) pairs, each called every so many seconds. See also `periodic`.
    periodic_tasks: Sequence[tuple[Callable[[], Any], float]] = []
    #: Where periodic tasks run when there are several workers: ``"instance"``, in one of them, or
    #: ``"worker"``, in each.
    periodic_scope: str = "instance"
    #: Groups of methods: instances of `Module` or `Container`.
    modules: Sequence[Container] = []
    #: Instances of `BasePlugin` subclasses.
    plugins: Sequence[BasePlugin] = []
    #: Exposes ``statistics``: calls, errors and durations of every method.
    use_statistics: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        warn_of_misspelt(cls, names_of_settings(cls), _HOOKS)
        hosting.prepare()

    if not TYPE_CHECKING:

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            # A server that was given the class calls it with each request.
            if len(args) == 2 and type(args[0]) is dict and "wsgi.input" in args[0]:
                return hosting.instance_of(cls)(*args)
            if len(args) == 1 and type(args[0]) is dict and "asgi" in args[0]:
                return refuse_asgi(*args)
            return super().__new__(cls)

    def __init__(self, io_loop: object = None) -> None:
        if io_loop is not None:
            warnings.warn(
                "io_loop has no meaning here: a process has one gevent hub",
                DeprecationWarning,
                stacklevel=2,
            )
        if not self.name:
            raise ServiceConfigurationError(
                f"{type(self).__qualname__} has no name: set its `name` attribute"
            )
        misspelt = getattr(type(self), "service_registries_urls", None)
        if misspelt is not None:
            warnings.warn(
                "service_registries_urls is spelled service_registry_urls",
                DeprecationWarning,
                stacklevel=2,
            )
            self.service_registry_urls = misspelt
        #: The service's logger, from `get_logger`.
        self.logger = self.get_logger()
        #: Where the service is in its life.
        self.lifecycle = Lifecycle(self._traffic.why_not_ready)
        check_attributes(self, only=("plugins",))
        self.plugin_set = PluginSet(self, self.plugins)
        self._assembly: Assembly | None = None
        self._runner = Runner(self)
        hosting.prepare(self)

    if not TYPE_CHECKING:  # or checkers would believe that there is every name

        def __getattr__(self, name: str) -> Any:
            if name in ("_runner", "_assembly", "lifecycle", "plugin_set", "logger"):
                raise ServiceConfigurationError(
                    f"{type(self).__qualname__}.__init__ must call super().__init__()"
                )
            return super().__getattr__(name)

    # To override. Their parameters have no names for callers: an override may give its own.

    def on_service_start(self) -> None:
        """Called when the service starts, before it answers its first call.

        What it raises ends the start.
        """

    def on_service_stop(self) -> None:
        """Called when the service has stopped, after the last call."""

    def before_method_call(self, request: JsonRpcRequest, /) -> None:
        """Called before each call that is authenticated and has valid parameters.

        Raising an `RpcError` refuses the call.
        """

    def after_method_call(
        self, request: JsonRpcRequest, response: JsonRpcResponse, /
    ) -> JsonRpcResponse | None:
        """Called after each successful call.

        :returns: None, or the response to send instead: ``response.with_result(...)``.
        """
        return None

    def on_failed_method_call(self, request: JsonRpcRequest, response: JsonRpcResponse, /) -> None:
        """Called with the error response of each failed call; what it raises is logged."""

    def authenticate_request(self, handler: JsonRpcHandler, /) -> Any:
        """Decide whether a private method may be called; anything falsy denies it.

        The result can be read as ``handler.current_user``. ``handler.api_token`` is the first token
        that `validation_strategies` find; by default it is given to `api_token_is_valid`.
        """
        return handler.api_token is not None and self.api_token_is_valid(handler.api_token)

    def api_token_is_valid(self, api_token: str, /) -> bool:
        """Decide whether a token is good. Deprecated: override `authenticate_request`."""
        return False

    def get_logger(self) -> logging.Logger:
        """The logger of the service."""
        return logging.getLogger(f"gemstone_sync.service.{self.name}")

    # To call

    def start(self, *, block: bool = True, workers: int | None = None) -> None:
        """Start the service: configure it, bind, call `on_service_start`, serve.

        :param workers: instead of the attribute `workers`.

        :param block: return only when the service has stopped, by SIGTERM, Ctrl-C or `stop`. An
            address that cannot be bound then ends the program with one line and exit code 1, an
            attribute that is wrong with exit code 2. False: return once the service answers.
        :raises ServiceStartError: with ``block=False``, when the address cannot be bound, or `stop`
            is called while a start hook hangs.
        :raises ServiceConfigurationError: with ``block=False``, when an attribute is wrong.
        """
        self._configure_once(argv_of_caller(2))
        if workers is not None:
            self.workers = workers
        with program.refusals_in_one_line(self) if block else contextlib.nullcontext():
            check_attributes(self, only=("workers",))
        if self.workers > 1:
            if not block:
                raise ServiceConfigurationError("several workers need start(block=True)")
            program.run_workers(self, self.workers)
        elif block:
            program.run_until_stopped([self])
        else:
            self._runner.start(in_own_thread=not is_patched() or is_at_prompt())

    def stop(self, *, grace: float = 0.0) -> None:
        """Stop: refuse new connections, finish the calls in flight, call `on_service_stop`.

        Called from one of the service's own methods it returns at once, and the service stops
        when the call is done. With ``workers=N`` all of them stop.

        :param grace: seconds in which open connections may still send requests.
        """
        self._runner.stop_everywhere(grace)

    @property
    def url(self) -> str:
        """The URL of the endpoint at the bound address."""
        host = "0.0.0.0" if self.host == "*" else self.host
        return hosting.url_at(host, self.port, self.endpoint, bool(self.certfile))

    @property
    def app(self) -> flask.Flask:
        """The Flask app. Extra routes and functions can be registered on it before the start.

        A server that is given it serves the service, as one that is given the service itself.
        """
        if self._assembly is None and under_gunicorn():
            hosting.configure(self)  # while it still has an effect
        return self._assemble().app

    def make_flask_app(self) -> flask.Flask:
        """Make a new Flask app of the service, e.g. for a test. See also `app`."""
        return assemble(self).app

    def make_tornado_app(self) -> None:
        """Only names its twin."""
        raise ServiceConfigurationError("there is no tornado here: use make_flask_app()")

    def __call__(
        self, environ: dict[str, Any], start_response: StartResponse | None = None
    ) -> Iterable[bytes]:
        """The service as a WSGI application, for gunicorn and other servers."""
        if start_response is None:
            return refuse_asgi(environ)  # type: ignore[return-value]
        self._runner.ensure_started()
        return self.app.wsgi_app(environ, start_response)

    @property
    def dispatcher(self) -> Dispatcher:
        """What answers bodies; for transports other than HTTP."""
        return self._assemble().dispatcher

    @property
    def methods(self) -> Mapping[str, Callable[..., Any]]:
        """The exposed methods by the names that callers use."""
        return {name: m.function for name, m in self.dispatcher.methods.items()}

    def _assemble(self) -> Assembly:
        if self._assembly is None:
            self._assembly = assemble(self)
        return self._assembly

    def register_plugin(self, plugin: BasePlugin) -> None:
        """Add a plugin before the start.

        :raises PluginError: when it has no name, or its name is taken.
        :raises ServiceConfigurationError: when the service's parts are made already.
        """
        if self._assembly is not None:
            raise ServiceConfigurationError("register plugins before the service starts")
        self.plugin_set.add(plugin)

    @overload
    def get_plugin(self, name: str) -> BasePlugin: ...

    @overload
    def get_plugin(self, name: type[P]) -> P: ...

    def get_plugin(self, name: str | type[BasePlugin]) -> BasePlugin:
        """The plugin of that name, or of that class.

        :raises PluginError: when there is none.
        """
        return self.plugin_set.get(name if isinstance(name, str) else name.name)

    def start_thread(
        self,
        target: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> threading.Thread:
        """Run `target` in a daemon thread (in a patched process: a greenlet), context kept."""
        run = functools.partial(copy_context().run, target)
        thread = threading.Thread(target=run, args=tuple(args), kwargs=kwargs, daemon=True)
        thread.start()
        return thread

    def get_executor(self) -> concurrent.futures.ThreadPoolExecutor:
        """An executor of real threads, for work that computes or blocks in C.

        ``service.get_executor().submit(work).result()`` lets other calls run meanwhile.
        """
        return self._executor

    @functools.cached_property
    def _executor(self) -> concurrent.futures.ThreadPoolExecutor:
        executor: concurrent.futures.ThreadPoolExecutor = ContextExecutor(
            min(32, (os.cpu_count() or 1) + 4)
        )
        return executor

    def get_current_configuration(self) -> dict[str, Any]:
        """The settings that are in force, without secrets and the passwords in URLs."""
        return {
            "name": self.name,
            "host": self.host,
            "port": self.port,
            "endpoint": self.endpoint,
            "accessible_at": without_passwords(self.accessible_at or "") or None,
            "autodiscovery": {
                "service_registry_urls": list(map(without_passwords, self.service_registry_urls)),
                "service_registry_ping_interval": self.service_registry_ping_interval,
            },
            "max_parallel_blocking_tasks": self.max_parallel_blocking_tasks,
            "webapp": {
                "template_dir": self.template_dir,
                "static_dirs": list(self.static_dirs),
                "extra_handlers": [str(handler) for handler in self.extra_handlers],
            },
            "event": {"event_transports": [str(t) for t in self.event_transports]},
            "configuration": {
                "configurables": [str(c) for c in self.configurables],
                "configurators": [str(c) for c in self.configurators],
            },
        }

    def _lets_caller_in(self) -> bool:
        """Whether the caller of the running call may know what is private; nobody's call may."""
        call = current_call.get()
        return call is None or call.context is None or self.dispatcher.lets_in(call.context)

    @exposed_method()
    def get_service_specs(self, signatures: bool = False) -> dict[str, Any]:
        """What this service is: its address, methods and events, with their docstrings.

        Docstrings and signatures of private methods and the addresses of brokers are told to those
        only whom `authenticate_request` lets in.

        The names of methods that are marked as idempotent stand in ``idempotent_methods``, which is
        left out when there are none.

        :param signatures: adds ``signatures``: what each method takes and gives, as Python writes
            it: ``{"say_hello": "say_hello(name: str) -> str"}``.
        """
        assembly = self._assemble()
        methods = assembly.dispatcher.methods
        idempotent = [m.name for m in methods.values() if m.idempotent]
        transports: list[Any] = [*self.event_transports]
        open_to_all = {name: m for name, m in methods.items() if not m.private}
        told = methods
        if (transports or len(open_to_all) < len(methods)) and not self._lets_caller_in():
            told, transports = open_to_all, [type(each).__name__ for each in transports]
        specs = {
            "host": self.host,
            "port": self.port,
            "accessible_at": without_passwords(self.accessible_at or "") or None,
            "name": self.name,
            "max_parallel_blocking_tasks": self.max_parallel_blocking_tasks,
            "methods": {n: doc_of(m.function) if n in told else None for n, m in methods.items()},
            "event_transports": list(map(str, transports)),
            "events_handled": docstrings(assembly.event_handlers),
        }
        if idempotent:
            specs["idempotent_methods"] = idempotent
        if signatures:
            specs["signatures"] = signatures_of(told)
        return specs
