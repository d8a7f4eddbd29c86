"""MicroService: the class that users subclass, with the methods that they call.

The attributes to set stand in `attributes`, the methods to override in `base`. What they lead to is
built in `assembly` and run by `runner`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar, overload

import flask

from ..concurrency import is_at_prompt, is_patched
from ..config.redaction import without_passwords
from ..contract.model import Contract
from ..dispatch import Dispatcher
from ..errors import ServiceConfigurationError
from ..ops import Lifecycle
from ..server import refuse_asgi, under_gunicorn
from . import hosting, program
from .assembly import Parts, assemble
from .base import NAMES_OF_HOOKS
from .configuration import Configuration, argv_of_caller
from .contracts import Documents, calling_context
from .decorators import exposed_method
from .discovery import Discovery
from .events import Events
from .explorer import Explorer
from .misspelt import warn_of_misspelt
from .plugins import BasePlugin, PluginSet
from .runner import Runner
from .settings import check_settings, names_of_settings
from .threads import WorkerThreads

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

__all__ = ["MicroService", "documents_of", "run", "runner_of"]

P = TypeVar("P", bound=BasePlugin)


class MicroService(Discovery, Events, Configuration):
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

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        warn_of_misspelt(cls, names_of_settings(cls), NAMES_OF_HOOKS)
        hosting.install_boot()

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
        self.logger = self.get_logger()
        self._logger_name = self.name
        self.lifecycle = Lifecycle()
        check_settings(self, only=("plugins",))
        self.plugin_set = PluginSet(self, self.plugins)
        self._executor = WorkerThreads()
        self._documents = Documents(self, self._assemble, self._addresses)
        self._assembly: Parts | None = None
        self._runner = Runner(self, self._assemble, self._configure_once)
        hosting.register(self._runner)

    if not TYPE_CHECKING:  # or checkers would believe that there is every name

        def __getattr__(self, name: str) -> Any:
            made = ("_runner", "_assembly", "_executor", "lifecycle", "plugin_set", "logger")
            if name in made and "_gemstone_left" not in vars(self):
                raise ServiceConfigurationError(
                    f"{type(self).__qualname__}.__init__ must call super().__init__()"
                )
            return super().__getattr__(name)

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
        with program.start_errors_in_one_line(self) if block else contextlib.nullcontext():
            check_settings(self, only=("workers",))
        if self.workers > 1:
            if not block:
                raise ServiceConfigurationError("several workers need start(block=True)")
            program.run_workers(self._runner, self.workers)
        elif block:
            program.run_until_stopped([self._runner])
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
    def app(self) -> flask.Flask:
        """Return the Flask app. Extra routes can be registered on it before the start.

        A server that is given it serves the service, as one that is given the service itself.
        """
        if self._assembly is None and under_gunicorn():
            hosting.configure(self._runner)  # while it still has an effect
        return self._assemble().app

    def make_flask_app(self) -> flask.Flask:
        """Make a new Flask app of the service, e.g. for a test. See also `app`."""
        return self._make_parts().app

    def make_tornado_app(self) -> None:
        """Refuse, naming its twin."""
        raise ServiceConfigurationError("there is no tornado here: use make_flask_app()")

    def __call__(
        self, environ: dict[str, Any], start_response: StartResponse | None = None
    ) -> Iterable[bytes]:
        """Answer as a WSGI application, for gunicorn and other servers."""
        if start_response is None:
            return refuse_asgi(environ)  # type: ignore[return-value]
        self._runner.ensure_started()
        return self.app.wsgi_app(environ, start_response)

    @property
    def dispatcher(self) -> Dispatcher:
        """Return what answers bodies; for transports other than HTTP."""
        return self._assemble().dispatcher

    @property
    def methods(self) -> Mapping[str, Callable[..., Any]]:
        """Return the exposed methods by the names that callers use."""
        methods = self.dispatcher.methods
        return {n: m.function for n, m in methods.items() if not n.startswith("rpc.")}

    @property
    def contract(self) -> Contract:
        """Everything that the service promises, private methods included; made when first asked."""
        return self._documents.contract()

    def _addresses(self) -> tuple[str, ...]:
        address = without_passwords(self.accessible_at or "")
        return (address,) if address else ()

    def _assemble(self) -> Parts:
        if self._assembly is None:
            self._assembly = self._make_parts()
            try:
                self._assembly.check()
            except ServiceConfigurationError:
                self._assembly = None
                raise
        return self._assembly

    def _make_parts(self) -> Parts:
        if self.name != self._logger_name:  # set after the making
            self.logger, self._logger_name = self.get_logger(), self.name
        # An event may have been emitted before what it was made of was set.
        vars(self).pop("_emitted", None)
        vars(self).pop("_encoder", None)
        parts = assemble(
            self,
            events=self._event_runtime,
            discovery=self._discovery_runtime,
            executor=self._executor,
            encoder=self._encoder,
            documents=self._documents,
            explorer=Explorer(self, self._assemble, self._documents, self._executor),
            enter=self._runner.enter,
        )
        if self.emits:
            assert self._emitted  # checks them
        return parts

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
        """Return the plugin of that name, or of that class.

        :raises PluginError: when there is none.
        """
        if self._assembly is None:
            check_settings(self, only=("plugins",))
            self.plugin_set.follow(self.plugins)
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
        """Return an executor of real threads, for work that computes or blocks in C.

        ``service.get_executor().submit(work).result()`` lets other calls run meanwhile.
        """
        return self._executor.executor()

    def get_current_configuration(self) -> dict[str, Any]:
        """Return the settings that are in force, without secrets and the passwords in URLs."""
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
        """Tell whether the running call's caller may know what is private; nobody's call may."""
        context = calling_context()
        return context is None or self.dispatcher.lets_in(context)

    @exposed_method()
    def get_service_specs(self, signatures: bool = False) -> dict[str, Any]:
        """Describe this service: its address, methods and events, with their docstrings.

        Docstrings and signatures of private methods and the addresses of brokers are told to those
        only whom `authenticate_request` lets in; with `hide_private` the names of private methods
        too.

        The names of methods that are marked as idempotent stand in ``idempotent_methods``, which is
        left out when there are none.

        :param signatures: adds ``signatures``: what each method takes and gives, as Python writes
            it: ``{"say_hello": "say_hello(name: str) -> str"}``.
        """
        contract = self._documents.contract()
        transports: list[Any] = [*self.event_transports]
        private = {method.name for method in contract.methods if method.private}
        if (transports or private) and not self._lets_caller_in():
            transports = [type(each).__name__ for each in transports]
            if self.hide_private:
                contract = self._documents.contract(private=False)
        else:
            private = set()
        methods = contract.methods
        specs = {
            "host": self.host,
            "port": self.port,
            "accessible_at": without_passwords(self.accessible_at or "") or None,
            "name": self.name,
            "max_parallel_blocking_tasks": self.max_parallel_blocking_tasks,
            "methods": {m.name: None if m.name in private else m.doc for m in methods},
            "event_transports": list(map(str, transports)),
            "events_handled": {event.name: event.doc for event in contract.handles},
        }
        if idempotent := [method.name for method in methods if method.idempotent]:
            specs["idempotent_methods"] = idempotent
        if signatures:
            specs["signatures"] = {m.name: m.signature for m in methods if m.name not in private}
        return specs


def runner_of(service: MicroService) -> Runner:
    """Return what starts and stops a service, for what runs services: tests, several at once."""
    return service._runner


def documents_of(service: MicroService) -> Documents:
    """Return what callers of a service are told of its contract."""
    return service._documents


def run(*services: MicroService) -> None:
    """Run several services in one process until SIGTERM or Ctrl-C.

    ::

        gemstone_sync.run(Users(), Orders())

    An address that cannot be bound ends the program with one line and exit code 1, an attribute
    that is wrong with exit code 2.

    :raises ServiceConfigurationError: when a service wants several workers: this is one process.
    """
    program.run_together([runner_of(service) for service in services])
