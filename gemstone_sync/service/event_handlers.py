"""Event handlers of a service: from the marks of `event_handler` to `Handler` objects."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..annotations import CannotEvaluate, evaluate
from ..callables import class_of
from ..contract.hints import Check, Converter, Fault, UncheckedHint, check_for
from ..contract.signatures import parameters_of
from ..errors import ServiceConfigurationError
from ..event.handlers import Handler
from .decorators import Marks

__all__ = ["handlers_of"]

logger = logging.getLogger("gemstone_sync.contract")


@dataclass(frozen=True)
class _Fit:
    """Converts a body to what the type hint says, with an error that handlers understand."""

    check: Check

    def __call__(self, body: Any) -> Any:
        assert self.check.convert is not None
        try:
            return self.check.convert(body)
        except Fault as fault:
            raise ValueError(str(fault)) from fault


def handlers_of(
    marked: Iterable[tuple[Callable[..., Any], Marks]], *, service: str = "", strict: bool = True
) -> tuple[Handler, ...]:
    """Make a `Handler` of every event that a method is marked with.

    :param service: the name of the service.
    :param strict: see ``MicroService.strict_types``.
    :raises ServiceConfigurationError: when a method cannot be called with a body alone.
    """
    handlers: list[Handler] = []
    taken: dict[str, int] = {}
    for method, marks in marked:
        if not marks.events:
            continue
        name = _name_of(method, marks)
        convert = _converter(method, name, strict)
        # Two modules of one class: each needs a name that is its own after a restart too.
        taken[name] = taken.get(name, 0) + 1
        name = name if taken[name] == 1 else f"{name}#{taken[name]}"
        handlers += [
            Handler(
                pattern=pattern,
                function=method,
                name=name,
                convert=convert,
                service=service,
                **options,
            )
            for pattern, options in marks.events
        ]
    return tuple(handlers)


def _name_of(method: Callable[..., Any], marks: Marks) -> str:
    """Name a handler after the class where it is defined: a subclass's has the same name.

    What is no method has the name under which it stands in the class.
    """
    if (name := getattr(method, "__qualname__", None)) is None:
        return str(marks.name)
    return ".".join(name.split(".")[-2:])


def _converter(method: Callable[..., Any], name: str, strict: bool) -> Converter | None:
    cls = class_of(method)
    try:
        signature = inspect.Signature(parameters_of(method, cls))
    except ServiceConfigurationError:  # made in C
        return None
    try:
        ((parameter, _),) = signature.bind(None).arguments.items()
    except TypeError:
        raise ServiceConfigurationError(
            f"{name}{inspect.signature(method)} handles events: it takes exactly one argument "
            "besides self, the event's body"
        ) from None
    annotation = signature.parameters[parameter].annotation
    try:
        hint = evaluate(annotation, method, cls)
        check = check_for(hint, strict=strict)
    except ServiceConfigurationError as error:
        raise ServiceConfigurationError(f"{name}: parameter {parameter!r} has {error}") from None
    except (CannotEvaluate, UncheckedHint) as error:
        logger.warning("%s: %r is not validated: %s", name, parameter, error)
        return None
    return None if check.convert is None else _Fit(check)
