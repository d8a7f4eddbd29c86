"""Answers for operators of a running service: the user's health checks, and ``rpc.stacks``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from ..callables import name_of
from ..concurrency import stacks
from ..contract import ParameterBinder
from ..dispatch import CallContext, Method
from ..errors import AccessDenied, ServiceConfigurationError
from ..ops import HealthCheck
from ..server import is_from_this_machine
from .contracts import calling_context
from .decorators import Marks

__all__ = ["checks_of", "stacks_method"]


def checks_of(marked: Iterable[tuple[Callable[..., Any], Marks]]) -> list[HealthCheck]:
    """Make the health checks of the methods that are marked as such.

    :raises ServiceConfigurationError: when one takes arguments, or two have one name.
    """
    checks: dict[str, HealthCheck] = {}
    for method, marks in marked:
        if (options := marks.check) is None:
            continue
        try:
            inspect.signature(method).bind()
        except ValueError:  # made in C
            pass
        except TypeError:
            raise ServiceConfigurationError(
                f"{name_of(method)} is a health check: it takes nothing besides self"
            ) from None
        if options.name in checks:
            raise ServiceConfigurationError(f"two health checks have the name {options.name!r}")
        checks[options.name] = HealthCheck(
            options.name, method, timeout=options.timeout, every=options.every
        )
    return [*checks.values()]


def stacks_method(lets_in: Callable[[CallContext], bool]) -> Method:
    """Make ``rpc.stacks``, which answers also when every place is taken.

    :param lets_in: tells whether the service's authentication accepts a request.
    """

    def rpc_stacks() -> str:
        """Return what all greenlets of the process that answers do or wait for, as a text.

        For this machine, and for those whom `authenticate_request` lets in.
        """
        context = calling_context()
        if context is None or _is_from_here(context) or lets_in(context):
            return stacks()
        raise AccessDenied()

    binder = ParameterBinder(rpc_stacks)
    return Method("rpc.stacks", rpc_stacks, binder, idempotent=True, takes_place=False)


def _is_from_here(context: CallContext) -> bool:
    environ = context.transport
    return environ is None or (isinstance(environ, dict) and is_from_this_machine(environ))
