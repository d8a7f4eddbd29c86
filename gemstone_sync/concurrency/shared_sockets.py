"""Sockets that are used in one thread after another, as those in the pools of clients are.

gevent binds a socket to the loop of the thread that made it, and refuses to wait for it in any
other. Here it belongs to whoever uses it. Only native threads need that, so it is put in place when
the first one begins.
"""

from __future__ import annotations

from typing import Any

from gevent._hub_primitives import wait_on_watcher
from gevent._socketcommon import SocketMixin
from gevent.hub import get_hub

__all__ = ["share"]

_READ, _WRITE = 1, 2

_close, _wait = SocketMixin._drop_events_and_close, SocketMixin._wait


def share() -> None:
    """Let every socket be used in any thread."""
    SocketMixin._drop_events_and_close = _close_here
    SocketMixin._wait = _wait_here


def _take_over(sock: Any, hub: Any) -> None:
    """Have a socket belong to this thread's loop, unless another thread waits for it just now."""
    reading, writing = sock._read_event, sock._write_event
    if reading is None or reading.callback is not None or writing.callback is not None:
        return
    descriptor = sock.fileno()
    sock._read_event = hub.loop.io(descriptor, _READ)
    sock._write_event = hub.loop.io(descriptor, _WRITE)
    sock.hub = hub


def _wait_here(sock: Any, watcher: Any, timeout_exc: Any = None) -> None:
    hub = get_hub()
    if watcher is not None and sock.hub is not hub:
        _take_over(sock, hub)
        if sock.hub is not hub:
            _wait_beside(sock, _WRITE if watcher.events & _WRITE else _READ, timeout_exc, hub)
            return
        # There is more in `events` until a watcher has been started once.
        watcher = sock._write_event if watcher.events & _WRITE else sock._read_event
    _wait(sock, watcher, timeout_exc)


def _wait_beside(sock: Any, events: int, timeout_exc: Any, hub: Any) -> None:
    options = {} if timeout_exc is None else {"timeout_exc": timeout_exc}
    with hub.loop.io(sock.fileno(), events) as watcher:
        wait_on_watcher(watcher, sock.timeout, hub=hub, **options)


def _close_here(sock: Any, *args: Any, **options: Any) -> None:
    hub = get_hub()
    if sock.hub is not hub:
        _take_over(sock, hub)
    _close(sock, *args, **options)
