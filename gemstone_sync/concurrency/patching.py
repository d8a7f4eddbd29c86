"""Monkey patching, in one place, and the mending of what was imported before it.

``gevent.monkey.patch_all`` replaces names in the standard library's modules. A module that was
imported earlier and said ``from time import sleep`` or ``from ssl import SSLContext`` keeps the
original: a sleep that stops every greenlet, and with urllib3 a RecursionError in every HTTPS call.
`patch` therefore also has such `references` rebound, and has `mending` replace the objects that
were made.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import greenlet

from . import libraries, mending, older_objects, references

__all__ = [
    "REMEDY",
    "hostile_objects_hidden",
    "is_patched",
    "may_block",
    "patch",
    "patching_wanted",
]

_is_mended = _may_block = False

#: What to do where the patch came too late.
REMEDY = "Start with `gemstone run`, or have `import gemstone_sync.patch` as the first line."


def patching_wanted() -> bool:
    """Tell whether to patch: not under ``GEMSTONE_MONKEY_PATCH=0``."""
    return os.environ.get("GEMSTONE_MONKEY_PATCH", "1") != "0"


def _is_forkserver() -> bool:
    """Tell whether multiprocessing forks its processes from this one, or this is one of them.

    It has imported the main module, waits for signals as only a plain process can, and serves
    nobody.
    """
    return any(word.startswith("from multiprocessing.forkserver ") for word in sys.orig_argv)


def is_patched() -> bool:
    """Tell whether blocking calls of the standard library switch greenlets in this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def is_patched_in_part() -> bool:
    """Tell whether somebody has patched sockets and left threads native, as grequests does."""
    monkey = sys.modules.get("gevent.monkey")
    return is_patched() and not monkey.is_object_patched("_thread", "allocate_lock")  # type: ignore[union-attr]


def may_block() -> bool:
    """Tell whether native locks or queues, or threads, are older than the patch."""
    return _may_block


def patch() -> None:
    """Make the standard library cooperative, and mend what was imported earlier. Idempotent.

    Called on the first use of a service-side name (``MicroService``, ``exposed_method``, …), by
    ``gemstone run`` and by the gunicorn worker; never by ``RemoteService``. Does nothing when
    ``GEMSTONE_MONKEY_PATCH=0``.

    Locks, thread-locals and queues that were made earlier are replaced, where nobody uses them.
    What the program's own modules keep of those that cannot be is named, a warning each.
    """
    global _is_mended, _may_block
    if not patching_wanted() or _is_forkserver():
        return
    # gunicorn's own gevent worker has patched, after what gunicorn and its configuration imported.
    by_gunicorn = is_patched() and "gunicorn.arbiter" in sys.modules
    in_part = is_patched_in_part()
    if _is_mended or (is_patched() and not by_gunicorn and not in_part):
        libraries.watch_imports()
        return
    from gevent import monkey

    _is_mended = True
    _run_fork_hooks_once()
    threads = [] if by_gunicorn else _names_of_other_threads()
    comes_first = not threads and older_objects.nothing_is_older()
    if not by_gunicorn:
        _patch_all(monkey)
    libraries.watch_imports()
    if comes_first:
        return
    _mend_threads(monkey)
    references.rebind(monkey.saved)
    mending.mend_contexts()
    _may_block = mending.replace_natives() or bool(threads)
    _warn(threads)


def _run_fork_hooks_once() -> None:
    """Have what gevent does in a forked child done once, though it is registered by each patch.

    A gunicorn worker patches what its master has patched in part, or a program patches by itself.
    """
    import gevent.threading

    hooks: Any = gevent.threading._fork_hooks
    begin = hooks.after_fork_in_child

    def begin_once() -> None:
        if threading.current_thread() is hooks._before_fork_current_thread:  # not once it is done
            begin()

    hooks.after_fork_in_child = begin_once


