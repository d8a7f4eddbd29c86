"""From the parts of a service to its contract.

What a service's layers know of a method or an event is handed over as a source; hints, docstrings
and errors are read here, once, when somebody asks for the contract.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..callables import class_of, doc_of
from ..errors import (
    UNSET,
    AccessDenied,
    DeadlineExceeded,
    InternalError,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    ParseError,
    ResponseTooLarge,
    RpcError,
    ServerOverloaded,
    TooManyHops,
)
from .binding import BoundParameter
from .docstrings import Doc, read_doc
from .examples import plain_example
from .hints import CannotEvaluate, Check, UncheckedHint, check_for, evaluate
from .model import NOTHING, Contract, ErrorInfo, Event, Method, Parameter, Schema, Told
from .plain import as_json, clean_text
from .schemas import schemas_of
from .signature_text import signature_of

__all__ = ["ALWAYS", "EventSource", "MethodSource", "build", "data_hint"]

#: What the framework may answer to any call, whatever the method declares.
ALWAYS: tuple[type[RpcError], ...] = (
    ParseError,
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    InternalError,
    ServerOverloaded,
    AccessDenied,
    DeadlineExceeded,
    TooManyHops,
    ResponseTooLarge,
)


@dataclass(frozen=True, kw_only=True)
class MethodSource(Told):
    """An exposed method, as the service has it.

    :param function: the bound method.
    :param parameters: what callers give.
    :param needs_handler: its first argument is the framework's.
    """

    name: str
    function: Callable[..., Any]
    parameters: tuple[BoundParameter, ...] = ()
    needs_handler: bool = False
    private: bool = False
    idempotent: bool = False
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class EventSource:
    """An event that a service emits, or handles.

    :param body: the type of its body, for one that it emits.
    :param function: the bound method that handles it.
    :param check: of its argument; None when that is not checked.
    """

    name: str
    body: Any = UNSET
    function: Callable[..., Any] | None = None
    check: Check | None = None
    scope: str = "service"


def build(
    *,
    name: str,
    version: str,
    doc: str | None,
    methods: Iterable[MethodSource],
    emits: Iterable[EventSource] = (),
    handles: Iterable[EventSource] = (),
    servers: Iterable[str] = (),
) -> Contract:
    """Make the contract of a service.

    :param doc: the docstring of its class.
    :param servers: URLs of its endpoint, without what is secret in them.
    """
    hints = _Hints()
    described = read_doc(doc)
    unfinished = [_method(source, hints) for source in sorted(methods, key=lambda s: s.name)]
    emitted = [_event(source, hints) for source in sorted(emits, key=lambda s: s.name)]
    handled = [_event(source, hints) for source in sorted(handles, key=lambda s: s.name)]
    hints.finish()
    return Contract(
        name=name,
        version=version,
        summary=described.summary,
        description=described.description,
        methods=tuple(finish() for finish in unfinished),
        emits=tuple(finish() for finish in emitted),
        handles=tuple(finish() for finish in handled),
        schemas=hints.shared,
        errors_always=tuple(
            ErrorInfo(code=e.code, message=e.message, name=e.__name__) for e in ALWAYS
        ),
        servers=tuple(servers),
    ).pruned()  # the keys of a dict refer to no schema


class _Hints:
    """The checks of all hints; they get their schemas together, so that names are told apart."""

    def __init__(self) -> None:
        self._checks: list[Check | None] = []
        self._schemas: list[Schema] = []
        self._sent: set[int] = set()
        self.shared: Mapping[str, Schema] = {}

    def add(self, check: Check | None, *, sent: bool) -> Callable[[], Schema]:
        """:param sent: whether the service sends such values, or takes them."""
        number = len(self._checks)
        self._checks.append(check)
        if sent:
            self._sent.add(number)
        return lambda: self._schemas[number]

    def finish(self) -> None:
        self._schemas, self.shared = schemas_of(self._checks, self._sent)


def _method(source: MethodSource, hints: _Hints) -> Callable[[], Method]:
    doc = doc_of(source.function)
    described = read_doc(doc)
    parameters = _parameters(source, described, hints)
    result = None
    if source.result is not NOTHING:
        result = hints.add(_result_check(source), sent=True)
    errors = [_error(error, hints) for error in source.errors]
    description = described.description
    if isinstance(source.deprecated, str):
        told = f"Deprecated: {clean_text(source.deprecated)}"
        description = f"{told}\n\n{description}".strip()

    def finish() -> Method:
        return Method(
            name=source.name,
            summary=described.summary if source.summary is None else clean_text(source.summary),
            description=description,
            parameters=tuple(finish_parameter() for finish_parameter in parameters),
            result=None if result is None else result(),
            result_description=described.result,
            errors=tuple(finish_error() for finish_error in errors),
            examples=tuple(plain_example(e, source.parameters) for e in source.examples),
            deprecated=bool(source.deprecated),
            tags=source.tags,
            private=source.private,
            idempotent=source.idempotent,
            timeout=source.timeout,
            read_only=source.read_only,
            destructive=source.destructive,
            mcp=source.mcp,
            doc=doc,
            signature=signature_of(
                source.name, source.function, needs_handler=source.needs_handler
            ),
        ).as_callable()

    return finish


def _parameters(
    source: MethodSource, described: Doc, hints: _Hints
) -> list[Callable[[], Parameter]]:
    def unfinished(parameter: BoundParameter) -> Callable[[], Parameter]:
        schema = hints.add(parameter.check, sent=False)
        default = UNSET if parameter.default is UNSET else as_json(parameter.default)
        return lambda: Parameter(
            name=parameter.name,
            schema=schema(),
            required=parameter.required,
            default=default,
            description=described.parameters.get(parameter.name, ""),
            kind=parameter.kind,
        )

    return [unfinished(parameter) for parameter in source.parameters]


def _result_check(source: MethodSource) -> Check | None:
    annotation = source.result
    if annotation is UNSET:
        try:
            annotation = inspect.signature(source.function).return_annotation
        except (TypeError, ValueError):  # made in C, or a __signature__ that is none
            return None
    return _check_of(annotation, source.function)


def _check_of(annotation: Any, owner: Any) -> Check | None:
    """Make the check for the values of an annotation; None when there is none."""
    if annotation is None:
        annotation = type(None)
    cls = class_of(owner) if hasattr(owner, "__self__") else None
    try:
        return check_for(evaluate(annotation, owner, cls))
    except (CannotEvaluate, UncheckedHint):
        return None


def _error(cls: type[RpcError], hints: _Hints) -> Callable[[], ErrorInfo]:
    owner, hint = data_hint(cls)
    data = None if owner is None else hints.add(_check_of(hint, owner), sent=True)
    example = as_json(cls.data) if cls.data is not UNSET else UNSET
    return lambda: ErrorInfo(
        code=cls.code,
        message=clean_text(cls.message),
        name=cls.__name__,
        data=None if data is None else data(),
        example=example,
    )


def data_hint(cls: type[RpcError]) -> tuple[type | None, Any]:
    """The class that says of which type an error's data are, with what it says; None when none."""
    for base in cls.__mro__:
        if base is not RpcError and "data" in (found := vars(base).get("__annotations__", {})):
            return base, found["data"]
    return None, UNSET


def _event(source: EventSource, hints: _Hints) -> Callable[[], Event]:
    described, doc = Doc(), None
    check: Check | None = None
    if source.function is not None:
        doc = doc_of(source.function)
        described = read_doc(doc)
        check = source.check
    elif source.body is not UNSET:
        check = _check_of(source.body, _event)
        described = read_doc(_doc_of_type(source.body))
    schema = hints.add(check, sent=source.function is None)
    return lambda: Event(
        name=source.name,
        schema=schema(),
        summary=described.summary,
        description=described.description,
        scope=source.scope,
        doc=doc,
    )


def _doc_of_type(body: Any) -> str | None:
    if not isinstance(body, type) or body.__module__ == "builtins":
        return None
    doc = vars(body).get("__doc__")
    return None if not isinstance(doc, str) or doc.startswith(f"{body.__name__}(") else doc
