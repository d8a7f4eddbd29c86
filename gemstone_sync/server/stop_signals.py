"""The signals that stop a process, and which of them is a second one."""

from __future__ import annotations

import signal
import time

__all__ = ["StopRequests", "stop_signals"]

#: Seconds in which several count as one. `timeout` signals its child, then the group that it is in;
#: a supervisor may stop a group whose members pass the signal on.
_AS_ONE = 0.15


def stop_signals() -> list[signal.Signals]:
    """SIGTERM, SIGINT, and SIGHUP unless it is ignored (nohup) or handled by the program."""
    terminal_closed = signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    return [signal.SIGTERM, signal.SIGINT, *[signal.SIGHUP] * terminal_closed]


class StopRequests:
    """Takes note of the signals as they come."""

    def __init__(self) -> None:
        self._first: float | None = None

    def is_second(self, number: int) -> bool:
        """Take note of one; True when somebody says it again, which means: at once."""
        if number == signal.SIGHUP:
            return False  # the shell and the kernel both say that a terminal closes
        now = time.monotonic()
        if self._first is None:
            self._first = now
        return now - self._first > _AS_ONE
