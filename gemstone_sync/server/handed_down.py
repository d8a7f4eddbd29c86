"""Connections that are open when workers are forked: all of them would use the same ones.

Answers would go to the wrong worker, or to none. What can be opened anew is closed before the fork;
the rest is named, once.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import stat
import sys
from collections.abc import Iterator

from gevent import monkey

__all__ = ["close_or_name"]

logger = logging.getLogger("gemstone_sync.server")

_named: set[str] = set()


def close_or_name() -> None:
    """Close what SQLAlchemy's engines have open and do not use, and warn of other connections.

    To be called in the parent, before each fork.
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
    """Not those whose connections hold the database itself, in memory."""
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
