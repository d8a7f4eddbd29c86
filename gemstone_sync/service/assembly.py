"""From a service's attributes to what runs: the method table, the dispatcher, the Flask app.

Everything is checked here, before anything listens; every complaint says what to change.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import flask
import flask.views

from ..annotations import CannotEvaluate, evaluate
from ..callables import class_of, name_of
from ..config.declaration import is_ours
from ..contract import ParameterBinder
from ..contract.examples import Signature, refuse_unfit
from ..contract.hints import Fault, UncheckedHint
from ..contract.model import NOTHING
from ..contract.results import result_check_for
from ..contract.signatures import result_hint
from ..dispatch import Around, CallContext, Dispatcher, DispatchSettings, Hooks, Method, Nest, nest
from ..errors import UNSET, ServiceConfigurationError
from ..event.handlers import Handler
from ..event.observed import EventHooks
from ..ops import Health, Metrics, Observer, SlowCalls, Statistics, notifier, overrides
from ..protocol import Encoder, JsonRpcResponse
from ..server import (
    Endpoint,
    EndpointSettings,
    GateSettings,
    Rule,
    WebSettings,
    is_loopback,
    make_app,
    under_gunicorn,
)
from .base import ServiceBase
from .class_file import folder_of
from .container import Container, attach
from .contracts import Documents
from .decorators import Marks
from .discovery import DiscoveryRuntime
from .elsewhere import Elsewhere
from .event_handlers import handlers_of
from .event_runtime import EventRuntime
from .explorer import Explorer
from .handler import GemstoneCustomHandler, JsonRpcHandler
from .metrics import metrics_of, rules_of, watch_calls
from .operating import checks_of, stacks_method
from .periodic_tasks import PeriodicTasks
from .plugins import BasePlugin
from .settings import check_settings, refuse_changes, snapshot
from .status import StatusPage
from .threads import WorkerThreads
from .tools import bearer_for_agents, tools_endpoint

__all__ = ["FROZEN", "Parts", "assemble", "pick", "refuse_late_changes"]


@dataclass(frozen=True)
class Parts:
    """The working parts of one service.

    :ivar frozen: what they were made from: the values of the settings named in `FROZEN`.
    :ivar check: raises a `ServiceConfigurationError` for what only the whole contract shows.
    """

    dispatcher: Dispatcher
    app: flask.Flask
    periodic: PeriodicTasks
    health: Health
    event_handlers: tuple[Handler, ...]
    event_hooks: EventHooks
    observers: tuple[Observer, ...]
    metrics: Metrics | None
    status: StatusPage | None
    around_event: Nest | None
    events: EventRuntime
    discovery: DiscoveryRuntime
    executor: WorkerThreads
    elsewhere: Elsewhere
    frozen: Mapping[str, Any]
    check: Callable[[], None]


def assemble(
    service: ServiceBase,
    *,
    events: EventRuntime,
    discovery: DiscoveryRuntime,
    executor: WorkerThreads,
    encoder: Encoder,
    documents: Documents,
    explorer: Explorer,
    enter: Callable[[], bool],
) -> Parts:
    """Build the parts of a service whose attributes are final.

    :param events, discovery, executor: the parts that a service has from its making on.
    :param encoder: writes results.
    :param documents: what callers are told of the contract.
    :param explorer: the page that shows it.
    :param enter: called for each request until it returns true.
    :raises ServiceConfigurationError: when an attribute is wrong.
    :raises ValueError: when two methods are exposed under one name.
    """
    check_settings(service)
    service.plugin_set.follow(service.plugins)
    events.make_outbox()  # methods may want it from the first call on
    containers = [service, *_take_modules(service)]
    marked = [(method, marks) for c in containers for method, marks in c.marked_methods()]
    statistics = Statistics() if service.use_statistics else None
    metrics = metrics_of(service, discovery) if service.metrics else None
    slow = None if service.slow_call_seconds is None else SlowCalls(service.slow_call_seconds)
    status = StatusPage(service, lambda: parts) if service.status_page else None
    watching = None if status is None else status.observer
    known = [statistics, metrics, slow, explorer.handled, watching]
    own = [each for each in known if each is not None]
    observers: list[Observer] = [*own, *service.plugin_set]
    elsewhere = Elsewhere(service, containers)
    framework_methods = [
        *documents.methods(),
        *explorer.methods(),
        stacks_method(lambda context: dispatcher.lets_in(context)),
    ]
    methods = _methods(service, marked, statistics, encoder, framework_methods, elsewhere)
    _warn_of_closed_methods(service, methods)

    def make_handler(context: CallContext) -> JsonRpcHandler:
        bearer = bearer_for_agents(service, context)
        return JsonRpcHandler(service, context, dispatcher.answer, bearer)

    dispatcher = Dispatcher(
        methods,
        settings=pick(DispatchSettings, service),
        make_handler=make_handler,
        hooks=_hooks(service, observers),
        logger=service.logger,
        encoder=encoder,
    )
    if metrics is not None:
        watch_calls(metrics, dispatcher)
    tasks = [*service.periodic_tasks]
    tasks += [(method, marks.period) for method, marks in marked if marks.period is not None]
    periodic = PeriodicTasks(tasks, service.name)
    health = Health(
        service.lifecycle,
        lambda: {"version": service.version, "serviceId": service.name},
        checks_of(marked),
        [events.components, discovery.components, periodic.components],
    )
    framework_rules = [
        *documents.rules(),
        *explorer.rules(),
        *rules_of(service.metrics_path, metrics),
        *([] if status is None else status.rules()),
    ]
    endpoint = Endpoint(dispatcher, pick(EndpointSettings, service), service.lifecycle.is_starting)
    for_agents = tools_endpoint(service, dispatcher, documents.contract)
    endpoints = [endpoint, *for_agents]
    parts = Parts(
        dispatcher=dispatcher,
        app=_app(service, endpoints, marked, framework_rules, health, enter),
        periodic=periodic,
        health=health,
        event_handlers=handlers_of(marked, service=service.name, strict=service.strict_types),
        event_hooks=EventHooks(
            begun=notifier(observers, "on_event_begun"),
            finished=notifier(observers, "on_event_finished"),
        ),
        observers=tuple(observers),
        metrics=metrics,
        status=status,
        around_event=nest(_around(service, "around_event"), None),
        events=events,
        discovery=discovery,
        executor=executor,
        elsewhere=elsewhere,
        frozen=snapshot(service, FROZEN),
        check=for_agents[0].check if for_agents else lambda: None,
    )
    return parts


def pick(settings: type[Any], service: ServiceBase) -> Any:
    """Fill a settings class from the service's attributes of the same names."""
    return settings(**{name: getattr(service, name) for name in settings.__dataclass_fields__})


