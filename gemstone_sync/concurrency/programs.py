"""Programs and processes that are started in any thread, by any means, and how they ended.

gevent's default loop, the main thread's, takes the end of every child of the process from the
system, and tells of those that it was asked to watch: a native thread cannot ask, and what starts a
program past `subprocess`, as multiprocessing does to spawn, does not.
"""

from __future__ import annotations

import _posixsubprocess
import collections
import contextlib
import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import gevent.os
from gevent import monkey
from gevent._hub_local import get_hub_if_exists
from gevent.hub import Hub, get_hub

from .waiting import pause

__all__ = ["begin_without_default_loop", "forked", "forking", "mend"]

#: Seconds between two looks, which double: as `subprocess` does where it has a time-out.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.05

#: How often to look for the status of a child that the default loop has just taken.
_LOOKS = 50

#: How the last children ended that the default loop has taken without being asked.
_statuses: collections.OrderedDict[int, int] = collections.OrderedDict()
_MOST_STATUSES = 1000

#: Sees all children of the process.
_all_children: Any = None
_has_default_loop = True

#: gevent remembers one fork at a time; greenlets of one thread do not fork at the same time.
_one_forks = monkey.get_original("_thread", "RLock")()

#: ``forking`` says in a native thread what it forks.
_here = monkey.get_original("threading", "local")()

_fork_and_watch = gevent.os.fork_and_watch
_watch_in_default_loop = gevent.os._watch_child
_waitpid_in_default_loop = gevent.os.waitpid
_native_fork_exec = _posixsubprocess.fork_exec
_native_system = os.system
_native_close = monkey.get_original("os", "close")
_close_in_loop = getattr(gevent.os, "close", _native_close)  # since gevent 25.8


def mend() -> None:
    """Have programs started and waited for in every thread; called once, after the patch."""
    import gevent.subprocess  # not before: whoever only calls others has no use for it

    gevent.os._watch_child = _watch_child
    gevent.os.fork_and_watch = _fork
    gevent.subprocess.fork_and_watch = _fork_program
    gevent.os.waitpid = _waitpid
    gevent.os._watched_children = _Children(gevent.os._watched_children)
    monkey.patch_item(_posixsubprocess, "fork_exec", _fork_exec)
    monkey.patch_item(os, "system", _system)
    if monkey.is_module_patched("os"):  # not in gunicorn's master, but in what it forks
        monkey.patch_item(os, "waitpid", _waitpid)
        monkey.patch_item(os, "close", _close)


def begin_without_default_loop() -> None:
    """Run in a forked child, where the default loop is the parent's and does not run."""
    global _all_children, _has_default_loop
    _all_children, _has_default_loop = None, False
    gevent.os._watched_children.clear()


# Starting


def _fork(*args: Any, **more: Any) -> int:
    _keep_statuses()
    with _one_forks:
        return _fork_and_watch(*args, **more)  # type: ignore[no-any-return]


def _fork_program(*args: Any) -> int:
    with forking("program"):
        return _fork(*args)


@contextlib.contextmanager
def forking(kind: str) -> Iterator[None]:
    """Say what this thread forks meanwhile: a ``"process"`` of multiprocessing, a ``"program"``."""
    _here.forking = kind
    try:
        yield
    finally:
        _here.forking = ""


def forked() -> str:
    """Tell in a child what it was forked as, once; an empty text where nobody has said it."""
    kind, _here.forking = getattr(_here, "forking", ""), ""
    return kind


def _fork_exec(*args: Any) -> int:
    """Fork as the original, which `multiprocessing` and loky call past `subprocess`."""
    _keep_statuses()
    pid = _native_fork_exec(*args)
    if _all_children is not None or get_hub_if_exists() is not None:
        _watch_child(pid)
    return pid