def _patch_all(monkey: Any) -> None:
    native_id = threading.get_ident()
    with warnings.catch_warnings(), hostile_objects_hidden():
        # "Monkey-patching ssl after ssl has already been imported": exactly what is mended below.
        warnings.simplefilter("ignore", monkey.MonkeyPatchWarning)
        if "gunicorn.arbiter" in sys.modules:
            # With --preload this is gunicorn's master: it waits for SIGCHLD, which gevent would
            # take over, and would never hear that a worker has died.
            monkey.patch_all(os=False, signal=False)
        else:
            monkey.patch_all()
    # gunicorn's workers patch again, and so may programs: gevent warns of the second time.
    warnings.filterwarnings("ignore", "Patching more than once", monkey.MonkeyPatchWarning)
    _keep_import_locks(native_id)
    _replace_lock_of_executors()


def _names_of_other_threads() -> list[str]:
    active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
    others = [one for ident, one in list(active.items()) if ident != threading.get_ident()]
    return [str((older_objects.attributes(thread) or {}).get("_name")) for thread in others]


def _warn(threads: list[str]) -> None:
    """Name what stays native: a warning for each variable, and one for the threads."""
    if threads:
        warnings.warn(
            "Threads are older than gevent's patch of the process and stay native: "
            f"{', '.join(threads)}. A thread that one of them begins may never run. {REMEDY}",
            RuntimeWarning,
            stacklevel=4,
        )
    for one in older_objects.find():
        warnings.warn(
            f"{one.name} is older than gevent's patch of the process and keeps {one.kind}. "
            f"{REMEDY}",
            RuntimeWarning,
            stacklevel=4,
        )


@contextlib.contextmanager
def hostile_objects_hidden() -> Iterator[None]:
    """Have gevent see no objects but the locks that it looks for.

    It asks everything that the garbage collector knows for its ``__class__``, and a proxy or lazy
    object may answer with an exception, or with a request to some server.
    """
    every = gc.get_objects
    # By identity: a metaclass may compare as it likes.
    wanted = {id(threading._RLock), id(importlib._bootstrap._ModuleLock)}  # type: ignore[attr-defined]
    gc.get_objects = lambda *args: [one for one in every(*args) if id(type(one)) in wanted]
    try:
        yield
    finally:
        gc.get_objects = every


def _keep_import_locks(native_id: int) -> None:
    """Tell the locks of the modules that are being imported what importlib calls this thread now.

    gevent does so too, but not when other threads are running: then the import in which the process
    is patched would wait for itself. And not what importlib calls it: below ddtrace-run that has
    another copy of ``_thread``, which is not patched.
    """
    bootstrap: Any = importlib._bootstrap
    for reference in list(bootstrap._module_locks.values()):
        lock = reference()
        if lock is not None and lock.owner in (native_id, threading.get_ident()):
            lock.owner = bootstrap._thread.get_ident()


def _replace_lock_of_executors() -> None:
    """Replace the lock that every `ThreadPoolExecutor` holds while it begins a thread.

    gevent does so too, but not when other threads are running: then two greenlets that submit work
    at once would stop the process.
    """
    executors = sys.modules.get("concurrent.futures.thread")
    if hasattr(executors, "_global_shutdown_lock"):
        executors._global_shutdown_lock = threading.Lock()  # type: ignore[union-attr]


def _mend_threads(monkey: Any) -> None:
    """Have classes that derived from `Thread` before the patch end as gevent's own does.

    Until Python 3.12 the interpreter tells of a thread's end, which is no greenlet's: ``join()``
    waited for ever. A thread that is older than the patch would miss itself under its new name.
    """
    import gevent

    native: Any = monkey.get_original("threading", "Thread")
    if hasattr(native, "_set_tstate_lock"):
        begun = native._set_tstate_lock

        def set_tstate_lock(thread: Any) -> None:
            begun(thread)
            current = greenlet.getcurrent()
            if isinstance(current, gevent.Greenlet):  # not so the one that a fork goes on in
                current.rawlink(lambda _: end(thread))

        def end(thread: Any) -> None:
            if thread._tstate_lock:
                thread._tstate_lock.release()
                thread._stop()

        native._set_tstate_lock = set_tstate_lock

    def delete(thread: Any) -> None:
        with threading._active_limbo_lock:  # type: ignore[attr-defined]
            threading._active.pop(thread._ident, None)  # type: ignore[attr-defined]

    native._delete = delete
