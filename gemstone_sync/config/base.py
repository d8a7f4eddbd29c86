"""Define the contract of configurators, each a source of values for the names it is given."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

from .configurable import Configurable
from .service_links import hint_of

__all__ = ["BaseConfigurator", "CollectingConfigurator", "Found"]

ENVIRONMENT_PREFIX = "GEMSTONE_"


class Found(NamedTuple):
    """A value that a source has: as it stands there, then ready to be set.

    :ivar source: where it was found, for people: ``--port``, ``shop.toml: port``.
    """

    value: Any
    source: str


class BaseConfigurator(abc.ABC):
    """A source of values. A subclass implements `load`, and `get` if it likes.

    The service gives it every configurable by `register_configurable`, calls `load` once, then
    `get` for each name. `load` may give the `configurables` their values by `set_value` instead.

    ::

        class ConsulConfigurator(BaseConfigurator):
            def load(self) -> None:
                self.found = requests.get(URL).json()

            def get(self, name: str) -> Any:
                return self.found.get(name)

    A ValueError or OSError of `load` or `get` ends the program with exit code 2 and that line.
    """

    #: The command line's words after the program's name; None for those of the process. The
    #: service sets it, to ``[]`` where the command line is not the service's own: under gunicorn,
    #: pytest, in an in-process client.
    argv: Sequence[str] | None = None
    #: The service's name. The service sets it.
    service_name: str = ""
    #: What the names of environment variables begin with. The service sets it.
    environment_prefix: str = ENVIRONMENT_PREFIX

    def __init__(self) -> None:
        self.configurables: list[Configurable] = []

    def register_configurable(self, configurable: Configurable) -> None:
        """Take a name to look for."""
        # Not appended: a copy of this object must not share the list.
        self.configurables = [*getattr(self, "configurables", []), configurable]

    def get_configurable_by_name(self, name: str) -> Configurable | None:
        """Return the registered configurable of that name."""
        return next((c for c in self.configurables if c.name == name), None)

    @abc.abstractmethod
    def load(self) -> None:
        """Collect the values.

        :raises ValueError: for a source that cannot be read.
        """

    def get(self, name: str) -> Any:
        """Return the final value for `name`; None when this source has none.

        :raises ValueError: when the value found cannot be used.
        """
        configurable = self.get_configurable_by_name(name)
        return None if configurable is None else configurable.get_final_value()

    def find(self, name: str) -> Found | None:
        """Return what `get` does with its source; None when there is no value: None can be one."""
        value = self.get(name)
        return None if value is None else Found(value, repr(self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class CollectingConfigurator(BaseConfigurator):
    """A configurator that collects all of its values at once: a subclass implements `collect`."""

    def __init__(self) -> None:
        super().__init__()
        self._collected: dict[str, Found] = {}

    @abc.abstractmethod
    def collect(self) -> dict[str, Found]:
        """Collect the values of the registered names that this source has.

        :raises ValueError: for a source that cannot be read, or names that it does not know.
        """

    def load(self) -> None:
        self._collected = self.collect()

    def get(self, name: str) -> Any:
        found = self.find(name)
        return None if found is None else found.value

    def find(self, name: str) -> Found | None:
        configurable = self.get_configurable_by_name(name)
        found = self._collected.get(name)
        if configurable is None or found is None:
            return None
        configurable.set_value(found.value)
        try:
            return found._replace(value=configurable.get_final_value())
        except ValueError as error:
            raise ValueError(f"{found.source}: {error}{hint_of(found.value)}") from error
