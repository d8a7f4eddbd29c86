"""From a service's attributes to what runs: the method table, the dispatcher, the Flask app.

Everything is checked here, before anything listens; every complaint says what to change.
"""

from __future__ import annotations

import inspect
import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import flask
import flask.views

from ..callables import name_of
from ..contract import ParameterBinder
from ..dispatch import CallContext, Dispatcher, DispatchSettings, Hooks, Method
from ..errors import UNSET, ServiceConfigurationError
from ..event.handlers import Handler
from ..server import (
    Endpoint,
    EndpointSettings,
    GateSettings,
    Rule,
    WebSettings,
    make_app,
    under_gunicorn,
)
from .attributes import check_attributes
from .class_file import folder_of
from .container import Container
from .decorators import Marks
from .handler import GemstoneCustomHandler, JsonRpcHandler
from .ownership import take
from .periodic_tasks import PeriodicTasks
from .settings import is_ours
from .statistics import Statistics
from .subscriptions import handlers_of

if TYPE_CHECKING:
    from .microservice import MicroService

__all__ = ["Assembly", "assemble", "pick", "refuse_late_changes"]


@dataclass(frozen=True)
class Assembly:
    """The working parts of one service."""

    dispatcher: Dispatcher
    app: flask.Flask
    periodic: PeriodicTasks
    made_from: dict[str, Any]
    event_handlers: tuple[Handler, ...]


def assemble(service: MicroService) -> Assembly:
    """Build the parts of a service whose attributes are final.

    :raises ServiceConfigurationError: when an attribute is wrong.
    :raises ValueError: when two methods are exposed under one name.
    """
    check_attributes(service)
    service._make_outbox()  # methods may want it from the first call on
    containers = [service, *_take_modules(service)]
    marked = [(method, marks) for c in containers for method, marks in c.marked_methods()]
    statistics = Statistics() if service.use_statistics else None
    methods = _methods(service, marked, statistics)
    _warn_of_closed_methods(service, methods)
    dispatcher = Dispatcher(
        methods,
        settings=pick(DispatchSettings, service),
        make_handler=_handler_maker(service),
        hooks=_hooks(service, statistics),
        logger=service.logger,
    )
    periodic = [*service.periodic_tasks]
    periodic += [(method, marks.period) for method, marks in marked if marks.period is not None]
    endpoint = Endpoint(dispatcher, pick(EndpointSettings, service), service.lifecycle.is_starting)
    return Assembly(
        dispatcher=dispatcher,
        app=_app(service, endpoint, marked),
        periodic=PeriodicTasks(periodic),
        made_from=_read(service),
        event_handlers=handlers_of(marked),
    )


def pick(settings: type[Any], service: MicroService) -> Any:
    """Fill a settings class from the service's attributes of the same names."""
    return settings(**{name: getattr(service, name) for name in settings.__dataclass_fields__})


#: What the parts are made from, beside the settings classes; read once.
_READ_ONCE = (
    "default_timeout",
    "validation_strategies",
    "static_dirs",
    "extra_handlers",
    "blueprints",
    "template_dir",
    "secret_key",
    "health_live_path",
    "health_ready_path",
    "periodic_tasks",
    "modules",
    "use_statistics",
)


def _read(service: MicroService) -> dict[str, Any]:
    names = [*DispatchSettings.__dataclass_fields__, *EndpointSettings.__dataclass_fields__]
    return {name: getattr(service, name) for name in (*names, *_READ_ONCE)}


def refuse_late_changes(service: MicroService, assembly: Assembly) -> None:
    """Refuse attributes that were set after the parts were made: they would do nothing.

    :raises ServiceConfigurationError: naming the first.
    """
    for name, value in _read(service).items():
        if value != assembly.made_from[name]:
            raise ServiceConfigurationError(
                f"{name} was set after service.app was made: set it, or call "
                "service.configure(), before"
            )


# Methods


