"""Questions to a box, which do not stop the greenlets while they wait for its database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gevent

from ...concurrency import is_patched
from ...concurrency.native import NativeThreads
from ...errors import StoreFault
from .box import Box

__all__ = ["LIMIT", "ask"]

T = TypeVar("T")

#: Seconds for one question to a database: SQLite says within ten that it is locked.
LIMIT = 20.0


def ask(
    threads: NativeThreads,
    box: Box,
    function: Callable[..., T],
    *args: Any,
    limit: float = LIMIT,
) -> T:
    """Call a function of a box without blocking the hub.

    :param limit: seconds.
    :raises StoreFault: also when it took longer.
    """
    try:
        if box.cooperative and is_patched():
            with gevent.Timeout(limit, TimeoutError(f"no answer within {limit:.2g} s")):
                return function(*args)
        return threads.call(function, *args, limit=limit)
    except TimeoutError as error:
        raise StoreFault(f"{box.name}: {error}") from error
