"""Plugins: objects that watch a service. What one raises is logged and never harms a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..config.declaration import refuse_settings
from ..errors import PluginError
from ..event.envelope import Envelope
from ..ops import Observer, notifier
from ..protocol import JsonRpcRequest, JsonRpcResponse
from .container import attach
from .misspelt import warn_of_misspelt

__all__ = ["BasePlugin", "PluginSet"]

_HOOKS = (
    "around_event",
    "around_method_call",
    "on_service_start",
    "on_service_stop",
    "on_method_call",
    "on_internal_error",
    "on_call_begun",
    "on_call_finished",
    "on_batch",
    "on_request_begun",
    "on_request_finished",
    "on_publish_begun",
    "on_publish_finished",
    "on_event_begun",
    "on_event_finished",
)


class BasePlugin(Observer):
    """Base class for plugins: override what you want to see.

    ::

        class CallCounter(gemstone_sync.BasePlugin):
            name = "call_counter"

            def __init__(self):
                self.calls = 0

            def on_method_call(self, jsonrpc_request):
                self.calls += 1

    `on_call_finished` and `on_event_finished` tell what became of each call and event, and how long
    it took (see `gemstone_sync.ops.ObservedCall` and `gemstone_sync.ops.ObservedEvent`)::

        class SlowCalls(gemstone_sync.BasePlugin):
            name = "slow_calls"

            def on_call_finished(self, call):
                if call.seconds > 1:
                    log.warning("%s took %.1f s [%s]", call.name, call.seconds, call.request_id)

    Every hook runs in the greenlet of what it watches, which waits for it: for 5 s, or until the
    call's deadline. What it raises is logged and reaches no caller; but `around_method_call` and
    `around_event` are a part of it.
    """

    #: The name under which ``MicroService.get_plugin`` finds it. Required.
    name: str | None = None
    #: The service that the plugin belongs to; None until a service takes it. For type checkers it
    #: may be any: annotate it with your own service class in your subclass.
    microservice: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_settings(cls, "plugin")
        warn_of_misspelt(cls, (), _HOOKS)

    def set_microservice(self, microservice: Any, /) -> None:
        """Called by the service that takes the plugin."""
        self.microservice = microservice

    def on_service_start(self) -> None:
        """Called before the service's own ``on_service_start``."""

    def on_service_stop(self) -> None:
        """Called after the service's own ``on_service_stop``."""

    def around_method_call(
        self, request: JsonRpcRequest, proceed: Callable[..., JsonRpcResponse], /
    ) -> JsonRpcResponse | None:
        """Called instead of each method, outside of the service's own: see `ServiceBase`.

        Unlike the other hooks it is a part of the call: what it raises fails it.
        """
        return proceed()

    def around_event(self, event: Envelope, proceed: Callable[[], Any], /) -> Any:
        """Called instead of each event handler, outside of the service's own: see `ServiceBase`."""
        return proceed()

    def on_method_call(self, jsonrpc_request: JsonRpcRequest, /) -> None:
        """Called before each method call, once its parameters are valid."""

    def on_internal_error(self, exc_instance: BaseException, /) -> None:
        """Called with each unexpected exception of a method.

        ``exc_instance.gemstone_error_id`` is the error id that the caller and the log have.
        """

    def __str__(self) -> str:
        return f"plugin {self.name!r}"


class PluginSet:
    """The plugins of one service, by name: those of its attribute, then those registered."""

    def __init__(self, service: Any, plugins: Iterable[BasePlugin]) -> None:
        self._service = service
        self._plugins: dict[str, BasePlugin] = {}
        self._registered: list[BasePlugin] = []
        self._followed: list[BasePlugin] = []
        self.follow(plugins)

    def follow(self, plugins: Iterable[BasePlugin]) -> None:
        """Have these be the plugins of the attribute, which may have been set after the making.

        :raises PluginError: as `add`.
        """
        plugins = [*plugins]
        if not self._plugins or list(map(id, plugins)) != list(map(id, self._followed)):
            before, self._plugins = self._plugins, {}
            try:
                for plugin in (*plugins, *self._registered):
                    self._take(plugin)
            except BaseException:
                self._plugins = before
                raise
            self._followed = plugins

    def add(self, plugin: BasePlugin) -> None:
        """Take a plugin; a fresh copy of it when another service has it.

        :raises PluginError: when it has no name, or another one has the same.
        """
        self._registered.append(self._take(plugin))

    def _take(self, plugin: BasePlugin) -> BasePlugin:
        if not isinstance(plugin, BasePlugin):
            raise PluginError(f"plugins holds instances of BasePlugin, not {plugin!r}")
        name = plugin.name
        if not name:
            raise PluginError(f"{type(plugin).__qualname__} has no name: set its `name` attribute")
        if name in self._plugins:
            raise PluginError(f"two plugins have the name {name!r}")
        self._plugins[name] = taken = attach(plugin, self._service)
        return taken

    def __iter__(self) -> Iterator[BasePlugin]:
        return iter(self._plugins.values())

    def get(self, name: str | None) -> BasePlugin:
        """Return a plugin.

        :raises PluginError: when there is none of that name.
        """
        try:
            return self._plugins[name]  # type: ignore[index]  # None is never a key
        except KeyError:
            known = ", ".join(sorted(self._plugins)) or "none"
            raise PluginError(f"no plugin has the name {name!r}; registered: {known}") from None

    def notifier(self, hook: str) -> Callable[..., None] | None:
        """Make a function that calls `hook` of all plugins that override it; None for none."""
        return notifier(self, hook, BasePlugin)

    def call(self, hook: str) -> None:
        """Call `hook` of every plugin; what one raises is logged."""
        if (notify := self.notifier(hook)) is not None:
            notify()
