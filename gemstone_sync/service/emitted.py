"""The events that a service says it emits: checked against their types before they leave."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ..contract.hints import CannotEvaluate, Fault, UncheckedHint, evaluate
from ..contract.results import result_check_for
from ..errors import ServiceConfigurationError
from ..event.names import check_event_name
from ..protocol import Encoder

__all__ = ["Emitted"]


class Emitted:
    """Checks the bodies of events by what `MicroService.emits` says.

    :param emits: the types of the bodies by the names of the events.
    :param owner: the service's class, in whose module names in quotes are looked for.
    :param encoder: makes JSON of a body.
    :raises ServiceConfigurationError: for a name or a type that makes no sense.
    """

    def __init__(
        self, emits: Mapping[str, Any], owner: type, encoder: Encoder, logger: logging.Logger
    ) -> None:
        self._checks = {name: _check_of(name, hint, owner, encoder) for name, hint in emits.items()}
        self._names = {
            name: str(hint) if hasattr(hint, "__origin__") else getattr(hint, "__name__", str(hint))
            for name, hint in emits.items()
        }
        self._logger = logger
        self._told: set[str] = set()

    def check(self, name: str, body: Any) -> None:
        """Check an event that is to leave.

        :raises ValueError: for a body that is not of the type that is declared for the name.
        """
        if name not in self._checks:
            if self._checks and name not in self._told:
                self._told.add(name)
                self._logger.warning("emits says nothing of the event %r", name)
            return
        check = self._checks[name]
        if check is None:
            return
        try:
            check(body)
        except Fault as fault:
            told = f"the body of {name!r} is no {self._names[name]}: {fault}"
            raise ValueError(told) from None


def _check_of(name: str, hint: Any, owner: type, encoder: Encoder) -> Callable[[Any], None] | None:
    place = f"{owner.__qualname__}.emits[{name!r}]"
    try:
        check_event_name(name)
        return result_check_for(evaluate(hint, owner), encoder)
    except (ValueError, CannotEvaluate, UncheckedHint, ServiceConfigurationError) as error:
        raise ServiceConfigurationError(f"{place}: {error}") from None
