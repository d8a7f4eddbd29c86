"""Being served by another server: by gunicorn's workers, or by any that speaks WSGI.

A gunicorn worker starts the services behind what it serves, before it serves; so they are up when
the first request comes, whatever wraps them. A service that is not found there, and each one under
any other server, is started by the first request that reaches it (`Runner.enter`).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import inspect
import os
import signal
import sys
import types
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, cast

import gevent

from ..errors import ServiceConfigurationError
from ..ops import show_logs
from ..server import ServerSettings, before_serving, cannot_boot, finish_calls
from . import foreign_server
from .assembly import pick
from .base import ServiceBase
from .explorer import tell_of_pages
from .runner import Runner, describe_failure, reachable_url
from .service_finder import find_services

__all__ = [
    "configure",
    "install_boot",
    "instance_of",
    "made_of",
    "register",
]

S = TypeVar("S", bound=ServiceBase)

_USE = "use gunicorn -k gemstone_sync.server.GunicornWorker"

#: Workers of gunicorn that answer one request after the other.
_ONE_AT_A_TIME = {"gunicorn.workers.sync": "sync", "gunicorn.workers.gtornado": "tornado"}

#: What runs the services of this process, in the order in which they were made.
_made: list[weakref.ref[Runner]] = []

#: Services that were made because a server was given their class.
_instances: dict[type[ServiceBase], ServiceBase] = {}


def install_boot() -> None:
    """Have gunicorn, if it runs this process, start the services before it serves.

    Called for each class of services: a server may be given no more.

    :raises SystemExit: where no service can run, with one line.
    """
    _refuse_unfit_servers()
    before_serving(_check_kind, _boot)


def register(runner: Runner) -> None:
    """Register a service of this process with the server that may start it."""
    _made.append(weakref.ref(runner))
    install_boot()


def _refuse_unfit_servers() -> None:
    """Refuse servers whose threads or processes run no event loop of gevent's: calls would hang."""
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is not None and getattr(uwsgi, "loop", b"gevent") != b"gevent":
        sys.stderr.write(
            "gemstone_sync services need uWSGI's gevent loop: start uWSGI with --gevent 1000, or "
            f"{_USE}\n"
        )
        if uwsgi.worker_id() and uwsgi.masterpid():  # which would start one after the other
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # it says the same to all
            os.kill(uwsgi.masterpid(), signal.SIGINT)
        raise SystemExit(1)
    for name in ("granian._granian", "mod_wsgi"):
        if name in sys.modules:
            server = name.partition(".")[0]
            raise SystemExit(f"gemstone_sync services cannot run under {server}: {_USE}")
    uvloop: Any = sys.modules.get("uvloop")
    if uvloop is not None and isinstance(asyncio._get_running_loop(), uvloop.Loop):
        raise SystemExit(
            "gemstone_sync services cannot run in uvloop, which stops every greenlet: choose "
            "asyncio's own loop, as uvicorn --loop asyncio does"
        )


def instance_of(cls: type[S]) -> S:
    """Return the service that is served where a server was given its class."""
    if cls not in _instances:
        _instances[cls] = cls()
    return cast(S, _instances[cls])


def made_of(cls: type[S]) -> list[S]:
    """List the services of a class that this process has, in the order in which they were made."""
    gc.collect()  # what nobody has any more is held by its own parts only
    return [each.service for each in _runners() if type(each.service) is cls]


def _runners() -> list[Runner]:
    return [runner for reference in _made if (runner := reference()) is not None]


# In a worker of gunicorn


def configure(runner: Runner) -> None:
    """Configure a service under gunicorn and make its parts, unless it was done before.

    :raises SystemExit: that ends gunicorn, after one line.
    """
    try:
        runner.configure([])
    except SystemExit:
        raise cannot_boot() from None
    show_logs(runner.service.log_format, runner.service.log_level)
    try:
        runner.parts()
    except ServiceConfigurationError as error:
        raise cannot_boot(str(error)) from None


