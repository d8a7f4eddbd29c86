"""Which attributes of a service may be set from outside, and which may not, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from ..config import Configurable
from ..config.comments import comment_of
from ..config.kinds import Kind, brief, kind_of, read_list
from ..errors import UNSET
from ..event.transport import BaseEventTransport, transport_from_url

__all__ = [
    "NOT_SETTINGS",
    "Setting",
    "hint_of",
    "is_ours",
    "names_of_settings",
    "port_of",
    "settings_of",
    "source_of_default",
]

_WHOLE = kind_of(int)

_OBJECTS = "holds objects, which only code can make"

#: Plain public attributes of `MicroService` that cannot be set from outside, with the reason.
NOT_SETTINGS: Mapping[str, str] = {
    "name": "its settings are found by it",
    "environment_prefix": "its settings are found by it",
    "skip_configuration": "says whether settings are looked for",
    "configurables": "says which settings there are",
    "configurators": "says where settings are looked for",
    "validation_strategies": _OBJECTS,
    "discovery_strategies": _OBJECTS + "; service_registry_urls can be set",
    "extra_handlers": _OBJECTS,
    "blueprints": _OBJECTS,
    "periodic_tasks": _OBJECTS,
    "modules": _OBJECTS,
    "plugins": _OBJECTS,
    "microservice": "is set by the framework",
    "static_dirs": "says which of the program's own files everyone may read",
}

_SECRETS = frozenset({"secret_key", "service_registry_token"})


class Setting(NamedTuple):
    """One setting of a service as it is now.

    :ivar value: as text; a secret is masked.
    :ivar source: where it comes from: ``--port``, ``GEMSTONE_PORT``, ``shop.toml: port``,
        ``class Shop``, ``default``.
    """

    name: str
    value: str
    source: str


def port_of(found: Any) -> int:
    """A port; ``random`` is any that is free.

    :raises ValueError: for what is none.
    """
    if found == "random":
        return 0
    try:
        return int(_WHOLE.read(found))
    except ValueError:
        raise ValueError(f"must be a whole number or 'random', not {brief(found)}") from None


def _transports(found: Any) -> list[BaseEventTransport]:
    return [transport_from_url(str(url)) for url in read_list(found)]


_TEMPLATES = {"event_transports": _transports, "port": port_of}

#: What is wanted most: shown right after the service's own.
_FIRST = ("port", "host", "accessible_at", "endpoint", "workers", "debug")


def settings_of(service: Any) -> list[Configurable]:
    """The service's own configurables, and one for every other attribute that may be set.

    :param service: a service, or the class of one.
    """
    cls = service if isinstance(service, type) else type(service)
    settings = {configurable.name: configurable for configurable in service.configurables}
    for name in dict.fromkeys([*_FIRST, *_tunable(cls)]):
        if name not in settings:
            settings[name] = Configurable(
                name, template=_TEMPLATES.get(name), secret=name in _SECRETS
            )
    return [_described(cls, configurable) for configurable in settings.values()]


def names_of_settings(cls: type) -> list[str]:
    """What a subclass may set of the framework's own, from outside or in code only."""
    return [*_tunable(cls), *NOT_SETTINGS]


def _tunable(cls: type) -> Iterator[str]:
    """The public annotated attributes that the framework's own classes have."""
    for owner in reversed(cls.__mro__):
        if is_ours(owner):
            for name in vars(owner).get("__annotations__", {}):
                if not name.startswith("_") and name not in NOT_SETTINGS and name in vars(owner):
                    yield name


def _described(cls: type, configurable: Configurable) -> Configurable:
    name = configurable.name
    default = getattr(cls, name, UNSET)
    if isinstance(default, property):
        default = UNSET
    return configurable.described(
        _kind(cls, name, default), default, partial(comment_of, cls, name)
    )


def _kind(cls: type, name: str, default: Any) -> Kind:
    return kind_of(hint_of(cls, name), default)


def hint_of(cls: type, name: str) -> Any:
    """The attribute's type hint; `UNSET` when there is none that can be resolved."""
    for owner in cls.__mro__:
        if (hint := vars(owner).get("__annotations__", {}).get(name, UNSET)) is UNSET:
            continue
        if not isinstance(hint, str):
            return hint
        try:
            # As typing.get_type_hints does, but one by one: another attribute's hint may name what
            # is imported for type checkers only.
            return eval(hint, vars(sys.modules[owner.__module__]), dict(vars(owner)))
        except Exception:  # the user's text: whatever it raises, there is no hint
            return UNSET
    return UNSET


def source_of_default(service: object, name: str) -> str:
    """Where a value comes from that no configurator found."""
    if name in vars(service):
        return "code"
    owner = next((cls for cls in type(service).__mro__ if name in vars(cls)), None)
    return "default" if owner is None or is_ours(owner) else f"class {owner.__qualname__}"


def is_ours(cls: type) -> bool:
    """Whether it is a class of the framework."""
    return str(cls.__module__).partition(".")[0] == __name__.partition(".")[0]
