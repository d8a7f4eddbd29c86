"""`setting`: everything that is to be said of a setting, in the place where its default stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, cast

from ..errors import ServiceConfigurationError
from .configurable import Configurable
from .rules import Rule

__all__ = [
    "Declaration",
    "declarations_of",
    "is_ours",
    "refuse_late_settings",
    "refuse_member_names",
    "refuse_settings",
    "setting",
]

T = TypeVar("T")

_KEPT = "_declarations"


@dataclass(frozen=True)
class Declaration:
    """A class's declaration of a setting: all but its type hint and its ``#:`` comment."""

    default: Any = field(compare=False)
    rule: Rule | None = None
    template: Callable[[Any], Any] | None = None
    secret: bool | None = None
    in_code: str | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        """Leave the default in the class: who reads the attribute pays nothing for this."""
        if _KEPT not in vars(owner):
            setattr(owner, _KEPT, {})
        vars(owner)[_KEPT][name] = self
        setattr(owner, name, self.default)

    def over(self, base: Declaration) -> Declaration:
        """Add what a base class's declaration says and this one leaves out."""
        said = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(base, **{name: value for name, value in said.items() if value is not None})


def setting(
    default: T,
    rule: Rule | None = None,
    *,
    template: Callable[[Any], Any] | None = None,
    secret: bool | None = None,
    in_code: str | None = None,
) -> T:
    """Declare an attribute of a service class that may be set from outside.

    ::

        class Shop(gemstone_sync.MicroService):
            name = "shop"
            #: What prices are in.
            currency: str = setting("EUR", template=str.upper)
            basket_timeout: Seconds = setting(900)
            pin: int | None = setting(None, secret=True)
            colour: str = setting("red", rule=Rule("a colour", lambda value: value in COLOURS))

    Its type hint says how a value is read, its ``#:`` comment is its help text.

    :param default: what the attribute is unless somebody sets it.
    :param rule: the `gemstone_sync.config.Rule` of its values, wherever they come from; one that
        does not fit keeps the service from starting.
    :param template: called with the value found outside, in place of the type hint; its result is
        set, and whatever it raises refuses the value.
    :param secret: masked wherever it is shown; left out, if its name says so, as ``*_password``.
    :param in_code: the reason why only code may set it; left out, it may be set from outside.
    :raises ServiceConfigurationError: for a rule that is no `Rule`, a template that is no function.
    """
    if rule is not None and not isinstance(rule, Rule):
        raise ServiceConfigurationError(
            f"setting(rule=...) takes a gemstone_sync.config.Rule, not a {type(rule).__name__}: "
            'Rule("an even number", lambda value: value % 2 == 0)'
        )
    if template is not None and not callable(template):
        raise ServiceConfigurationError(
            f"setting(template=...) takes a function of the value, not a {type(template).__name__}"
        )
    return cast(T, Declaration(default, rule, template, secret, in_code))


def declarations_of(cls: type) -> dict[str, Declaration]:
    """Collect the declarations of a class and its bases by name, the class's own first."""
    found: dict[str, Declaration] = {}
    for owner in cls.__mro__:
        for name, declaration in vars(owner).get(_KEPT, {}).items():
            found[name] = found[name].over(declaration) if name in found else declaration
    return found


# Settings that would do nothing, or harm


def refuse_member_names(cls: type) -> None:
    """Refuse settings of a new class of services that are called like the framework's members.

    The setting would replace the member: `start` could not be called any more. Its `configurables`
    are settings too.

    :raises ServiceConfigurationError: for the first of them.
    """
    if is_ours(cls):
        return
    bases = cls.__mro__[1:]
    allowed = {name for base in bases for name in vars(base).get(_KEPT, {})}
    ours = [base for base in bases if is_ours(base)]
    members = {name for base in ours for name in (*vars(base), *_hinted(base))} - allowed
    listed = vars(cls).get("configurables", ())
    more = listed if isinstance(listed, (list, tuple)) else ()
    names = [each.name for each in more if isinstance(each, Configurable)]
    for name in (*vars(cls).get(_KEPT, {}), *names):
        if name in members:
            raise ServiceConfigurationError(
                f"{cls.__qualname__}.{name}: a setting of this name would replace what every "
                "service has under it; give it another name"
            )


def refuse_settings(cls: type, what: str) -> None:
    """Refuse settings of a class that is no service: nothing would look for them.

    :param what: the class is of, such as "module".
    :raises ServiceConfigurationError: for the first of them.
    """
    for name in () if is_ours(cls) else vars(cls).get(_KEPT, {}):
        raise ServiceConfigurationError(
            f"{cls.__qualname__}.{name} = setting(...): a {what} has no settings of its own; "
            f"declare it on the service, and read self.microservice.{name}"
        )


def refuse_late_settings(service: object) -> None:
    """Refuse what `setting` gave where it was not assigned in the body of a class.

    :raises ServiceConfigurationError: for the first of them.
    """
    cls = type(service)
    for place in (service, *cls.__mro__):
        for name, value in vars(place).items():
            if isinstance(value, Declaration):
                raise ServiceConfigurationError(
                    f"{cls.__qualname__}.{name} = setting(...) stands in the body of the class; "
                    "elsewhere it makes no setting"
                )


def is_ours(cls: type) -> bool:
    """Tell whether a class is one of the framework's."""
    return str(cls.__module__).partition(".")[0] == __name__.partition(".")[0]


def _hinted(cls: type) -> Iterable[str]:
    hints: dict[str, object] = vars(cls).get("__annotations__", {})
    return hints
