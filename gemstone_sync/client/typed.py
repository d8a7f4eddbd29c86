"""Call a service as the class that says what it can do: ``client.typed(UsersApi).find(7)``.

An API is a Protocol, an ABC, or the service's class; it is read here once, and never called. Of a
class of this framework's the exposed methods count, of any other one all that are public.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

from ..annotations import CannotEvaluate, evaluate
from ..broker_urls import without_passwords
from ..contract.hints import Converter, Fault, UncheckedHint, converter_for
from ..contract.model import NOTHING
from ..errors import UNSET, BadResponse, RpcError, ServiceConfigurationError
from ..protocol import Params
from .structs import AsyncMethodCall, MethodCall, Notification, Result

__all__ = ["TypedService", "answered", "api_of"]

#: Where `exposed_method` leaves what it was told: of the service, which this must not import.
_MARKS = "__gemstone_marks__"

_NOTHING_TOLD = SimpleNamespace(errors=(), result=UNSET)

_PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class _Caller(Protocol):
    """Makes calls: a `RemoteService`."""

    @property
    def urls(self) -> list[str]: ...
    def _with_errors(self, errors: Iterable[type[RpcError]]) -> _Caller: ...
    def call_method(self, call: MethodCall, /, *, idempotent: bool) -> Result: ...
    def notify(self, notification: Notification, /) -> None: ...
    def _in_background(
        self, call: MethodCall, work: Callable[[], Result], /
    ) -> AsyncMethodCall: ...


@dataclass(frozen=True)
class _Method:
    """Holds what an API says of one of its methods.

    :ivar name: the exposed one.
    :ivar decode: makes the result out of JSON's; None for any value.
    :ivar answers: False when it returns nothing by design: it is told, and not asked.
    :ivar wrong: why it cannot be called; None when it can.
    """

    name: str
    signature: inspect.Signature
    decode: Converter | None
    idempotent: bool
    answers: bool
    errors: tuple[type[RpcError], ...]
    doc: str | None
    wrong: str | None = None

    def params_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Params | None:
        """Return what is sent: as it was written, or by name when it was written both ways.

        :raises TypeError: for arguments that the signature does not take, or JSON-RPC cannot send.
        """
        bound = self.signature.bind(*args, **kwargs)
        if not kwargs:
            return list(args) or None
        by_name: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = self.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                by_name |= value
            elif kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
                raise TypeError(
                    f"{self.name}: {name!r} goes by position and {next(iter(kwargs))!r} by name: "
                    "JSON-RPC parameters are positional or named, not both"
                )
            else:
                by_name[name] = value
        return by_name


class TypedService:
    """Has the methods of an API, which call a service.

    :param client: calls it.
    :param methods: by the names that they have in the API; from `api_of`.
    """

    def __init__(
        self,
        client: _Caller,
        api: type,
        methods: Mapping[str, _Method],
        how: str = "",
    ) -> None:
        self.__client = client
        self.__api = api
        self.__methods = methods
        self.__how = how
        # At once, as isinstance() of a Protocol does not ask __getattr__ from Python 3.12 on.
        for name, method in methods.items():
            if method.wrong is None:
                tells = how == "notifications" or not method.answers
                kind = TypedNotification if tells else TypedMethod
                self.__dict__[name] = kind(client, method, how == "idempotent")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # copy, pickle and inspect look for such
        if name in self.__methods:
            raise TypeError(self.__methods[name].wrong)
        if name in ("idempotent", "notifications") and not self.__how:
            return TypedService(self.__client, self.__api, self.__methods, name)
        raise AttributeError(_no_method(self.__api, name, self.__methods))

    def __dir__(self) -> list[str]:
        forms = [] if self.__how else ["idempotent", "notifications"]
        return sorted([*self.__methods, *forms])

    def __repr__(self) -> str:
        return f"<{self.__api.__qualname__} at {_shown(self.__client.urls)}>"


class TypedMethod:
    """Calls one method of an API."""

    def __init__(self, client: _Caller, method: _Method, idempotent: bool) -> None:
        self._client = client
        self._method = method
        self._idempotent = idempotent or method.idempotent
        self.__doc__ = method.doc
        self.__name__ = method.name
        self.__signature__ = method.signature
        if method.errors:
            self._client = client._with_errors(method.errors)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call it.

        :raises TypeError: for arguments that the signature does not take; nothing is sent.
        :raises BadResponse: when the answer does not fit the return type.
        :raises RemoteError, TransportError: as all calls do.
        """
        return answered(
            self._client, self._call(args, kwargs), self._method.decode, self._idempotent
        ).value()

    def async_(self, /, *args: Any, **kwargs: Any) -> AsyncMethodCall:
        """Call it in the background."""
        call = self._call(args, kwargs)
        client, decode, idempotent = self._client, self._method.decode, self._idempotent
        return client._in_background(call, lambda: answered(client, call, decode, idempotent))

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MethodCall:
        return MethodCall(self._method.name, self._method.params_of(args, kwargs))

    def __repr__(self) -> str:
        return f"<TypedMethod {self._method.name!r} at {_shown(self._client.urls)}>"


class TypedNotification:
    """Tells one method of an API something, and does not ask."""

    def __init__(self, client: _Caller, method: _Method, idempotent: bool) -> None:
        self._client = client
        self._method = method
        self.__doc__ = method.doc

    def __call__(self, /, *args: Any, **kwargs: Any) -> None:
        """Send the notification.

        :raises TypeError: for arguments that the signature does not take; nothing is sent.
        :raises TransportError: when it did not arrive, or that is not known.
        """
        params = self._method.params_of(args, kwargs)
        self._client.notify(Notification(self._method.name, params))


