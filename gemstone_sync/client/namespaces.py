"""``client.methods.users.login("ada")``: names written as attributes.

Hot path: a namespace and a method are made for each call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..broker_urls import without_passwords
from .structs import AsyncMethodCall, MethodCall, Notification

if TYPE_CHECKING:
    from .remote_service import RemoteService

__all__ = ["MethodNamespace", "NotificationNamespace", "RemoteMethod", "RemoteNotification"]

#: gemstone's keyword; inside a class body Python writes ``_TheClass__async`` for it.
_ASYNC = "__async"


class _Named:
    """A name that grows by its attributes."""

    __slots__ = ("_client", "_idempotent", "_name")

    def __init__(self, client: RemoteService, name: str, idempotent: bool = False) -> None:
        self._client = client
        self._name = name
        self._idempotent = idempotent

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # copy, pickle and inspect look for such
        return type(self)(self._client, f"{self._name}.{name}", self._idempotent)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} at {without_passwords(self._client.url)}>"


class RemoteMethod(_Named):
    """A method of a remote service, or the first part of a dotted name."""

    __slots__ = ()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call it with positional or with named parameters.

        :returns: what the method returned; an `AsyncMethodCall` with ``__async=True``.
        :raises RemoteError: what the service answered with.
        :raises TransportError: when there was no answer that counts.
        :raises TypeError: for positional and named parameters at once.
        """
        if kwargs and (wanted := _take_async(kwargs)) is not None and wanted:
            return self.async_(*args, **kwargs)
        call = MethodCall(self._name, params_of(args, kwargs))
        return self._client.call_method(call, idempotent=self._idempotent).value()

    def async_(self, /, *args: Any, **kwargs: Any) -> AsyncMethodCall:
        """Call it in the background."""
        call = MethodCall(self._name, params_of(args, kwargs))
        return self._client.call_method_async(call, idempotent=self._idempotent)


class RemoteNotification(_Named):
    """A method of a remote service that is told something and not asked."""

    __slots__ = ()

    def __call__(self, /, *args: Any, **kwargs: Any) -> None:
        """Send the notification.

        :raises TransportError: when it did not arrive, or that is not known.
        """
        self._client.notify(Notification(self._name, params_of(args, kwargs)))


class MethodNamespace:
    """The methods of a remote service, by attribute or by ``[name]``."""

    __slots__ = ("_client", "_idempotent")

    def __init__(self, client: RemoteService, idempotent: bool = False) -> None:
        self._client = client
        self._idempotent = idempotent

    def __getattr__(self, name: str) -> RemoteMethod:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return RemoteMethod(self._client, name, self._idempotent)

    def __getitem__(self, name: str) -> RemoteMethod:
        return RemoteMethod(self._client, name, self._idempotent)


class NotificationNamespace:
    """The notifications of a remote service, by attribute or by ``[name]``."""

    __slots__ = ("_client",)

    def __init__(self, client: RemoteService) -> None:
        self._client = client

    def __getattr__(self, name: str) -> RemoteNotification:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return RemoteNotification(self._client, name)

    def __getitem__(self, name: str) -> RemoteNotification:
        return RemoteNotification(self._client, name)


def params_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The parameters of a call that is written like one of Python's.

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