def _boot(worker: Any) -> None:
    """Start the services behind what a worker serves.

    :raises SystemExit: that ends gunicorn, after one line.
    """
    if not worker.alive:
        return
    show_logs()  # gunicorn sets up its own loggers only
    # Not what gunicorn was told: the number of a socket that was handed over is no address.
    addresses = [sock.getsockname() for sock in worker.sockets]
    foreign_server.enter_worker(worker, addresses)
    with _kept_alive(worker):
        worker.wsgi = _application(worker)
        made = _runners()
        services = [runner.service for runner in made]
        paths = find_services(worker.wsgi, services) or {id(service): "" for service in services}
        served = [runner for runner in made if id(runner.service) in paths]
        for runner in served:
            configure(runner)
            with _failures_end_gunicorn(worker, runner.service.name):
                runner.start_hosted()
    worker.settings = _settings([runner.service for runner in served])
    worker.say_leaving = lambda: gevent.joinall([gevent.spawn(r.say_leaving) for r in served])
    if _is_gevents(worker):
        finish_calls(worker)
    for service in (runner.service for runner in served):
        tls = worker.cfg.is_ssl or bool(worker.settings.certfile)
        urls = [_url(address, paths[id(service)] + service.endpoint, tls) for address in addresses]
        service.logger.info("%s listens on %s", service.name, ", ".join(urls))
        tell_of_pages(service, *urls)
    for service in services:
        if id(service) not in paths:
            service.logger.info(
                "one more %s is not behind what gunicorn serves: its first request starts it",
                service.name,
            )


def _is_gevents(worker: Any) -> bool:
    return any(cls.__module__ == "gunicorn.workers.ggevent" for cls in type(worker).__mro__)


def _check_kind(worker: Any) -> None:
    if _is_gevents(worker):
        return
    modules = [cls.__module__ for cls in type(worker).__mro__]
    slow = [_ONE_AT_A_TIME[module] for module in modules if module in _ONE_AT_A_TIME]
    if not slow:
        kind = modules[0].rpartition(".")[2]
        hint = " (--threads chooses it)" if kind == "gthread" else ""
        raise cannot_boot(
            f"gemstone_sync services cannot run in gunicorn's {kind} worker{hint}: {_USE}"
        )
    worker.log.warning("The %s worker makes one call after the other: %s", slow[0], _USE)


@contextlib.contextmanager
def _kept_alive(worker: Any) -> Iterator[None]:
    """Tell gunicorn that a worker lives, however long its start hooks wait for something."""

    def notify() -> None:
        while True:
            worker.notify()
            gevent.sleep(1.0)

    notifier = gevent.spawn(notify)
    try:
        yield
    finally:
        notifier.kill()


@contextlib.contextmanager
def _failures_end_gunicorn(worker: Any, name: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if isinstance(error, SystemExit) and not worker.alive:
            raise  # told to stop meanwhile
        raise cannot_boot(describe_failure(name, error)) from None


def _application(worker: Any) -> Any:
    """Make an application of what a worker was given: one, a service's class, or a factory."""
    target = worker.wsgi
    if issubclass(type(target), type) and issubclass(target, ServiceBase):
        with _failures_end_gunicorn(worker, target.__qualname__):
            return instance_of(target)
    if type(target) is not types.FunctionType:
        return target
    signature, name = inspect.signature(target), target.__qualname__
    with contextlib.suppress(TypeError):
        signature.bind({}, None)
        return target
    with _failures_end_gunicorn(worker, name):
        made = target()
        if not callable(made):
            raise ServiceConfigurationError(f"{name}() gives {type(made).__name__}, no application")
    return made


def _settings(services: Sequence[ServiceBase]) -> ServerSettings:
    """Make the server's settings: those of the services, where they agree."""
    if not services:
        return ServerSettings()
    first: ServerSettings
    first, *others = [pick(ServerSettings, service) for service in services]
    names = {
        field.name
        for field in dataclasses.fields(first)
        if any(getattr(first, field.name) != getattr(other, field.name) for other in others)
    }
    if names:
        services[0].logger.warning(
            "%s are served together, with the server's defaults where they differ: %s",
            ", ".join(service.name for service in services),
            ", ".join(sorted(names)),
        )
    default = ServerSettings()
    return dataclasses.replace(first, **{name: getattr(default, name) for name in names})


def _url(address: Any, path: str, tls: bool) -> str:
    if not isinstance(address, tuple):
        return f"unix:{os.fsdecode(address)}:{path}"
    return reachable_url(address[0], address[1], path, tls)