def answered(
    client: _Caller, call: MethodCall, decode: Converter | None, idempotent: bool
) -> Result:
    """Make a call, and its answer of the types that were promised."""
    result = client.call_method(call, idempotent=idempotent)
    if result.error is not None:
        _decode_data(result.error)
    elif decode is not None:
        try:
            result.result = decode(result.result)
        except Fault as fault:
            raise _bad_response(f"the result of {call.method_name}", client.urls, fault) from None
    return result


def api_of(api: Any) -> Mapping[str, _Method]:
    """Read the methods of an API, by the names that they have in it.

    :raises TypeError: for what is no class, has no method, or has one that cannot be called so; of
        a service's class that one method alone is left out.
    """
    if not isinstance(api, type):
        raise TypeError(f"an API is a class (a Protocol, an ABC, a service's), not {api!r}")
    return _methods_of(api)


@functools.lru_cache(1000)
def _methods_of(api: type) -> Mapping[str, _Method]:
    own = __name__.partition(".")[0]
    is_service = any(cls.__module__.partition(".")[0] == own for cls in api.__mro__)
    methods: dict[str, _Method] = {}
    for name in _names_of(api):
        marks = _marks_of(api, name)
        if marks is not None or not (is_service or name.startswith("_")):
            methods[name] = _method_of(api, name, marks)
    if not methods:
        raise TypeError(f"{api.__qualname__} has no method that callers could call")
    wrong = [each.wrong for each in methods.values() if each.wrong is not None]
    if wrong and not is_service:
        raise TypeError(wrong[0])
    return methods


def _names_of(api: type) -> list[str]:
    """List what a class and its bases define themselves that can be called."""
    bases = [cls for cls in api.__mro__ if cls.__module__ not in ("builtins", "typing", "abc")]
    names = dict.fromkeys(name for cls in reversed(bases) for name in vars(cls))
    return [
        name
        for name in names
        if not (name.startswith("__") and name.endswith("__"))
        and not isinstance(inspect.getattr_static(api, name), (property, type))
        and callable(getattr(api, name, None))
    ]


def _marks_of(api: type, name: str) -> Any:
    """Return what `exposed_method` was told, here or of a method that this overrides."""
    for cls in api.__mro__:
        found = vars(cls).get(name)
        marks = getattr(found, _MARKS, None) or getattr(
            getattr(found, "__func__", None), _MARKS, None
        )
        if marks is not None and marks.exposed:
            return marks
    return None


def _method_of(api: type, name: str, marks: Any) -> _Method:
    function = getattr(api, name)
    told: Any = _NOTHING_TOLD if marks is None else marks.told
    wrong = decode = None
    signature = inspect.Signature()
    try:
        signature = _without_first(
            inspect.signature(function),
            # A class or static method has no self in front.
            (not isinstance(inspect.getattr_static(api, name), (staticmethod, classmethod)))
            + (marks is not None and marks.needs_handler),
        )
        if inspect.iscoroutinefunction(inspect.unwrap(function)):
            raise TypeError("it is async def, and calls are blocking here")
        returned = signature.return_annotation if told.result is UNSET else told.result
        decode = None if returned is NOTHING else converter_for(evaluate(returned, function, api))
    except (
        TypeError,
        ValueError,
        UncheckedHint,
        CannotEvaluate,
        ServiceConfigurationError,
    ) as error:
        wrong = f"{api.__qualname__}.{name} cannot be called as it says: {error}"
    return _Method(
        name=name if marks is None or marks.name is None else marks.name,
        signature=signature,
        decode=decode,
        idempotent=marks is not None and marks.idempotent,
        answers=told.result is not NOTHING,
        errors=(*told.errors, *(() if marks is None else marks.pass_errors)),
        doc=inspect.getdoc(function),
        wrong=wrong,
    )


def _without_first(signature: inspect.Signature, count: int) -> inspect.Signature:
    parameters = list(signature.parameters.values())
    while count and parameters and parameters[0].kind in _PLACED:
        del parameters[0]
        count -= 1
    return signature.replace(parameters=parameters)


def _no_method(api: type, name: str, methods: Mapping[str, _Method]) -> str:
    close = difflib.get_close_matches(name, methods, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(methods)}"
    is_there = callable(getattr(api, name, None))
    told = "does not expose" if is_there else "has no method"
    return f"{api.__qualname__} {told} {name!r}{hint:.300}"


def _decode_data(error: RpcError) -> None:
    """Make of an error's data what its class declares that it is.

    :raises BadResponse: when it does not fit.
    """
    if error.data is UNSET:
        return
    cls: Any = type(error)
    decode = _data_decoder_of(cls)
    if decode is not None:
        try:
            error.data = decode(error.data)
        except Fault as fault:
            told = f"the data of {type(error).__name__}"
            raise _bad_response(told, [getattr(error, "url", None) or ""], fault) from error


@functools.lru_cache(1000)
def _data_decoder_of(cls: type[RpcError]) -> Converter | None:
    for base in cls.__mro__:
        if "data" in vars(base).get("__annotations__", {}):
            return converter_for(evaluate(vars(base)["__annotations__"]["data"], base))
    return None


def _bad_response(what: str, urls: list[str], fault: Fault) -> BadResponse:
    reasons = "; ".join(map(str, fault.args))
    return BadResponse(f"{_shown(urls)}: {what} does not fit its type: {reasons:.300}")


def _shown(urls: list[str]) -> str:
    return without_passwords(", ".join(urls))
