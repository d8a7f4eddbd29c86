"""One attribute of a service that may be set from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import UNSET

__all__ = ["Configurable"]


class Configurable:
    """A named value, and how to make it from what was found outside.

    :param name: the attribute of the service that it sets.
    :param template: called with the value found (from a command line: text); its result is set.

    >>> numbers = Configurable("numbers", template=lambda x: [int(y) for y in x.split(",")])
    >>> numbers.set_value("1,2,3")
    >>> numbers.get_final_value()
    [1, 2, 3]
    """

    def __init__(self, name: str, *, template: Callable[[Any], Any] | None = None) -> None:
        self.name = name
        self.template = template
        self._value: Any = UNSET

    def set_value(self, value: Any) -> None:
        """Take the value that a configurator found."""
        self._value = value

    def get_final_value(self) -> Any:
        """The value after the template; None when none was set.

        :raises ValueError: what the template raises for a value that it cannot take.
        """
        if self._value is UNSET:
            return None
        return self._value if self.template is None else self.template(self._value)

    def __repr__(self) -> str:
        return f"<Configurable name={self.name}>"
