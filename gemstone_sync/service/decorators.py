"""Decorators for methods. They leave a mark on the function and return it.

It may be any callable: one that takes no mark (`print`, `a_list.append`) is wrapped in
a partial, and a partial is made static.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any, NamedTuple, NoReturn, TypeVar, cast

from werkzeug.routing import Rule

from ..callables import name_of
from ..contract.model import Example, Told
from ..errors import UNSET, RpcError, Unset
from ..event.handlers import Backoff, Handler
from ..number_checks import is_number

__all__ = [
    "UNMARKED",
    "Marks",
    "async_method",
    "event_handler",
    "exposed_method",
    "health_check",
    "marks_of",
    "periodic",
    "private_api_method",
    "public_method",
    "requires_handler_reference",
    "route",
]

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z0-9_.]+", re.ASCII)
_ATTRIBUTE = "__gemstone_marks__"
_UNTOLD = Told()
#: Of `exposed_method`.
_OPTIONS = (
    "name",
    "private",
    "requires_handler_reference",
    "timeout",
    "idempotent",
    "pass_errors",
    "errors",
    "examples",
    "deprecated",
    "summary",
    "tags",
    "result",
    "threaded",
    "cpu",
    "read_only",
    "destructive",
    "mcp",
    "public",
    "is_coroutine",
)


class CheckOptions(NamedTuple):
    """Options of `health_check`."""

    name: str
    timeout: float
    every: float


@dataclass(frozen=True)
class Marks:
    """The options that decorators gave a function; each adds its own, in any order."""

    exposed: bool = False
    name: str | None = None
    private: bool = False
    needs_handler: bool = False
    #: Seconds; None for no limit; UNSET for the service's `default_timeout`.
    timeout: float | Unset | None = UNSET
    idempotent: bool = False
    pass_errors: tuple[type[RpcError], ...] = ()
    told: Told = _UNTOLD
    #: Names of events, or patterns, with the options of `event_handler`.
    events: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    period: float | None = None
    check: CheckOptions | None = None
    #: In ``"a thread"``, in ``"a process"``, or in the greenlet of the call.
    runs_in: str | None = None
    routes: tuple[tuple[str, Mapping[str, Any]], ...] = ()


UNMARKED = Marks()


def marks_of(function: object) -> Marks:
    """Return the marks of a function; `UNMARKED` when it has none."""
    # A staticmethod or classmethod hides the function, with what was said of it before.
    for place in (function, getattr(function, "__func__", None)):
        marks = getattr(place, _ATTRIBUTE, None)
        if isinstance(marks, Marks):
            return marks
    return UNMARKED


def _mark(function: F, **changes: Any) -> F:
    marks = replace(marks_of(function), **changes)
    try:
        setattr(function, _ATTRIBUTE, marks)
    except AttributeError:
        function = cast(F, functools.partial(function))
        setattr(function, _ATTRIBUTE, marks)
    if isinstance(function, functools.partial):  # Python 3.14 would give it `self`, 3.13 warns
        return cast(F, staticmethod(function))
    return function


def exposed_method(
    name: str | None = None,
    private: bool = False,
    is_coroutine: bool | None = None,
    requires_handler_reference: bool = False,
    timeout: float | Unset | None = UNSET,
    *,
    idempotent: bool = False,
    pass_errors: Iterable[type[RpcError]] = (),
    errors: Iterable[type[RpcError]] = (),
    examples: Iterable[Example] = (),
    deprecated: bool | str = False,
    summary: str | None = None,
    tags: Iterable[str] = (),
    result: Any = UNSET,
    threaded: bool = False,
    cpu: bool = False,
    read_only: bool = False,
    destructive: bool | None = None,
    mcp: bool | None = None,
    public: bool | None = None,
    **unknown: NoReturn,  # refused below, in one line
) -> Callable[[F], F]:
    """Expose a method to JSON-RPC callers.

    :param name: the name that callers use: letters, digits, dots, underscores; by default the
        method's own. Names that start with ``rpc.`` are the framework's (JSON-RPC 2.0, section 4).
    :param private: only for requests that ``authenticate_request`` accepts.
    :param requires_handler_reference: the method takes the request's `JsonRpcHandler` as its first
        argument.
    :param timeout: seconds until the call fails with `DeadlineExceeded`; None for no limit; left
        out, the service's ``default_timeout``.
    :param idempotent: called twice it does the same as called once, so a `RemoteService` may
        call it again when a connection breaks on the way.
    :param pass_errors: classes of `RpcError`. When another service answers the method with one of
        them and the method does not catch it, the caller gets it as it is; every other error of
        another service is an `InternalError` to the caller.
    :param errors: classes of `RpcError` that the method raises, for whoever reads the contract:
        their codes, messages and, where they annotate ``data``, its type.
    :param examples: `Example` calls. One that does not fit the type hints is refused when the class
        is made.
    :param deprecated: True, or what to use instead.
    :param summary: one line, instead of the docstring's first.
    :param tags: words by which readers group methods.
    :param result: the type of the result, instead of the hint's; ``NOTHING`` for a method that
        returns nothing by design, so that callers send it notifications.
    :param threaded: calls run in native threads, `max_threads` at once, so that what computes or
        waits in C holds nobody up. At its deadline a call is answered; its thread goes on, and
        keeps its place until it ends.
    :param cpu: calls run in processes, `max_processes` at once, for what computes in Python for
        longer than some 50 ms. Arguments and result must be picklable; ``self`` is a copy with the
        settings and what else can be pickled. At its deadline the process is killed.
    :param read_only: it changes nothing, which agents are told.
    :param destructive: it may undo or overwrite something, or does not; agents ask before they call
        one that may. Left out, they are told neither.
    :param mcp: False keeps it from agents; see `MicroService.mcp`.
    :param is_coroutine, public: accepted for gemstone's sake; a coroutine has no meaning here.
    :raises ValueError: for a name that callers may not use, or a timeout that is not positive.
    :raises TypeError: for something in `pass_errors` that is no class of `RpcError`, or an option
        that there is not.

    A subclass that overrides the method without decorating it again keeps all of this.

    ::

        @exposed_method("users.login", timeout=2)
        def login(self, username: str, password: str) -> str: ...
    """
    if callable(name):
        raise TypeError("write @exposed_method() with parentheses")
    if is_coroutine:
        _warn("is_coroutine has no meaning here: write plain blocking code")
    _refuse_unknown("exposed_method", unknown, _OPTIONS)
    if public is not None and public is private:
        raise ValueError("a method is either public or private")
    if timeout is not None and timeout is not UNSET and not (is_number(timeout) and timeout > 0):
        raise ValueError(f"a timeout is a number of seconds above 0, not {timeout!r}")
    if threaded and cpu:
        raise ValueError("a method is either threaded or cpu")
    if name is not None:
        check_method_name(name)
    runs_in = "a thread" if threaded else "a process" if cpu else None
    passed = _error_classes("pass_errors", pass_errors)
    told = _documentation(
        errors=_error_classes("errors", errors),
        examples=examples,
        deprecated=deprecated,
        summary=summary,
        tags=tags,
        result=result,
        read_only=read_only,
        destructive=destructive,
        mcp=mcp,
    )

    def decorate(function: F) -> F:
        if name is None and hasattr(function, "__name__"):  # else its attribute's, an identifier
            check_method_name(function.__name__)
        before = marks_of(function)
        return _mark(
            function,
            exposed=True,
            name=name if name is not None else before.name,
            private=private or before.private,
            needs_handler=requires_handler_reference or before.needs_handler,
            timeout=timeout if timeout is not UNSET else before.timeout,
            idempotent=idempotent or before.idempotent,
            pass_errors=passed or before.pass_errors,
            told=told if told != _UNTOLD else before.told,
            runs_in=runs_in or before.runs_in,
        )

    return decorate


def _documentation(**given: Any) -> Told:
    """Read the options that say something to those who read the contract.

    :raises TypeError: for what is not of its kind.
    """
    for name in ("examples", "tags"):
        wanted = Example if name == "examples" else str
        if isinstance(given[name], (str, Example)) or not isinstance(given[name], Iterable):
            raise TypeError(f"{name} is a list, not {given[name]!r}")
        given[name] = tuple(given[name])
        for each in given[name]:
            if not isinstance(each, wanted) or not each:
                raise TypeError(f"{name} has {wanted.__name__}s, and {each!r} is none")
    if not isinstance(given["deprecated"], (bool, str)):
        raise TypeError(f"deprecated is True or what to use instead, not {given['deprecated']!r}")
    if not isinstance(given["summary"], (str, NoneType)):
        raise TypeError(f"summary is one line of text, not {given['summary']!r}")
    for name in ("read_only", "destructive", "mcp"):
        if not isinstance(given[name], (bool, NoneType)):
            raise TypeError(f"{name} is True or False, not {given[name]!r}")
    if given["read_only"] and given["destructive"]:
        raise ValueError("a method that is read_only cannot be destructive")
    return Told(**given)


def _error_classes(option: str, given: Any) -> tuple[type[RpcError], ...]:
    """Read an option that lists errors.

    :raises TypeError: saying what was meant, when they are no classes of `RpcError`.
    """
    if isinstance(given, (type, str, RpcError)) or not isinstance(given, Iterable):
        meant = getattr(given, "__name__", given if isinstance(given, str) else None)
        hint = f"; did you mean {option}=[{meant or type(given).__name__}]?"
        raise TypeError(f"{option} is a list of classes of RpcError, not {given!r}{hint}")
    classes = tuple(given)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, RpcError)):
            hint = ""
            if isinstance(cls, (RpcError, str)):
                meant = cls if isinstance(cls, str) else type(cls).__name__
                hint = f"; did you mean the class {meant}?"
            elif isinstance(cls, type):
                hint = "; did you forget to derive it from RpcError? Nothing else travels"
            raise TypeError(f"{option} has classes of RpcError, and {cls!r} is none{hint}")
    return classes


def check_method_name(name: str) -> None:
    """Check the name of a method.

    :raises ValueError: when callers may not use it.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"invalid method name {name!r}: letters, digits, dots and underscores are allowed"
        )
    if name.startswith("rpc."):
        raise ValueError(f"invalid method name {name!r}: names with rpc. are reserved")


