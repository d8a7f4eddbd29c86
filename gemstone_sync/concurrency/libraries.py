"""Let libraries wait cooperatively, where they offer a way, when they are imported.

gevent's patch reaches what waits in Python. What waits in C is told here to wait in the hub, by the
library's own means; what cannot be told is named in one warning. A library that nobody imports
costs nothing.

In a method of a service
------------------------

What waits in Python lets other calls run meanwhile. What waits in C is mended when it is
imported, if the library offers a way. Each row is tried with the library imported before and
after `gemstone_sync`, in a Python file, under `gemstone run`, our gunicorn worker and gunicorn's
gevent worker; `python -m tests.libraries.matrix` prints what becomes of it.

- psycopg2: waits cooperatively: the wait callback is set when it is imported, unless you have set
  one. COPY and large objects work, and stop other calls meanwhile, as does looking up a host's
  name. Not one connection for several calls at once: psycopg2 refuses that
- psycopg 3, PyMySQL: work, COPY too
- mysqlclient: queries wait cooperatively; connecting, committing and fetching stop other calls,
  which one warning says at the import. PyMySQL does not
- MySQL Connector/Python: works: it uses its part in Python unless you say `use_pure=False`
- SQLAlchemy with each of them, `scoped_session`, Django's ORM: work; a session or connection for
  each call
- sqlite3, SQLAlchemy and Django over it: work: `sqlite3.connect` opens connections whose wait for
  a lock (`timeout`, `PRAGMA busy_timeout`) lets other calls run. A query that computes for long
  does not
- redis, pymongo, elasticsearch: work; one client for all calls
- requests, urllib3, httpx, aiohttp, boto3: work; one client for all calls. `AsyncClient` and
  aiohttp inside `asyncio.run`
- grpc: works, clients and servers: it is initialised for gevent when it is imported
- celery as a client: works, `.get()` too
- sentry-sdk, OpenTelemetry's SDK, prometheus_client, structlog, logging: work; what one call sets
  stays in it
- numpy: computes, and nothing else runs meanwhile: long work belongs into `self.get_executor()`,
  which helps where the library gives up Python's lock
- subprocess, threads, `ThreadPoolExecutor`, locks, queues, `threading.local`, context variables:
  work, wherever they are made
- multiprocessing, `ProcessPoolExecutor`, `asyncio.run`: work
- fcntl: locks of files (`flock`, `lockf`) work

What blocks in C and offers no way is named in one warning when it is imported: cx_Oracle (use
oracledb in its thin mode), pyodbc, mariadb, confluent_kafka, pylibmc. What cannot be told by the
import: oracledb in its thick mode, pycurl, pyzmq (use `zmq.green`), pymssql without
`pymssql.set_wait_callback(gevent.socket.wait_read)`, `input()` and `sys.stdin` (until there is a
line, in a thread too), and whatever computes in C, such as torch.
Give such work to `self.get_executor().submit(work).result()`.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import threading
import types
import warnings
import weakref
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
    "fcntl": functools.partial(_mend_with, "cooperative_fcntl"),
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


#: How many finders have been asked for a name, by a thread or greenlet: one of them may have the
#: name found by all once more, to see to it itself.
_asked: dict[tuple[str, int], int] = {}


class _Finder:
    """Stands ahead of the other finders and has them find; mends what they load."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        mend = _MENDERS.get(name)
        if mend is None:
            return None
        key = (name, threading.get_ident())
        others = [finder for finder in sys.meta_path if finder is not _Finder]
        before = _asked.get(key, 0)
        try:
            for number, finder in enumerate(others[before:], before + 1):
                _asked[key] = number
                find = getattr(finder, "find_spec", None)
                spec: ModuleSpec | None = find and find(name, path, target)
                if spec is not None:
                    _mend_after(spec, mend)
                    return spec
        finally:
            _asked[key] = before
            if not before:
                del _asked[key]
        return None


#: Those mended since they were last executed.
_mended: weakref.WeakSet[types.ModuleType] = weakref.WeakSet()


class _MendingLoader:
    """Loads as another loader does, then mends. What is loaded knows of the other one only."""

    def __init__(self, loader: Any, mend: Callable[[types.ModuleType], None]) -> None:
        self._loader, self._mend = loader, mend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        module: types.ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        for holder, name in ((module, "__loader__"), (module.__spec__, "loader")):
            if getattr(holder, name, None) is self:
                setattr(holder, name, self._loader)
        _mended.discard(module)
        self._loader.exec_module(module)
        if module not in _mended:  # by a loader of ours within that one
            _mended.add(module)
            self._mend(module)


def _mend_after(spec: Any, mend: Callable[[types.ModuleType], None]) -> None:
    """Have a module mended once it is executed."""
    if hasattr(getattr(spec, "loader", None), "exec_module"):
        spec.loader = _MendingLoader(spec.loader, mend)


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
        elif type(module) is importlib.util._LazyModule:  # type: ignore[attr-defined]
            _mend_after(object.__getattribute__(module, "__spec__"), mend)