#: The settings that `assemble` reads: setting one of them later would do nothing.
FROZEN = (
    *DispatchSettings.__dataclass_fields__,
    *EndpointSettings.__dataclass_fields__,
    "default_timeout",
    "max_threads",
    "max_processes",
    "strict_types",
    "validate_results",
    "static_dirs",
    "extra_handlers",
    "blueprints",
    "template_dir",
    "secret_key",
    "health_live_path",
    "health_ready_path",
    "health_startup_path",
    "emits",
    "explorer",
    "periodic_tasks",
    "modules",
    "plugins",
    "use_statistics",
    "name",
    "metrics",
    "metrics_path",
    "status_page",
    "status_path",
    "slow_call_seconds",
    "mcp",
    "mcp_path",
    "mcp_methods",
)


def refuse_late_changes(service: ServiceBase, parts: Parts) -> None:
    """Refuse attributes that were set after the parts were made: they would do nothing.

    :raises ServiceConfigurationError: naming the first.
    """
    what = "service.app was made, which is to be asked for after service.configure()"
    refuse_changes(service, parts.frozen, what)
    parts.events.refuse_late_changes()
    parts.discovery.refuse_late_changes()


# Methods


def _take_modules(service: ServiceBase) -> list[Container]:
    taken = []
    for module in service.modules:
        if not isinstance(module, Container):
            raise ServiceConfigurationError(
                f"modules holds instances of Module or Container, not {module!r}"
            )
        taken.append(attach(module, service))
    return taken


