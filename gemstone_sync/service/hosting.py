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
import socket
import sys
import types
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gevent

from ..broker_urls import without_passwords
from ..client.hosts import host_in_url, is_every_address
from ..errors import ServiceConfigurationError
from ..ops import show_logs
from ..server import ServerSettings, before_serving, cannot_boot, finish_calls, seconds_left
from .assembly import pick
from .behind import services_behind

if TYPE_CHECKING:
    from .microservice import MicroService

__all__ = [
    "configure",
    "failure",
    "has_our_server",
    "instance_of",
    "is_ending",
    "made_of",
    "prepare",
    "reachable_url",
    "seconds_to_end",
    "shared_address",
    "url_at",
]

_USE = "use gunicorn -k gemstone_sync.server.GunicornWorker"

#: Workers of gunicorn that answer one request after the other.
_ONE_AT_A_TIME = {"gunicorn.workers.sync": "sync", "gunicorn.workers.gtornado": "tornado"}

#: The services of this process, in the order in which they were made.
_made: list[weakref.ref[MicroService]] = []

#: Those that were made because a server was given their class.
_instances: dict[type[MicroService], MicroService] = {}

#: gunicorn's, and where it listens.
_worker: Any = None
_shared_address: str | None = None


def prepare(service: MicroService | None = None) -> None:
    """Have what hosts this process, if anything does, start its services.

    Called for each class of services, and for each service.

    :raises SystemExit: where no service can run, with one line.
    """
    _refuse_unfit_servers()
    if service is not None:
        _made.append(weakref.ref(service))
    before_serving(_check_kind, _boot)


def _refuse_unfit_servers() -> None:
    """Servers whose threads or processes run no event loop of gevent's: calls would hang there."""
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


def shared_address() -> str | None:
    """What the workers of gunicorn that serve the same have in common; None elsewhere."""
    return _shared_address


def has_our_server() -> bool:
    """Tell whether the worker of gunicorn that this process is has our server in it."""
    return hasattr(type(_worker), "settings")


def is_ending() -> bool:
    """Tell whether gunicorn has told this worker to stop: its services hear of it last of all."""
    return _worker is not None and not _worker.alive


def seconds_to_end() -> float:
    """Seconds until gunicorn kills this worker: for ever, as long as nothing says so."""
    return seconds_left(_worker)


def instance_of(cls: type[MicroService]) -> MicroService:
    """The service that is served where a server was given its class."""
    if cls not in _instances:
        _instances[cls] = cls()
    return _instances[cls]


def made_of(cls: type[MicroService]) -> list[MicroService]:
    """The services of a class that this process has, in the order in which they were made."""
    gc.collect()  # what nobody has any more is held by its own parts only
    made = [service for reference in _made if (service := reference()) is not None]
    return [service for service in made if type(service) is cls]


# In a worker of gunicorn


def configure(service: MicroService) -> None:
    """Configure a service under gunicorn and make its parts, unless it was done before.

    :raises SystemExit: that ends gunicorn, after one line.
    """
    try:
        service._configure_once([])
    except SystemExit:
        raise cannot_boot() from None
    try:
        service._assemble()
    except ServiceConfigurationError as error:
        raise cannot_boot(str(error)) from None


def _boot(worker: Any) -> None:
    """Start the services behind what a worker serves.

    :raises SystemExit: that ends gunicorn, after one line.
    """
    global _worker, _shared_address
    if not worker.alive:
        return
    show_logs()  # gunicorn sets up its own loggers only
    # Not what gunicorn was told: the number of a socket that was handed over is no address.
    addresses = [sock.getsockname() for sock in worker.sockets]
    _worker, _shared_address = worker, str(addresses)
    with _kept_alive(worker):
        worker.wsgi = _application(worker)
        made = [service for reference in _made if (service := reference()) is not None]
        paths = services_behind(worker.wsgi, made) or {id(service): "" for service in made}
        served = [service for service in made if id(service) in paths]
        for service in served:
            configure(service)
            with _failures_end_gunicorn(worker, service.name):
                service._runner.start_hosted()
    worker.settings = _settings(served)
    if _is_gevents(worker):
        finish_calls(worker)
    for service in served:
        tls = worker.cfg.is_ssl or bool(worker.settings.certfile)
        urls = [_url(address, paths[id(service)] + service.endpoint, tls) for address in addresses]
        service.logger.info("%s listens on %s", service.name, ", ".join(urls))
    for service in made:
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
        raise cannot_boot(failure(name, error)) from None


def failure(name: str, error: BaseException) -> str:
    """Say in one line what kept a service from starting, and where."""
    text = without_passwords(" ".join(str(error).split()))
    if isinstance(error, ServiceConfigurationError):
        return text
    where, trace = "", error.__traceback__
    package = __package__.partition(".")[0]
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] != package:
            where = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
            break
        trace = trace.tb_next
    return f"{name} could not start: {type(error).__name__}: {text}{where}"


def _application(worker: Any) -> Any:
    """What a worker was given: an application, a service's class, or what makes an application."""
    from .microservice import MicroService

    target = worker.wsgi
    if issubclass(type(target), type) and issubclass(target, MicroService):
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


def _settings(services: Sequence[MicroService]) -> ServerSettings:
    """The server's settings: those of the services, where they agree."""
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


def reachable_url(host: str, port: int, path: str, tls: bool, bound: str | None = None) -> str:
    """The URL by which others reach a host that is listened on.

    :param bound: the address that the host led to: of ``0``, ``*`` and ``::0`` every one.
    """
    if is_every_address(bound or host):
        host = socket.gethostname()
    return url_at(host, port, path, tls)


def url_at(host: str, port: int, path: str, tls: bool) -> str:
    """A URL at a host, a name or an address."""
    return f"{'https' if tls else 'http'}://{host_in_url(host)}:{port}{path}"
