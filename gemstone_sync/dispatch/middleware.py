"""Middleware: functions around a call or around the handling of an event, nested.

Each gets what it is around, and `proceed`, which goes on inwards and returns what comes of it. What
it returns itself counts; when that is None, what `proceed` gave or raised counts: a fault, or a
deadline, that a middleware swallows without an answer of its own still reaches the caller. One that
neither proceeds nor answers nor raises would drop a call silently: that is the service's fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..concurrency import DeadlineReached, current_call

__all__ = ["Around", "Nest", "nest"]

#: A middleware: what it is called in errors, and the function.
Around = tuple[str, Callable[[Any, Callable[..., Any]], Any]]

#: Runs what is innermost, with what it is about, inside of all middleware.
Nest = Callable[[Any, Callable[[Any], Any]], Any]


def nest(functions: Sequence[Around], answer: type | None) -> Nest | None:
    """Make one function of several middleware; None of none.

    :param functions: the outermost first.
    :param answer: the class of what they may return beside None; None for anything.

    >>> def louder(text, proceed):
    ...     return proceed() + "!"
    >>> both = nest([("louder", louder), ("louder", louder)], str)
    >>> both("hello", lambda text: text)
    'hello!!'
    """
    if not functions:
        return None

    def run(what: Any, innermost: Callable[[Any], Any]) -> Any:
        return _enter(functions, 0, answer, what, innermost)

    return run


def _enter(
    functions: Sequence[Around],
    index: int,
    answer: type | None,
    what: Any,
    innermost: Callable[[Any], Any],
) -> Any:
    if index == len(functions):
        return innermost(what)
    name, function = functions[index]
    begun, given, fault = False, None, None

    def proceed(changed: Any = None) -> Any:
        nonlocal begun, given, fault
        begun, given, fault = True, None, None
        within = what if changed is None else changed
        try:
            given = _enter(functions, index + 1, answer, within, innermost)
        except BaseException as error:
            fault = error
            raise
        return given

    try:
        returned = function(what, proceed)
        if returned is None:
            if fault is not None:
                raise fault
            if not begun:
                raise TypeError(f"{name} did not call proceed(): it must return an answer or raise")
            return given
        if answer is not None and not isinstance(returned, answer):
            raise TypeError(
                f"{name} returns None or a {answer.__name__}, not a {type(returned).__name__}"
            )
        call = current_call.get()
        if isinstance(fault, DeadlineReached) and call is not None:
            call.reached = False  # it has an answer nevertheless
        return returned
    finally:
        fault = None  # its traceback holds this frame