def _methods(
    service: ServiceBase,
    marked: list[tuple[Callable[..., Any], Marks]],
    statistics: Statistics | None,
    encoder: Encoder,
    framework_methods: Iterable[Method],
    elsewhere: Elsewhere,
) -> dict[str, Method]:
    methods: dict[str, Method] = {}
    for function, marks in marked:
        if marks.exposed:
            _add(methods, _method(service, function, marks, encoder, elsewhere))
    if statistics is not None:
        # A function, so that it has a docstring for get_service_specs.
        def built_in() -> dict[str, Any]:
            """Calls, errors and durations (seconds) of each method since the service started."""
            return statistics.as_dict()

        built_in.__qualname__ = "the built-in one of use_statistics"
        _add(methods, Method("statistics", built_in, ParameterBinder(built_in)))
    for own in framework_methods:
        _add(methods, own)
    return {name: replace(one, service=service.name) for name, one in methods.items()}


def _add(methods: dict[str, Method], method: Method) -> None:
    taken = methods.get(method.name)
    if taken is not None:
        raise ValueError(
            f"cannot expose two methods under the name {method.name!r}: "
            f"{name_of(taken.function)} and {name_of(method.function)}"
        )
    methods[method.name] = method


def _method(
    service: ServiceBase,
    function: Callable[..., Any],
    marks: Marks,
    encoder: Encoder,
    elsewhere: Elsewhere,
) -> Method:
    assert marks.name is not None
    skip = 1 if marks.needs_handler else 0
    if inspect.ismethod(function):
        skip += 1
    try:
        binder = ParameterBinder(
            getattr(function, "__func__", function),
            skip=skip,
            cls=class_of(function),
            strict=service.strict_types,
        )
    except TypeError:
        raise ServiceConfigurationError(
            f"{name_of(function)} takes the handler: it needs a first parameter for it"
        ) from None
    if marks.told.examples:  # again: by now every name in a hint is there
        hint = result_hint(function, marks.told.result)
        signature = Signature(binder, function, class_of(function), hint)
        refuse_unfit(name_of(function), marks.told.examples, signature)
    return Method(
        name=marks.name,
        function=function,
        binder=binder,
        private=marks.private,
        needs_handler=marks.needs_handler,
        timeout=service.default_timeout if marks.timeout is UNSET else marks.timeout,
        idempotent=marks.idempotent,
        pass_errors=marks.pass_errors,
        told=marks.told,
        run=elsewhere.wrap(function, marks),
        check_result=(
            _result_check(service, function, marks, encoder) if service.validate_results else None
        ),
    )


def _result_check(
    service: ServiceBase, function: Callable[..., Any], marks: Marks, encoder: Encoder
) -> Callable[[Any], None] | None:
    annotation = result_hint(function, marks.told.result)
    if annotation is inspect.Signature.empty or annotation is NOTHING:
        return None
    try:
        hint = evaluate(annotation, function, class_of(function))
        check = result_check_for(hint, encoder, service.max_response_size)
    except (CannotEvaluate, UncheckedHint) as error:
        service.logger.warning("%s: the result is not validated: %s", name_of(function), error)
        return None
    except ServiceConfigurationError as error:
        raise ServiceConfigurationError(f"{name_of(function)}: the result has {error}") from None
    if check is None:
        return None

    def fit(result: Any) -> None:
        try:
            check(result)
        except Fault as fault:
            told = f"{name_of(function)} returned what its hint forbids: {fault}"
            raise TypeError(told) from None

    return fit


def _warn_of_closed_methods(service: ServiceBase, methods: dict[str, Method]) -> None:
    private = [method.name for method in methods.values() if method.private]
    if private and not overrides(
        service, ServiceBase, "authenticate_request", "api_token_is_valid"
    ):
        service.logger.warning(
            "every call of %s will be denied: override authenticate_request(handler)",
            ", ".join(private),
        )


# Hooks


def _hooks(service: ServiceBase, observers: list[Observer]) -> Hooks:
    """Take what somebody overrode only: a hook that does nothing costs nothing."""

    def own(name: str) -> Any:
        return getattr(service, name) if overrides(service, ServiceBase, name) else None

    return Hooks(
        before=own("before_method_call"),
        after=own("after_method_call"),
        failed=own("on_failed_method_call"),
        around=nest(_around(service, "around_method_call"), JsonRpcResponse),
        on_call=service.plugin_set.notifier("on_method_call"),
        on_internal_error=service.plugin_set.notifier("on_internal_error"),
        begun=notifier(observers, "on_call_begun"),
        finished=notifier(observers, "on_call_finished"),
        batch=notifier(observers, "on_batch"),
    )


