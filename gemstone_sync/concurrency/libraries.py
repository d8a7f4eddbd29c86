"""What libraries need beyond the patch of the standard library, done when they are imported.

gevent's patch reaches what waits in Python. What waits in C is told here to wait in the hub, by the
library's own means; what cannot be told is named in one warning. A library that nobody imports
costs nothing.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

from gevent import events

from . import across_threads, children, native_threads, programs, signal_handlers

__all__ = ["watch_imports"]


def _mend_with(name: str, module: types.ModuleType) -> None:
    # Only here: whoever imports no such library need not load it.
    importlib.import_module(f".{name}", __package__).mend(module)


def _mend_grpc(module: types.ModuleType) -> None:
    """Have grpc drive its calls from the hub; it asks for that before any channel is made."""
    importlib.import_module("grpc.experimental.gevent").init_gevent()


def _mend_mysql_connector(module: types.ModuleType) -> None:
    """Have it use its part in Python, which waits in the hub, unless asked for the one in C."""
    from gevent import monkey

    native: Any = vars(module)["connect"]

    @functools.wraps(native)
    def connect(*args: Any, **more: Any) -> Any:
        return native(*args, **{"use_pure": True, **more})

    monkey.patch_item(module, "connect", connect)


def _warn(blocks: str, instead: str, module: types.ModuleType) -> None:
    warnings.warn(
        f"{module.__name__} {blocks} in C, where every other call of this process waits too: "
        f"{instead}, or give it to native threads, self.get_executor().submit(work).result().",
        RuntimeWarning,
        stacklevel=3,
    )


#: What is done once a module is imported.
_MENDERS: dict[str, Callable[[types.ModuleType], None]] = {
    "sqlite3": functools.partial(_mend_with, "cooperative_sqlite3"),
    "psycopg2": functools.partial(_mend_with, "cooperative_psycopg2"),
    "MySQLdb": functools.partial(_mend_with, "cooperative_mysqldb"),
    "mysql.connector": _mend_mysql_connector,
    "grpc": _mend_grpc,
    "asyncio.events": functools.partial(_mend_with, "cooperative_asyncio"),
    "asyncio.unix_events": functools.partial(_mend_with, "cooperative_asyncio"),
    "uvloop": functools.partial(_mend_with, "cooperative_asyncio"),
    "uvicorn.loops.auto": functools.partial(_mend_with, "cooperative_asyncio"),
    "trio": functools.partial(_mend_with, "cooperative_asyncio"),
    "_multiprocessing": functools.partial(_mend_with, "cooperative_multiprocessing"),
    "multiprocessing.connection": functools.partial(_mend_with, "cooperative_multiprocessing"),
    "multiprocessing.forkserver": functools.partial(_mend_with, "cooperative_multiprocessing"),
    "multiprocessing.popen_fork": children.mend_multiprocessing,
    "cx_Oracle": functools.partial(
        _warn, "waits for the database", "use oracledb, which does not in its thin mode"
    ),
    "pyodbc": functools.partial(
        _warn, "waits for the database", "use a driver in Python, such as python-tds"
    ),
    "mariadb": functools.partial(_warn, "waits for the database", "use PyMySQL"),
    "confluent_kafka": functools.partial(_warn, "waits for the broker", "use kafka-python"),
    "pylibmc": functools.partial(_warn, "waits for memcached", "use pymemcache"),
}


class _Finder:
    """Stands ahead of the other finders and has them find; mends what they load."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        mend = _MENDERS.get(name)
        if mend is None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is _Finder or find is None:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                _mend_after(spec.loader, name, mend)
                return spec
        return None


def _mend_after(loader: Any, name: str, mend: Callable[[types.ModuleType], None]) -> None:
    """Have the loader of a module mend it once it has executed it."""
    execute = loader.exec_module

    def exec_module(module: types.ModuleType) -> None:
        execute(module)
        if module.__name__ == name:  # a loader may be there for others too
            mend(module)

    loader.exec_module = exec_module


def _mend_what_patches_undo(event: object = None) -> None:
    """Mend after gevent's patch, and after each one more: gunicorn's workers patch twice."""
    if event is None:
        events.subscribers.append(_mend_what_patches_undo)
    elif not isinstance(event, events.GeventDidPatchBuiltinModulesEvent):
        return
    across_threads.mend()
    signal_handlers.mend()


def watch_imports() -> None:
    """Mend the libraries that are imported already, and others when they are. Idempotent."""
    if _Finder in sys.meta_path:
        return
    sys.meta_path.insert(0, _Finder)
    _mend_what_patches_undo()
    native_threads.leave_cleanly()
    programs.mend()
    children.mend()
    for name, mend in _MENDERS.items():
        module = sys.modules.get(name)
        # One that is being imported comes to its end without this.
        if type(module) is types.ModuleType and not getattr(module.__spec__, "_initializing", 0):
            mend(module)
