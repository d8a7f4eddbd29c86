"""Monkey patching, in one place, and the mending of what was imported before it.

``gevent.monkey.patch_all`` replaces names in the standard library's modules. A module that was
imported earlier and said ``from time import sleep`` or ``from ssl import SSLContext`` keeps the
original: a sleep that stops every greenlet, and with urllib3 a RecursionError in every HTTPS call.
`patch` therefore also rebinds such names in the modules that are loaded already.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from typing import Any

from . import older_objects

__all__ = ["is_patched", "patch", "patching_wanted"]

#: Packages that need the originals: gevent itself, and the standard library, whose modules refer to
#: each other by module and whose C parts (``_socket.socket``) gevent's own classes build upon; and
#: gemstone_sync, which refers to modules too and whose few direct references are meant to be native
#: (``monkey.get_original``): rebound, an owner would take each greenlet for another thread.
_LEAVE_ALONE = sys.stdlib_module_names | {"gevent", "greenlet", "gemstone_sync"}


def patching_wanted() -> bool:
    """False when the environment says ``GEMSTONE_MONKEY_PATCH=0``."""
    return os.environ.get("GEMSTONE_MONKEY_PATCH", "1") != "0"


def is_patched() -> bool:
    """Tell whether blocking calls of the standard library switch greenlets in this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def patch() -> None:
    """Make the standard library cooperative, and mend what was imported earlier. Idempotent.

    Called on the first use of a service-side name (``MicroService``, ``exposed_method``, …), by
    ``gemstone run`` and by the gunicorn worker; never by ``RemoteService``. Does nothing when
    ``GEMSTONE_MONKEY_PATCH=0``.

    What the program's own modules made earlier and cannot be mended (locks, thread-locals,
    executors, queues, pools of connections) is named, a warning each.
    """
    if is_patched() or not patching_wanted():
        return
    from gevent import monkey

    older = list(older_objects.find(older_objects.native_kinds()))
    native_id = threading.get_ident()
    with warnings.catch_warnings(), _hostile_objects_hidden():
        # "Monkey-patching ssl after ssl has already been imported": exactly what is mended below.
        warnings.simplefilter("ignore", monkey.MonkeyPatchWarning)
        if "gunicorn.arbiter" in sys.modules:
            # With --preload this is gunicorn's master: it waits for SIGCHLD, which gevent would
            # take over, and would never hear that a worker has died.
            monkey.patch_all(os=False, signal=False)
        else:
            monkey.patch_all()
    if "gunicorn.arbiter" in sys.modules:
        # Each worker patches again, whole; gevent warns of the second time.
        warnings.filterwarnings("ignore", "Patching more than once", monkey.MonkeyPatchWarning)
    _keep_import_locks(native_id)
    _replace_lock_of_executors()
    replaced = _replacements(monkey.saved)
    for name, module in list(sys.modules.items()):
        # A subclass may import something when it is looked at.
        if type(module) is types.ModuleType and name.partition(".")[0] not in _LEAVE_ALONE:
            _rebind(module, replaced)
    for one in older:
        warnings.warn(
            f"{one.name} is older than gevent's patch of the process and keeps {one.kind}: a "
            "greenlet that waits for it stops every other one. Start with `gemstone run`, or have "
            "`import gemstone_sync.patch` as the first line.",
            RuntimeWarning,
            stacklevel=3,
        )


@contextlib.contextmanager
def _hostile_objects_hidden() -> Iterator[None]:
    """Have gevent see no objects but the locks that it looks for.

    It asks everything that the garbage collector knows for its ``__class__``, and a proxy or lazy
    object may answer with an exception, or with a request to some server.
    """
    every, wanted = gc.get_objects, (threading._RLock, importlib._bootstrap._ModuleLock)  # type: ignore[attr-defined]
    gc.get_objects = lambda *args: [one for one in every(*args) if type(one) in wanted]
    try:
        yield
    finally:
        gc.get_objects = every


def _keep_import_locks(native_id: int) -> None:
    """Tell the locks of the modules that are being imported what this thread is called now.

    gevent does so too, but not when other threads are running: then the import in which the process
    is patched would wait for itself.
    """
    for reference in list(importlib._bootstrap._module_locks.values()):  # type: ignore[attr-defined]
        lock = reference()
        if lock is not None and lock.owner == native_id:
            lock.owner = threading.get_ident()


def _replace_lock_of_executors() -> None:
    """Replace the lock that every `ThreadPoolExecutor` holds while it begins a thread.

    gevent does so too, but not when other threads are running: then two greenlets that submit work
    at once would stop the process.
    """
    executors = sys.modules.get("concurrent.futures.thread")
    if hasattr(executors, "_global_shutdown_lock"):
        executors._global_shutdown_lock = threading.Lock()  # type: ignore[union-attr]


def _replacements(saved: dict[str, dict[str, Any]]) -> dict[int, tuple[Any, Any]]:
    """Map the identity of every original to (the original, what stands in its place now)."""
    replaced = {}
    for module_name, originals in saved.items():
        module = sys.modules.get(module_name)
        for name, original in originals.items():
            current = getattr(module, name, original)
            # gevent empties some names (threading._CRLock becomes None): nothing to put there.
            if callable(original) and callable(current) and current is not original:
                replaced[id(original)] = (original, current)
    return replaced


def _rebind(module: types.ModuleType, replaced: dict[int, tuple[Any, Any]]) -> None:
    for name, value in list(vars(module).items()):
        pair = replaced.get(id(value))
        if pair is not None and pair[0] is value:
            setattr(module, name, pair[1])
