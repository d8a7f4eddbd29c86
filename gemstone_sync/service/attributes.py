"""Checks of a service's attributes: each complaint names the attribute and what it must be."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterable
from typing import Any

import flask

from ..broker_urls import without_passwords
from ..config import Configurable
from ..config.kinds import wants_text
from ..errors import ServiceConfigurationError
from ..event.deduplication import ProcessedEvents
from ..event.outbox import Outbox
from ..event.transport import BaseEventTransport
from ..protocol import WIRE_FORMATS
from .auth import ValidationStrategy
from .settings import NOT_SETTINGS, hint_of, settings_of

__all__ = ["check_attributes"]

_MODES = ("parallel", "serial")
_SCOPES = ("instance", "worker")
#: No paths of certificates.
_SWITCHES = ("true", "false", "yes", "no", "on", "off", "1", "0")


def _whole(least: int, most: float = float("inf")) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most


def _seconds(above: bool = False) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and (value > 0 if above else value >= 0)

    return fits


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: v is None or fits(v)


def _path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/")


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A text is no list, though Python would take it letter by letter."""
    return lambda v: (
        isinstance(v, Iterable) and not isinstance(v, (str, bytes)) and all(map(fits, v))
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_host(value: Any) -> bool:
    if not _is_text(value) or set(value) & set("[]/"):
        return False
    try:
        return ":" not in value or bool(ipaddress.IPv6Address(value))
    except ValueError:
        return False


def _is_any(value: Any) -> bool:
    return True


def _is_periodic_task(entry: Any) -> bool:
    return (
        isinstance(entry, (tuple, list))
        and len(entry) == 2
        and callable(entry[0])
        and _seconds(above=True)(entry[1])
    )


def _is_static_dir(entry: Any) -> bool:
    return (
        isinstance(entry, (tuple, list))
        and len(entry) == 2
        and _path(entry[0])
        and isinstance(entry[1], (str, os.PathLike))
    )


#: Names, the check of their values, and what the values must be.
_RULES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("name",), _is_text, "a text that is not empty"),
    (("host",), _is_host, "a name or an address, without scheme, brackets and port"),
    (("port",), _whole(0, 65535), "a whole number from 0 to 65535"),
    (("endpoint",), _path, "a path that starts with /"),
    (
        ("health_live_path", "health_ready_path"),
        _or_none(_path),
        "a path that starts with /, or None",
    ),
    (
        (
            "max_parallel_blocking_tasks",
            "max_batch_size",
            "max_connections",
            "max_event_size",
            "workers",
        ),
        _whole(1),
        "a whole number above 0",
    ),
    (
        ("max_waiting_calls", "max_body_size", "max_response_size", "max_hops"),
        _whole(0),
        "a whole number, 0 or more",
    ),
    (
        ("max_wait_seconds", "stop_timeout", "drain_grace"),
        _seconds(),
        "a number of seconds, 0 or more",
    ),
    (
        (
            "header_timeout",
            "keep_alive_timeout",
            "body_timeout",
            "service_registry_ping_interval",
            "discovery_cache_seconds",
            "event_timeout",
        ),
        _seconds(above=True),
        "a number of seconds above 0",
    ),
    (("accessible_at",), _or_none(lambda v: isinstance(v, str)), "a URL, or None"),
    (
        ("certfile", "keyfile", "service_registry_cert"),
        _or_none(_is_text),
        "the path of a PEM file, or None",
    ),
    (("trusted_proxies",), _list_of(_is_text), "a list of addresses and networks"),
    (
        ("access_log", "use_statistics", "debug", "skip_configuration"),
        lambda v: isinstance(v, bool),
        "True or False",
    ),
    (("default_timeout",), _or_none(_seconds(above=True)), "seconds above 0, or None"),
    (("batch_mode",), lambda v: v in _MODES, " or ".join(map(repr, _MODES))),
    (("periodic_scope",), lambda v: v in _SCOPES, " or ".join(map(repr, _SCOPES))),
    (
        ("wire_format",),
        lambda v: isinstance(v, str) and v in WIRE_FORMATS,
        " or ".join(map(repr, WIRE_FORMATS)),
    ),
    (("allowed_hosts",), _or_none(_list_of(_is_text)), "a list of host names, or None"),
    (("allowed_origins",), _list_of(_is_text), "a list of origins"),
    (("secret_key",), lambda v: v is None or isinstance(v, (str, bytes)), "a text or bytes"),
    (("template_dir",), lambda v: isinstance(v, (str, os.PathLike)), "a path"),
    (("static_dirs",), _list_of(_is_static_dir), "a list of (URL prefix, directory) pairs"),
    (
        ("periodic_tasks",),
        _list_of(_is_periodic_task),
        "a list of (callable, seconds above 0) pairs",
    ),
    (
        ("validation_strategies",),
        _list_of(lambda v: isinstance(v, ValidationStrategy)),
        "a list of ValidationStrategy instances",
    ),
    (("blueprints",), _list_of(lambda v: isinstance(v, flask.Blueprint)), "a list of Blueprints"),
    (
        ("extra_handlers", "modules", "plugins", "outbox_databases"),
        _list_of(_is_any),
        "a list",
    ),
    (
        ("event_transports",),
        _list_of(lambda v: isinstance(v, BaseEventTransport)),
        "a list of event transports: instances of subclasses of BaseEventTransport",
    ),
    (
        ("event_deduplication",),
        _or_none(lambda v: _is_text(v) or isinstance(v, ProcessedEvents)),
        "the URL or path of a store, a ProcessedEvents, or None",
    ),
    (
        ("outbox",),
        _or_none(lambda v: _is_text(v) or isinstance(v, (os.PathLike, Outbox))),
        "the path of a file, an Outbox, or None",
    ),
    (
        ("discovery_strategies",),
        _list_of(lambda v: hasattr(v, "ping") and hasattr(v, "locate") and not isinstance(v, type)),
        "a list of discovery strategies: objects with ping(name, url) and locate(name)",
    ),
    (("service_registry_token",), _or_none(_is_text), "a text that is not empty, or None"),
    (
        ("service_registry_verify",),
        lambda v: isinstance(v, bool) or (_is_text(v) and v.lower() not in _SWITCHES),
        "True, False, or the path of the authorities' certificates",
    ),
    (("environment_prefix",), _is_text, "a text that is not empty"),
    (
        ("configurables",),
        _list_of(lambda v: isinstance(v, Configurable)),
        "a list of Configurable instances",
    ),
    (
        ("configurators",),
        _list_of(lambda v: hasattr(v, "load") and hasattr(v, "get") and not isinstance(v, type)),
        "a list of configurator instances",
    ),
    (("service_registry_urls",), _list_of(_is_text), "a list of URLs"),
)