def event_handler(
    event_name: str,
    *,
    scope: str = "service",
    retries: int = 5,
    backoff: Backoff = 1.0,
    timeout: float | None = None,
    concurrency: int | None = None,
    idempotent: bool = True,
    **unknown: NoReturn,  # refused below, in one line
) -> Callable[[F], F]:
    """Have a method called with the body of every event `event_name`.

    The method takes one argument beside ``self``. A type hint on it is checked: an event whose body
    does not fit goes to the dead letters. The event counts as handled when the method returns; when
    it raises it is called again later, in the end the event goes to the dead letters.
    `RetryLater` and `Reject` say more.

    :param event_name: the name that emitters use, words joined by dots; ``*`` stands for one word,
        ``#`` for any number of them.
    :param scope: ``"service"``: of a service's running instances one handles each event;
        ``"instance"``: every one does. Work (``broadcast=False``) is done once in any case.
    :param retries: attempts after the first one.
    :param backoff: seconds before the first retry, doubled before each further one up to an hour;
        or the seconds before each; or a function of the number of failed attempts.
    :param timeout: seconds that one attempt may take; None for no limit.
    :param concurrency: how many of these events one process handles at once; None for as many as
        the transport allows.
    :param idempotent: False when handling an event twice does harm: one that was handled already
        is dropped. See `MicroService.event_deduplication`.
    :raises ValueError: for a name or an option that makes no sense.
    :raises TypeError: for an option that there is not.

    Several stand above one method when it handles several events; several methods may handle one.

    ::

        @event_handler("orders.paid", retries=10, backoff=[1, 60, 600])
        def ship(self, order: Order) -> None: ...
    """
    if callable(event_name):
        raise TypeError('write @event_handler("the_name_of_the_event")')
    options: dict[str, Any] = {
        "scope": scope,
        "retries": retries,
        "backoff": backoff,
        "timeout": timeout,
        "concurrency": concurrency,
        "idempotent": idempotent,
    }
    _refuse_unknown("event_handler", unknown, options)
    Handler(pattern=event_name, function=marks_of, name="checked", **options)

    def decorate(function: F) -> F:
        before = marks_of(function).events
        if any(event_name == name for name, _ in before):
            raise ValueError(f"{name_of(function)} handles {event_name!r} twice")
        return _mark(function, events=((event_name, options), *before))

    return decorate


