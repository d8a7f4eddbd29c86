"""Ctrl-C and SIGTERM, for a program that does nothing but accept events."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

from gevent.hub import MAIN_THREAD_IDENT
from greenlet import getcurrent

from ..wakeups import thread_id

__all__ = ["ended_by_signals"]


@contextlib.contextmanager
def ended_by_signals(end: Callable[[], object]) -> Iterator[None]:
    """Have `end` called at the first signal; the next one does what it always did.

    Only in the program's own main flow, and of signals that it does not handle itself. A greenlet
    may be that of a service, which stops in its own way.
    """
    before: dict[signal.Signals, Any] = {}
    if thread_id() == MAIN_THREAD_IDENT and getcurrent().parent is None:
        defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        before = {n: default for n, default in defaults.items() if signal.getsignal(n) is default}

    def restore() -> None:
        for number, default in before.items():
            signal.signal(number, default)

    def handle(*signalled: Any) -> None:
        restore()
        end()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
