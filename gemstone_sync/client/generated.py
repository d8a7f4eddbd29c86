"""Makes the calls of modules that ``gemstone client`` wrote."""

from __future__ import annotations

import functools
import itertools
from typing import Any

from ..contract.hints import Converter, converter_for
from ..errors import UNSET, RpcError
from .remote_service import RemoteService
from .structs import MethodCall, Notification
from .typed import answered

__all__ = ["Calls"]


class Calls:
    """Makes the calls of a module that ``gemstone client`` wrote.

    :param service: its URL, several, or a `RemoteService`, which stays its owner's to close.
    :param options: for the `RemoteService` of a URL.
    """

    def __init__(self, service: Any, **options: Any) -> None:
        self._is_ours = not isinstance(service, RemoteService)
        if not self._is_ours and options:
            raise TypeError("a RemoteService has its options already: with_options() changes them")
        self._remote: Any = RemoteService(service, **options) if self._is_ours else service

    def ask(
        self,
        method: str,
        params: dict[str, Any] | list[Any],
        result: Any = Any,
        *,
        errors: tuple[type[RpcError], ...] = (),
        idempotent: bool = False,
    ) -> Any:
        """Call a method.

        :param params: those that are `UNSET` are left out.
        :param result: its type.
        :raises TypeError: when one by position is given after one that is left out.
        :raises BadResponse: when the answer is of another one.
        :raises RemoteError, TransportError: as all calls do.
        """
        client = self._remote._with_errors(errors) if errors else self._remote
        call = MethodCall(method, _without_unset(params))
        return answered(client, call, _decoder_of(result), idempotent).value()

    def tell(self, method: str, params: dict[str, Any] | list[Any]) -> None:
        """Send a notification."""
        self._remote.notify(Notification(method, _without_unset(params)))

    def close(self) -> None:
        """Close the connections, if the client was made here."""
        if self._is_ours:
            self._remote.close()


def _without_unset(params: dict[str, Any] | list[Any]) -> dict[str, Any] | list[Any]:
    if isinstance(params, dict):
        return {name: value for name, value in params.items() if value is not UNSET}
    given = list(itertools.takewhile(lambda v: v is not UNSET, params))
    if any(value is not UNSET for value in params[len(given) :]):
        raise TypeError("by position, nothing can follow a parameter that is left out")
    return given


@functools.lru_cache(1000)
def _decoder_of(hint: Any) -> Converter | None:
    return converter_for(hint)