def periodic(seconds: float) -> Callable[[F], F]:
    """Call a method every `seconds`, for as long as the service runs.

    It never overlaps itself and does not drift: the next run comes at the next multiple of
    `seconds` after the start. An error is logged, and the next run comes.

    :raises ValueError: when `seconds` is no positive number.
    """
    if callable(seconds):
        raise TypeError("write @periodic(seconds=60), with how often")
    if not (is_number(seconds) and seconds > 0):
        raise ValueError(f"a period is a number of seconds above 0, not {seconds!r}")
    return lambda function: _mark(function, period=seconds)


def health_check(
    name: str,
    *,
    timeout: float = 2,
    every: float = 10,
    **unknown: NoReturn,  # refused below, in one line
) -> Callable[[F], F]:
    """Have a method tell whether something that the service depends on is there.

    It takes nothing but ``self``. The service is not ready (``/health/ready`` answers 503) while
    it raises or returns False. What else it returns, a number, a text or a dict, is shown as the
    observed value to those who may see it. Liveness never depends on it.

    :param name: the key among the checks, such as ``"database"`` or ``"database:responseTime"``.
    :param timeout: seconds that it may take; then it counts as failed and is ended.
    :param every: seconds for which a result is kept, however often it is asked for.
    :raises ValueError: for a name or a time that makes no sense.
    :raises TypeError: for an option that there is not.

    ::

        @health_check("database", timeout=2, every=10)
        def database(self) -> float:
            begun = time.monotonic()
            self.engine.connect().close()
            return time.monotonic() - begun
    """
    if callable(name):
        raise TypeError('write @health_check("database"), with the name of what it checks')
    _refuse_unknown("health_check", unknown, ["timeout", "every"])
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ValueError(f"the name of a health check is a text, not {name!r}")
    for option, seconds in (("timeout", timeout), ("every", every)):
        if not (is_number(seconds) and seconds > 0):
            raise ValueError(f"{option} is a number of seconds above 0, not {seconds!r}")
    return lambda function: _mark(function, check=CheckOptions(name, timeout, every))


