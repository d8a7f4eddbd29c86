"""A service's settings: which there are, what their values must be, where these come from."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from ..annotations import CannotEvaluate, evaluate
from ..broker_urls import MASK, without_passwords
from ..config import Configurable
from ..config.comments import comment_of
from ..config.declaration import Declaration, declarations_of, is_ours, refuse_late_settings
from ..config.redaction import is_secret_name
from ..config.setting_types import SettingType, brief, setting_type_of, wants_text
from ..errors import UNSET, ServiceConfigurationError

__all__ = [
    "Setting",
    "check_settings",
    "hint_of",
    "names_of_settings",
    "port_of",
    "refuse_changes",
    "settings_of",
    "snapshot",
    "source_of_default",
]

_WHOLE = setting_type_of(int)


class Setting(NamedTuple):
    """A setting of a service as it is now.

    :ivar value: as text; a secret is masked.
    :ivar source: where it comes from: ``--port``, ``GEMSTONE_PORT``, ``shop.toml: port``,
        ``class Shop``, ``default``.
    """

    name: str
    value: str
    source: str


def port_of(found: Any) -> int:
    """Read a port; ``random`` is any that is free.

    :raises ValueError: for what is none.
    """
    if found == "random":
        return 0
    try:
        return int(_WHOLE.read(found))
    except ValueError:
        raise ValueError(f"must be a whole number or 'random', not {brief(found)}") from None


def settings_of(service: Any) -> list[Configurable]:
    """List what may be set from outside: the service's configurables, then its other settings.

    :param service: a service, or the class of one.
    """
    cls = service if isinstance(service, type) else type(service)
    settings = {configurable.name: configurable for configurable in service.configurables}
    for name, declared in declarations_of(cls).items():
        if (listed := settings.get(name)) is not None:
            settings[name] = listed.declared(declared.template, declared.secret)
        elif declared.in_code is None:
            settings[name] = Configurable(name, template=declared.template, secret=declared.secret)
    return [_described(cls, configurable) for configurable in settings.values()]


def names_of_settings(cls: type) -> list[str]:
    """List what a subclass may set of the framework's own, from outside or in code only."""
    ours = next(base for base in cls.__mro__ if is_ours(base))
    return [*declarations_of(ours)]


def check_settings(service: Any, only: Container[str] | None = None) -> None:
    """Check all of a service's settings, or some, each by its rule.

    A text that stands for another value is read as an option's is: ``port = "8000"``, which
    gemstone 0.10.1 took; ``debug = "no"``, which Python takes for true.

    :raises ServiceConfigurationError: for the first that is wrong, naming the attribute and what it
        must be.
    """
    cls = type(service)
    refuse_late_settings(service)
    for name, declared in declarations_of(cls).items():
        if only is None or name in only:
            _check_setting(service, name, declared)
    if only is not None:
        return
    for configurable in service.configurables:
        if configurable.template is None:
            _read_by_hint(service, configurable.name)
    names = ("endpoint", "health_live_path", "health_ready_path", "health_startup_path")
    taken = [path for name in names if (path := getattr(service, name)) is not None]
    if len(set(taken)) != len(taken):
        raise ServiceConfigurationError(
            f"{cls.__qualname__}: {', '.join(names[:-1])} and {names[-1]} must differ"
        )


def snapshot(service: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return the values of settings that something is about to be made of.

    Lists and dicts are copied: one that grows in its place has changed, too.
    """
    values = {name: getattr(service, name) for name in names}
    return {
        name: copy.copy(value) if isinstance(value, (list, dict)) else value
        for name, value in values.items()
    }


def refuse_changes(service: Any, made_of: Mapping[str, Any], what: str) -> None:
    """Refuse settings that were changed after something was made of them: it would do nothing.

    :param made_of: their `snapshot`.
    :param what: happened then, as the error says it: "service.app was made".
    :raises ServiceConfigurationError: naming the first.
    """
    for name, value in made_of.items():
        if getattr(service, name) != value:
            raise ServiceConfigurationError(f"{name} was set after {what}: set it before")


def _check_setting(service: Any, name: str, declared: Declaration) -> None:
    if (rule := declared.rule) is None:
        if declared.template is None:
            _read_by_hint(service, name)
        return
    value = getattr(service, name)
    if isinstance(value, str) and not rule.fits(value) and declared.in_code is None:
        value = _read_text(service, name, value)
        setattr(service, name, value)
    if not rule.fits(value):
        raise ServiceConfigurationError(
            f"{type(service).__qualname__}.{name} must be {rule.wanted}, not "
            + (MASK if _is_secret(service, name, declared) else without_passwords(repr(value)))
        )


def _is_secret(service: Any, name: str, declared: Declaration) -> bool:
    # They may be wrong themselves, and not be checked yet.
    listed = service.configurables if isinstance(service.configurables, (list, tuple)) else ()
    if any(isinstance(each, Configurable) and each.secret and each.name == name for each in listed):
        return True
    return is_secret_name(name) if declared.secret is None else declared.secret


def _read_by_hint(service: Any, name: str) -> None:
    """Read a text that is not what the type hint wants: ``basket_timeout: Seconds = "15m"``."""
    value = getattr(service, name, None)
    if type(value) is str and not wants_text(hint_of(type(service), name), value):
        setattr(service, name, _read_text(service, name, value))


def _read_text(service: Any, name: str, text: str) -> Any:
    """Read a text as an option's.

    :raises ServiceConfigurationError: for what an option may not be either.
    """
    configurable = next(each for each in settings_of(service) if each.name == name)
    configurable.set_value(text)
    try:
        return configurable.get_final_value()
    except ValueError as error:
        told = without_passwords(str(error))
        raise ServiceConfigurationError(f"{type(service).__qualname__}.{name}: {told}") from None


def _described(cls: type, configurable: Configurable) -> Configurable:
    name = configurable.name
    default = getattr(cls, name, UNSET)
    if isinstance(default, property):
        default = UNSET
    return configurable.described(
        _setting_type(cls, name, default), default, partial(comment_of, cls, name)
    )


def _setting_type(cls: type, name: str, default: Any) -> SettingType:
    return setting_type_of(hint_of(cls, name), default)


def hint_of(cls: type, name: str) -> Any:
    """Return an attribute's type hint; `UNSET` when there is none that can be resolved."""
    for owner in cls.__mro__:
        if (hint := vars(owner).get("__annotations__", {}).get(name, UNSET)) is UNSET:
            continue
        try:
            return evaluate(hint, owner)
        except CannotEvaluate:
            return UNSET
    return UNSET


def source_of_default(service: object, name: str) -> str:
    """Say where a value comes from that no configurator found."""
    if name in vars(service):
        return "code"
    owner = next((cls for cls in type(service).__mro__ if name in vars(cls)), None)
    return "default" if owner is None or is_ours(owner) else f"class {owner.__qualname__}"
