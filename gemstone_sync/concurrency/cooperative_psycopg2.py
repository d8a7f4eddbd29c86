"""psycopg2 in a patched process: it waits for PostgreSQL through a callback.

With a callback psycopg2 refuses COPY and large objects, which it can only wait for in C. They are
done without one, as in any program; other greenlets wait meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import time
import types
from collections.abc import Iterator
from typing import Any

from gevent import monkey

from .waiting import mixed, wait_until_ready

__all__ = ["mend"]

_pg: Any = None
_copying = 0
_callback: Any = None


def mend(module: types.ModuleType) -> None:
    """Set the callback, unless the program has set one of its own."""
    global _pg
    _pg = module
    if _pg.extensions.get_wait_callback() is None:
        _pg.extensions.set_wait_callback(_wait)
        monkey.patch_item(_pg, "connect", _connecting(_pg.connect))


def _wait(connection: Any) -> None:
    extensions = _pg.extensions
    end = _end_of_connecting(connection)
    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            return
        limit = None if end is None else max(0.0, end - time.monotonic())
        to_write = state == extensions.POLL_WRITE
        if not wait_until_ready(connection.fileno(), to_write=to_write, limit=limit):
            raise _pg.OperationalError("connection to server failed: timeout expired")


def _end_of_connecting(connection: Any) -> float | None:
    """Tell until when it may connect: libpq leaves that to whoever waits."""
    extensions = _pg.extensions
    if connection.status != extensions.STATUS_SETUP or "connect_timeout" not in connection.dsn:
        return None
    seconds = int(extensions.parse_dsn(connection.dsn).get("connect_timeout", 0))
    return time.monotonic() + max(2, seconds) if seconds > 0 else None  # as libpq counts


# What does not go with a callback


def _connecting(connect: Any) -> Any:
    def cooperative(dsn: Any = None, *args: Any, **more: Any) -> Any:
        more.update(zip(("connection_factory", "cursor_factory"), args, strict=False))
        factory = more.get("connection_factory") or _pg.extensions.connection
        more["connection_factory"] = _with_copying(_Connection, factory)
        return connect(dsn, **more)

    return functools.update_wrapper(cooperative, connect)


def _with_copying(mixin: type, factory: Any) -> Any:
    return mixed(mixin, factory) if isinstance(factory, type) else factory


@contextlib.contextmanager
def _callback_off() -> Iterator[None]:
    """Take away the callback of all connections; what is copied may come from another greenlet."""
    global _copying, _callback
    extensions = _pg.extensions
    if not _copying:
        _callback = extensions.get_wait_callback()
        extensions.set_wait_callback(None)
    _copying += 1
    try:
        yield
    finally:
        _copying -= 1
        if not _copying:
            extensions.set_wait_callback(_callback)


class _Cursor:
    """Mixed into cursors."""


class _LargeObject:
    """Mixed into large objects."""


class _Connection:
    """Mixed into connections."""

    def cursor(self, *args: Any, **more: Any) -> Any:
        # What kind it is, is up to arguments, attributes, and subclasses of the program's.
        cursor = super().cursor(*args, **more)  # type: ignore[misc]
        given = args[1] if len(args) > 1 else more.get("cursor_factory")
        if isinstance(cursor, _Cursor) or not isinstance(given, type | None):
            return cursor
        cls: Any = type(cursor)
        factory = mixed(_Cursor, cls)
        if len(args) > 1:
            args = (args[0], factory, *args[2:])
        else:
            more["cursor_factory"] = factory
        return super().cursor(*args, **more)  # type: ignore[misc]

    def lobject(self, *args: Any, **more: Any) -> Any:
        if len(args) < 5:
            factory = more.get("lobject_factory") or _pg.extensions.lobject
            more["lobject_factory"] = _with_copying(_LargeObject, factory)
        with _callback_off():
            return super().lobject(*args, **more)  # type: ignore[misc]


def _blocks(mixin: type, name: str) -> None:
    def method(self: Any, *args: Any, **more: Any) -> Any:
        with _callback_off():
            return getattr(super(mixin, self), name)(*args, **more)

    setattr(mixin, name, method)


for _name in ("copy_from", "copy_to", "copy_expert"):
    _blocks(_Cursor, _name)
for _name in ("read", "write", "seek", "tell", "truncate", "export", "unlink", "close"):
    _blocks(_LargeObject, _name)