def _keep_statuses() -> None:
    """See to it that no child's status is lost: from now on, and before there is a child."""
    global _all_children
    if _all_children is not None or not _has_default_loop:
        return
    hub = get_hub_if_exists()
    if hub is not None and hub.loop.default:
        _all_children = hub.loop.child(0, ref=False)
        _all_children.start(_keep, _all_children)
        return
    # In a native thread. Without a hub of the main thread nobody takes anything.
    hubs = [one for one in gc.get_objects() if type(one) is Hub]
    loops = [one.loop for one in hubs if one.loop is not None and one.loop.default]
    done = monkey.get_original("_thread", "allocate_lock")()
    done.acquire()

    def keep() -> None:
        _keep_statuses()
        done.release()

    if loops:
        loops[0].run_callback_threadsafe(keep)
        done.acquire(timeout=1.0)


def _keep(watcher: Any) -> None:
    if type(gevent.os._watched_children.get(watcher.rpid)) in (type(None), _Watcher):
        _statuses[watcher.rpid] = watcher.rstatus
        if len(_statuses) > _MOST_STATUSES:
            _statuses.popitem(last=False)


def _close(file: int) -> None:
    """Close as `os.close`: gevent leaves it to the loop, with one account for all threads.

    A number that another thread was given meanwhile would be taken for closed already, and what a
    thread's loop had left when the thread ended would stay open.
    """
    hub = get_hub_if_exists()
    close = _close_in_loop if hub is not None and hub.loop.default else _native_close
    close(file)


# Watching


def _watch_child(
    pid: int, callback: Callable[[Any], None] | None = None, loop: Any = None, ref: bool = False
) -> None:
    loop = loop or get_hub().loop
    if loop.default:
        _watch_in_default_loop(pid, callback, loop, ref)
        return
    watcher = _Watcher(pid, loop, ref)
    gevent.os._watched_children[pid] = watcher
    watcher.start(gevent.os._on_child, watcher, callback)


class _Children(dict[int, Any]):
    """Those that gevent watches; it looks at all of them while other threads start some."""

    def items(self) -> Any:
        return self.copy().items()


class _Watcher:
    """Poll for the end of a child, on a loop that has no child watchers."""

    def __init__(self, pid: int, loop: Any, ref: bool) -> None:
        self.pid = pid
        self.rpid = self.rstatus = 0
        self.loop = loop
        self._ref = ref
        self._timer: Any = None
        self._seconds = _FIRST_PAUSE
        self._looks = _LOOKS

    def start(self, callback: Callable[..., None], *args: Any) -> None:
        self._timer = self.loop.timer(self._seconds, ref=self._ref)
        self._timer.start(self._look, callback, args)
        self._seconds = min(2 * self._seconds, _LONGEST_PAUSE)

    def _look(self, callback: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.stop()
        try:
            self.rpid, self.rstatus = gevent.os._waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # the default loop was faster, and has told of it or is about to
            self._looks -= 1
            if self.pid in _statuses or not self._looks:
                self.rpid, self.rstatus = self.pid, _statuses.pop(self.pid, 0)
        if self.rpid:
            callback(*args)
        else:
            self.start(callback, *args)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    close = stop


# Waiting


def _waitpid(pid: int, options: int) -> tuple[int, int]:
    """Wait as `os.waitpid`; other greenlets run meanwhile."""
    hub = get_hub_if_exists()
    is_watched = pid in gevent.os._watched_children
    if (
        pid <= 0
        or options
        or (is_watched and hub is not None and hub.loop.default)
        or (not is_watched and hub is None)
    ):
        return _waitpid_in_default_loop(pid, options)  # type: ignore[no-any-return]
    seconds = _FIRST_PAUSE
    while True:
        ended, status = _waitpid_in_default_loop(pid, os.WNOHANG)
        if ended:
            return ended, status
        pause(seconds)
        seconds = min(2 * seconds, _LONGEST_PAUSE)


def _system(command: Any) -> int:
    """Run as `os.system`; other greenlets run meanwhile, and its status is not lost in C."""
    _keep_statuses()
    if _all_children is None and get_hub_if_exists() is None:
        return _native_system(command)
    code: int = subprocess.call(command, shell=True)
    return -code if code < 0 else code << 8
