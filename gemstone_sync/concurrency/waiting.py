"""Waiting that lets other greenlets run, for what would wait in C.

In a native thread that has no hub there is nobody else to run: it waits natively there, and no hub
is made for it. So it does in the hub's own greenlet, where a signal's handler may be called.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from gevent import getcurrent, monkey, sleep
from gevent._hub_local import get_hub_if_exists
from gevent.socket import wait_read, wait_write

__all__ = ["based_on", "can_switch", "pause", "wait_until_ready"]


def can_switch() -> bool:
    """Tell whether other greenlets can run while this one waits."""
    hub = get_hub_if_exists()
    return hub is not None and hub is not getcurrent()


def pause(seconds: float) -> None:
    """Wait for a time."""
    if can_switch():
        sleep(seconds)
    else:
        monkey.get_original("time", "sleep")(seconds)


def wait_until_ready(file: int, *, to_write: bool = False, limit: float | None = None) -> bool:
    """Wait until a file can be read or written.

    :param limit: seconds.
    :return: False when it took longer.
    """
    if not can_switch():
        poll = monkey.get_original("select", "poll")()
        poll.register(file, 4 if to_write else 1)  # POLLOUT, POLLIN
        return bool(poll.poll(None if limit is None else math.ceil(1000 * limit)))
    try:
        (wait_write if to_write else wait_read)(file, limit)
    except TimeoutError:
        return False
    return True


@functools.cache
def based_on(base: type, cls: Any) -> Any:
    """Make a class like `cls` that has `base` below it, where `cls` has what `base` replaces.

    What is no class, a function that makes objects, is left as it is.
    """
    if not isinstance(cls, type) or issubclass(cls, base):
        return cls
    if cls is base.__base__:
        return base
    return type(cls.__name__, (cls, base), {"__module__": cls.__module__, "__doc__": cls.__doc__})
