"""From the marks of `event_handler` to what is promised to each handler."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..callables import doc_of
from ..contract.hints import Converter, Fault, UncheckedHint, converter_for, resolve
from ..errors import ServiceConfigurationError
from ..event.handlers import Handler
from .decorators import Marks

__all__ = ["docstrings", "handlers_of"]

logger = logging.getLogger("gemstone_sync.contract")


@dataclass(frozen=True)
class _Fit:
    """Makes of a body what the type hint says, with a complaint that handlers understand."""

    converter: Converter

    def __call__(self, body: Any) -> Any:
        try:
            return self.converter(body)
        except Fault as fault:
            raise ValueError(str(fault)) from fault


def handlers_of(marked: Iterable[tuple[Callable[..., Any], Marks]]) -> tuple[Handler, ...]:
    """Make a `Handler` of every event that a method is marked with.

    :raises ServiceConfigurationError: when a method cannot be called with a body alone.
    """
    handlers: list[Handler] = []
    taken: dict[str, int] = {}
    for method, marks in marked:
        if not marks.events:
            continue
        name = _name_of(method, marks)
        convert = _converter(method, name)
        # Two modules of one class: each needs a name that is its own after a restart too.
        taken[name] = taken.get(name, 0) + 1
        name = name if taken[name] == 1 else f"{name}#{taken[name]}"
        handlers += [
            Handler(pattern=pattern, function=method, name=name, convert=convert, **options)
            for pattern, options in marks.events
        ]
    return tuple(handlers)


def docstrings(handlers: Iterable[Handler]) -> dict[str, str | None]:
    """The handled events with the docstring of their handler; of several the first that has one."""
    found: dict[str, str | None] = {}
    for handler in handlers:
        found[handler.pattern] = found.get(handler.pattern) or doc_of(handler.function)
    return found


def _name_of(method: Callable[..., Any], marks: Marks) -> str:
    """The class where it is defined and its name, so that a subclass's handler has the same.

    What is no method has the name under which it stands in the class.
    """
    if (name := getattr(method, "__qualname__", None)) is None:
        return str(marks.name)
    return ".".join(name.split(".")[-2:])


def _converter(method: Callable[..., Any], name: str) -> Converter | None:
    try:
        signature = inspect.signature(method)
    except ValueError:  # made in C
        return None
    try:
        ((parameter, _),) = signature.bind(None).arguments.items()
    except TypeError:
        raise ServiceConfigurationError(
            f"{name}{signature} handles events: it takes exactly one argument besides "
            "self, the event's body"
        ) from None
    annotation = signature.parameters[parameter].annotation
    try:
        converter = converter_for(resolve(annotation, method))
    except UncheckedHint as error:
        logger.warning("%s: %r is not validated: %s", name, parameter, error)
        return None
    return None if converter is None else _Fit(converter)
