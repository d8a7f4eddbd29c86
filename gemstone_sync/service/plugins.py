"""Plugins: objects that watch a service. One that raises is logged and never harms a call."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..concurrency import USER_FAULTS
from ..errors import PluginError
from ..protocol import JsonRpcRequest
from .misspelt import warn_of_misspelt
from .ownership import take

if TYPE_CHECKING:
    from .microservice import MicroService

__all__ = ["BasePlugin", "PluginSet"]

_HOOKS = ("on_service_start", "on_service_stop", "on_method_call", "on_internal_error")


class BasePlugin:
    """Base class for plugins: override what you want to see.

    ::

        class CallCounter(gemstone_sync.BasePlugin):
            name = "call_counter"

            def __init__(self):
                self.calls = 0

            def on_method_call(self, jsonrpc_request):
                self.calls += 1
    """

    #: The name under which ``MicroService.get_plugin`` finds it. Required.
    name: str | None = None
    #: The service that the plugin belongs to; None until a service takes it. For type checkers it
    #: may be any: annotate it with your own service class in your subclass.
    microservice: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        warn_of_misspelt(cls, (), _HOOKS)

    def set_microservice(self, microservice: MicroService, /) -> None:
        """Called by the service that takes the plugin."""
        self.microservice = microservice

    def on_service_start(self) -> None:
        """Called before the service's own ``on_service_start``."""

    def on_service_stop(self) -> None:
        """Called after the service's own ``on_service_stop``."""

    def on_method_call(self, jsonrpc_request: JsonRpcRequest, /) -> None:
        """Called before each method call, once its parameters are valid."""

    def on_internal_error(self, exc_instance: BaseException, /) -> None:
        """Called with each unexpected exception of a method.

        ``exc_instance.gemstone_error_id`` is the error id that the caller and the log have.
        """


class PluginSet:
    """The plugins of one service, by name."""

    def __init__(self, service: MicroService, plugins: Iterable[BasePlugin]) -> None:
        self._service = service
        self._plugins: dict[str, BasePlugin] = {}
        for plugin in plugins:
            self.add(plugin)

    def add(self, plugin: BasePlugin) -> None:
        """Take a plugin; a fresh copy of it when another service has it.

        :raises PluginError: when it has no name, or another one has the same.
        """
        if not isinstance(plugin, BasePlugin):
            raise PluginError(f"plugins holds instances of BasePlugin, not {plugin!r}")
        name = plugin.name
        if not name:
            raise PluginError(f"{type(plugin).__qualname__} has no name: set its `name` attribute")
        if name in self._plugins:
            raise PluginError(f"two plugins have the name {name!r}")
        self._plugins[name] = take(plugin, self._service)

    def get(self, name: str | None) -> BasePlugin:
        """:raises PluginError: when there is none of that name."""
        try:
            return self._plugins[name]  # type: ignore[index]  # None is never a key
        except KeyError:
            known = ", ".join(sorted(self._plugins)) or "none"
            raise PluginError(f"no plugin has the name {name!r}; registered: {known}") from None

    def overrides(self, hook: str) -> bool:
        """Tell whether any plugin does something in `hook`."""
        return any(
            getattr(type(plugin), hook) is not getattr(BasePlugin, hook) or hook in vars(plugin)
            for plugin in self._plugins.values()
        )

    def call(self, hook: str, *args: Any) -> None:
        """Call `hook` of every plugin; what one raises is logged."""
        for name, plugin in self._plugins.items():
            try:
                getattr(plugin, hook)(*args)
            except USER_FAULTS:
                logging.getLogger("gemstone_sync.service").exception(
                    "plugin %r failed in %s", name, hook
                )
