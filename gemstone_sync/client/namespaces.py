"""Makes names of methods out of attributes: ``client.methods.users.login("ada")``.

Hot path: a namespace and a method are made for each call.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, Protocol, TypeVar

from ..broker_urls import without_passwords
from .describing import next_parts
from .structs import AsyncMethodCall, MethodCall, Notification, Result

__all__ = ["MethodNamespace", "NotificationNamespace", "RemoteMethod", "RemoteNotification"]

T = TypeVar("T")

#: gemstone's keyword; inside a class body Python writes ``_TheClass__async`` for it.
_ASYNC = "__async"


class Caller(Protocol):
    """Makes calls: a `RemoteService`, as far as names matter."""

    @property
    def url(self) -> str: ...
    def call_method(self, call: MethodCall, /, *, idempotent: bool) -> Result: ...
    def call_method_async(self, call: MethodCall, /, *, idempotent: bool) -> AsyncMethodCall: ...
    def notify(self, notification: Notification, /) -> None: ...
    def _known_methods(self) -> list[str]: ...


class _Names(Generic[T]):
    """Has names of attributes, which grow by theirs: ``users.login``."""

    __slots__ = ("_client", "_idempotent", "_name")
    _made: ClassVar[type[Any]]

    def __init__(self, client: Caller, name: str = "", idempotent: bool = False) -> None:
        self._client = client
        self._name = name
        self._idempotent = idempotent

    def __getitem__(self, name: str) -> T:
        name = f"{self._name}.{name}" if self._name else name
        made: T = self._made(self._client, name, self._idempotent)
        return made

    def __getattr__(self, name: str) -> T:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # copy, pickle and inspect look for such
        return self[name]

    def __dir__(self) -> list[str]:
        return next_parts(self._client._known_methods(), f"{self._name}." if self._name else "")

    def _ipython_key_completions_(self) -> list[str]:
        start = f"{self._name}." if self._name else ""
        known = self._client._known_methods()
        return [name[len(start) :] for name in known if name.startswith(start)]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} at {without_passwords(self._client.url)}>"


class RemoteMethod(_Names["RemoteMethod"]):
    """Calls a method of a remote service; or is the first part of a dotted name."""

    __slots__ = ()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call it with positional or with named parameters.

        :returns: what the method returned; an `AsyncMethodCall` with ``__async=True``.
        :raises RemoteError: what the service answered with.
        :raises TransportError: when there was no answer that counts.
        :raises TypeError: for positional and named parameters at once.
        """
        if kwargs and _take_async(kwargs):
            return self.async_(*args, **kwargs)
        call = MethodCall(self._name, params_of(args, kwargs))
        return self._client.call_method(call, idempotent=self._idempotent).value()

    def async_(self, /, *args: Any, **kwargs: Any) -> AsyncMethodCall:
        """Call it in the background."""
        call = MethodCall(self._name, params_of(args, kwargs))
        return self._client.call_method_async(call, idempotent=self._idempotent)


class RemoteNotification(_Names["RemoteNotification"]):
    """Tells a method of a remote service something, and does not ask."""

    __slots__ = ()

    def __call__(self, /, *args: Any, **kwargs: Any) -> None:
        """Send the notification.

        :raises TransportError: when it did not arrive, or that is not known.
        """
        self._client.notify(Notification(self._name, params_of(args, kwargs)))


class MethodNamespace(_Names[RemoteMethod]):
    """Has the methods of a remote service, by attribute or by ``[name]``."""

    __slots__ = ()


class NotificationNamespace(_Names[RemoteNotification]):
    """Has the notifications of a remote service, by attribute or by ``[name]``."""

    __slots__ = ()


RemoteMethod._made = MethodNamespace._made = RemoteMethod
RemoteNotification._made = NotificationNamespace._made = RemoteNotification


def params_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the parameters of a call that is written like one of Python's.

    :raises TypeError: for positional and named ones at once (JSON-RPC 2.0, section 4.2).
    """
    if args and kwargs:
        raise TypeError("JSON-RPC parameters are positional or named, not both")
    return args or kwargs


def _take_async(kwargs: dict[str, Any]) -> Any:
    for name in kwargs:
        if name.endswith(_ASYNC) and (name == _ASYNC or name.startswith("_")):
            return kwargs.pop(name)
    return None