def route(rule: str, **options: Any) -> Callable[[F], F]:
    """Serve a method as a Flask view.

    :param rule: a Flask URL rule, e.g. ``"/status/<name>"``.
    :param options: as for :meth:`flask.Flask.route`, e.g. ``methods=["POST"]``.
    :raises ValueError: for what is no rule.
    :raises TypeError: for an option that Flask has not.
    """
    if callable(rule):
        raise TypeError('write @route("/path")')
    if not isinstance(rule, str) or not rule.startswith("/"):
        raise ValueError(f"a Flask rule is like '/users/<int:user_id>', not {rule!r}")
    known = [*inspect.signature(Rule).parameters][1:]
    _refuse_unknown("route", options, [*known, "provide_automatic_options"])
    return lambda function: _mark(function, routes=(*marks_of(function).routes, (rule, options)))


def _refuse_unknown(decorator: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse options that a decorator has not.

    :raises TypeError: naming the first.
    """
    for name in given:
        if name in known:
            continue
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        raise TypeError(f"{decorator} has no option {name!r}; {hint}")


# The decorators that gemstone 0.9 deprecated


def public_method(function: F) -> F:
    """Expose a method. Deprecated: use :func:`exposed_method`."""
    _warn("public_method is deprecated: use exposed_method()")
    return _mark(function, exposed=True)


def private_api_method(function: F) -> F:
    """Expose a private method. Deprecated: use ``exposed_method(private=True)``."""
    _warn("private_api_method is deprecated: use exposed_method(private=True)")
    return _mark(function, exposed=True, private=True)


def requires_handler_reference(function: F) -> F:
    """Pass the handler to a method. Deprecated: use ``exposed_method``'s parameter."""
    _warn(
        "requires_handler_reference is deprecated: "
        "use exposed_method(requires_handler_reference=True)"
    )
    return _mark(function, needs_handler=True)


def async_method(function: F) -> F:
    """Mark a coroutine. Deprecated: every method runs in a greenlet of its own and may block."""
    _warn("async_method is deprecated: methods are plain blocking functions here")
    return function


def _warn(message: str) -> None:
    warnings.warn(message, DeprecationWarning, stacklevel=3)
