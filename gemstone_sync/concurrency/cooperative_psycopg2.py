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

import psycopg2
from gevent import monkey
from psycopg2 import extensions

from .waiting import based_on, wait_until_ready

__all__ = ["mend"]

_copying = 0
_callback: Any = None


def mend(module: types.ModuleType) -> None:
    """Set the callback, unless the program has set one of its own."""
    if extensions.get_wait_callback() is None:
        extensions.set_wait_callback(_wait)
        monkey.patch_item(module, "connect", _connecting(psycopg2.connect))


def _wait(connection: Any) -> None:
    end = _end_of_connecting(connection)
    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            return
        limit = None if end is None else max(0.0, end - time.monotonic())
        to_write = state == extensions.POLL_WRITE
        if not wait_until_ready(connection.fileno(), to_write=to_write, limit=limit):
            raise psycopg2.OperationalError("connection to server failed: timeout expired")


def _end_of_connecting(connection: Any) -> float | None:
    """Tell until when it may connect: libpq leaves that to whoever waits."""
    if connection.status != extensions.STATUS_SETUP or "connect_timeout" not in connection.dsn:
        return None
    seconds = int(extensions.parse_dsn(connection.dsn).get("connect_timeout", 0))
    return time.monotonic() + max(2, seconds) if seconds > 0 else None  # as libpq counts


# What does not go with a callback


def _connecting(connect: Any) -> Any:
    def cooperative(dsn: Any = None, *args: Any, **more: Any) -> Any:
        more.update(zip(("connection_factory", "cursor_factory"), args, strict=False))
        factory = more.get("connection_factory") or extensions.connection
        more["connection_factory"] = based_on(Connection, factory)
        return connect(dsn, **more)

    return functools.update_wrapper(cooperative, connect)


@contextlib.contextmanager
def _callback_off() -> Iterator[None]:
    """Take away the callback of all connections; what is copied may come from another greenlet."""
    global _copying, _callback
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


class Connection(extensions.connection):  # type: ignore[misc]
    """Stands below the program's own subclasses, and in the place of psycopg2's."""

    __module__ = "psycopg2.extensions"

    def cursor(self, *args: Any, **more: Any) -> Any:
        if len(args) > 1:
            args = (args[0], _cursor(args[1] or self.cursor_factory), *args[2:])
        else:
            more["cursor_factory"] = _cursor(more.get("cursor_factory") or self.cursor_factory)
        return super().cursor(*args, **more)

    def lobject(self, *args: Any, **more: Any) -> Any:
        if len(args) < 5:
            factory = more.get("lobject_factory") or extensions.lobject
            more["lobject_factory"] = based_on(LargeObject, factory)
        with _callback_off():
            return super().lobject(*args, **more)


def _cursor(factory: Any) -> Any:
    return based_on(Cursor, factory or extensions.cursor)


class Cursor(extensions.cursor):  # type: ignore[misc]
    """Stands below the program's own subclasses, and in the place of psycopg2's."""

    __module__ = "psycopg2.extensions"


class LargeObject(extensions.lobject):  # type: ignore[misc]
    """The same for large objects."""

    __module__ = "psycopg2.extensions"


def _blocks(cls: type, name: str) -> None:
    def method(self: Any, *args: Any, **more: Any) -> Any:
        with _callback_off():
            return getattr(super(cls, self), name)(*args, **more)

    setattr(cls, name, method)


for _name in ("copy_from", "copy_to", "copy_expert"):
    _blocks(Cursor, _name)
for _name in ("read", "write", "seek", "tell", "truncate", "export", "unlink", "close"):
    _blocks(LargeObject, _name)