def _around(service: ServiceBase, hook: str) -> list[Around]:
    """List the middleware that somebody overrode, the outermost first."""
    found = [
        (f"{hook} of {plugin}", getattr(plugin, hook))
        for plugin in service.plugin_set
        if overrides(plugin, BasePlugin, hook)
    ]
    if overrides(service, ServiceBase, hook):
        found.append((f"{type(service).__qualname__}.{hook}", getattr(service, hook)))
    return found


# The web application


def _app(
    service: ServiceBase,
    endpoints: list[Endpoint],
    marked: list[tuple[Callable[..., Any], Marks]],
    framework_rules: list[Rule],
    health: Health,
    enter: Callable[[], bool],
) -> flask.Flask:
    rules = [_extra_rule(service, number, h) for number, h in enumerate(service.extra_handlers)]
    for method, marks in marked:
        for url, options in marks.routes:
            options = dict(options)
            own = getattr(method, "__qualname__", f"{marks.name}.{len(rules)}")
            name = options.pop("endpoint", None) or own.replace(".", "_")
            rules.append(Rule(url, name, method, options))
    _refuse_one_path_for_two(framework_rules)
    rules += framework_rules  # last: one of the service's own on the same path goes first
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
    app = make_app(web, endpoints, lambda: _gate_settings(service), health, enter)
    app.extensions["gemstone_sync"] = service
    return app


def _refuse_one_path_for_two(rules: Iterable[Rule]) -> None:
    """Refuse settings of two pages at one place: nobody would ever see the second."""
    names: dict[str, str] = {}
    for each in rules:
        if names.setdefault(each.rule, each.name) != each.name:
            raise ServiceConfigurationError(
                f"{each.rule} is one path for two things, {names[each.rule]} and {each.name}"
            )


def _extra_rule(service: ServiceBase, number: int, entry: Any) -> Rule:
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


def _owner(service: ServiceBase, name: str, entry: object = None) -> type:
    """Find the class that has set an attribute, or an entry of one that may have been handed on."""
    owners = [] if name in vars(service) else [c for c in type(service).__mro__ if name in vars(c)]
    for owner in reversed(owners[1:] if entry is not None else []):
        listed = vars(owner)[name]
        if isinstance(listed, (list, tuple)) and any(entry is each for each in listed):
            return owner
    return type(service) if not owners or is_ours(owners[0]) else owners[0]


def _absolute(service: ServiceBase, owner: type, path: str | os.PathLike[str]) -> str:
    """Resolve a path: relative ones start at the file of the class that has them."""
    absolute = os.path.normpath(os.path.join(folder_of(owner), path))
    if not os.path.isdir(absolute):
        raise ServiceConfigurationError(f"{type(service).__qualname__}: no directory {absolute}")
    return absolute


def _gate_settings(service: ServiceBase) -> GateSettings:
    hosts: frozenset[str] | None = None
    loopback = False
    if service.allowed_hosts is not None:
        # IPv6 addresses as they stand in a URL, too: the gate compares them without the rest.
        hosts = frozenset(
            host.lower().strip("[]").partition("%")[0] for host in service.allowed_hosts
        )
        hosts = None if "*" in hosts else hosts
    elif is_loopback(service.host) and not under_gunicorn() and not service.trusted_proxies:
        hosts, loopback = frozenset({service.host.lower(), *_public_host(service)}), True
    return GateSettings(
        allowed_hosts=hosts,
        allow_loopback=loopback,
        allowed_origins=frozenset(origin.lower() for origin in service.allowed_origins),
        health_live_path=service.health_live_path,
        health_ready_path=service.health_ready_path,
        health_startup_path=service.health_startup_path,
    )


def _public_host(service: ServiceBase) -> list[str]:
    """List the name by which callers know a service: a proxy may pass it on."""
    try:
        name = urlsplit(service.accessible_at or "").hostname
    except ValueError:
        return []
    return [name.rstrip(".")] if name else []