def check_attributes(service: Any, only: Iterable[str] | None = None) -> None:
    """Check all of them, or some. A text that stands for another value is read as an option's is.

    :raises ServiceConfigurationError: for the first that is wrong.
    """
    for names, fits, wanted in _RULES:
        for name in names if only is None else set(names) & set(only):
            value = getattr(service, name)
            if isinstance(value, str) and not fits(value) and name not in NOT_SETTINGS:
                value = _read(service, name, value)
                setattr(service, name, value)
            if not fits(value):
                raise ServiceConfigurationError(
                    f"{type(service).__qualname__}.{name} must be {wanted}, "
                    f"not {without_passwords(repr(value))}"
                )
    if only is not None:
        return
    for setting in service.configurables:
        _read_own(service, setting)
    paths = (service.endpoint, service.health_live_path, service.health_ready_path)
    taken = [path for path in paths if path is not None]
    if len(set(taken)) != len(taken):
        raise ServiceConfigurationError(
            f"{type(service).__qualname__}: endpoint, health_live_path and health_ready_path must "
            "differ"
        )


def _read_own(service: Any, setting: Configurable) -> None:
    """``basket_timeout: Seconds = "15m"``; what a text may stand for is said by the type hint."""
    name, value = setting.name, getattr(service, setting.name, None)
    if type(value) is not str or setting.template is not None:
        return
    if not wants_text(hint_of(type(service), name), value):
        setattr(service, name, _read(service, name, value))


def _read(service: Any, name: str, text: str) -> Any:
    """``port = "8000"``, which gemstone 0.10.1 took; ``debug = "no"``, which Python takes for true.

    :raises ServiceConfigurationError: for what an option may not be either.
    """
    setting = next(each for each in settings_of(service) if each.name == name)
    setting.set_value(text)
    try:
        return setting.get_final_value()
    except ValueError as error:
        told = without_passwords(str(error))
        raise ServiceConfigurationError(f"{type(service).__qualname__}.{name}: {told}") from None
