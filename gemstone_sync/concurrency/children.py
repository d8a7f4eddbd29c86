"""Forked children: what they leave to their parent; the end of those that multiprocessing starts.

A forked child has all that its parent had: the event loop with everything it watches, such as the
socket where callers arrive, the handlers of signals, the open files. Of a thread's child no other
thread is left, and of a greenlet's no other greenlet: it goes on with a loop of its own. What the
main greenlet forks by `os.fork` keeps its parent's, as gevent has it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import types
import weakref
from collections.abc import Iterable
from typing import Any, Protocol

import gevent
import gevent.os
from gevent import config, monkey
from gevent._hub_local import get_hub_if_exists, set_hub, set_loop
from gevent.hub import Hub

from . import programs

__all__ = [
    "Keeper",
    "end_children",
    "keep_from_children",
    "kill_children",
    "mend",
    "mend_multiprocessing",
]


class Keeper(Protocol):
    """Has files open that a child must not hold open: the other side waits for their end."""

    def descriptors(self) -> Iterable[int]:
        """List those that are open now."""
        ...


_keepers: weakref.WeakSet[Any] = weakref.WeakSet()

#: Kept for as long as the child lives: without it its greenlets would be told to end.
_parents_hub: Any = None


def keep_from_children(keeper: Keeper) -> None:
    """Have children that are forked from now on close what `keeper` has open."""
    _keepers.add(keeper)


def mend() -> None:
    """Have forked children leave their parent's things alone; called once.

    What libraries do in a forked child may wait, as whoever begins a thread does: so this comes
    before all that, however early it was registered.
    """
    os.register_at_fork(after_in_child=_begin)
    for hooks in gc.get_referrers(_begin):
        if type(hooks) is list and hooks[-1] is _begin:  # the interpreter's own list
            hooks.insert(0, hooks.pop())


def mend_multiprocessing(module: types.ModuleType) -> None:
    """Have ``multiprocessing.popen_fork`` say what it forks."""
    cls: Any = module.Popen
    launch = cls._launch

    def _launch(self: Any, process: Any) -> None:
        with programs.forking("process"):
            launch(self, process)

    cls._launch = _launch


def _begin() -> None:
    """Run in a forked child, before anything else of gevent's does."""
    global _parents_hub
    kind = programs.forked()
    if not kind and not isinstance(gevent.getcurrent(), gevent.Greenlet):
        return
    _parents_hub = get_hub_if_exists()
    if type(_parents_hub) is Hub:
        _parents_hub.__class__ = _ParentsHub
    set_hub(None)  # made anew when something waits, around this loop
    set_loop(config.loop(flags=config.libev_backend, default=False))
    programs.begin_without_default_loop()
    _close_what_the_parent_has_closed()
    if kind == "program":  # which leaves the rest behind
        return
    _restore_signals()
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for keeper in list(_keepers):
        for descriptor in keeper.descriptors():
            # Not closed: the number would be given to another file, which the parent's object
            # would close one day.
            with contextlib.suppress(OSError):
                os.dup2(nothing, descriptor, inheritable=False)
    _keepers.clear()


class _ParentsHub(Hub):  # type: ignore[misc]  # gevent has no types here
    """Nobody waits in it any more, such as for a lock that is older than the fork."""

    dead = True


def _close_what_the_parent_has_closed() -> None:
    """Close the files that gevent's loop would have closed next, had it gone on."""
    closing: dict[int, Any] = getattr(gevent.os, "_closing_fd_to_event", {})  # since gevent 25.8
    for descriptor in closing:
        with contextlib.suppress(OSError):
            monkey.get_original("os", "close")(descriptor)
    closing.clear()


def _restore_signals() -> None:
    """Take the signals back from the parent's loop, and from gunicorn."""
    handle = monkey.get_original("signal", "signal")
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        handler = signal.getsignal(number)
        if type(handler) is types.MethodType:
            owner = type(handler.__self__).__mro__
            if any(cls.__module__ == "gunicorn.workers.base" for cls in owner):
                handler = signal.SIG_DFL
        if handler is not None:
            handle(number, handler)


# The end


def kill_children() -> None:
    """Kill all of them at once."""
    for child in _children():
        with contextlib.suppress(Exception):
            child.kill()


def end_children(*, daemons: bool = False) -> None:
    """End those that the interpreter would wait for, however long their work takes.

    Those that do not go within two seconds are killed.

    :param daemons: end these too, as the interpreter does itself where it is allowed to end. The
        processes of a `multiprocessing.Pool` are daemons.
    """
    waited_for = [child for child in _children() if not child.daemon]
    for child in waited_for:
        child.terminate()
    with gevent.Timeout(2.0, False):
        for child in waited_for:
            child.join()
        if daemons and "multiprocessing.util" in sys.modules:
            sys.modules["multiprocessing.util"]._exit_function()
    for child in waited_for:
        child.kill()
    if daemons:
        kill_children()


def _children() -> list[Any]:
    process: Any = sys.modules.get("multiprocessing.process")
    return [] if process is None else process.active_children()
