"""A whole signature: JSON-RPC params -> the arguments of a call, every fault named at once.

Binding happens before the call and never by calling: a TypeError or ValueError raised inside the
method is the method's own and is not taken for bad parameters.
"""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from ..annotations import evaluator
from ..callables import name_of
from ..errors import UNSET, InvalidParams, ServiceConfigurationError, Unset
from .hints import ANYTHING, CannotEvaluate, Check, Converter, Fault, UncheckedHint, check_for
from .signatures import parameters_of

__all__ = ["Arguments", "BoundParameter", "ParameterBinder"]

logger = logging.getLogger("gemstone_sync.contract")

#: Positional and named arguments for the call.
Arguments: TypeAlias = tuple[Sequence[Any], dict[str, Any]]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class BoundParameter(NamedTuple):
    """A parameter that callers give.

    :ivar kind: by position only, by either, by name only, any more by position (``*args``), any
        more by name (``**kwargs``).
    :ivar default: UNSET when there is none.
    :ivar hint: evaluated; UNSET when there is none that can be.
    :ivar check: None when values are not checked, of which there was a warning.
    """

    name: str
    kind: Literal["positional", "either", "named", "rest", "named_rest"]
    required: bool = False
    default: Any = UNSET
    hint: Any = UNSET
    check: Check | None = None