def _take_modules(service: MicroService) -> list[Container]:
    taken = []
    for module in service.modules:
        if not isinstance(module, Container):
            raise ServiceConfigurationError(
                f"modules holds instances of Module or Container, not {module!r}"
            )
        taken.append(take(module, service))
    return taken


def _methods(
    service: MicroService,
    marked: list[tuple[Callable[..., Any], Marks]],
    statistics: Statistics | None,
) -> dict[str, Method]:
    methods: dict[str, Method] = {}
    for function, marks in marked:
        if marks.exposed:
            _add(methods, _method(service, function, marks))
    if statistics is not None:
        # A function, so that it has a docstring for get_service_specs.
        def built_in() -> dict[str, Any]:
            """Calls, errors and durations (seconds) of each method since the service started."""
            return statistics.as_dict()

        built_in.__qualname__ = "the built-in one of use_statistics"
        _add(methods, Method("statistics", built_in, ParameterBinder(built_in)))
    return methods


def _add(methods: dict[str, Method], method: Method) -> None:
    taken = methods.get(method.name)
    if taken is not None:
        raise ValueError(
            f"cannot expose two methods under the name {method.name!r}: "
            f"{name_of(taken.function)} and {name_of(method.function)}"
        )
    methods[method.name] = method


def _method(service: MicroService, function: Callable[..., Any], marks: Marks) -> Method:
    assert marks.name is not None
    skip = 1 if marks.needs_handler else 0
    if inspect.ismethod(function):
        skip += 1
    try:
        binder = ParameterBinder(getattr(function, "__func__", function), skip=skip)
    except TypeError:
        raise ServiceConfigurationError(
            f"{name_of(function)} takes the handler: it needs a first parameter for it"
        ) from None
    return Method(
        name=marks.name,
        function=function,
        binder=binder,
        private=marks.private,
        needs_handler=marks.needs_handler,
        timeout=service.default_timeout if marks.timeout is UNSET else marks.timeout,
        idempotent=marks.idempotent,
        pass_errors=marks.pass_errors,
    )


def _warn_of_closed_methods(service: MicroService, methods: dict[str, Method]) -> None:
    private = [method.name for method in methods.values() if method.private]
    if private and not _overrides(service, "authenticate_request", "api_token_is_valid"):
        service.logger.warning(
            "every call of %s will be denied: override authenticate_request(handler)",
            ", ".join(private),
        )


# Hooks


def _overrides(service: MicroService, *names: str) -> bool:
    from .microservice import MicroService

    return any(
        getattr(type(service), name) is not getattr(MicroService, name) or name in vars(service)
        for name in names
    )


def _hooks(service: MicroService, statistics: Statistics | None) -> Hooks:
    """Only what somebody overrode: a hook that does nothing costs nothing."""

    def own(name: str) -> Any:
        return getattr(service, name) if _overrides(service, name) else None

    def of_plugins(name: str) -> Any:
        if not service.plugin_set.overrides(name):
            return None
        return lambda *args: service.plugin_set.call(name, *args)

    return Hooks(
        before=own("before_method_call"),
        after=own("after_method_call"),
        failed=own("on_failed_method_call"),
        on_call=of_plugins("on_method_call"),
        on_internal_error=of_plugins("on_internal_error"),
        observe=statistics.observe if statistics is not None else None,
    )


def _handler_maker(service: MicroService) -> Callable[[CallContext], JsonRpcHandler]:
    def make(context: CallContext) -> JsonRpcHandler:
        return JsonRpcHandler(service, context)

    return make


# The web application


