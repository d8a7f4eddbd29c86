"""Know what every way to run several processes needs: the stop signals, and what a fork shares."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator

from gevent import monkey

__all__ = ["StopRequests", "close_or_name", "stop_signals"]

logger = logging.getLogger("gemstone_sync.server")

#: Seconds in which several count as one. `timeout` signals its child, then the group that it is in;
#: a supervisor may stop a group whose members pass the signal on.
_AS_ONE = 0.15

_named: set[str] = set()


def stop_signals() -> list[signal.Signals]:
    """List SIGTERM, SIGINT, and SIGHUP unless it is ignored (nohup) or handled by the program."""
    terminal_closed = signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    return [signal.SIGTERM, signal.SIGINT, *[signal.SIGHUP] * terminal_closed]


class StopRequests:
    """Record the stop signals as they come."""

    def __init__(self) -> None:
        self._first: float | None = None

    def record(self, number: int) -> bool:
        """Record a signal; return whether it says again, which means: at once."""
        if number == signal.SIGHUP:
            return False  # the shell and the kernel both say that a terminal closes
        now = time.monotonic()
        if self._first is None:
            self._first = now
        return now - self._first > _AS_ONE


def close_or_name() -> None:
    """Close what SQLAlchemy's engines have open and do not use, and warn of other connections.

    To be called in the parent, before each fork: all workers would use the same connections, and
    answers would go to the wrong worker, or to none. Other connections are named once.
    """
    _dispose_engines()
    peers = sorted({*_peers()} - _named)
    if peers:
        _named.update(peers)
        logger.warning(
            "connections that were opened before the workers are shared by all of them, and "
            "answers get mixed up: to %s. Open them in on_service_start, or drop them there, as "
            "engine.dispose(close=False) does; redis-py and pymongo reconnect by themselves",
            ", ".join(peers),
        )


def _dispose_engines() -> None:
    """Close idle connections, but those that hold the database itself, in memory."""
    if "sqlalchemy.engine.base" not in sys.modules:
        return
    engine_class = sys.modules["sqlalchemy.engine.base"].Engine
    pool_class = sys.modules["sqlalchemy.pool.impl"].QueuePool
    for one in gc.get_objects():
        if type(one) is engine_class and type(getattr(one, "pool", 0)) is pool_class:
            one.dispose()


def _peers() -> Iterator[str]:
    """List where the connected stream sockets of this process lead to, but standard streams."""
    try:
        descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # not Linux
        return
    for descriptor in descriptors:
        try:
            if descriptor > 2 and stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                yield from _peer(descriptor)
        except OSError:  # closed meanwhile, or not connected
            continue


def _peer(descriptor: int) -> Iterator[str]:
    blocking = os.get_blocking(descriptor)
    with monkey.get_original("socket", "socket")(fileno=os.dup(descriptor)) as one:
        os.set_blocking(descriptor, blocking)  # as a default time-out would not leave it
        peer = one.getpeername()
        if one.type != socket.SOCK_STREAM or not peer:  # one of a pair has no name
            return
        if isinstance(peer, tuple):
            yield f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
        else:
            yield os.fsdecode(peer)