class ParameterBinder:
    """Binds params to one function's parameters, and validates those that have type hints.

    :param function: the plain function, as it stands in the class.
    :param skip: how many leading parameters the framework fills in (``self``, the handler).
    :param cls: the class that has the function, whose nested classes its hints may name.
    :param strict: False lets a text stand for a number or a bool.
    :param warn: tell of parameters that are not checked.
    :ivar parameters: what callers give, in order.
    :raises TypeError: when the function takes fewer.
    :raises ServiceConfigurationError: for a constraint that cannot be checked, and for what has no
        signature.

    >>> def add(self, a: int, b: int = 0): ...
    >>> ParameterBinder(add, skip=1).bind({"a": 1})
    ((), {'a': 1})
    >>> ParameterBinder(add, skip=1).bind(["x", 2, 3])
    Traceback (most recent call last):
    gemstone_sync.errors.InvalidParams: Invalid params
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        skip: int = 0,
        cls: type | None = None,
        strict: bool = True,
        warn: bool = True,
    ) -> None:
        parameters = parameters_of(function, cls)
        kinds = {p.kind: p for p in parameters}
        self._rest = kinds.get(inspect.Parameter.VAR_POSITIONAL)
        self._named_rest = kinds.get(inspect.Parameter.VAR_KEYWORD)
        taken = [p for p in parameters if p.kind in _POSITIONAL][:skip]
        if len(taken) < skip and self._rest is None:
            raise TypeError(f"{name_of(function)} takes fewer than {skip} positional arguments")
        #: Names that Python has given a value already: a caller must not.
        self._reserved = {p.name for p in taken if p.kind is not inspect.Parameter.POSITIONAL_ONLY}
        own = [p for p in parameters if p not in taken]
        self._positional = [p.name for p in own if p.kind in _POSITIONAL]
        self._named = {p.name for p in own if p.kind in _NAMED}
        self._positional_only = any(name not in self._named for name in self._positional)
        self._required = [
            p.name
            for p in own
            if p.default is inspect.Parameter.empty and p.kind in (*_POSITIONAL, *_NAMED)
        ]
        self._required_by_name = frozenset(self._required)
        #: Needed even when params come by position: JSON-RPC cannot mix both forms.
        self._keyword_only = [
            p.name
            for p in own
            if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name in self._required_by_name
        ]
        self._needed_positionally = len([n for n in self._required if n in self._positional])
        self.parameters = tuple(_bound(function, own, cls, strict, warn))
        self._converters: dict[str, Converter] = {
            p.name: p.check.convert
            for p in self.parameters
            if p.check is not None and p.check.convert is not None
        }
        self._by_position = [self._converters.get(name) for name in self._positional]

    def bind(self, params: list[Any] | dict[str, Any] | Unset) -> Arguments:
        """Bind and validate.

        :raises InvalidParams: its ``data`` is ``{"parameters": [{"name": …, "reason": …}, …]}``,
            one entry for every parameter at fault, up to 100 (then ``"more": true`` is added);
            one without a name has ``position``.
        """
        if type(params) is dict:
            return self._bind_named(params)
        if params is UNSET:
            params = []
        return self._bind_positional(params)  # type: ignore[arg-type]

    def _bind_positional(self, params: list[Any]) -> Arguments:
        count = len(params)
        if (
            count < self._needed_positionally
            or (count > len(self._positional) and self._rest is None)
            or self._keyword_only
        ):
            raise self._positional_faults(params)
        if not self._converters:
            return params, {}
        faults = _Faults()
        values = self._convert_positional(params, faults)
        faults.raise_if_any()
        return values, {}

    def _convert_positional(self, params: list[Any], faults: _Faults) -> list[Any]:
        values: list[Any] = []
        rest = self._converters.get(self._rest.name) if self._rest is not None else None
        known = len(self._by_position)
        for position, value in enumerate(params):
            converter = self._by_position[position] if position < known else rest
            if converter is not None:
                try:
                    value = converter(value)
                except Fault as fault:
                    where = self._positional[position] if position < known else position
                    faults.add(where, *fault.args)
                    if faults.full:
                        break
            values.append(value)
        return values

    def _positional_faults(self, params: list[Any]) -> InvalidParams:
        faults = _Faults()
        most = len(self._positional)
        self._convert_positional(params if self._rest is not None else params[:most], faults)
        for name in self._positional[len(params) :]:
            if name in self._required_by_name:
                faults.add(name, "missing")
        for name in self._keyword_only:
            faults.add(name, "missing: it can only be given by name")
        if self._rest is None:
            for position in range(most, len(params)):
                faults.add(position, f"unexpected: at most {most} are taken")
                if faults.full:
                    break
        return faults.error()

    def _bind_named(self, params: dict[str, Any]) -> Arguments:
        keys = params.keys()
        if (
            self._positional_only
            or not self._required_by_name <= keys
            or not (keys <= self._named or (self._named_rest and not self._reserved & keys))
        ):
            return self._bind_named_slowly(params)
        if not self._converters:
            return (), params
        if self._named_rest is not None:
            return self._bind_named_slowly(params)
        get = self._converters.get
        values = {}
        try:
            for name, value in params.items():
                converter = get(name)
                values[name] = value if converter is None else converter(value)
        except Fault:
            return self._bind_named_slowly(params)  # names all of them
        return (), values

    def _convert_named(self, params: dict[str, Any], faults: _Faults) -> dict[str, Any]:
        values: dict[str, Any] = {}
        rest = self._converters.get(self._named_rest.name) if self._named_rest else None
        for name, value in params.items():
            converter = self._converters.get(name) if name in self._named else rest
            if converter is not None:
                try:
                    value = converter(value)
                except Fault as fault:
                    faults.add(name, *fault.args)
                    if faults.full:
                        break
            values[name] = value
        return values

    def _bind_named_slowly(self, params: dict[str, Any]) -> Arguments:
        """Name every fault; also serves methods with positional-only parameters."""
        faults = _Faults()
        known = self._named | (set() if self._named_rest else set(self._positional))
        wanted: dict[str, Any] = {}
        for name, value in params.items():
            if name in self._reserved:
                faults.add(name, "unexpected: filled in by the service")
            elif name not in self._named and not self._named_rest:
                faults.add(name, self._unexpected(name, known))
                if faults.full:
                    break
            else:
                wanted[name] = value
        values = self._convert_named(wanted, faults)
        for name in self._required:
            if name not in self._named:
                if name not in params or self._named_rest:
                    faults.add(name, "missing: it can only be given by position")
            elif name not in params:
                faults.add(name, "missing")
        faults.raise_if_any()
        return (), values

    def _unexpected(self, name: str, known: set[str]) -> str:
        if name in self._positional:
            return "unexpected by name: it can only be given by position"
        close = difflib.get_close_matches(name[:100], known, n=1)
        return f"unexpected; did you mean {close[0]!r}?" if close else "unexpected"


_KINDS: dict[Any, Any] = {
    inspect.Parameter.POSITIONAL_ONLY: "positional",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "either",
    inspect.Parameter.KEYWORD_ONLY: "named",
    inspect.Parameter.VAR_POSITIONAL: "rest",
    inspect.Parameter.VAR_KEYWORD: "named_rest",
}


def _bound(
    function: Callable[..., Any],
    parameters: list[inspect.Parameter],
    cls: type | None,
    strict: bool,
    warn: bool,
) -> Iterator[BoundParameter]:
    empty = inspect.Parameter.empty
    evaluated = evaluator(function, cls)
    for parameter in parameters:
        default = UNSET if parameter.default is empty else parameter.default
        hint: Any = UNSET
        check: Check | None = ANYTHING
        try:
            if parameter.annotation is not empty:
                hint = evaluated(parameter.annotation)
                check = check_for(hint, strict=strict)
        except ServiceConfigurationError as error:
            raise ServiceConfigurationError(
                f"{name_of(function)}: parameter {parameter.name!r} has {error}"
            ) from None
        except (CannotEvaluate, UncheckedHint) as error:
            check = None
            if warn:
                logger.warning(
                    "%s: parameter %r is not validated: %s",
                    name_of(function),
                    parameter.name,
                    error,
                )
        kind = _KINDS[parameter.kind]
        required = parameter.default is empty and kind not in ("rest", "named_rest")
        yield BoundParameter(parameter.name, kind, required, default, hint, check)


class _Faults:
    """The parameters at fault, up to a number that a reader can use.

    A body of 10 MB holds millions of wrong parameters; naming each would cost seconds.
    """

    MOST = 100

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []

    @property
    def full(self) -> bool:
        return len(self._entries) > self.MOST

    def add(self, where: str | int, *reasons: str) -> None:
        """:param where: the parameter's name, or the position of one that has none."""
        key = "name" if isinstance(where, str) else "position"
        if not self.full:
            self._entries += [{key: where, "reason": reason} for reason in reasons]

    def error(self) -> InvalidParams:
        data: dict[str, Any] = {"parameters": self._entries[: self.MOST]}
        if self.full:
            data["more"] = True
        return InvalidParams(data=data)

    def raise_if_any(self) -> None:
        if self._entries:
            raise self.error()
