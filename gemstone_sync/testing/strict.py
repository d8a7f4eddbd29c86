"""Have a test fail when a method raises or returns what its contract does not say."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..callables import class_of
from ..contract.builder import ALWAYS, data_hint
from ..contract.hints import CannotEvaluate, Fault, UncheckedHint, evaluate
from ..contract.model import NOTHING
from ..contract.results import result_check_for
from ..contract.signatures import result_hint
from ..dispatch import CallContext, Dispatcher, Method
from ..errors import UNSET, RemoteError, RpcError
from ..protocol import JsonRpcRequest, JsonRpcResponse

__all__ = ["StrictErrors", "strict_errors"]

#: Breaches that are told.
_MOST = 20


class StrictErrors:
    """Keeps what methods did against their contracts since `strict_errors` began.

    :ivar breaches: one line each.
    """

    def __init__(self) -> None:
        self.breaches: list[str] = []

    def check(self) -> None:
        """Fail when there was anything, and forget it.

        :raises AssertionError: naming each breach.
        """
        found, self.breaches = self.breaches, []
        if found:
            more = [f"and {len(found) - _MOST} more"] if len(found) > _MOST else []
            raise AssertionError("\n".join([*found[:_MOST], *more]))

    def watch(self, method: Method) -> Method:
        """Make the same method, watched."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                result = method.run(*args, **kwargs)
            except RpcError as error:
                self._look_at_error(method, error)
                raise
            if not method.needs_handler or args[0].written is None:
                self._look_at_result(method, result)
            return result

        functools.update_wrapper(watched, method.function)
        return replace(method, run=watched)

    def _look_at_error(self, method: Method, error: RpcError) -> None:
        declared = method.told.errors if method.told is not None else ()
        if isinstance(error, RemoteError) and not isinstance(error, (*declared, *ALWAYS)):
            return  # to the caller it is an internal error, unless the method passes it on
        name = type(error).__name__
        if not isinstance(error, (*declared, *method.pass_errors, *ALWAYS)):
            self.breaches.append(
                f"{method.name} raised {name} ({error.code}), which it does not declare: "
                f"exposed_method(errors=[{name}])"
            )
            return
        owner, hint = data_hint(type(error))
        if owner is None or error.data is UNSET:
            return
        if (why := _why_not(hint, owner, None, error.data)) is not None:
            self.breaches.append(f"{method.name} raised {name} with other data: {why}")

    def _look_at_result(self, method: Method, result: Any) -> None:
        if method.told is None:
            return
        hint = result_hint(method.function, method.told.result)
        if hint is NOTHING:
            why = None if result is None else f"a {type(result).__name__}, and declares NOTHING"
        else:
            why = _why_not(hint, method.function, class_of(method.function), result)
        if why is not None:
            self.breaches.append(f"{method.name} returned what its hint forbids: {why}")


def _why_not(hint: Any, owner: Any, cls: type | None, value: Any) -> str | None:
    try:
        check = result_check_for(evaluate(hint, owner, cls))
        if check is not None:
            check(value)
    except (CannotEvaluate, UncheckedHint):  # of which there was a warning
        return None
    except Fault as fault:
        return str(fault)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


@contextlib.contextmanager
def strict_errors() -> Iterator[StrictErrors]:
    """Fail when a method of any service in this process breaks its contract meanwhile.

    It does when it raises an `RpcError` that ``exposed_method(errors=[…])`` does not name, or one
    whose data are not of the type that its class says, or when it returns what its hint forbids.
    What any call may be answered with, as `InvalidParams`, needs no declaration.

    ::

        with strict_errors():
            client.call("buy", ["a book"])

    The pytest fixture of the same name does it for a whole test.

    :raises AssertionError: at the end, naming each breach.
    """
    strict = StrictErrors()
    call = Dispatcher._call

    def watched(
        dispatcher: Dispatcher, method: Method, request: JsonRpcRequest, context: CallContext
    ) -> JsonRpcResponse:
        return call(dispatcher, strict.watch(method), request, context)

    Dispatcher._call = watched  # type: ignore[method-assign, assignment]
    try:
        yield strict
    finally:
        Dispatcher._call = call  # type: ignore[method-assign]
    strict.check()