def _app(
    service: MicroService, endpoint: Endpoint, marked: list[tuple[Callable[..., Any], Marks]]
) -> flask.Flask:
    rules = [_extra_rule(service, number, h) for number, h in enumerate(service.extra_handlers)]
    for method, marks in marked:
        for url, options in marks.routes:
            options = dict(options)
            own = getattr(method, "__qualname__", f"{marks.name}.{len(rules)}")
            name = options.pop("endpoint", None) or own.replace(".", "_")
            rules.append(Rule(url, name, method, options))
    web = WebSettings(
        import_name=str(type(service).__module__),
        root_path=folder_of(type(service)),
        template_dir=_absolute(service, _owner(service, "template_dir"), service.template_dir),
        static_dirs=tuple(
            (entry[0], _absolute(service, _owner(service, "static_dirs", entry), entry[1]))
            for entry in service.static_dirs
        ),
        rules=tuple(rules),
        blueprints=tuple(service.blueprints),
        secret_key=service.secret_key,
        max_body_size=service.max_body_size,
    )
    app = make_app(
        web, endpoint, lambda: _gate_settings(service), service.lifecycle, service._runner.enter
    )
    app.extensions["gemstone_sync"] = service
    return app


def _extra_rule(service: MicroService, number: int, entry: Any) -> Rule:
    try:
        rule, handler, options = entry if len(entry) == 3 else (*entry, {})
        options = dict(options)
    except (TypeError, ValueError):
        raise ServiceConfigurationError(
            f"extra_handlers holds (rule, view) or (rule, view, options), not {entry!r}"
        ) from None
    if not isinstance(rule, str) or not rule.startswith("/") or "(" in rule:
        raise ServiceConfigurationError(
            f"extra_handlers: {rule!r} is no Flask rule; they look like /users/<int:user_id>"
        )
    name = options.pop("endpoint", None) or f"{getattr(handler, '__name__', 'handler')}_{number}"
    if isinstance(handler, type) and issubclass(handler, flask.views.View):
        if issubclass(handler, GemstoneCustomHandler):
            return Rule(rule, name, handler.as_view(name, microservice=service), options)
        return Rule(rule, name, handler.as_view(name), options)
    if not callable(handler):
        raise ServiceConfigurationError(f"extra_handlers: {handler!r} is no view of Flask")
    return Rule(rule, name, handler, options)


def _owner(service: MicroService, name: str, entry: object = None) -> type:
    """Find the class that has set an attribute, or an entry of one that may have been handed on."""
    owners = [] if name in vars(service) else [c for c in type(service).__mro__ if name in vars(c)]
    for owner in reversed(owners[1:] if entry is not None else []):
        listed = vars(owner)[name]
        if isinstance(listed, (list, tuple)) and any(entry is each for each in listed):
            return owner
    return type(service) if not owners or is_ours(owners[0]) else owners[0]


def _absolute(service: MicroService, owner: type, path: str | os.PathLike[str]) -> str:
    """Relative paths start at the file of the class that has them, wherever the program runs."""
    absolute = os.path.normpath(os.path.join(folder_of(owner), path))
    if not os.path.isdir(absolute):
        raise ServiceConfigurationError(f"{type(service).__qualname__}: no directory {absolute}")
    return absolute


def _gate_settings(service: MicroService) -> GateSettings:
    hosts: frozenset[str] | None = None
    loopback = False
    if service.allowed_hosts is not None:
        # IPv6 addresses as they stand in a URL, too: the gate compares them without the rest.
        hosts = frozenset(
            host.lower().strip("[]").partition("%")[0] for host in service.allowed_hosts
        )
        hosts = None if "*" in hosts else hosts
    elif _is_loopback(service.host) and not under_gunicorn() and not service.trusted_proxies:
        hosts, loopback = frozenset({service.host.lower(), *_public_host(service)}), True
    return GateSettings(
        allowed_hosts=hosts,
        allow_loopback=loopback,
        allowed_origins=frozenset(origin.lower() for origin in service.allowed_origins),
        health_live_path=service.health_live_path,
        health_ready_path=service.health_ready_path,
    )


def _public_host(service: MicroService) -> list[str]:
    """The name by which callers know a service: a proxy may pass it on."""
    try:
        name = urlsplit(service.accessible_at or "").hostname
    except ValueError:
        return []
    return [name.rstrip(".")] if name else []


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
